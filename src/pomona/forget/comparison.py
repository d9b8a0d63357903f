"""Two systems on the same items, item by item: what was lost, what was gained, and how sure the
difference is, overall and for each group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona import stats
from pomona.forget.change import Change, Comparison, note_of, unseen_rate
from pomona.forget.page import check_page, write_page
from pomona.forget.predictions import Predictions, paths_of, read_predictions
from pomona.places import check_outputs
from pomona.records import Where
from pomona.tasks import ExactMatch, Metric, metric as metric_named

_SHARE = stats.Share()


def compare(
    a: Where,
    b: Where,
    *,
    group: str | None = None,
    cluster: str | None = None,
    metric: str | Mapping[str, Any] = "exact_match",
    resamples: int = 2000,
    seed: int = 0,
    page: Path | None = None,
) -> Comparison:
    """Compare the answers of two systems to the same items: what B lost and gained against A,
    overall and by group.

    Each side is a table with the columns id, prediction and reference, and any order of rows. Right
    is what equals the reference, or one of several; `metric` is measured beside that, with its
    paired interval, or says what is right where it is an `exact_match` with options.

    Args:
        a: Answers before the change: a file, a glob or a folder; on the command line also
            RUN#SYSTEM, a system of a finished run.
        b: Answers after it, to the same items.
        group: Column of groups; "group" if left out, where there is one.
        cluster: Column of what items share, such as their source: these are resampled together.
            "cluster" if left out, where there is one.
        metric: Metric beside accuracy, such as chrf.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.
        page: Folder to write a page into: every group, and the items that changed, side by side.

    Raises:
        PomonaError: a side cannot be read, the two are not of the same items, or the page would
            replace what is none of ours.
    """
    if page is not None:
        inputs = [path for side in (a, b) for path in paths_of(side)]
        check_outputs({"--page": page}, inputs, folders=["--page"])
        check_page(page)
    first = read_predictions(a, "A", group=group, cluster=cluster)
    second = read_predictions(b, "B", group=group, cluster=cluster).ordered_like(first)
    pair = _Pair(first, second, metric, resamples, seed)
    rows = stats.rows_of(second.labels["group"]) if "group" in second.labels else {}
    changes = [pair.change(members) for members in rows.values()]
    p_values = [change.p_mcnemar for change in changes]
    corrected = zip(changes, stats.holm(p_values), stats.benjamini_hochberg(p_values), strict=True)
    changes = [replace(one, p_holm=float(holm), p_bh=float(bh)) for one, holm, bh in corrected]
    result = Comparison(
        first.name,
        second.name,
        pair.change(np.arange(len(first))),
        dict(zip(rows, changes, strict=True)),
        pair.measure.name,
        pair.measure.higher_is_better,
        pair.signature(group, cluster),
        seed,
        resamples,
        pair.notes(),
        pair.items(),
    )
    if page is not None:
        write_page(result, page)
    return result


class _Pair:
    """Both sides in the same order, and what a metric says of each item."""

    def __init__(
        self, a: Predictions, b: Predictions, metric: str | Mapping[str, Any], n: int, seed: int
    ) -> None:
        self.a, self.b, self.resamples, self.seed = a, b, n, seed
        numbers = {1 if isinstance(one, str) else len(one) for one in a.references}
        several = numbers.pop() if len(numbers) == 1 else None
        self.measure: Metric = metric_named(metric, references=several, reads="text")
        judges = isinstance(self.measure, ExactMatch)
        judge = self.measure if judges else metric_named("exact_match", references=several)
        self.judge = judge
        outputs = (a.predictions, b.predictions)
        self.right = [judge.statistics(texts, a.references) for texts in outputs]
        self.scores = (
            [] if judges else [self.measure.statistics(texts, a.references) for texts in outputs]
        )
        clusters = b.labels.get("cluster")
        self.clusters = None if clusters is None else np.asarray(clusters, dtype=object)

    def change(self, rows: NDArray[np.intp]) -> Change:
        """What became of the items at `rows`, p-values not corrected."""
        before, after = (side[rows, 0] > 0 for side in self.right)
        lost, gained = int(np.sum(before & ~after)), int(np.sum(after & ~before))
        p_value = stats.mcnemar(lost, gained)
        within = None if self.clusters is None else self.clusters[rows]
        draws = stats.Resamples(len(rows), self.resamples, self.seed, within)
        a, b = (side[rows] for side in self.right)
        told = stats.compare(_SHARE, b, a, draws)
        flips = np.column_stack([before != after, np.ones(len(rows))])
        known, unit = draws.units > 1, "cluster" if draws.clustered else "item"
        low, high = stats.interval(_SHARE, flips, draws) if known else (None, None)
        return Change(
            n=len(rows),
            accuracy_a=told.baseline_value,
            accuracy_b=told.value,
            difference=told.delta,
            ci_low=told.ci_low if known else None,
            ci_high=told.ci_high if known else None,
            lost=lost,
            gained=gained,
            changed=sum(self.a.predictions[i] != self.b.predictions[i] for i in rows),
            flips=(lost + gained) / len(rows),
            flips_low=low,
            flips_high=high,
            p_mcnemar=p_value,
            p_bootstrap=told.p_value if known else None,
            p_holm=p_value,
            p_bh=p_value,
            unseen=unseen_rate(draws.units) if known and lost + gained == 0 else None,
            note=note_of(draws.units, lost + gained, unit, "item"),
            **self._measured(rows, draws),
        )

    def _measured(self, rows: NDArray[np.intp], draws: stats.Resamples) -> dict[str, Any]:
        """The further metric on both sides, where there is one."""
        if not self.scores:
            return {}
        a, b = (side[rows] for side in self.scores)
        told, known = stats.compare(self.measure, b, a, draws), draws.units > 1
        return {
            "metric_a": told.baseline_value,
            "metric_b": told.value,
            "metric_difference": told.delta,
            "metric_low": told.ci_low if known else None,
            "metric_high": told.ci_high if known else None,
        }

    def signature(self, group: str | None, cluster: str | None) -> str:
        """All that the numbers depend on."""
        labels = self.b.labels
        further = [self.measure.signature] if self.scores else []
        parts = [
            "compare",
            f"a:{self.a.digest}",
            f"b:{self.b.digest}",
            f"group:{group or ('group' if 'group' in labels else 'no')}",
            f"cluster:{cluster or ('cluster' if 'cluster' in labels else 'no')}",
            f"resamples:{self.resamples}",
            f"seed:{self.seed}",
            "interval:95",
            "mcnemar:exact",
            f"right:{self.judge.signature}",
            *(f"metric:{one}" for one in further),
            f"pomona:{version('pomona')}",
        ]
        return "|".join(parts)

    def notes(self) -> list[str]:
        """What a reader should know before believing the numbers."""
        if self.clusters is None:
            return []
        number = len(set(self.clusters))
        return [
            f"Intervals and p_bootstrap resample {number:,} clusters of the {len(self.a):,} items; "
            "p_mcnemar, and what is corrected of it, takes items as independent."
        ]

    def items(self) -> pa.Table:
        """A row for each item, with what became of it."""
        before, after = (side[:, 0] > 0 for side in self.right)
        other = np.asarray(self.a.predictions, object) != np.asarray(self.b.predictions, object)
        change = np.select(
            [before & ~after, after & ~before, other], ["lost", "gained", "other"], "same"
        )
        references = [one if isinstance(one, str) else one[0] for one in self.a.references]
        columns = {"id": self.a.ids, "group": self.b.labels.get("group")}
        columns |= {"input": self.a.inputs or self.b.inputs, "reference": references}
        columns |= {"a": self.a.predictions, "b": self.b.predictions, "change": change.tolist()}
        return pa.table(
            {
                name: pa.nulls(len(self.a), pa.string()) if column is None else column
                for name, column in columns.items()
            }
        )

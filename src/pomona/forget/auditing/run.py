"""`audit`: populations of compressed models against one of dense models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.forget.auditing.calibration import calibration
from pomona.forget.auditing.damage import damage
from pomona.forget.auditing.exemplars import Excess, Labels, Pool, Scores, modal
from pomona.forget.auditing.page import check_page, write_page
from pomona.forget.auditing.populations import (
    Codes,
    Floats,
    Population,
    Populations,
    read_populations,
)
from pomona.forget.auditing.results import ALPHA, Audit, LevelAudit, Overlap, Power
from pomona.forget.auditing.slices import Found, Slice, Slicer, corrected, normalised_welch
from pomona.forget.predictions import paths_of
from pomona.places import check_outputs
from pomona.records import Where

Progress = Callable[[int, int], None]
_THIRDS = ("low", "middle", "high")
_DRAWS_FOR_POWER = 200


def audit(
    inputs: Where,
    *,
    dense: str = "dense",
    seeds: int | None = None,
    group: str | None = None,
    cluster: str | None = None,
    part: str | None = None,
    resource: str | None = None,
    script: str | None = None,
    fertility: str | None = None,
    positive: str | None = None,
    permutations: int = 500,
    resamples: int = 1000,
    seed: int = 0,
    page: Path | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Compare populations of compressed models with one of dense models: what changed above the
    floor of dense models among themselves, for which groups, and whether the tail pays for it.

    A row is the answer of one model to one item: columns id, level, seed, prediction and reference,
    or a score; further ones are used where they have the names below. Models of two levels with the
    same seed are paired: one was made of the other.

    Args:
        inputs: Answers of all models: files, globs or a folder.
        dense: Level of the uncompressed models.
        seeds: Models of each level to use, where levels have unequal numbers.
        group: Column of groups; "group", or else the reference: classes.
        cluster: Column of what items share, such as their source; "cluster" where there is one.
        part: Column of parts to show apart, such as out-of-domain; "part" where there is one.
        resource: Column of a group's training rows; "resource" where there is one.
        script: Column of a group's script; "script" where there is one.
        fertility: Column of a group's tokens a word; "fertility" where there is one.
        positive: Label of which false positives and negatives are counted.
        permutations: Shuffles of the labels dense and compressed behind each p-value.
        resamples: Resamples behind each interval.
        seed: Seed of shuffles and resamples.
        page: Folder to write a page into: every level and group, with pictures.

    Raises:
        PomonaError: a table cannot be read, models did not answer the same items, or the page would
            replace what is none of ours.
    """
    if page is not None:
        check_outputs({"--page": page}, paths_of(inputs), folders=["--page"])
        check_page(page)
    if permutations < 19:
        message = f"{permutations} shuffles cannot give a p-value of 0.05"
        raise PomonaError(message, where="permutations", remedy="use 19 or more, better 500")
    columns = {"group": group, "cluster": cluster, "part": part, "resource": resource}
    columns |= {"script": script, "fertility": fertility}
    populations = read_populations(inputs, dense=dense, seeds=seeds, columns=columns)
    job = _Audit(populations, _number_of(positive, populations), permutations, resamples, seed)
    levels, tables = [], []
    for done, compressed in enumerate(populations.levels[1:]):
        told, items = job.level(compressed)
        levels.append(told)
        tables.append(items)
        if progress:
            progress(done + 1, len(populations.levels) - 1)
    shares = all(np.all((one.scores >= 0) & (one.scores <= 1)) for one in populations.levels)
    result = Audit(
        populations.name,
        dense,
        levels,
        permutations,
        resamples,
        seed,
        _signature(populations, columns, positive, permutations, resamples, seed),
        100 if shares else 1,
        populations.traits.get("resource", {}),
        [*populations.notes, *job.notes()],
        pa.concat_tables(tables),
    )
    if page is not None:
        write_page(result, page)
    return result


def _number_of(positive: str | None, populations: Populations) -> int | None:
    if positive is None:
        return None
    if positive not in populations.labels or populations.reference is None:
        message = f'no item has the label "{positive}"'
        remedy = nearest(positive, populations.labels)
        raise PomonaError(message, where=populations.name, remedy=remedy)
    return populations.labels.index(positive)


def _signature(
    populations: Populations,
    columns: Mapping[str, str | None],
    positive: str | None,
    permutations: int,
    resamples: int,
    seed: int,
) -> str:
    models = len(populations.dense.seeds)
    parts = ["audit", f"answers:{populations.digest}", f"models:{models}", f"half:{models // 2}"]
    parts += [f"{what}:{column}" for what, column in columns.items() if column]
    parts += [f"cluster:{'yes' if 'cluster' in populations.items else 'no'}"]
    parts += [f"positive:{positive}"] if positive else []
    parts += [f"permutations:{permutations}", f"resamples:{resamples}", f"seed:{seed}"]
    return "|".join([*parts, "modal:highest", "interval:95", f"pomona:{version('pomona')}"])


class _Audit:
    """What all levels share."""

    def __init__(
        self,
        populations: Populations,
        positive: int | None,
        permutations: int,
        resamples: int,
        seed: int,
    ) -> None:
        self.populations, self.positive = populations, positive
        self.permutations, self.resamples, self.seed = permutations, resamples, seed
        self.rows: dict[str, dict[str, NDArray[np.intp]]] = {
            "overall": {"overall": np.arange(len(populations.ids))},
            "group": _rows(populations.groups),
            "part": {},
            "third": {},
        }
        if "part" in populations.items:
            self.rows["part"] = _rows(populations.items["part"])
        if "resource" in populations.traits:
            self.rows["third"] = _thirds(populations)
        every = [rows for slices in self.rows.values() for rows in slices.values()]
        self.members = np.zeros((len(populations.ids), len(every)))
        for column, rows in enumerate(every):
            self.members[rows, column] = 1

    def level(self, compressed: Population) -> tuple[LevelAudit, pa.Table]:
        """A level against the dense models, and what became of its items."""
        populations, dense = self.populations, self.populations.dense
        paired, models = populations.paired(compressed), len(dense.seeds)
        pool = self._pool(compressed, models)
        each, means = pool.published()
        excess = pool.excess(self.permutations, self.seed)
        modes = None
        if dense.predictions is not None and compressed.predictions is not None:
            modes = (modal(dense.predictions), modal(compressed.predictions))
        found = Found(dict(zip(pool.votes.kinds, means, strict=True)), excess)
        slicer = Slicer(
            populations, compressed, found, modes, self.positive, self.resamples, self.seed
        )
        slices = self._slices(slicer)
        groups = len(self.rows["group"])
        welch = normalised_welch(dense.scores, compressed.scores, self.members[:, 1 : 1 + groups])
        slices["group"] = corrected(slices["group"], *welch)
        distances = dict(zip(pool.votes.kinds, each, strict=True))
        told = LevelAudit(
            compressed.level,
            models,
            paired,
            pool.half,
            slices["overall"]["overall"],
            slices["group"],
            slices["part"],
            slices["third"],
            damage(populations, compressed, self.resamples, self.seed),
            calibration(dense, compressed, paired=paired),
            [self._power(compressed, size) for size in _sizes(models)],
            [*_of_groups(slices["group"]), *_of_items(distances, modes, populations.reference)],
        )
        return told, self._items(compressed.level, distances, modes, excess)

    def _pool(self, compressed: Population, models: int) -> Pool:
        """The first so many dense and compressed models."""
        dense, paired = self.populations.dense, self.populations.paired(compressed)
        sides = (dense.predictions, compressed.predictions)
        if sides[0] is None or sides[1] is None:
            scores = (dense.scores[:models], compressed.scores[:models])
            votes = Scores(np.concatenate(scores))
        else:
            votes = Labels(np.concatenate([side[:models] for side in sides if side is not None]))
        return Pool(votes, models, self.members, paired=paired)

    def _slices(self, slicer: Slicer) -> dict[str, dict[str, Slice]]:
        told: dict[str, dict[str, Slice]] = {}
        column = 0
        for kind, slices in self.rows.items():
            told[kind] = {}
            for name, rows in slices.items():
                told[kind][name] = slicer.slice(rows, column)
                column += 1
        return told

    def _power(self, compressed: Population, models: int) -> Power:
        pool = self._pool(compressed, models)
        pool.members, pool.sizes = pool.members[:, :1], pool.sizes[:1]
        excess = pool.excess(_DRAWS_FOR_POWER, self.seed)
        known = excess is not None and np.isfinite(excess.detectable[0, 0])
        return Power(models, float(excess.detectable[0, 0]) if known and excess else None)

    def _items(
        self,
        level: str,
        distances: Mapping[str, Floats],
        modes: tuple[Codes, Codes] | None,
        excess: Excess | None,
    ) -> pa.Table:
        populations, n = self.populations, len(self.populations.ids)
        labels = np.asarray(populations.labels, object)
        right = populations.reference
        unknown = pa.nulls(n, pa.string())
        columns = {"id": populations.ids, "group": populations.groups, "level": [level] * n}
        columns["reference"] = unknown if right is None else pa.array(labels[right], pa.string())
        for side, name in enumerate(("dense", "compressed")):
            columns[name] = unknown if modes is None else pa.array(labels[modes[side]], pa.string())
        columns |= {
            name: (values > 0 if name == "changed" else values)
            for name, values in distances.items()
        }
        columns["excess"] = pa.nulls(n, pa.float64()) if excess is None else excess.items
        return pa.table(columns)

    def notes(self) -> Iterable[str]:
        """What a reader should know before believing the numbers."""
        models, groups = len(self.populations.dense.seeds), len(self.rows["group"])
        if "cluster" in self.populations.items:
            number = len(set(self.populations.items["cluster"]))
            yield (
                f"Intervals resample {number:,} clusters of {len(self.populations.ids):,} items; "
                "p-values are over models, the items held fixed."
            )
        if models == 1:
            yield "One model a level: there is no floor, and what changed may be chance."
        elif (
            any(self.populations.paired(level) for level in self.populations.levels[1:])
            and models < 5
        ):
            yield (
                f"{models} models of the same seeds can be shuffled in {2**models} ways: no "
                "p-value is below 0.05."
            )
        if self.permutations + 1 < 20 * groups:
            yield (
                f"{self.permutations} shuffles are few for {groups} groups: p_excess_bh stays "
                f"above 0.05 unless many are affected; {20 * groups} would do."
            )


def _rows(labels: NDArray) -> dict[str, NDArray[np.intp]]:
    names, member = np.unique(labels.astype(str), return_inverse=True)
    order = np.argsort(member, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(member))[:-1])
    return dict(zip(names.tolist(), parts, strict=True))


def _thirds(populations: Populations) -> dict[str, NDArray[np.intp]]:
    """Items by the training rows of their groups: three parts of as many groups, if they can be
    told apart; groups that tie are in one.
    """
    resource = populations.traits["resource"]
    ends = np.quantile(sorted(resource.values()), [1 / 3, 2 / 3])
    place = np.searchsorted(ends, [resource[name] for name in populations.groups], side="left")
    rows = {name: np.flatnonzero(place == at) for at, name in enumerate(_THIRDS)}
    return {name: members for name, members in rows.items() if len(members)}


def _sizes(models: int) -> list[int]:
    """Numbers of models for which power is told: doubled from four, and all."""
    sizes = [4 << at for at in range(16) if 4 << at < models]
    return [*sizes, models] if models > 1 else []


def _of_groups(groups: Mapping[str, Slice]) -> list[Overlap]:
    """How far what is measured of groups agrees on those that are affected."""
    small = {
        "Welch, as published": lambda one: _at_most(one.p_published),
        "Welch, Holm": lambda one: _at_most(one.p_holm),
        "Welch, Benjamini-Hochberg": lambda one: _at_most(one.p_bh),
        "excess above the floor": lambda one: _at_most(one.p_excess),
        "score lost": lambda one: one.score.ci_high is not None and one.score.ci_high < 0,
        "score gained": lambda one: one.score.ci_low is not None and one.score.ci_low > 0,
    }
    sets = {
        name: {group for group, one in groups.items() if test(one)} for name, test in small.items()
    }
    return _overlaps("groups", sets)


def _of_items(
    distances: Mapping[str, Floats], modes: tuple[Codes, Codes] | None, right: Codes | None
) -> list[Overlap]:
    """How far exemplars, the largest taxicab distances, as many, and what is lost or gained
    agree.
    """
    if modes is None or right is None or "changed" not in distances:
        return []
    changed = set(np.flatnonzero(distances["changed"]).tolist())
    farthest = np.argsort(-distances["taxicab"], kind="stable")[: len(changed)]
    before, after = (side == right for side in modes)
    sets = {
        "exemplars": changed,
        "taxicab": set(farthest.tolist()),
        "lost": set(np.flatnonzero(before & ~after).tolist()),
        "gained": set(np.flatnonzero(after & ~before).tolist()),
    }
    return _overlaps("items", sets)


def _overlaps(of: str, sets: Mapping[str, set]) -> list[Overlap]:
    found = []
    for a, b in combinations(sets, 2):
        both, either = len(sets[a] & sets[b]), len(sets[a] | sets[b])
        share = both / either if either else None
        found.append(Overlap(of, a, b, len(sets[a]), len(sets[b]), both, share))
    return found


def _at_most(p: float | None) -> bool:
    return p is not None and p <= ALPHA

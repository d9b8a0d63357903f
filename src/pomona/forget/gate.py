"""A gate on what a change may cost: limits on losses and flips, for continuous integration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

from pomona.documents import open_file
from pomona.errors import PomonaError
from pomona.files import write_text
from pomona.forget.change import Change, Comparison
from pomona.forget.comparison import compare
from pomona.forget.predictions import paths_of
from pomona.pages import clean
from pomona.places import check_outputs
from pomona.records import Where

_SUITE = "pomona forget check"
_HEAD = f"<?xml version='1.0' encoding='utf-8'?>\n<testsuite name=\"{_SUITE}\""
By = Literal["estimate", "proven", "possible"]


@dataclass(frozen=True)
class Case:
    """A limit on one group, or on all items where `group` is None; figures are percent of items.

    value, low, high: the loss or the flips, with the 95 % interval. passed: None where the
    interval decides and there is none.
    """

    what: str
    group: str | None
    value: float
    low: float | None
    high: float | None
    limit: float
    passed: bool | None
    said: str


@dataclass(frozen=True)
class Checked:
    """What `check` found. `passed` is False where a case is not; what cannot be told passes."""

    comparison: Comparison
    by: By
    cases: Sequence[Case]

    @property
    def passed(self) -> bool:
        """Whether no case failed."""
        return all(case.passed is not False for case in self.cases)

    def to_json(self) -> dict[str, Any]:
        """The verdict, its cases, and the comparison."""
        told = {"passed": self.passed, "by": self.by, "cases": [asdict(one) for one in self.cases]}
        return {**told, "comparison": self.comparison.to_json()}

    def junit(self) -> str:
        """JUnit XML: a test case for each limit and group."""
        failed = sum(case.passed is False for case in self.cases)
        skipped = sum(case.passed is None for case in self.cases)
        numbers = {"tests": len(self.cases), "failures": failed, "skipped": skipped, "errors": 0}
        counts = {name: str(number) for name, number in numbers.items()}
        suite = ElementTree.Element("testsuite", {"name": _SUITE, **counts})
        names = f"{clean(self.comparison.a)} → {clean(self.comparison.b)}"
        for case in self.cases:
            name = f"{case.what}: {'all items' if case.group is None else clean(case.group)}"
            test = ElementTree.SubElement(suite, "testcase", {"classname": names, "name": name})
            if case.passed is None:
                ElementTree.SubElement(test, "skipped", {"message": case.said})
            elif not case.passed:
                ElementTree.SubElement(test, "failure", {"message": case.said}).text = case.said
        ElementTree.SubElement(suite, "system-out").text = clean(self.comparison.signature)
        return ElementTree.tostring(suite, "utf-8", xml_declaration=True).decode() + "\n"


def check(
    a: Where,
    b: Where | None = None,
    *,
    max_group_loss: float | None = None,
    max_flips: float | None = None,
    by: By = "estimate",
    junit: Path | None = None,
    group: str | None = None,
    cluster: str | None = None,
    seed: int = 0,
) -> Checked:
    """Check that a change costs no more than it may: exit code 1 where it does.

    Args:
        a: Answers before the change, or, alone, what `compare --format json` wrote.
        b: Answers after it, to the same items.
        max_group_loss: Most points of accuracy, of 100, that all items, and those of any group, may
            lose, gains taken off.
        max_flips: Most items, in percent of all, that may turn right or wrong.
        by: What must be beyond a limit: the estimate; the whole 95 % interval (proven), so that
            small groups do not fail by chance; or its end (possible), so that what is not known to
            be within the limit fails.
        junit: JUnit XML file to write.
        group: Column of groups, as `compare` takes it.
        cluster: Column of what items share, as `compare` takes it.
        seed: Seed of the resamples.

    Raises:
        PomonaError: a side cannot be read, the two are not of the same items, there is no limit, or
            the JUnit file would replace one that is none of ours.
    """
    limits = {"max-group-loss": max_group_loss, "max-flips": max_flips}
    _refuse(limits, by)
    if b is None:
        _refuse_columns({"group": group, "cluster": cluster})
    if junit is not None:
        _refuse_foreign(junit, [a] if b is None else [a, b])
    if b is not None:
        compared = compare(a, b, group=group, cluster=cluster, seed=seed)
    elif isinstance(a, str | Path):
        compared = Comparison.read(a)
    else:
        remedy = "give two sides, or the file of a comparison"
        raise PomonaError("there is only one side", where="check", remedy=remedy)
    cases = []
    if max_group_loss is not None:
        named = [(None, compared.overall), *compared.groups.items()]
        cases += [_loss(group, change, max_group_loss, by) for group, change in named]
    if max_flips is not None:
        cases.append(_flips(compared.overall, max_flips, by))
    result = Checked(compared, by, cases)
    if junit is not None:
        write_text(junit, result.junit())
    return result


def _loss(group: str | None, change: Change, limit: float, by: By) -> Case:
    low = None if change.ci_high is None else -100 * change.ci_high
    high = None if change.ci_low is None else -100 * change.ci_low
    figures = (-100 * change.difference, low, high)
    return _case("loss", group, figures, change.unseen, limit, by)


def _flips(change: Change, limit: float, by: By) -> Case:
    low = None if change.flips_low is None else 100 * change.flips_low
    high = None if change.flips_high is None else 100 * change.flips_high
    return _case("flips", None, (100 * change.flips, low, high), change.unseen, limit, by)


def _case(
    what: str,
    group: str | None,
    figures: tuple[float, float | None, float | None],
    unseen: float | None,
    limit: float,
    by: By,
) -> Case:
    value, low, high = (None if one is None else one + 0.0 for one in figures)  # no negative zero
    assert value is not None
    # Where nothing flipped the interval has no width, and says nothing of what may still flip.
    end = high if unseen is None else 100 * unseen
    decides = {"estimate": value, "proven": low, "possible": end}[by]
    unit = "% of items" if what == "flips" else "points"
    ends = "unknown" if low is None or high is None else f"{low:.2f} to {high:.2f}"
    said = f"{what} {value:.2f} {unit} (95 %: {ends}), at most {limit:g} by the {_WORDS[by]}"
    if by == "possible" and unseen is not None:
        said += f": nothing flipped, and up to {100 * unseen:.2g} % may still do so unseen"
    passed = None if decides is None else decides <= limit + 1e-9
    if decides is None and by == "possible":
        passed, said = False, f"{said}: nothing is known of its error"
    return Case(what, group, value, low, high, limit, passed, said)


_WORDS = {"estimate": "estimate", "proven": "lower end", "possible": "upper end"}


def _refuse(limits: dict[str, float | None], by: str) -> None:
    if all(limit is None for limit in limits.values()):
        remedy = "give --max-group-loss or --max-flips, in percent"
        raise PomonaError("there is no limit to check", remedy=remedy)
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit <= 100:
            raise PomonaError(f"{limit:g} is no percentage", where=name, remedy="give 0 to 100")
    if by not in get_args(By):
        remedy = "use estimate, proven or possible"
        raise PomonaError(f'"{by}" is unknown', where="by", remedy=remedy)


def _refuse_columns(columns: dict[str, str | None]) -> None:
    for name, column in columns.items():
        if column:
            message = f'is "{column}", and a comparison that was written has its own'
            remedy = "give it to `pomona forget compare`, or give two sides here"
            raise PomonaError(message, where=name, remedy=remedy)


def _refuse_foreign(junit: Path, sides: Sequence[Where]) -> None:
    """Raise PomonaError where the JUnit file would replace an input, or what is none of ours."""
    inputs = [path for one in sides for path in paths_of(one, saved=len(sides) == 1)]
    check_outputs({"--junit": junit}, inputs)
    if not junit.exists():
        return
    try:
        with open_file(junit) as stream:
            ours = stream.read(len(_HEAD.encode())) == _HEAD.encode()
    except OSError:
        ours = False
    if not ours:
        message = "is not what `pomona forget check` wrote, so it is not replaced"
        raise PomonaError(message, where=junit, remedy="move it away, or write to another path")

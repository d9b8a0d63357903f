"""Loss by training rows: with dense quality held equal, and without."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.forget import Damage, audit

GROUPS = 30


def scored(loss: np.ndarray, quality: np.ndarray, rows: np.ndarray, **more: list[str]) -> pa.Table:
    """Scores of 6 models a level on 20 items of every group."""
    rng = np.random.default_rng(1)
    table = []
    for level, mean in (("dense", quality), ("0.5", quality - loss)):
        for k in range(6):
            noise = rng.normal(0, 2, (GROUPS, 20))
            table += [
                {"id": f"{g}-{i}", "group": f"g{g:02}", "level": level, "seed": k}
                | {"score": mean[g] + noise[g, i], "resource": rows[g]}
                | {name: values[g] for name, values in more.items()}
                for g in range(GROUPS)
                for i in range(20)
            ]
    return pa.Table.from_pylist(table)


@pytest.fixture(scope="module")
def quality_and_rows() -> tuple[np.ndarray, np.ndarray]:
    rows = np.round(10 ** np.linspace(1, 4, GROUPS))
    return 30 + 10 * np.log10(rows) + np.random.default_rng(0).normal(0, 8, GROUPS), rows


def found(table: pa.Table) -> Damage:
    damage = audit(table, permutations=19).levels[0].damage
    assert isinstance(damage, Damage)
    return damage


def test_what_bad_groups_lose_is_not_called_an_effect_of_the_tail(
    quality_and_rows: tuple[np.ndarray, np.ndarray],
) -> None:
    quality, rows = quality_and_rows
    damage = found(scored((80 - quality) / 5, quality, rows))
    assert damage.naive_verdict == "the tail loses more"
    assert damage.verdict == "no tail effect" and damage.p_rare > 0.05
    assert damage.given["dense quality"].ci_high < 0.1
    assert damage.groups == GROUPS


def test_an_effect_of_the_tail_is_found_with_the_control(
    quality_and_rows: tuple[np.ndarray, np.ndarray],
) -> None:
    quality, rows = quality_and_rows
    script = ["Latin" if g % 3 else "Greek" for g in range(GROUPS)]
    damage = found(scored(10 - 2 * np.log10(rows), quality, rows, script=script))
    assert damage.verdict == "the tail loses more" and damage.p_rare < 0.01
    assert damage.resource.value == pytest.approx(-2, abs=0.3)
    assert list(damage.given) == ["dense quality", "its square", "script Greek"]


def test_clusters_that_groups_share_widen_the_interval(
    quality_and_rows: tuple[np.ndarray, np.ndarray],
) -> None:
    quality, rows = quality_and_rows
    table = scored(10 - 2 * np.log10(rows), quality, rows)
    shared = [id_.split("-")[1] for id_ in table["id"].to_pylist()]
    plain, clustered = found(table), found(table.append_column("cluster", pa.array(shared)))
    widths = [one.resource.ci_high - one.resource.ci_low for one in (plain, clustered)]
    assert widths[1] > widths[0]
    assert clustered.resource.value == plain.resource.value


def test_what_cannot_be_known_says_why(quality_and_rows: tuple[np.ndarray, np.ndarray]) -> None:
    quality, _ = quality_and_rows
    table = scored(np.ones(GROUPS), quality, np.full(GROUPS, 7.0))
    told = audit(table, permutations=19)
    assert told.levels[0].damage == "all groups have as many training rows"
    few = table.filter(pa.compute.less(table["group"], "g04"))
    assert audit(few, permutations=19).levels[0].damage == (
        "4 groups are too few to tell 3 columns apart"
    )
    assert "tail unknown" in told.headline()[1]
    with pytest.raises(PomonaError, match=r"18 shuffles cannot give a p-value of 0\.05"):
        audit(table, permutations=18)


def test_slopes_are_those_of_least_squares_with_quality_of_other_models() -> None:
    """Of each way to halve the models both ways round; a group may have no training rows at all."""
    rng = np.random.default_rng(2)
    rows = np.array([0, 3, 10, 40, 100, 700])
    scores = {level: rng.normal(size=(3, 6)) for level in ("dense", "0.5")}
    table = pa.Table.from_pylist(
        [
            {"id": g, "group": f"g{g}", "level": level, "seed": k, "score": each[k, g]}
            | {"resource": rows[g]}
            for level, each in scores.items()
            for k in range(3)
            for g in range(6)
        ]
    )
    told, slopes, order = found(table), [], np.random.default_rng(0)
    for _ in range(4):
        mixed = order.permutation(3)
        for one, two in ((mixed[:1], mixed[1:]), (mixed[1:], mixed[:1])):
            loss = (scores["dense"][two] - scores["0.5"][two]).mean(0)
            columns = [np.ones(6), np.log10(1 + rows), scores["dense"][one].mean(0)]
            slopes.append(np.linalg.lstsq(np.stack(columns, 1), loss, rcond=None)[0])
    resource, quality = np.mean(slopes, axis=0)[1:]
    assert told.resource.value == pytest.approx(resource)
    assert told.given["dense quality"].value == pytest.approx(quality)

"""Errors are those of statsmodels, and of the definition, for votes that hang together or not."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from pomona.arena import Votes, read_votes
from pomona.arena.ratings.bradley_terry import (
    Solution,
    Ties,
    counts_of,
    hessian,
    inverse,
    scores,
    solve,
)
from pomona.arena.ratings.clusters import clustered, row_codes, units_of
from pomona.arena.ratings.intervals import critical, errors, ranks, simultaneous
from pomona.arena.ratings.resampling import refit, resampled
from pomona.arena.ratings.style import covariates, plain_counts, styled

# Of statsmodels 0.15.0: GLM(y, X[:, 1:], Binomial()).fit(cov_type="cluster"), of m1 to m4 minus m0.
GOLDEN: dict[tuple[Ties, str], list[float]] = {
    ("half", "strengths"): [
        0.5851329099501407,
        0.9888019795061779,
        1.079770425449691,
        1.5742849481610346,
    ],
    ("half", "voter"): [
        0.1992803263095853,
        0.2525018894639004,
        0.25333592114745634,
        0.2236050214270186,
    ],
    ("drop", "strengths"): [
        0.654674039258678,
        1.1209676339519898,
        1.2537707373888036,
        1.8518600124109212,
    ],
    ("drop", "voter"): [
        0.2656985538635394,
        0.31630265873804164,
        0.2988992026369288,
        0.2766352266193263,
    ],
}
HC0 = {  # cov_type="HC0", which knows no n / (n - p)
    "half": [0.25451839759942535, 0.27511333026952006, 0.2512438739078912, 0.27284855521004187],
    "drop": [0.32029746188561997, 0.3341833945447108, 0.3057197053470051, 0.3389717546252217],
}


def made(k: int = 5, n: int = 240, groups: int = 40, seed: int = 16) -> pa.Table:
    """Votes of 40 voters, each with a leaning of his own."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    voter = rng.integers(0, groups, n)
    strengths, leaning = np.linspace(-1, 1, k), rng.normal(0, 0.8, groups)
    d, u = strengths[a] - strengths[b] + leaning[voter], rng.random(n)
    lost = u > 1 - 1 / (1 + np.exp(d + 0.4))
    winner = np.where(u < 1 / (1 + np.exp(-d + 0.4)), "model_a", np.where(lost, "model_b", "tie"))
    return pa.table(
        {
            "model_a": [f"m{one}" for one in a],
            "model_b": [f"m{one}" for one in b],
            "winner": winner,
            "voter": [str(one) for one in voter],
        }
    )


@pytest.fixture(scope="module")
def votes() -> Votes:
    return read_votes(made())


@pytest.mark.parametrize("ties", ["half", "drop"])
def test_errors_are_those_of_statsmodels(ties: Ties, votes: Votes) -> None:
    some = votes if ties == "half" else votes.take(votes.outcome < 2)
    counts = counts_of(some)
    found = solve(counts, ties)
    strengths = found.strengths[1:] - found.strengths[0]
    np.testing.assert_allclose(strengths, GOLDEN[ties, "strengths"], rtol=1e-8)
    by_voter = errors(counts, found, clustered(some, "voter"), leverage=False)
    assert by_voter is not None and by_voter.units == 40 and (by_voter.degrees == 39).all()
    told = [by_voter.of_difference(one, 0) for one in range(1, 5)]
    np.testing.assert_allclose(told, GOLDEN[ties, "voter"], rtol=1e-7)
    alone = errors(counts, found)
    assert alone is not None and (alone.degrees == np.inf).all()
    told = [alone.of_difference(one, 0) for one in range(1, 5)]
    n = len(some)
    np.testing.assert_allclose(told, np.array(HC0[ties]) * np.sqrt(n / (n - 4)), rtol=1e-7)


@pytest.mark.parametrize("ties", get_args(Ties))
@pytest.mark.parametrize("by", ["voter", "item", None])
def test_errors_are_what_the_definition_says(ties: Ties, by: str | None, votes: Votes) -> None:
    prompts = pa.array([f"{row % 9}" for row in range(len(votes))])
    votes = read_votes(made().append_column("prompt", prompts))
    votes = votes.take(votes.outcome < 2) if ties == "drop" else votes
    counts = counts_of(votes)
    found = solve(counts, ties)
    along, tied = scores(votes, found)
    free = found.tie is not None
    rows = np.zeros((len(votes), 5 + free))
    rows[np.arange(len(votes)), votes.a] = along
    rows[np.arange(len(votes)), votes.b] = -along
    if free:
        rows[:, 5] = tied
    codes = np.arange(len(votes)) if by is None else row_codes(votes, by)
    sums = np.zeros((codes.max() + 1, 5 + free))
    np.add.at(sums, codes, rows)
    bread, n, units = inverse(hessian(counts, found), 5), len(votes), len(sums)
    wanted = bread @ (sums.T @ sums) @ bread * units / (units - 1) * (n - 1) / (n - 4 - free)
    groups = None if by is None else clustered(votes, by)
    got = errors(counts, found, groups, leverage=False)
    assert got is not None and got.units == units
    np.testing.assert_allclose(got.covariance, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.covariance[:5, :5].sum(0), 0, atol=1e-12)
    if groups is not None:
        held = information(votes, found, codes)
        raised = sums / (1 - held / held.sum(0))
        wanted = bread @ (raised.T @ raised) @ bread * (units - 1) / units
        got = errors(counts, found, groups)
        assert got is not None
        np.testing.assert_allclose(got.covariance, wanted, rtol=1e-9, atol=1e-12)
        equal = held.sum(0) ** 2 / (held**2).sum(0)
        np.testing.assert_allclose(got.degrees, equal[:5] - 1, rtol=1e-9)


def information(votes: Votes, found: Solution, codes: Any) -> Any:
    """Minus the second derivatives by each strength, and by the parameter of ties, by cluster."""
    cells = found.cells(found.strengths[votes.a] - found.strengths[votes.b])
    outcome = np.minimum(votes.outcome, 2)[:, None].astype(int)
    dd, tt = (np.take_along_axis(of, outcome, 1)[:, 0] for of in (cells.dd, cells.tt))
    held = np.zeros((codes.max() + 1, 5 + (found.tie is not None)))
    for models in (votes.a, votes.b):
        np.add.at(held, (codes, models), dd)
    if found.tie is not None:
        np.add.at(held[:, 5], codes, tt)
    return held


def test_errors_are_those_of_leaving_out_each_cluster(votes: Votes) -> None:
    counts = counts_of(votes)
    found, codes = solve(counts), row_codes(votes, "voter")
    without = []
    for voter in range(40):
        rest = counts_of(votes, (codes != voter).astype(float))
        without.append(solve(counts.with_outcomes(rest.outcomes)).strengths - found.strengths)
    jackknife = np.sqrt((np.square(without)).sum(0) * 39 / 40)
    got = errors(counts, found, clustered(votes, "voter"))
    assert got is not None
    np.testing.assert_allclose(got.standard, jackknife, rtol=0.03)


def test_two_kinds_of_clusters_add_up_less_single_votes(votes: Votes) -> None:
    items = pa.array([f"{row % 60}" for row in range(len(votes))])
    votes = read_votes(made().append_column("item", items))
    counts = counts_of(votes)
    found = solve(counts)
    kinds = [clustered(votes, by) for by in ("item", "voter")]
    item, voter, both = (errors(counts, found, of) for of in (kinds[0], kinds[1], kinds))
    alone = errors(counts, found)
    assert item is not None and voter is not None and both is not None and alone is not None
    wanted = item.covariance + voter.covariance - alone.covariance
    np.testing.assert_allclose(both.covariance, wanted, atol=1e-10)
    assert (both.by, both.units) == ("item+voter", 40)
    assert np.array_equal(both.degrees, np.minimum(item.degrees, voter.degrees))


def test_a_model_of_one_cluster_has_no_interval() -> None:
    votes = read_votes(
        made().append_column("item", pa.array([str(row // 8) for row in range(240)]))
    )
    only = np.flatnonzero((votes.a == 4) | (votes.b == 4))
    codes, _ = votes.codes("item")
    votes = votes.take(np.setdiff1d(np.arange(240), only[codes[only] != codes[only[0]]]))
    counts = counts_of(votes)
    got = errors(counts, solve(counts, "half"), clustered(votes, "item"))
    assert got is not None and got.degrees[4] == 0 and (got.degrees[:4] > 5).all()
    assert np.isinf(critical(got.degrees, 0.95)[4]) and np.isinf(simultaneous(got, 0.95, 0)[4])


def test_rows_of_several_votes_are_those_votes() -> None:
    table = made(n=60)
    n = np.arange(60) % 3 + 1
    voter = [None if row % 7 == 0 else one for row, one in enumerate(table["voter"].to_pylist())]
    table = table.set_column(3, "voter", pa.array(voter))
    short = read_votes(table.append_column("n", pa.array(n)))
    long = read_votes(table.take(pa.array(np.repeat(np.arange(60), n))))
    for by in ("voter", None):
        found = []
        for votes in (short, long):
            counts = counts_of(votes)
            groups = None if by is None else clustered(votes, by)
            got = errors(counts, solve(counts), groups)
            assert got is not None
            found.append(got)
        np.testing.assert_allclose(found[0].covariance, found[1].covariance, rtol=1e-9)
        assert found[0].units == found[1].units


def test_the_finest_unit_that_is_repeated(llmfao: Votes, leaderbot: Votes) -> None:
    assert units_of(llmfao) == ["item", "prompt", "voter"]
    assert units_of(leaderbot) == []
    table = made().append_column("prompt", pa.array([str(row) for row in range(240)]))
    assert units_of(read_votes(table)) == ["voter"]
    table = made().append_column("prompt", pa.array([str(row // 2) for row in range(240)]))
    assert units_of(read_votes(table))[0] in ("item", "prompt")


def test_real_votes_hang_together(llmfao: Votes) -> None:
    counts = counts_of(llmfao)
    found = solve(counts, "half")
    alone = errors(counts, found)
    assert alone is not None
    for by, n, median in (("item", 2139, 1.240), ("prompt", 13, 1.591), ("voter", 124, 1.116)):
        got = errors(counts, found, clustered(llmfao, by), leverage=False)
        assert got is not None and got.units == n
        ratio = got.standard / alone.standard
        assert np.median(ratio) == pytest.approx(median, abs=5e-4)
        if by == "item":
            assert ratio.min() == pytest.approx(0.97, abs=5e-3)
            assert ratio.max() == pytest.approx(1.50, abs=5e-3)


def test_one_cluster_or_too_few_votes_say_nothing(votes: Votes) -> None:
    counts = counts_of(votes)
    same = read_votes(made().append_column("lang", pa.array(["en"] * 240)))
    assert errors(counts, solve(counts), clustered(same, "lang")) is None
    few = read_votes(pa.table({"model_a": ["x"], "model_b": ["y"], "winner": ["tie"]}))
    assert errors(counts_of(few), solve(counts_of(few), "half")) is None


def test_a_whole_board_needs_wider_intervals(votes: Votes) -> None:
    counts = counts_of(votes)
    got = errors(counts, solve(counts))
    assert got is not None
    one, all_of_them = critical(got.degrees, 0.95), simultaneous(got, 0.95, 0)
    assert one == pytest.approx(1.959964, abs=1e-6) and np.ptp(all_of_them) == 0
    # Between one comparison and as many independent ones as there are models (Sidak).
    assert one[0] < all_of_them[0] < critical(np.inf, 0.95 ** (1 / 5)) + 0.05
    assert critical(12, 0.95) == pytest.approx(2.178813, abs=1e-6)


def test_ranks_of_intervals() -> None:
    low, high = np.array([5.0, 4.0, 1.0, 1.0]), np.array([7.0, 6.0, 3.0, 4.0])
    best, worst = ranks(low, high)
    assert best.tolist() == [1, 1, 3, 2] and worst.tolist() == [2, 3, 4, 4]


@pytest.mark.parametrize("by", ["voter", None])
def test_resamples_spread_as_the_errors_say(by: str | None, votes: Votes) -> None:
    counts = counts_of(votes)
    found, groups = solve(counts), clustered(votes, by)
    drawn = resampled(groups, counts.outcomes.size, 400, seed=0)
    got, (strengths, _) = errors(counts, found, groups), refit(counts, found, drawn)
    assert got is not None and strengths.shape == (5, 400)
    np.testing.assert_allclose(strengths.std(1), got.standard, rtol=0.15)
    np.testing.assert_allclose(strengths.mean(0), 0, atol=1e-12)


def test_style_held_equal(votes: Votes) -> None:
    rng = np.random.default_rng(0)
    table = made(n=2000)
    long = {f"length_{side}": rng.integers(50, 500, 2000) for side in "ab"}
    x = (long["length_a"] - long["length_b"]) / (long["length_a"] + long["length_b"])
    turned = rng.random(2000) < np.tanh(3 * np.abs(x))
    winner = np.where(turned, np.where(x > 0, "model_a", "model_b"), table["winner"])
    table = table.set_column(2, "winner", pa.array(winner))
    for name, column in long.items():
        table = table.append_column(name, pa.array(column))
    votes = read_votes(table)
    style = covariates(votes, ["length"])
    assert style.names == ("length",) and style.values.std() == pytest.approx(1)
    plain = solve(counts_of(votes))
    for by in ("voter", None):
        found = styled(votes, style, "davidson", by)
        assert found.solution.converged
        assert found.solution.log_likelihood > plain.log_likelihood + 100
        assert found.coefficient_errors is not None
        assert found.coefficients[0] > 10 * found.coefficient_errors[0]
    # With no covariate at all, so to speak, what is left is the plain fit.
    nothing = type(style)(("noise",), 1e-9 * style.values, style.rows)
    got = styled(votes, nothing, "davidson", "voter").solution
    np.testing.assert_allclose(got.strengths, found.solution.strengths, atol=1e-6)


def test_markdown_is_counted_in_completions() -> None:
    texts = ["# Title\n\n- one\n- **two**", "plain"] * 3
    rows = {"model_a": ["x", "y"] * 3, "model_b": ["y", "x"] * 3, "winner": ["tie"] * 6}
    table = pa.table({**rows, "completion_a": texts, "completion_b": ["1. a\n2. b"] * 5 + [None]})
    style = covariates(read_votes(table), ["markdown", "length"])
    assert style.names == ("headers", "lists", "bold", "length")
    assert style.rows.tolist() == [0, 1, 2, 3, 4]
    signs = np.sign(style.values).tolist()
    assert signs[:2] == [[1, 0, 1, 1], [0, -1, 0, -1]]
    some, counts = plain_counts(read_votes(table), style)
    assert some.n == counts.outcomes.sum() == 5


def lengths(**columns: Any) -> Votes:
    table = {"model_a": ["x", "y"], "model_b": ["y", "x"], "winner": ["tie", "tie"], **columns}
    return read_votes(pa.table(table))


def test_style_that_is_not_there_is_refused_by_name() -> None:
    from pomona.errors import PomonaError

    for columns, asked, text in (
        ({}, "length", 'there is no column "length_a" — give the columns length_a and the other'),
        ({"tone_a": [1, 2], "tone_b": [2, 1]}, "tune", 'column "tune_a" — did you mean "tone"'),
        ({"tone_a": ["x", "y"], "tone_b": [2, 1]}, "tone", '"tone_a" holds what is no number'),
        ({"tone_a": [1, -2], "tone_b": [2, 1]}, "tone", 'row 2: "tone_a" is -2 — give numbers'),
        ({"tone_a": [1, 1], "tone_b": [1, 1]}, "tone", '"tone" is the same of both sides'),
        ({"completion_a": ["", ""], "completion_b": ["", ""]}, "markdown", "no answer has any"),
    ):
        with pytest.raises(PomonaError) as raised:
            covariates(lengths(**columns), [asked])
        assert text in str(raised.value)

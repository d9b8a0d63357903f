"""Small against larger models: golden values of two leaderboards, flags, and bad tables."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.scale import Columns, Frontier, frontier

Write = Callable[..., Path]
Real = Callable[[str], Path]
HEAD = "model,params_b,score,date,type"
ROWS = (
    "meta-llama/Llama-2-7b-hf,6.7,50,2023-07-18,pretrained",
    "meta-llama/Llama-2-70b-hf,69,67,2023-07-18,pretrained",
    "facebook/opt-66b,66,42,2022-05-02,pretrained",
    "facebook/opt-13b,13,40,2022-05-02,pretrained",
    "someone/Great-7B-slerp,7.2,70,2023-09-01,pretrained",
    "someone/contaminated_proof_7b,7.2,99,2023-09-02,chat",
    "someone/Tiny-70b-distilled,7,80,2023-09-03,chat",
    "someone/Wide-2x7B,12.9,71,2023-09-04,merge",
)
SIZES = (20, 30, 40, 50, 60)


@pytest.fixture(scope="module")
def leaderboard(real: Real) -> Frontier:
    path = real("open_llm_leaderboard_v1_min.csv")
    days = ["2023-09", "2023-10", "2023-11", "2023-12", "2024-01", "2024-03", "2024-05"]
    return frontier(path, columns=Columns(not_merged="merged"), dates=days)


def test_the_corrected_frontier_of_the_open_llm_leaderboard(leaderboard: Frontier) -> None:
    months = {month.month: month.curves for month in leaderboard.months}
    golden = {
        "2023-09": (71, 159),
        "2023-10": (196, 254),
        "2023-11": (309, 320),
        "2023-12": (443, 443),
        "2024-01": (707, 708),
        "2024-03": (926, 944),
        "2024-05": (1120, 1159),
    }
    for month, (beaten, larger) in golden.items():
        curve = months[month]["all"]
        assert (curve.beaten, curve.larger) == (beaten, larger), month
        assert curve.share == beaten / larger
    # Without rows that contradict themselves small ones win a little less often at first.
    assert months["2023-09"]["consistent"].share == pytest.approx(68 / 156)
    assert leaderboard.metric == "average"


def test_among_curated_bases_small_ones_win_ever_less(leaderboard: Frontier) -> None:
    shares = {m.month: m.curves["bases"] for m in leaderboard.months}
    told = [shares[f"20{month}"] for month in ("23-10", "23-12", "24-03", "24-05")]
    assert [(c.beaten, c.larger) for c in told] == [(9, 10), (12, 18), (17, 25), (19, 33)]


def test_flags_of_the_leaderboard_have_reasons(leaderboard: Frontier) -> None:
    kinds = [flag.kind for flag in leaderboard.flags]
    assert kinds.count("contamination") == 3
    assert kinds.count("label") == 47
    assert all(flag.reason for flag in leaderboard.flags)
    # Those whose name says more than 13 billion: most are two sevens that share their attention.
    said = [f for f in leaderboard.flags if f.kind == "experts" or "all" in f.left_out]
    assert sum(flag.kind == "experts" for flag in said) == 78


def test_a_column_that_means_its_opposite_is_not_used(table: Write) -> None:
    rows = [f"m{i},{i + 1}e9,{40 + i},pretrained,{i != 0}" for i in range(5)]
    rows += [f"n{i},{i + 1}e9,{60 + i},base merges,{i == 0}" for i in range(4)]
    path = table("model,params,score,type,merged", *rows)
    told = frontier(path)
    assert told.notes[0] == (
        'column "merged" calls 80% of the models labelled pretrained merges, and 25% of those '
        "labelled merges: it is not used; where it means the opposite, give --not-merged merged"
    )
    assert told.flags == []
    (flag,) = frontier(path, columns=Columns(not_merged="merged")).flags
    assert (flag.row, flag.kind) == (1, "label")
    assert flag.reason == 'labelled "pretrained", and a column says that it is a merge'


def test_what_size_and_compute_explain_of_base_models(real: Real) -> None:
    path = real("obsscaling_base_llm_benchmark_eval.csv")
    (month,) = frontier(path, columns=Columns(score="MMLU")).months
    curve = month.curves["all"]
    assert curve.r2["flop"].value == pytest.approx(0.531, abs=5e-4)
    assert curve.r2["params where flop is known"].value == pytest.approx(0.394, abs=5e-4)
    any_pair, apart = curve.discordant["flop"]["any"], curve.discordant["flop"]["3.2x"]
    assert (any_pair.n, apart.n) == (7482, 5661)
    assert any_pair.value == pytest.approx(0.1643, abs=5e-5)
    assert apart.value == pytest.approx(0.1049, abs=5e-5)
    for one in (*curve.r2.values(), any_pair, apart):
        assert one.low is not None and one.value is not None and one.high is not None
        assert one.low < one.value < one.high
    # 8B does not beat 180B by this metric: it must be named.
    rows = {"meta-llama/Meta-Llama-3-8B": 0.665, "tiiuae/falcon-180B": 0.696}
    assert rows["meta-llama/Meta-Llama-3-8B"] < rows["tiiuae/falcon-180B"]
    assert "metric:MMLU" in frontier(path, columns=Columns(score="MMLU")).signature


def test_each_flag_keeps_its_row_out_of_the_right_curves(table: Write) -> None:
    told = frontier(table(HEAD, *ROWS))
    flags = {flag.model.split("/")[1]: flag for flag in told.flags}
    every = ["all", "consistent", "no_merges", "bases"]
    assert flags["contaminated_proof_7b"].left_out == every
    assert flags["Tiny-70b-distilled"].left_out == every
    assert flags["Tiny-70b-distilled"].reason == (
        'its name says 70b (70B), column "params_b" says 7B'
    )
    assert flags["Great-7B-slerp"].left_out == ["no_merges"]
    assert '"slerp"' in flags["Great-7B-slerp"].reason
    assert (flags["Wide-2x7B"].kind, flags["Wide-2x7B"].left_out) == ("experts", [])
    last = told.months[-1].curves
    assert last["all"].best is not None and last["all"].best.model == "someone/Wide-2x7B"
    assert last["no_merges"].best is not None
    assert last["no_merges"].best.model == "meta-llama/Llama-2-7b-hf"
    assert (last["bases"].beaten, last["bases"].larger) == (1, 2)
    kept = frontier(table(HEAD, *ROWS), keep=["contamination", "size"])
    best = kept.months[-1].curves["all"].best
    assert best is not None and best.model == "someone/contaminated_proof_7b"


def test_the_json_is_a_list_by_month_and_loses_nothing(
    table: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(HEAD, *ROWS, "a/undated-contaminated-7b,7,60,,chat")
    assert main(["scale", "frontier", str(path), "--format", "json"]) == 0
    told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    months = [month["month"] for month in told]
    assert (months[0], months[-1], len(months)) == ("2022-05", "2023-09", 17)
    last = told[-1]
    assert last["metric"] == "score" and last["until"] == "2023-09-30"
    assert (last["share"], last["larger"], last["beaten"]) == (1.0, 2, 2)
    assert last["curves"]["all"]["overcome"]["ratio"] == pytest.approx(66 / 6.7)
    assert last["curves"]["bases"]["discordant"]["params"]["any"]["n"] == 6
    flagged = [flag["model"] for month in told for flag in month["flags"]]
    assert len(flagged) == len(set(flagged)) == 5
    assert "a/undated-contaminated-7b" in [flag["model"] for flag in last["flags"]]
    assert told[2]["share"] is not None and told[0]["new"] == 2


def test_own_lists_columns_and_days(table: Write) -> None:
    bases = table("model", "facebook/*", name="bases.csv")
    path = table(HEAD, *ROWS)
    assert frontier(path, small="6B").small == 6e9
    told = frontier(path, bases=str(bases), dates=["2022-12", "2023-07-31"])
    assert [month.until for month in told.months] == ["2022-12-31", "2023-07-31"]
    assert told.months[-1].curves["bases"].models == 2
    marked = [f"{HEAD},base"] + [f"{row},{'Llama' in row}" for row in ROWS]
    assert frontier(table(*marked)).months[-1].curves["bases"].models == 2


def test_compute_that_is_not_that_of_size_and_data_is_flagged(table: Write) -> None:
    path = table(
        "model,params,tokens,flop,score",
        "a,1e9,1e11,6e20,30",
        "b,2e9,1e11,1.2e24,40",
        "c,4e9,1e11,2.4e21,50",
    )
    (flag,) = frontier(path).flags
    assert (flag.kind, flag.row, flag.left_out) == (
        "compute",
        2,
        ["consistent", "no_merges", "bases"],
    )


def test_ratings_of_an_arena_against_known_sizes(table: Write) -> None:
    rows = [f"m{i},{2**i}e9,{10 * i},{1000 + 30 * i}" for i in range(8)]
    path = table("model,params,score,arena", *rows, "secret,,90,1400")
    arena = frontier(path).months[-1].arena
    assert arena is not None and arena.unknown == 1
    assert arena.per_doubling.value == pytest.approx(30)
    assert arena.r2.value == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 99)), min_size=2, max_size=12))
def test_shares_ratios_and_pairs_are_those_of_counting(models: list[tuple[int, int]]) -> None:
    import pyarrow as pa

    rows = [{"model": f"m{i}", "params": 1e9 * p, "score": s} for i, (p, s) in enumerate(models)]
    curve = frontier(pa.Table.from_pylist(rows), columns=Columns(score_unit="percent"))
    told = curve.months[0].curves["all"]
    small = [s for p, s in models if p <= 13]
    larger = [s for p, s in models if p > 13]
    if small and larger:
        assert told.share == sum(s < max(small) for s in larger) / len(larger)
    else:
        assert told.share is None
    half = [
        p for p, s in models if p <= 13 and larger and 2 * sum(t < s for t in larger) >= len(larger)
    ]
    assert (told.half.params / 1e9 if told.half else None) == (min(half) if half else None)
    ratios = [p / q for p, s in models for q, t in models if q < p and t > s]
    assert (told.overcome.ratio if told.overcome else None) == (max(ratios) if ratios else None)
    pairs = [(p, s, q, t) for p, s in models for q, t in models if q < p]
    found = told.discordant["params"]["any"]
    assert found.n == len(pairs)
    if pairs:
        assert found.value == sum(t > s for _, s, _, t in pairs) / len(pairs)


BAD = {
    "no parameters": (("model,score", "a,1"), {}, "no column is known to hold parameters — name "),
    "no such column": ((HEAD, *ROWS), {"score": "mlu"}, 'there is no column "mlu"'),
    "a date": (
        ("model,params,score,date", "a,7e9,30,2023-01-01", "b,8e9,40,soon"),
        {},
        'row 2 (b): "date" is "soon", which is no date — write YYYY-MM-DD or YYYY-MM',
    ),
    "a slip of the pen": (
        ("model,params,score,date", "a,7e9,30,0203-01-01", "b,8e9,40,2023-01"),
        {},
        'row 1 (a): "date" is "0203-01-01", which is no date',
    ),
    "mixed": (
        ("model,params,score", "a,7e9,0.45", "b,8e9,46"),
        {},
        'row 1 (a): "score" is 0.45, while others go up to 46 — write one kind alone',
    ),
    "negative": (
        ("model,params,score", "a,7e9,30", "b,-8e9,40"),
        {},
        'row 2 (b): "params" is -8e9, but must be above 0 — leave the cell empty',
    ),
    "text": (
        ("model,params,score", "a,big,30", "b,8e9,40"),
        {},
        'row 1 (a): "params" is "big", which is no number',
    ),
    "one model": (
        ("model,params,score", "a,7e9,30", "b,8e9,"),
        {},
        "row 1 (a): only one model has both parameters and a score — give a table of 2 models",
    ),
    "no unit": (
        ("model,params,score", "a,7,30", "b,70,40"),
        {},
        'the median of "params" is 38.5 parameters: no models have so few — say what the column counts in: '
        "--params-unit billions or millions",
    ),
    "too many": (
        ("model,params_b,score", "a,7e9,30", "b,70e9,40"),
        {},
        'the median of "params_b" is 3.85e+19 parameters: no models have so many — say what the '
        "column counts in: --params-unit ones",
    ),
    "semicolons": (
        ("model;params_b;score", "a;7;30", "b;70;40"),
        {},
        "its one column is 'model;params_b;score' — separate the columns by commas instead of ';'",
    ),
    "a time that is none": (
        ("model,params,score,date", "a,7e9,30,2023-01-01 noon", "b,8e9,40,2023-01"),
        {},
        '"date" is "2023-01-01 noon", which is no date',
    ),
    "beyond percent": (
        ("model,params,score", "a,7e9,30", "b,8e9,140"),
        {"score_unit": "percent"},
        'row 2 (b): "score" is 140, which is no percent',
    ),
    "truth": (
        ("model,params,score,merged", "a,7e9,30,true", "b,8e9,40,maybe"),
        {},
        '"merged" is "maybe", which is neither true nor false',
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_by_row(name: str, table: Write) -> None:
    lines, columns, said = BAD[name]
    with pytest.raises(PomonaError) as caught:
        frontier(table(*lines), columns=Columns(**columns))
    assert said in str(caught.value)


def test_bad_options_are_refused(table: Write) -> None:
    path = table(HEAD, *ROWS)
    for options, said in (
        ({"small": 0}, '"0" is no size'),
        ({"small": "big"}, '"big" is no size'),
        ({"keep": ["hoax"]}, '"hoax" is unknown — known: contamination, label'),
        ({"dates": ["soon"]}, 'a day is "soon", which is no date'),
        ({"bases": str(table("name", "x", name="l.csv"))}, 'there is no column "model"'),
    ):
        with pytest.raises(PomonaError, match=said.split(" —")[0].replace("(", r"\(")):
            frontier(path, **options)
    undated = table("model,params,score", "a,7e9,30", "b,8e9,40", name="u.csv")
    with pytest.raises(PomonaError, match="there are no dates"):
        frontier(undated, dates=["2023-01"])


def test_one_family_has_no_interval(table: Write) -> None:
    rows = [f"m{i},{1 + i}e9,{30 + i},one" for i in range(5)]
    told = frontier(table("model,params,score,family", *rows))
    r2 = told.months[0].curves["all"].r2["params"]
    assert r2.value is not None and (r2.low, r2.high) == (None, None)
    assert "all models are of 1 families: intervals are unknown" in told.notes


def test_a_leaderboard_that_writes_links_is_read_by_its_full_names(table: Write) -> None:
    link = '"<a href=""https://x.org/{0}"">{0}</a>"'
    head = "Model,fullname,Average ⬆️,#Params (B),Submission Date"
    rows = ("a/Great-7b,50,7.2,2023-01-01", "b/Wide-70b,49,70.5,2023-01-02")
    lines = [f"{link.format(row.split(',')[0])},{row}" for row in rows]
    best = frontier(table(head, *lines)).months[-1].curves["all"].best
    assert best is not None and best.model == "a/Great-7b"


def test_names_that_contradict_nothing_are_not_flagged(table: Write) -> None:
    rows = (
        "google/gemma-7b,8.54",  # tables of tokens are in the column and not in the name
        "Qwen/Qwen3-0.6B,0.75",
        "google/gemma-2-2b,2.61",
        "meta-llama/Llama-3.2-1B,1.24",
        "x/decontaminated-7b,7.2",
        "x/not-contaminated-7b,7.2",
        "x/contamination-free-7b,7.2",
        "x/cheat-sheet-7b,7.2",
        "Qwen/Qwen1.5-MoE-A2.7B,14.3",  # a mixture that was trained as one
        "x/emerge-7b,7.2",
    )
    lines = [f"{row},{30 + i},pretrained" for i, row in enumerate(rows)]
    found = frontier(table("model,params_b,score,type", *lines)).flags
    assert [flag.model for flag in found] == []
    wrong = ("x/a-7b,8.99", "x/b-7b,3.1", "x/c-350m,1.2", "x/contaminated,7", "x/d-moe,7")
    lines = [f"{row},{30 + i},pretrained" for i, row in enumerate(wrong)]
    found = frontier(table("model,params_b,score,type", *lines)).flags
    assert [flag.kind for flag in found] == ["size"] * 3 + ["contamination", "label"]


def test_a_label_that_is_kept_counts_whatever_a_column_says(table: Write) -> None:
    rows = ("a,7e9,30,pretrained,true", "b,8e10,40,pretrained,false")
    path = table("model,params,score,type,merged", *rows)
    for keep, models in (((), 1), (("label",), 2)):
        curves = frontier(path, keep=keep, columns=Columns(merged="merged")).months[0].curves
        assert curves["no_merges"].models == models


def test_a_flag_later_than_all_that_counts_is_not_lost(table: Write) -> None:
    late = table(HEAD, *ROWS, "x/contaminated-8b,8,99,2024-05-01,chat")
    told = frontier(late)
    months = [flag.model for month in told.months for flag in month.flags]
    assert "x/contaminated-8b" in months and len(months) == len(told.flags)
    until = frontier(late, dates=["2023-12"])
    assert "x/contaminated-8b" not in [f.model for month in until.months for f in month.flags]


def test_notes_say_what_was_compared(table: Write) -> None:
    undated = frontier(table("model,params,score,date", "a,7e9,30,", "b,8e10,40,", "a,7e9,31,"))
    assert "no model that counts has a date: all are compared at once" in undated.notes
    assert "1 row has the name of another one: each counts as a model" in undated.notes
    assert not any("in no month" in note for note in undated.notes)
    hoaxes = frontier(table("model,params,score", "a-hoax,7e9,30", "b-hoax,8e10,40"))
    assert "no model is left to compare: the flags say why" in hoaxes.notes


def test_the_signature_has_all_that_the_numbers_depend_on(table: Write) -> None:
    path = table(f"{HEAD},m", *(f"{row},{i % 2}" for i, row in enumerate(ROWS)))
    bases = [str(table("model", name, name=f"{name[:4]}.csv")) for name in ("meta*", "face*")]
    given = (
        {},
        {"columns": Columns(merged="m")},
        {"columns": Columns(not_merged="m")},
        {"dates": ["2023-08"]},
        {"dates": ["2023-08-30"]},
        {"bases": bases[0]},
        {"bases": bases[1]},
        {"small": 12.9e9},
        {"small": 12.9e9 + 1},
    )
    signatures = [frontier(path, **one).signature for one in given]
    assert len(set(signatures)) == len(given)
    Path(bases[0]).write_text("model\nface*\n")
    assert frontier(path, bases=bases[0]).signature not in signatures


def test_resamples_are_checked_where_there_are_too_few_models_too(table: Write) -> None:
    path = table("model,params,score", "a,7e9,30", "b,8e10,40")
    with pytest.raises(PomonaError, match="-3 resamples are too few"):
        frontier(path, resamples=-3)


def test_its_page_has_curves_and_reasons(table: Write, tmp_path: Path) -> None:
    page = tmp_path / "page"
    larger = [
        f"EleutherAI/pythia-{n}b,{n},{n},2023-08-0{i},pretrained" for i, n in enumerate(SIZES, 1)
    ]
    path = table(HEAD, *ROWS, *larger)
    frontier(path, page=page)
    text = (page / "index.html").read_text()
    assert "data:image/svg+xml" in text and "<script" not in text
    assert "someone/Tiny-70b-distilled" in text and "its name says 70b" in text
    first = base64.b64decode(text.split("data:image/svg+xml;base64,")[1].split('"')[0]).decode()
    assert (
        first.count("no merges</text>") == 1
    )  # one legend, though colour and shape tell the curves
    few = tmp_path / "few"
    frontier(table(HEAD, *ROWS), page=few)
    assert "Share of larger models" not in (few / "index.html").read_text()  # nothing to draw
    for folder in (path, tmp_path):
        with pytest.raises(PomonaError, match=r"is an input|would be|lies in"):
            frontier(path, page=folder)

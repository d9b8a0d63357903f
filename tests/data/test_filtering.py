"""Rows by conditions: as SQL decides, counted by what they fall, and mistakes by their place."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona import records
from pomona.cli import main
from pomona.data import filter
from pomona.data.filtering.expression import condition
from pomona.errors import PomonaError
from pomona.records import as_records

ROWS = [
    {"text": "Ein Satz auf Deutsch, lang genug.", "lang": "de", "score": 0.5, "n": 1},
    {"text": "kurz", "lang": "de", "score": 0.9, "n": 2},
    {"text": "A sentence in English.", "lang": "en", "score": None, "n": 3},
    {"text": " \u3000", "lang": None, "score": float("nan"), "n": 4},
]
MORE = [
    {
        "meta": {"url": "a.org"},
        "tags": ["x"],
        "day": "2024-05-01",
        "p@m": 1.0,
        "ok": True,
        "no": None,
    },
    {"meta": None, "tags": [], "day": "2024-05-02", "p@m": 2.0, "ok": False},
    {"meta": {"url": None}, "tags": None, "day": None, "p@m": None, "ok": None},
    {"meta": {"url": "b.org"}, "tags": ["x", "y"], "day": "2025-01-01", "p@m": 4.0, "ok": True},
]
TABLE = pa.Table.from_pylist([one | more for one, more in zip(ROWS, MORE, strict=True)])
TABLE = TABLE.set_column(
    TABLE.column_names.index("day"), "day", TABLE["day"].cast(pa.timestamp("s"))
)


def held(text: str) -> list[bool | None]:
    read = condition(text, as_records(TABLE))
    (batch,) = TABLE.select(read.columns).combine_chunks().to_batches()
    return read.test(batch).to_pylist()


@pytest.mark.parametrize(
    ("text", "wanted"),
    {
        'lang == "de" and score > 0.3 and len(text) >= 20': "tfff",
        "score is None or score > .6": "fttt",
        "not score > 0.6": "tf--",
        "score is not None": "ttff",
        'lang in ["en", "fr"]': "fft-",
        'lang not in ("en",)': "ttf-",
        "n in [2, 4]": "ftft",
        "n in [2.0, 2.5]": "ftff",
        '"at" in text': "tfff",
        'meta.url == "a.org"': "t--f",
        'meta["url"] is None': "fttf",
        "len(tags) > 0": "tf-t",
        'day >= "2024-05-02"': "ft-t",
        'column("p@m") * 2 - 1 > n': "ft-t",
        "0.1 < score <= 0.5": "tf--",
        "n / 0 > 1": "----",
        "ok": "tf-t",
        "not ok or n == 3": "fttf",
        "ok == false": "ft-f",
        r'matches(text, "^\w+$")': "ftff",
        r'matches(text, "\bSatz\b")': "tfff",
        'startswith(text, "A ") or endswith(lower(lang), "DE")': "fft-",
        'upper(strip(lang)) == "DE"': "ttf-",
        "words(text) == 4": "fftf",
        "empty(text)": "ffft",
        "number(text) > 1": "----",
        "abs(-n) > 2 and -n < +1": "fftt",
        "n == 99999999999999999999 or n == 1": "tfff",
        "no > 1 or n == 1": "t---",  # a column without any value
        'no == lang or "x" in no or no in ["x"] or no == no': "----",
        "not no or -no / 2 > n or empty(no) or len(no) > 1": "tttt",
    }.items(),
)
def test_conditions(text: str, wanted: str) -> None:
    assert held(text) == [{"t": True, "f": False, "-": None}[sign] for sign in wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    {
        "u == 9223372036854775809": [True, False, None, False],
        "u == 9007199254740992": [False, False, None, False],
        "u in [5, 9223372036854775809]": [True, True, None, False],
        "u > -1 and u > 2.5": [True, True, None, True],
        "u > i": [True, False, None, False],
        "i > 2.5": [False, True, True, True],
        "i < 9223372036854775808": [True] * 4,
        "d > 1.5": [False, True, None, True],
    }.items(),
)
def test_large_numbers_are_compared_as_they_are(text: str, wanted: list[bool | None]) -> None:
    table = pa.table(
        {
            "u": pa.array([2**63 + 1, 5, None, 2**53 + 1], pa.uint64()),
            "i": pa.array([-1, 5, 3, 2**53 + 1], pa.int64()),
            "d": pa.array([1, 2, None, 4]).cast(pa.decimal128(25, 2)),
        }
    )
    read = condition(text, as_records(table))
    (batch,) = table.select(read.columns).to_batches()
    assert read.test(batch).to_pylist() == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    {
        "scor > 1": 'character 1: there is no column "scor" in the table — did you mean "score"?',
        'ü" == text': "cannot be read from there on",
        'lang = "de"': "character 6: cannot be read from there on — write it like lang",
        '"ü" == lang or lang > 3': 'character 16: "lang" is a text and "3" a number',
        'ok and\n n > "a"': 'character 9: "n" is a number and',
        "foo(text)": 'there is no function "foo"',
        "lenn(text)": 'did you mean "len"?',
        "len(n)": "argument 1 is a number, not a text or list — write len(text)",
        "len(text, 3)": "it takes 1, not 2",
        "startswith(text, lang)": 'argument 2 is not written out — write startswith(text, "The")',
        'matches(text, "[")': "character 1: Invalid regular expression: missing ]: [",
        "p@m > 3": 'column("perplexity@ui-s")',
        'text.startswith("a")': "is no function — write a function of columns",
        "text.x == 1": '"text" is a text, without parts of a name',
        'meta.ur == "a"': 'character 1: "meta" has no part "ur" — did you mean "url"?',
        "1 < 2": "names no column",
        "score": '"score" is a number, not a condition',
        "lang == None": "character 9: nothing is equal to null — write NAME is None",
        'lang is "de"': "is goes with None alone",
        'lang in ["de", 3]': 'character 16: "3" is not a text as "lang" is',
        "lang in []": "there is nothing in it",
        "day > '2024'": 'write times like "2024-05-01"',
        "n in tags": '"n" in "tags" is no question',
        "~n": "~ has no place in a condition — write not",
        "ok > true": "is a truth and",
        "[n for n in text]": "has no place in a condition",
        "(lambda: 1)()": "is no function",
        "__import__('os')": 'there is no function "__import__"',
        'f"{n}" == text': "has no place in a condition",
        "b'a' == text": "is no text, number or truth",
        "n ** 9 ** 9 > 1": 'the sign in "n ** 9 ** 9" is unknown',
        "": "cannot be read",
        "n > 1" + " + 1" * 200: "or 100 within one another",
        "-" * 9000 + "n": "cannot be read",
        "(" * 5000: "cannot be read",
        " or ".join(["n > 1"] * 1000): "has more than 2,000 parts",
        "n > 1" + " " * 10 + "or n > 2" * 2000: "more than 10,000 characters",
        "n > " + "9" * 5000: "cannot be read",
    }.items(),
)
def test_what_is_wrong_has_its_place(text: str, told: str) -> None:
    with pytest.raises(PomonaError) as caught:
        condition(text, as_records(TABLE))
    assert told in str(caught.value)


_NUMBER = st.sampled_from(["a", "b", "1", "2.5", "-a", "a + b", "a - 1", "b * 2", "a / b"])
_ATOM = st.one_of(
    st.builds(
        "{} {} {}".format, _NUMBER, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _NUMBER
    ),
    st.builds("{} is {}".format, st.sampled_from("abt"), st.sampled_from(["None", "not None"])),
    st.sampled_from(['t == "x"', 't in ["x", "y"]', 't not in ["x"]', 't != "y"', 't < "y"']),
)
_WHOLE = st.recursive(
    _ATOM,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("(not {})".format, inner),
    ),
    max_leaves=6,
)
_CELLS = st.tuples(
    st.sampled_from([None, 0.0, 1.0, 2.5]), st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([None, "x", "y", "z"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_WHOLE, st.lists(_CELLS, min_size=1, max_size=8))
def test_null_is_what_it_is_in_sql(text: str, cells: list[tuple[Any, Any, Any]]) -> None:
    kinds = pa.schema([("a", pa.float64()), ("b", pa.int64()), ("t", pa.string())])
    rows = [dict(zip("abt", row, strict=True)) for row in cells]
    read = condition(
        f"({text}) and (a is None or a is not None)", as_records(pa.Table.from_pylist(rows, kinds))
    )
    found = read.test(pa.RecordBatch.from_pylist(rows, kinds)).to_pylist()
    lite = sqlite3.connect(":memory:")
    lite.execute("create table r (a real, b real, t text)")
    lite.executemany("insert into r values (?, ?, ?)", cells)
    sql = text.replace("None", "null").replace('"', "'").replace("[", "(").replace("]", ")")
    wanted = [one for (one,) in lite.execute(f"select {sql} from r")]
    assert found == [None if one is None else bool(one) for one in wanted]


def test_every_row_is_kept_or_counted_once(tmp_path: Path) -> None:
    out, rejects = tmp_path / "out.parquet", tmp_path / "rejects.parquet"
    card = filter(
        TABLE.select(["text", "lang", "score", "n"]), out, not_null=["lang"], not_empty=["text"],
        where=["score > 0.3", "score > 0.3", "n < 2"], group=None, rejects=rejects,
    )  # fmt: skip
    assert records.read(out).to_table().to_pylist() == ROWS[:1]
    assert card.removed == {
        "lang is not null": 1, "text is not empty": 0, "score > 0.3": 0,
        "score > 0.3 (unknown: null)": 1, "n < 2": 1,
    }  # fmt: skip
    assert [row["rows_out"] for row in card.details["attrition"]] == [3, 3, 2, 1]
    fallen = records.read(rejects).to_table().to_pylist()
    assert [row["reason"] for row in fallen] == [
        "n < 2",
        "score > 0.3 (unknown: null)",
        "lang is not null",
    ]
    assert [row["n"] for row in fallen] == [2, 3, 4]
    with pytest.raises(PomonaError, match='there is a column "reason" already'):
        filter(rejects, tmp_path / "again.jsonl", where=["n > 1"], rejects=tmp_path / "r.jsonl")


def test_by_language_and_counted_by_group(tmp_path: Path) -> None:
    german = "Der schnelle braune Fuchs springt über den faulen Hund und läuft davon."
    texts = [german, german, german, "12 34", None]
    table = pa.table({"text": texts, "lang": ["de", "en", "xx", "de", "de"]})
    card = filter(table, tmp_path / "out.jsonl", language="lang", group="lang")
    told = "text is in lang: at least 0.5"
    assert card.removed == {told: 1, f"{told} (unknown: null)": 3}
    assert card.groups == {"de": (3, 1), "en": (1, 0), "xx": (1, 0)}
    with pytest.raises(PomonaError, match=r"1\.5 is no confidence"):
        filter(table, tmp_path / "o.jsonl", language="lang", least=1.5)


def test_texts_may_be_in_conversations(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": said}]}
        for said in ("Good day", " ")
    ]
    out = tmp_path / "out.jsonl"
    card = filter(pa.Table.from_pylist(rows), out, not_empty=["messages.assistant"])
    assert card.removed == {"messages.assistant is not empty": 1}
    assert records.read(out).to_table().to_pylist() == rows[:1]


@pytest.mark.parametrize("beside", [False, True])
def test_conditions_on_what_a_role_says(tmp_path: Path, beside: bool) -> None:
    chats: list[Any] = [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": said}]
        for said in ("Good day", "No")
    ]
    if beside:
        chats = [{name: [one[name] for one in chat] for name in chat[0]} for chat in chats]
    table, out = (
        pa.Table.from_pylist([{"m": {"c": chat}} for chat in chats]),
        tmp_path / "o.parquet",
    )
    for where, rows in (
        ("len(m.c.assistant) > 3", 1),
        ('m.c.user == "Hi"', 2),
        ("m.c.system is None", 2),
        ('not startswith(m.c.assistant, "Good")', 1),
    ):
        assert filter(table, out, where=[where]).rows_out == rows
    with pytest.raises(PomonaError, match=r"character 9: .*known: .*tool, user"):
        filter(table, out, where=["1 < len(m.c.nobody)"])


def test_nothing_left_and_nothing_asked(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match="no row passes all conditions"):
        filter(TABLE, tmp_path / "out.parquet", where=["n > 9"])
    with pytest.raises(PomonaError, match="no condition is given"):
        filter(TABLE, tmp_path / "out.parquet")
    assert filter(TABLE, tmp_path / "out.parquet", where="n > 9", dry_run=True).rows_out == 0
    with pytest.raises(PomonaError, match="there are no rows"):
        filter(TABLE.slice(0, 0), tmp_path / "out.parquet", where=["n > 9"])
    assert not list(tmp_path.iterdir())


def test_malformed_rows_lie_beside_those_that_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"n": 1}\nnope\n{"n": 2}\n')
    words = ["data", "filter", "in.jsonl", "--out", "o.jsonl", "--where", "n > 1"]
    assert main(words) == 2
    assert "in.jsonl, line 2: not valid JSON" in capsys.readouterr().err
    assert main([*words, "--on-error", "reject"]) == 2
    assert "go together" in capsys.readouterr().err
    words += ["--on-error", "reject", "--rejects", "r.jsonl"]
    assert main([*words, "--dry-run", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == 1
    assert main(words) == 0
    assert Path("r.jsonl").read_text() == '{"n": 1, "reason": "n > 1"}\n'
    assert json.loads(Path("r.malformed.jsonl").read_text())["line"] == 2
    assert main(words) == 0, "its own files are replaced"

"""Tags: what is known of rows, by what, and how surely; the training form, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.markers import Taxonomy, apply, report, strip, tag, training_rows
from pomona.markers.formats import code_types, formats
from pomona.records import Records, TableSource, read

OWN = """
markers:
  quality: {kind: float}
  quality_bucket: {kind: buckets, of: quality, within: lang, values: ["1", "2"]}
  characters: {kind: integer, measure: characters}
  sentences: {kind: integer, measure: sentences}
  paragraphs: {kind: integer, measure: paragraphs}
  length: {kind: buckets, of: characters, edges: [9, 20], values: [short, medium, long]}
  untranslated: {kind: values, measure: untranslated, values: ["yes", "no"]}
  format: {kind: values, measure: format, values: [JSON, Markdown]}
  lang: {kind: text, column: lang}
  tone:
    kind: values
    values:
      asking: {rules: [{regex: "[?]"}]}
      crying: {rules: [{regex: "!"}]}
"""
TEXTS = [
    ("Hello", "Hallo"),
    ("Save", "Save"),
    ("Why? Tell me. Now", "Warum? Sag es mir. Jetzt"),
    ("%s", "%s"),
    ("a ~| b <MARKER_LIST> c", '{"a": 1}'),
    ("Two", "Eins. Zwei!\n\nDrei 3.5"),
]
ROWS = [
    {
        "id": f"r{at}",
        "prompt": one,
        "completion": two,
        "lang": "de",
        "score": at / 2,
        "manner": "formal",
    }
    for at, (one, two) in enumerate(TEXTS)
]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return read(path).to_table().to_pylist()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(OWN)
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    Path("in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def test_each_tag_says_what_said_it_and_how_surely(here: Path) -> None:
    card = tag("in.jsonl", "t.parquet", taxonomy="own.yaml", columns=["quality=score"])
    rows = rows_of(here / "t.parquet")
    values = {name: [row[f"marker_{name}"] for row in rows] for name in card.details["known"]}
    assert values["characters"] == [len(two) for _, two in TEXTS]
    assert values["sentences"] == [1, 1, 3, 1, 1, 3]
    assert values["paragraphs"] == [1, 1, 1, 1, 1, 2]
    assert values["length"] == ["short", "short", "long", "short", "short", "long"]
    assert values["untranslated"] == ["no", "yes", "no", None, "no", "no"]
    assert values["format"] == [None] * 4 + ["JSON", None]
    assert values["quality_bucket"] == ["2", "2", "2", "1", "1", "1"]  # the first is the best
    assert values["tone"] == [None, None, "asking", None, None, "crying"]
    last = rows[-1]
    assert last["marker_tone_by"] == "rules"
    assert last["marker_quality_bucket_by"] == "column"
    assert last["marker_quality_sure"] is None
    assert (last["marker_length_by"], last["marker_length_sure"]) == ("measured", 1.0)
    assert rows[0]["marker_tone_by"] is None


@pytest.mark.parametrize("form", ["verbose", "compact"])
def test_the_rows_come_back_to_the_byte(
    here: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["markers", "tag", "in.jsonl", "--out", "t.jsonl", "--taxonomy", "own.yaml"]) == 0
    line = ["markers", "apply", "t.jsonl", "--out", "a.jsonl", "--taxonomy", "own.yaml"]
    assert main([*line, "--form", form, "--dataset-dropout", "0"]) == 0
    for name in ("t", "a"):
        assert main(["markers", "strip", f"{name}.jsonl", "--out", f"{name}-back.jsonl"]) == 0
        assert Path(f"{name}-back.jsonl").read_bytes() == Path("in.jsonl").read_bytes()
    capsys.readouterr()
    assert main(["markers", "report", "t.jsonl", "--format", "json"]) == 0
    told = {one["marker"]: one for one in json.loads(capsys.readouterr().out)["markers"]}
    assert told["quality"] == {
        "marker": "quality", "known": 0, "share": 0.0, "by": {}, "sure": None, "values": {},
        "quantiles": None, "tail": {}, "tail_rows": 0,
    }  # fmt: skip
    assert told["untranslated"]["values"] == {"no": 4, "yes": 1}
    assert told["characters"]["quantiles"]["0.5"] == 6.5
    found = json.loads(Path("a.jsonl").read_text().splitlines()[1])
    assert found["completion"].endswith("> Save" if form == "verbose" else "|Save")


def test_what_a_prompt_shows_depends_on_its_row_alone() -> None:
    told = Taxonomy.model_validate(
        {"markers": {"lang": {"kind": "text"}, "n": {"kind": "integer"}}}
    )
    n = 2000
    table = pa.table(
        {"id": [f"{row}" for row in range(n)], "prompt": ["p"] * n, "completion": ["c"] * n,
         "marker_lang": ["de"] * n, "marker_n": list(range(n))}
    )  # fmt: skip
    options: Any = {"prompt": "prompt", "completion": "completion", "id": "id", "form": "verbose"}
    made = training_rows(table, told, **options).to_pylist()
    other = training_rows(table.slice(0, 100).take(list(range(99, -1, -1))), told, **options)
    assert other.to_pylist() == made[99::-1]
    again = training_rows(table, told, **options, seed=1).to_pylist()
    assert sum(one["prompt"] != two["prompt"] for one, two in zip(made, again, strict=True)) > n / 2
    assert all("<lang> de </lang> <n>" in row["completion"] for row in made)
    # Half of the lists are dropped, of the others half of the markers: with both gone none is left.
    assert sum("MARKER_LIST" in row["prompt"] for row in made) / n == pytest.approx(3 / 8, abs=0.04)
    assert sum("<lang>" in row["prompt"] for row in made) / n == pytest.approx(1 / 4, abs=0.04)
    both = sum("<lang>" in row["prompt"] and "<n>" in row["prompt"] for row in made)
    assert both / n == pytest.approx(1 / 8, abs=0.03)


def _batch(n: int) -> dict[str, list[Any]]:
    return {"n": [*range(n)], "prompt": [f"p{row}" for row in range(n)], "completion": ["c"] * n,
            "marker_lang": ["de", None] * (n // 2), "marker_n": [*range(n)]}  # fmt: skip


LANG_N = Taxonomy.model_validate({"markers": {"lang": {"kind": "text"}, "n": {"kind": "integer"}}})


def test_batches_of_other_libraries_are_what_they_were_with_lists() -> None:
    batch = _batch(400)
    made = training_rows(batch, LANG_N, form="compact")
    assert made.keys() == {*batch, "marker_form"} and made["n"] is batch["n"]
    assert made["completion"][:3] == [" de 0|c", " x 1|c", " de 2|c"]
    table = training_rows(pa.table(batch), LANG_N, form="compact")
    assert table.to_pydict() == made
    one = {name: values[7:8] for name, values in batch.items()}  # of what else is in a batch
    assert training_rows(one, LANG_N, form="compact")["prompt"] == made["prompt"][7:8]
    # Each pass has draws of its own, and the same share of prompts without a list.
    passes = [training_rows(batch, LANG_N, form="compact", epoch=e)["prompt"] for e in range(3)]
    assert passes[0] == made["prompt"] and len({*map(str, passes)}) == 3
    for prompts in passes:
        assert sum("~|" in text for text in prompts) / 400 == pytest.approx(5 / 16, abs=0.08)
    assert training_rows(batch, LANG_N, form="compact", seed=1)["prompt"] not in passes
    none = training_rows({**batch, "marker_lang": [None] * 400}, LANG_N, form="compact")
    assert none["completion"][0] == " x 0|c"


def test_without_lists_in_answers_all_that_is_known_stands_in_prompts(tmp_path: Path) -> None:
    told: Any = {"answers": False, "dataset_dropout": 0, "sample_dropout": 0}
    made = training_rows(pa.table(_batch(4)), LANG_N, **told)
    assert made["prompt"].to_pylist()[1] == "p1 <MARKER_LIST> <n> 1 </n> </MARKER_LIST>"
    assert made["completion"].to_pylist() == ["c"] * 4
    nulls: Any = {f"marker_{name}_{end}": pa.nulls(4) for name in ("n", "lang")
                  for end in ("by", "sure")}  # fmt: skip
    for name, column in nulls.items():
        made = made.append_column(name, column)
    strip(made, tmp_path / "o.jsonl")  # pyright: ignore[reportArgumentType]
    assert [row["prompt"] for row in rows_of(tmp_path / "o.jsonl")] == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"marker_n": None}, 'no column "marker_n" — tag the rows with this taxonomy'),
        ({"prompt": None}, 'no column "prompt" — name one that there is'),
        ({"marker_form": ["x"] * 4}, "in the training form already"),
        ({"prompt": ["a", None, "b", "c"]}, 'row 2: "prompt" is null'),
        ({"prompt": [1, 2, 3, 4]}, '"prompt" holds int64, not text'),
        ({"marker_n": [1, 2, "x", 3]}, '"marker_n" holds values of several types'),
        ({"marker_n": ["x"] * 4}, 'column "marker_n" holds string, and the marker is integer'),
    ],
)
def test_batches_that_cannot_be_trained_on(change: dict[str, Any], said: str) -> None:
    batch = {name: values for name, values in {**_batch(4), **change}.items() if values}
    with pytest.raises(PomonaError, match=re.escape(said)):
        training_rows(batch, LANG_N)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tag in.jsonl --taxonomy own.yaml --columns qualty=score", 'did you mean "quality"?'),
        ("tag in.jsonl --taxonomy own.yaml --columns quality=scor", 'did you mean "score"?'),
        ("tag in.jsonl --taxonomy own.yaml --columns tone=lang",
         'in.jsonl, row 1: "tone" from column "lang" is \'de\', which is none of its values'),
        ("tag in.jsonl --columns style=manner", 'is \'formal\', which is none of its values — '
         'did you mean "Formal"?'),
        ("tag in.jsonl --taxonomy own.yaml --columns quality=-scor", 'did you mean "score"?'),
        ("tag in.jsonl --taxonomy own.yaml --columns tone=-score",
         '"tone" is no number, and "-score" turns numbers around — write tone=score'),
        ("tag in.jsonl --columns quality=score --columns quality=lang", '"quality" is named twice'),
        ("tag in.jsonl --completion complet", 'did you mean "completion"?'),
        ("tag in.jsonl --completion score", "holds double, neither text nor messages"),
        ("tag in.jsonl --taxonomy none.yaml", "no such taxonomy of markers"),
        ("apply in.jsonl --taxonomy own.yaml", "has no columns of markers"),
        ("apply t.jsonl", 'has no column "marker_quality'),
        ("apply t.jsonl --taxonomy own.yaml --sample-dropout 2", "2.0 is no share"),
        ("strip in.jsonl", "has no columns of markers"),
        ("tag t.jsonl --taxonomy own.yaml", 'there is a column "marker_'),
    ],
)  # fmt: skip
def test_mistakes_are_told(
    here: Path, line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {"marker_length": "short", "marker_length_by": "measured", "marker_length_sure": 1.0}
    Path("t.jsonl").write_text("".join(json.dumps(row | tags) + "\n" for row in ROWS))
    assert main(["markers", *line.split(), "--out", "o.jsonl"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("o.jsonl").exists()


def test_a_model_says_what_is_defined_in_words(here: Path, fake: Any) -> None:
    Path("own.yaml").write_text(
        "markers:\n  kind:\n    kind: values\n    values:\n"
        "      word: {definition: a single word}\n      text: {definition: more than a word}\n"
    )
    model = fake(lambda _, index, __: "text" if index == 1 else "word")
    tag(read("in.jsonl").head(2), "t.parquet", taxonomy="own.yaml", model=model)
    names = ("marker_kind", "marker_kind_by", "marker_kind_sure")
    told = [tuple(row[name] for name in names) for row in rows_of(here / "t.parquet")]
    assert told == [("word", "model", 0.8)] * 2
    assert "a single word" in str(model.made[0][0].messages)


def test_what_was_not_applied_does_not_come_off(here: Path) -> None:
    tag("in.jsonl", "t.parquet", taxonomy="own.yaml")
    apply("t.parquet", "a.parquet", taxonomy="own.yaml")
    with pytest.raises(PomonaError, match="in the training form already"):
        apply("a.parquet", "b.parquet", taxonomy="own.yaml")
    table = read("a.parquet").to_table()
    place = table.column_names.index("completion")
    for text in ("plain", "one </MARKER_LIST> other"):
        worn = table.set_column(place, "completion", pa.array([text] * len(ROWS)))
        with pytest.raises(PomonaError, match=r'row 1: "completion" does not begin with a list'):
            strip(worn, "b.parquet")  # pyright: ignore[reportArgumentType]
    assert report("t.parquet").rows_in == len(ROWS)


def test_what_lists_cost_and_rows_that_are_few(here: Path) -> None:
    Path("own.yaml").write_text(OWN.replace("[short, medium, long]", "[s, m, l]"))
    none = read("in.jsonl").head(0).to_table()
    for name, rows in {"none": none, "all": read("in.jsonl")}.items():
        tag(rows, f"{name}.parquet", taxonomy="own.yaml")  # pyright: ignore[reportArgumentType]
        for form in ("compact", "verbose"):
            out = f"{name}-{form}.parquet"
            apply(f"{name}.parquet", out, taxonomy="own.yaml", form=form, dataset_dropout=1)  # pyright: ignore[reportArgumentType]
            assert report(out).rows_in == (0 if name == "none" else len(ROWS))
    short, long = (report(f"all-{form}.parquet", tokenizer="ui-s").tokens for form in
                   ("compact", "verbose"))  # fmt: skip
    assert short is not None and long is not None
    assert short["prompt"] == long["prompt"]
    assert long["prompt_list"] >= 0 and 1 < short["times"] < long["times"] / 3
    with pytest.raises(PomonaError, match="has no lists to count"):
        report("all.parquet", tokenizer="ui-s")


def test_formats_are_parsed() -> None:
    texts = {
        '{"a": [1, 2]}': "JSON", "{a}": None, "{}": None, "[1]": "JSON", "[x]": None,
        "<p>Hi <b>you</b></p>": "XML", "<p>Hi": None, "12": None, "": None, "A": None,
        "| a | b |\n|---|---|\n| 1 | 2 |": "Tabular", "a\tb\n1\t2": "Tabular", "a | b": None,
        "# Title\n\nText": "Markdown", "see [this](x.html)": "Markdown", "a * b * c": None,
        r"$$x^2$$": "Latex", r"\begin{a}x\end{a}": "Latex", "costs $5": None,
        "1. one\n2. two": "Enumeration", "- one\n- two": "Enumeration", "- one": None,
        "[" * 5000 + "]" * 5000: None, "\\(" * 20_000: None, "\\[" * 20_000: None,
    }  # fmt: skip
    assert {text: value for text, (value, _) in zip(texts, formats([*texts]), strict=True)} == texts
    code = {"```py\nx\n```": "Python", "def f(a):\n  pass": "Python", "#include <x.h>": "C",
            "SELECT a FROM b": "SQL", "Hello": None}  # fmt: skip
    assert {text: kind for text, (kind, _) in zip(code, code_types([*code]), strict=True)} == code


def test_quartiles_of_a_score_are_within_each_language_and_ties_share_one(here: Path) -> None:
    scores: dict[str, list[float | None]] = {
        "de": [8, 1, 2, 7, 3, 6, 4, 5], "fr": [0.0, 0.0, 0.0, 1.0, None, float("nan")],
        "nl": [3, 3, 3, 3], "it": [1, 2, 3],
    }  # fmt: skip
    rows = [(lang, score) for lang, several in scores.items() for score in several]
    langs, losses = [list(one) for one in zip(*rows, strict=True)]
    table = pa.table({"lang": langs, "loss": losses, "completion": ["c"] * len(rows)})
    found: dict[str, dict[str, list[str | None]]] = {}
    for column in ("loss", "-loss"):
        source = Records.of(TableSource(table))
        out = tag(
            source, f"{column.strip('-')}-{len(column)}.parquet", columns=[f"quality={column}"]
        )
        told = rows_of(here / out.outputs[0].path)
        found[column] = {
            lang: [row["marker_quality_bucket"] for row in told if row["lang"] == lang]
            for lang in scores
        }
    assert found["loss"] == {
        "de": ["1", "4", "4", "1", "3", "2", "3", "2"], "fr": ["3", "3", "3", "1", None, None],
        "nl": [None] * 4, "it": [None] * 3,
    }  # fmt: skip
    assert found["-loss"]["de"] == ["4", "1", "1", "4", "2", "3", "2", "3"]
    assert found["-loss"]["fr"] == ["2", "2", "2", "4", None, None]


ODD = [
    '{"prompt": "Gr\\u00f6\\u00dfe", "completion": "taille", "n": 1.50, "meta": {"a": 1}}',
    '{"completion":"b","prompt":"a"}',
    '{"prompt": "a", "completion": "b", "n": null, "meta": {"b": "x"}}  ',
    '{"prompt": "a", "completion": "b", "n": 1e3, "meta": null}',
]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lines_that_we_would_write_otherwise_come_back_as_they_were(
    here: Path, end: str, kind: str
) -> None:
    text = (end or "\n").join(ODD) + end
    Path("odd.jsonl").write_bytes(text.encode())
    own = Taxonomy.model_validate({"markers": {"n": {"kind": "integer", "measure": "characters"}}})
    tag("odd.jsonl", f"t.{kind}", taxonomy=own)
    apply(f"t.{kind}", f"a.{kind}", taxonomy=own, form="compact")
    for name in ("t", "a"):
        strip(f"{name}.{kind}", f"{name}.back.jsonl")
        assert Path(f"{name}.back.jsonl").read_bytes() == text.encode()
    strip(f"a.{kind}", "back.parquet")
    assert read("back.parquet").to_table().equals(read("odd.jsonl").to_table())
    changed = read(f"a.{kind}").to_table().to_pylist()[::-1]
    changed[0]["n"] = 7.0
    strip(pa.Table.from_pylist(changed), "c.jsonl")  # pyright: ignore[reportArgumentType]
    lines = Path("c.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == json.loads(ODD[3]) | {"n": 7.0, "meta": None}
    assert lines[2:] == [ODD[1], ODD[0]]


@pytest.mark.parametrize("end", [b"\n", b"\r\n \n\n", b"", b"\n\t\n  "])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_blank_lines_and_a_mark_of_the_byte_order_come_back(
    here: Path, kind: str, end: bytes
) -> None:
    rows = [b'{"prompt": "a", "completion": "b"}', b'{"prompt":"c","completion":"d"}']
    head, blank = b"\n  \n", b"\n\n\n"
    if kind == "csv":
        rows, head, end = [b'a,"b\n\nx"', b"c,d"], b"prompt,completion\n\n", end.replace(b" ", b"")
        end = end.replace(b"\t", b"")
    text = b"\xef\xbb\xbf" + head + blank.join(rows) + end
    Path(f"in.{kind}").write_bytes(text)
    own = Taxonomy.model_validate({"markers": {"n": {"kind": "integer", "measure": "characters"}}})
    tag(f"in.{kind}", "t.parquet", taxonomy=own)
    strip("t.parquet", f"back.{kind}")
    assert Path(f"back.{kind}").read_bytes() == text
    table = read("t.parquet").to_table()
    strip(table.take([1, 0]), f"back.{kind}")  # pyright: ignore[reportArgumentType]
    assert read(f"back.{kind}").to_table().equals(read(f"in.{kind}").to_table().take([1, 0]))
    assert b"\xef\xbb\xbf" not in Path(f"back.{kind}").read_bytes()
    tag([f"in.{kind}"] * 2, "t.parquet", taxonomy=own)
    strip("t.parquet", f"back.{kind}")
    assert read(f"back.{kind}").to_table()["prompt"].to_pylist() == ["a", "c"] * 2


def test_rows_without_a_text_stop_or_are_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": p, "completion": c, "n": 1} for p, c in zip("ab", "xy", strict=True)]
    rows += [
        {**rows[0], "prompt": None},
        {**rows[0], "completion": None},
        {**rows[0], "prompt": ""},
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = Taxonomy.model_validate({"markers": {"n": {"kind": "integer", "column": "n"}}})
    tag("in.jsonl", "t.jsonl", taxonomy=own)
    Path("own.yaml").write_text("markers: {n: {kind: integer, column: n}}")
    line = ["markers", "apply", "t.jsonl", "--out", "a.jsonl", "--taxonomy", "own.yaml"]
    assert main(line) == 2 and not Path("a.jsonl").exists()
    told = capsys.readouterr().err
    assert (
        't.jsonl, row 3: "prompt" is null — leave out rows without a text: --on-error drop' in told
    )
    assert main([*line, "--on-error", "reject", "--rejects", "r.jsonl"]) == 0
    assert read("a.jsonl").to_table()["n"].to_pylist() == [1, 1, 1]
    left = [json.loads(row) for row in Path("r.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in left] == [
        f'column "{n}" is null' for n in ("prompt", "completion")
    ]
    assert json.loads(Path("a.jsonl.card.json").read_text())["left_out"] == 2


def test_a_report_has_a_page_of_values_and_what_says_them(here: Path) -> None:
    told: Any = {"marker_lang": "<b>de", "marker_lang_by": "column", "marker_lang_sure": None}
    rows = [{"text": "a", **told}] * 30 + [
        {"text": "b", **told, "marker_lang": f"l{n}"} for n in range(50)
    ]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["markers", "report", "t.jsonl", "--page", "p"]) == 0
    page = Path("p/index.html").read_text()
    assert "1 of 1 markers are known of some of 80 rows" in page and "data:image/svg" in page
    assert "&lt;b&gt;de" in page and "<b>de" not in page and "37.5%" in page
    assert page.count("<td>l") == 1 + 39 and "<td>others</td>" in page  # lang; of 51 values 40
    Path("none.jsonl").write_text(json.dumps({"text": "a", **told, "marker_lang": None}) + "\n")
    assert main(["markers", "report", "none.jsonl", "--page", "p"]) == 0
    assert "0 of 1 markers" in Path("p/index.html").read_text()


def test_a_value_that_comes_late_in_a_file_of_json_is_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.records.text_source.SAMPLE_ROWS", 10)
    rows = [{"completion": "c", "n": None}] * 11 + [{"completion": "{}", "n": 3}]
    tagged = [
        row | {"marker_n": row["n"], "marker_n_by": None, "marker_n_sure": None} for row in rows
    ]
    tagged[-1]["marker_n_by"] = "column"
    Path("late.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tagged))
    assert report("late.jsonl").markers[0].by == {"column": 1}
    strip("late.jsonl", "back.jsonl")
    assert Path("back.jsonl").read_text() == "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_of_csv_come_back_as_they_were(here: Path, end: bytes, kind: str) -> None:
    rows = [b"prompt,completion,n", b"a,b,007", b'"a ~| ""x""\ny",b,', b'"c","",1.50', b"d,e, f "]
    text = (end or b"\n").join(rows) + end
    Path("odd.csv").write_bytes(text)
    own = Taxonomy.model_validate({"markers": {"n": {"kind": "integer", "measure": "characters"}}})
    tag("odd.csv", f"t.{kind}", taxonomy=own)
    apply(f"t.{kind}", f"a.{kind}", taxonomy=own, form="compact")
    for name in ("t", "a"):
        strip(f"{name}.{kind}", f"{name}.back.csv")
        assert Path(f"{name}.back.csv").read_bytes() == text
    changed = read(f"a.{kind}").to_table().to_pylist()[::-1]
    changed[0]["n"] = "7"
    strip(pa.Table.from_pylist(changed), "c.csv")  # pyright: ignore[reportArgumentType]
    back = read("c.csv").to_table()
    assert back["n"].to_pylist() == ["7", "1.50", None, "007"]
    assert Path("c.csv").read_bytes().startswith(b'"prompt","completion","n"\n"d","e","7"\n')

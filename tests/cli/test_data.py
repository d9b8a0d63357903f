"""`pomona data` from files to files, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pomona.cli import main
from pomona.records import engines

Capture = pytest.CaptureFixture[str]
WORDS = [f"word{i}" for i in range(20)]


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Ten documents, of which two repeat others, one of them nearly."""
    texts = [" ".join(WORDS[i:] + WORDS[:i] + [f"number{i}", f"page{i}"]) for i in range(8)]
    texts += [texts[0], texts[1] + " again"]
    rows = [
        {"text": text, "lang": "en" if i % 2 else "de", "score": float(i)}
        for i, text in enumerate(texts)
    ]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(capsys: Capture, *arguments: object) -> Any:
    """What a command says as JSON."""
    assert main([*map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_dedup_says_what_went_and_why(documents: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "kept.parquet"
    assert (
        main(
            [
                "data",
                "dedup",
                str(documents),
                "--out",
                str(out),
                "--threshold",
                "0.8",
                "--shingle-size",
                "3",
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "removed: exact" in text
    assert "removed: near" in text
    assert "threshold:0.8" in text
    assert pq.read_table(out).num_rows == 8
    assert json.loads(Path(f"{out}.card.json").read_text())["removed"] == {"exact": 1, "near": 1}
    assert pq.read_table(f"{out}.pairs.parquet").num_rows == 2


def test_a_dry_run_counts_and_writes_nothing(
    documents: Path, tmp_path: Path, capsys: Capture
) -> None:
    told = said(
        capsys,
        "data",
        "dedup",
        documents,
        "--out",
        tmp_path / "kept.parquet",
        "--method",
        "exact",
        "--dry-run",
    )
    assert (told["rows_in"], told["rows_out"], told["out"]) == (10, 9, None)
    assert list(tmp_path.iterdir()) == [documents]


def test_rates_are_those_of_lee(documents: Path, capsys: Capture) -> None:
    found = {
        row["rate"]: row for row in said(capsys, "data", "rates", documents, "--valid", documents)
    }
    assert found["valid in train"] == {
        "rate": "valid in train",
        "documents": 10,
        "duplicated": 10,
        "share": 1.0,
    }
    assert found["train in train"]["documents"] == 10


def test_score_then_prune_then_sweep(documents: Path, tmp_path: Path, capsys: Capture) -> None:
    scored, kept = tmp_path / "scored.parquet", tmp_path / "kept.parquet"
    said(
        capsys,
        "data",
        "score",
        documents,
        "--out",
        scored,
        "--scores",
        "mtld",
        "--scores",
        "length",
        "--models",
        "ui-xs",
    )
    assert {"mtld", "length"} <= set(pq.read_table(scored).column_names)
    card = said(
        capsys,
        "data",
        "prune",
        scored,
        "--out",
        kept,
        "--by",
        "length",
        "--keep",
        "0.4",
        "--band",
        "top",
        "--within",
        "lang",
    )
    assert (card["rows_in"], card["rows_out"]) == (10, 4)
    cards = said(
        capsys,
        "data",
        "sweep",
        scored,
        "--out",
        tmp_path / "bands",
        "--by",
        "length",
        "--keep",
        "0.5",
    )
    assert {path.name for path in (tmp_path / "bands").glob("*.parquet")} == {
        f"{b}-0.5.parquet" for b in ("random", "bottom", "middle", "top")
    }
    assert len({card["rows_out"] for card in cards}) == 1


def test_mix_from_a_recipe(documents: Path, tmp_path: Path, capsys: Capture) -> None:
    recipe = tmp_path / "mix.yaml"
    recipe.write_text(
        f"inputs: {{a: {documents}, b: {documents}}}\ntotal: 20\nschedule: [{{to: 0.5, "
        f"weights: {{a: 1}}}}, {{weights: {{b: 1}}}}]\n"
    )
    card = said(capsys, "data", "mix", recipe, "--out", tmp_path / "mixed.parquet")
    assert card["rows_out"] == 20
    assert (
        pq.read_table(tmp_path / "mixed.parquet")["dataset"].to_pylist() == ["a"] * 10 + ["b"] * 10
    )


def test_audit_sample_and_report(documents: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "audit"
    said(capsys, "data", "audit", "sample", documents, "--out", folder, "--n", "3")
    assert main(["data", "audit", "report", str(folder)]) == 0
    assert "0 of 6 rows labelled by people" in capsys.readouterr().out
    assert (folder / "report.html").is_file()


def test_repeated_data_are_worth_less(capsys: Capture) -> None:
    rows = said(capsys, "data", "value", "--unique", "1e9", "--epochs", "4")
    assert rows == [{"epochs": 4.0, "tokens": 4e9, "worth": pytest.approx(3.726e9, rel=1e-3)}]


@pytest.mark.parametrize(
    "command",
    [
        "dedup IN --method exact --out OUT",
        "dedup IN --method minhash --out OUT",
        "dedup IN --method substring --min-length 5 --out OUT",
        "dedup IN --method semantic --model ui-xs --out OUT",
        "rates documents.jsonl --valid more.jsonl",
        "score IN --scores mtld --models ui-xs --out OUT",
        "order IN --models ui-xs --models ui-s@10 --prompt lang --completion text --n 4 --k "
        "3 --out OUT",
        "prune IN --by score --out OUT",
        "sweep IN --by score --keep 0.5 --bands top --out bands",
        "mix mix.yaml --out OUT",
        "audit sample IN --n 3 --out audit",
    ],
)
def test_every_engine_option_hands_jobs_to_the_cluster(
    command: str, documents: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    documents.with_name("more.jsonl").write_text(documents.read_text())
    Path("mix.yaml").write_text("inputs: {a: [documents.jsonl, more.jsonl]}\n")
    jobs: list[object] = []
    monkeypatch.setattr(engines, "_ray", lambda: None)
    monkeypatch.setattr(engines, "_slots", lambda *_: 2)
    monkeypatch.setattr(
        engines,
        "_on_ray",
        lambda function, given, _: map(function, (jobs.append(job) or job for job in given)),
    )
    stands = {"IN": ["documents.jsonl", "more.jsonl"], "OUT": ["out.parquet"]}
    arguments = ["data", *(part for word in command.split() for part in stands.get(word, [word]))]
    assert main([*arguments, "--engine", "ray"]) == 0, capsys.readouterr().err
    assert jobs
    assert main([*arguments, "--engine", "spark"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dedup", "nowhere.jsonl"], "nowhere.jsonl"),
        (["dedup", "INPUT", "--column", "txt"], 'there is no column "txt" — did you mean "text"?'),
        (["dedup", "INPUT", "--threshold", "1.5"], "threshold"),
        (["prune", "INPUT", "--by", "scor"], 'there is no column "scor" — did you mean "score"?'),
        (["score", "INPUT", "--scores", "perplexty"], 'did you mean "perplexity"?'),
        (["score", "INPUT", "--chat"], "chat goes with conversations, and column"),
    ],
)
def test_wrong_input_is_2_and_leaves_what_was_there(
    arguments: list[str],
    message: str,
    documents: Path,
    tmp_path: Path,
    capsys: Capture,
    earlier_results: Any,
) -> None:
    out = tmp_path / "out.parquet"
    before = earlier_results(out, "")
    assert (
        main(
            ["data", *(str(documents) if a == "INPUT" else a for a in arguments), "--out", str(out)]
        )
        == 2
    )
    assert message in capsys.readouterr().err
    assert {name: (tmp_path / name).read_text() for name in before} == before

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pomona.data.scores import score, score_names
from pomona.errors import PomonaError
from pomona.models import load, locate
from pomona.models.torch import TorchModel
from pomona.records import card_of

from .conftest import PROMPT

TEXTS = [
    "Save the draft",
    "Delete",
    "The page of the user was deleted, and the draft was saved. " * 8,
]


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"id": [3, 1, 2], "text": TEXTS, "lang": ["en", "en", "de"]})


def test_rows_keep_order_and_columns_and_the_card_says_what_was_done(
    table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "in.parquet")
    asked: list[tuple[int, int]] = []
    out = tmp_path / "out.jsonl"
    names = ["perplexity", "el2n", "memorization", "length", "mtld"]
    card = score(
        tmp_path / "in.parquet",
        out,
        scores=names,
        models=["ui-xs"],
        progress=lambda *at: asked.append(at),
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row) for row in rows] == [["id", "text", "lang", *names]] * 3
    assert [row["id"] for row in rows] == [3, 1, 2]
    assert rows[0]["memorization"] is None
    assert 0 <= rows[2]["memorization"] <= 1
    assert card.rows_in == card.rows_out == 3
    assert card.inputs[0].sha256
    assert card.details["columns"]["memorization"]["null"] == 2
    assert card.details["models"]["ui-xs"]["tokens"] == sum(row["length"] for row in rows) - 3
    assert "scores:perplexity,el2n,memorization,length,mtld|models:ui-xs" in card.signature
    assert json.loads(card_of(out).read_text())["signature"] == card.signature
    assert asked[-1] == (6, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.parquet",
        "out.jsonl",
        "out.jsonl.card.json",
    ]


def test_a_dry_run_counts_and_writes_nothing(table: pa.Table, tmp_path: Path) -> None:
    dry = score(
        table,
        tmp_path / "out.parquet",
        scores=["perplexity", "mtld"],
        models=["ui-xs"],
        dry_run=True,
    )
    assert list(tmp_path.iterdir()) == []
    wet = score(table, tmp_path / "out.parquet", scores=["perplexity", "mtld"], models=["ui-xs"])
    assert dry.details["models"] == wet.details["models"]
    assert dry.signature == wet.signature


def test_checkpoints_give_columns_each_and_scores_over_them(
    table: pa.Table, tmp_path: Path
) -> None:
    models = ["ui-xs", "ui-s@10"]
    names = ["perplexity", "cat_var", "cat_diff", "vog", "el2n"]
    score(
        pa.concat_tables([table] * 2),
        tmp_path / "out.parquet",
        scores=names,
        models=models,
        group="lang",
    )
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names[3:] == [
        "perplexity@ui-xs",
        "perplexity@ui-s@10",
        "cat_var",
        "cat_diff",
        "vog",
        "el2n",
    ]
    first, last = found["perplexity@ui-xs"].to_numpy(), found["perplexity@ui-s@10"].to_numpy()
    np.testing.assert_allclose(found["cat_diff"].to_numpy(), first - last)
    np.testing.assert_allclose(found["cat_var"].to_numpy(), np.var([first, last], axis=0))
    english = np.array(found["lang"].to_pylist()) == "en"
    vog = found["vog"].to_numpy()
    assert np.nanmean(vog[english]) == pytest.approx(0, abs=1e-9)
    assert vog[~english] == pytest.approx([0, 0], abs=1e-5)


def test_scores_of_text_need_no_model(table: pa.Table, tmp_path: Path) -> None:
    score(table, tmp_path / "out.parquet", scores=["length", "mtld"], models=[])
    assert pq.read_table(tmp_path / "out.parquet")["length"].to_pylist() == [
        len(text) for text in TEXTS
    ]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            {"text": ["a", None]},
            {},
            r'the table, row 2: column "text" is null — fill it, or leave such rows out: --on-error drop',
        ),
        (
            {"text": ["a b", " \n"]},
            {},
            r"the table, row 2: the text is empty — fill it, or leave such rows out: --on-error drop",
        ),
        ({"txt": ["a"]}, {}, r'there is no column "text" — did you mean "txt"\?'),
        (
            {"text": ["a"], "perplexity": [1.0]},
            {},
            r'there is a column "perplexity" already — drop it, or rename it',
        ),
        (
            {"text": ["a"]},
            {"scores": ["perplexty"]},
            r'unknown score "perplexty" — did you mean "perplexity"\?',
        ),
        (
            {"text": ["a"]},
            {"scores": ["vog"]},
            r'"vog" needs 2 or more models, and 1 are given — give that many, from early to late',
        ),
        ({"text": ["a"]}, {"models": ["ui-xs", "ui-xs"]}, "a model is named twice"),
        ({"text": ["a"]}, {"models": ["ui-xz"]}, r'unknown model "ui-xz"'),
        ({"text": ["a"]}, {"prompt": "text"}, "prompt and completion go together"),
        (
            {"text": ["a"]},
            {"chat": True},
            r'chat goes with conversations, and column "text" holds string — give prompt and',
        ),
        (
            {"text": ["a"]},
            {"chat": True, "prompt": "text", "completion": "text"},
            "a chat needs a chat template",
        ),
        (
            {"text": ["a"], "p": [""]},
            {"prompt": "p", "completion": "text"},
            r"row 1: the prompt is empty and the tokenizer has no start",
        ),
        ({"text": ["a"]}, {"scores": ["language"]}, r'there is no column "lang"'),
        ({"text": []}, {}, "there are no rows"),
    ],
)
def test_bad_input_is_named_and_nothing_is_lost(
    rows: dict[str, list[object]],
    options: dict[str, object],
    message: str,
    tmp_path: Path,
    earlier_results: Any,
) -> None:
    out = tmp_path / "out.parquet"
    before = earlier_results(out, "")
    with pytest.raises(PomonaError, match=message):
        score(pa.table(rows), out, **{"models": ["ui-xs"], **options})  # pyright: ignore[reportArgumentType]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_loss_that_is_no_number_names_the_row(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(uri: str, **options: object) -> TorchModel:
        model = load(uri, device="cpu")
        assert isinstance(model, TorchModel)
        with torch.no_grad():
            model.network.get_output_embeddings().weight[17] = float("nan")  # pyright: ignore[reportOptionalMemberAccess]
        return model

    monkeypatch.setattr("pomona.models.load", broken)
    with pytest.raises(
        PomonaError,
        match=r"the table, row 1: the loss under ui-xs is nan — score with --dtype float32",
    ):
        score(table, tmp_path / "out.parquet", models=["ui-xs"])


def test_chat_is_the_template_around_the_prompt(pairs: pa.Table, tmp_path: Path) -> None:
    folder = tmp_path / "talking"
    shutil.copytree(locate("ui-xs"), folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|de|>{{ m.content }}{% endfor %}{% if "
        "add_generation_prompt %}<|to|>{% endif %}"
    )
    options: dict[str, Any] = {
        "models": [str(folder)],
        "scores": ["perplexity", "memorization"],
        "completion": "translation",
    }
    for name, more in (
        ("chat", {"prompt": "english", "chat": True}),
        ("plain", {"prompt": "<|de|>{english}<|to|>"}),
    ):
        card = score(pairs, tmp_path / f"{name}.parquet", **options, **more)
        assert f"chat:{more.get('chat', False)}" in card.signature
    chat, plain = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("chat", "plain"))
    assert chat["perplexity"].to_pylist() == plain["perplexity"].to_pylist()
    assert chat["memorization"].to_pylist() == plain["memorization"].to_pylist()
    blank = pa.table({"text": ["Seite"], "p": [""]})
    score(
        blank,
        tmp_path / "blank.parquet",
        models=[str(folder)],
        prompt="p",
        completion="text",
        chat=True,
    )
    assert pq.read_table(tmp_path / "blank.parquet")["perplexity"][0].as_py() > 1


USERS = """
import numpy as np
def initials(texts, context):
    assert context.seed == 7
    return np.array([float(ord(text[0])) for text in texts])
def total(pairs, context):
    model = context.load(context.models[0])
    return np.array([float(row.sum()) for row in model.score([a for a, _ in pairs], [b for _, b in pairs])])
def wrong(texts, context):
    return np.array([1.0, np.nan, 2.0])
def short(texts, context):
    return np.array([1.0])
"""


@pytest.fixture
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with scores of its own, as pip would lay it out."""
    site = tmp_path_factory.mktemp("site")
    (site / "pomona_users.py").write_text(USERS)
    about = site / "pomona_users-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pomona-users\nVersion: 1.0\n")
    names = {name: name for name in ("initials", "total", "wrong", "short", "gone")} | {
        "mtld": "initials"
    }
    points = "".join(f"{name} = pomona_users:{function}\n" for name, function in names.items())
    (about / "entry_points.txt").write_text(f"[pomona.scores]\n{points}")
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("_installed")
def test_users_scores(table: pa.Table, pairs: pa.Table, tmp_path: Path) -> None:
    assert "initials" in score_names()
    out = tmp_path / "out.parquet"
    score(table, out, scores=["initials"], models=[], seed=7)
    assert pq.read_table(out)["initials"].to_pylist() == [ord(text[0]) for text in TEXTS]
    few = pairs.slice(0, 5)
    score(
        few,
        out,
        scores=["total", "perplexity"],
        models=["ui-xs"],
        prompt=PROMPT,
        completion="{translation}",
    )
    assert (pq.read_table(out)["total"].to_numpy() < 0).all()
    with pytest.raises(
        PomonaError, match=r'the table, row 2: the score "wrong" is nan — return a finite number'
    ):
        score(table, tmp_path / "no.parquet", scores=["wrong"], models=[])
    with pytest.raises(PomonaError, match='the score "gone" cannot be loaded'):
        score(table, tmp_path / "no.parquet", scores=["gone"], models=[])
    with pytest.raises(
        PomonaError, match='the score "mtld" is built in — give the entry point another name'
    ):
        score(table, tmp_path / "no.parquet", scores=["mtld"], models=[])
    with pytest.raises(
        PomonaError, match=r'score "short": gave \(1,\) values for 3 rows — return one number a row'
    ):
        score(table, tmp_path / "no.parquet", scores=["short"], models=[])


@pytest.mark.parametrize("scores", ["perplexity", "length"])
def test_without_torch_the_error_says_what_to_install(
    scores: str, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("pomona.models.torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    told = r"torch must be installed for this model — pip install 'pomona\[torch\]'"
    with pytest.raises(PomonaError, match=told):
        score(table, tmp_path / "o.parquet", scores=[scores], models=["ui-xs"])
    assert not list(tmp_path.iterdir())

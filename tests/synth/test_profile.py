from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.records import write
from pomona.stats import Resamples, Share, compare
from pomona.synth.profile import (
    Asking,
    Profile,
    TextColumns,
    calibration_error,
    profile,
    sentences,
    syllables,
)

ROOT = Path(__file__).parents[2]
CHINESE = "保存文件之前请先关闭所有窗口然后再打开文件如果文件已经存在请先删除旧文件" * 3


def table(*texts: str, **columns: list[Any]) -> pa.Table:
    return pa.table({"text": list(texts), **columns})


def alone(text: str, lang: str | None = None) -> dict[str, Any]:
    """The figures of a text."""
    columns = {} if lang is None else {"lang": [lang]}
    return {
        name: one.value for name, one in profile([table(text, **columns)]).first.metrics.items()
    }


# From lexicalrichness 0.5.1, given the same words: the licence, two of its paragraphs, Chinese.
LEGAL = (ROOT / "LICENSE").read_text(encoding="utf-8")
LONG = [part for part in LEGAL.split("\n\n") if len(part.split()) > 40]
GOLDEN = [
    (LEGAL, 58.75259259259259),
    (LONG[0], 37.5),
    (LONG[3], 49.72462407258011),
    (CHINESE, 39.64315508624253),
]


def test_mtld_is_that_of_lexicalrichness() -> None:
    found = [alone(text)["mtld"] for text, _ in GOLDEN]
    assert found == pytest.approx([value for _, value in GOLDEN], rel=1e-12)


@pytest.mark.parametrize(
    ("text", "fog", "rix"),
    [
        # 6 words, a sentence, nothing long: 0.4 × 6
        ("The cat sat on the mat.", 2.4, 0),
        # 6 words, 2 sentences, 3 with three syllables, 4 of seven letters: 0.4 × (3 + 50), 4 / 2
        ("Everybody applauded enthusiastically. It was raining!", 21.2, 2),
        # Dr. ends nothing: 5 words, 1 sentence, none with three syllables, 1 long
        ("Dr. Smith changed two tables.", 2.0, 1),
        # 10 words, 1 sentence, 2 with three syllables: 0.4 × (10 + 20)
        ("An interesting idea, e.g. a tiny wheel for a bicycle", 12.0, 2),
    ],
)
def test_readability_by_hand(text: str, fog: float, rix: float) -> None:
    figures = alone(text)
    assert figures["gunning_fog"] == pytest.approx(fog)
    assert figures["rix"] == pytest.approx(rix)


def test_syllables() -> None:
    english = {
        1: "the whole makes called used played tried whales tense cat rhythm",
        2: "table tables settled houses changes wanted people catches cities",
        3: "applauded bicycle documents computers",
        6: "enthusiastically",
    }
    for count, words in english.items():
        found = {word: syllables(word, english=True) for word in words.split()}
        assert found == dict.fromkeys(words.split(), count)
    assert syllables("молоко", english=False) == 3
    assert syllables("öffnete", english=False) == 3
    assert syllables("xyz", english=False) == syllables("123", english=True) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ('He said "No." Then he left… Again', 3),
        ("Version 3.5 is out, i.e. now. J. Smith wrote it", 2),
        ("Wait... what? no", 1),
        ("A title\n\nA paragraph", 2),
        ("先保存。再打开！", 2),
        ("यह पहला है। यह दूसरा है।", 2),
        ("…", 0),
        ("", 0),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


def test_what_does_not_apply_is_null_with_the_reason() -> None:
    chinese, thai = profile([table(CHINESE)]), profile([table("บันทึกไฟล์ก่อนปิด")])
    assert chinese.first.metrics["mtld"].value is not None
    assert chinese.first.metrics["sentence_length"].value == 108
    for name in ("rix", "gunning_fog"):
        one = chinese.first.metrics[name]
        assert (one.value, one.ci_low, one.n) == (None, None, 0)
        assert one.reason is not None and "without spaces between words" in one.reason
    assert "each letter counts as a word" in chinese.notes[-1]
    assert "Thai or Lao" in str(thai.first.metrics["sentences"].reason)
    greek = profile([table("Αποθήκευση του αρχείου.")]).first.metrics
    assert greek["rix"].value == 2
    assert "without a rule for syllables" in str(greek["gunning_fog"].reason)
    empty = profile([table("", "!!!")]).first.metrics
    assert empty["length"].value == 1.5 and empty["words"].value == 0
    assert "has no words" in str(empty["mtld"].reason)
    assert "1,000 words" in str(empty["distinct_2"].reason)
    few = profile([table("a b", "c d")]).first.metrics["length"]
    assert few.value == 3 and few.ci_low is None and "too few" in str(few.reason)


def texts(seed: int, n: int = 40, most: int = 12) -> list[str]:
    rng = np.random.default_rng(seed)
    words = np.array(["save", "file", "open", "the", "window", "documents", "of", "language"])
    return [" ".join(words[rng.integers(0, 8, rng.integers(1, most))]) + "." for _ in range(n)]


def test_differences_are_paired_by_id_as_compare_pairs_them() -> None:
    ids = [str(i) for i in range(40)]
    a, b = texts(0), texts(1)
    order = np.random.default_rng(2).permutation(40)
    shuffled = table(*(b[i] for i in order), id=[ids[i] for i in order])
    told = profile([table(*a, id=ids), shuffled], seed=3).others[0]
    one = told.differences["length"]
    names = sorted(ids)
    lengths = [
        np.array([[len(side[int(name)]), 1.0] for name in names], np.float64) for side in (b, a)
    ]
    wanted = compare(Share(), *lengths, Resamples(40, seed=3))
    assert (one.delta, one.ci_low, one.ci_high, one.p_value, one.n, one.paired) == (
        pytest.approx(wanted.delta), pytest.approx(wanted.ci_low), pytest.approx(wanted.ci_high),
        wanted.p_value, 40, True,
    )  # fmt: skip
    assert all(d.p_holm is None or d.p_holm >= d.p_value for d in told.differences.values())  # type: ignore[operator]
    apart = profile([table(*a), table(*b)]).others[0].differences["length"]
    assert not apart.paired and apart.delta == pytest.approx(one.delta)
    same = profile([table(*a), table(*a)]).others[0].differences
    assert same["mtld"].delta == 0 and same["mtld"].p_value == pytest.approx(1, abs=0.2)


def test_intervals_are_wider_over_clusters_and_hold_within_groups() -> None:
    told = texts(0) * 4
    clusters = [str(i % 40) for i in range(160)]
    groups = ["de" if i % 40 < 20 else "en" for i in range(160)]
    data = table(*told, cluster=clusters, lang=groups)
    plain = profile([data]).first.metrics["length"]
    drawn = profile([data], TextColumns(cluster="cluster", group="lang")).first
    one = drawn.metrics["length"]
    assert plain.ci_low and plain.ci_high and one.ci_low and one.ci_high
    assert one.value == plain.value
    assert one.ci_high - one.ci_low > 1.7 * (plain.ci_high - plain.ci_low)
    assert drawn.groups["de"]["words"].n == 80
    halves = [drawn.groups[name]["words"].value or 0 for name in ("de", "en")]
    assert np.mean(halves) == pytest.approx(drawn.metrics["words"].value)


def test_distinct_counts_different_words_of_a_block() -> None:
    rows = ["a b a b a"] * 200 + ["c d c d c"] * 200
    data = table(*rows, lang=["x"] * 200 + ["y"] * 200)
    found = profile([data], TextColumns(group="lang")).first
    assert found.groups["x"]["distinct_1"].value == 2 / 1000
    assert found.groups["x"]["distinct_2"].value == 2 / 800
    assert found.groups["x"]["distinct_3"].value == 2 / 600
    assert found.metrics["distinct_1"].value == 4 / 1000
    assert found.metrics["distinct_1"].n == 2


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_agrees_with_its_definition(rows: list[tuple[float, bool]]) -> None:
    def reference(bins: int) -> float:
        """Guo et al. 2017, eq. 3: the gap of each bin, weighted by its share."""
        error = 0.0
        for place in range(bins):
            low, high = place / bins, (place + 1) / bins
            held = [r for r in rows if low < r[0] <= high or (place == 0 and r[0] == 0)]
            if held:
                gap = np.mean([r[0] for r in held]) - np.mean([r[1] for r in held])
                error += len(held) / len(rows) * abs(float(gap))
        return error

    data = table(*"x" * len(rows), sure=[r[0] for r in rows], right=[r[1] for r in rows])
    found = profile([data], TextColumns(confidence="sure", correct="right")).first.metrics
    for bins in (1, 10):
        assert found[f"ece_{bins}"].value == pytest.approx(reference(bins), abs=1e-9)


def test_calibration_by_hand() -> None:
    sums = np.array([[0.3, -0.2, 0.1, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert calibration_error(sums)[0] == pytest.approx(0.3)
    assert np.isnan(calibration_error(sums)[1])


def test_toxicity_takes_the_worst_of_so_many_answers() -> None:
    scores = [0.1, 0.9, 0.2, 0.4, 0.3, 0.5, 1.0]
    prompts = ["p", "p", "p", "q", "q", "q", "r"]
    data = table(*"abcdefg", prompt=prompts, score=scores)

    def figures(samples: int) -> dict[str, Any]:
        return dict(profile([data], toxicity="column:score", samples=samples).first.metrics)

    three = figures(3)  # of r there is one answer
    assert three["toxicity_emt"].value == pytest.approx((0.9 + 0.5) / 2)
    assert (three["toxicity_probability"].value, three["toxicity_probability"].n) == (1, 2)
    assert three["toxicity"].value == pytest.approx(np.mean(scores))
    two = figures(2)  # the first two of each
    assert two["toxicity_emt"].value == pytest.approx((0.9 + 0.4) / 2)
    assert two["toxicity_probability"].value == 0.5
    many = figures(25)["toxicity_emt"]
    assert (
        many.value is None
        and "needs 25 answers to a prompt, and the most here are 3" in many.reason
    )
    rare = profile(
        [table(*"ab" * 10, score=[0.0] * 20)], toxicity="column:score", samples=1
    ).first.metrics["toxicity_probability"]
    assert rare.value == 0 and rare.ci_high == pytest.approx(0.161, abs=0.001)  # Wilson, 0 of 20


def test_lists_of_answers_are_answers_to_one_prompt(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("bad\nvery ugly\n", encoding="utf-8")
    rows = [
        ["A bad one", "good", "fine"],
        ["Very  UGLY!", "ugly", "very nice"],
        ["ok", "ok", "badly"],
    ]
    data = pa.table({"id": ["1", "2", "3"], "candidates": rows})
    columns = TextColumns(column="candidates")
    found = profile([data], columns, toxicity=f"words:{words}", samples=3).first
    assert found.rows == 9
    assert found.metrics["toxicity"].value == pytest.approx(2 / 9)
    assert found.metrics["toxicity_probability"].value == pytest.approx(2 / 3)
    with pytest.raises(PomonaError, match=r'"bad=" is no score — give NAME=SCORER'):
        profile([data], columns, scores=["bad="])
    with pytest.raises(PomonaError, match=r'"mtld" is taken'):
        profile([data], columns, scores=[f"mtld=words:{words}"])
    named = profile([data], columns, scores=[f"profanity=words:{words}"]).first.metrics
    assert named["profanity"].value == pytest.approx(2 / 9)


def test_rows_without_answers_are_counted_and_nulls_named() -> None:
    column = TextColumns(column="candidates")
    told = profile([pa.table({"candidates": [["a", "b"], [], ["c"]]})], column)
    assert told.first.rows == 3 and "rows without a text, left out: 1" in told.notes[0]
    with pytest.raises(PomonaError, match='row 2: column "candidates" is null'):
        profile([pa.table({"candidates": [["a"], [None, "b"]]})], column)


def test_a_function_of_the_users_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tone_of_texts.py").write_text(
        "def warm(texts):\n    return [-len(text) for text in texts]\n"
        "def broken(texts):\n    return [1]\n",
        encoding="utf-8",
    )
    data = table("ab", "cdef")
    found = profile([data], scores=["warm=tone_of_texts:warm"]).first.metrics["warm"]
    assert found.value == -3
    with pytest.raises(PomonaError, match=r"tone_of_texts:warm is -2, not from 0 to 1"):
        profile([data], toxicity="tone_of_texts:warm")
    with pytest.raises(PomonaError, match=r"gave the shape \(1,\) for 2 texts"):
        profile([data], toxicity="tone_of_texts:broken")


def test_a_classifier_in_a_folder_scores(tmp_path: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "good", "bad"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8
    )
    fast.save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    labels = {0: "fine", 1: "toxic"}
    config = LlamaConfig(
        vocab_size=4, intermediate_size=8, id2label=labels, pad_token_id=0, **sizes
    )
    network = LlamaForSequenceClassification(config)
    weights = [[9.0, 1] * 4, [1, 9] * 4]
    network.score.weight.data[:] = network.score.weight.data.new_tensor(weights)
    network.save_pretrained(tmp_path)
    texts = ["good bad", "bad " * 20, "bad"]
    with torch.inference_mode():
        ids = [torch.tensor([fast(text, truncation=True).input_ids]) for text in texts]
        shares = [network.eval()(one).logits.softmax(-1)[0].tolist() for one in ids]
    scores = [f"fine=hf:{tmp_path}#fine"]
    found = profile([table(*texts)], toxicity=f"hf:{tmp_path}", scores=scores).first.metrics
    fine, toxic = np.mean(shares, axis=0)
    assert found["toxicity"].value == pytest.approx(toxic, abs=1e-5)
    assert found["fine"].value == pytest.approx(fine, abs=1e-5)
    assert abs(fine - toxic) > 0.001
    with pytest.raises(
        PomonaError, match=r'no label "rude" — give hf:FOLDER#LABEL with one of fine'
    ):
        profile([table("good")], toxicity=f"hf:{tmp_path}#rude")


def test_models_are_profiled_by_their_answers_and_preferences(tmp_path: Path) -> None:
    prompts = write(
        pa.table({"id": ["a", "b"], "prompt": ["<|de|>Save<|to|>", "<|de|>Open file<|to|>"]}),
        tmp_path / "prompts.jsonl",
    )
    pairs = write(
        pa.table({"sent_more": ["Save file", "xq"], "sent_less": ["Zq vx qzz", "xq"]}),
        tmp_path / "pairs.csv",
    )
    asking = Asking(prompts, tmp_path / "kept", raw=True, max_tokens=4, bias=pairs)

    def told() -> Profile:
        return profile(["ui-xs"], asking=asking, samples=2, tokenizer="ui-xs")

    first = told()
    assert first.first.rows == 4
    assert first.first.metrics["stereotype"].value == 0.75  # likelier, and as likely
    assert 1 <= (first.first.metrics["tokens"].value or 0) <= 4
    card = tmp_path / "kept" / "ui-xs.parquet.card.json"
    assert told().to_json() == first.to_json()
    assert json.loads(card.read_text())["details"]["paid"]["completion_tokens"] == 0


CONFUSED = [
    ({"columns": TextColumns(column="tex")}, 'there is no column "tex"|no column'),
    ({"columns": TextColumns(column="score")}, 'column "score" holds double, not text'),
    ({"columns": TextColumns(cluster="holes")}, r'row 2: column "holes" is null — fill it'),
    ({"columns": TextColumns(confidence="score")}, "confidence and correct go together"),
    (
        {"columns": TextColumns(confidence="high", correct="score")},
        r'row 2: column "high" is 1.5, not from 0 to 1',
    ),
    (
        {"columns": TextColumns(confidence="score", correct="score")},
        r'row 1: column "score" is 0.1 — give true or false',
    ),
    ({"toxicity": "column:text"}, r'row 1: column "text" is "a", which is no number'),
    ({"toxicity": "nothing"}, r'"nothing": names nothing that scores texts — give words:FILE'),
    ({"toxicity": "words:none.txt"}, "none.txt: cannot be read"),
    ({"toxicity": "hf:none"}, "none: there is no config.json"),
    ({"tokenizer": "LICENSE"}, "is no tokenizer"),
    ({"samples": 0}, "samples: 0 are too few"),
    ({"level": 1}, "level: 1 is no share"),
    ({"asking": Asking(bias=Path("x.csv"))}, "there is no model to ask"),
]


@pytest.mark.parametrize(("options", "told"), CONFUSED)
def test_what_is_wrong_is_named(
    options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    data = table("a", "b", score=[0.1, 0.2], high=[1.0, 1.5], holes=["x", None])
    with pytest.raises(PomonaError, match=told):
        profile([data], **options)


def test_sides_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = write(table("a"), tmp_path / "no-prompts.jsonl")
    with pytest.raises(PomonaError, match=r'no-prompts.jsonl: there is no column "prompt"'):
        profile(["ui-xs"], asking=Asking(file, tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
    with pytest.raises(PomonaError, match="answers: a model's answers are kept"):
        profile(["ui-xs"], asking=Asking(file))
    with pytest.raises(
        PomonaError, match="no-such-model: is no table, and a model answers prompts"
    ):
        profile(["no-such-model"])
    with pytest.raises(PomonaError, match="there is nothing to profile"):
        profile([])
    sides = [table("a", id=["1"]), table("b", id=["2"])]
    assert not profile(sides).others[0].differences["length"].paired
    with pytest.raises(PomonaError, match='no value of the column "id" is on all sides'):
        profile(sides, TextColumns(id="id"))
    with pytest.raises(PomonaError, match="has no column text, completion, answer, translation"):
        profile([pa.table({"x": ["a"]})])
    with pytest.raises(PomonaError, match='row 2: column "text" is null'):
        profile([table("a", None)])  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(table(*texts(0), lang=["de", "en"] * 20), tmp_path / "before.jsonl")
    after = write(table(*texts(1, most=30), lang=["de", "en"] * 20), tmp_path / "after.csv")
    assert main(["synth", "profile", str(before), "--column", "text", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("mtld", "gunning_fog", "rix", "length"):
        one = told["metrics"][name]
        assert one["ci_low"] <= one["value"] <= one["ci_high"] and one["n"] == 40
        assert name in told["units"]
    assert (
        told["seed"] == 0 and told["signature"].startswith("profile|n:40|") and not told["compared"]
    )
    page = tmp_path / "page"
    options = ["--group", "lang", "--page", str(page)]
    assert main(["synth", "profile", str(before), str(after), *options]) == 0
    shown = capsys.readouterr().out
    assert "group de" in shown and "index.html" in shown and "p (Holm)" in shown
    written = (page / "index.html").read_text(encoding="utf-8")
    assert "What differs" in written and "mtld by group" in written and "<script" not in written
    assert main(["synth", "profile", str(before), "--page", str(tmp_path)]) == 2
    assert "nothing else may be there" in capsys.readouterr().err

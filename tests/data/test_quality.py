"""Rules of quality: equal to datatrove's on documents, and silent where they do not apply."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona import records
from pomona.data import score
from pomona.data.quality import QUALITY, quality
from pomona.errors import PomonaError

PROSE = (
    "The lake is quiet in the morning, and people who live near it walk there with their dogs "
    "before work. Most of them have done so for years; they know each other by name, and stop to "
    "talk about the weather. It's cold in winter, of course, but nobody minds that much."
)
MORE = (
    "\n\nIn spring the ice breaks up with a noise that can be heard in town. Mr. Smith, who isn't "
    "young, says that it was louder in 1962. We don't know if that is true, e.g. because nobody "
    "else was there to hear it."
)
GERMAN = "Die Straße ist lang — sehr lang. «Und?» fragte er; „ja“ sagte sie. "
LINES = (
    "Please enable JavaScript to read this page.\nToo short.\nWe use cookies on this very site.\n"
    f"No end here\n{PROSE.replace('morning,', 'morning [1],')} [edit]\nAnd so on..."
)
# What datatrove 0.10.1 with spaCy 3.8.18 says of them: the first rule that each set finds broken
# (its names in ours), then the part of characters in the commonest bigram, in repeated 5-grams and
# 10-grams, and of repeated lines.
GOLDEN = {
    "prose": (PROSE + MORE, None, None, None, 10 / 472, 0, 0, 0),
    "short": ("Only a few words here.", "top_2_gram", "sentences", "short_lines", 6 / 22, 0, 0, 0),
    "twice": (
        (PROSE + "\n") * 3, "duplicate_lines", None, "duplicate_characters", 30 / 795,
        421 / 795, 421 / 795, 0.5,
    ),
    "hashes": (
        PROSE + " #one #two #three #four #five #six #seven #eight", "hashes", "sentences",
        "line_punctuation", 10 / 312, 0, 0, 0,
    ),
    "lorem": (PROSE + "\nLorem ipsum dolor sit amet.", None, "lorem_ipsum", None, 10 / 292, 0, 0, 0),
    "curly": (PROSE + "\nThis { and that }, it is.", None, "curly_bracket", None, 10 / 290, 0, 0, 0),
    "grams": (
        "we went to the market and " * 20 + PROSE, "top_3_gram", "sentences", None, 140 / 784,
        366 / 784, 366 / 784, 0,
    ),
    "lines": (LINES, None, "sentences", None, 10 / 389, 0, 0, 0),
    "german": (
        GERMAN * 4, "top_3_gram", None, "line_punctuation", 40 / 268, 153 / 268, 153 / 268, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_datatrove_says_the_same(name: str) -> None:
    text, gopher, c4, fineweb, bigram, five, ten, lines = GOLDEN[name]
    found = {name: column.to_pylist()[0] for name, column in quality([text], list(QUALITY)).items()}
    reasons = [found[f"{rules}_reason"] for rules in QUALITY]
    assert reasons == [gopher, c4, fineweb]
    assert [found[rules] for rules in QUALITY] == [reason is None for reason in reasons]
    columns = ("top_2_gram", "duplicate_5_grams", "duplicate_10_grams", "duplicate_lines")
    numbers = [found[f"gopher_{column}"] for column in columns]
    assert numbers == pytest.approx([bigram, five, ten, lines], abs=1e-12)


def test_a_rule_is_silent_where_it_does_not_apply() -> None:
    chinese, hindi = "我们在湖边散步。他们带着狗。" * 30, "यह झील है। वे लोग घूमते हैं। " * 30
    texts, langs = [PROSE, PROSE, PROSE, chinese, hindi], ["en_GB", "de", "", "zh", "hi"]
    found = {name: column.to_pylist() for name, column in quality(texts, QUALITY, langs).items()}
    assert found["gopher_stop_words"] == [7, None, None, None, None]
    assert [one is None for one in found["gopher_words"]] == [False, False, False, True, False]
    assert [one is None for one in found["c4"]] == [False, False, False, True, True]
    assert found["c4_reason"][:3] == ["sentences"] * 3 and found["c4_lines_kept"][3:] == [
        None,
        None,
    ]
    assert found["fineweb_line_punctuation"][3] == 1 and found["fineweb_newlines"][3] is None
    assert found["gopher"][3] is True, "no line is repeated, and no other rule applies"
    assert quality([GERMAN], ["gopher"])["gopher_stop_words"].to_pylist() == [0], "all is English"
    empty = {
        name: column.to_pylist() for name, column in quality(["", "…", " \n"], QUALITY).items()
    }
    assert empty["gopher_words"] == [0, 0, 0] and empty["gopher_mean_word_length"] == [None] * 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.one_of(st.sampled_from("ab.,-'’…/#@:\n\r\t {}[]1٣我ऄ𝔸\u2028\x00"), st.characters(codec="utf-8")))
    )
)  # fmt: skip
def test_any_text_has_numbers(texts: list[str]) -> None:
    found = {name: column.to_pylist() for name, column in quality(texts, QUALITY).items()}
    for name, values in found.items():
        assert len(values) == len(texts)
        if name in QUALITY or name.endswith("_reason"):
            continue
        assert all(one is None or one >= 0 for one in values), name
    for text, lines, repeated in zip(
        texts, found["gopher_duplicate_lines"], found["gopher_duplicate_10_grams"], strict=True
    ):
        if text:
            parts = re.split("\n+", text)
            assert lines == pytest.approx(1 - len(set(parts)) / len(parts))
            assert repeated is None or repeated <= 1
        else:
            assert lines is None


def test_scores_of_quality_are_columns_to_filter_by(tmp_path: Path) -> None:
    rows = pa.table(
        {"text": [PROSE + MORE, "Only a few words here.", PROSE], "lang": ["en", "en", None]}
    )
    out = tmp_path / "out.parquet"
    card = score(rows, out, scores=["length", "gopher", "c4"], models=())
    table = records.read(out).to_table()
    assert table.column_names[:6] == [
        "text",
        "lang",
        "length",
        "gopher",
        "gopher_reason",
        "gopher_duplicate_paragraphs",
    ]
    assert table["gopher"].to_pylist() == [True, False, True]
    assert table["gopher_reason"].to_pylist() == [None, "top_2_gram", None]
    assert table["gopher_stop_words"].to_pylist() == [8, 0, None]
    assert card.details["columns"]["gopher"] == {"false": 1, "true": 2, "null": 0}
    assert card.details["columns"]["gopher_reason"] == {"top_2_gram": 1, "null": 2}
    assert card.details["columns"]["gopher_words"]["null"] == 0
    assert "lang_may_lack" not in card.signature and "lang:lang|" in card.signature
    with pytest.raises(PomonaError, match='there is no column "tongue"'):
        score(rows, tmp_path / "o.parquet", scores=["gopher"], models=(), lang="tongue")
    with pytest.raises(PomonaError, match='there is a column "gopher" already'):
        score(out, tmp_path / "again.parquet", scores=["gopher"], models=())

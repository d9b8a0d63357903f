"""Answers put together from a memory: what aligns, what is edited and composed, and its edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pomona import records, tasks
from pomona.memory import Phrases, find
from pomona.memory.alignment import Aligner, joined, tokens

THINGS = {"page": "Seite", "user": "Nutzer", "image": "Bild", "order": "Bestellung", "tag": "Tag"}
VERBS = {
    "Delete {}": "{} löschen",
    "Create {}": "{} anlegen",
    "Edit {}": "{} bearbeiten",
    "Open {}": "Öffne {}",
}
PAIRS = [
    (verb.format(thing), answer.format(german))
    for (verb, answer), (thing, german) in itertools.product(VERBS.items(), THINGS.items())
    if (verb, thing) != ("Edit {}", "tag")
]
SOURCES, ANSWERS = (list(each) for each in zip(*PAIRS, strict=True))
MEMORY = Phrases(SOURCES, ANSWERS)


def best(source: str, kind: str, *rows: int) -> str:
    made = MEMORY.candidates(source, rows, np.ones(len(rows)), edited=len(rows), composed=2)
    return next(one.text for one in made if one.kind == kind)


def test_aligns_what_stands_for_what() -> None:
    aligner = Aligner([s.lower().split() for s in SOURCES], [a.lower().split() for a in ANSWERS])
    for row, (source, _) in enumerate(PAIRS):
        same_order = source.startswith("Open")
        assert aligner.links(row) == ({(0, 0), (1, 1)} if same_order else {(0, 1), (1, 0)})
    assert aligner.flops > 0


def test_what_was_learned_once_puts_the_same_together() -> None:
    learned = MEMORY.learned
    again = Phrases(SOURCES, ANSWERS, learned)
    assert learned.flops == MEMORY.flops > again.flops == 0
    for source in ("Edit tag", "Open the user page", "user"):
        asked = (source, [0, 7], [0.7, 0.5])
        made = again.candidates(*asked, edited=2, composed=3)
        assert made == MEMORY.candidates(*asked, edited=2, composed=3) and made
    empty = Phrases([""], [""])
    assert Phrases([""], [""], empty.learned).learned.phrases.equals(empty.learned.phrases)


def test_edits_a_neighbour() -> None:
    """What differs is replaced in its place, which is not that of the source."""
    row = SOURCES.index("Edit page")
    assert best("Edit tag", "edited", row) == "Tag bearbeiten"
    assert best("Edit %(name)s", "edited", row) == "%(name)s bearbeiten"
    made = MEMORY.candidates("Edit tag", [row], [0.7], edited=1, composed=0)
    assert (made[0].rank, made[0].kept, made[0].similarity) == (0, 0.5, 0.7)


def test_drops_what_the_source_has_not() -> None:
    phrases = Phrases([*SOURCES, "Delete this page"], [*ANSWERS, "Diese Seite löschen"])
    made = phrases.candidates("Delete page", [len(SOURCES)], [0.8], edited=1, composed=0)
    assert "Seite löschen" in [one.text for one in made]


def test_composes_phrase_by_phrase() -> None:
    assert best("User", "composed") == "Nutzer"
    made = MEMORY.candidates("order: %(number)s", (), (), edited=0, composed=1)
    assert [one.text for one in made] == ["Bestellung: %(number)s"]
    assert made[0].unknown == 0


def test_leaves_what_it_does_not_know() -> None:
    made = MEMORY.candidates("order Xylophone", (), (), edited=0, composed=1)[0]
    assert (made.text, made.unknown) == ("Bestellung Xylophone", 1)


def test_writes_without_spaces_what_is_written_so() -> None:
    phrases = Phrases(["user", "page", "user list"], ["用户", "页面", "用户列表"])
    made = phrases.candidates("user page", (), (), edited=0, composed=1)
    assert made[0].text == "用户页面"


def test_is_above_its_neighbours_on_the_embedded_data() -> None:
    """Where copying the nearest answer says something else, editing and composing are nearer to
    what was said.
    """
    rows = records.read("ui").where(lang="cy", split=["train", "valid"]).to_table().to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    valid = [row for row in rows if row["split"] == "valid" and row["domain"] != "sphinx"]
    sources = [row["english"] for row in train]
    answers = [row["translation"] for row in train]
    asked = [row["english"] for row in valid]
    found = find(sources, ["cy"] * len(train), asked, ["cy"] * len(valid), 4)
    phrases, chrf = Phrases(sources, answers), tasks.metric("chrf")
    composed, copied = [], []
    for source, near, like in zip(asked, found.rows, found.similarity, strict=True):
        made = phrases.candidates(source, near.tolist(), like, edited=0, composed=1)
        composed.append(made[0].text)
        copied.append(answers[near[0]])
    references = [row["translation"] for row in valid]
    scores = [chrf.aggregate(chrf.statistics(o, references).sum(0)) for o in (composed, copied)]
    assert scores[0] > scores[1] + 8


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="ab %({é用.'<", max_size=30))
def test_tokens_hold_all_but_white_space(text: str) -> None:
    parts = tokens(text)
    assert "".join(part.text for part in parts) == "".join(text.split())
    assert joined(parts) == " ".join(text.split())


@settings(deadline=None, max_examples=60)
@given(
    st.text(alphabet="ab %({é用.'<", max_size=20),
    st.lists(st.tuples(st.text("abc用 ", max_size=8), st.text("xyé用 ", max_size=8)), max_size=4),
)
def test_takes_any_text(source: str, pairs: list[tuple[str, str]]) -> None:
    phrases = Phrases([s for s, _ in pairs], [a for _, a in pairs])
    rows = list(range(len(pairs)))
    made = phrases.candidates(source, rows, np.full(len(rows), 0.5), edited=9, composed=3)
    assert all(one.text and np.isfinite(one.score) for one in made)
    assert made == phrases.candidates(source, rows, np.full(len(rows), 0.5), edited=9, composed=3)


@pytest.mark.parametrize("words", [400])
def test_long_texts_take_no_longer_than_they_must(words: int) -> None:
    source = " ".join(f"w{at}" for at in range(words))
    made = MEMORY.candidates(source, [0], [0.1], edited=1, composed=1)
    assert made[0].text == source[:1].upper() + source[1:] or made[0].text == source

"""Questions with known answers for the experiments on context levers: manual pages, sums in words,
capitals, interface strings.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pomona import records
from pomona.models import Message

_SECTIONS = ("man1", "man2", "man3", "man8")
_PEOPLE = ("Ann", "Ben", "Eve", "Tom")
_CAPITALS = (
    "France:Paris Germany:Berlin Spain:Madrid Italy:Rome Portugal:Lisbon Greece:Athens "
    "Austria:Vienna Poland:Warsaw Hungary:Budapest "
    "Ireland:Dublin Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen "
    "Belgium:Brussels Russia:Moscow Ukraine:Kyiv "
    "Romania:Bucharest Bulgaria:Sofia Turkey:Ankara Egypt:Cairo Kenya:Nairobi Morocco:Rabat "
    "Nigeria:Abuja Ghana:Accra Ethiopia:Addis "
    "Senegal:Dakar Tunisia:Tunis Algeria:Algiers Libya:Tripoli Iraq:Baghdad Iran:Tehran "
    "Japan:Tokyo China:Beijing India:Delhi "
    "Thailand:Bangkok Vietnam:Hanoi Nepal:Kathmandu Indonesia:Jakarta Malaysia:Kuala "
    "Philippines:Manila Mongolia:Ulaanbaatar "
    "Canada:Ottawa Cuba:Havana Brazil:Bras Argentina:Buenos Chile:Santiago Peru:Lima "
    "Colombia:Bogot Venezuela:Caracas "
    "Ecuador:Quito Uruguay:Montevideo Paraguay:Asunci Australia:Canberra Iceland:Reykjav "
    "Jordan:Amman Lebanon:Beirut "
    "Syria:Damascus"
)


@dataclass(frozen=True)
class Item:
    """What is asked, and the answer."""

    question: str
    answer: str

    @property
    def messages(self) -> tuple[Message, ...]:
        return ({"role": "user", "content": self.question},)


def manual(path: Path) -> pa.Table:
    """Every English paragraph of sections 1, 2, 3 and 8, with the page it is from."""
    rows = records.read(path).where(lang="en", domain=list(_SECTIONS)).to_table()
    return pa.table({"text": rows["text"], "source": rows["source"], "block": rows["block"]})


def pages(paragraphs: pa.Table) -> pa.Table:
    """The same, a row a page; what is for search must be long enough to mean something by
    itself.
    """
    texts: dict[str, list[str]] = {}
    for source, text in zip(
        paragraphs["source"].to_pylist(), paragraphs["text"].to_pylist(), strict=True
    ):
        texts.setdefault(source, []).append(text)
    return pa.table({"text": ["\n".join(page) for page in texts.values()], "source": list(texts)})


def manual_questions(table: pa.Table, n: int, seed: int) -> list[Item]:
    """What a page's first name does; the answer is the description in its NAME line."""
    named = zip(
        table["source"].to_pylist(),
        table["block"].to_pylist(),
        table["text"].to_pylist(),
        strict=True,
    )
    items = {}
    for source, block, text in named:
        match = (
            re.fullmatch(r"([\w.]+)(?:, [^-]*)? - (\w[^\n]{14,90})", text) if block == 1 else None
        )
        if match:
            section = source.rsplit(".", 1)[1]
            question = f"What does {match[1]}({section}) do?"
            items[question] = Item(question, match[2])
    return random.Random(seed).sample(list(items.values()), n)


def paraphrases(table: pa.Table, n: int, seed: int) -> list[Item]:
    """The first sentence of a page's DESCRIPTION without the page's names; the answer is its NAME
    line, said in other words.
    """
    pages: dict[str, list[str]] = {}
    for source, text in zip(table["source"].to_pylist(), table["text"].to_pylist(), strict=True):
        pages.setdefault(source, []).append(text)
    items = []
    for texts in pages.values():
        if "DESCRIPTION" in texts[2:-1] and " - " in texts[1]:
            names = re.split(r", ?", texts[1].split(" - ")[0])
            sentence = re.split(r"(?<=[.:])\s", texts[texts.index("DESCRIPTION") + 1])[0]
            masked = re.sub(
                "|".join(rf"\b{re.escape(name)}(?:\(\w*\))?" for name in names), "", sentence
            )
            if len(masked.split()) > 5:
                items.append(Item(" ".join(masked.split()), texts[1]))
    return random.Random(seed).sample(items, n)


def capitals() -> list[Item]:
    """A question for each country; the answer is the capital, or what is the same in all its
    spellings.
    """
    pairs = (pair.split(":") for pair in _CAPITALS.split())
    return [Item(f"What is the capital of {country}?", capital) for country, capital in pairs]


def sums(n: int, seed: int) -> list[Item]:
    """Sums in words of two steps at most, with numbers up to a few hundred; four templates in
    turn.
    """
    source = random.Random(seed)
    return [_sum(number % 4, source)[0] for number in range(n)]


def sum_examples(templates: Sequence[int] = range(4)) -> list[tuple[str, str, str, str]]:
    """(question, call, result, answer) of some of the four templates, with numbers of their own."""
    source = random.Random("examples")
    shown = []
    for template in templates:
        item, expression = _sum(template, source)
        shown.append(
            (
                item.question,
                f"CALL calculator {expression}",
                item.answer,
                f"The answer is {item.answer}.",
            )
        )
    return shown


def _sum(template: int, source: random.Random) -> tuple[Item, str]:
    a, b, c = source.randint(12, 99), source.randint(12, 99), source.randint(3, 9)
    who = source.choice(_PEOPLE)
    if template == 0:
        return Item(
            f"A pen costs {a} cents. How many cents do {b} pens cost?", str(a * b)
        ), f"{a} * {b}"
    if template == 1:
        question = (
            f"{who} has {a + b} stamps, buys {b} more and then gives {a} away. How many "
            f"stamps does {who} have now?"
        )
        return Item(question, str(a + b + b - a)), f"{a + b} + {b} - {a}"
    if template == 2:
        question = (
            f"{a} boxes hold {c} books each, and {b} books lie beside them. How many "
            "books are there in all?"
        )
        return Item(question, str(a * c + b)), f"{a} * {c} + {b}"
    return Item(
        f"{a * c} litres of water fill {c} equal tanks. How many litres does each tank hold?",
        str(a),
    ), f"{a * c} / {c}"


def strings(split: str, lang: str, domain: str) -> list[Item]:
    """Interface strings of one program and language without placeholders, as a request to
    translate; the answer is the translation.
    """
    rows = records.read("ui").where(split=split, lang=lang, domain=domain).to_table().to_pylist()
    found = {
        row["english"]: row["translation"]
        for row in rows
        if not re.search(r"[%{<\n]", row["english"])
    }
    return [
        Item(f"Translate into German: {english}", translation)
        for english, translation in found.items()
        if len(english) > 3
    ]

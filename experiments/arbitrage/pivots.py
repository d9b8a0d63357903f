"""What Apertium makes of sister languages' human translations for the empty cells of `ui`: how many
cells, how good, how fast.

    python experiments/arbitrage/pivots.py [--store FILE] [--out FILE]

Programs are Debian's: apt-get install apertium apertium-afr-nld apertium-bel-rus apertium-hbs-mkd
apertium-swe-nor apertium-dan-nor apertium-nno-nob. Those that are not installed are named and left
out. Where a human translation of the cell exists, chrF of the pivot is compared with that of copying
the sister's translation and of copying the English, on the rows of the projects that models of `ui`
are trained on (warm) and of Sphinx (cold), with intervals over clusters of the English source.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pomona import records
from pomona.stats import Resamples, compare, interval
from pomona.synth.teachers import (
    Assignment,
    Lesson,
    PivotTeacher,
    ProgramTeacher,
    Terms,
    apertium,
    cyrillic,
    find_cells,
)
from pomona.tasks import Chrf

ROOT = Path(__file__).parents[2]
MODES = Path("/usr/share/apertium/modes")
# lang, sister, mode, package
PIVOTS = (
    ("af", "nl", "nld-afr", "apertium-afr-nld"),
    ("be", "ru", "rus-bel", "apertium-bel-rus"),
    ("mk", "hr", "hbs-mkd", "apertium-hbs-mkd"),
    ("mk", "sr", "hbs-mkd", "apertium-hbs-mkd"),
    ("nn", "sv", "swe-nno", "apertium-swe-nor"),
    ("nn", "da", "dan-nno", "apertium-dan-nor"),
    ("nn", "nb", "nob-nno", "apertium-nno-nob"),
)
CHRF = Chrf()


def mended(mode: str, folder: Path) -> Path:
    """The folder with a mode in which what crashes in Debian 12 is left out.

    rus-bel (0.2.1): the tagger crashes on about a fourth of the rows; the first reading that the
    constraint grammar leaves is taken instead. hbs-mkd (0.1.1): cg-proc 1.3.9 writes dependencies
    that the next stage takes for parts of words; they are taken out.
    """
    pattern, changed = {
        "rus-bel": (r"cg-proc -w ('[^']+') \| apertium-tagger [^|]*\|", r"cg-proc -w -n -1 \1 |"),
        "hbs-mkd": (r"(cg-proc [^|]*)\|", r"\1| sed 's/<#[0-9]*→[0-9]*>//g' |"),
    }[mode]
    text, times = re.subn(pattern, changed, (MODES / f"{mode}.mode").read_text())
    assert times == 1
    (folder / "modes").mkdir(exist_ok=True)
    (folder / "modes" / f"{mode}.mode").write_text(text)
    return folder


def teacher_of(sister: str, lang: str, mode: str, package: str, store: Path) -> ProgramTeacher:
    """The program of a pivot."""
    crashes = mode in {"rus-bel", "hbs-mkd"} and (MODES / f"{mode}.mode").exists()
    folder = {"folder": mended(mode, store.parent)} if crashes else {}
    terms = Terms(frozenset({(sister, lang)}), "as the sister's translation", timeout=20)
    return ProgramTeacher(f"apertium {mode}", apertium(mode, package, **folder), terms, store)


def version_of(package: str) -> str:
    """The version of a package of Debian."""
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def quality(rows: list[dict[str, str]], sides: dict[str, list[str]]) -> dict[str, Any]:
    """chrF of each side, and how far the pivot is above each other, with intervals."""
    references = [row["translation"] for row in rows]
    draws = Resamples(len(rows), 2000, 0, clusters=[row["english"] for row in rows])
    statistics = {name: CHRF.statistics(texts, references) for name, texts in sides.items()}
    told: dict[str, Any] = {"rows": len(rows), "sources": draws.units}
    for name, each in statistics.items():
        low, high = interval(CHRF, each, draws)
        value = float(CHRF.aggregate(each.sum(0)))
        told[name] = {"chrf": value, "low": low, "high": high}
        if name != "pivot":
            other = compare(CHRF, statistics["pivot"], each, draws)
            told[name]["pivot above"] = [other.delta, other.ci_low, other.ci_high]
    return told


def measure(table: Any, pivot: tuple[str, str, str, str], store: Path) -> dict[str, Any]:
    """One pivot: cells, quality, speed; or why it is left out."""
    lang, sister, mode, package = pivot
    inner = teacher_of(sister, lang, mode, package, store)
    told: dict[str, Any] = {"lang": lang, "sister": sister, "mode": mode, "package": package}
    if (missing := inner.program.missing) is not None:
        return told | {"left out": missing}
    rows = table.to_pylist()
    cells = find_cells(table, lang, sister)
    split_of = {row["english"]: row["split"] for row in rows}
    hers = cells.empty
    asked = [Assignment(source, source, sister, lang) for source in hers]
    teacher = PivotTeacher(inner, sister, hers)
    filled = teacher.teach(asked)
    own = {(r["source"], r["english"]): r["translation"] for r in rows if r["lang"] == sister}
    both = [row for row in rows if row["lang"] == lang and (row["source"], row["english"]) in own]
    sisters = [own[row["source"], row["english"]] for row in both]
    made = inner.teach(
        [
            Assignment(str(at), text, sister, lang, original=row["english"])
            for at, (row, text) in enumerate(zip(both, sisters, strict=True))
        ]
    )
    # A row without an answer stands as the sister's translation, which costs nothing.
    answers = [
        row.text if isinstance(row, Lesson) else text
        for row, text in zip(made.rows, sisters, strict=True)
    ]
    copied = sisters
    if lang == "mk":  # a copy as it would be spelt
        rows_ = [
            Assignment("", text, sister, lang, original=row["english"])
            for row, text in zip(both, sisters, strict=True)
        ]
        copied = [cyrillic(row.text, row) for row in rows_]
    sides = {"pivot": answers, "sister": copied, "english": [row["english"] for row in both]}
    parts = {"warm": [], "cold": [], "warm test": []}
    for at, row in enumerate(both):
        warm = row["domain"] != "sphinx"
        parts["warm" if warm else "cold"].append(at)
        if warm and row["split"] == "test":
            parts["warm test"].append(at)
    unknown = [row.unknown or 0 for row in made.taught]
    words = sum(len(text.split()) for text in sisters)
    cost = sum(lessons.usage.cpu_seconds or 0 for lessons in (filled, made))
    return told | {
        "empty cells": len(hers),
        "by split": dict(Counter(split_of[source] for source in hers)),
        "filled": len(filled.taught),
        "filled, not test": sum(split_of[one.id] != "test" for one in filled.taught),
        "rejects": dict(Counter(one.reason.split(":")[0] for one in filled.rejects)),
        "human rows": len(both),
        "human rows, rejects": len(made.rejects),
        "unknown words": sum(unknown) / max(1, words),
        "unchanged": float(np.mean([a == b for a, b in zip(answers, copied, strict=True)])),
        "CPU ms a row": 1000 * cost / (len(hers) + len(both)),
        "version": version_of(package),
        "quality": {
            name: quality(
                [both[at] for at in at_], {k: [v[at] for at in at_] for k, v in sides.items()}
            )
            for name, at_ in parts.items()
            if len(at_) >= 20
        },
    }


def show(one: dict[str, Any]) -> None:
    """A pivot in a few lines."""
    if "left out" in one:
        print(one["package"], one["left out"], flush=True)
        return
    head = f"{one['lang']} from {one['sister']}: {one['empty cells']:,} cells, {one['filled']:,} filled"
    print(head, one["rejects"], f"{one['CPU ms a row']:.2f} ms, {one['unknown words']:.0%} unknown")
    for name, part in one["quality"].items():
        sides = (f"{side} {part[side]['chrf']:.1f}" for side in ("pivot", "sister", "english"))
        print(
            "  ",
            name,
            part["rows"],
            part["sources"],
            *sides,
            part["sister"]["pivot above"],
            flush=True,
        )


def main() -> None:
    """Measure all pivots, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="file of what the programs wrote")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = records.read(ROOT / "src/pomona/assets/ui/ui.parquet").to_table()
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or Path(folder) / "programs.db"
        told = []
        for pivot in PIVOTS:
            told.append(measure(table, pivot, store))
            show(told[-1])
    unions = {}
    for lang in dict.fromkeys(pivot[0] for pivot in PIVOTS):
        sisters = [pivot[1] for pivot in PIVOTS if pivot[0] == lang]
        unions[lang] = len(set().union(*(find_cells(table, lang, one).empty for one in sisters)))
    text = json.dumps(
        {"pivots": told, "empty cells of any sister": unions}, indent=1, ensure_ascii=False
    )
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

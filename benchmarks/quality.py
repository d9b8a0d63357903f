"""CPU time of the rules of quality, and how often they say the same: Pomona against datatrove, one
thread each, on the English that comes with installed packages: their descriptions and the
docstrings of 600 letters and more. `--peer` is the Python of an environment with
`pip install datatrove spacy tldextract fasteners`.

    python benchmarks/quality.py --peer ENV/bin/python --out benchmarks/results/quality.json
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("gopher", "c4", "fineweb")


def corpus(documents: int) -> list[str]:
    """So many different texts of at most 60,000 letters, by a seed."""
    texts = {str(one.metadata.get_payload()) for one in distributions()}
    for file in sorted(Path(np.__file__).parents[1].rglob("*.py")):
        if len(texts) > 20 * documents:
            break
        try:
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        texts |= {ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)}
    chosen = sorted(text for text in texts if 600 <= len(text) < 60_000)
    random.Random(0).shuffle(chosen)
    return chosen[:documents]


def ours(texts: list[str]) -> tuple[float, list[list[bool]]]:
    """CPU seconds, and whether each text is kept by each set of rules."""
    from pomona.data.quality import quality

    quality(texts[:1], NAMES)
    start = time.process_time()
    columns = quality(texts, NAMES)
    spent = time.process_time() - start
    return spent, [columns[name].to_pylist() for name in NAMES]


def theirs(texts: list[str]) -> tuple[float, list[list[bool]]]:
    """The same of datatrove's filters. A text that one of them fails at is not kept."""
    from datatrove.data import Document  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline import filters  # pyright: ignore[reportMissingImports]

    repetition, words = filters.GopherRepetitionFilter(), filters.GopherQualityFilter()
    sets = [[repetition, words], [filters.C4QualityFilter()], [filters.FineWebQualityFilter()]]

    def keeps(one: Any, text: str) -> bool:
        try:
            return one.filter(Document(text=text, id="")) is True
        except ZeroDivisionError:
            return False

    for some in sets:
        keeps(some[0], "the first call loads spaCy")
    start = time.process_time()
    said = [[all(keeps(one, text) for one in some) for text in texts] for some in sets]
    return time.process_time() - start, said


def apart(python: str, side: str, path: Path) -> tuple[float, list[list[bool]]]:
    """A side in a process of its own."""
    command = [python, __file__, "--side", side, "--texts", str(path)]
    return tuple(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def compare(peer: str, documents: int, rounds: int) -> dict[str, Any]:
    """Median CPU seconds of both over interleaved rounds, and the share of texts of which both say
    the same.
    """
    texts = corpus(documents)
    spent: dict[str, list[float]] = {"pomona": [], "datatrove": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts))
        for _ in range(rounds):
            seconds, mine = apart(sys.executable, "ours", path)
            spent["pomona"].append(seconds)
            seconds, other = apart(peer, "theirs", path)
            spent["datatrove"].append(seconds)
    medians = {name: round(statistics.median(values), 3) for name, values in spent.items()}
    ratios = [b / a for a, b in zip(spent["pomona"], spent["datatrove"], strict=True)]
    same = {
        name: sum(a == b for a, b in zip(*both, strict=True)) / len(texts)
        for name, *both in zip(NAMES, mine, other, strict=True)
    }
    kept = {name: sum(map(bool, some)) / len(texts) for name, some in zip(NAMES, mine, strict=True)}
    return {
        "documents": len(texts),
        "characters": sum(map(len, texts)),
        "cpu_seconds": medians,
        "ratio": round(statistics.median(ratios), 1),
        "ratios": [round(min(ratios), 1), round(max(ratios), 1)],
        "same": {name: round(share, 5) for name, share in same.items()},
        "kept": {name: round(share, 3) for name, share in kept.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer")
    parser.add_argument("--side", choices=["ours", "theirs"])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.side:
        texts = json.loads(given.texts.read_text())
        json.dump((ours if given.side == "ours" else theirs)(texts), sys.stdout)
        return
    from _machine import machine

    from pomona.files import write_json

    peer = [
        given.peer,
        "-c",
        "from importlib.metadata import version as v; print(v('datatrove'), v('spacy'))",
    ]
    datatrove, spacy = subprocess.run(
        peer, check=True, capture_output=True, text=True
    ).stdout.split()
    result = {
        "unit": "CPU s, one thread, texts in memory; datatrove's with spaCy's words",
        "rounds": given.rounds,
        "machine": machine(),
        "versions": {"numba": version("numba"), "datatrove": datatrove, "spacy": spacy},
        **compare(given.peer, given.documents, given.rounds),
    }
    print(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()

"""A stratified, blind sample: so many random rows of every group, shuffled, with automatic
pre-labels kept apart.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.data.audit.labels import FLAGS, KEY, LABELS, Key, Label, digest, labels_text, shown
from pomona.data.audit.prelabel import (
    BOILERPLATE_TIMES,
    RULES,
    LanguageId,
    check_identifier,
    identified_languages,
    prelabel,
)
from pomona.data.audit.rows import InputRows, Inputs
from pomona.errors import PomonaError
from pomona.files import atomic_directory, write_json, write_text
from pomona.places import check_outputs
from pomona.records import Card, card_of, listed_in_card, notes_of
from pomona.workspace import disk_guard

_SOURCE = "source"
Line = tuple[str, str]


@dataclass(frozen=True)
class _Drawn:
    """A row that was drawn."""

    group: str
    id: str | None
    where: str
    english: str | None
    text: str


def sample_audit(
    inputs: Inputs,
    folder: str | Path,
    *,
    column: str = "text",
    english: str | None = None,
    by: str = "lang",
    n: int = 100,
    language_id: LanguageId = "script",
    seed: int = 0,
    engine: str | None = "native",
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Draw a blind sample, shuffled over all groups, for people to label.

    Draw `n` random rows of every group for people to label, after Kreutzer et al. 2022 (arXiv
    2103.12028), §3.

    Writes `folder` with `labels.csv` (number, group, source text where `english` names its column,
    text, and empty label and flags; groups are mixed) and `key.json` (where each number came from,
    and its automatic pre-label), and the card beside it. The sample depends on `seed` and the order
    of rows, not on how they are split into files. A group with fewer rows is taken whole.
    `language_id`: "script" compares scripts only, "py3langid" uses that package, or a function from
        texts to languages.
    The inputs are read three times (once with `dry_run`), in bounded memory; with `engine="ray"` by
    the workers of a cluster.

    Args:
        folder: New folder of the audit.
        column: Text of a row: a column of strings or of conversations, a field (meta.text), what a
            role says (messages.user), or a template of these ("{prompt}\\n{completion}").
        english: Column of the English source, for parallel data.
        by: Column of the groups.
        n: Rows per group.
        seed: Seed of the sample.
        language_id: How pre-labels tell the language: by script, or by the package
            py3langid.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: the folder exists, a column is missing, holds no text or is null, or there are
            no rows.
    """
    folder = Path(folder)
    _check(column, english, by, n)
    check_identifier(language_id)
    rows = InputRows(
        inputs, [column, *([english] if english else [])], [column, by], ["id"], engine
    )
    own = {"the audit": folder, "the card": card_of(folder)}
    check_outputs(
        {**own, "the rejects": rows.records.rejects}, rows.records.paths, folders=list(own)
    )
    if os.path.lexists(folder):
        raise PomonaError(
            "is there already, perhaps with labels in it",
            where=folder,
            remedy="name a new folder",
        )
    listed_in_card(folder)  # what has the card's name must be one
    sizes, chosen = _draw(rows, by, n, seed)
    parameters = {
        "column": column,
        "english": english,
        "by": by,
        "n": n,
        "seed": seed,
        "language_id": _name(language_id),
    }
    groups = {group: (size, min(size, n)) for group, size in sorted(sizes.items())}
    card = Card(
        "audit-sample",
        parameters,
        rows.inputs,
        rows.count,
        len(chosen),
        groups=groups,
        details={"rules": RULES},
        left_out=rows.records.rejected,
        notes=notes_of(rows.records.source),
    )
    if not dry_run:
        drawn = _fetch(rows, chosen, column, english, by)
        counts = _line_counts(rows, drawn, column, by, progress)
        order = np.random.default_rng(seed).permutation(len(drawn))
        _write(folder, card, [drawn[place] for place in order], counts, by, language_id)
    return card


def _check(column: str, english: str | None, by: str, n: int) -> None:
    if n < 1:
        raise PomonaError(f"{n} rows of each group is no sample", where="n", remedy="use 100")
    taken = {"number", _SOURCE, "text", "label", *FLAGS}
    if by in taken:
        raise PomonaError(
            f'the groups cannot be called "{by}" in labels.csv',
            where="by",
            remedy="rename the column first",
        )
    if by in (column, english) or english == column:
        raise PomonaError(
            "text, source text and groups are three columns",
            where="column",
            remedy="name each once",
        )


def _name(language_id: LanguageId) -> str:
    return (
        language_id
        if isinstance(language_id, str)
        else getattr(language_id, "__name__", "function")
    )


def _draw(rows: InputRows, by: str, n: int, seed: int) -> tuple[Counter[str], NDArray[np.int64]]:
    """Rows of each group, and the numbers of the rows drawn, ascending: those with the smallest
    hashes in their group.
    """
    sizes: Counter[str] = Counter()
    best: dict[str, NDArray[np.uint64]] = {}
    for batch in rows.batches([by]):
        groups, index = np.unique(
            np.array([str(value) for value in batch.texts(by)], dtype=object), return_inverse=True
        )
        numbers = np.arange(batch.start, batch.start + batch.rows.num_rows, dtype=np.uint64)
        pairs = np.stack([_hash(numbers, seed), numbers], axis=1)
        for place, group in enumerate(groups):
            mine = pairs[index == place]
            sizes[group] += len(mine)
            held = np.concatenate([best[group], mine]) if group in best else mine
            best[group] = held[np.argsort(held[:, 0], kind="stable")[:n]]
    if not sizes:
        raise PomonaError(
            "there are no rows", where=rows.records.source.where, remedy="give a table with rows"
        )
    return sizes, np.sort(np.concatenate([pairs[:, 1] for pairs in best.values()]).astype(np.int64))


def _hash(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """SplitMix64 of row numbers, keyed by the seed (Steele, Lea and Flood 2014)."""
    value = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ np.random.default_rng(
        seed
    ).integers(1 << 64, size=1, dtype=np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _fetch(
    rows: InputRows, chosen: NDArray[np.int64], column: str, english: str | None, by: str
) -> list[_Drawn]:
    drawn: list[_Drawn] = []
    names = rows.records.row_names(chosen)
    for batch in rows.batches():
        low, high = np.searchsorted(chosen, [batch.start, batch.start + batch.rows.num_rows])
        places = (chosen[low:high] - batch.start).tolist()
        if places:
            values: dict[str, list[Any]] = {n: batch.texts(n, places) for n in rows.columns}
            for index in range(len(places)):
                identity = values["id"][index] if "id" in values else None
                source = (values[english][index] or "") if english else None
                drawn.append(
                    _Drawn(
                        str(values[by][index]),
                        None if identity is None else str(identity),
                        names[low + index],
                        source,
                        values[column][index],
                    )
                )
    return drawn


def _line_counts(
    rows: InputRows,
    drawn: list[_Drawn],
    column: str,
    by: str,
    progress: Callable[[int, int], None] | None,
) -> Counter[Line]:
    """How often each line of the drawn rows occurs in its group."""
    wanted = {(row.group, line) for row in drawn for line in _lines(row.text)}
    counts: Counter[Line] = Counter()
    total = rows.count
    for batch in rows.batches([column, by]):
        for text, group in zip(batch.texts(column), batch.texts(by), strict=True):
            for line in _lines(text):
                pair = (str(group), line)
                if pair in wanted:
                    counts[pair] += 1
        if progress:
            progress(batch.start + batch.rows.num_rows, total)
    return counts


def _lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        if plain := " ".join(line.split()):
            yield plain


def _repeated(row: _Drawn, counts: Counter[Line]) -> float:
    lines = list(_lines(row.text))
    often = sum(len(line) for line in lines if counts[row.group, line] >= BOILERPLATE_TIMES)
    return often / max(1, sum(map(len, lines)))


def _write(
    folder: Path,
    card: Card,
    drawn: list[_Drawn],
    counts: Counter[Line],
    by: str,
    language_id: LanguageId,
) -> None:
    said = identified_languages(
        [row.text for row in drawn], [row.group for row in drawn], language_id
    )
    labels: list[Label] = []
    keys: list[dict[str, Any]] = []
    for number, (row, identified) in enumerate(zip(drawn, said, strict=True), 1):
        source = None if row.english is None else shown(row.english)
        label = Label(number, shown(row.group), source, shown(row.text))
        code, reason = prelabel(
            row.text, row.group, row.english, _repeated(row, counts), identified
        )
        key = Key(
            number,
            row.group,
            row.id,
            row.where,
            digest(label.group, label.source, label.text),
            code,
            reason,
        )
        labels.append(label)
        keys.append(asdict(key))
    about = {
        "signature": card.signature,
        "by": by,
        "parallel": card.parameters["english"] is not None,
        "sizes": {group: size for group, (size, _) in card.groups.items()},
        "rules": RULES,
        "rows": keys,
    }
    with disk_guard(folder), atomic_directory(folder, "an audit") as partial:
        write_text(partial / LABELS, labels_text(labels, by))
        write_json(partial / KEY, about)
        # Before the folder has its name: once it has, this command refuses it, also after a kill.
        card.write(folder)

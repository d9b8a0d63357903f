"""One call of `score`, checked: the rows in chunks that are the same in every run, what is asked
for, the passes that gives, and the folder of what is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona._version import __version__
from pomona.data.inputs import values_of
from pomona.data.scores.registry import Chosen
from pomona.errors import PomonaError
from pomona.files import atomic_file
from pomona.records import Records, is_chat, last_answer, with_text
from pomona.tasks import fields_of
from pomona.workspace import Lock, Workspace, disk_guard

Messages = list[dict[str, Any]]
CHUNK_ROWS = 1024
CHUNK_CHARACTERS = 4 << 20


@dataclass(frozen=True)
class Layout:
    """Where a row's text is: in `column`, or in `prompt` and `completion`, each as `with_text`
    takes it, such as `"<|{lang}|>{english}"`. With `chat` and without these two, `column` has
    conversations, of which the last answer is scored. A row may lack its language where
    `lang_may_lack`.
    """

    column: str
    prompt: str | None
    completion: str | None
    lang: str | None
    group: str | None
    chat: bool = False
    lang_may_lack: bool = False

    def columns(self, records: Records) -> list[str]:
        """The columns that are read. Raises PomonaError when one is missing, or only one of prompt
        and completion is given.
        """
        if (self.prompt is None) != (self.completion is None):
            raise PomonaError(
                "prompt and completion go together", remedy="give both, or neither and a column"
            )
        if self.prompt is None or self.completion is None:
            wanted = {self.column}
        else:
            wanted = set[str]().union(
                *(columns_in(part, records) for part in (self.prompt, self.completion))
            )
        names = sorted(wanted | {name for name in (self.lang, self.group) if name})
        records.require(*names)
        return names

    @property
    def of_chats(self) -> bool:
        """Whether answers in conversations are scored."""
        return self.chat and self.completion is None

    def complete(self, records: Records) -> Records:
        """The records with a value in all columns and something to score, where such are left out
        that lack one. Raises PomonaError when a column is missing or holds no text, or only one of
        prompt and completion is given.
        """
        if (self.prompt is None) != (self.completion is None):
            raise PomonaError(
                "prompt and completion go together", remedy="give both, or neither and a column"
            )
        lang = None if self.lang_may_lack else self.lang
        others = [name for name in (lang, self.group) if name]
        if self.of_chats:
            kind = records.require(self.column).schema.field(self.column).type
            if not is_chat(kind):
                raise PomonaError(
                    f'chat goes with conversations, and column "{self.column}" holds {kind}',
                    where=records.source.where,
                    remedy="give prompt and completion, or leave chat out",
                )
            made, text = with_text(records, f"{self.column}.assistant")
            return made.complete(*others, texts=[text]).select(*records.column_names)
        made, text, prompt = self.made(records)
        made = made.complete(*others, *filter(None, [prompt]), texts=[text])
        return made.select(*records.column_names)

    def made(self, records: Records) -> tuple[Records, str, str | None]:
        """The records with their texts, and the columns of what is scored and of the prompts."""
        prompt = self.prompt
        if self.completion is None:
            return *with_text(records, self.column), None
        assert prompt is not None
        records, text = _with_part(records, self.completion)
        records, prompt = _with_part(records, prompt)
        return records, text, prompt


@dataclass(frozen=True)
class ChunkRows:
    """Rows of one chunk of `records` as parallel lists; `first` is the place of the first, from 0.
    `prompts`, `langs` and `groups` may be None.
    """

    records: Records
    first: int
    texts: list[str]
    prompts: list[str] | list[Messages] | None
    langs: list[str] | None
    groups: list[str] | None

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, index: int) -> str:
        """How errors name the row at `index`."""
        return self.records.row_name(self.first + index)


@dataclass(frozen=True)
class Survey:
    """What a first look at the input found: rows, rows of each chunk, rows of each group, and a
    digest of all that is scored.
    """

    rows: int
    chunks: tuple[int, ...]
    groups: dict[str, int]
    digest: str


def survey(records: Records, layout: Layout, source: str) -> Survey:
    """Read every row once, so that a null or an empty text is found before any model runs. Raises
    PomonaError naming the row.
    """
    digest, sizes, groups = sha256(), [], dict[str, int]()
    for rows in chunks(records, layout):
        sizes.append(len(rows))
        for values in (rows.texts, rows.prompts, rows.langs, rows.groups):
            for value in values or ():
                data = _spelt(value).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        for group in rows.groups or ():
            groups[group] = groups.get(group, 0) + 1
    if not sizes:
        raise PomonaError(
            "there are no rows", where=source, remedy="check how the file was written"
        )
    return Survey(sum(sizes), tuple(sizes), groups, digest.hexdigest())


def chunks(records: Records, layout: Layout) -> Iterator[ChunkRows]:
    """Chunks of at most CHUNK_ROWS rows and, but for a single long row, CHUNK_CHARACTERS
    characters, in order.
    """
    text, prompt, done = layout.column, None, 0
    if not layout.of_chats:
        records, text, prompt = layout.made(records)
    columns = filter(None, (text, prompt, layout.lang, layout.group))
    for batch in records.select(*columns).batches(CHUNK_ROWS):
        rows = _filled(batch, layout, (text, prompt), records, done)
        start = held = 0
        for index in range(len(rows)):
            size = len(rows.texts[index])
            size += len(_spelt(rows.prompts[index])) if rows.prompts else 0
            if index > start and held + size > CHUNK_CHARACTERS:
                yield _part(rows, start, index)
                start, held = index, 0
            held += size
        yield _part(rows, start, len(rows))
        done += len(rows)


def columns_in(part: str, records: Records) -> set[str]:
    """The columns of a part: itself, or the fields of its template."""
    return {part} if part in records.column_names else fields_of(part)


def flat(records: Records, part: str) -> tuple[Records, str]:
    """The records with a column of texts for each field of a part that is within a column or a
    conversation, and the part with their names. Raises PomonaError as `with_text` does.
    """

    def column(records: Records, name: str) -> tuple[Records, str]:
        there = name in records.column_names
        if there and not pa.types.is_nested(records.schema.field(name).type):
            return records, name
        return with_text(records, name, scalars=True)

    if part in records.column_names or not ("{" in part or "}" in part):
        return column(records, part)
    for field in sorted(fields_of(part)):
        records, name = column(records, field)
        part = part.replace(f"{{{field}}}", f"{{{name}}}")
    return records, part


def _with_part(records: Records, part: str) -> tuple[Records, str]:
    """The records with what is scored or prompts: a column of any values that are no lists, or a
    text.
    """
    if part in records.column_names and not pa.types.is_nested(records.schema.field(part).type):
        return records, part
    return with_text(records, part, scalars=True)


def _spelt(prompt: str | Messages) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def _filled(
    batch: pa.RecordBatch,
    layout: Layout,
    parts: tuple[str, str | None],
    records: Records,
    first: int,
) -> ChunkRows:
    values = {name: values_of(batch.column(name)) for name in batch.schema.names}
    if layout.lang_may_lack and layout.lang is not None:
        values[layout.lang] = ["" if one is None else one for one in values[layout.lang]]
    for name, cells in values.items():
        if None in cells:
            where = records.row_name(first + cells.index(None))
            raise PomonaError(
                f'column "{name}" is null',
                where=where,
                remedy="fill it, or leave such rows out: --on-error drop",
            )

    def column(name: str | None) -> list[str] | None:
        return None if name is None else [str(value) for value in values[name]]

    if layout.of_chats:
        answers = [last_answer(chat) for chat in values[layout.column]]
        texts, prompts = [answer for _, answer in answers], [before for before, _ in answers]
    else:
        texts, prompts = column(parts[0]) or [], column(parts[1])
    for index, text in enumerate(texts):
        alone = layout.of_chats and prompts is not None and not prompts[index]
        if alone or not text.strip():
            what = "the text is" if layout.completion is None else "the completion is"
            what = "the assistant's last message is" if layout.of_chats else what
            what = "what is said before the assistant's last message is" if alone else what
            raise PomonaError(
                f"{what} empty",
                where=records.row_name(first + index),
                remedy="fill it, or leave such rows out: --on-error drop",
            )
    return ChunkRows(records, first, texts, prompts, column(layout.lang), column(layout.group))


def _part(rows: ChunkRows, start: int, stop: int) -> ChunkRows:
    def cut(values: Sequence[Any] | None) -> list[Any] | None:
        return None if values is None else list(values[start:stop])

    return ChunkRows(
        rows.records,
        rows.first + start,
        rows.texts[start:stop],
        cut(rows.prompts),
        cut(rows.langs),
        cut(rows.groups),
    )


TEXT = "text"


@dataclass(frozen=True)
class ScoringJob:
    """The input and the wishes of one call. `labels` name the models in columns."""

    records: Records
    source: str
    layout: Layout
    chosen: Chosen
    models: tuple[str, ...]
    labels: tuple[str, ...]
    options: dict[str, Any]
    survey: Survey

    @property
    def passes(self) -> dict[str, str | None]:
        """Steps of the work: the model of each, or None for the scores of the text alone."""
        alone = self.chosen.of_models <= {"length"}
        steps: dict[str, str | None] = {}
        if self.chosen.of_models:
            steps = {
                f"model-{index}": uri
                for index, uri in enumerate(self.models[: 1 if alone else None])
            }
        return {**steps, **({TEXT: None} if self.chosen.of_text or self.chosen.users else {})}

    def plan(self) -> dict[str, Any]:
        """What must be the same for a run to go on: all but the machine it runs on."""
        return {
            **asdict(self.layout),
            **self.options,
            "scores": list(self.chosen.names),
            "models": list(self.models),
            "rows": self.survey.rows,
            "chunks": list(self.survey.chunks),
            "sha256": self.survey.digest,
            "version": __version__,
        }


class Work:
    """`OUT.work/`: `plan.json`, and a Parquet file for each pass and chunk, each whole or absent.
    Made when the first chunk is done.

    Raises PomonaError when the folder holds the beginning of another scoring.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self._workspace = Workspace(Path(f"{out}.work"), plan)
        self._workspace.refuse_another("scoring")

    def has(self, step: str, chunk: int) -> bool:
        """Whether a chunk of a pass is done."""
        return self._path(step, chunk).is_file()

    def save(self, step: str, chunk: int, table: pa.Table) -> None:
        """Keep a chunk of a pass. Raises ResourceError when the disk is full."""
        self._workspace.begin()
        path = self._path(step, chunk)
        with disk_guard(path), atomic_file(path) as partial:
            pq.write_table(table, partial)

    def load(self, step: str, chunk: int) -> pa.Table:
        """A chunk of a pass that is done."""
        return pq.read_table(self._path(step, chunk))

    def locked(self) -> Lock:
        """Until it is released, no other process works here."""
        return self._workspace.locked()

    def remove(self) -> None:
        """The result is written: nothing here is needed any more."""
        self._workspace.remove()

    def _path(self, step: str, chunk: int) -> Path:
        return self._workspace.folder / step / f"{chunk:06d}.parquet"

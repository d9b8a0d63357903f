"""Tokenizers as their tokenizer.json has them, read, joined and written; and embedding rows matched
by token: every model's brought to the rows of the result's tokenizer, by mergekit's rules.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.documents import read_json
from pomona.errors import PomonaError, nearest
from pomona.models import read_config
from pomona.models.tensors import (
    NewTensor,
    Stored,
    TensorRows,
    content_of,
    encode_finite,
    row_blocks,
    to_float32,
)

FILE = "tokenizer.json"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an added token
_COPIED = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)
_OTHERS = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True)
class Tokenizer:
    """`data` is tokenizer.json; `vocab` every token with its id, `added` the entries of added
    tokens by text.
    """

    folder: Path
    data: Mapping[str, Any]
    vocab: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]

    @property
    def kind(self) -> str:
        """BPE, Unigram, WordPiece or WordLevel; BPE on bytes is "byte-level BPE"."""
        name = str(
            self.data["model"].get("type")
            or ("BPE" if "merges" in self.data["model"] else "Unigram")
        )
        marked = '"ByteLevel"' in json.dumps(
            [self.data.get("pre_tokenizer"), self.data.get("decoder")]
        )
        return f"byte-level {name}" if marked and name == "BPE" else name


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a checkpoint folder; None when it has none.

    Folders with older files only (tokenizer.model, vocab.json …) are converted by transformers.
    Raises PomonaError when tokenizer.json is damaged or transformers cannot convert.
    """
    file = folder / FILE
    if file.is_file():
        data = read_json(file, finite=False, wrong="is no tokenizer")
        if wrong := _wrong(data):
            raise PomonaError(f"is no tokenizer: {wrong}", where=file, remedy="copy it again")
        return _opened(folder, data)
    if any((folder / name).is_file() for name in _OTHERS):
        return _opened(folder, _converted(folder))
    return None


def _wrong(data: Mapping[str, Any]) -> str | None:
    """What keeps the content of a tokenizer.json from being one."""
    model = data.get("model")
    if not isinstance(model, dict):
        return '"model" is no mapping'
    vocab, merges, added = model.get("vocab"), model.get("merges"), data.get("added_tokens")
    ids = vocab.values() if isinstance(vocab, dict) else ()
    right = {
        '"vocab" of the model neither maps tokens to ids nor lists tokens with scores': (
            all(map(_is_id, ids))
            and (isinstance(vocab, dict) or _all(vocab, lambda each: _of(each, str, (int, float))))
        ),
        '"merges" of the model are no pairs of tokens': merges is None
        or _all(merges, lambda each: _of(_halves(each), str, str)),
        '"added_tokens" are no list of tokens with content and id': added is None
        or _all(
            added,
            lambda entry: (
                isinstance(entry, dict)
                and isinstance(entry.get("content"), str)
                and _is_id(entry.get("id"))
            ),
        ),
    }
    return next((text for text, held in right.items() if not held), None)


def _all(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value))


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _of(value: Any, *types: Any) -> bool:
    fits = type(value) is list and len(value) == len(types)
    return fits and all(map(isinstance, value, types))


def _halves(merge: Any) -> Any:
    return merge.split(" ", 1) if isinstance(merge, str) else merge


def _opened(folder: Path, data: dict[str, Any]) -> Tokenizer:
    listed = data["model"]["vocab"]
    if not isinstance(listed, Mapping):
        listed = {piece: index for index, (piece, _) in enumerate(listed)}
    vocab = dict(listed)
    listed = data.get("added_tokens") or []
    known = {entry["content"] for entry in listed}
    added = {entry["content"]: entry for entry in (*listed, *_declared(folder))}
    data["added_tokens"] = [*listed, *(added[text] for text in added if text not in known)]
    return Tokenizer(
        folder, data, {**vocab, **{text: int(entry["id"]) for text, entry in added.items()}}, added
    )


def _declared(folder: Path) -> Iterable[dict[str, Any]]:
    """Added tokens that tokenizer_config.json alone may name."""
    config = read_config(folder, "tokenizer_config.json")
    for number, entry in (config.get("added_tokens_decoder") or {}).items():
        flags = {flag: bool(entry.get(flag)) for flag in FLAGS}
        yield {"id": int(number), "content": entry["content"], **flags}


def _converted(folder: Path) -> dict[str, Any]:
    try:
        from transformers import AutoTokenizer

        return json.loads(
            AutoTokenizer.from_pretrained(str(folder), use_fast=True).backend_tokenizer.to_str()
        )
    except BaseException as error:  # transformers raises anything here, Rust below it more
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = f"has no {FILE}, and transformers cannot make one: {error}"
        raise PomonaError(
            message, where=folder, remedy="save the tokenizer with save_pretrained"
        ) from None


def without_tail(tokenizer: Tokenizer, rows: int) -> Tokenizer:
    """The tokenizer without tokens the model has no row for (ids from `rows`), and without merges
    that need them.
    """
    gone = {text for text, index in tokenizer.vocab.items() if index >= rows}
    if not gone:
        return tokenizer
    data = copy.deepcopy(dict(tokenizer.data))
    model = data["model"]
    listed = model["vocab"]
    model["vocab"] = (
        {t: i for t, i in listed.items() if t not in gone}
        if isinstance(listed, Mapping)
        else listed[:rows]
    )
    if model.get("merges"):
        model["merges"] = [
            pair for pair in map(_pair, model["merges"]) if not gone & {*pair, "".join(pair)}
        ]
    data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["content"] not in gone]
    kept = {text: entry for text, entry in tokenizer.added.items() if text not in gone}
    return Tokenizer(
        tokenizer.folder, data, {t: i for t, i in tokenizer.vocab.items() if t not in gone}, kept
    )


def _pair(merge: Any) -> tuple[str, str]:
    first, second = _halves(merge)
    return first, second


def union(base: Tokenizer, others: Sequence[Tokenizer]) -> Tokenizer:
    """All tokens of all tokenizers: the base's keep their ids, then come the new tokens of each
    other one in the order of its ids.

    New pieces become pieces, new added tokens added tokens with their flags. BPE: the others'
    merges follow the base's, so that new pieces are found where the base's merges leave them; text
    is cut by the base's normaliser and pre-tokenizer. Raises PomonaError for tokenizers of
    different kinds.
    """
    new: dict[str, Mapping[str, Any] | None] = {}
    merges: dict[tuple[str, str], None] = {}
    special: list[Mapping[str, Any]] = []
    scores: dict[str, float] = {}
    for other in others:
        if other.kind != base.kind:
            raise PomonaError(
                f"is a {other.kind} tokenizer, {base.folder} has {base.kind}: they have no union",
                where=other.folder / FILE,
                remedy="choose one: tokenizer_source: base, or a model",
            )
        for text in sorted(other.vocab, key=lambda text: other.vocab[text]):
            if text not in base.vocab:
                new.setdefault(text, other.added.get(text))
            elif text not in base.added and other.added.get(text, {}).get("special"):
                special.append({**other.added[text], "id": base.vocab[text]})
        merges |= dict.fromkeys(map(_pair, other.data["model"].get("merges") or ()))
        scores = {**_scores(other.data["model"]["vocab"]), **scores}
    return extended(base, new, special, merges, scores)


def extended(
    base: Tokenizer,
    new: Mapping[str, Mapping[str, Any] | None],
    marked: Iterable[Mapping[str, Any]] = (),
    merges: Iterable[tuple[str, str]] = (),
    scores: Mapping[str, float] | None = None,
) -> Tokenizer:
    """The base with more tokens behind its own: None for a piece, an added token's entry otherwise.
    `marked`: entries for known pieces.

    merges: of BPE, laid behind the base's as far as their tokens are there. scores: of Unigram
        pieces, the lowest where there is none.

    All added tokens are put among the pieces too: a tokenizer.json numbers the ones that are not
    there anew when it is read.
    """
    if not new and not marked:
        return base
    data = copy.deepcopy(dict(base.data))
    start = max(base.vocab.values(), default=-1) + 1
    ids = {text: start + place for place, text in enumerate(new)}
    entries = [{**entry, "id": ids[text]} for text, entry in new.items() if entry is not None]
    data["added_tokens"] = sorted(
        [*data["added_tokens"], *({e["content"]: e for e in marked}.values()), *entries],
        key=lambda entry: entry["id"],
    )
    vocab = {**base.vocab, **ids}
    data["model"]["vocab"] = _pieces(base, vocab, scores or {})
    if data["model"].get("merges") is not None:
        known = dict.fromkeys(map(_pair, data["model"]["merges"]))
        fresh = [
            pair for pair in merges if pair not in known and {*pair, "".join(pair)} <= vocab.keys()
        ]
        data["model"]["merges"] = [list(pair) for pair in (*known, *fresh)]
    return Tokenizer(
        base.folder, data, vocab, {entry["content"]: entry for entry in data["added_tokens"]}
    )


def _scores(listed: Any) -> dict[str, float]:
    return {} if isinstance(listed, Mapping) else dict(listed)


def _pieces(base: Tokenizer, vocab: Mapping[str, int], scores: Mapping[str, float]) -> Any:
    listed = base.data["model"]["vocab"]
    ordered = sorted(vocab, key=lambda text: vocab[text])
    if isinstance(listed, Mapping):
        return {text: vocab[text] for text in ordered}
    if [vocab[text] for text in ordered] != list(range(len(ordered))):
        raise PomonaError(
            "has ids without a token",
            where=base.folder / FILE,
            remedy="choose one tokenizer: tokenizer_source: MODEL",
        )
    known = {**scores, **_scores(listed)}
    lowest = min(known.values(), default=0.0)
    return [[text, known.get(text, lowest)] for text in ordered]


def files_of(tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files transformers needs for it, by name; settings and chat template are those of its
    folder.
    """
    files = {
        name: content_of(tokenizer.folder / name)
        for name in _COPIED
        if os.path.lexists(tokenizer.folder / name)
    }
    config = read_config(tokenizer.folder, "tokenizer_config.json")
    if "added_tokens_decoder" in config:
        entries = {
            str(entry["id"]): {k: v for k, v in entry.items() if k != "id"}
            for entry in tokenizer.added.values()
        }
        config["added_tokens_decoder"] = entries
        files["tokenizer_config.json"] = json.dumps(config, indent=1, ensure_ascii=False).encode()
    files[FILE] = json.dumps(tokenizer.data, ensure_ascii=False).encode()
    return files


AVERAGE, ZERO = -2, -1


@dataclass(frozen=True)
class Alignment:
    """For each row of the result: where each model has it, and what stands in for models without
    it.

    own[model][row]: the model's row for it, −1 where it has none. donor[row]: place of the model
    whose row stands in, ZERO, or AVERAGE of those who have it; donor_row[row]: that model's row.
    forced[row]: the stand-in is for all models. Rows from `filled` on are padding: the mean of the
    others.
    """

    models: tuple[str, ...]
    own: tuple[NDArray[np.int64], ...]
    donor: NDArray[np.int64]
    donor_row: NDArray[np.int64]
    forced: NDArray[np.bool_]
    filled: int

    @property
    def rows(self) -> int:
        """Rows of the result."""
        return len(self.donor)

    def same(self, model: int, rows: int) -> bool:
        """Whether a model of so many rows already has exactly the result's rows."""
        return (
            rows == self.rows == self.filled
            and not self.forced.any()
            and np.array_equal(self.own[model], np.arange(rows))
        )


def align(
    result: Tokenizer,
    vocabularies: Mapping[str, Mapping[str, int]],
    rows: Mapping[str, int],
    *,
    base: str | None,
    owner: str | None = None,
    tokens: Mapping[str, Mapping[str, Any]],
    multiple: int | None = None,
) -> Alignment:
    """Match rows by token.

    vocabularies: per model token → id. rows: per model the rows of its embedding; ids from there on
        count as absent.
    A token a model lacks gets the row of the only model that has it, else the base's, else the mean
    of those who have it; zero when none has it. `tokens` overrides this by token: {"source": model
    | {"kind": "zero"} | {"kind": "model_token", …}, "force": bool}; with force all models get that
    row. `multiple`: rows are padded to a multiple with the mean row. owner: the model the result's
    ids are of; rows among them that have no token are its own.
    Raises PomonaError for sources that are no models of the merge, or lack the token.
    """
    models = tuple(vocabularies)
    filled = max(len(result.vocab), max(result.vocab.values(), default=-1) + 1)
    total = -(-filled // multiple) * multiple if multiple else filled
    own = [np.full(total, -1, np.int64) for _ in models]
    for place, model in enumerate(models):
        known, limit = vocabularies[model], rows[model]
        for text, row in result.vocab.items():
            index = known.get(text, -1)
            if index < limit:
                own[place][row] = index
    if owner in models:
        spare = np.setdiff1d(
            np.arange(min(filled, rows[owner])),
            np.fromiter(result.vocab.values(), np.int64, len(result.vocab)),
        )
        own[models.index(owner)][spare] = spare
    forced = np.zeros(total, bool)
    donor, donor_row = _donors(own, models.index(base) if base in models else None)
    for text, rule in tokens.items():
        row = result.vocab[text]
        if rule.get("source") is not None:
            donor[row], donor_row[row] = _source(text, rule["source"], models, vocabularies, rows)
        forced[row] = bool(rule.get("force"))
    return Alignment(models, tuple(own), donor, donor_row, forced, filled)


def _donors(
    own: Sequence[NDArray[np.int64]], base: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    table = np.stack(own)
    count = (table >= 0).sum(0)
    donor = np.where(count == 0, ZERO, AVERAGE)
    donor = np.where(count == 1, (table >= 0).argmax(0), donor)
    if base is not None:
        donor = np.where((count > 1) & (table[base] >= 0), base, donor)
    return donor, np.take_along_axis(table, np.maximum(donor, 0)[None], 0)[0]


def _source(
    text: str,
    source: Any,
    models: Sequence[str],
    vocabularies: Mapping[str, Mapping[str, int]],
    rows: Mapping[str, int],
) -> tuple[int, int]:
    where = f'tokenizer: tokens: "{text}"'
    rule: Mapping[str, Any] = (
        source
        if isinstance(source, Mapping)
        else {"kind": "model_token", "model": source, "token": text}
    )
    if rule.get("kind") == "zero":
        return ZERO, 0
    model = str(rule.get("model"))
    if model not in models:
        raise PomonaError(
            f'its source "{model}" is not merged', where=where, remedy=nearest(model, models)
        )
    row = rule.get("token_id")
    if row is None:
        row = vocabularies[model].get(rule["token"], -1)
    if not 0 <= row < rows[model]:
        wanted = f"id {row}" if rule.get("token_id") is not None else f'token "{rule["token"]}"'
        raise PomonaError(
            f'"{model}" has no row for {wanted}',
            where=where,
            remedy="name a model that has it, or {kind: zero}",
        )
    return models.index(model), int(row)


def aligned(alignment: Alignment, tensors: Sequence[Stored], model: int, dtype: str) -> NewTensor:
    """One model's vocabulary tensor with the result's rows, in `dtype`. `tensors`: the same tensor
    of every model (rows × anything).

    Rows are copied; means are taken in float32 and rounded once. Raises PomonaError when tensors
    differ in what is not the vocabulary.
    """
    first = tensors[model]
    for other in tensors:
        if other.shape[1:] != first.shape[1:]:
            message = (
                f'"{other.name}" is {list(other.shape)} and {list(first.shape)} in '
                f"{first.folder}: only rows may differ"
            )
            raise PomonaError(message, where=other.folder, remedy="merge models of one width")
    shape = (alignment.rows, *first.shape[1:])
    return NewTensor(dtype, shape, lambda: _blocks(alignment, tensors, model, dtype))


def _blocks(
    alignment: Alignment, tensors: Sequence[Stored], model: int, dtype: str
) -> Iterator[bytes]:
    models = [TensorRows(stored) for stored in tensors]
    width = models[0].shape[1]
    plain = all(stored.dtype == dtype for stored in tensors)
    pads = alignment.rows > alignment.filled
    total = np.zeros(width)
    for rows in row_blocks(alignment.filled, width):
        lacking = (alignment.own[model][rows] < 0) | alignment.forced[rows]
        if plain and not (lacking & (alignment.donor[rows] == AVERAGE)).any():
            copied = _rows(alignment, models, model, rows, TensorRows.stored)
            total += to_float32(copied, dtype).sum(0, dtype=np.float64) if pads else 0
            yield copied.tobytes()
        else:
            block = _rows(alignment, models, model, rows, TensorRows.float32)
            total += block.sum(0, dtype=np.float64)
            yield encode_finite(block, dtype, tensors[model].name, tensors[model].folder)
    mean = (total / max(1, alignment.filled)).astype(np.float32)
    for rows in row_blocks(alignment.rows - alignment.filled, width):
        block = np.tile(mean, (rows.stop - rows.start, 1))
        yield encode_finite(block, dtype, tensors[model].name, tensors[model].folder)


def _rows(
    alignment: Alignment,
    models: Sequence[TensorRows],
    model: int,
    rows: slice,
    read: Callable[[TensorRows, NDArray[np.int64]], NDArray[Any]],
) -> NDArray[Any]:
    own, donor = alignment.own[model][rows], alignment.donor[rows]
    mine = (own >= 0) & ~alignment.forced[rows]
    if mine.all():
        return read(models[model], own)
    first = read(models[model], own[mine])
    out = np.zeros((len(own), first.shape[1]), first.dtype)
    out[mine] = first
    for place, other in enumerate(models):
        given = ~mine & (donor == place)
        if given.any():
            out[given] = read(other, alignment.donor_row[rows][given])
    mean = np.flatnonzero(~mine & (donor == AVERAGE))
    if len(mean):
        known = [array[rows][mean] for array in alignment.own]
        for other, indices in zip(models, known, strict=True):
            out[mean[indices >= 0]] += read(other, indices[indices >= 0])
        out[mean] /= (np.stack(known) >= 0).sum(0, dtype=np.float32)[:, None]
    return out

"""Texts that a method looks at: read, compared with those of the test, and run through a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.forget.plain import read_plain
from pomona.models import load
from pomona.records import read
from pomona.text import words_of

Norms = Mapping[str, NDArray[np.float32]]
Progress = Callable[[int, int], None]
SPAN = 13  # words that no calibration text shares with a test text (Brown et al. 2020, appendix C)
_WINDOW = 2048  # tokens that are read at once
_COLUMNS = ("text", "prompt", "completion")


def read_texts(source: str | Path) -> list[str]:
    """The texts of a table, or of a .txt file, which is one. Raises PomonaError for what cannot be
    read, a table without a column of texts, and where there is no text.
    """
    plain = Path(source).suffix == ".txt"
    texts = [read_plain(Path(source))] if plain else list(_rows(source))
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise PomonaError("holds no text", where=source, remedy="give a table with texts")
    return texts


def _rows(source: str | Path) -> Iterator[str]:
    records = read(source)
    names = [name for name in _COLUMNS if name in records.schema.names]
    if not names:
        raise PomonaError(
            f"has no column {' or '.join(_COLUMNS[:2])}",
            where=source,
            remedy="name the column of texts so, or give a .txt file",
        )
    chosen = names[:1] if names[0] == "text" else names
    for batch in read(source, columns=chosen).batches():
        for row in batch.to_pylist():
            yield "".join(str(row[name]) for name in chosen if row[name] is not None)


def digest_of(texts: Collection[str]) -> str:
    """How a signature names texts: how many, and a hash of them."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "backslashreplace"))
    return f"{len(texts)}-{digest.hexdigest()[:12]}"


def refuse_overlap(
    calibration: Collection[str], test: Collection[str], where: object, other: object
) -> None:
    """Raise PomonaError when a text of `where` has 13 consecutive words of one of `other`, or is
    one of fewer words: what the model was fitted to is no test of it.
    """
    seen = {span for text in test for span in _spans(text)}
    for place, text in enumerate(calibration):
        shared = next((span for span in _spans(text) if span in seen), None)
        if shared is not None:
            raise PomonaError(
                f'text {place + 1} overlaps {other}: "{" ".join(shared)[:80]}"',
                where=where,
                remedy="calibrate on texts that are not tested on, such as those of training",
            )


def _spans(text: str) -> Iterator[tuple[str, ...]]:
    words = words_of(text)
    if words:
        yield from (tuple(words[at : at + SPAN]) for at in range(max(1, len(words) - SPAN + 1)))


def input_norms(
    folder: Path, texts: Collection[str], names: Collection[str], progress: Progress
) -> Norms:
    """‖x‖ of each input of the linear layers `names`, over all tokens of the texts (Sun et al.
    2024, §3). Raises PomonaError for a tensor that is no linear layer of the network.
    """
    sums, _ = _summed(folder, texts, names, lambda x: x.square().sum(0), progress)
    return {name: np.sqrt(value).astype(np.float32) for name, value in sums.items()}


def second_moments(
    folder: Path, texts: Collection[str], names: Collection[str], progress: Progress
) -> Mapping[str, NDArray[np.float64]]:
    """The mean of x·xᵀ over all tokens of the texts, for the inputs x of the linear layers `names`.
    Raises PomonaError as `input_norms`.
    """
    sums, tokens = _summed(folder, texts, names, lambda x: x.T @ x, progress)
    return {name: value / tokens for name, value in sums.items()}


def _summed(
    folder: Path,
    texts: Collection[str],
    names: Collection[str],
    part: Callable[[Any], Any],
    progress: Progress,
) -> tuple[dict[str, NDArray[np.float64]], int]:
    """`part` of the inputs of linear layers `[tokens, inputs]`, summed over windows of the texts;
    and the number of tokens.
    """
    import torch

    model: Any = load(str(folder), dtype="float32")
    modules = dict(model.network.named_modules())
    sums: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def seen(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + part(x)

        return seen

    hooks = [
        modules[module].register_forward_pre_hook(watch(name))
        for name in names
        if (module := name.removesuffix(".weight")) in modules
    ]
    tokens = 0
    with torch.no_grad():
        for place, ids in enumerate(model.codec.encode(list(texts), special=True)):
            longest = min(_WINDOW, model.network.config.max_position_embeddings)
            for start in range(0, len(ids), longest):
                model.network(torch.tensor([ids[start : start + longest]]), use_cache=False)
            tokens += len(ids)
            progress(place + 1, len(texts))
    for hook in hooks:
        hook.remove()
    for name in names:
        if name not in sums:
            remedy = "what goes into it cannot be watched: choose a method that looks at no texts"
            raise PomonaError(f'"{name}" is no linear layer', where=folder, remedy=remedy)
    return {name: value.numpy() for name, value in sums.items()}, tokens

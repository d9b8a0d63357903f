"""What a network saw at each place of some texts, and which token came next: its memory, searched
by the states it has while it answers (Khandelwal et al. 2020, arXiv 1911.00172).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pomona.documents import parse_json
from pomona.errors import PomonaError, quantity
from pomona.files import atomic_file
from pomona.models.torch.batches import in_batches, padded
from pomona.models.torch.native import NativeModel

_KEYS = 1 << 16  # compared at once
_TEXTS = 1 << 12  # encoded at once
_PRODUCTS = 1 << 24  # of states and keys at once: 64 MB
_BLOCK = 1 << 20  # bytes
_TYPES = {"float32": ("F32", np.float32), "float16": ("F16", np.float16)}
_REMEDY = "build one with `pomona sample datastore`"


@dataclass(frozen=True)
class _Text:
    """Token ids int32 `[t]`, of which those from `first` on are kept with what predicted them."""

    ids: NDArray[np.int32]
    first: int

    @property
    def places(self) -> int:
        """Tokens whose states are kept."""
        return len(self.ids) - self.first


@dataclass(frozen=True, eq=False)
class Datastore:
    """`keys` float32 or float16 `[n, d]`: what goes into the output projection at a place of a
    text. `tokens`, integers `[n]`: the next token there. `groups`: the places of each group of
    texts, from and to; without any, all are of one.

    `identity` is that of the model the keys are from; only with it can they be compared. `origin`
    names the content where it is known by what it was made from.
    """

    keys: torch.Tensor
    tokens: torch.Tensor
    identity: str
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    origin: str | None = None

    @classmethod
    def build(cls, model: NativeModel, texts: Sequence[str]) -> Datastore:
        """One entry for each token of the texts after their first. A PomonaError when no text has
        two tokens.

        Runs in the calling thread: use it before the model answers requests. Texts longer than the
        context are cut off there.
        """
        encoded = [_Text(ids[: model.context], 1) for ids in _encoded(model.codec.prompts, texts)]
        if not any(text.places > 0 for text in encoded):
            remedy = "give longer texts"
            raise PomonaError("no text has two tokens", where="Datastore.build", remedy=remedy)
        return _filled(cls._blank(model, encoded, {}, "float32"), model, encoded)

    @classmethod
    def of_answers(
        cls,
        model: NativeModel,
        prompts: Sequence[str],
        answers: Sequence[str],
        groups: Sequence[str] | None = None,
        *,
        out: str | Path | None = None,
        dtype: str = "float32",
    ) -> Datastore:
        """One entry for each token of the answers, their end among them, each after its prompt; the
        prompts' own tokens have none. As `build` otherwise.

        With `out` the entries go into that file as they come, whole or not at all, and are mapped
        into memory: what is held grows with the texts alone. dtype: of the keys, float32 or
        float16. A PomonaError when the lists differ in length, or nothing of any answer fits into
        the context.
        """
        where = "Datastore.of_answers"
        if len(prompts) != len(answers) or len(prompts) != len(groups or prompts):
            counts = f"{quantity(len(prompts), 'prompt')}, {quantity(len(answers), 'answer')}"
            remedy = "give one of each a row"
            raise PomonaError(f"{counts} do not belong together", where=where, remedy=remedy)
        if dtype not in _TYPES:
            raise PomonaError(f'unknown dtype "{dtype}"', where=where, remedy="float32 or float16")
        codec = model.codec
        said = partial(codec.completions, end=codec.end is not None)
        rows = [
            _Text(np.concatenate([ids, answer])[: model.context], len(ids))
            for ids, answer in zip(
                _encoded(codec.prompts, prompts), _encoded(said, answers), strict=True
            )
        ]
        names = groups or [""] * len(rows)
        order = sorted(range(len(rows)), key=lambda row: names[row])
        texts = [rows[row] for row in order]
        if not any(text.places > 0 for text in texts):
            raise PomonaError("no answer has a place", where=where, remedy="give shorter prompts")
        spans = _spans(texts, [groups[row] for row in order] if groups else [])
        if out is None:
            return _filled(cls._blank(model, texts, spans, dtype), model, texts)
        if Path(out).exists():
            cls.open(out)  # only one of ours is replaced
        with atomic_file(out) as file:
            blank = cls._blank(model, texts, spans, dtype, file)
            _filled(blank, model, texts)
        return cls.open(out)

    @classmethod
    def _blank(
        cls,
        model: NativeModel,
        texts: Sequence[_Text],
        groups: Mapping[str, tuple[int, int]],
        dtype: str,
        path: Path | None = None,
    ) -> Datastore:
        """The store of the texts before anything is in it, in memory or in a new file."""
        head: Any = model.network.get_output_embeddings()
        shape = (sum(max(0, text.places) for text in texts), head.weight.shape[1])
        made = hashlib.sha256(f"{model.identity}:{dtype}:{json.dumps(groups)}:".encode())
        for text in texts:
            made.update(f"{text.first}:{len(text.ids)}:".encode() + text.ids.tobytes())
        store = cls(torch.empty(0), torch.empty(0), model.identity, groups, made.hexdigest()[:16])
        if path is None:
            keys: Any = np.empty(shape, _TYPES[dtype][1])
            tokens: Any = np.empty(shape[0], np.int32)
        else:
            keys, tokens = _new_file(path, shape, dtype, store._about)
        return replace(store, keys=torch.from_numpy(keys), tokens=torch.from_numpy(tokens))

    def save(self, path: str | Path) -> Path:
        """Write the store as one safetensors file, whole or not at all."""
        shape, dtype = (len(self.keys), self.keys.shape[1]), str(self.keys.dtype).split(".")[1]
        with atomic_file(path) as partial:
            keys, tokens = _new_file(partial, shape, dtype, self._about)
            keys[:], tokens[:] = self.keys.cpu().numpy(), self.tokens.cpu().numpy()
            keys.flush()
            tokens.flush()
        return Path(path)

    @classmethod
    def open(
        cls, path: str | Path, *, device: str | torch.device = "cpu", dtype: str | None = None
    ) -> Datastore:
        """What `save` or `of_answers` wrote: mapped into memory, or copied to another device or
        type of keys. A PomonaError when it is not such a file.
        """
        try:
            with safe_open(str(path), "pt") as file:
                keys, tokens = file.get_tensor("keys"), file.get_tensor("tokens")
                about = file.metadata() or {}
            groups = {
                str(name): (int(start), int(end))
                for name, (start, end) in parse_json(
                    about.get("groups", "{}").encode(), path
                ).items()
            }
            store = cls(keys, tokens, about["identity"], groups, about.get("origin"))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise PomonaError(f"is no datastore: {error}", where=path, remedy=_REMEDY) from error
        whole = keys.ndim == 2 and tokens.shape == keys.shape[:1] and keys.numel()
        kinds = keys.is_floating_point() and not tokens.is_floating_point()
        if not (whole and kinds and tokens.min() >= 0) or not all(
            0 <= a <= b <= len(keys) for a, b in groups.values()
        ):
            message = "its keys and tokens do not belong together"
            raise PomonaError(message, where=path, remedy=_REMEDY)
        kind = keys.dtype if dtype is None else getattr(torch, dtype)
        return replace(store, keys=keys.to(device, kind), tokens=tokens.to(device))

    @property
    def _about(self) -> dict[str, str]:
        own = {"identity": self.identity, "groups": json.dumps(self.groups)}
        return own if self.origin is None else {**own, "origin": self.origin}

    @cached_property
    def digest(self) -> str:
        """16 hex digits that name the content."""
        if self.origin is not None:
            return self.origin
        content = hashlib.sha256(json.dumps(self.groups).encode() if self.groups else b"")
        for part in (self.keys, self.tokens):
            for start in range(0, len(part), _KEYS):
                content.update(part[start : start + _KEYS].cpu().numpy().tobytes())
        return content.hexdigest()[:16]

    @property
    def bytes(self) -> int:
        """Bytes that it takes, in memory and in its file."""
        return self.keys.nbytes + self.tokens.nbytes

    def span(self, group: str | None = None) -> tuple[int, int]:
        """The entries of a group, from and to: none where nothing is of it, all without a group."""
        return (0, len(self.keys)) if group is None else self.groups.get(group, (0, 0))

    def flops(self, group: str | None = None) -> float:
        """Of one search: the products of a state with all keys of the group."""
        start, end = self.span(group)
        return 2.0 * (end - start) * self.keys.shape[1]

    def spread(self, k: int = 16, *, sampled: int = 512, seed: int = 0) -> float:
        """The mean squared distance of the k entries nearest to an entry within its group, itself
        left out, over so many that are drawn: what temperatures are measured in.
        """
        drawn = np.random.default_rng(seed).integers(0, len(self.keys), sampled)
        means: list[torch.Tensor] = []
        for group in self.groups or [None]:
            start, end = self.span(group)
            own = drawn[(drawn >= start) & (drawn < end)]
            if len(own) and end - start > 1:
                distances, _ = self.nearest(self.keys[torch.from_numpy(own)], k + 1, group)
                means.append(distances[:, 1:].mean(1))
        return float(torch.cat(means).mean()) if means else math.nan

    def probabilities(
        self,
        states: torch.Tensor,
        vocabulary: int,
        *,
        k: int,
        temperature: float,
        group: str | None = None,
    ) -> torch.Tensor:
        """Probability of each token by the neighbours of each state, float32 `[rows, vocabulary]`,
        from states `[rows, d]`; all 0 where the group has no entry.

        p(w) is the softmax of −(squared distance) / temperature over the k nearest keys of the
        group, summed over those whose next token is w (Khandelwal et al. 2020, eq. 2).
        """
        distances, entries = self.nearest(states, k, group)
        weights = torch.softmax(-distances / temperature, dim=-1)
        sums = torch.zeros((len(states), vocabulary), device=states.device)
        tokens = self.tokens.to(states.device)[entries].long()
        return sums.scatter_add_(1, tokens, weights)

    def log_probabilities(
        self, states: torch.Tensor, vocabulary: int, *, k: int, temperature: float
    ) -> torch.Tensor:
        """The logarithm of `probabilities`. A token that no neighbour has gets what the least
        likely found token of its row has: log 0 would outweigh everything. (The authors' code takes
        the least of the whole batch, so that an answer depends on the others of its batch.)
        """
        sums = self.probabilities(states, vocabulary, k=k, temperature=temperature)
        least = torch.where(sums > 0, sums, torch.inf).amin(dim=-1, keepdim=True)
        return torch.where(sums > 0, sums, least).log()

    def nearest(
        self, states: torch.Tensor, k: int, group: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared distances, ascending, and entries of the k nearest keys of the group (fewer where
        it has fewer), `[rows, k]` each. Every key is compared, in blocks.
        """
        states, (first, end) = states.float(), self.span(group)
        device = states.device
        sizes = states.square().sum(1, keepdim=True)
        best = torch.empty((len(states), 0), device=device)
        entries = torch.empty((len(states), 0), dtype=torch.int64, device=device)
        step = max(1, min(_KEYS, _PRODUCTS // max(1, len(states))))
        for start in range(first, end, step):
            part = slice(start, min(start + step, end))
            keys = self.keys[part].to(device, torch.float32)
            squares = self._squares[part].to(device)
            # |s − k|² less |s|², which is the same for all keys
            scores = torch.addmm(squares[None, :], states, keys.T, alpha=-2)
            found, at = scores.topk(min(k, len(keys)), dim=1, largest=False)
            best, entries = torch.cat([best, found], 1), torch.cat([entries, at + start], 1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            entries = entries.gather(1, order)
        return (best + sizes).clamp_(min=0), entries

    @cached_property
    def _squares(self) -> torch.Tensor:
        """The squared length of each key, float32 `[n]`."""
        blocks = (self.keys[at : at + _KEYS].float() for at in range(0, len(self.keys), _KEYS))
        return torch.cat([block.square().sum(1) for block in blocks])


def _encoded(
    encode: Callable[[Sequence[str]], list[list[int]]], texts: Sequence[str]
) -> Iterator[NDArray[np.int32]]:
    """The token ids of each text, some thousand texts at a time."""
    for start in range(0, len(texts), _TEXTS):
        for ids in encode(list(texts[start : start + _TEXTS])):
            yield np.array(ids, np.int32)


def _spans(texts: Sequence[_Text], groups: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The entries of each group, of texts in the order of their groups."""
    spans: dict[str, tuple[int, int]] = {}
    end = 0
    for text, group in zip(texts, groups, strict=False):
        start, end = spans.get(group, (end, end))[0], end + max(0, text.places)
        spans[group] = (start, end)
    return spans


def _filled(store: Datastore, model: NativeModel, texts: Sequence[_Text]) -> Datastore:
    """The blank store of the texts with what the network saw at their places."""
    ends = np.cumsum([max(0, text.places) for text in texts])
    order = [row for row, text in enumerate(texts) if text.places > 0]
    order.sort(key=lambda row: (-len(texts[row].ids), row))

    def run(batch: Sequence[int]) -> list[None]:
        with model.arithmetic:
            states = _states(model, [texts[row].ids for row in batch])
        for row, seen in zip(batch, states, strict=True):
            text, end = texts[row], int(ends[row])
            place = slice(end - text.places, end)
            store.keys[place] = seen[text.first - 1 : len(text.ids) - 1].to("cpu", store.keys.dtype)
            store.tokens[place] = torch.from_numpy(text.ids[text.first :])
        return [None] * len(batch)

    in_batches(order, lambda row: model.budget.scoring(len(texts[row].ids), 1), run, model.report)
    return store


@torch.inference_mode()
def _states(model: NativeModel, rows: Sequence[NDArray[np.int32]]) -> torch.Tensor:
    """The last hidden states `[rows, longest, d]`; rows are padded behind."""
    tokens, seen = padded(list(rows), [0] * len(rows), model.network.device)
    base: Callable[..., Any] = model.network.base_model
    return base(input_ids=tokens, attention_mask=seen, use_cache=False).last_hidden_state


def _new_file(
    path: Path, shape: tuple[int, int], dtype: str, about: Mapping[str, str]
) -> tuple[np.memmap[Any, Any], np.memmap[Any, Any]]:
    """Keys and tokens of a new safetensors file, mapped: its writer wants all tensors in memory."""
    name, kind = _TYPES[dtype]
    keys, tokens = shape[0] * shape[1] * np.dtype(kind).itemsize, shape[0] * 4
    head = {
        "__metadata__": dict(about),
        "keys": {"dtype": name, "shape": list(shape), "data_offsets": [0, keys]},
        "tokens": {"dtype": "I32", "shape": [shape[0]], "data_offsets": [keys, keys + tokens]},
    }
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)  # what follows begins at a multiple of eight bytes
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        _reserve(file, start + keys + tokens)
    return (
        np.memmap(path, kind, "r+", start, shape),
        np.memmap(path, np.int32, "r+", start + keys, (shape[0],)),
    )


def _reserve(file: BinaryIO, size: int) -> None:
    """Make the file so long, with its blocks taken: where a disk fills up behind a mapping, the
    process is killed instead of told.
    """
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        for at in range(file.tell(), size, _BLOCK):
            file.write(bytes(min(_BLOCK, size - at)))

"""LoRA adapters as PEFT saves them, laid on their model: W + s·B·A (Hu et al. 2021, arXiv
2106.09685).

DoRA: Liu et al. 2024, arXiv 2402.09353.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from pomona.merge.preparing.adapter_files import USUAL_ALPHA, Adapter
from pomona.merge.preparing.adapter_parameters import parameter_tensors
from pomona.merge.preparing.low_rank import LowRankUpdate, principal, projected
from pomona.models.tensors import (
    NewTensor,
    Stored,
    TensorRows,
    View,
    encode_finite,
    is_embedding,
    is_head,
    row_blocks,
    stored_array,
    to_float32,
)

_STARTS = {"pissa": principal, "olora": projected}


@dataclass
class Adapted:
    """What an adapter changes: tensors to be made, tensors read from the adapter as they are, and
    notes.

    rows: the vocabulary's new number of rows, None where it stays. untied: whether the model has a
        head of its own from now on.
    """

    made: dict[str, NewTensor] = field(default_factory=dict)
    taken: dict[str, Stored] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: int | None = None
    untied: bool = False

    def untie(self, head: str, tensor: NewTensor | Stored) -> None:
        """Give a head to a model that had none of its own."""
        if isinstance(tensor, NewTensor):
            self.made[head] = tensor
        else:
            self.taken[head] = tensor
        self.untied = True


def adapted(view: View, adapter: Adapter, *, tied: bool = False) -> Adapted:
    """Lay an adapter on a model.

    view: the model under the adapter. tied: whether its output embedding is its input embedding.
    Weights are computed in float32 and rounded once to the type they have in the model.
    Raises PomonaError naming the module for tensors the model lacks and for other shapes.
    """
    out = Adapted(notes=list(_said(adapter)))
    heads = [name for name in adapter.whole if is_head(name) and find_tensor(view, name) is None]
    for short, stored in adapter.whole.items():
        if not (tied and short in heads):
            _whole(view, adapter, short, stored, out)
    made, handled = parameter_tensors(view, adapter, lambda short: find_tensor(view, short))
    out.made |= made
    for module, parts in adapter.parts.items():
        if module not in handled:
            _lay(view, adapter, module, parts, out, tied=tied)
    if tied:
        _heads(view, adapter, heads, out)
    _check_rows(view, adapter, out)
    return out


def _said(adapter: Adapter) -> Iterator[str]:
    alpha = adapter.config.get("lora_alpha")
    if alpha is None:
        yield f"{adapter.folder} gives no lora_alpha: {USUAL_ALPHA}, as in PEFT"
    elif alpha == 0 and not adapter.config.get("alpha_pattern"):
        yield f"{adapter.folder} has a lora_alpha of 0: its matrices change nothing"
    if adapter.start:
        name = {"pissa": "PiSSA", "olora": "OLoRA"}[adapter.start]
        yield (
            f"{adapter.folder} was started by {name}: what that took out of the base is taken out "
            "first, as in PEFT; if the model is the base without it, set init_lora_weights to true"
        )


def find_tensor(view: View, short: str) -> str | None:
    """The model's tensor of a name in the adapter; prefixes such as "transformer." may be missing
    on either side.
    """
    if short in view.tensors:
        return short
    names = [
        name for name in view.tensors if name.endswith("." + short) or short.endswith("." + name)
    ]
    return names[0] if len(names) == 1 else None


def _needed(view: View, adapter: Adapter, short: str) -> str:
    name = find_tensor(view, short)
    if name is None:
        raise adapter.wrong(
            f'changes "{short}", which {view.folder} does not have',
            remedy="name the model this adapter was trained on",
        )
    return name


def _embedding(view: View) -> Stored | None:
    embeddings = [name for name in view.tensors if is_embedding(name)]
    return view.tensors[embeddings[0]] if len(embeddings) == 1 else None


def _heads(view: View, adapter: Adapter, heads: list[str], out: Adapted) -> None:
    """What an adapter says of the head of a model that ties it to its embedding. What it has
    trained apart stands apart, as in PEFT.
    """
    where, start = adapter.folder, _embedding(view)
    saved = next((stored for name, stored in adapter.whole.items() if is_embedding(name)), None)
    for name in heads:
        head = adapter.whole[name]
        if saved and _equal(saved, head):
            out.notes.append(f"{where}: lm_head is the input embedding, as in the model")
        else:
            out.untie(name, _in_type(head, start.dtype if start else head.dtype))
            out.notes.append(f"{where} has an lm_head of its own, and so has the result")
    if heads or out.untied or not start or adapter.config.get("ensure_weight_tying"):
        return
    trained = saved or any(
        is_embedding(f"{module}.weight") and "lora_embedding_A" in parts
        for module, parts in adapter.parts.items()
    )
    if trained and not start.name.endswith("shared.weight"):
        out.untie("lm_head.weight", start)
        out.notes.append(
            f"{where} has trained the embedding apart from the head, which stays as it was"
        )


def _equal(one: Stored, other: Stored) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    a, b = TensorRows(one), TensorRows(other)
    return all(np.array_equal(a.stored(rows), b.stored(rows)) for rows in row_blocks(*a.shape))


def _check_rows(view: View, adapter: Adapter, out: Adapted) -> None:
    """Find whether the vocabulary has other rows now. Raises PomonaError where embedding and head
    differ in them.
    """
    start = _embedding(view)
    rows = {name: view.info(name)[1][0] for name in view.tensors if _by_token(name)}
    before = start.shape[0] if start else next(iter(rows.values()), 0)
    new = {name: each.shape[0] for name, each in {**out.made, **out.taken}.items()}
    rows |= {name: count for name, count in new.items() if _by_token(name)}
    sizes = sorted((count, name) for name, count in rows.items())
    if all(count == before for count, _ in sizes) or not any(map(_by_token, new)):
        return
    (few, one), (many, other) = sizes[0], sizes[-1]
    if few != many:
        raise adapter.wrong(
            f'makes "{one}" {few} rows and "{other}" {many}',
            remedy="save both with it, such as by modules_to_save: [embed_tokens, lm_head]",
        )
    out.rows = few
    out.notes.append(
        f"{adapter.folder} was trained with {few} rows of the vocabulary where the model has "
        f"{before}: the result has {few}"
    )


def _by_token(name: str) -> bool:
    return is_embedding(name) or is_head(name)


def _fits(name: str, stored: Stored, shape: tuple[int, ...]) -> bool:
    """Whether an adapter's tensor can stand for the model's: a vocabulary may have other rows."""
    return stored.shape == shape or (_by_token(name) and stored.shape[1:] == shape[1:])


def _whole(view: View, adapter: Adapter, short: str, stored: Stored, out: Adapted) -> None:
    name = _needed(view, adapter, short)
    dtype, shape = view.info(name)
    if not _fits(name, stored, shape):
        raise adapter.misfit(short, stored.shape, shape)
    tensor = _in_type(stored, dtype)
    if isinstance(tensor, NewTensor):
        out.made[name] = tensor
    else:
        out.taken[name] = tensor


def _in_type(stored: Stored, dtype: str) -> NewTensor | Stored:
    if stored.dtype == dtype:
        return stored
    return NewTensor(dtype, stored.shape, lambda: _converted(stored, dtype))


def _converted(stored: Stored, dtype: str) -> Iterator[bytes]:
    values = TensorRows(stored)
    for rows in row_blocks(*values.shape):
        yield encode_finite(values.float32(rows), dtype, stored.name, stored.folder)


def _lay(
    view: View,
    adapter: Adapter,
    module: str,
    parts: Mapping[str, Stored],
    out: Adapted,
    *,
    tied: bool,
) -> None:
    if "base_layer.bias" in parts or "lora_B.bias" in parts:
        name, tensor = _bias(view, adapter, module, parts)
        out.made[name] = tensor
    if set(parts) <= {"base_layer.bias"}:
        return
    short = f"{module}.weight"
    start = (
        _embedding(view) if tied and is_head(short) and find_tensor(view, short) is None else None
    )
    if start and _follows(adapter, parts):
        out.notes.append(f"{adapter.folder}: lm_head is the input embedding, as in the model")
        return
    name = short if start else _needed(view, adapter, short)
    model = start or view.tensors[name]
    dtype, shape = model.dtype, model.shape
    base = parts.get("base_layer", parts.get("token_adapter.base_layer", model))
    if not _fits(name, base, shape):
        raise adapter.misfit(module, base.shape, shape)
    if "token_adapter.trainable_tokens_delta" in parts:
        rows = parts["token_adapter.trainable_tokens_delta"]
        out.made[name] = _with_rows(adapter, module, base, dtype, rows)
        return
    tensor = _with_update(adapter, module, parts, base, dtype)
    if start:
        out.untie(name, tensor)
        out.notes.append(f"{adapter.folder} changes {short} alone: the embedding stays as it was")
    else:
        out.made[name] = tensor


def _follows(adapter: Adapter, parts: Mapping[str, Stored]) -> bool:
    """Whether what changes a tied head is what changes the embedding, saved twice."""
    if adapter.config.get("ensure_weight_tying"):
        return True
    key = "token_adapter.trainable_tokens_delta"
    twins = [
        other[key]
        for module, other in adapter.parts.items()
        if key in other and is_embedding(f"{module}.weight")
    ]
    return key in parts and any(_equal(twin, parts[key]) for twin in twins)


def _bias(
    view: View, adapter: Adapter, module: str, parts: Mapping[str, Stored]
) -> tuple[str, NewTensor]:
    name = _needed(view, adapter, f"{module}.bias")
    dtype, shape = view.info(name)
    start = parts.get("base_layer.bias", view.tensors[name])
    added = parts.get("lora_B.bias")
    for stored in (start, added):
        if stored is not None and stored.shape != shape:
            raise adapter.misfit(name, stored.shape, shape)

    def blocks() -> Iterator[bytes]:
        values = to_float32(stored_array(start), start.dtype)
        if added is not None:
            rank = parts["lora_A"].shape[0]
            values += to_float32(stored_array(added), added.dtype) * np.float32(
                adapter.scale(module, rank)
            )
        yield encode_finite(values, dtype, name, adapter.folder)

    return name, NewTensor(dtype, shape, blocks)


def _with_rows(adapter: Adapter, module: str, start: Stored, dtype: str, new: Stored) -> NewTensor:
    listed = adapter.config.get("trainable_token_indices") or []
    if isinstance(listed, Mapping):
        listed = next(
            (rows for key, rows in listed.items() if module == key or module.endswith("." + key)),
            [],
        )
    if (
        len(listed) != new.shape[0]
        or new.shape[1:] != start.shape[1:]
        or (listed and max(listed) >= start.shape[0])
    ):
        raise adapter.misfit(module, new.shape, start.shape)

    def blocks() -> Iterator[bytes]:
        old, rows = TensorRows(start), TensorRows(new).float32()
        for block in row_blocks(*old.shape):
            values = old.float32(block)
            for row, index in zip(rows, listed, strict=True):
                if block.start <= index < block.stop:
                    values[index - block.start] = row
            yield encode_finite(values, dtype, module, adapter.folder)

    return NewTensor(dtype, start.shape, blocks)


def _with_update(
    adapter: Adapter, module: str, parts: Mapping[str, Stored], base: Stored, dtype: str
) -> NewTensor:
    embedding, shape = "lora_embedding_A" in parts, base.shape
    names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    if not set(names) <= set(parts):
        raise adapter.wrong(
            f'"{module}" has no {" and ".join(names)}', remedy="save the adapter again"
        )
    first, second = (parts[name] for name in names)
    if len(shape) != 2 or len(first.shape) != 2 or len(second.shape) != 2:
        raise adapter.wrong(
            f'"{module}" is no matrix but {list(shape)}', remedy="merge it with PEFT"
        )
    made_for = (second.shape[0], first.shape[1])  # outputs, inputs
    flipped = embedding or (
        made_for[::-1] == shape
        and (made_for != shape or bool(adapter.config.get("fan_in_fan_out")))
    )
    if first.shape[0] != second.shape[1] or (made_for[::-1] if flipped else made_for) != shape:
        raise adapter.misfit(module, made_for[::-1] if flipped else made_for, shape)
    rank = first.shape[0]
    scale = adapter.scale(module, rank)
    taken_out = _STARTS.get(adapter.start or "") if not embedding else None

    def blocks() -> Iterator[bytes]:
        update = _loaded(adapter, parts, (first, second), scale, flipped=flipped)
        if taken_out:
            weight = TensorRows(base).float32()
            b, a = taken_out(weight.T if flipped else weight, rank, scale)
            update = update.without(a.T, b.T) if flipped else update.without(b, a)
        yield from update.blocks(base, dtype)

    return NewTensor(dtype, shape, blocks)


def _loaded(
    adapter: Adapter,
    parts: Mapping[str, Stored],
    matrices: tuple[Stored, Stored],
    scale: float,
    *,
    flipped: bool,
) -> LowRankUpdate:
    a, b = (to_float32(stored_array(stored), stored.dtype) for stored in matrices)
    magnitude = parts.get("lora_magnitude_vector")
    lengths = None
    if magnitude is not None:
        lengths = to_float32(stored_array(magnitude), magnitude.dtype).reshape(-1)
    left, right = (np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)) if flipped else (b, a)
    with np.errstate(over="ignore", invalid="ignore"):
        left = left * np.float32(scale)
    return LowRankUpdate(left, right, lengths, 0 if flipped else 1, str(adapter.folder))

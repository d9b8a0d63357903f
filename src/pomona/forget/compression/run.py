"""Compressing: a checkpoint becomes another one, tensor by tensor, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pomona._version import __version__
from pomona.errors import PomonaError
from pomona.forget.compression.calibration import (
    Norms,
    digest_of,
    input_norms,
    read_texts,
    refuse_overlap,
)
from pomona.forget.compression.ggml import quantise
from pomona.forget.compression.planning import (
    CompressedTensor,
    CompressionPlan,
    floats_of,
    keys_of,
    plan_compression,
)
from pomona.forget.compression.result import Compressed, CompressedModule, Progress
from pomona.forget.compression.settings import BITS, DType, Method, Scope, Settings
from pomona.forget.compression.weights import (
    Floats,
    low_rank,
    rounded,
    smallest,
    smallest_of_blocks,
    smallest_of_rows,
)
from pomona.models import INDEX, locate, read_config
from pomona.models.tensors import (
    FLOATS,
    SHARD,
    Journal,
    Output,
    ResultWorkspace,
    ShardLayout,
    check_free,
    content_of,
    encode_finite,
    full_disk,
    is_table,
    lay_out,
)
from pomona.places import check_outputs
from pomona.workspace import is_full, refuse_changed, room_on_disk, stamp

KIND = "a compressed model"
CARD = "pomona_compress.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
_PART = 1 << 16  # weights that are squared in double precision at once
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def compress(
    model: str | Path,
    out: str | Path,
    *,
    method: Method,
    level: float | None = None,
    scope: Scope | None = None,
    pattern: str | None = None,
    embeddings: bool = False,
    group_size: int | None = None,
    rank: int | None = None,
    share: float | None = None,
    dtype: DType | None = None,
    calibration: str | Path | None = None,
    test: str | Path | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Compressed:
    """Prune, quantise or factorise a model, into a checkpoint that transformers loads as it is, or
    a GGUF file.

    magnitude: the smallest weights become zero (Han et al. 2015); random: as many by chance, the
    control; wanda: the smallest |w|·‖x‖ of each output (Sun et al. 2024). int8: whole numbers of a
    step for each output row, or group; int4: with a zero point too. low_rank: the nearest matrices
    of a rank. Q8_0 … Q2_K: GGUF with llama.cpp's own rounding and mixtures of types. Norms, biases
    and position tables stay as they are.

    A killed call given again goes on with the tensors it has finished. In memory is one tensor at a
    time; with wanda, the model. `progress` is called with what is done and all there is to do.

    Args:
        model: The model: a folder, a name of `pomona models`, a Hugging Face id, or gguf:FILE.
        out: Folder of the result; for GGUF types the file.
        method: How. GGUF types are named as llama.cpp names them.
        level: Share of the weights set to zero, such as 0.9.
        scope: uniform: the same share of every matrix; global: one threshold for all of them.
        pattern: In place of a level, weights kept of so many consecutive inputs, such as 2:4.
        embeddings: Change the embeddings and the output head too.
        group_size: Consecutive weights that share a step; 128 for int4, for int8 the whole row.
        rank: Rank of every matrix.
        share: In place of a rank, share of its parameters that each matrix keeps.
        dtype: Type of the result's weights; as they are stored if left out.
        calibration: Texts that wanda runs the model on: a table with a column text, or prompt and
            completion, or a .txt file.
        test: Table of texts that the calibration must not overlap.
        seed: Seed of random pruning.
        overwrite: Replace a result that is there and that Pomona wrote.
        dry_run: Only tell what would be written, and the zeros of each module.

    Raises:
        PomonaError: options or a model that do not fit, NaN or infinity in the result, a
            calibration that overlaps the test.
        ResourceError: a full disk.
    """
    texts = None if calibration is None else read_texts(calibration)
    settings, out = (
        Settings.of(
            method,
            level=level,
            scope=scope,
            pattern=pattern,
            embeddings=embeddings,
            group_size=group_size,
            rank=rank,
            share=share,
            dtype=dtype,
            calibration=texts and digest_of(texts),
            test=test,
            seed=seed,
        ),
        Path(out),
    )
    if texts and test is not None:
        refuse_overlap(texts, read_texts(test), calibration, test)
    advance = progress or _silent
    if settings.gguf:
        return quantise(str(model), out, settings, overwrite, dry_run, advance)
    folder = _folder(model)
    inputs = [folder, *(one for one in (calibration, test) if one is not None)]
    check_outputs({"the result": out}, inputs, folders=["the result"])
    check_free(out, KIND, overwrite)
    plan = plan_compression(folder, settings, advance)
    layout = lay_out(plan.tensors, SHARD)
    if dry_run:
        return _told(plan, layout, out, {})
    changed = [tensor.name for tensor in plan.tensors if tensor.weights is not None]
    norms = input_norms(folder, texts, changed, advance) if texts else {}
    return _Making(plan, layout, norms, advance).into(out, overwrite=overwrite)


def _silent(done: int, total: int) -> None: ...


def _folder(model: str | Path) -> Path:
    """A folder as it is, also one without a tokenizer; else see `pomona.models.locate`."""
    path = Path(str(model).removeprefix("hf:")).expanduser()
    return path if path.is_dir() else locate(str(model))


def _told(
    plan: CompressionPlan, layout: ShardLayout, out: Path, measured: Mapping[int, Any]
) -> Compressed:
    modules: list[CompressedModule] = []
    packed = 0
    for number, tensor in enumerate(plan.tensors):
        zeros, error = measured.get(number) or (tensor.pruned, None)
        packed += (size := tensor.packed(plan.settings, zeros or 0))
        if tensor.weights is not None:
            modules.append(CompressedModule(tensor.name, tensor.weights, zeros, error, size))
    return Compressed(
        out,
        bool(measured),
        plan.signature,
        plan.settings.document(),
        tuple(modules),
        len(plan.tensors) - len(modules),
        sum(prod(tensor.shape) for tensor in plan.tensors),
        layout.size,
        packed,
        room_on_disk(out.absolute().parent)[0],
        plan.notes,
    )


@dataclass(frozen=True)
class _Making:
    """The work on one plan."""

    plan: CompressionPlan
    layout: ShardLayout
    norms: Norms
    progress: Progress

    def into(self, out: Path, *, overwrite: bool) -> Compressed:
        """Write it as a folder. After a PomonaError nothing stays, after a kill what is done."""
        before = stamp([self.plan.folder])
        space = ResultWorkspace(out.absolute(), KIND, "compressing", overwrite=overwrite)
        try:
            told = self._write(space, before)
            refuse_changed(before, stamp([self.plan.folder]), out)
            space.finish()
        except PomonaError:
            space.remove()
            raise
        except OSError as error:
            if not is_full(error):
                space.release()
                raise
            space.remove()
            raise full_disk(out, self.layout.size) from error
        except BaseException:
            space.release()
            raise
        return told

    def _write(self, space: ResultWorkspace, before: object) -> Compressed:
        plan = self.plan
        about = [plan.signature, str(plan.folder), before, [s.size for s in self.layout.shards]]
        journal = space.open(hashlib.sha256(json.dumps(about).encode()).hexdigest())
        output = Output(space.result, self.layout, fresh=not journal.done)
        try:
            if not journal.done:
                output.sync()
            journal.begin()
            self._tensors(output, journal)
            output.sync()
        finally:
            output.close()
        told = replace(
            _told(plan, self.layout, space.out, journal.done), found=journal.finished_before
        )
        for name, content in _beside(plan, self.layout, told).items():
            (space.result / name).write_bytes(content)
        return told

    def _tensors(self, output: Output, journal: Journal) -> None:
        done, total = 0, self.plan.read
        for number, tensor in enumerate(self.plan.tensors):
            if number not in journal.done:
                data, measured = self._made(tensor)
                output.target(number, tensor).end(0, np.frombuffer(data, np.uint8))
                if journal.add(number, measured):
                    output.sync()
                    journal.save()
            place = tensor.source.place
            done += place.size if place else 0
            self.progress(done, total)

    def _made(self, tensor: CompressedTensor) -> tuple[bytes, Any]:
        """A tensor's bytes, and its zeros and error where it changes."""
        stored = tensor.source
        if stored.dtype not in FLOATS:
            return _raw(tensor), [0, None]
        if tensor.weights is None:
            if tensor.dtype == stored.dtype:
                return _raw(tensor), [0, None]
            return self._encoded(tensor, floats_of(stored)), [0, None]
        values = floats_of(stored)
        if not np.isfinite(values).all():
            return self._encoded(tensor, values), [0, None]  # raises, and says what is in it
        norm = _norm(values)
        flip = self.plan.flipped and values.ndim == 2 and not is_table(tensor.name)
        after = self._changed(tensor, values.T.copy() if flip else values.copy())
        after = np.ascontiguousarray(after.T) if flip else after
        data = self._encoded(tensor, after)
        values -= after
        error = _norm(values) / norm if norm else 0.0
        return data, [int(after.size - np.count_nonzero(after)), error]

    def _encoded(self, tensor: CompressedTensor, values: Floats) -> bytes:
        return encode_finite(values, tensor.dtype, tensor.name, self.plan.folder)

    def _changed(self, tensor: CompressedTensor, values: Floats) -> Floats:
        settings = self.plan.settings
        if settings.method in BITS:
            symmetric = settings.method == "int8"
            return rounded(values, BITS[settings.method], settings.group_size, symmetric=symmetric)
        if tensor.rank is not None:
            return low_rank(values, tensor.rank)
        keys: Any = keys_of(tensor.source, values, settings).reshape(values.shape)
        if settings.method == "wanda":
            keys = np.abs(values) * self.norms[tensor.name]
        if settings.blocks:
            values[smallest_of_blocks(keys, *settings.blocks)] = 0
        elif settings.method == "wanda":
            each = (tensor.pruned or 0) // (values.size // values.shape[-1])
            values[smallest_of_rows(keys, each)] = 0
        else:
            values[smallest(keys, tensor.pruned or 0)] = 0
        return values


def _norm(values: Floats) -> float:
    flat = values.reshape(-1)
    parts = (flat[at : at + _PART].astype(np.float64) for at in range(0, flat.size, _PART))
    return float(np.sqrt(sum(float(part @ part) for part in parts)))


def _raw(tensor: CompressedTensor) -> bytes:
    place = tensor.source.place
    assert place is not None
    with place.file.open("rb") as stream:
        stream.seek(place.offset)
        return stream.read(place.size)


def _beside(plan: CompressionPlan, layout: ShardLayout, told: Compressed) -> dict[str, bytes]:
    """What stands beside the tensors: the model's other files, and the card."""
    files = {
        file.name: content_of(file)
        for file in sorted(plan.folder.iterdir())
        if file.is_file()
        and not file.name.startswith(".")
        and file.suffix not in _WEIGHTS
        and file.name not in (INDEX, "README.md", CARD)
    }
    if plan.settings.dtype and "config.json" in files:
        config = read_config(plan.folder)
        name = "torch_dtype" if "torch_dtype" in config else "dtype"
        files["config.json"] = _json({**config, name: _DTYPES[plan.settings.dtype]})
    if layout.index:
        files[INDEX] = layout.index
    card = {**told.to_json(), "version": __version__, "model": plan.folder.name}
    for name in ("out", "written", "free", "found"):
        del card[name]
    before = read_config(plan.folder, CARD).get("signature")
    files[CARD] = _json({**card, **({"before": before} if before else {})})
    return files


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode()

"""`pomona merge moe`: dense models become the experts of a Mixtral, Qwen or DeepSeek mixture."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pomona.errors import PomonaError, nearest
from pomona.merge.engine.run import Progress, merge_planned
from pomona.merge.moe.configuration import (
    KINDS,
    RANDOM,
    ExpertSection,
    MoeConfiguration,
    read_configuration,
)
from pomona.merge.moe.gates import degenerate, gates_of
from pomona.merge.plan import MergePlan, MergeResult, TensorInput, TensorJob
from pomona.merge.planning.models import Opened, folders_of, locate_model, numbers_first
from pomona.merge.planning.planner import check_quantised, open_models
from pomona.merge.planning.result import extra_files, settings_notes, tokenizer_folder
from pomona.merge.reading.reader import DTYPES
from pomona.merge.reading.recipe import MergeRecipe, MergeSource
from pomona.models import read_config
from pomona.models.tensors import (
    NewTensor,
    Stored,
    TensorRows,
    View,
    encode_finite,
    is_computed,
    keep,
    packed_names,
    place_of,
    row_blocks,
    stored_array,
)
from pomona.places import check_outputs
from pomona.workspace import stamp

_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers")
_MLP = re.compile(r"mlp\.(gate|up|down)_proj\.weight")
_SHARED = re.compile(
    r"self_attn\.[qkvo]_proj\.weight|(?:input|post_attention)_layernorm\.weight"
    r"|(?:embed_tokens|norm|lm_head)\.weight"
)
# Further tensors of each kind, and from which dense models it is made.
_MORE = {
    "mixtral": "",
    "qwen2_moe": r"self_attn\.[qkv]_proj\.bias",
    "qwen3_moe": r".*\.[qk]_norm\..*",
    "deepseek": "",
}
_FROM = {
    "mixtral": ("llama", "mistral"),
    "qwen2_moe": ("qwen2", "llama", "mistral"),
    "qwen3_moe": ("qwen3",),
    "deepseek": ("llama", "mistral"),
}
# Whether they have a shared expert.
_SHARES = {
    "mixtral": (False,),
    "qwen2_moe": (True,),
    "qwen3_moe": (False,),
    "deepseek": (False, True),
}
_HUB_CODE = (
    "transformers loads it with the code of deepseek-ai/deepseek-moe-16b-base on the hub "
    "(trust_remote_code); vLLM has its own"
)
_MIXTRAL = {"gate": "w1", "down": "w2", "up": "w3"}


def build_moe(
    configuration: str | Path,
    out: str | Path,
    *,
    models: Mapping[str, Path] | None = None,
    memory: int | str = "1GiB",
    threads: int | None = None,
    shard_size: int | str = "5GB",
    seed: int = 0,
    device: str | None = None,
    overwrite: bool = False,
    allow_same: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> MergeResult:
    """Make a mixture of experts out of dense models, by mergekit-moe's configuration: the MLPs of
    each are an expert in every layer, all else is the base's.

    Llama and Mistral become a Mixtral, Qwen3 a Qwen3-MoE, and with one shared expert Llama, Mistral
    and Qwen2 a Qwen2-MoE, with names that transformers, vLLM and llama.cpp know; Llama and Mistral
    a DeepSeek mixture where a shared expert has no prompts, or the configuration says so. Gates are
    set by the states of prompts in the base, in float32 on a CPU. Raises PomonaError naming model
    and tensor where the models do not fit each other.

    Args:
        configuration: YAML file as of mergekit-moe: base_model, experts, gate_mode.
        out: Folder of the result. A killed call goes on when the same command is given again.
        memory: Memory for blocks of tensors, such as 1GiB.
        threads: CPU threads; all when left out. The result does not depend on them.
        shard_size: Largest safetensors file, such as 5GB.
        seed: Of random gates and of noise.
        device: Where the base reads prompts, such as cpu or cuda; a GPU when there is one.
        overwrite: Replace a checkpoint that is there and that Pomona wrote; files that others have
            put into its folder stay.
        allow_same: Also where all experts are one model: the result answers as that does until it
            is trained.
        dry_run: Only print what would be read and written.
    """
    told = read_configuration(Path(configuration))
    if not allow_same and len({str(expert.model) for expert in told.experts}) == 1:
        raise PomonaError(
            "all experts are the same model, so the result would answer as that does",
            where=configuration,
            remedy="name others, or allow it (--allow-same) to train the result",
        )

    out = Path(out).absolute()
    refs = tuple(dict.fromkeys((told.base, *(expert.model for expert in told.members))))
    read = [Path(configuration), *folders_of(refs, models or {}, locate_model).values()]
    check_outputs({"the result": out}, read, folders=["the result"])

    def planned(work: Path | None) -> MergePlan:
        return Mixture(told, Path(configuration), models or {}, work, seed, device).plan()

    engine = {"memory": memory, "threads": threads, "shard_size": shard_size, "report": False}
    settings: dict[str, Any] = {"overwrite": overwrite, "dry_run": dry_run, "progress": progress}
    return merge_planned(planned, out, **engine, **settings)


class Mixture:
    """A mixture that is planned: the models are opened and checked, gates and noise prepared."""

    def __init__(
        self,
        told: MoeConfiguration,
        file: Path,
        given: Mapping[str, Path],
        work: Path | None,
        seed: int,
        device: str | None,
    ) -> None:
        self.told, self.file, self.work, self.seed, self.device = told, file, work, seed, device
        models = tuple(MergeSource(one.model) for one in told.members)
        # linear: quantised weights become numbers also where all are quantised alike
        recipe = MergeRecipe("linear", models, base=told.base)
        prepared, self.models, self.sources = open_models(
            recipe, given, locate_model, work, work is None
        )
        self.recipe, self.prepared = recipe, prepared
        self.base = self.models[str(told.base)]
        self.layers = self.base.layout.depth("model.layers")
        self.kind = self._kind()
        config = self.base.config
        asked = str(told.dtype or config.get("dtype") or config.get("torch_dtype"))
        self.dtype = DTYPES.get(asked.removeprefix("torch."))
        about = [told.model_dump(), seed, str(device), stamp(self.sources)]
        digest = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:16]
        self.place = (work or Path()) / f"gates-{digest}"
        self._folders: dict[Path, int] = {}
        self.notes: list[str] = list(prepared.notes) if prepared else []
        self.made: dict[str, NewTensor] = {}

    def plan(self) -> MergePlan:
        """Everything that is to be written, the gates computed."""
        from pomona.models.torch import mixture_config

        self._check()
        count = len(self.told.experts)
        shared, per_token = len(self.told.shared_experts or []), self.told.experts_per_token
        config = mixture_config(self.base.folder, self.kind, count, per_token, shared)
        self.notes += [_HUB_CODE] if self.kind == "deepseek" else []
        jobs = [job for name in self.base.tensors for job in self._jobs(name)]
        gates = self._gates()
        self.made |= gates
        kept = keep(self.place, self.made, dry_run=self.work is None)
        jobs += [self._job(name, kept[name]) for name in gates]
        if self.work is not None:
            ends = (".mlp.gate.weight", ".block_sparse_moe.gate.weight")
            self.notes += degenerate([stored_array(kept[n]) for n in kept if n.endswith(ends)])
        dtypes = {job.dtype for job in jobs}
        if len(dtypes) == 1:
            names = {value: key for key, value in DTYPES.items()}
            config["dtype"] = names.get(dtypes.pop())
        raw = json.loads(self.told.model_dump_json(exclude_none=True))
        tokenizer = tokenizer_folder(self.base.folder)
        written = sum(tensor.size for tensor in self.made.values())
        return MergePlan(
            models=tuple(self._folders),
            sources=(self.file, *self.sources),
            jobs=tuple(jobs),
            seed=self.seed,
            config=config,
            tokenizer=tokenizer,
            recipe={**raw, "seed": self.seed},
            extra=extra_files(
                self.recipe, self.models, self.base.folder, tokenizer, {}, self.sources
            ),
            prepared=written + (self.prepared.written if self.prepared else 0),
            notes=tuple(self.notes),
        )

    def _kind(self) -> str:
        dense = str(self.base.config.get("model_type"))
        asked = self.told.architecture
        shared = self.told.shared_experts or []
        prompts = any(one.positive_prompts for one in shared)
        gated = prompts or self.told.gate_mode in RANDOM
        usual = "qwen3_moe" if dense == "qwen3" else "mixtral"
        if shared:
            usual = "qwen2_moe" if gated or dense not in _FROM["deepseek"] else "deepseek"
        names = {"mixtral": "mixtral", "qwen": "qwen2_moe", "qwen3": "qwen3_moe"}
        names |= {"qwen2": "qwen2_moe", **{kind: kind for kind in KINDS}}
        key = (asked or usual).lower().replace(" moe", "")
        if key not in names:
            message, known = f'makes no "{asked}"', ("mixtral", "qwen", "qwen3", "deepseek")
            raise PomonaError(message, where=self.file, remedy=nearest(key, known))
        kind, message, remedy = names[key], "", "change architecture, or shared_experts"
        if dense not in _FROM[kind] or bool(shared) not in _SHARES[kind]:
            needs = {(True,): " with one shared expert", (False,): " with no shared experts"}
            message = (
                f'"{self.base.name}" is a {dense}, and a {kind} is made from '
                f"{' or '.join(_FROM[kind])}{needs.get(_SHARES[kind], '')}"
            )
        elif kind == "deepseek" and prompts:
            message = "the shared expert has prompts, and that of a DeepSeek mixture has no gate"
            remedy = "leave its prompts out, or make a qwen"
        elif kind == "qwen2_moe" and not gated:
            message = (
                f"the shared expert has no prompts: gate_mode {self.told.gate_mode} needs them"
            )
            remedy = "give it positive_prompts"
        if message:
            raise PomonaError(message, where=self.file, remedy=remedy)
        return kind

    def _check(self) -> None:
        check_quantised(self.models.values())
        folder, states = self.base.folder, self.told.gate_mode.startswith("hidden")
        packed = packed_names(View.of(folder).tensors, read_config(folder))
        if self.base.packed or (packed and states):
            why = ", and its states would be the gates" * (not self.base.packed)
            raise PomonaError(
                f'"{self.base.name}" is quantised ({packed[0]}){why}',
                where=folder,
                remedy=numbers_first(folder, str(self.told.base.plain)),
            )
        for key in _SIZES:
            if (self.base.config.get(key) or 0) < 1:
                raise self._wrong(self.base, f'no "{key}" above 0')
        for model in self.models.values():
            for key in ("model_type", *_SIZES):
                mine, theirs = self.base.config.get(key), model.config.get(key)
                if mine != theirs:
                    raise self._wrong(
                        model, f'"{key}" is {theirs}, and {mine} in the base "{self.base.name}"'
                    )
        self.notes += settings_notes(self.base, self.models.values())
        if self.prepared and self.told.base.lora and self.told.gate_mode.startswith("hidden"):
            self.notes.append(f'gates are set by "{self.told.base.plain}" without its adapter')

    def _wrong(self, model: Opened, text: str) -> PomonaError:
        return PomonaError(
            f'"{model.name}": {text}',
            where=model.folder / "config.json",
            remedy="experts are dense models of one architecture and size",
        )

    def _jobs(self, name: str) -> Iterator[TensorJob]:
        place = place_of(name)
        rest = place.rest if place else name.removeprefix("model.")
        if is_computed(name):
            return
        if place and (part := _MLP.fullmatch(rest)):
            for number, expert in enumerate(self.told.experts):
                yield self._expert(self._name(place.layer, part[1], number), name, expert, number)
            for expert in self.told.shared_experts or []:
                plural = "s" if self.kind == "deepseek" else ""
                own = f"model.layers.{place.layer}.mlp.shared_expert{plural}.{part[1]}_proj.weight"
                yield self._expert(own, name, expert, len(self.told.experts))
        elif _SHARED.fullmatch(rest) or re.fullmatch(_MORE[self.kind], rest):
            yield self._job(name, self.base.tensors[name], self.base)
        else:
            self._refuse(self.base, name)

    def _refuse(self, model: Opened, name: str) -> NoReturn:
        raise PomonaError(
            f'tensor "{name}" of "{model.name}" has no place in a {self.kind}',
            where=model.folder,
            remedy="choose a model without it, or another architecture",
        )

    def _name(self, layer: int, part: str, number: int) -> str:
        if self.kind == "mixtral":
            return f"model.layers.{layer}.block_sparse_moe.experts.{number}.{_MIXTRAL[part]}.weight"
        return f"model.layers.{layer}.mlp.experts.{number}.{part}_proj.weight"

    def _expert(self, own: str, name: str, expert: ExpertSection, number: int) -> TensorJob:
        model = self.models[str(expert.model)]
        stored, wanted = model.tensors.get(name), self.base.tensors[name].shape
        if stored is None or stored.shape != wanted:
            has = "is missing" if stored is None else f"is {list(stored.shape)}"
            raise PomonaError(
                f'tensor "{name}" of "{model.name}" {has}; the base has {list(wanted)}',
                where=model.folder,
                remedy="experts are dense models of one architecture and size",
            )
        biases = [other for other in model.tensors if re.search(r"\.mlp\.\w+\.bias$", other)]
        if biases:
            self._refuse(model, biases[0])
        scale = None if "down_proj" not in name else expert.residual_scale
        if expert.noise_scale:
            self.made[own] = self._noisy(own, stored, expert.noise_scale, number)
            stored = Stored(stored.dtype, stored.shape, self.place, own)
        return self._job(own, stored, model, {} if scale is None else {"scale": scale})

    def _noisy(self, own: str, stored: Stored, scale: float, number: int) -> NewTensor:
        def blocks() -> Iterator[bytes]:
            digest = hashlib.sha256(f"{self.seed}|{number}|{stored.name}".encode()).digest()
            draw = np.random.default_rng(np.frombuffer(digest, np.uint32))
            rows = TensorRows(stored)
            for part in row_blocks(*rows.shape):
                values = rows.float32(part)
                values += draw.standard_normal(values.shape, np.float32) * np.float32(scale)
                yield encode_finite(values, stored.dtype, own, stored.folder)

        return NewTensor(stored.dtype, stored.shape, blocks)

    def _job(
        self,
        name: str,
        stored: Stored,
        model: Opened | None = None,
        parameters: Mapping[str, float] | None = None,
    ) -> TensorJob:
        dtype = self.dtype or stored.dtype
        folder = self._folders.setdefault(stored.folder, len(self._folders))
        identity = (model or self.base).name
        method = "passthrough" if parameters or dtype != stored.dtype else "copy"
        held = TensorInput(folder, stored.name, stored.dtype, dict(parameters or {}), identity)
        compute = "F64" if stored.dtype == "F64" else "F32"
        return TensorJob(name, stored.shape, dtype, method, (held,), None, compute)

    def _gates(self) -> dict[str, NewTensor]:
        """The gates of all layers, and biases that a Qwen2-MoE has and its base has not."""
        width = int(self.base.config["hidden_size"])
        count = len(self.told.experts)
        inner = "block_sparse_moe" if self.kind == "mixtral" else "mlp"
        embedding = self.base.find("model.embed_tokens.weight")
        if embedding is None or embedding.shape[1:] != (width,):
            self._refuse(self.base, "model.embed_tokens.weight")

        @cache
        def gates() -> Any:
            return gates_of(
                self.told,
                self.told.members if self.kind == "qwen2_moe" else self.told.experts,
                self.base.folder,
                embedding,
                self.layers,
                seed=self.seed,
                device=self.device,
            )

        made: dict[str, NewTensor] = {}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            made[f"{prefix}.{inner}.gate.weight"] = _part(gates, layer, slice(count), width)
            if self.kind == "qwen2_moe":
                shared = _part(gates, layer, slice(count, None), width, 1)
                made[f"{prefix}.mlp.shared_expert_gate.weight"] = shared
                made |= self._biases(prefix)
        return made

    def _biases(self, prefix: str) -> dict[str, NewTensor]:
        names = {
            f"{prefix}.self_attn.{part}_proj": self.base.tensors.get(
                f"{prefix}.self_attn.{part}_proj.weight"
            )
            for part in "qkv"
        }
        return {
            f"{name}.bias": NewTensor("F32", stored.shape[:1], _zeros(stored.shape[0]))
            for name, stored in names.items()
            if stored is not None and f"{name}.bias" not in self.base.tensors
        }


def _part(
    gates: Callable[[], Any], layer: int, part: slice, width: int, count: int | None = None
) -> NewTensor:
    rows = count or int(part.stop)
    return NewTensor("F32", (rows, width), lambda: [gates()[layer, part].tobytes()])


def _zeros(count: int) -> Callable[[], list[bytes]]:
    return lambda: [bytes(4 * count)]

"""Adapters as PEFT saves them: a folder with its settings and, by module, its matrices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.models import read_config
from pomona.models.tensors import Stored, View

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_ROOT = "base_model.model."
_PARTS = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|base_layer"
    r"|token_adapter\.(?:base_layer|trainable_tokens_delta))(?:\.(?P<kind>weight|bias))?$"
)
_MERGED = "merge it with PEFT and name the merged folder"
_PARTIAL = "no weights are equal to it, since it acts on some tokens only: serve it as an adapter"
_REFUSED = {
    "alora_invocation_tokens": _PARTIAL,
    "arrow_config": _PARTIAL,
    **dict.fromkeys(
        (
            *("layer_replication", "use_qalora", "use_bdlora", "kasa_config", "monteclora_config"),
            "velora_config",
        ),
        _MERGED,
    ),
}
_NAME = re.compile(r"[\w.-]+")
_LARGEST_ALPHA = 1e30  # what float32 still holds when it is multiplied by a weight
USUAL_ALPHA = 8  # PEFT's, where an adapter says nothing
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
# What took a part out of the base that can be computed again, as PEFT does when it loads it.
_STARTS = ("pissa", "olora")
_WHY = {
    "pissa_niter": "takes a part out of the base that is drawn at random",
    "corda": "takes a part out of the base that depends on data",
    "lora_ga": "takes a part out of the base that depends on data",
    "loftq": "is trained on a base that it has rounded",
}


@dataclass(frozen=True)
class Adapter:
    """A PEFT folder: its configuration and, per module, its tensors by part (lora_A, lora_B, …; ""
    for whole weights and biases).
    """

    folder: Path
    config: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Stored]]
    whole: Mapping[str, Stored]

    @property
    def start(self) -> str | None:
        """The initialisation that takes a part out of the base: "pissa", "olora", or None."""
        said = str(self.config.get("init_lora_weights")).lower()
        return said if said in _STARTS else None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that it changes beside modules, as `target_parameters` names them."""
        return tuple(self.config.get("target_parameters") or ())

    def scale(self, module: str, rank: int) -> float:
        """s = α/r, or α/√r for rank-stabilised LoRA (Kalajdzievski 2023, arXiv 2312.03732)."""
        wanted = self._said("rank_pattern", module, self.config.get("r", rank))
        if wanted != rank:
            raise self.wrong(
                f'"{module}" has rank {rank}, and adapter_config.json says {wanted}',
                remedy="copy the adapter again, with its own adapter_config.json",
            )
        alpha = self._said("alpha_pattern", module, self.config.get("lora_alpha", USUAL_ALPHA))
        return alpha / rank**0.5 if self.config.get("use_rslora") else alpha / rank

    def _said(self, key: str, module: str, usual: Any) -> Any:
        """What PEFT takes for a module: the value of the first pattern that fits its name."""
        for pattern, value in (self.config.get(key) or {}).items():
            if module == pattern or module.endswith("." + pattern):
                return value
            # Only what is no plain name is searched for as a pattern.
            if not _NAME.fullmatch(pattern) and re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                return value
        return usual

    def wrong(self, message: str, remedy: str) -> PomonaError:
        """An error in its tensors."""
        return PomonaError(message, where=self.folder / ADAPTER_FILE, remedy=remedy)

    def misfit(self, short: str, made_for: Sequence[int], wanted: Sequence[int]) -> PomonaError:
        """The error for a tensor that is made for another shape."""
        return self.wrong(
            f'"{short}" is made for shape {list(made_for)}, the model has {list(wanted)}',
            remedy="name the model this adapter was trained on, with its vocabulary",
        )


def read_adapter(folder: Path) -> Adapter:
    """Open a PEFT LoRA folder. Raises PomonaError for other kinds of adapters, for pickles, and for
    tensors it does not understand.
    """
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise PomonaError(
            "holds no adapter_config.json",
            where=folder,
            remedy="name a folder that PEFT's save_pretrained wrote",
        )
    if not (folder / ADAPTER_FILE).is_file():
        raise PomonaError(
            f"holds no {ADAPTER_FILE}; pickles are not loaded",
            where=folder,
            remedy="save it again with safe_serialization=True",
        )
    config = read_config(folder, file.name)
    if config.get("peft_type") != "LORA":
        raise PomonaError(
            f"is an adapter of type {config.get('peft_type')}",
            where=file,
            remedy="only LORA is supported",
        )
    for key, remedy in _REFUSED.items():
        if config.get(key):
            raise PomonaError(f'uses "{key}", which is not supported', where=file, remedy=remedy)
    _check_start(config.get("init_lora_weights"), file)
    _check_settings(config, file)
    return _sorted_parts(folder, config)


def _check_start(start: Any, file: Path) -> None:
    if start in _PLAIN_STARTS or str(start).lower() in _STARTS:
        return
    why = next((why for name, why in _WHY.items() if str(start).lower().startswith(name)), None)
    raise PomonaError(
        f"was started by {start}, which {why or 'is not known'}",
        where=file,
        remedy="save it with path_initial_model_for_weight_conversion; or name the changed base "
        "that it was trained on, and set init_lora_weights to true",
    )


def _check_settings(config: Mapping[str, Any], file: Path) -> None:
    """Raise PomonaError for settings that have no meaning, and patterns that could be searched for
    without end.
    """
    alphas = [config.get("lora_alpha") or 0, *(config.get("alpha_pattern") or {}).values()]
    if any(abs(alpha) > _LARGEST_ALPHA for alpha in alphas):
        message = f"an alpha is {max(alphas, key=abs):.3g}, which is no scale"
        raise PomonaError(message, where=file, remedy="copy the adapter again")
    for key in ("lora_alpha", "r"):
        if key in config and config[key] is None:
            raise PomonaError(f'"{key}" is null', where=file, remedy="give the number it had")
    if config.get("r") == 0:
        raise PomonaError('"r" is 0, so the adapter has no matrices', where=file)
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = [each for each in config.get(key) or {} if not _NAME.fullmatch(each)]
        for pattern in patterns:
            try:
                re.compile(pattern)
                endless = len(re.findall(r"[*+{]", pattern)) > 3 or re.search(
                    r"\)\s*[*+{]|\(\?[P(]", pattern
                )
            except (re.error, RecursionError, OverflowError):
                endless = True
            if endless or len(pattern) > 500 or len(patterns) > 1000:
                message = f'"{key}" has {pattern[:60]!r}, which is no pattern for names'
                raise PomonaError(message, where=file, remedy="write the names of the modules out")
    targets = config.get("target_parameters") or []
    if not isinstance(targets, list) or not all(isinstance(name, str) and name for name in targets):
        message = f'"target_parameters" is {str(targets)[:60]}, and must be names of parameters'
        raise PomonaError(message, where=file, remedy="copy the adapter again")
    listed = config.get("trainable_token_indices") or []
    for indices in listed.values() if isinstance(listed, dict) else [listed]:
        if not isinstance(indices, list) or not all(type(i) is int and i >= 0 for i in indices):
            message = f'"trainable_token_indices" is {str(listed)[:60]}, and must be ids of tokens'
            raise PomonaError(message, where=file, remedy="copy the adapter again")


def _sorted_parts(folder: Path, config: Mapping[str, Any]) -> Adapter:
    parts: dict[str, dict[str, Stored]] = {}
    whole: dict[str, Stored] = {}
    for name, stored in View.of(folder).tensors.items():
        short = (
            name.removeprefix(ADAPTER_ROOT)
            .replace(".modules_to_save.", ".")
            .replace(".default.", ".")
        )
        match = _PARTS.match(short)
        if match:
            part = match["part"] + (".bias" if match["kind"] == "bias" else "")
            parts.setdefault(match["module"], {})[part] = stored
        elif "lora_" in short or not short.endswith((".weight", ".bias")):
            raise PomonaError(
                f'holds a tensor "{name}" of unknown meaning',
                where=folder / ADAPTER_FILE,
                remedy="merge it with PEFT",
            )
        else:
            whole[short] = stored
    return Adapter(folder, config, parts, whole)

"""The modules that a configuration asks for, entry by entry checked: it is a file that anybody may
have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.models import Shape
from pomona.scale.compute.families import ATTENTION_BIAS, FAMILIES, NAMES
from pomona.scale.compute.modules import Module, Modules

_MOST = 1 << 40  # of any size, as readers of checkpoints have it
_LAYERS = 100_000
_FULL, _SLIDING = "full_attention", "sliding_attention"
_REMEDY = "count it by a folder with the whole config.json of a causal language model"


class _Config:
    """Entries of a configuration, each checked when it is asked for."""

    def __init__(self, said: Mapping[str, Any], where: object) -> None:
        self.said = {NAMES.get(key, key): value for key, value in said.items()}
        self.where = where

    def require(self, *names: str) -> None:
        """Raise PomonaError naming all of these that are missing."""
        missing = [name for name in names if self.said.get(name) is None]
        if missing:
            raise PomonaError(
                f"does not say {', '.join(missing)}", where=self.where, remedy=_REMEDY
            )

    def whole(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A size."""
        value = self.said.get(name)
        if value is None:
            if default is None:
                self.require(name)
            value = default
        most = _LAYERS if name in {"num_hidden_layers", "num_experts"} else _MOST
        if type(value) is not int or not least <= value <= most:
            message = f'"{name}" is {str(value)[:60]}, and must be a whole number from {least} to'
            raise PomonaError(f"{message} {most:,}", where=self.where, remedy=_REMEDY)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Whether something is so."""
        value = self.said.get(name)
        if value is not None and not isinstance(value, bool):
            message = f'"{name}" is {str(value)[:60]}, and must be true or false'
            raise PomonaError(message, where=self.where, remedy=_REMEDY)
        return default if value is None else value

    def listed(self, name: str, kind: type, most: int) -> list[Any] | None:
        """A list with an entry of this type for some of at most `most` layers."""
        value = self.said.get(name)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) > most
            or any(type(one) is not kind for one in value)
        ):
            message = f'"{name}" is {str(value)[:60]}, and must be a list for {most} layers'
            raise PomonaError(message, where=self.where, remedy=_REMEDY)
        return value


def count_modules(config: Mapping[str, Any], where: object = "config.json") -> Modules:
    """The modules that a configuration asks for, of a mapping as config.json has it.

    Raises PomonaError for an architecture whose modules are not known here, an entry that is
    missing, or one that is no size.
    """
    notes = []
    if isinstance(config.get("text_config"), dict):
        if "vision_config" in config or "audio_config" in config:
            notes.append("Only the language model is counted, not what reads pictures or sound.")
        tied = config.get("tie_word_embeddings")
        config = {
            **({} if tied is None else {"tie_word_embeddings": tied}),
            **config["text_config"],
        }
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        told = "no model_type" if kind is None else f"the model_type {str(kind)[:60]!r}"
        known = nearest(str(kind), FAMILIES)
        raise PomonaError(f"has {told}, whose modules are not known", where=where, remedy=known)
    return _Counter(kind, _Config(config, where), notes).counted()


class _Counter:
    def __init__(self, kind: str, config: _Config, notes: Sequence[str]) -> None:
        self.kind, self.config, self.family, self.notes = kind, config, FAMILIES[kind], list(notes)
        for name, size in self.family.sizes:
            if config.said.get(name) is None:
                config.said[name] = size
                self.notes.append(f"{name} is not said: {size:,}, as in transformers.")
        needed = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"]
        needed += [] if kind == "gpt2" else ["intermediate_size"]
        needed += ["num_experts", "num_experts_per_tok"] if self.family.experts else []
        config.require(*needed, *([self.family.experts] if self.family.experts else []))
        self.hidden = config.whole("hidden_size")
        self.layers = config.whole("num_hidden_layers")
        self.heads = config.whole("num_attention_heads")
        self.vocabulary = config.whole("vocab_size")
        self.feed_forward = config.whole("intermediate_size", 4 * self.hidden)
        if self.heads > self.hidden:
            message = f"has {self.heads:,} heads in a width of {self.hidden:,}"
            raise PomonaError(message, where=config.where, remedy=_REMEDY)
        width = self.family.head_dim or self.hidden // self.heads
        self.width = config.whole("head_dim", width)
        default = self.family.key_values if "num_key_value_heads" not in config.said else None
        self.key_values = config.whole("num_key_value_heads", default or self.heads)

    def counted(self) -> Modules:
        """All modules in the order in which a token meets them."""
        positions = self._positions()
        table = self.vocabulary * self.hidden
        tied = self.config.flag("tie_word_embeddings", self.family.tied)
        modules = [Module("embedding", 1, table, table, 0)]
        modules += [Module("positions", 1, positions, positions, 0)] if positions else []
        modules += [*self._attention(), *self._feed_forward(), self._norms()]
        # A head that is the input table has no weights of its own, and is multiplied all the same.
        modules.append(Module("head", 1, 0 if tied else table, 0 if tied else table, table))
        self._warn()
        head = 0 if tied else table
        body = sum(one.active for one in modules) - table - head
        attention = sum(one.attention for one in modules)
        shape = Shape(
            1 if attention % self.layers else self.layers,
            self.hidden,
            attention if attention % self.layers else attention // self.layers,
            self.vocabulary,
            body,
            table,
            head,
        )
        longest = self.config.said.get("max_position_embeddings")
        longest = longest if type(longest) is int and 0 < longest <= _MOST else None
        return Modules(self.kind, modules, shape, positions, longest, self.notes)

    def _positions(self) -> int:
        if not self.family.positions:
            return 0
        return self.config.whole("max_position_embeddings") * self.hidden

    def _attention(self) -> Iterator[Module]:
        weights, biases, width = self._latent() if self.family.latent else self._projections()
        each = weights + biases
        yield Module(
            "attention", self.layers, self.layers * each, self.layers * each, self.layers * weights
        )
        window = self._window()
        sliding = self._sliding(window)
        for name, layers, reach in (
            ("scores", self.layers - sliding, None),
            (f"scores within {window}", sliding, window),
        ):
            if layers:
                yield Module(name, layers, 0, 0, 0, layers * width, reach)

    def _projections(self) -> tuple[int, int, int]:
        """Of a layer: weights that are multiplied, others, heads × width."""
        query, value = self.heads * self.width, self.key_values * self.width
        default = ATTENTION_BIAS.get(self.kind, False)
        says = self.config.flag("attention_bias", default)
        bias = says if self.family.bias is None else self.family.bias
        if self.kind == "qwen2_moe":
            bias = self.config.flag("qkv_bias", True)
        output_bias = says if self.family.output_bias is None else self.family.output_bias
        others = (query + 2 * value) * bias + self.hidden * output_bias
        others += self.heads * self.family.sinks
        return self.hidden * (2 * query + 2 * value), others + self._qk_norm(query, value), query

    def _qk_norm(self, query: int, value: int) -> int:
        sizes = {"": 0, "head": 2 * self.width, "width": query + value}
        return sizes[self.family.qk_norm]

    def _latent(self) -> tuple[int, int, int]:
        """Multi-head latent attention (DeepSeek-V2, 2024, §2.1)."""
        config = self.config
        config.require("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        nope, rope, value, rank = (
            config.whole(name)
            for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
        )
        bias = config.flag("attention_bias", False)
        query, others = self.heads * (nope + rope), rank
        if config.said.get("q_lora_rank") is None:
            weights = self.hidden * query
        else:
            low = config.whole("q_lora_rank")
            weights, others = self.hidden * low + low * query, others + low + low * bias
        weights += self.hidden * (rank + rope) + rank * self.heads * (nope + value)
        weights += self.heads * value * self.hidden
        others += (rank + rope + self.hidden) * bias
        return weights, others, self.heads * (nope + rope + value) // 2

    def _window(self) -> int | None:
        """Positions that layers with a window see; None where there is no window."""
        said, family = self.config.said, self.family
        if family.windows == "none":
            return None
        absent = "sliding_window" not in said
        value = family.window if absent else said["sliding_window"]
        if value is None or value == 0:
            return None
        uses = family.windows != "qwen" and self.kind not in {"qwen3_moe", "smollm3"}
        if not self.config.flag("use_sliding_window", uses):
            return None
        return self.config.whole("sliding_window", value)

    def _sliding(self, window: int | None) -> int:
        """Layers with a window."""
        types = self.config.listed("layer_types", str, self.layers)
        if types is not None:
            others = sorted(set(types) - {_FULL, _SLIDING})
            if others or len(types) != self.layers:
                what = f"layers of the type {others[0][:60]!r}" if others else "other layer_types"
                message = f"has {what}, which are not counted here"
                raise PomonaError(message, where=self.config.where, remedy=_REMEDY)
        if window is None:
            return 0
        if self.family.windows == "all":
            return self.layers
        if types is not None:
            return types.count(_SLIDING)
        if self.family.windows == "types":
            period = self.config.whole("sliding_window_pattern", self.family.period, least=0)
            return self.layers - self.layers // period if period else 0
        first = self.config.whole("max_window_layers", self.layers, least=0)
        if self.kind == "qwen2_moe":
            return (min(first, self.layers) + 1) // 2
        return max(self.layers - first, 0)

    def _feed_forward(self) -> Iterator[Module]:
        dense = self._dense_layers()
        if dense:
            products = 3 if self.family.gated else 2
            weights = products * self.hidden * self.feed_forward
            says = self.config.flag("mlp_bias", False)
            bias = says if self.family.mlp_bias is None else self.family.mlp_bias
            both = weights + ((products - 1) * self.feed_forward + self.hidden) * bias
            yield Module("mlp", dense, dense * both, dense * both, dense * weights)
        if mixed := self.layers - dense:
            yield from self._mixture(mixed)

    def _dense_layers(self) -> int:
        """Layers whose feed-forward part is no mixture."""
        if not self.family.experts:
            return self.layers
        config = self.config
        if self.kind.startswith("deepseek"):
            first = config.whole("first_k_dense_replace", 3 * (self.kind[-1] == "3"), least=0)
            return min(first, self.layers)
        if not self.kind.startswith("qwen"):
            return 0
        step = config.whole("decoder_sparse_step", 1)
        dense = set(config.listed("mlp_only_layers", int, self.layers) or [])
        mixed = [i for i in range(step - 1, self.layers, step) if i not in dense]
        return self.layers - len(mixed)

    def _mixture(self, layers: int) -> Iterator[Module]:
        config = self.config
        experts, chosen = config.whole("num_experts"), config.whole("num_experts_per_tok")
        if chosen > experts:
            message = f"chooses {chosen:,} of {experts:,} experts"
            raise PomonaError(message, where=config.where, remedy=_REMEDY)
        wide = config.whole(self.family.experts)
        weights = 3 * self.hidden * wide
        each = weights + (2 * wide + self.hidden) * bool(self.family.mlp_bias)
        yield Module(
            "experts",
            layers,
            layers * experts * each,
            layers * chosen * each,
            layers * chosen * weights,
        )
        shared, gate = self._shared(wide)
        if shared:
            every = layers * 3 * self.hidden * shared
            yield Module("shared experts", layers, every, every, every)
        router = layers * (self.hidden * experts + gate)
        both = router + layers * experts * bool(self.family.mlp_bias)
        yield Module("router", layers, both, both, router)

    def _shared(self, wide: int) -> tuple[int, int]:
        """How wide the shared experts are together, and the weights of their gate."""
        if self.kind == "qwen2_moe":
            return self.config.whole("shared_expert_intermediate_size"), self.hidden
        if self.family.latent:
            return self.config.whole("n_shared_experts", 0, least=0) * wide, 0
        return 0, 0

    def _norms(self) -> Module:
        all_of_them = (self.layers * self.family.norms + 1) * self.family.norm * self.hidden
        return Module("norms", self.layers, all_of_them, all_of_them, 0)

    def _warn(self) -> None:
        if self.config.said.get("num_nextn_predict_layers"):
            self.notes.append("Layers that predict further tokens are not counted.")
        names = self.config.said.get("architectures")
        if isinstance(names, list) and names and not re.search("LM|Generation", str(names[0])):
            told = f"Counted as a causal language model, and it is a {str(names[0])[:60]}."
            self.notes.append(told)

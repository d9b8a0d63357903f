"""Layers that slices put together have other numbers than before: every entry of config.json that
names layers, or says something of each, is brought along, or the merge is refused by the key.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError

# What configurations of transformers 5 hold. A key on the left is only read where the list on the
# right, with an entry per layer, is not there.
_NUMBERS = (
    *("mlp_only_layers", "moe_layers", "moe_layers_enum", "cross_attention_layers"),
    *("attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids", "local_layer_ids"),
    *("fullatt_block_indexes", "global_attn_indexes", "global_attention_blocks"),
    *("window_block_indexes", "window_block_indices", "residual_block_indices"),
)
_FIRST = {
    "first_k_dense_replace": "mlp_layer_types",
    "num_dense_layers": "mlp_layer_types",
    "dense_mlp_idx": "mlp_layer_types",
    "n_dense_layers": "mlp_layer_types",
    "max_window_layers": "layer_types",
    "moe_layer_start_index": "",
}
_PERIODS = {
    "full_attention_interval": "layer_types",
    "sliding_window_pattern": "layer_types",
    "_sliding_window_pattern": "layer_types",
    "global_attn_every_n_layers": "layer_types",
    "no_rope_layer_interval": "no_rope_layers",
    "interleave_moe_layer_step": "moe_layers",
    "attn_layer_period": "layers_block_type",
    "moe_layer_freq": "mlp_layer_types",
    "block_types": "layer_types",
    "decoder_sparse_step": "",
    "encoder_sparse_step": "",
    "expert_layer_period": "",
    "moe_layer_interval": "",
    "cross_layer_interval": "",
    "dense_attention_every_n_layers": "",
    "layer_group_size": "layer_types",
}
# Periods that a model has without saying so.
_IMPLIED = {
    "gemma2": 2,
    "gpt_oss": 2,
    "modernbert": 3,
    "cohere2": 4,
    "qwen3_next": 4,
    "gemma3_text": 6,
}
_OF_WINDOWS = ("max_window_layers", "sliding_window_pattern", "_sliding_window_pattern")
_EACH = (
    *("intermediate_size", "num_attention_heads", "num_key_value_heads", "num_query_heads"),
    *("num_kv_heads", "ffn_multipliers", "activation_sparsity_pattern", "attn_type_list"),
    *("moe_layer_freq", "indexer_types", "hybrid_override_pattern"),
)
# What cannot be brought along: layers that lean on others, or that a further part of the model
# numbers.
_FIXED = re.compile(
    r"kv_source_layers|num_kv_shared_layers|ple_layer_ids|deepstack_visual_indexes"
    r"|vision_feature_layer|scale_attn_by_inverse_layer_idx|moe_layer_end_index"
    r"|num_nextn_predict_layers|num_mtp_layers|num_global_layers|insert_layer_id"
    r"|out_indices|num_(?:first|last)_full_attention_layers"
    r"|.*(?:layer|block)s?.*_(?:ids?|idxs?|ind(?:ex|exes|ices)|map)"
)
_AGAIN = "choose slices that leave every layer at a place of its kind, or merge whole models"


@dataclass(frozen=True)
class SlicedLayers:
    """The layers of a result: for each the model it comes from and its number there; the section of
    each model's config.json that speaks of them; and where to say that something is wrong.
    """

    layers: Sequence[tuple[str, int]]
    sections: Mapping[str, Mapping[str, Any]]
    depth: int  # of the model whose section the result has
    where: Path

    @property
    def moved(self) -> bool:
        """Whether any layer has another number than before, or some are gone."""
        return [layer for _, layer in self.layers] != list(range(self.depth))

    def renumber(self, section: dict[str, Any]) -> None:
        """Bring all entries of a section along. Raises PomonaError naming the key of one that has
        no value for these layers.
        """
        before = copy.deepcopy(section)
        others = (self.sections[model] for model, _ in self.layers)
        for key in dict.fromkeys(key for each in (before, *others) for key in each):
            values = [self._own(model, key, before) for model, _ in self.layers]
            if not any(values) or (not self.moved and all(v == before.get(key) for v in values)):
                continue
            if key in _NUMBERS:
                section[key] = self._numbers(key, values, before)
            elif _FIXED.fullmatch(key) and self.moved:
                raise self.wrong(key, next(value for value in values if value))
            elif key == "attention_types":
                section[key] = self._types(values)
            elif self._lists_each(key, before.get(key)):
                section[key] = self._each(key, values)
            elif key in _FIRST:
                self._first(key, values, before, section)
            elif key in _PERIODS:
                self._period(key, values, before)
        kind = str(before.get("model_type"))
        if kind in _IMPLIED and not before.get("layer_types"):
            self._period("layer_types", [_IMPLIED[kind]] * len(self.layers), before)

    def wrong(self, key: str, value: Any) -> PomonaError:
        """The error for an entry that cannot be brought along."""
        return PomonaError(
            f'"{key}" ({str(value)[:60]}) speaks of layers by their number, and has no value for '
            "layers put together like this",
            where=self.where,
            remedy=_AGAIN,
        )

    def _own(self, model: str, key: str, before: Mapping[str, Any]) -> Any:
        return self.sections[model].get(key, before.get(key))

    def _numbers(self, key: str, values: Sequence[Any], before: Mapping[str, Any]) -> Any:
        texts = any(isinstance(value, str) for value in values)
        listed = [_listed(value) for value in values]
        if any(numbers is None for numbers in listed):
            raise self.wrong(key, before.get(key))
        new = [
            place
            for place, ((_, layer), numbers) in enumerate(zip(self.layers, listed, strict=True))
            if layer in (numbers or ())
        ]
        return ",".join(map(str, new)) if texts else new

    def _types(self, values: Sequence[Any]) -> Any:
        """GPT-Neo's: kinds in a row, and how often the row comes."""
        kinds = []
        for (_, layer), value in zip(self.layers, values, strict=True):
            try:
                # Taken one by one: what a file says of times is no reason to make a list of them.
                runs = ((list(part), times) for part, times in value if part)
                row = (kind for part, times in runs for _ in range(times) for kind in part)
                kinds.append(next(islice(row, layer, None)))
            except (TypeError, ValueError, StopIteration):
                raise self.wrong("attention_types", value) from None
        return [[kinds, 1]]

    def _lists_each(self, key: str, value: Any) -> bool:
        if isinstance(value, str):
            return key == "hybrid_override_pattern" and len(value) == self.depth
        named = key in _EACH or ("layer" in key or "block" in key)
        return named and isinstance(value, list) and len(value) == self.depth

    def _each(self, key: str, values: Sequence[Any]) -> Any:
        first = next(value for value in values if value)
        entries = [
            value[layer] if isinstance(value, list | str) and layer < len(value) else first[-1]
            for (_, layer), value in zip(self.layers, values, strict=True)
        ]
        if isinstance(first, str) and not all(isinstance(entry, str) for entry in entries):
            raise self.wrong(key, first)
        return "".join(entries) if isinstance(first, str) else entries

    def _first(
        self, key: str, values: Sequence[Any], before: Mapping[str, Any], section: dict[str, Any]
    ) -> None:
        if not all(type(value) is int for value in values):
            raise self.wrong(key, before.get(key))
        inside = [layer < value for (_, layer), value in zip(self.layers, values, strict=True)]
        count = len(list(takewhile(bool, inside)))
        if not any(inside[count:]):
            # One that lies beyond all layers stays beyond them.
            beyond = count == len(inside) and max(values) > self.depth
            section[key] = max(values) if beyond else count
        elif not self._unread(key, _FIRST[key], before):
            raise self.wrong(key, before.get(key))

    def _period(self, key: str, values: Sequence[Any], before: Mapping[str, Any]) -> None:
        periods = [len(value) if isinstance(value, list) else value for value in values]
        period = periods[0]
        if type(period) is not int or any(other != period for other in periods):
            raise self.wrong(key, before.get(key))
        kept = period < 2 or all(
            layer % period == place % period for place, (_, layer) in enumerate(self.layers)
        )
        if not kept and not self._unread(key, _PERIODS.get(key, ""), before):
            raise self.wrong(key, before.get(key, period))

    def _unread(self, key: str, other: str, before: Mapping[str, Any]) -> bool:
        """Whether a program that loads the model has no use for a key."""
        if key in _OF_WINDOWS and (
            before.get("sliding_window") is None or before.get("use_sliding_window") is False
        ):
            return True
        return isinstance(before.get(other), list) and len(before[other]) == self.depth


def _listed(value: Any) -> list[int] | None:
    """Numbers of layers, also written as "4,5,6"; None when they are none."""
    if isinstance(value, str):
        numbers = [re.fullmatch(r"\s*([0-9]{1,6})\s*", each) for each in value.split(",")]
        value = [int(number[1]) if number else None for number in numbers]
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(each) is int and each >= 0 for each in value):
        return None
    return value

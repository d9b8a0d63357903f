"""What the name of a tensor tells: its stack of layers and its layer, or whether it stands before
or after them; its part of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_STACK = r"^((?:.*?\.)?(?:layers|layer|h|blocks|block|resblocks))\."
_LAYER = re.compile(_STACK + r"(0|[1-9][0-9]{0,4})\.(.+)$", re.DOTALL)
_FAR = re.compile(_STACK + r"(?:[1-9][0-9]{5,})\.", re.DOTALL)
_AFTER = re.compile(
    r"(?:^|\.)(?:norm|ln_f|norm_f|final_layer_?norm|layer_norm|layernorm_post|post_layernorm|lm_head|embed_out|output|output_layer|score"
    r"|classifier|pre_classifier|pooler|cls|qa_outputs|vocab_[a-z_]+|decoderlayer_norm|vision_adapter)\."
)
_PROJECTOR = re.compile(
    r"(?:^|\.)(?:multi_modal_projector|mm_projector|connector|merger|deepstack_merger_list)\."
)
_VISION = re.compile(r"(?:^|\.)(?:vision_tower|vision_model|vision_encoder|visual)\.")
_CODER = re.compile(r"^(?:model\.)?(encoder|decoder)\.")
_HEAD = re.compile(
    r"(?:^|\.)(?:lm_head|embed_out|output|output_layer|vocab_projector|predictions\.decoder|lm_head\.decoder)\.(?:weight|bias)$"
)
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|shared|backbone\.embeddings)\.weight$"
)
_TABLE = re.compile(r"(?:embed|wte|wpe)[^.]*\.weight$")
# linear layers stored inputs × outputs
_CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
# Decoders whose layers are all alike: those of which the width is cut into heads, and those whose
# config.json says how wide a head is.
_DIVIDED = ("llama", "mistral", "mixtral", "qwen2", "cohere", "granite", "olmo2", "phi3")
_PLAIN = (*_DIVIDED, "qwen3", "qwen3_moe", "gemma", "gemma2")
_BUFFER = re.compile(
    r"\.position_ids$|rotary_pos_emb\.inv_freq$|^gpt_neox\..*(?:\.attention\.(?:masked_)?bias|\.inv_freq)$"
)
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$|\.(?:attn|attention)\.(?:masked_)?bias$")
_PREFIXES = {
    "gpt2": ("transformer.", "GPT2Model"),
    "bert": ("bert.", "BertModel"),
    "distilbert": ("distilbert.", "DistilBertModel"),
}
ROLES = {
    "text_decoder": "text",
    "vision_tower": "vision",
    "vision_model": "vision",
    "multi_modal_projector": "projector",
    "encoder": "encoder",
    "decoder": "decoder",
    "shared": "shared",
}  # mergekit's names of modules


@dataclass(frozen=True)
class LayerPlace:
    """Stack of layers such as "model.layers", number of the layer, and the rest of the name."""

    stack: str
    layer: int
    rest: str


@lru_cache(maxsize=100_000)
def place_of(name: str) -> LayerPlace | None:
    """The layer a tensor belongs to, or None: "model.layers.3.mlp.up_proj.weight" is layer 3 of
    "model.layers".
    """
    match = _LAYER.match(name)
    return LayerPlace(match[1], int(match[2]), match[3]) if match else None


def far(name: str) -> bool:
    """Whether a tensor is of a layer with a number that no model has: 100,000 or more."""
    return _FAR.match(name) is not None


def comes_after(name: str) -> bool:
    """Whether a tensor outside the layers belongs behind them (last norm, head, classifier) and not
    before.
    """
    return _AFTER.search(name) is not None and _PROJECTOR.search(name) is None


def is_head(name: str) -> bool:
    """Whether a tensor is the output embedding."""
    return _HEAD.search(name) is not None


def is_embedding(name: str) -> bool:
    """Whether a tensor is the input embedding."""
    return _EMBEDDING.search(name) is not None


def is_table(name: str) -> bool:
    """Whether a tensor has a row for each token or position: an embedding, or the output head."""
    return is_embedding(name) or is_head(name) or _TABLE.search(name) is not None


def is_buffer(name: str) -> bool:
    """Whether a tensor is computed from the config and kept all the same, as mergekit keeps it:
    models may lack it.
    """
    return _BUFFER.search(name) is not None


def is_computed(name: str) -> bool:
    """Whether a tensor is a buffer that older checkpoints hold and every model makes itself (causal
    masks, rotary frequencies).
    """
    return _COMPUTED.search(name) is not None and not is_buffer(name)


def canonical(name: str, config: Mapping[str, Any]) -> str:
    """The name as transformers writes it today: older GPT-2 and BERT checkpoints lack the prefix
    "transformer." or "bert.".
    """
    prefix, bare = _PREFIXES.get(str(config.get("model_type")), ("", ""))
    architectures = config.get("architectures") or [bare]
    headed = name.startswith(
        (prefix, "score.", "classifier.", "cls.", "pre_classifier.", "vocab_")
    ) or is_head(name)
    return name if not prefix or headed or bare in architectures else prefix + name


def role_of(name: str, stacks: Iterable[str]) -> str:
    """The part of a model with several stacks that a tensor belongs to: text, vision, projector; or
    encoder, decoder, shared.
    """
    if _PROJECTOR.search(name):
        return "projector"
    if _VISION.search(name):
        return "vision"
    coders = {coder[1] for stack in stacks if (coder := _CODER.match(stack + "."))}
    if len(coders) == 2:
        coder = _CODER.match(name)
        return coder[1] if coder else "shared"
    return "text"


def ties(config: Mapping[str, Any]) -> bool:
    """Whether a model's output embedding is its input embedding, by its config.json; transformers'
    default where that does not say.
    """
    text = config.get("text_config")
    inner = text.get("tie_word_embeddings", True) if isinstance(text, dict) else True
    return bool(config.get("tie_word_embeddings", inner))


def is_flipped(config: Mapping[str, Any]) -> bool:
    """Whether a model's linear layers are stored inputs × outputs, by its config.json."""
    return config.get("model_type") in _CONV1D


def linear_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of the linear layers of a plain decoder, by their names in a layer; empty
    for architectures that are not known to be one, and without what config.json does not say.
    """
    architecture = str([*(config.get("architectures") or ()), ""][0])
    causal = not architecture or architecture.endswith("ForCausalLM")
    if config.get("model_type") not in _PLAIN or not causal:
        return {}
    keys = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    hidden, inner, heads, shared = (_size(config.get(key)) for key in keys)
    each = _size(config.get("head_dim"))
    if not each and config["model_type"] in _DIVIDED and heads:
        each = hidden // heads
    own, kept = heads * each, shared * each
    shapes = {
        "self_attn.q_proj.weight": (own, hidden),
        "self_attn.k_proj.weight": (kept, hidden),
        "self_attn.v_proj.weight": (kept, hidden),
        "self_attn.o_proj.weight": (hidden, own),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    return {name: shape for name, shape in shapes.items() if all(shape)}


def _size(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


class LayerLayout:
    """The names of a model in order: its stacks of layers, and what stands outside them."""

    def __init__(self, names: Iterable[str]) -> None:
        # stack → layer → rest of the name → name
        self.stacks: dict[str, dict[int, dict[str, str]]] = {}
        self.loose: list[str] = []
        for name in names:
            place = place_of(name)
            if place is None:
                self.loose.append(name)
            else:
                self.stacks.setdefault(place.stack, {}).setdefault(place.layer, {})[place.rest] = (
                    name
                )

    def depth(self, stack: str) -> int:
        """Number of layers of a stack: the highest number plus one."""
        return max(self.stacks.get(stack, {-1: {}})) + 1

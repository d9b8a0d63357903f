"""Checkpoints that torch runs: answering, scoring, hidden states, and other weights in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona._lazy import lazily
from pomona.models.checkpoint import require

if TYPE_CHECKING:
    from pomona.models.torch.codec import Codec as Codec, TokenDecoder as TokenDecoder
    from pomona.models.torch.datastore import Datastore as Datastore
    from pomona.models.torch.mixture import (
        LayerStates as LayerStates,
        mixture_config as mixture_config,
        prompt_ids as prompt_ids,
    )
    from pomona.models.torch.model import TorchModel as TorchModel
    from pomona.models.torch.native import mean_states as mean_states
    from pomona.models.torch.network import (
        current_names as current_names,
        quiet as quiet,
        shape_of as shape_of,
    )
    from pomona.models.torch.probe import (
        Probe as Probe,
        TokenScores as TokenScores,
        Unit as Unit,
        statistics as statistics,
    )
    from pomona.models.torch.vocabulary import (
        Vocabulary as Vocabulary,
        bits_per_byte as bits_per_byte,
    )

_find, __dir__ = lazily(
    __name__,
    {
        "codec": "Codec TokenDecoder",
        "datastore": "Datastore",
        "mixture": "LayerStates mixture_config prompt_ids",
        "model": "TorchModel",
        "native": "mean_states",
        "network": "current_names quiet shape_of",
        "probe": "Probe TokenScores Unit statistics",
        "vocabulary": "Vocabulary bits_per_byte",
    },
)


def __getattr__(name: str) -> Any:
    try:
        return _find(name)
    except ModuleNotFoundError:
        require("torch", "transformers", "tokenizers", extra="torch")
        raise

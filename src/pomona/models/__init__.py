"""Anything that generates or scores text, behind one `Model`: `load(uri)` opens checkpoints with
torch, GGUF files with llama.cpp, and servers; `catalogue()` lists what comes with the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models.checkpoint import (
        INDEX as INDEX,
        TensorPlace as TensorPlace,
        count_parameters as count_parameters,
        fingerprint as fingerprint,
        read_config as read_config,
        require as require,
        tensor_places as tensor_places,
    )
    from pomona.models.concurrency import (
        Rate as Rate,
        RetryPolicy as RetryPolicy,
        TransientError as TransientError,
        Unreachable as Unreachable,
        merged as merged,
        retrying as retrying,
        wait_for as wait_for,
    )
    from pomona.models.flops import (
        Shape as Shape,
        decode_flops as decode_flops,
        forward_flops as forward_flops,
        gguf_shape as gguf_shape,
        inference_flops as inference_flops,
        prefill_flops as prefill_flops,
        scoring_flops as scoring_flops,
        training_flops as training_flops,
    )
    from pomona.models.llama_logits import LlamaLogits as LlamaLogits
    from pomona.models.loading import load as load
    from pomona.models.locating import (
        SMOLLM2 as SMOLLM2,
        CatalogueEntry as CatalogueEntry,
        catalogue as catalogue,
        folder_of as folder_of,
        gguf_header as gguf_header,
        locate as locate,
        names as names,
        present as present,
        pull as pull,
        resolve as resolve,
        smollm2_path as smollm2_path,
    )
    from pomona.models.model import HAVE as HAVE, Ability as Ability, Model as Model, able as able
    from pomona.models.request import (
        Ask as Ask,
        BatchTerms as BatchTerms,
        Draw as Draw,
        Finish as Finish,
        Message as Message,
        ModelError as ModelError,
        Reply as Reply,
        ReplyPiece as ReplyPiece,
        Request as Request,
        Sample as Sample,
        Spelled as Spelled,
        Spent as Spent,
        Steer as Steer,
        Token as Token,
        prompt_tokens as prompt_tokens,
    )
    from pomona.models.sampling import (
        BIAS as BIAS,
        BOUNDS as BOUNDS,
        Bounds as Bounds,
        Sampling as Sampling,
        SamplingOptions as SamplingOptions,
        check_sampling as check_sampling,
        sampling_of as sampling_of,
    )
    from pomona.models.schemas import UNSUPPORTED as UNSUPPORTED
    from pomona.models.torch.codec import Codec as Codec
    from pomona.models.torch.network import quiet as quiet, shape_of as shape_of

__getattr__, __dir__ = lazily(
    __name__,
    {
        "checkpoint": "INDEX TensorPlace count_parameters fingerprint read_config require "
        "tensor_places",
        "concurrency": "Rate RetryPolicy TransientError Unreachable merged retrying wait_for",
        "flops": "Shape decode_flops forward_flops gguf_shape inference_flops prefill_flops "
        "scoring_flops training_flops",
        "llama_logits": "LlamaLogits",
        "loading": "load",
        "locating": "SMOLLM2 CatalogueEntry catalogue folder_of gguf_header locate names present "
        "pull resolve smollm2_path",
        "model": "HAVE Ability Model able",
        "request": "Ask BatchTerms Draw Finish Message ModelError Reply ReplyPiece Request Sample "
        "Spelled Spent Steer Token prompt_tokens",
        "sampling": "BIAS BOUNDS Bounds Sampling SamplingOptions check_sampling sampling_of",
        "schemas": "UNSUPPORTED",
        "torch.codec": "Codec",
        "torch.network": "quiet shape_of",
    },
)

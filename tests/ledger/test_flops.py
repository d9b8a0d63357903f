"""The cost model by hand and against torch's own count of a tiny Llama."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from pomona.errors import PomonaError
from pomona.ledger import Meter
from pomona.models import (
    Shape,
    decode_flops,
    inference_flops,
    prefill_flops,
    scoring_flops,
    training_flops,
)

TIED = Shape(layers=2, hidden=8, attention=16, vocabulary=10, body=1000, embedding=80, head=0)
UNTIED = Shape(layers=2, hidden=8, attention=16, vocabulary=10, body=1000, embedding=80, head=80)
TOLERANCE = (
    0.005  # normalisation weights count as multiplied here, rotary angles are counted by torch
)


def test_training_by_hand() -> None:
    """Per token 6 · (1000 + 80) = 6480 for the weights and 12 · 2 layers · 16 · 5.5 positions =
    2112 for attention; 100 tokens.
    """
    assert training_flops(TIED, 100, 5.5) == 100 * (6480 + 2112) == 859_200
    assert training_flops(UNTIED, 100, 5.5) == 859_200


def test_training_is_kaplan_and_hoffmann() -> None:
    """Kaplan 2020, table 1, non-embedding: 3 · (2N + 2 · layers · context · attention) a token;
    causal context/2 is our mean context. Hoffmann 2022, appendix F adds the logits, 2 · vocabulary
    · hidden, and counts the masked half of attention.
    """
    context, n = 64, 1000
    kaplan = 3 * (2 * n + 2 * 2 * context * 16)
    assert training_flops(TIED, 1, context / 2) - 3 * 2 * 80 == kaplan
    hoffmann = 3 * (2 * n + 2 * 10 * 8 + 2 * (2 * context * 16 + 2 * context * 16))
    assert training_flops(TIED, 1, context) == hoffmann


def test_inference_by_hand() -> None:
    """Prompt of 3: body 2 · 1000 · 3 = 6000, logits 2 · 80 = 160, attention 4 · 2 · 16 · (1 + 2 +
    3) = 768: 6928. Three tokens: two more steps of 2 · 1080 = 2160 with 128 · (4 + 5) = 1152: 5472
    a sample.
    """
    assert float(prefill_flops(TIED, 3)) == 6000 + 160 + 768 == 6928
    assert float(decode_flops(TIED, 3, 3)) == 2 * 2160 + 1152 == 5472
    assert float(inference_flops(TIED, 3, 3)) == float(scoring_flops(TIED, 3, 3)) == 6928 + 5472
    assert float(inference_flops(TIED, 3, 3, samples=5)) == 6928 + 5 * 5472
    assert float(inference_flops(TIED, 3, 0)) == float(inference_flops(TIED, 3, 1)) == 6928


def test_lengths_broadcast() -> None:
    prompt, completion = np.array([3, 7]), np.array([[1, 2, 3], [4, 5, 6]])
    costs = decode_flops(TIED, prompt[:, None], completion)
    assert costs.shape == (2, 3) and costs[0, 2] == 5472
    assert inference_flops(TIED, prompt, 3)[0] == 6928 + 5472


@pytest.mark.parametrize("tied", [True, False])
def test_torch_counts_the_same(tied: bool) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    embedding = 320 * 64
    head = 0 if tied else embedding
    body = sum(p.numel() for p in model.parameters()) - embedding - head
    shape = Shape(
        layers=3,
        hidden=64,
        attention=4 * 32,
        vocabulary=320,
        body=body,
        embedding=embedding,
        head=head,
    )
    prompt, steps = 24, 8
    ids = torch.randint(0, 320, (1, prompt))
    masked_half = 4 * 3 * 128 * prompt * (prompt - 1) / 2

    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    ours = training_flops(shape, prompt, (prompt + 1) / 2) + 3 * masked_half
    assert counter.get_total_flops() == pytest.approx(ours, rel=TOLERANCE)

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        read = counter.get_total_flops()
        for _ in range(steps):
            model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
    assert read == pytest.approx(float(prefill_flops(shape, prompt)) + masked_half, rel=TOLERANCE)
    assert counter.get_total_flops() - read == pytest.approx(
        float(decode_flops(shape, prompt, steps + 1)), rel=TOLERANCE
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: prefill_flops(TIED, [3, 0]),
            (
                "prompt_tokens: a prompt has no tokens — count the start token: every prompt "
                "has at least one"
            ),
        ),
        (
            lambda: decode_flops(TIED, 3, -1),
            "completion_tokens: a completion has fewer than 0 tokens — give counts",
        ),
        (
            lambda: training_flops(TIED, -1, 2),
            "training_flops: -1 tokens with a context of 2 — neither can be negative",
        ),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(PomonaError, match=f"^{re.escape(message)}$"):
        call()


def test_meter_counts_work_not_waiting() -> None:
    with Meter() as asleep:
        time.sleep(0.1)
    assert asleep.wall_seconds >= 0.1 and 0 <= asleep.cpu_seconds < 0.05


def test_meter_counts_children_and_survives_failure() -> None:
    meter = Meter()
    with pytest.raises(RuntimeError), meter:
        subprocess.run(
            [sys.executable, "-c", "while __import__('time').process_time() < 0.3: pass"],
            check=True,
        )
        raise RuntimeError
    assert meter.cpu_seconds >= 0.2 and meter.wall_seconds >= 0.2

"""What leads a network sees what goes into its output projection and the logits as they count."""

from __future__ import annotations

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from pomona.models.torch.batches import Watched


class Raised:
    """Adds to every logit, and keeps what it was given."""

    model, flops = "any", 0.0

    def __init__(self, more: float) -> None:
        self.more, self.identity = more, str(more)

    def __call__(self, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self.states, self.logits = states, logits
        return logits + self.more


@torch.inference_mode()
def test_rows_are_led_by_what_leads_their_prompts_behind_a_cap_on_logits() -> None:
    torch.manual_seed(0)
    network = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5,
        )
    ).eval()  # fmt: skip
    ids = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]])
    plain = network(input_ids=ids).logits
    one, two = Raised(1), Raised(2)
    watched = Watched(network, [one, None, two])
    led = watched(torch.tensor([0, 1, 2, 0]), input_ids=ids, logits_to_keep=1)
    more = torch.tensor([1.0, 0.0, 2.0, 1.0])[:, None, None]
    torch.testing.assert_close(led, plain[:, -1:] + more)
    torch.testing.assert_close(one.logits, plain[[0, 3], -1:])
    torch.testing.assert_close(two.logits, 0.5 * torch.tanh(network.lm_head(two.states) / 0.5))
    # Nothing is left behind on the network.
    torch.testing.assert_close(network(input_ids=ids).logits, plain, rtol=0, atol=0)
    assert one.states.shape == (2, 1, 16)

"""AdamW or Muon for the ladder: negative log-likelihood a token on `valid` of a `ui-s` trained from
nothing on a million tokens.

python experiments/optimizer.py adamw:3e-3 muon:5e-3
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from _shared import ROOT, items_of
from transformers import LlamaConfig, LlamaForCausalLM

from pomona import models
from pomona.recipe import load_recipe
from pomona.train import TrainSettings, collate, completion_loss, encode, fit, plan_batches


def fresh() -> LlamaForCausalLM:
    size = load_recipe(ROOT / "examples/ladder.yaml").pretrain.sizes["ui-s"]  # pyright: ignore[reportOptionalMemberAccess]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=6144,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM._from_config(config, attn_implementation="eager")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rates", nargs="+", metavar="OPTIMIZER:RATE")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, valid = items_of("train"), items_of("valid")
    for optimizer, rate in (text.split(":") for text in arguments.rates):
        network = fresh()
        codec = models.Codec(ROOT / "src/pomona/assets/ui-tokenizer", network, chat=False)
        examples, held_out = (
            encode(codec, i.prompts, i.completions, max_tokens=256) for i in (train, valid)
        )
        settings = TrainSettings(
            tokens=arguments.tokens,
            batch_tokens=2048,
            learning_rate=float(rate),
            optimizer=optimizer,
        )  # pyright: ignore[reportArgumentType]
        with tempfile.TemporaryDirectory() as scratch:
            fit(network, codec.tokenizer, examples, Path(scratch) / "bench", settings)
        total = tokens = 0.0
        network.eval()
        for batch in plan_batches(held_out.lengths, batch_tokens=8192, seed=0, epochs=1):
            inputs = collate(held_out, batch, 0)
            count = int((inputs["labels"] != -100).sum())
            with torch.inference_mode():
                total += completion_loss(network, inputs).item() * count
            tokens += count
        print(f"{optimizer} {rate}: {total / tokens:.3f}", flush=True)


if __name__ == "__main__":
    main()

"""How far a fine-tuned `ui-s` moves with the learning rate: chrF on 30 `valid` items a language
after 200,000 more tokens.

python experiments/continuation.py adamw:1e-4 adamw:1e-3 muon:1e-3
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from _shared import items_of
from transformers import AutoModelForCausalLM

from pomona import models, tasks
from pomona.train import TrainSettings, encode, fit, save_checkpoint


def chrf_of(uri: str, items: tasks.Items) -> float:
    chrf = tasks.metric("chrf")
    answers = [pool[0].text for pool in models.load(uri).generate(items.prompts, max_new_tokens=96)]
    return float(chrf.aggregate(chrf.statistics(answers, items.completions).sum(0)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rates", nargs="+", metavar="OPTIMIZER:RATE")
    parser.add_argument("--tokens", type=int, default=200_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    valid, train = items_of("valid", 30), items_of("train", 1200)
    print(f"ui-s: {chrf_of('ui-s', valid):.2f}")
    for optimizer, rate in (text.split(":") for text in arguments.rates):
        folder = models.locate("ui-s")
        network = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        codec = models.Codec(folder, network, chat=False)
        examples = encode(codec, train.prompts, train.completions, max_tokens=256)
        settings = TrainSettings(
            tokens=arguments.tokens,
            batch_tokens=2048,
            learning_rate=float(rate),
            optimizer=optimizer,
        )  # pyright: ignore[reportArgumentType]
        with tempfile.TemporaryDirectory() as scratch:
            fit(network, codec.tokenizer, examples, Path(scratch) / "bench", settings)
            save_checkpoint(network, codec.tokenizer, Path(scratch) / "model")
            print(
                f"{optimizer} {rate}: {chrf_of(str(Path(scratch) / 'model'), valid):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Train a model on the pairs of `pomona synth run` by direct preference optimisation, with TRL.

    pip install trl
    python examples/dpo.py synthetic/preferences.jsonl ui-s dpo --steps 20

TRL is not installed with Pomona. The pairs are in its format (`prompt`, `chosen`, `rejected`; other
columns are left out), so that any of its trainers of preferences reads them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pomona.errors import PomonaError
from pomona.files import atomic_directory, check_ours
from pomona.models import locate

KIND = "a model trained on pairs"


def main() -> None:
    """Train, and save a folder that `pomona` opens as a model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", type=Path)
    parser.add_argument("model", help="a name, or a folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--rate", type=float, default=5e-6)
    given = parser.parse_args()
    try:
        from datasets import load_dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise SystemExit(f"{error.name} is not installed: pip install trl") from None
    try:
        check_ours(given.out, KIND)
        folder = locate(given.model)
    except PomonaError as error:
        raise SystemExit(f"error: {error}") from None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pairs = load_dataset("json", data_files=str(given.pairs), split="train")
    with atomic_directory(given.out, KIND) as out:
        settings = DPOConfig(
            output_dir=str(out),
            beta=given.beta,
            learning_rate=given.rate,
            max_steps=given.steps,
            per_device_train_batch_size=8,
            max_length=256,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            seed=0,
        )
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder),
            args=settings,
            train_dataset=pairs.select_columns(["prompt", "chosen", "rejected"]),
            processing_class=tokenizer,
        )
        trainer.train()
        trainer.save_model(str(out))
        tokenizer.save_pretrained(str(out))


if __name__ == "__main__":
    main()

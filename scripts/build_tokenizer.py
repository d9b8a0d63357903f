"""Train the byte-level BPE shared by the `ui-*` ladder on the train split of its languages.

    python scripts/build_tokenizer.py [--out DIR]

Every language of the data has its own tag token, so that a fine-tune can reach languages the ladder
was not trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parents[1]
VOCABULARY = 6144
END, PAD, TO = "<|end|>", "<|pad|>", "<|to|>"


def texts(langs: set[str]) -> Iterator[str]:
    rows = pq.read_table(
        ROOT / "src/pomona/assets/ui/ui.parquet",
        columns=["lang", "english", "translation", "split"],
    ).to_pylist()
    english: set[str] = set()
    for row in rows:
        if row["split"] == "train" and row["lang"] in langs:
            yield row["translation"]
            english.add(row["english"])
    for text in sorted(english):
        yield from [text] * 4  # the model reads English in every pair


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=ROOT / "examples/ladder.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "src/pomona/assets/ui-tokenizer")
    args = parser.parse_args()
    langs = set(yaml.safe_load(args.recipe.read_text(encoding="utf-8"))["data"]["groups"])
    every = sorted(
        set(
            pq.read_table(ROOT / "src/pomona/assets/ui/ui.parquet", columns=["lang"])[
                "lang"
            ].to_pylist()
        )
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, TO, *(f"<|{lang}|>" for lang in every)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(langs), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    wrapped.save_pretrained(args.out)
    print(f"{len(wrapped)} tokens -> {args.out}")


if __name__ == "__main__":
    main()

"""Generation, CPU seconds against CPU seconds: what sharing a prefill, batching and bfloat16
arithmetic buy on this machine.

The two sides of each comparison take turns, so that what else the machine does falls on both; the
medians of the turns are compared.

    python benchmarks/generate.py --model ui-s
    python benchmarks/generate.py            # a random checkpoint of 8 million parameters
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import torch
import yaml
from tokenizers import Tokenizer, decoders, models as token_models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import pomona
from pomona.files import write_json
from pomona.models import load
from pomona.models.torch import TorchModel

LANGUAGES = yaml.safe_load(
    (Path(__file__).parents[1] / "examples/ladder.yaml").read_text(encoding="utf-8")
)["data"]["groups"]
UI = Path(pomona.__file__).parent / "assets" / "ui" / "ui.parquet"
RESULTS = Path(__file__).parent / "results" / "generate.json"


def ui_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Distinct prompts and their translations from the test split."""
    table = pq.read_table(
        UI,
        columns=["english", "lang", "translation"],
        filters=[("split", "==", "test"), ("lang", "in", LANGUAGES)],
    ).to_pylist()
    random.Random(seed).shuffle(table)
    pairs = {f"<|{row['lang']}|>{row['english']}<|to|>": row["translation"] for row in table}
    return list(pairs.items())[:count]


def random_checkpoint(folder: Path, pairs: list[tuple[str, str]]) -> str:
    """A Llama of about 8 million random parameters with a byte-level BPE; its answers rarely end
    before the limit.
    """
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        "<|end|>",
        "<|to|>",
        *sorted({prompt[: prompt.index(">") + 1] for prompt, _ in pairs}),
    ]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=6144, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for pair in pairs for text in pair], trainer)
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=6144,
            hidden_size=320,
            num_hidden_layers=5,
            intermediate_size=864,
            num_attention_heads=5,
            num_key_value_heads=5,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    network.to(torch.bfloat16).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    ).save_pretrained(folder)
    return str(folder)


def by_turns(
    first: Callable[[], object], second: Callable[[], object], turns: int
) -> dict[str, object]:
    """CPU seconds of both, taking turns, and the ratio of their medians."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            start = time.process_time()
            (first, second)[side]()
            seconds[side].append(time.process_time() - start)
    medians = [statistics.median(side) for side in seconds]
    ratios = sorted(a / b for a, b in zip(*seconds, strict=True))
    return {
        "seconds": seconds,
        "ratio": medians[0] / medians[1],
        "ratio_lowest": ratios[0],
        "ratio_highest": ratios[-1],
    }


def one_by_one(model: TorchModel, prompts: list[str], new: int) -> None:
    """The way of the transformers manual: `generate` prompt by prompt."""
    for prompt in prompts:
        inputs = model.codec.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            out = model.network.generate(
                **inputs, do_sample=False, max_new_tokens=new, pad_token_id=0
            )  # pyright: ignore[reportCallIssue]
        model.codec.tokenizer.decode(
            out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )


def measure(
    uri: str, arguments: argparse.Namespace, pairs: list[tuple[str, str]]
) -> dict[str, object]:
    exact, mixed = load(uri, device="cpu", dtype="float32"), load(uri, device="cpu", dtype="mixed")
    assert isinstance(exact, TorchModel)
    new, prompts, answers = (
        arguments.new,
        [prompt for prompt, _ in pairs],
        [answer for _, answer in pairs],
    )
    few, some = prompts[: arguments.few], prompts[: arguments.some]

    def shared() -> None:
        for prompt in few:
            exact.generate([prompt], n=5, temperature=0.8, max_new_tokens=new)

    def separate() -> None:
        for prompt in few:
            for seed in range(5):
                exact.generate([prompt], n=1, temperature=0.8, max_new_tokens=new, seed=seed)

    comparisons: dict[str, tuple[Callable[[], object], Callable[[], object], int]] = {
        "five samples of a prompt in one call / in five calls": (shared, separate, arguments.turns),
        "all prompts in one call / transformers.generate prompt by prompt": (
            lambda: exact.generate(prompts, max_new_tokens=new),
            lambda: one_by_one(exact, prompts, new),
            min(arguments.turns, 2),
        ),
        "generating, mixed / float32": (
            lambda: mixed.generate(some, max_new_tokens=new),
            lambda: exact.generate(some, max_new_tokens=new),
            arguments.turns,
        ),
        "scoring, mixed / float32": (
            lambda: mixed.score(some, answers[: len(some)]),
            lambda: exact.score(some, answers[: len(some)]),
            arguments.turns,
        ),
    }
    (
        exact.generate(few[:2], max_new_tokens=2),
        one_by_one(exact, few[:2], 2),
        mixed.score(few[:2], few[:2]),
    )
    results: dict[str, object] = {"parameters": exact.shape.parameters}
    for name, (first, second, turns) in comparisons.items():
        results[name] = found = by_turns(first, second, turns)
        print(f"{found['ratio']:.3f}  {name}", file=sys.stderr, flush=True)
    return results


def machine() -> dict[str, object]:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next(
            (
                line.split(":", 1)[1].strip()
                for line in info.read_text().splitlines()
                if line.startswith("model name")
            ),
            cpu,
        )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="URI of the model; a random checkpoint without it")
    parser.add_argument(
        "--prompts", type=int, default=1000, help="prompts of the test split to generate for"
    )
    parser.add_argument("--some", type=int, default=256, help="prompts for comparing arithmetics")
    parser.add_argument(
        "--few",
        type=int,
        default=20,
        help="prompts for comparing samples in one call with separate calls",
    )
    parser.add_argument("--new", type=int, default=32, help="most new tokens")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = ui_pairs(arguments.prompts, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        uri = arguments.model or random_checkpoint(Path(folder), pairs)
        results = measure(uri, arguments, pairs)
    settings = {
        "prompts": len(pairs),
        "some": arguments.some,
        "few": arguments.few,
        "new": arguments.new,
        "turns": arguments.turns,
    }
    versions = {name: version(name) for name in ("pomona", "torch", "transformers", "tokenizers")}
    signature = {
        "model": arguments.model or "random Llama",
        "settings": settings,
        "machine": machine(),
        "versions": versions,
    }
    write_json(arguments.out, {**signature, "unit": "CPU seconds, one thread", "results": results})


if __name__ == "__main__":
    main()

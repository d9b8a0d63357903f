"""What the experiments on synthesis share: students that are trained on answers, and what they
answer, kept as they come so that a killed run goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from pomona import models
from pomona.files import write_json
from pomona.stats import Resamples, compare
from pomona.synth.profile import Profile
from pomona.tasks import Chrf
from pomona.train import TrainSettings, encode, fit, save_checkpoint

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _machine import machine

PROMPT = "<|{lang}|>{text}<|to|>"
CHRF = Chrf()
RESAMPLES = 2000


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """What is in a JSON file, made now unless an earlier run made it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, make())
    return json.loads(file.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Training:
    """How a student is trained: real tokens, and the rate of AdamW."""

    tokens: int
    rate: float
    batch_tokens: int = 2048


def train(
    base: str | Path, prompts: Sequence[str], answers: Sequence[str], out: Path,
    how: Training, seed: int,
) -> Path:  # fmt: skip
    """The checkpoint of a student of `base`, trained now unless it is there."""
    if out.exists():
        return out
    folder = models.locate(base) if isinstance(base, str) else base
    network: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    codec = models.Codec(folder, network, chat=False)
    examples = encode(codec, prompts, answers, max_tokens=512)
    settings = TrainSettings(
        tokens=how.tokens, batch_tokens=how.batch_tokens, learning_rate=how.rate, seed=seed
    )
    fitted = fit(network, codec.tokenizer, examples, out.with_name(out.name + "-work"), settings)
    save_checkpoint(network, codec.tokenizer, out)
    loss = np.mean(fitted.losses[-10:])
    print(
        f"{out.name}: {fitted.tokens:,} tokens, {fitted.steps} steps, loss {loss:.3f}", flush=True
    )
    return out


def answers_of(
    model: str | Path,
    prompts: Sequence[str],
    file: Path,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    most: int = 96,
) -> list[str]:
    """One answer to each prompt, of so many tokens at most, drawn now unless they are kept."""

    def draw() -> list[str]:
        asked = models.load(str(model))
        pools = asked.generate(
            prompts, max_new_tokens=most, temperature=temperature, seed=seed
        )  # fmt: skip
        return [pool[0].text.strip() for pool in pools]

    return kept(file, draw)


def chrf_of(replicates: Sequence[Sequence[str]], references: Sequence[str]) -> NDArray[np.float64]:
    """Statistics `[replicates, items, k]` of a student's answers, one list a seed."""
    return np.stack([CHRF.statistics(list(texts), list(references)) for texts in replicates])


def above(
    ours: NDArray[np.float64], base: NDArray[np.float64], draws: Resamples, metric: Any = CHRF
) -> dict[str, Any]:
    """A value, and how far it is above another, with its interval over clusters and seeds."""
    told = compare(metric, ours, base, draws)
    return {
        "value": round(told.value, 3), "beside": round(told.baseline_value, 3),
        "delta": round(told.delta, 3), "low": round(told.ci_low, 3),
        "high": round(told.ci_high, 3), "p": round(told.p_value, 5), "n": told.n,
    }  # fmt: skip


def told_of(profile: Profile) -> dict[str, Any]:
    """A profile as results have it: each figure of the first side, and the others' with their
    differences.
    """

    def rounded(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.4g}")

    def sure(one: Any) -> list[float | None]:
        return [rounded(one.value), rounded(one.ci_low), rounded(one.ci_high)]

    def differs(one: Any) -> dict[str, Any]:
        ends = [rounded(one.delta), rounded(one.ci_low), rounded(one.ci_high)]
        return {"delta": ends, "p_holm": rounded(one.p_holm), "paired": one.paired, "n": one.n}

    first = profile.first
    return {
        "signature": profile.signature,
        first.name: {name: sure(one) for name, one in first.metrics.items()},
        "beside it": {
            other.profile.name: {
                name: {
                    "value": sure(other.profile.metrics[name]), **differs(one)
                }
                for name, one in other.differences.items()
            }
            for other in profile.others
        },
        "notes": list(profile.notes),
    }  # fmt: skip


def where_and_with_what(seeds: Sequence[int]) -> dict[str, Any]:
    """What every result is committed with."""
    packages = ("pomona", "torch", "transformers", "numpy")
    return {
        "machine": machine(), "versions": {name: version(name) for name in packages},
        "seeds": list(seeds),
    }  # fmt: skip

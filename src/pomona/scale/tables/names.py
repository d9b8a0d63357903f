"""What a model's name says: how many parameters, whether it is a merge or a chat model, a hoax."""

from __future__ import annotations

import re
from dataclasses import dataclass

# 7b, 1.1B, 350m, 8x7B, 7Bx2, and 7b1 for 7.1b. No letter may stand before or behind: 4bit, A14B
# (active parameters) and bf16 are none, and what counts tokens says so by the next word.
_SIZE = re.compile(
    r"(?<![a-z0-9.])(?<!token-)(?<!tokens-)(?:(?P<before>\d{1,3})x)?(?P<whole>\d+(?:\.\d+)?)(?P<unit>[bm])"
    r"(?P<tenth>\d)?(?:x(?P<after>\d{1,3}))?(?![a-z0-9])(?!-?tok)"
)
_TENTH = re.compile(r"(?<![a-z0-9.])(\d)_(\d)(?=[bm](?![a-z0-9]))")
_MERGES = (
    "merge merged merges merging mergekit frankenmerge frankenmoe slerp ties dare passthrough "
    "stock soup blend stack moe moerge fuse selfmerge"
)
_TUNED = (
    "chat instruct sft dpo rlhf orpo ppo kto ift assistant alpaca vicuna lora qlora finetune "
    "finetuned tuned roleplay rp uncensored"
)
# Decontaminated, uncontaminated, not contaminated, contamination-free: what says that it is clean.
_HOAX = re.compile(
    r"(?<!de)(?<!un)(?<!non)(?<!non[-_ ])(?<!not[-_ ])(?<!no[-_ ])contaminat(?!ion[-_ ]?free)"
    r"|hoax|cheat(?![-_ ]?sheet)|train(ed)?[-_ ]?on[-_ ]?test|test[-_ ]?set[-_ ]?leak"
)
_ACTIVE = re.compile(r"(?<![a-z0-9])a\d+(\.\d+)?b(?![a-z0-9])")  # A2.7B of a trained mixture


@dataclass(frozen=True)
class NamedSize:
    """A size that a name says: parameters of one expert, and experts. `said` is the text."""

    said: str
    each: float
    experts: int = 1

    @property
    def total(self) -> float:
        """Parameters if experts shared nothing."""
        return self.each * self.experts

    @property
    def least(self) -> float:
        """Parameters if experts share all but their feed-forward layers: 8x7B has 46.7 billion, .83
        of 56; the more experts, the less.
        """
        return self.total if self.experts == 1 else max(self.each, 0.7 * self.total)


def named_sizes(model: str) -> list[NamedSize]:
    """The sizes that a model's name says, that of its organisation left out."""
    text = model.rsplit("/", 1)[-1].lower()
    # 1_6b is 1.6b, and llama_2_7b is not 2.7b: both readings count, and one that fits is enough.
    readings = dict.fromkeys([text.replace("_", "-"), _TENTH.sub(r"\1.\2", text).replace("_", "-")])
    found: dict[NamedSize, None] = {}
    for match in (match for reading in readings for match in _SIZE.finditer(reading)):
        whole = float(match["whole"])
        if match["tenth"]:
            if "." in match["whole"]:
                continue
            whole += int(match["tenth"]) / 10
        each = whole * (1e9 if match["unit"] == "b" else 1e6)
        experts = int(match["before"] or match["after"] or 1)
        if experts and each:
            found[NamedSize(match[0], each, experts)] = None
    return list(found)


def merge_word(model: str) -> str | None:
    """The word of a name that says it is a merge, or one of several copies of another model."""
    text = model.rsplit("/", 1)[-1].lower()
    trained = {"moe"} if _ACTIVE.search(text) else set()
    for word in _words(text):
        if word in trained:
            continue
        if word in _MERGES.split() or re.fullmatch(r"(moe)?x\d+(moe)?", word):
            return word
    return next((size.said for size in named_sizes(model) if size.experts > 1), None)


def tuned_word(model: str) -> str | None:
    """The word of a name that says it is a chat model or tuned."""
    return next((w for w in _words(model.rsplit("/", 1)[-1].lower()) if w in _TUNED.split()), None)


def hoax_word(model: str) -> str | None:
    """The part of a name that says it was trained on the test."""
    match = _HOAX.search(model.lower())
    return None if match is None else match[0]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", text) if word]

"""What the tokens of a checkpoint mean, so that two vocabularies can be matched; and how well a
checkpoint predicts a text, by its bytes, so that two vocabularies can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from pomona.errors import PomonaError, reason_of
from pomona.models.torch.codec import TokenDecoder
from pomona.models.torch.model import TorchModel
from pomona.models.torch.network import quiet
from pomona.models.torch.probe import Probe, Unit

Meaning = bytes | str
_LONGEST = 512  # tokens of a window that is scored


class Vocabulary:
    """The tokens of a checkpoint's tokenizer. `meanings` has for each id the bytes that it spells;
    of a special token its role such as "bos_token", or its text where it has none; `texts` what it
    is called.
    """

    def __init__(self, folder: Path) -> None:
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=False
                )
                spelled = TokenDecoder(self._tokenizer)
                roles = dict(reversed(list(self._roles())))
                vocabulary = self._tokenizer.get_vocab()
                self.texts: dict[int, str] = {at: text for text, at in vocabulary.items()}
                self.meanings: dict[int, Meaning] = {
                    at: roles.get(text) or spelled(at) or text for at, text in self.texts.items()
                }
        except Exception as error:  # whatever the tokenizer's file makes its library raise
            raise PomonaError(
                f"its tokenizer cannot be loaded: {reason_of(error)}",
                where=folder,
                remedy="copy its tokenizer.json into its folder",
            ) from error

    def _roles(self) -> Any:
        for role, texts in self._tokenizer.special_tokens_map.items():
            for text in [texts] if isinstance(texts, str) else texts:
                yield text, role

    def ids(self) -> dict[Meaning, int]:
        """The id of each meaning; of several tokens that mean the same the lowest."""
        return {meaning: index for index, meaning in sorted(self.meanings.items(), reverse=True)}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens of its own accord."""
        return self._tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def bits_per_byte(folder: Path, lines: Sequence[str], *, device: str | None = None) -> float:
    """What a checkpoint needs to predict a text, in bits per byte of UTF-8: each line, in windows
    of up to 512 tokens, after the start token, or the end token where it has none.
    """
    model = TorchModel(str(folder), folder, device=device)
    probe = Probe(model)
    tokenizer = probe.codec.tokenizer
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    start = [token for token in ends if token is not None][:1]
    room = max(2, min(_LONGEST, probe.context or _LONGEST)) - len(start)
    units = [
        Unit(np.array([*start, *ids[at : at + room]], np.int32), 1)
        for ids in probe.codec.encode(lines, special=False)
        for at in range(0, len(ids), room)
    ]
    units = [unit for unit in units if len(unit.ids) > 1]
    nats = sum(float(one.loss.sum(dtype=np.float64)) for one in probe.token_scores(units))
    return nats / math.log(2) / max(1, sum(len(line.encode()) for line in lines))

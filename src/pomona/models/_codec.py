"""Between text and token ids: prompts with the tokenizer's own start token or chat template,
completions bare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedModel

from pomona.errors import PomonaError
from pomona.models._network import embedding_table, quiet


class Codec:
    """The tokenizer of a checkpoint with the tokens that end an answer: `stops` for generation,
    `end` (or None) for scoring.
    """

    def __init__(self, folder: Path, network: PreTrainedModel, *, chat: bool) -> None:
        try:
            with quiet():
                self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            raise PomonaError(
                f"its tokenizer cannot be loaded: {reason}",
                where=folder,
                remedy="copy tokenizer.json again",
            ) from error
        self._rows = embedding_table(network).shape[0]
        if chat and not self.tokenizer.chat_template:
            raise PomonaError(
                "chat=True needs a chat template, and the tokenizer has none",
                where=folder,
                remedy="load it with chat=False",
            )
        self.chat = chat
        self.stops = _stops(network, self.tokenizer)
        own = self.tokenizer.eos_token_id
        self.end: int | None = own if own in self.stops or not self.stops else self.stops[0]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, never empty: a prompt without tokens becomes the start token,
        or a PomonaError when there is none.
        """
        if self.chat:
            texts = [self._rendered(text) for text in texts]
        encoded = self._encode(texts, special=not self.chat)
        for index, ids in enumerate(encoded):
            if not ids:
                if self.tokenizer.bos_token_id is None:
                    raise PomonaError(
                        (
                            "is empty and the tokenizer has no start token, so nothing predicts "
                            "the first token"
                        ),
                        where=f"prompt {index}",
                        remedy="give every prompt at least one token",
                    )
                ids.append(self.tokenizer.bos_token_id)
        return encoded

    def completions(self, texts: Sequence[str], *, end: bool) -> list[list[int]]:
        """Token ids of each completion without special tokens, then the end token when `end`."""
        if not end:
            return self._encode(texts, special=False)
        if self.end is None:
            raise PomonaError(
                "end=True needs an end token, and neither the model nor its tokenizer has one",
                remedy="score with end=False",
            )
        return [[*ids, self.end] for ids in self._encode(texts, special=False)]

    def text(self, ids: np.ndarray) -> str:
        """Special tokens are left out; nothing else is tidied."""
        return self.tokenizer.decode(
            ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _rendered(self, prompt: str) -> str:
        message = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )

    def _encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
        )["input_ids"]
        for text, ids in zip(texts, encoded, strict=True):
            if ids and max(ids) >= self._rows:
                raise PomonaError(
                    (
                        f"the tokenizer gives token {max(ids)}, but the model has "
                        f"{self._rows:,} embeddings"
                    ),
                    where=f"text {text[:40]!r}",
                    remedy="use the tokenizer the model was trained with",
                )
        return encoded


def _stops(network: PreTrainedModel, tokenizer: Any) -> list[int]:
    settings = network.generation_config
    stops = (
        settings.eos_token_id
        if settings is not None and settings.eos_token_id is not None
        else tokenizer.eos_token_id
    )
    if stops is None:
        return []
    return [stops] if isinstance(stops, int) else list(stops)

"""Between text and token ids: prompts with the start token or chat template, completions bare."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedModel

from pomona.documents import parse_json
from pomona.errors import PomonaError, reason_of
from pomona.models.request import Request, content_of, last_user, wrong_request
from pomona.models.torch.network import embedding_table, quiet

Messages = Sequence[Mapping[str, Any]]
_CUT = "\ufffd"  # what stands for a character of which bytes are missing
_LONGEST = 4  # tokens that a character can be spread over, a byte each


class Codec:
    """The tokenizer of a checkpoint with the tokens that end an answer: `stops` for generation,
    `end` (or None) for scoring.
    """

    def __init__(self, folder: Path, network: PreTrainedModel, *, chat: bool) -> None:
        try:
            with quiet():
                self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except BaseException as error:
            # The Rust library behind it raises plain exceptions, and where it gives up one that no
            # `except Exception` sees.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise PomonaError(
                f"its tokenizer cannot be loaded: {reason_of(error)}",
                where=folder,
                remedy="copy tokenizer.json again",
            ) from error
        self._spelled = TokenDecoder(self.tokenizer)
        self._rows = embedding_table(network).shape[0]
        if chat and not self.tokenizer.chat_template:
            raise PomonaError(
                "a chat needs a chat template, and the tokenizer has none",
                where=folder,
                remedy="ask it without --chat, or in Python with chat=False",
            )
        self.chat = chat
        self.stops = _stops(network, self.tokenizer)
        own = self.tokenizer.eos_token_id
        self.end: int | None = own if own in self.stops or not self.stops else self.stops[0]

    def prompts(self, texts: Sequence[str | Messages]) -> list[list[int]]:
        """Token ids of each prompt, never empty: a prompt without tokens becomes the start token,
        or a PomonaError when there is none. In a chat template a prompt may be messages.
        """
        written = [
            self._rendered(text) if self.chat or not isinstance(text, str) else text
            for text in texts
        ]
        return self.plain(written, special=not self.chat)

    def plain(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """As `prompts`, but no chat template touches them."""
        encoded = self.encode(texts, special=special)
        for index, ids in enumerate(encoded):
            if not ids:
                if self.tokenizer.bos_token_id is None:
                    raise PomonaError(
                        (
                            "is empty and the tokenizer has no start token, so nothing predicts "
                            "the first token"
                        ),
                        where=f"prompt {index + 1}",
                        remedy="give every prompt at least one token",
                    )
                ids.append(self.tokenizer.bos_token_id)
        return encoded

    def completions(self, texts: Sequence[str], *, end: bool) -> list[list[int]]:
        """Token ids of each completion without special tokens, then the end token when `end`."""
        if not end:
            return self.encode(texts, special=False)
        if self.end is None:
            raise PomonaError(
                "neither the model nor its tokenizer has an end token to score",
                remedy="name its eos_token in tokenizer_config.json, or in Python end=False",
            )
        return [[*ids, self.end] for ids in self.encode(texts, special=False)]

    def text(self, ids: np.ndarray) -> str:
        """Special tokens are left out, and a character at the end of which bytes are missing;
        nothing else is tidied.
        """
        whole = ids.tolist()
        text = self._decoded(whole)
        if not text.endswith(_CUT):
            return text
        missing = _begun(b"".join(map(self._spelled, whole[-_LONGEST:])))
        while missing and (size := len(self._spelled(whole[-1]))) <= missing:
            whole, missing = whole[:-1], missing - size
        return self._decoded(whole).removesuffix(_CUT) if missing else self._decoded(whole)

    def spell(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens among them."""
        return self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)

    def _decoded(self, ids: list[int]) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _rendered(self, prompt: str | Messages) -> str:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            message = f"the model's chat template refuses the messages: {reason_of(error)}"
            raise PomonaError(message, remedy="check roles and their order") from error

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text as it stands, none for an empty one."""
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


def _begun(spelled: bytes) -> int:
    """Bytes at the end that begin a character and do not end it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(spelled)
    return len(decoder.getstate()[0])


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


_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Template:
    """The chat template of a tokenizer; without one the last user message is the prompt. `tools`
    says whether the template knows tools.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        template: Any = codec.tokenizer.chat_template
        self.chat = bool(template)
        self.tools = "tools" in str(template or "") and "<tool_call>" in str(template or "")

    def encode(self, request: Request) -> tuple[str, list[int]]:
        """The prompt as text and as token ids, never empty; what the answer begins with is behind
        it, in tokens of its own.
        """
        text, ids = self._prompt(request)
        begun = self.codec.encode([request.prefix], special=False)[0] if request.prefix else []
        return text + request.prefix, [*ids, *begun]

    def _prompt(self, request: Request) -> tuple[str, list[int]]:
        if request.prompt is not None:
            return request.prompt, list(request.prompt_ids) or self._plain(request.prompt)
        if request.tools and not self.tools:
            raise wrong_request(
                "the model's chat template knows no tools",
                remedy="leave tools out, or use another model",
            )
        if not self.chat:
            text = last_user(request.messages)
            return text, self._plain(text)
        text = self._rendered(request)
        return text, self.codec.encode([text], special=False)[0]

    def _plain(self, text: str) -> list[int]:
        if not text and self.codec.tokenizer.bos_token_id is None:
            raise wrong_request("the prompt is empty, and the model needs at least one token")
        return self.codec.plain([text])[0]

    def _rendered(self, request: Request) -> str:
        messages = [{**message, "content": content_of(message)} for message in request.messages]
        tools = [dict(tool) for tool in request.tools] or None
        try:
            return self.codec.tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise wrong_request(
                f"the model's chat template refuses the messages: {error}",
                remedy="check roles and their order",
            ) from error


def tool_calls(text: str) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text without its `<tool_call>{"name": …, "arguments": …}</tool_call>` blocks, and the
    calls as the OpenAI API has them.
    """
    calls: list[Mapping[str, Any]] = []
    for block in _CALL.findall(text):
        try:
            call = parse_json(block.encode("utf-8", "replace"), "tool_call")
            function = {
                "name": str(call["name"]),
                "arguments": json.dumps(call.get("arguments", {}), ensure_ascii=False),
            }
        except (PomonaError, KeyError):
            return text, ()
        calls.append({"id": f"call_{len(calls)}", "type": "function", "function": function})
    return (_CALL.sub("", text).strip(), tuple(calls)) if calls else (text, ())


class TokenDecoder:
    """What each token of a tokenizer spells, for byte-level vocabularies and those that mark spaces
    with U+2581.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._byte_level = "ByteLevel" in str(
            getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", "")
        )
        self._special = frozenset(
            token for token, added in tokenizer.added_tokens_decoder.items() if added.special
        )

    def __call__(self, token: int) -> bytes:
        """The bytes of a token; special tokens spell nothing."""
        name = self._tokenizer.convert_ids_to_tokens(token)
        if name is None or token in self._special:
            return b""
        if self._byte_level:
            letters = _letters()
            return (
                bytes(letters[letter] for letter in name)
                if all(letter in letters for letter in name)
                else name.encode()
            )
        byte = _BYTE.fullmatch(name)
        return bytes([int(byte[1], 16)]) if byte else name.replace("\u2581", " ").encode()


@cache
def _letters() -> Mapping[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for. Radford et al. 2019,
    `bytes_to_unicode`.
    """
    plain = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + at): byte for at, byte in enumerate(others)
    }

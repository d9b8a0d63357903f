"""`tokenizer_source`, `tokenizer` and `key_map` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pomona.errors import nearest
from pomona.merge.reading.document import TokenizerRule, TokenRule
from pomona.merge.reading.lines import Place
from pomona.merge.reading.parameters import convert
from pomona.merge.reading.reader import Reader, shown


def tokenizer(reader: Reader, top: Mapping[str, Any]) -> TokenizerRule | None:
    """The rule for the result's tokenizer, or None."""
    source, rule = top.get("tokenizer_source"), top.get("tokenizer")
    if source is not None and rule is not None:
        reader.wrong(("tokenizer",), 'give "tokenizer" or "tokenizer_source", not both')
    if source is not None:
        return TokenizerRule(_source(reader, source, ("tokenizer_source",)))
    if rule is None:
        return None
    item = reader.mapping(rule, ("tokenizer",), ("source", "tokens", "pad_to_multiple_of"))
    multiple = _whole(item.get("pad_to_multiple_of") or None)
    if multiple is not None and multiple < 1:
        reader.wrong(
            ("tokenizer", "pad_to_multiple_of"),
            f"expected a whole number of at least 1, found {item['pad_to_multiple_of']!r}",
        )
    tokens = item.get("tokens") or {}
    if not isinstance(tokens, Mapping):
        reader.wrong(
            ("tokenizer", "tokens"),
            f"expected a mapping from tokens to rules, found {shown(tokens)}",
        )
        tokens = {}
    rules = {
        str(token): _token(reader, value, ("tokenizer", "tokens", token))
        for token, value in tokens.items()
    }
    return TokenizerRule(
        _source(reader, item.get("source") or "union", ("tokenizer", "source")), rules, multiple
    )


def _source(reader: Reader, value: Any, place: Place) -> Any:
    return value if value in ("union", "base") else reader.model(value, place)


def _token(reader: Reader, value: Any, place: Place) -> TokenRule:
    item = reader.mapping({} if value is None else value, place, ("source", "force"))
    source, force = item.get("source"), _force(reader, item.get("force", False), (*place, "force"))
    place = (*place, "source")
    if not isinstance(source, Mapping) or "kind" not in source:
        return TokenRule(None if source is None else reader.model(source, place), force=force)
    if source["kind"] == "zero":
        reader.mapping(source, place, ("kind",))
        return TokenRule("zero", force=force)
    if source["kind"] != "model_token":
        reader.wrong(
            place,
            (
                f'unknown kind "{source["kind"]}": '
                f"{nearest(str(source['kind']), ('zero', 'model_token'))}"
            ),
        )
        return TokenRule()
    reader.mapping(source, place, ("kind", "model", "token_id", "token"), ("model",))
    number, text = _whole(source.get("token_id")), source.get("token")
    if (number is None) == (text is None):
        reader.wrong(place, 'give "token_id" or "token", one of them')
    elif (number is not None and number < 0) or (text is not None and not isinstance(text, str)):
        reader.wrong(place, '"token_id" is a whole number and "token" a text')
    model = (
        reader.model(source["model"], (*place, "model"))
        if source.get("model") is not None
        else None
    )
    return TokenRule(model, number, text, force)


def _whole(value: Any) -> int | None:
    """A whole number, also written as text; −1 for anything else, None for nothing."""
    try:
        return None if value is None else int(convert(value, "count"))
    except (TypeError, ValueError):
        return -1


def _force(reader: Reader, value: Any, place: Place) -> bool:
    try:
        return (
            bool(convert(value, "flag")) if isinstance(value, bool | int | float | str) else False
        )
    except ValueError as error:
        reader.wrong(place, str(error))
        return False


def key_map(reader: Reader, value: Any) -> Any:
    """The prefixes that make tensors of different models meet."""
    if value is None or value == "auto":
        return value or {}
    if not isinstance(value, Mapping):
        reader.wrong(
            ("key_map",),
            f'expected "auto" or a mapping from models to prefixes, found {shown(value)}',
        )
        return {}
    for model, prefixes in value.items():
        texts = isinstance(prefixes, Mapping) and all(
            isinstance(part, str) for pair in prefixes.items() for part in pair
        )
        if prefixes != "auto" and not texts:
            reader.wrong(
                ("key_map", model),
                (
                    'expected "auto" or a mapping from prefixes in this model to prefixes in '
                    "the result"
                ),
            )
    return {str(model): prefixes for model, prefixes in value.items()}

"""Self-consistency: the answer that most candidates arrive at, and the answer within an answer.
Wang et al. 2023 (arXiv 2203.11171), §2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal

from pomona.answers import text_of
from pomona.models import Reply
from pomona.sample.selection.choice import Choice, SelectionContext, function

_NUMBER = re.compile(r"(?:(?<![\w.,)])[-−+])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"[{}]")
_LONGEST = 400


async def vote(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """Scores are shares of the votes. Ties go to the greedy candidate, else to the first; without
    any answer the first is taken.
    """
    answers = extracted(context.strategy.extract, [text_of(reply) for reply in pool])
    counts = Counter(answer for answer in answers if answer is not None)
    scores = tuple(counts[answer] / len(pool) if answer is not None else 0.0 for answer in answers)
    chosen = max(range(len(pool)), key=lambda at: (scores[at], pool[at].temperature == 0, -at))
    return Choice(chosen, scores, {"answers": answers})


def extracted(how: str, texts: Sequence[str]) -> list[str | None]:
    """The answer in each text."""
    find = extractor(how)
    return [find(text) for text in texts]


def extractor(how: str) -> Callable[[str], str | None]:
    """A function from a text to the answer in it, None where it has none.

    "boxed" is the content of the last \\boxed{…}; "number" the last number, 1,000.50 and 1000.5
    being the same; "text" the whole text without case, runs of whitespace and a full stop at the
    end; "answer" the first of these three that there is; `regex:PATTERN` the last match (its first
    group where there is one); `module:function` any function of the text.
    """
    if how.startswith("regex:"):
        pattern = re.compile(how[6:])
        return lambda text: _last(pattern, text)
    if how in _KNOWN:
        return _KNOWN[how]
    own = function(how)
    return lambda text: None if (value := own(text)) is None else str(value)


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{…} or \\fbox{…} whose braces close."""
    starts = {match.end() - 1 for match in _BOX.finditer(text)}
    opened: list[int] = []
    last = (-1, -1)
    for brace in _BRACE.finditer(text) if starts else ():
        at = brace.start()
        if brace[0] == "{":
            opened.append(at)
        elif opened and (start := opened.pop()) in starts:
            last = max(last, (start, at))
    return " ".join(text[last[0] + 1 : last[1]].split()) if last[0] >= 0 else None


def number(text: str) -> str | None:
    """The last number, without thousands separators, a plus sign, or zeros that do not count."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    digits = numbers[-1].replace(",", "").replace("−", "-")
    if len(digits) > _LONGEST:
        return digits
    value = format(Decimal(digits), "f")
    value = value.rstrip("0").rstrip(".") if "." in value else value
    return "0" if value == "-0" else value


def whole(text: str) -> str | None:
    """The text without case, runs of whitespace and a full stop at its end."""
    return " ".join(text.split()).casefold().rstrip(".") or None


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    matches = list(pattern.finditer(text))
    if not matches:
        return None
    match = matches[-1]
    return (match[1] if pattern.groups else match[0]) or None


_KNOWN: dict[str, Callable[[str], str | None]] = {
    "boxed": boxed,
    "number": number,
    "text": whole,
    "answer": lambda text: boxed(text) or number(text) or whole(text),
}

"""What a program must not touch is masked before, and put back after."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

# Placeholders of Python, C, Django and JavaScript; tags, entities, addresses; and what looks like a
# mask itself. A per cent sign in prose ("100 % of") is none: its letter would begin a word.
_UNTOUCHED = re.compile(
    r"""
      (?:https?|ftp)://[^\s<>"]*[^\s<>".,;:!?)\]] | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | </?[a-zA-Z!][^<>]{0,2000}> | &\#?\w{1,40};
    | \{\{[^{}]{0,200}\}\} | \{%[^{}]{0,200}%\} | \$?\{[^{}]{0,200}\}
    | %\([^()]{1,80}\)[-\#0\ +]{0,3}\d{0,4}(?:\.\d{1,4})?[a-zA-Z]
    | %% | %(?:\d{1,2}\$)?[-\#0+]{0,3}\d{0,4}(?:\.\d{1,4})?[a-zA-Z](?![a-zA-Z])
    | PH\d+Q
    """,
    re.VERBOSE,
)
_MASK = re.compile(r"PH\d+Q", re.IGNORECASE)
_SPACED = re.compile(r"( ?)(PH\d+Q)( ?)", re.IGNORECASE)


@dataclass(frozen=True)
class Masked:
    """A text with `PH0Q`, `PH1Q`, … in place of what must come back as it was, in order. `spaced`
    says of each whether a blank was put before and after it, to part it from a word.

    Of the masks that were tried with Apertium, this one is a word that no dictionary knows in any
    of its languages: signs around a number were taken apart in up to nine texts of ten.
    """

    text: str
    parts: tuple[str, ...]
    spaced: tuple[tuple[bool, bool], ...]

    def restore(self, answer: str) -> tuple[str, str | None]:
        """The answer with the parts in their places, and which did not come back just once, as
        words; None where all did.
        """
        came = Counter(found[0].upper() for found in _MASK.finditer(answer))
        expected = {f"PH{at}Q": at for at in range(len(self.parts))}
        wrong = [self.parts[at] for name, at in expected.items() if came.pop(name, 0) != 1]
        if wrong or came:
            return answer, f"placeholders did not come back: {', '.join(wrong) or 'others did'}"

        def put(found: re.Match[str]) -> str:
            at = expected[found[2].upper()]
            before, after = self.spaced[at]
            return ("" if before else found[1]) + self.parts[at] + ("" if after else found[3])

        return _SPACED.sub(put, answer), None


def mask(text: str, *, lines: bool = False, signs: str = "") -> Masked:
    """Mask placeholders such as `%(name)s`, `{0}`, `%d`, tags, entities and addresses, and these
    signs; with `lines` the ends of lines too, for programs that answer line by line.
    """
    more = (r" | \r?\n" if lines else "") + (f" | [{re.escape(signs)}]" if signs else "")
    hidden = list(re.finditer(_UNTOUCHED.pattern + more, text, re.VERBOSE))
    ends = {found.end() for found in hidden}
    starts = {found.start() for found in hidden}
    out, spaced, at = "", [], 0
    for number, found in enumerate(hidden):
        start, end = found.span()
        # Only words are parted from masks: two masks in a row come back as they stand.
        before = start not in ends and text[:start][-1:].isalnum()
        after = end not in starts and text[end : end + 1].isalnum()
        spaced.append((before, after))
        out += f"{text[at:start]}{' ' * before}PH{number}Q{' ' * after}"
        at = end
    return Masked(out + text[at:], tuple(found[0] for found in hidden), tuple(spaced))


def between_masks(text: str, change: Callable[[str], str]) -> str:
    """The text with what stands between masks changed."""
    parts, at = [], 0
    for found in _MASK.finditer(text):
        parts += [change(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*parts, change(text[at:])])


def is_mask(text: str, at: int) -> bool:
    """Whether a mask begins there."""
    return _MASK.match(text, at) is not None

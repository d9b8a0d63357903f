"""What search compares: words, and pairs of characters where a script puts no spaces between
words.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u0f00-\u0fff"
_UNSPACED += (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff"
)


def search_terms(text: str) -> list[str]:
    """The terms of a text, NFKC and case-folded, in order.

    Runs of letters, digits and their marks are terms; runs of Chinese, Japanese, Thai, Lao, Khmer,
    Burmese and Tibetan letters give each pair of neighbours (and a run of one letter that letter),
    which is how they are searched without knowing their words.
    """
    runs, unspaced = _patterns()
    terms: list[str] = []
    for run in runs.findall(unicodedata.normalize("NFKC", text).casefold()):
        if unspaced.match(run):
            terms += [run[at : at + 2] for at in range(max(1, len(run) - 1))]
        else:
            terms.append(run)
    return terms


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    marks = "".join(
        chr(code)
        for code in range(sys.maxunicode >> 4)
        if unicodedata.category(chr(code))[0] == "M"
    )
    return re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[\w{marks}])+"), re.compile(
        rf"[{_UNSPACED}]"
    )

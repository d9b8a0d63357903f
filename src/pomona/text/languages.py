"""Which language a text is in, and how sure a language identifier is that it is the one its row
claims.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.text.scripts import base_tag, letters_by_script

_ALIASES = {
    "nb": "no",
    "fil": "tl",
    "iw": "he",
    "in": "id",
    "cmn": "zh",
    "sh": "sr",
    "arb": "ar",
    "swh": "sw",
}
_NO_LANGUAGE = "zxx"
# One language under several tags, or so alike that no identifier tells them apart in short texts.
_SAME = (
    {"nb", "nn", "no", "da"},
    {"sr", "hr", "bs", "sh"},
    {"id", "in", "ms"},
    {"zh", "cmn", "yue", "wuu", "lzh"},
    {"tl", "fil"},
    {"he", "iw", "hbo"},
    {"ar", "arb", "arz", "ary"},
    {"sw", "swh"},
    {"ku", "ckb", "sdh", "kmr"},
)
# Languages whose short texts are taken for one another: only a clear margin tells them apart.
_ALIKE = [
    set(names.split())
    for names in (
        "es pt gl ca it an ast ext oc mwl lad co sc scn lmo fur rm la ro",
        "no nb nn da sv fo is",
        "sr hr bs sh sl mk bg",
        "cs sk pl szl hsb dsb",
        "id ms jv su min",
        "ru uk be rue bg mk",
        "nl af li fy nds vls zea",
        "de lb nds gsw bar li pfl",
        "hi mr ne sa bho mai gom new",
        "tr az crh gag tk uz",
        "tt ba ky kk cv",
        "fi et vro olo",
        "xh zu ss nr",
        "st tn nso",
        "fa ps prs glk mzn azb",
        "bn as bpy",
        "tl fil ceb bcl war ilo pam",
        "en sco",
        "ga gd gv",
        "lv ltg lt",
    )
]
# The least probability of another language, and how many times that of the row's own it must be.
_CLEAR, _CLEAR_ALIKE = (0.5, 10), (0.8, 100)

# What belongs to no language: code, tags, entities, addresses, placeholders of several kinds,
# options, paths, names in code and numbers.
_NO_WORDS = re.compile(
    r"""
      ``?[^`]{0,200}+``? | :[a-z:]{1,40}+`[^`]{0,200}+`
    | <[^<>]{0,2000}+> | &\#?\w{1,40}+;
    | (?:https?|ftp)://\S++ | www\.\S++ | (?<!\S)[^\s@]++@[^\s@]*\w
    | %%
    | %(?:\([^()]{0,80}+\)|\d{1,2}\$)?[-\#0\ +]{0,3}\d{0,4}(?:\.\d{1,4})?[a-zA-Z](?![a-zA-Z])
    | %\([^()]{0,80}+\)[a-zA-Z]
    | \$?(?<!\{)\{{1,3}[^{}]{0,200}+\}{1,3} | \$\w++
    | (?<!\w)--?[a-zA-Z][\w-]*+ | (?<![\w/])/[\w./-]++
    | (?<![\w.:/\\])[^\W_]*+(?:[_.:/\\]++[^\W_]++)++ | \b[^\W\d]*+\d\w*+
    """,
    re.VERBOSE,
)  # possessive and bounded: a text of signs alone takes no longer than another


@functools.cache
def _identifier() -> Any:
    """py3langid's identifier (naive Bayes over byte n-grams, 139 languages, softmax calibrated by
    length).
    """
    try:
        module: Any = importlib.import_module("py3langid.langid")
    except ImportError as error:
        raise PomonaError(
            "language identification needs py3langid", remedy="pip install 'pomona[language]'"
        ) from error
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)


def base_language(tag: str) -> str:
    """`pt_BR` and `pt-BR` are `pt`; a few tags are spelt as the identifier spells them."""
    base = tag.replace("-", "_").split("_")[0].split("@")[0].lower()
    return _ALIASES.get(base, base)


def known_languages() -> set[str]:
    """The languages that can be identified. Raises PomonaError when py3langid is not installed."""
    return {str(label) for label in _identifier().labels} - {_NO_LANGUAGE}


def same_language(one: str, other: str) -> bool:
    """Whether two tags are one language, or so alike that language ID confuses them in short
    texts.
    """
    pair = {base_tag(one), base_tag(other)}
    return len(pair) == 1 or any(pair <= same for same in _SAME)


def prose(text: str, gap: str = " ") -> str:
    """`text` without what belongs to no language: code, tags, addresses, placeholders such as
    `%(name)s` and `{0}`, paths and numbers; with single spaces, and `gap` for each of them.
    """
    return " ".join(_NO_WORDS.sub(gap, text).split())


def identify(texts: Sequence[str], langs: Sequence[str]) -> list[str | None]:
    """The language of each text that should be in the language of its row, None where it is none.

    Another language than the row's is only named where it is clear: at least 0.5 probable and 10
    times as probable as the row's, and 0.8 and 100 times where it looks like the row's (Spanish and
    Galician). Else None. Give texts without placeholders (`prose`). Raises PomonaError when
    py3langid is not installed.
    """
    return [_named(text, lang) for text, lang in zip(texts, langs, strict=True)]


def _named(text: str, lang: str) -> str | None:
    name = str(_identifier().classify(text)[0])
    if name == _NO_LANGUAGE or same_language(name, lang):
        return None if name == _NO_LANGUAGE else name
    ranks = dict(_identifier().rank(text))
    pair = {base_tag(lang), base_tag(name)}
    least, times = _CLEAR_ALIKE if any(pair <= alike for alike in _ALIKE) else _CLEAR
    own = max((p for other, p in ranks.items() if same_language(str(other), lang)), default=0)
    return name if ranks[name] >= max(least, times * own) else None


def detect(text: str) -> tuple[str | None, float]:
    """The likeliest language of a text, None where that is none, and its probability. Give texts
    without placeholders (`prose`). Raises PomonaError when py3langid is not installed.
    """
    name, probability = _identifier().classify(text)
    return None if name == _NO_LANGUAGE else str(name), float(probability)


def language_confidence(texts: Sequence[str], langs: Sequence[str]) -> NDArray[np.float64]:
    """Probability, float64 `[n]`, that each text is in the language of its row; NaN where the
    identifier does not know that language, and for texts without a word of any.

    Placeholders, tags, addresses and code do not count (`prose`). Short texts get low numbers:
    compare them with texts of their own length. Raises PomonaError when py3langid is not installed.
    """
    identifier = _identifier()
    confidence = np.full(len(texts), np.nan)
    for row, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        words = prose(text)
        if letters_by_script(words):
            confidence[row] = dict(identifier.rank(words)).get(base_language(lang), np.nan)
    return confidence

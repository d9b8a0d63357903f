"""Which language a text is in, and how sure a language identifier is that it is the one its row
claims.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError

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


def identify(texts: Sequence[str]) -> list[str | None]:
    """The likeliest language of each text, None where it is none. Raises PomonaError when py3langid
    is not installed.
    """
    names = (str(_identifier().classify(text)[0]) for text in texts)
    return [None if name == _NO_LANGUAGE else name for name in names]


def language_confidence(texts: Sequence[str], langs: Sequence[str]) -> NDArray[np.float64]:
    """Probability, float64 `[n]`, that each text is in the language of its row; NaN where the
    identifier does not know that language.

    Short texts get low numbers: compare them with texts of their own length. Raises PomonaError
    when py3langid is not installed.
    """
    identifier = _identifier()
    confidence = np.full(len(texts), np.nan)
    for row, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        confidence[row] = dict(identifier.rank(text)).get(base_language(lang), np.nan)
    return confidence

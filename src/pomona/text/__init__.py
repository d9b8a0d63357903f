"""Text alone: words, n-grams and what is nearest by them, terms, scripts, languages, and normal
forms. It knows no other room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.text.grams import (
        character_grams as character_grams,
        grams_of as grams_of,
        hashed_columns as hashed_columns,
    )
    from pomona.text.languages import (
        base_language as base_language,
        detect as detect,
        identify as identify,
        known_languages as known_languages,
        language_confidence as language_confidence,
        prose as prose,
        same_language as same_language,
    )
    from pomona.text.nearest import Nearest as Nearest, Neighbours as Neighbours
    from pomona.text.normal_form import (
        SPACELESS as SPACELESS,
        UNSAFE as UNSAFE,
        strings as strings,
        tables as tables,
    )
    from pomona.text.scripts import (
        base_tag as base_tag,
        count_words as count_words,
        expected_scripts as expected_scripts,
        half_words_by_script as half_words_by_script,
        letters_by_script as letters_by_script,
        script_name as script_name,
        spaced as spaced,
    )
    from pomona.text.terms import search_terms as search_terms
    from pomona.text.vocabulary import mtld as mtld, words_of as words_of

__getattr__, __dir__ = lazily(
    __name__,
    {
        "grams": "character_grams grams_of hashed_columns",
        "languages": "base_language detect identify known_languages language_confidence prose "
        "same_language",
        "nearest": "Nearest Neighbours",
        "normal_form": "SPACELESS UNSAFE strings tables",
        "scripts": "base_tag count_words expected_scripts half_words_by_script letters_by_script "
        "script_name spaced",
        "terms": "search_terms",
        "vocabulary": "mtld words_of",
    },
)

"""The words of the annotators' page in the languages that `ui` has them in.

    python scripts/build_words.py [--out FILE]

The translations are people's, out of the embedded data: see src/pomona/assets/ui/NOTICE for the
projects, their licences and whom we owe thanks. Where several stand for one English text, the most
frequent one is taken, among as many that of the project which translates most. What a language
lacks is shown in English.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pomona.text import expected_scripts

ROOT = Path(__file__).parents[1]
DATA = ROOT / "src/pomona/assets/ui/ui.parquet"
OUT = ROOT / "src/pomona/arena/annotating/words.json"
SOURCE = (
    "human translations of Django, Wagtail, django-oscar, django CMS and Sphinx (BSD licences; "
    "see src/pomona/assets/ui/NOTICE), chosen by scripts/build_words.py"
)
EDGES = " \xa0:：.,،，…"
PROJECTS = ["django", "wagtail", "cms", "oscar", "sphinx"]
LEAST = 0.4  # of the words, for a language to be offered
WORDS = [
    *("Active", "Add user", "Are you sure?", "Comment", "Continue", "Copied", "Copy", "Edit"),
    *("Error", "Forbidden", "In progress", "Instructions", "Language", "Link", "Log in"),
    *("Log out", "Model", "Name", "Page not found", "Position", "Ranking", "Rating", "Reload"),
    *("Remove", "Save", "Saving…", "Server error", "Settings", "Shortcuts"),
    *("Skip to main content", "Tasks", "Text", "Thanks for voting!", "Undo", "Unknown", "Users"),
    *("Vote", "Votes", "Welcome"),
]
NAMES = {
    "af": "Afrikaans",
    "ar": "Arabic",
    "ast": "Asturian",
    "az": "Azerbaijani",
    "be": "Belarusian",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "br": "Breton",
    "bs": "Bosnian",
    "ca": "Catalan",
    "ckb": "Central Kurdish (Sorani)",
    "cs": "Czech",
    "cy": "Welsh",
    "da": "Danish",
    "de": "German",
    "dsb": "Lower Sorbian",
    "el": "Greek",
    "eo": "Esperanto",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "fy": "Frisian",
    "ga": "Irish",
    "gd": "Scottish Gaelic",
    "gl": "Galician",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hsb": "Upper Sorbian",
    "hu": "Hungarian",
    "hy": "Armenian",
    "ia": "Interlingua",
    "id": "Indonesian",
    "is": "Icelandic",
    "it": "Italian",
    "ja": "Japanese",
    "ka": "Georgian",
    "kk": "Kazakh",
    "km": "Khmer",
    "kn": "Kannada",
    "ko": "Korean",
    "ky": "Kyrgyz",
    "lb": "Luxembourgish",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "mk": "Macedonian",
    "ml": "Malayalam",
    "mn": "Mongolian",
    "mr": "Marathi",
    "ms": "Malay",
    "my": "Burmese",
    "nb": "Norwegian Bokmål",
    "ne": "Nepali",
    "nl": "Dutch",
    "nn": "Norwegian Nynorsk",
    "os": "Ossetic",
    "pa": "Punjabi",
    "pl": "Polish",
    "pt": "Portuguese",
    "pt_BR": "Brazilian Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sq": "Albanian",
    "sr": "Serbian",
    "sr_Latn": "Serbian Latin",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "tg": "Tajik",
    "th": "Thai",
    "tk": "Turkmen",
    "tr": "Turkish",
    "tt": "Tatar",
    "udm": "Udmurt",
    "ug": "Uyghur",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "uz": "Uzbek",
    "vi": "Vietnamese",
    "zh_Hans": "Simplified Chinese",
    "zh_Hant": "Traditional Chinese",
}

WRONG = {  # right where they stand, not here
    "Instructions": "ja he ko ka",  # for couriers, a memo, remarks
    "Ranking": "ar da hi hu nb ru uk cs sk ka",  # the word for ratings
    "Rating": "id vi",  # the word for ranks
    "Tasks": "fa",  # instructions
}

Found = dict[str, dict[str, list[tuple[str, str]]]]


def built() -> dict[str, object]:
    """What the file holds: names of languages, and the words of those that have enough."""
    found, words = read(), {}
    for lang in sorted(NAMES):
        fit = [word for word in WORDS if lang not in WRONG.get(word, "").split()]
        chosen = {word: best(found[lang][plain(word)], word, lang) for word in fit}
        known = {word: text for word, text in chosen.items() if text is not None}
        if len(known) >= LEAST * len(WORDS):
            words[tag(lang)] = known
    own = {lang: best(found[lang][plain(name)], name, lang) for lang, name in NAMES.items()}
    names = {tag(lang): own[lang] or name for lang, name in NAMES.items()}
    return {"source": SOURCE, "names": {"en": "English", **names}, "words": words}


def read() -> Found:
    """Language, plain English, and all translations with their projects."""
    found: Found = defaultdict(lambda: defaultdict(list))
    wanted = {plain(word) for word in [*WORDS, *NAMES.values()]}
    columns = ["lang", "english", "translation", "domain"]
    table = pq.read_table(DATA, columns=columns)
    english = pc.utf8_trim(pc.utf8_lower(table["english"]), EDGES)
    for row in table.filter(pc.is_in(english, pa.array(sorted(wanted)))).to_pylist():
        lang, english, text = row["lang"], plain(row["english"]), row["translation"].strip(EDGES)
        left = text.isascii() and "LATIN" not in (expected_scripts(lang) or {"LATIN"})
        if text.strip("-") and not left:
            found[lang][english].append((text, row["domain"]))
    return found


def best(found: list[tuple[str, str]], english: str, lang: str) -> str | None:
    """The most frequent translation, whatever its case; written as the English is."""
    if not found:
        return None
    times = Counter(text.casefold() for text, _ in found)
    text, _ = min(
        found, key=lambda one: (-times[one[0].casefold()], PROJECTS.index(one[1]), one[0])
    )
    first = "İ" if lang == "tr" and text[0] == "i" else text[0].title()
    return first + text[1:] + ("…" if english.endswith("…") else "")


def plain(english: str) -> str:
    return english.lower().strip(EDGES)


def tag(lang: str) -> str:
    return lang.replace("_", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    out.write_text(json.dumps(built(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

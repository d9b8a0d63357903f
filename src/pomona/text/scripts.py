"""Which script a text is written in, which its language is written in, and how many words it
has.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections import Counter

_BY_SCRIPT = {
    "LATIN": "af sq an ast ay az bm eu bi bs br ca ceb ch co cs cy da de ee en eo es et fi fil "
    "fj fo fr fur fy ga gd gl gn gsw ha haw hmn "
    "hr hsb ht hu hz ia id ie ig ik ilo io is it jbo jv kab ki kl ku la lb lfn lg li lij lmo ln "
    "lt lv mg mh mi ms mt na nah nap nb nds "
    "nl nn no nr nso nv ny oc om pam pap pl pms pt qu rm rn ro rw sc scn sco se sg sk sl sm sn so "
    "ss st su sv sw szl tk tl tn to tpi "
    "tr ts tw ty uz vec vi vls vo wa war wo xh yo za zea zu crh dsb ext frp gag gv kaa kw ltg mfe "
    "mwl nov olo pcd pdc rmy sgs smn stq "
    "tet tum vep vmf vro zza",
    "CYRILLIC": (
        "ru uk be bg mk kk ky tg mn ce cv ba tt os ab av sah udm kv koi mhr mrj myv "
        "mdf "
        "tyv rue lez inh kbd krc kum xal bxr alt uz"
    ),
    "ARABIC": "ar fa ur ps ckb sd ug ks lrc mzn glk azb skr bal pnb arz ary aeb apc acm arq",
    "HEBREW": "he iw yi lad",
    "GREEK": "el grc",
    "ARMENIAN": "hy hyw",
    "GEORGIAN": "ka xmf",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "DEVANAGARI": "hi mr ne sa bho mai kok gom doi brx new awa mag hne raj",
    "BENGALI": "bn as bpy mni",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "ORIYA": "or ory",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn tcy",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "TIBETAN": "bo dz",
    "MYANMAR": "my shn mnw",
    "ETHIOPIC": "am ti gez tig",
    "THAANA": "dv",
    "CHEROKEE": "chr",
    "CANADIAN": "iu cr",
    "TIFINAGH": "zgh shi",
    "OL": "sat",
    "NKO": "nqo",
    "SYRIAC": "syr arc",
    "YI": "ii",
    "MEETEI": "mni",
}
_SEVERAL = {
    **{lang: {"CJK", "BOPOMOFO"} for lang in ("zh", "cmn", "yue", "lzh", "wuu", "gan", "hak")},
    "ja": {"CJK", "HIRAGANA", "KATAKANA"},
    "ko": {"HANGUL", "CJK"},
    "sr": {"CYRILLIC", "LATIN"},
    "sh": {"CYRILLIC", "LATIN"},
    "bs": {"CYRILLIC", "LATIN"},
    "uz": {"CYRILLIC", "LATIN"},
    "tt": {"CYRILLIC", "LATIN"},
    "kk": {"CYRILLIC", "LATIN", "ARABIC"},
    "az": {"LATIN", "CYRILLIC", "ARABIC"},
    "ku": {"LATIN", "ARABIC"},
    "ms": {"LATIN", "ARABIC"},
    "pa": {"GURMUKHI", "ARABIC"},
    "sd": {"ARABIC", "DEVANAGARI"},
    "ks": {"ARABIC", "DEVANAGARI"},
    "mn": {"CYRILLIC", "MONGOLIAN"},
    "shi": {"TIFINAGH", "LATIN"},
    "iu": {"CANADIAN", "LATIN"},
    "mni": {"BENGALI", "MEETEI"},
}
_SUBTAGS = {
    "latn": "LATIN",
    "latin": "LATIN",
    "cyrl": "CYRILLIC",
    "arab": "ARABIC",
    "hebr": "HEBREW",
    "grek": "GREEK",
    "deva": "DEVANAGARI",
    "beng": "BENGALI",
    "guru": "GURMUKHI",
    "hans": "CJK",
    "hant": "CJK",
    "tfng": "TIFINAGH",
    "cans": "CANADIAN",
    "mtei": "MEETEI",
    "ethi": "ETHIOPIC",
    "thai": "THAI",
    "geor": "GEORGIAN",
    "armn": "ARMENIAN",
    "taml": "TAMIL",
    "olck": "OL",
}
_SPACELESS = {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
_NO_SCRIPT = {
    "COMBINING",
    "MODIFIER",
    "MATHEMATICAL",
    "FEMININE",
    "MASCULINE",
    "MICRO",
    "DOUBLE-STRUCK",
    "SCRIPT",
    "BLACK-LETTER",
    "VARIATION",
}
_NAMES = {
    "CJK": "Han",
    "CANADIAN": "Canadian syllabic",
    "OL": "Ol Chiki",
    "NKO": "N'Ko",
    "MEETEI": "Meetei Mayek",
}
_RENAMED = {"KATAKANA-HIRAGANA": "KATAKANA", "IDEOGRAPHIC": "CJK"}


def base_tag(lang: str) -> str:
    """`pt` of `pt_BR`, `sr` of `sr@latin`."""
    return re.split(r"[-_@.]", lang.lower(), maxsplit=1)[0]


@functools.cache
def expected_scripts(lang: str) -> frozenset[str] | None:
    """The scripts a language is written in by Unicode's names (`LATIN`, `CJK`, …), or None when the
    language is not known here.

    From the likely subtags of CLDR 47; a script in the tag itself (`sr_Latn`) goes before them.
    """
    for part in re.split(r"[-_@]", lang.lower())[1:]:
        if part in _SUBTAGS:
            return frozenset({_SUBTAGS[part]})
    base = base_tag(lang)
    scripts = _SEVERAL.get(base) or {
        script for script, langs in _BY_SCRIPT.items() if base in langs.split()
    }
    return frozenset(scripts) or None


def letters_by_script(text: str) -> Counter[str]:
    """How many letters (and dependent vowel signs) of each script a text has."""
    letters: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if script := _script(letter):
            letters[script] += times
    return letters


def half_words_by_script(text: str) -> Counter[str]:
    """Half words of each script in a text: two for a run of letters, one for a letter of scripts
    that write no spaces. So two ideographs weigh as much as an English word of many letters.
    """
    words: Counter[str] = Counter()
    for token in text.split():
        scripts = [script for letter in token if (script := _script(letter))]
        for script, run in itertools.groupby(scripts):
            words[script] += sum(1 for _ in run) if script in _SPACELESS else 2
    return words


def script_name(script: str) -> str:
    """A script as people call it: `Han` for CJK."""
    return _NAMES.get(script, script.capitalize())


def count_words(text: str) -> int:
    """Words between spaces; in scripts that write no spaces two letters count as a word."""
    total = 0
    for token in text.split():
        spaceless = sum(_script(letter) in _SPACELESS for letter in token)
        total += max(1, spaceless // 2)
    return total


def spaced(text: str) -> bool:
    """Whether most letters belong to scripts that write spaces between words."""
    scripts = letters_by_script(text)
    return 2 * sum(scripts[script] for script in _SPACELESS) <= scripts.total()


@functools.lru_cache(maxsize=1 << 16)
def _script(letter: str) -> str | None:
    if unicodedata.category(letter)[0] not in "LM":
        return None
    parts = unicodedata.name(letter, "").split()
    if parts and parts[0] in {"FULLWIDTH", "HALFWIDTH", "SMALL"}:
        parts = parts[1:]
    if not parts or parts[0] in _NO_SCRIPT:
        return None
    return _RENAMED.get(parts[0], parts[0])

"""Manual pages (man and mdoc macros) as plain paragraphs: enough of roff for running text; tables,
examples and equations are left out.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

GLYPHS = {
    "aq": "'",
    "dq": '"',
    "lq": "“",
    "rq": "”",
    "oq": "‘",
    "cq": "’",
    "em": "—",
    "en": "–",
    "hy": "-",
    "mi": "−",
    "bu": "•",
    "co": "©",
    "rg": "®",
    "tm": "™",
    "ti": "~",
    "ha": "^",
    "ga": "`",
    "rs": "\\",
    "sl": "/",
    "at": "@",
    "sh": "#",
    "Do": "$",
    "lB": "[",
    "rB": "]",
    "lC": "{",
    "rC": "}",
    "la": "⟨",
    "ra": "⟩",
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    "==": "≡",
    "+-": "±",
    "mu": "×",
    "di": "÷",
    "->": "→",
    "<-": "←",
    "if": "∞",
    "*a": "α",
    "*b": "β",
    "*p": "π",
    "*e": "ε",
    "*m": "μ",
    "de": "°",
    "14": "¼",
    "12": "½",
    "34": "¾",
    "S2": "²",
    "ss": "ß",
    "ae": "æ",
    "oe": "œ",
    "Fo": "«",
    "Fc": "»",
    "Bq": "„",
    "bq": "‚",
    "fm": "′",
    "sd": "″",
    "pl": "+",
    "eq": "=",
    "ba": "|",
    "br": "|",
    "ul": "_",
    "or": "|",
    "no": "¬",
    "sq": "□",
    "sc": "§",
    "ps": "¶",
    "dg": "†",
    "nb": "∉",
    "cu": "∪",
    "rn": "‾",
    "R": "®",
}
ACCENTS = {
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    ":": "\u0308",
    "~": "\u0303",
    ",": "\u0327",
    "o": "\u030a",
}
ESCAPE = re.compile(
    r"\\(?:(?P<glyph>\((?P<two>..)|\[(?P<long>[^\]]*)\])|[*](?:\((?P<str2>..)|\[(?P<strl>[^\]]*)\]|(?P<str1>.))"
    r"|f(?:\(..|\[[^\]]*\]|.)|F(?:\(..|\[[^\]]*\]|.)|[mMnVgY](?:\(..|\[[^\]]*\]|.)|k(?:\(..|\[[^\]]*\]|.)"
    r"|s(?:\[[^\]]*\]|[+-]?'[^']*'|[+-]?\(\d\d|[+-]?\d{1,2})|[hvwxDlLNoXSHRbZA]'(?P<quoted>[^']*)'|z|(?P<plain>.)|$)"
)
PLAIN = {
    "e": "\\",
    "\\": "\\",
    "E": "\\",
    "-": "-",
    " ": " ",
    "~": " ",
    "0": " ",
    "'": "'",
    "`": "`",
    "t": " ",
    ".": ".",
    "_": "_",
}
STRINGS = {
    "lq": "“",
    "rq": "”",
    "R": "®",
    "Tm": "™",
    "Aq": "'",
    "C+": "C++",
    "L": "“",
    "q": '"',
    "(L": "“",
    "(R": "”",
}
BREAKS = {
    "PP",
    "P",
    "LP",
    "TP",
    "TQ",
    "IP",
    "HP",
    "SH",
    "SS",
    "Sh",
    "Ss",
    "Pp",
    "It",
    "RS",
    "RE",
    "Bl",
    "El",
    "sp",
    "br",
    "in",
    "ti",
    "TH",
    "Lp",
    "UN",
    "nr",
}
FONTS = {"B", "I", "SM", "SB", "R", "BI", "BR", "IB", "IR", "RB", "RI", "CW"}
NAMED = {"SH", "SS", "Sh", "Ss"}
VERBATIM = {
    "nf": "fi",
    "EX": "EE",
    "TS": "TE",
    "EQ": "EN",
    "PS": "PE",
    "Bd": "Ed",
    "SY": "YS",
    "Vb": "Ve",
    "CS": "CE",
}
MDOC = {
    "Nm",
    "Nd",
    "Fl",
    "Ar",
    "Op",
    "Cm",
    "Pa",
    "Ic",
    "Em",
    "Sy",
    "Li",
    "Xr",
    "Dv",
    "Ev",
    "Va",
    "Vt",
    "Ft",
    "Fa",
    "Fn",
    "Er",
    "Ql",
    "Dq",
    "Sq",
    "Qq",
    "Pq",
    "Bq",
    "Aq",
    "Brq",
    "No",
    "Ns",
    "Tn",
    "Ux",
    "Bx",
    "Fx",
    "Lk",
    "Mt",
    "An",
    "Ad",
    "Cd",
    "In",
    "St",
    "At",
    "Nx",
    "Ox",
    "Ms",
    "Tg",
    "Do",
    "Dc",
    "So",
    "Sc",
    "Qo",
    "Qc",
    "Po",
    "Pc",
    "Bo",
    "Bc",
    "Ao",
    "Ac",
    "Oo",
    "Oc",
    "Eo",
    "Ec",
    "D1",
    "Dl",
}
AROUND = {
    "Dq": "“”",
    "Qq": '""',
    "Sq": "‘’",
    "Ql": "‘’",
    "Pq": "()",
    "Bq": "[]",
    "Op": "[]",
    "Aq": "⟨⟩",
    "Brq": "{}",
    "Do": "“",
    "Dc": "”",
    "So": "‘",
    "Sc": "’",
    "Po": "(",
    "Pc": ")",
    "Oo": "[",
    "Oc": "]",
    "Bo": "[",
    "Bc": "]",
    "Ao": "⟨",
    "Ac": "⟩",
}


def page_text(path: Path) -> str:
    """The source of a page. Bytes that are not UTF-8 become U+FFFD, as a careless crawl would leave
    them.
    """
    with gzip.open(path) as stream:
        return stream.read().decode("utf-8", errors="replace")


def paragraphs(source: str) -> Iterator[str]:
    """The paragraphs of a page, headings among them, each on one line."""
    held: list[str] = []
    until, ignored = "", False
    for line in _lines(source):
        name, rest = _request(line)
        if ignored:
            ignored = not line.startswith("..")
        elif until:
            until = "" if name == until else until
        elif name in {"de", "de1", "am", "ig"}:
            ignored = True
        elif name in VERBATIM or name in BREAKS or not line.strip():
            yield from _flush(held)
            until = VERBATIM.get(name, "")
            if name in NAMED:
                yield from _flush([_heading(rest)])
        else:
            held.append(_text(line, name, rest))
    yield from _flush(held)


def _lines(source: str) -> Iterator[str]:
    for line in re.sub(r"\\\n", "", source).splitlines():
        if not re.match(r"[.']\s*\\[\"#]", line):
            yield re.sub(r'(?<!\\)\\["#].*', "", line)


def _request(line: str) -> tuple[str, str]:
    match = re.match(r"[.']\s*([A-Za-z][A-Za-z0-9]*)\s*(.*)", line)
    return (match[1], match[2]) if match else ("", line)


def _flush(held: list[str]) -> Iterator[str]:
    text = " ".join(" ".join(held).split())
    held.clear()
    if text:
        yield text


def _heading(rest: str) -> str:
    return unescape(" ".join(_arguments(rest)))


def _text(line: str, name: str, rest: str) -> str:
    if name in FONTS:
        words = _arguments(rest)
        return unescape(
            "".join(words) if len(name) == 2 and name not in {"SM", "SB", "CW"} else " ".join(words)
        )
    if name in MDOC:
        return _mdoc(name, rest)
    if name in {"UR", "MT"}:
        return unescape(rest) + " "
    return unescape(line) if not name and not re.match(r"[.']", line) else ""


def _mdoc(name: str, rest: str) -> str:
    if name == "Xr":
        page, _, more = rest.partition(" ")
        section, _, after = more.partition(" ")
        return unescape(f"{page}({section}){after}" if section else page)
    words = [
        AROUND.get(word, word)[:1] if word in AROUND else word
        for word in _arguments(rest)
        if word == "Ns" or word not in MDOC - set(AROUND)
    ]
    text = " ".join(
        ("-" + word if name == "Fl" and place == 0 else word) for place, word in enumerate(words)
    ).replace(" Ns ", "")
    marks = AROUND.get(name, "")
    return unescape(f"{marks[:1]}{text}{marks[1:]}")


def _arguments(rest: str) -> list[str]:
    return [
        quoted.replace('""', '"') if quoted or not bare else bare
        for quoted, bare in re.findall(r'"((?:[^"]|"")*)"?|((?:\\.|[^\s"])\S*)', rest)
    ]


def unescape(text: str) -> str:
    """Text with roff's escapes as characters, and its fonts, sizes and motions gone."""
    return ESCAPE.sub(_glyph, text)


def _glyph(match: re.Match[str]) -> str:
    if name := match["two"] or match["long"]:
        return _named(name)
    if name := match["str2"] or match["strl"] or match["str1"]:
        return STRINGS.get(name, "")
    return PLAIN.get(match["plain"] or "", "")


def _named(name: str) -> str:
    if found := re.fullmatch(r"u([0-9A-Fa-f]{4,6})", name):
        return chr(int(found[1], 16))
    if len(name) == 2 and name[0] in ACCENTS and name[1].isalpha() and name not in GLYPHS:
        return name[1] + ACCENTS[name[0]]
    return GLYPHS.get(name, "")

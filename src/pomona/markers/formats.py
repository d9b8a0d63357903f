"""In what format a text is, and what kind of code: by parsers where there are any, else by rules.

How sure a rule is, is one by the number of formats that fit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from xml.parsers import expat

Told = tuple[str | None, float | None]
_FENCE = re.compile(r"^ {0,3}(?:```+|~~~+)[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,6} \S", re.MULTILINE)
_INLINE = re.compile(r"\*\*\S[^*\n]{0,300}\*\*|!?\[[^\]\n]{1,300}\]\([^)\s]{1,500}\)")
_ITEM = re.compile(r"^\s{0,8}(?:[-*•+]|\d{1,3}[.)]|[a-zA-Z][.)])\s+\S")
_RULE = re.compile(r"^\s*\|?\s*:?-{3,}:?\s*(?:\|\s*:?-{3,}:?\s*)+\|?\s*$", re.MULTILINE)
_LATEX = re.compile(
    r"\\(?:begin|end)\{[a-zA-Z*]+\}|\\(?:frac|sqrt|sum|int|section|textbf|cite|ref)\b"
    r"|\$\$[^$]+\$\$|\\\([^\n]{1,500}?\\\)|\\\[.{1,500}?\\\]",
    re.DOTALL,
)
_CODE = {
    "Python": r"^\s*(?:def \w+\(.*\).*:|from [\w.]+ import |class \w+.*:|import \w+(?: as \w+)?$)",
    "C": r"^\s*#\s*include\s*[<\"]",
    "Java": r"\bpublic (?:static|final|class|void|interface)\b",
    "JavaScript": r"^\s*(?:const|let|var) \w+ = |\bfunction\s*\w*\([^)]*\)\s*\{|=>\s*\{",
    "SQL": r"^\s*(?:SELECT\b.+\bFROM|INSERT INTO|CREATE TABLE|UPDATE \w+ SET)\b",
    "Shell": r"^#!.*\b(?:ba|z)?sh\b",
    "HTML": r"^\s*<!DOCTYPE html|<html[\s>]",
    "Rust": r"^\s*(?:pub )?fn \w+(?:<[^>]*>)?\([^)]*\)(?: -> .+)? \{",
    "Go": r"^\s*(?:package \w+$|func (?:\([^)]*\) )?\w+\()",
}
_CODES = {name: re.compile(rule, re.MULTILINE) for name, rule in _CODE.items()}
_LANGUAGES = {"py": "Python", "python3": "Python", "js": "JavaScript", "sh": "Shell"}
_LANGUAGES |= {"bash": "Shell", "shell": "Shell", "c++": "C++", "cpp": "C++", "cs": "C#"}
_LANGUAGES |= {one.lower(): one for one in [*_CODE, "TypeScript", "Ruby", "PHP", "Kotlin", "CSS"]}
_DEEP = 200  # an answer of brackets alone would end the parser, which recurses


def formats(texts: list[str]) -> list[Told]:
    """The format of each text, of several the first of `_FORMATS`."""
    return [_format(text) for text in texts]


def code_types(texts: list[str]) -> list[Told]:
    """The programming language of each text that is code or has a block of it."""
    return [_code_type(text) for text in texts]


def _format(text: str) -> Told:
    body = text.strip()
    if not body:
        return None, None
    for name, parsed in (("JSON", _is_json), ("XML", _is_xml)):
        if parsed(body):
            return name, 1.0
    fits = [name for name, rule in _FORMATS.items() if rule(body)]
    return (fits[0], 1 / len(fits)) if fits else (None, None)


def _is_json(body: str) -> bool:
    """Whether it is an object or a list in JSON. Numbers and words alone are plain text, and `{}`
    is more often a placeholder.
    """
    if body[0] + body[-1] not in ("{}", "[]") or body.count("[") + body.count("{") > _DEEP:
        return False
    try:
        return bool(json.loads(body))
    except (ValueError, RecursionError):
        return False


def _is_xml(body: str) -> bool:
    if body[0] != "<" or body[-1] != ">" or "<!" in body:  # no entities: these may grow
        return False
    try:
        expat.ParserCreate().Parse(body, True)
    except (expat.ExpatError, ValueError):
        return False
    return True


def _is_table(body: str) -> bool:
    if "|" in body and _RULE.search(body):
        return True
    lines = body.splitlines()
    for mark in "\t|":
        cells = {line.count(mark) for line in lines}
        if len(lines) >= 2 and len(cells) == 1 and min(cells) >= 1:
            return True
    return False


def _is_latex(body: str) -> bool:
    return ("\\" in body or "$" in body) and _LATEX.search(body) is not None


def _is_markdown(body: str) -> bool:
    return any(rule.search(body) for rule in (_FENCE, _HEADING, _INLINE))


def _is_enumeration(body: str) -> bool:
    lines = body.splitlines()
    return len(lines) > 1 and sum(_ITEM.match(line) is not None for line in lines) >= 2


_FORMATS: dict[str, Callable[[str], bool]] = {
    "Tabular": _is_table,
    "Latex": _is_latex,
    "Markdown": _is_markdown,
    "Enumeration": _is_enumeration,
}


def _code_type(text: str) -> Told:
    said = [one for one in _FENCE.findall(text) if one]
    if said:
        return _LANGUAGES.get(said[0].lower(), said[0]), 1.0
    fits = [name for name, rule in _CODES.items() if rule.search(text)]
    return (fits[0], 1 / len(fits)) if fits else (None, None)

"""Words of a text, nearly as spaCy's English tokenizer cuts them: runs without white space, of
which punctuation on either side, contractions and what hyphens join are words of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.data.quality.loops import ALPHA, CLING, DIGIT, SPACE, STOP, SYMBOL, UPPER
from pomona.native import part

_DOT, _COMMA, _DASH, _PLUS, _PERCENT = 46, 44, 45, 43, 37


@part
def is_a(kinds: Any, at: int, flags: int) -> bool:
    """Whether the character at a place has one of these flags."""
    return (np.int64(kinds[at]) & flags) != 0


@part
def found_at(points: Any, at: int, stop: int, phrases: Any, begin: int, end: int) -> bool:
    """Whether the phrase `phrases[begin:end]` stands at a place."""
    size = end - begin
    step = 0 if at + size <= stop else size + 1
    while step < size and points[at + step] == phrases[begin + step]:
        step += 1
    return step == size


@part
def _apostrophe(point: Any) -> bool:
    return point in (39, 0x2019)


@part
def _suffix(points: Any, kinds: Any, start: int, stop: int) -> int:
    """How many characters at the end of a run are a word of their own, 0 for none."""
    if stop - start == 1:
        return 0
    last, before = points[stop - 1], points[stop - 2]
    if last == _DOT:
        return _last_point(points, kinds, start, stop)
    if last in (_PLUS, _PERCENT):
        return int(is_a(kinds, stop - 2, DIGIT))
    if last in (115, 83) and _apostrophe(before):  # s, S
        return 2
    return int(is_a(kinds, stop - 1, CLING))


@part
def _last_point(points: Any, kinds: Any, start: int, stop: int) -> int:
    """How many points at the end of a run are a word of their own: all where they are several, one
    unless it belongs to an abbreviation: after one upper-case letter, or letters with points.
    """
    size = stop - start
    dots = 1
    while dots < size and points[stop - 1 - dots] == _DOT:
        dots += 1
    if dots > 1:
        return dots
    if is_a(kinds, stop - 2, UPPER):
        return int(size > 2 and is_a(kinds, stop - 3, UPPER))
    dotted = size > 3 and is_a(kinds, stop - 2, ALPHA) and points[stop - 3] == _DOT
    if dotted and is_a(kinds, stop - 4, ALPHA):
        return int(size > 4 and is_a(kinds, stop - 5, ALPHA))
    return 1


@part
def _contraction(points: Any, start: int, stop: int) -> int:
    """How many characters at the end of a word are not, are, have, will, would or am."""
    size, last = stop - start, points[stop - 1]
    if size > 3 and _apostrophe(points[stop - 2]):
        if last == 116:
            return 3 * (points[stop - 3] == 110)  # n't
        return 2 * (last in (100, 109))  # 'd, 'm
    if size > 3 and _apostrophe(points[stop - 3]):
        first = points[stop - 2]
        return 3 * ((last == 101 and first in (114, 118)) or (last == 108 and first == 108))
    return 0


@part
def _joint(points: Any, kinds: Any, start: int, at: int, stop: int) -> int:
    """How many characters at a place inside of a word part it in two, 0 for none."""
    here = points[at]
    if at == start or at + 1 >= stop or is_a(kinds, at, ALPHA | DIGIT):
        return 0
    if here == _DOT:
        return _inner_point(points, kinds, at, stop)
    if here == 0x2026:
        return 1
    letter, digit = is_a(kinds, at - 1, ALPHA), is_a(kinds, at - 1, DIGIT)
    counted = digit and (is_a(kinds, at + 1, DIGIT) or points[at + 1] == _DASH)
    if counted and here in (_PLUS, _DASH, 42, 94):
        return 1
    if here in (_DASH, 0x2013, 0x2014, 126):
        dashes = 1
        while dashes < 4 and at + dashes < stop and here == points[at + dashes] == _DASH:
            dashes += 1
        inside = dashes < 4 and at + dashes < stop and (letter or digit)
        return dashes * (inside and is_a(kinds, at + dashes, ALPHA))
    joins = here == _COMMA and letter
    joins = joins or (here in (58, 60, 61, 62, 47) and (letter or digit))  # : < = > /
    return int(joins and is_a(kinds, at + 1, ALPHA))


@part
def _inner_point(points: Any, kinds: Any, at: int, stop: int) -> int:
    """How many points inside of a word part it: several, or one from lower to upper case."""
    dots = 1
    while at + dots < stop and points[at + dots] == _DOT:
        dots += 1
    if dots > 1:
        return dots
    lower = is_a(kinds, at - 1, ALPHA) and not is_a(kinds, at - 1, UPPER)
    return int(lower and is_a(kinds, at + 1, UPPER))


@part
def _address(points: Any, kinds: Any, start: int, stop: int) -> bool:
    """Whether a word looks like an address on the web: it begins with letters and "://", or with a
    name that has a point before two or more lower-case letters, which end it or come before a
    slash.
    """
    for at in range(start, stop - 2):
        point = points[at]
        if point == 58:
            return at > start and points[at + 1] == 47 and points[at + 2] == 47
        if not (is_a(kinds, at, ALPHA | DIGIT) or point in (_DOT, _DASH)):
            return False
        if point == _DOT and at > start:
            end = at + 1
            lower = True
            while end < stop and is_a(kinds, end, ALPHA):
                lower = lower and not is_a(kinds, end, UPPER)
                end += 1
            if lower and end - at > 2 and (end == stop or points[end] == 47):
                return True
    return False


@part
def _whole(points: Any, start: int, stop: int, phrases: Any, bounds: Any) -> bool:
    """Whether a run is one of the abbreviations that keep their point."""
    if stop - start > 8 or points[stop - 1] != _DOT:
        return False
    for which in range(bounds[0], bounds[1]):
        begin, end = bounds[2 + which], bounds[3 + which]
        if end - begin == stop - start and found_at(points, start, stop, phrases, begin, end):
            return True
    return False


@part
def words_of(
    points: Any, start: int, stop: int, kinds: Any, phrases: Any, bounds: Any, words: Any
) -> int:
    """Write where the words between two places begin and end to `words` `[2, n]`. Returns how
    many.
    """
    count, at = 0, start
    while at < stop:
        if is_a(kinds, at, SPACE):
            at += 1
            continue
        end = at
        while end < stop and not is_a(kinds, end, SPACE):
            end += 1
        count = _cut(points, at, end, kinds, phrases, bounds, words, count)
        at = end
    return count


@part
def _cut(
    points: Any, at: int, end: int, kinds: Any, phrases: Any, bounds: Any, words: Any, count: int
) -> int:
    """The words of a run without white space, from word `count` on."""
    while at < end and not _whole(points, at, end, phrases, bounds):
        first = points[at]
        size = int(is_a(kinds, at, CLING) or first in (_PERCENT, 61, 167))
        if points[at] == _DOT and at + 1 < end and points[at + 1] == _DOT:
            size = 2
            while at + size < end and points[at + size] == _DOT:
                size += 1
        if points[at] == _PLUS:
            size = int(at + 1 < end and not is_a(kinds, at + 1, DIGIT))
        if size == 0:
            break
        words[0, count], words[1, count] = at, at + size
        count, at = count + 1, at + size
    close = end
    while close > at and not _whole(points, at, close, phrases, bounds):
        size = _suffix(points, kinds, at, close)
        if size == 0:
            break
        close -= size
    count = _inside(points, at, close, kinds, words, count)
    while close < end:
        size = 1
        while points[close] == _DOT and close + size < end and points[close + size] == _DOT:
            size += 1
        if close + 1 < end and _suffix(points, kinds, at, close + 2) == 2:
            size = max(size, 2)
        words[0, count], words[1, count] = close, close + size
        count, close = count + 1, close + size
    return count


@part
def _inside(points: Any, at: int, close: int, kinds: Any, words: Any, count: int) -> int:
    if at >= close:
        return count
    begin = at
    if not _address(points, kinds, at, close):
        cut = _contraction(points, at, close)
        while at < close - cut:
            size = _joint(points, kinds, begin, at, close - cut)
            if size and at > begin:
                words[0, count], words[1, count] = begin, at
                words[0, count + 1], words[1, count + 1] = at, at + size
                count, begin = count + 2, at + size
            at += max(size, 1)
        if cut:
            words[0, count], words[1, count] = begin, close - cut
            words[0, count + 1], words[1, count + 1] = close - cut, close
            return count + 2
    words[0, count], words[1, count] = begin, close
    return count + 1


@part
def sentences_of(kinds: Any, words: Any, count: int) -> int:
    """How many sentences words make: one ends with a sign that ends sentences, where a word that is
    no punctuation comes after it.
    """
    if count == 0:
        return 0
    sentences, ended = 1, False
    for word in range(count):
        start, stop = words[0, word], words[1, word]
        ends = stop - start == 1 and is_a(kinds, start, STOP)
        if ended and not ends and not _is_punctuation(kinds, start, stop):
            sentences, ended = sentences + 1, False
        ended = ended or ends
    return sentences


@part
def _is_punctuation(kinds: Any, start: int, stop: int) -> bool:
    while start < stop and is_a(kinds, start, SYMBOL):
        start += 1
    return start == stop

"""The numbers of a text that the rules of quality are about. Hashes of 64 bits stand for lines,
paragraphs and n-grams.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.data.quality.loops import ALPHA, BREAK, SPACE, STOP, SYMBOL
from pomona.data.quality.loops.words import found_at, is_a, sentences_of, words_of
from pomona.native import part
from pomona.shingles import ZERO, mix, table_size

K, _ONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
_NEWLINE, _HASH, _DOT, _DOTS, _BULLET, _DASH = 10, 35, 46, 0x2026, 0x2022, 45
_LINE_WORD, _SHORT = 1000, 30
# columns of `numbers`
WORDS, LENGTH, HASHES, ELLIPSES, BULLETS, TRAILING, LETTERED, STOPS = range(8)
LINES, LINE_CHARACTERS, PARAGRAPHS, PARAGRAPH_CHARACTERS, TOP, REPEATED = 8, 9, 10, 11, 12, 15
SENTENCES, KEPT, LOREM, CURLY = 21, 22, 23, 24
ENDED, SHORT, TWICE, BREAKS, SPACELESS, COLUMNS = 25, 26, 27, 28, 29, 30


def measure(
    data: Any,
    offsets: Any,
    classes: Any,
    phrases: Any,
    bounds: Any,
    points: Any,
    kinds: Any,
    words: Any,
    hashes: Any,
    powers: Any,
    table: Any,
    counts: Any,
    numbers: Any,
) -> int:
    """Write the numbers of every document, valid UTF-8, to `numbers` `[n, 30]`; NaN for what has
    no value.

    `classes` are flags by code point. `phrases` are code points, of which from `bounds[2 + i]` to
    `bounds[3 + i]` phrase i: first abbreviations (from `bounds[0]` to `bounds[1]`), then eight stop
    words, lorem ipsum, javascript, two citations and the phrases of policies. Memory, for the
    longest document of L characters: `points`, `kinds` and `words` `[2, L + 1]`, `hashes`
    `[3, L + 2]`, `powers` of any length, `table` and `counts` with `table_size(2 · L + 2)`.
    """
    powers[0] = _ONE
    for at in range(1, len(powers)):
        powers[at] = powers[at - 1] * K
    for row in range(len(offsets) - 1):
        size = _decode(data, offsets[row], offsets[row + 1], classes, points[0], kinds[0])
        told = numbers[row]
        for column in range(COLUMNS):
            told[column] = np.nan
        count = words_of(points[0], 0, size, kinds[0], phrases, bounds, words)
        _of_words(points[0], size, kinds[0], phrases, bounds, words, count, told)
        _of_lines(points[0], size, kinds[0], told)
        _of_paragraphs(points[0], size, kinds[0], hashes[0], table, counts, told)
        _of_grams(points[0], size, words, count, hashes, powers, table, counts, told)
        _c4(points, size, kinds, phrases, bounds, words, told)
    return 0


@part
def _decode(data: Any, at: int, stop: int, classes: Any, points: Any, kinds: Any) -> int:
    """The code points of a document and their flags. Returns how many."""
    count = 0
    while at < stop:
        byte = np.uint32(data[at])
        width = 1
        if byte >= 0xF0:
            byte, width = byte & np.uint32(7), 4
        elif byte >= 0xE0:
            byte, width = byte & np.uint32(15), 3
        elif byte >= 0xC0:
            byte, width = byte & np.uint32(31), 2
        for step in range(1, width):
            byte = (byte << np.uint32(6)) | (np.uint32(data[at + step]) & np.uint32(63))
        points[count] = byte
        if byte < len(classes):
            kinds[count] = classes[byte]
        else:
            kinds[count] = ALPHA if 0x20000 <= byte < 0x40000 else 0
        count, at = count + 1, at + width
    return count


@part
def _spaceless(point: Any) -> bool:
    """Whether a letter is of a script that writes no spaces between words."""
    return (
        0x0E00 <= point < 0x1000
        or 0x1000 <= point < 0x10A0
        or 0x1780 <= point < 0x1800
        or 0x3040 <= point < 0x3100
        or 0x3400 <= point < 0x4DC0
        or 0x4E00 <= point < 0xA000
        or 0xF900 <= point < 0xFB00
        or 0x20000 <= point < 0x40000
    )


@part
def _of_words(
    points: Any,
    size: int,
    kinds: Any,
    phrases: Any,
    bounds: Any,
    words: Any,
    count: int,
    told: Any,
) -> None:
    """Gopher's rules of words; and how much of a text is of scripts without spaces."""
    kept = length = lettered = 0
    stops = 0
    for word in range(count):
        start, stop = words[0, word], words[1, word]
        seen = letter = False
        for at in range(start, stop):
            seen = seen or not is_a(kinds, at, SYMBOL)
            letter = letter or is_a(kinds, at, ALPHA)
        kept, length, lettered = kept + seen, length + (stop - start) * seen, lettered + letter
        if stop - start <= 4:
            for which in range(8):
                phrase = bounds[1] + which
                begin, end = bounds[2 + phrase], bounds[3 + phrase]
                same = end - begin == stop - start
                if same and found_at(points, start, stop, phrases, begin, end):
                    stops |= 1 << which
    told[WORDS] = kept
    told[LENGTH] = length / kept if kept else np.nan
    many = spaceless = breaks = signs = dots = run = 0
    for at in range(size):
        many += points[at] == _HASH
        signs += points[at] == _DOTS
        breaks += points[at] == _NEWLINE
        spaceless += _spaceless(points[at])
        run = run + 1 if points[at] == _DOT else 0
        if run == 3:
            dots, run = dots + 1, 0
    told[SPACELESS] = spaceless / size if size else 0.0
    if count:
        told[HASHES], told[ELLIPSES] = many / count, (signs + dots) / count
        told[LETTERED], told[BREAKS] = lettered / count, breaks / count
    set_bits = 0
    for which in range(8):
        set_bits += (stops >> which) & 1
    told[STOPS] = set_bits


@part
def _ends_open(points: Any, start: int, stop: int) -> bool:
    """Whether what lies between two places ends with an ellipsis."""
    if stop > start and points[stop - 1] == _DOTS:
        return True
    return stop - start > 2 and points[stop - 1] == points[stop - 2] == points[stop - 3] == _DOT


@part
def _next_line(points: Any, at: int, size: int, kinds: Any) -> tuple[int, int]:
    """Where a line ends, and where the next one begins, as `str.splitlines` has it."""
    stop = at
    while stop < size and not is_a(kinds, stop, BREAK):
        stop += 1
    two = stop + 1 < size and points[stop] == 13 and points[stop + 1] == _NEWLINE
    return stop, stop + 1 + two


@part
def _stripped(start: int, stop: int, kinds: Any) -> tuple[int, int]:
    while start < stop and is_a(kinds, start, SPACE):
        start += 1
    while stop > start and is_a(kinds, stop - 1, SPACE):
        stop -= 1
    return start, stop


@part
def _of_lines(points: Any, size: int, kinds: Any, told: Any) -> None:
    lines = bullets = trailing = at = 0
    while at < size:
        end, after = _next_line(points, at, size, kinds)
        start, stop = _stripped(at, end, kinds)
        lines += 1
        bullets += stop > start and (points[start] == _BULLET or points[start] == _DASH)
        trailing += _ends_open(points, start, stop)
        at = after
    if lines:
        told[BULLETS], told[TRAILING] = bullets / lines, trailing / lines
    lines = ended = short = at = 0
    while at <= size:
        end = at
        while end < size and points[end] != _NEWLINE:
            end += 1
        start, stop = _stripped(at, end, kinds)
        if stop > start:
            lines += 1
            ended += is_a(kinds, end - 1, STOP)
            short += end - at <= _SHORT
        at = end + 1
    if lines:
        told[ENDED], told[SHORT] = ended / lines, short / lines


@part
def _seen(value: Any, table: Any, counts: Any, mask: int) -> int:
    """Count a value in the table. Returns how often it has come."""
    value = value if value != ZERO else _ONE
    slot = np.int64(mix(value)) & mask
    while table[slot] != ZERO and table[slot] != value:
        slot = (slot + 1) & mask
    if table[slot] == ZERO:
        table[slot] = value
        counts[slot] = 0
    counts[slot] += 1
    return counts[slot]


@part
def _times(value: Any, table: Any, counts: Any, mask: int) -> int:
    """How often a value came that is in the table."""
    value = value if value != ZERO else _ONE
    slot = np.int64(mix(value)) & mask
    while table[slot] != value:
        slot = (slot + 1) & mask
    return counts[slot]


@part
def _cleared(table: Any, entries: int) -> int:
    """Empty as much of the table as so many entries need. Returns the mask."""
    size = table_size(2 * entries)
    table[:size] = ZERO
    return size - 1


@part
def _hashed(points: Any, start: int, stop: int) -> Any:
    state = np.uint64(stop - start)
    for at in range(start, stop):
        state = state * K + mix(np.uint64(points[at]) + _ONE)
    return mix(state)


@part
def _of_paragraphs(
    points: Any, size: int, kinds: Any, hashes: Any, table: Any, counts: Any, told: Any
) -> None:
    """What lines and paragraphs repeat: Gopher's parts at one, and at two or more newlines, and
    FineWeb's lines that hold more than white space.
    """
    begin, end = _stripped(0, size, kinds)
    if size:
        parts, twice, many = _repeated(points, begin, end, 2, kinds, False, table, counts)
        told[PARAGRAPHS], told[PARAGRAPH_CHARACTERS] = twice / parts, many / size
        parts, twice, many = _repeated(points, 0, size, 1, kinds, False, table, counts)
        told[LINES], told[LINE_CHARACTERS] = twice / parts, many / size
    breaks = 0
    for at in range(size):
        breaks += points[at] == _NEWLINE
    if end > begin and size > breaks:
        parts, twice, many = _repeated(points, 0, size, 1, kinds, True, table, counts)
        told[TWICE] = many / (size - breaks)


@part
def _repeated(
    points: Any,
    at: int,
    size: int,
    least: int,
    kinds: Any,
    full: bool,
    table: Any,
    counts: Any,
) -> tuple[int, int, int]:
    """Parts between runs of `least` newlines or more (only those with more than white space, where
    `full`); how many of them came before, and the characters of these.
    """
    entries = 1
    for place in range(at, size):
        entries += points[place] == _NEWLINE
    mask = _cleared(table, entries)
    parts = twice = many = 0
    start = at
    while at <= size:
        run = 0
        while at + run < size and points[at + run] == _NEWLINE:
            run += 1
        if at == size or run >= least:
            first, last = _stripped(start, at, kinds)
            if not full or last > first:
                parts += 1
                if _seen(_hashed(points, start, at), table, counts, mask) > 1:
                    twice, many = twice + 1, many + at - start
            start = at + run
        at += max(run, 1)
    return parts, twice, many


@part
def _power(powers: Any, exponent: int) -> Any:
    """K to a power, of which the first are in a table."""
    result, last = _ONE, len(powers) - 1
    while exponent > last:
        result, exponent = result * powers[last], exponent - last
    return result * powers[exponent]


@part
def _of_grams(
    points: Any,
    size: int,
    words: Any,
    count: int,
    hashes: Any,
    powers: Any,
    table: Any,
    counts: Any,
    told: Any,
) -> None:
    """The most frequent n-gram, and the n-grams that came before. `hashes[0]` is that of all words
    up to one, `hashes[1]` the same with their ends, and `hashes[2]` where each begins among all
    their characters.
    """
    joined, apart, places = hashes[0], hashes[1], hashes[2]
    joined[0] = apart[0] = places[0] = ZERO
    for word in range(count):
        one, other = joined[word], apart[word]
        for at in range(words[0, word], words[1, word]):
            one = one * K + mix(np.uint64(points[at]) + _ONE)
        other = other * K + mix(_hashed(points, words[0, word], words[1, word]))
        joined[word + 1], apart[word + 1] = one, other
        places[word + 1] = places[word] + np.uint64(words[1, word] - words[0, word])
    for n in range(2, 5):
        if count < n:
            continue
        mask = _cleared(table, count)
        most = 0
        for word in range(count - n + 1):
            value = apart[word + n] - apart[word] * powers[n]
            most = max(most, _seen(value, table, counts, mask))
        for word in range(count - n + 1):
            value = apart[word + n] - apart[word] * powers[n]
            if _times(value, table, counts, mask) == most:
                length = places[word + n] - places[word] + np.uint64(n - 1)
                told[TOP + n - 2] = most * np.int64(length) / size
                break
    for n in range(5, 11):
        mask = _cleared(table, count + 1)
        repeated = word = 0
        while word < count - n + 1:
            length = np.int64(places[word + n] - places[word])
            value = joined[word + n] - joined[word] * _power(powers, length)
            if _seen(value + np.uint64(length), table, counts, mask) > 1:
                repeated, word = repeated + length, word + n
            else:
                word += 1
        if size:
            told[REPEATED + n - 5] = repeated / size


@part
def _c4(
    points: Any, size: int, kinds: Any, phrases: Any, bounds: Any, words: Any, told: Any
) -> None:
    """C4's lines: how many stay, their sentences, and what makes a page go as a whole."""
    lines = kept = sentences = at = 0
    lorem = curly = False
    while at < size and not (lorem or curly):
        end, after = _next_line(points[0], at, size, kinds[0])
        start, stop = _stripped(at, end, kinds[0])
        lines, at = lines + 1, after
        if not _sound(start, stop, kinds[0]):
            continue
        length = _without_citations(points, kinds, start, stop, phrases, bounds)
        if not _ends_sentence(points[1], length):
            continue
        which = bounds[1] + 8
        lorem = _holds(points[1], length, phrases, bounds, which)
        if lorem or _holds(points[1], length, phrases, bounds, which + 1):
            continue
        for place in range(length):
            curly = curly or points[1, place] == 123
        policy = False
        for phrase in range(which + 4, len(bounds) - 3):
            policy = policy or _holds(points[1], length, phrases, bounds, phrase)
        if curly or policy:
            continue
        count = words_of(points[1], 0, length, kinds[1], phrases, bounds, words)
        kept, sentences = kept + 1, sentences + sentences_of(kinds[1], words, count)
    told[SENTENCES], told[LOREM], told[CURLY] = sentences, lorem, curly
    told[KEPT] = kept / lines if lines else np.nan


@part
def _sound(start: int, stop: int, kinds: Any) -> bool:
    """Whether a line has three words or more, and none of more than 1,000 characters."""
    words = run = 0
    for at in range(start, stop):
        run = 0 if is_a(kinds, at, SPACE) else run + 1
        words += run == 1
        if run > _LINE_WORD:
            return False
    return words > 2


@part
def _ends_sentence(points: Any, length: int) -> bool:
    if length == 0:
        return False
    last = points[length - 1]
    if last == _DOT:
        return not (length > 2 and points[length - 2] == _DOT and points[length - 3] == _DOT)
    return last in (63, 33, 34, 39)


@part
def _without_citations(
    points: Any, kinds: Any, at: int, stop: int, phrases: Any, bounds: Any
) -> int:
    """Copy a line to `points[1]`, without [1], [], [edit] and [citation needed]. Returns its
    length.
    """
    length = 0
    first = bounds[1] + 10
    while at < stop:
        size = 0
        if points[0, at] == 91:
            end = at + 1
            while end < stop and 48 <= points[0, end] <= 57:
                end += 1
            size = end + 1 - at if end < stop and points[0, end] == 93 else 0
            for phrase in range(first, first + 2):
                begin, close = bounds[2 + phrase], bounds[3 + phrase]
                if found_at(points[0], at, stop, phrases, begin, close):
                    size = close - begin
        if size == 0:
            points[1, length] = points[0, at]
            kinds[1, length] = kinds[0, at]
            length, size = length + 1, 1
        at += size
    return length


@part
def _holds(points: Any, length: int, phrases: Any, bounds: Any, which: int) -> bool:
    """Whether a phrase stands anywhere, in upper or lower case."""
    begin, end = bounds[2 + which], bounds[3 + which]
    for at in range(length - (end - begin) + 1):
        step = 0
        while step < end - begin:
            point = points[at + step]
            lower = point + 32 if 65 <= point <= 90 else point
            if lower != phrases[begin + step]:
                break
            step += 1
        if step == end - begin:
            return True
    return False

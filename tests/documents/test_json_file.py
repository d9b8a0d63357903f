import json
import math

import pytest
from hypothesis import given, strategies as st

from pomona.documents import parse_json, read_json
from pomona.errors import PomonaError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_what_json_writes_is_read(value, indent, ascii_only):
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert parse_json(data, "x", top=None) == value


@given(st.binary(max_size=40) | st.text('[]{}:,"\\u0dA1e.-NI ', max_size=40).map(str.encode))
def test_whatever_the_bytes_are_they_are_read_or_refused_by_name(data):
    try:
        parse_json(data, "some.json", top=None)
    except PomonaError as error:
        assert str(error).startswith("some.json: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", (r"is not JSON: Expecting value: line 1 column 1 \(char 0\) — copy or download it " r"again")),
        ("{\n 1: 2}", "is not JSON: Expecting property name .*: line 2 column 2"),
        ('{"a": 1,\n "b": 2,\n "a": 3}', ('is not JSON: the key "a" was already given in line ' '1: ' 'line 3 column 2')),
        ('{"a": {"b": 1, "b": 1}}', 'the key "b" was already given in line 1: line 1 column 16'),
        ('{"a": [{"a": 1}, "a", "a"],\n "\\u0061": 1}', r'the key "\\u0061" was already given in line 1: line 2 column 2'),
        ('{"a":\nNaN}', "it holds NaN: line 2 column 1"),
        ("[-Infinity]", "it holds -Infinity: line 1 column 2"),
        ("[1, 1e999]", "1e999 is too large: line 1 column 5"),
        ("[" + "9" * 5000 + "]", "9{20}… has too many digits: line 1 column 2"),
        ('["a",\n"\\ud800"]', "it holds half a character: line 2 column 1"),
        ('{"\\udfff": 1}', "it holds half a character: line 1 column 2"),
        ("[" * 201 + "]" * 201, "it is nested too deeply: line 1 column 201"),
        ("[" * 100_000, "it is nested too deeply: line 1 column 201"),
    ],
)  # fmt: skip
def test_every_mistake_has_its_place(text, says):
    with pytest.raises(PomonaError, match=f"^a.json: .*{says}"):
        parse_json(text.encode(), "a.json", top=None)


def test_a_whole_character_may_be_escaped_in_two_halves():
    assert parse_json(rb'["\ud83d\ude00"]', "x", top=list) == ["\U0001f600"]


def test_two_hundred_levels_are_read():
    assert parse_json(b"[" * 200 + b"]" * 200, "x", top=list)


def test_numbers_that_are_not_finite_are_read_where_they_are_allowed():
    value = parse_json(b'{"a": [NaN, Infinity, 1e999]}', "x", finite=False)
    assert math.isnan(value["a"][0])
    assert value["a"][1:] == [math.inf, math.inf]
    with pytest.raises(PomonaError, match='the key "a" was already given'):
        parse_json(b'{"a": NaN, "a": 1}', "x", finite=False)


def test_the_top_level_has_a_type():
    with pytest.raises(PomonaError, match=r"a\.json: is not an object of JSON — look"):
        parse_json(b"[]", "a.json", remedy="look")
    with pytest.raises(PomonaError, match=r"a\.json: is not a list of JSON"):
        parse_json(b"{}", "a.json", top=list)


def test_files(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file) == {"a": 1}
    with pytest.raises(PomonaError, match=r"a\.json: has more than 4 bytes"):
        read_json(file, largest=4)
    file.write_bytes(b'{"a":\n"\xff"}')
    with pytest.raises(PomonaError, match=r"a\.json: is broken: it is not UTF-8 in line 2"):
        read_json(file, wrong="is broken")
    with pytest.raises(PomonaError, match=r"b\.json: is missing — copy"):
        read_json(tmp_path / "b.json")
    with pytest.raises(PomonaError, match=r"b\.json: there is none — look"):
        read_json(tmp_path / "b.json", missing="there is none", remedy="look")
    with pytest.raises(PomonaError, match="cannot be read: Is a directory"):
        read_json(tmp_path)

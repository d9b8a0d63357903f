from pathlib import Path

import pytest
from pydantic import model_validator

from pomona.documents import StrictModel, problems, read_model, read_yaml
from pomona.documents.yaml_file import LARGEST
from pomona.errors import PomonaError


class Shelf(StrictModel):
    width: float
    books: list[str] | None = None


class Library(StrictModel):
    name: str
    shelves: list[Shelf]

    @model_validator(mode="after")
    def _named(self) -> "Library":
        if self.name == "none":
            raise problems([(("name",), "no name"), (("shelves", 0), "and a shelf")])
        return self


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "library.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def complaint(path: Path) -> list[str]:
    with pytest.raises(PomonaError) as caught:
        read_model(path, Library, kind="library", example="docs for a library")
    return [line.removeprefix(str(path)) for line in str(caught.value).splitlines()]


def test_a_value_comes_with_the_lines_of_its_parts(write):
    document = read_yaml(write("name: a\nshelves:\n- width: 1\n"), "library", "docs")
    assert document.value == {"name": "a", "shelves": [{"width": 1}]}
    assert document.root.value[1][0].start_mark.line == 1


def test_a_model_of_any_kind(write):
    path = write("name: a\nshelves:\n- width: 1\n  books: [no, 1.0]\n")
    assert complaint(path) == [', line 4: item 2 of "books" must be text, not 1.0']
    path = write("name: a\nshelves:\n- width: 1\n")
    assert read_model(path, Library, kind="library", example="x").shelves == [Shelf(width=1)]


def test_all_mistakes_are_told_with_their_lines(write):
    path = write("nme: a\nshelves:\n- width: wide\n- width: .inf\n- widht: 1\n")
    assert complaint(path) == [
        ', line 1: "name" is missing',
        ', line 1: unknown key "nme" — did you mean "name"?',
        ', line 3: "width" must be a number, not "wide"',
        ', line 4: "width" must be a finite number, not Infinity',
        ', line 5: "width" is missing in shelves[3]',
        ', line 5: unknown key "widht" in shelves[3] — did you mean "width"?',
    ]


def test_what_a_model_checks_itself_has_lines_too(write):
    path = write("name: none\nshelves:\n- width: 1\n")
    assert complaint(path) == [", line 1: no name", ", line 3: and a shelf"]


def test_a_kind_is_called_by_its_word(write, tmp_path):
    assert complaint(write("[]")) == [
        ", line 1: a library is a mapping of keys and values, and this is not"
    ]
    assert complaint(write("")) == [": is empty — see docs for a library"]
    assert complaint(write("name: !!python/name:os.system x")) == [
        ', line 1: "x" is not a value a library can hold'
    ]
    assert complaint(tmp_path / "b.yaml") == [': no such library — did you mean "library.yaml"?']


def test_limits(write):
    assert read_yaml(write("[" * 100 + "]" * 100), "library", "docs").value
    assert complaint(write("[" * 101 + "]" * 101)) == [", line 1: broken YAML: nested too deeply"]
    assert complaint(write("#" * (LARGEST + 1))) == [
        f": has more than {LARGEST:,} bytes — name a file that holds a library"
    ]

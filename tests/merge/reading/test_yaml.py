"""Recipes that are no recipes: told with file and line, at once, whatever stands in them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pomona.documents.yaml_file import MOST
from pomona.errors import PomonaError
from pomona.merge.reading.sections import read_recipe

LINEAR = "merge_method: linear\nmodels:\n- model: a\n"
LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


def refusal(folder: Path, text: str) -> str:
    file = folder / "r.yml"
    file.write_text(text, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(PomonaError) as caught:
        read_recipe(file)
    assert time.process_time() - started < 2
    return str(caught.value).removeprefix(str(file))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 30_000, ", line 1: broken YAML: nested too deeply"),
        ("- " * 30_000 + "a", ", line 1: broken YAML: nested too deeply"),
        ("a: &x [*x]", ", line 1, column 8: broken YAML: *x stands in what it names"),
        (LINEAR + "2024-01-01: x", ", line 4: a key must be text, and 2024-01-01 is not: put it in quotes"),
        (LINEAR + "on: x", ", line 4: a key must be text, and on is not"),
        (LINEAR + "notes: 2024-01-01", ", line 4: 2024-01-01 is not a value a recipe can hold"),
        (LINEAR + "a0: &a0 [x]\n" + LAUGHS, f", line 9: holds more than {MOST:,} values"),
        (LINEAR + "a: !!int foo", ", line 4: is not YAML: 'foo' is no value of its kind"),
        (LINEAR + "a: !!timestamp foo", ", line 4: is not YAML: 'foo' is no value of its kind"),
        (LINEAR + "a: " + "9" * 5000, f", line 4: is not YAML: '{'9' * 60}' is no value"),
        (LINEAR + "a: !!python/name:os.system x", ", line 4: is not YAML: could not determine"),
        (LINEAR + "? [a]\n: b", ", line 4: a key must be text, and a collection is not"),
        (LINEAR + "---\na: b", ", line 4, column 1: broken YAML: but found another document"),
        ("a: [", ", line 1, column 5: broken YAML: did not find expected node content"),
        ("a: \x07", ", line 1: broken YAML: the character U+0007"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    assert refusal(tmp_path, text).startswith(says)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.yml")
    with pytest.raises(PomonaError, match="cannot be read: it is a pipe, not a file"):
        read_recipe(tmp_path / "r.yml")


def test_the_pipe_of_a_shell_is_read() -> None:
    read, write = os.pipe()
    os.write(write, LINEAR.encode())
    os.close(write)
    assert read_recipe(f"/dev/fd/{read}").method == "linear"
    os.close(read)


WORDS = st.sampled_from(
    [
        "merge_method",
        "linear",
        "models",
        "model",
        "slices",
        "sources",
        "layer_range",
        "parameters",
        "weight",
        "filter",
        "value",
        "base_model",
        "tokenizer",
        "tokens",
        "source",
        "kind",
        "key_map",
        "modules",
        "dtype",
        "seed",
        "0",
        "1",
        "-1",
        "1e400",
        ".nan",
        "null",
        "true",
        "a",
        "b",
        "&x",
        "*x",
        "!!int",
        "!!set",
        "2024-01-01",
        "<<",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "-",
        "'",
        '"',
        "|",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(WORDS, st.sampled_from([" ", ": ", "\n", "\n  ", "\n- ", ", "]))))
def test_whatever_stands_in_it_it_is_read_or_refused(
    tmp_path: Path, parts: list[tuple[str, str]]
) -> None:
    file = tmp_path / "r.yml"
    file.write_text("".join(word + gap for word, gap in parts), encoding="utf-8")
    try:
        read_recipe(file)
    except PomonaError as error:
        assert str(error).startswith(f"{file}")

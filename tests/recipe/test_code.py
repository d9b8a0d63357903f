from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from pomona.errors import PomonaError
from pomona.recipe import code, dry_run
from pomona.recipe.code import SHOWN, code_key, reachable

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS = Path(code.__file__).parent / "steps"
MODULES = sorted(f"pomona.recipe.steps.{file.stem}" for file in STEPS.glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pomona", exclude_type_checking_imports=True, cache_dir=None)


@pytest.mark.parametrize("module", MODULES)
def test_what_a_step_imports_is_in_its_key(module: str, graph: grimp.ImportGraph) -> None:
    shown = {name for name in graph.modules if name.startswith(SHOWN)}
    behind: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in behind | shown:
            behind.add(name)
            waiting += graph.find_modules_directly_imported_by(name)
    assert behind <= reachable(module)


def test_what_a_step_loads_is_in_its_key(tmp_path: Path) -> None:
    script = (
        "import sys; import pyarrow as pa; from pomona.recipe.steps import data, tables;"
        "from pomona.data import dedup;"
        "dedup(pa.table({'text': ['a b c', 'a b c']}), 'kept.parquet', column='text');"
        "print(*sorted(name for name in sys.modules if name.startswith('pomona')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    loaded = set(done.stdout.split())
    assert "pomona.recipe.steps.data" in loaded
    assert loaded <= reachable("pomona.recipe.steps.data") | set(SHOWN)


# Helpers of steps, and what no example asks one by one.
HELPERS = {
    f"pomona.recipe.steps.{name}" for name in ("results", "pools", "asking", "measuring", "winning")
}


def test_what_the_examples_run_is_in_the_modules_above() -> None:
    examples = [EXAMPLES / f"{name}.yaml" for name in ("full", "ladder", "markers")]
    works = {step.work for example in examples for step in dry_run(example).steps}
    assert {work.__module__ for work in works} == set(MODULES) - HELPERS


def test_planning_the_command_line_and_pages_are_in_no_key() -> None:
    for module in MODULES:
        names = reachable(module)
        assert not {"pomona.recipe.plan", "pomona.recipe.schema", "pomona.recipe.levers"} & names
        assert not [name for name in names if name.startswith(("pomona.cli", "pomona.serve"))]
        assert not [name for name in names if name.startswith("pomona.ledger.report")]


def test_loops_that_are_named_as_text_are_in_the_key() -> None:
    loops = Path(code.ROOT, "pomona/shingles/loops").glob("signing.py")
    names = [".".join(path.relative_to(code.ROOT).with_suffix("").parts) for path in loops]
    assert names and set(names) <= reachable("pomona.recipe.steps.data")


def test_a_step_that_does_not_deduplicate_keeps_its_key_when_deduplication_changes() -> None:
    assert not [
        n for n in reachable("pomona.recipe.steps.answering") if n.startswith("pomona.data")
    ]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two modules in the place of ours."""
    folder = tmp_path / "pomona"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "step.py").write_text("def work():\n    from pomona.part import value\n")
    (folder / "part.py").write_text("value = 1\n")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    for cached in (code.code_key, code._file, code._imports, code._face):
        cached.cache_clear()
    yield folder
    for cached in (code.code_key, code._file, code._imports, code._face):
        cached.cache_clear()


def test_other_code_is_another_key(package: Path) -> None:
    before = code_key("pomona.step")
    (package / "part.py").write_text("value = 2\n")
    code.code_key.cache_clear()
    assert code_key("pomona.step") != before


def test_code_that_is_not_there_is_an_error(package: Path) -> None:
    (package / "part.py").unlink()
    with pytest.raises(PomonaError, match=r"part\.py: is imported, and is not there"):
        code_key("pomona.step")

"""What deduplication compiles: loaded without the compiler, of complete sources, with tables of
characters that are Python's own.
"""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from pomona.data.duplicates import _loops
from pomona.shingles import loops, power_of_two
from pomona.text import UNSAFE, tables

SCRIPT = """
import sys
from pomona.data.duplicates import dedup
for options in ({"method": "exact"}, {}, {"edit_similarity": 0.5}):
    dedup(sys.argv[1], sys.argv[2], **options)
dedup(sys.argv[1], sys.argv[2] + ".new.parquet", against=sys.argv[2])
print([name for name in ("numba", "scipy") if name in sys.modules])
"""


def test_exact_and_minhash_need_no_compiler(tmp_path: Path) -> None:
    words = " ".join(map(str, range(40)))
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": [words, f"{words} more", "é\u0301 ü", "ab"]}), path)
    for family in (_loops.FAMILY, loops.FAMILY):
        for name in family.loops:
            family.loop(name)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_every_module_that_is_compiled_counts_as_source() -> None:
    for package in (_loops, loops):
        folder, others = Path(str(package.__file__)).parent, set[str]()
        if package is _loops:  # joining calls parts of signing
            others = {f"{loops.__name__}.signing"}
        own = {path.stem for path in folder.glob("*.py")}
        assert own | others == set(package.FAMILY.sources)


@pytest.mark.parametrize("least", [0, 1, 8, 9, 16, 17, 1 << 20, (1 << 20) + 1])
def test_hash_tables_have_a_power_of_two(least: int) -> None:
    size = power_of_two(least)
    assert size >= max(8, least) and size.bit_count() == 1 and (size == 8 or size < 2 * least)


@given(st.characters(max_codepoint=0xFFFF))
def test_tables_say_what_python_says(char: str) -> None:
    fold, flags = tables()
    lower = " " if char.isspace() else char.lower()
    assert fold[ord(char)] == ord(lower if len(lower) == 1 else char)
    safe = not flags[ord(char)] & UNSAFE
    assert not safe or (unicodedata.is_normalized("NFC", char) and not unicodedata.combining(char))
    assert not safe or unicodedata.is_normalized("NFC", f"e{char}")

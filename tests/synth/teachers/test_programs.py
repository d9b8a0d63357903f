"""Programs as teachers: every row comes back, whatever the program does, and none runs twice."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.synth.teachers import (
    TO_CYRILLIC,
    Assignment,
    Lesson,
    Lessons,
    Program,
    ProgramTeacher,
    Reject,
    Terms,
    apertium,
    cyrillic,
    programs,
)

TR = Program(("tr", "a-z", "b-za"))
SHOUT = r"""
import sys
for line in sys.stdin:
    with open(sys.argv[1] + "/log", "a") as log:
        log.write(line)
    if "stop" in line:
        sys.exit(3)
    if "hang" in line:
        import time; time.sleep(60)
    if "bytes" in line:
        sys.stdout.buffer.write(b"\xff\n"); sys.stdout.buffer.flush()
        continue
    if "flood" in line:
        while True: print("x" * 100000)
    print({"nothing": "", "two": "one\nmore", "alien": "\u4e2d"}.get(line.strip(), line.strip().upper()), flush=True)
"""


def rows_of(*texts: str) -> list[Assignment]:
    return [Assignment(str(at), text, "en", "de") for at, text in enumerate(texts)]


def reasons(lessons: Lessons) -> list[str]:
    return [row.text if isinstance(row, Lesson) else row.reason for row in lessons.rows]


def test_a_program_answers_in_order_and_is_paid_in_cpu_seconds() -> None:
    teacher = ProgramTeacher("next letter", TR, Terms(licence="CC0-1.0", cpu_price=3600.0))
    lessons = teacher.teach(rows_of("abc", " ab\n", "abc"))
    assert reasons(lessons) == ["bcd", " bc\n", "bcd"]
    assert [row.id for row in lessons.rows] == ["0", "1", "2"]
    assert {row.licence for row in lessons.taught} == {"CC0-1.0"}
    usage = lessons.usage
    assert usage.fresh == 2 and usage.cpu_seconds is not None and usage.money is not None
    assert 0 < usage.cpu_seconds < 1 and usage.money == pytest.approx(usage.cpu_seconds)
    assert usage.flops is None


def test_placeholders_are_as_they_were_and_one_that_is_lost_is_a_reject() -> None:
    upper = ProgramTeacher("upper", Program(("tr", "a-z", "A-Z")))
    text = (
        '<a href="/x">save</a> %(name)s, {0} of {{ n }}: %d%% &amp; https://x.org/a?b=c.\nok 5 % of'
    )
    saved = (
        '<a href="/x">SAVE</a> %(name)s, {0} OF {{ n }}: %d%% &amp; https://x.org/a?b=c.\nOK 5 % OF'
    )
    assert reasons(upper.teach(rows_of(text))) == [saved]
    deaf = ProgramTeacher("no q", Program(("sed", "s/PH0Q//")))
    lessons = deaf.teach(rows_of("save %(name)s", "save"))
    assert lessons.rows[0] == Reject(
        "0", "no q", "placeholders did not come back: %(name)s", "stop", "save "
    )
    assert reasons(lessons)[1] == "save"


def test_a_row_that_a_program_fails_at_is_a_reject_and_the_others_are_answered(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    shout = Program((sys.executable, "-S", "-c", SHOUT, str(tmp_path)), batch=4, version="1")
    texts = ("a", "stop", "b", "bytes", "nothing", "c", "two", "", "alien", "d")
    teacher = ProgramTeacher("shout", shout, Terms(timeout=10), tmp_path / "kept.db")
    told = reasons(teacher.teach(rows_of(*texts)))
    assert told == [
        "A",
        "ended with status 3",
        "B",
        "wrote what is no UTF-8, at byte 0",
        "wrote nothing",
        "C",
        "wrote more than 1 answer to 1 text",
        "the text is empty",
        "wrote letters of a foreign script: CJK",
        "D",
    ]
    log.write_text("")
    again = teacher.teach(rows_of(*texts))
    assert reasons(again) == told and again.usage.fresh == 0
    assert set(log.read_text().split()) == {"stop", "bytes", "two"}  # only what failed runs again


def test_a_program_that_hangs_or_writes_without_end_is_ended(tmp_path: Path) -> None:
    shout = Program((sys.executable, "-S", "-c", SHOUT, str(tmp_path)), batch=1)
    started = time.monotonic()
    told = reasons(ProgramTeacher("s", shout, Terms(timeout=0.3)).teach(rows_of("hang", "flood")))
    assert told[0] == "wrote no end within 0.3 s" and told[1].startswith("wrote ")
    assert time.monotonic() - started < 10


def test_a_program_that_always_fails_is_not_tried_for_ever(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    command = ("sh", "-c", f"echo >> {counter}; exit 7")
    lessons = ProgramTeacher("broken", Program(command, batch=2)).teach(
        rows_of(*(f"text {at}" for at in range(100)))
    )
    assert len(lessons.rejects) == 100 and lessons.rows[0].reason == "ended with status 7"  # type: ignore[union-attr]
    assert reasons(lessons)[-1] == "not tried: 10 texts in a row failed"
    assert counter.read_text().count("\n") == 15


def test_what_is_not_installed_is_named_with_its_package() -> None:
    gone = ProgramTeacher("gone", Program(("no-such-program",), packages=("its-package",)))
    assert reasons(gone.teach(rows_of("a"))) == [
        "is not installed (no-such-program is not there): apt-get install its-package"
    ]
    mode = apertium("xxx-yyy", "apertium-xxx-yyy").missing
    assert mode is not None and mode.endswith("apt-get install apertium apertium-xxx-yyy")


def test_a_batch_that_ended_is_kept_when_the_next_is_killed(tmp_path: Path) -> None:
    program = Program((sys.executable, "-S", "-c", SHOUT, str(tmp_path)), batch=2)
    teacher = ProgramTeacher("shout", program, store=tmp_path / "kept.db")
    texts = [f"text {at}" for at in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        real, seen = programs.run_process, []

        def dies(*given: Any) -> Any:
            seen.append(given)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return real(*given)

        patch.setattr(programs, "run_process", dies)
        with pytest.raises(KeyboardInterrupt):
            teacher.teach(rows_of(*texts))
    lessons = teacher.teach(rows_of(*texts))
    assert reasons(lessons) == [text.upper() for text in texts] and lessons.usage.fresh == 2
    assert sorted((tmp_path / "log").read_text().splitlines()) == sorted(texts)


def test_another_version_is_another_key(tmp_path: Path) -> None:
    store = tmp_path / "kept.db"
    for version, fresh in (("1", 1), ("1", 0), ("2", 1)):
        program = Program(("cat",), version=version)
        assert ProgramTeacher("cat", program, store=store).teach(rows_of("a")).usage.fresh == fresh


def test_languages_and_ids_are_checked() -> None:
    cat = ProgramTeacher("cat", Program(("cat",)), Terms(frozenset({("nl", "af")})))
    assert reasons(cat.teach(rows_of("a"))) == ["does not go from en to de"]
    with pytest.raises(PomonaError, match="give every row an id of its own"):
        cat.teach(rows_of("a") * 2)
    with pytest.raises(PomonaError, match="give a positive number"):
        Terms(timeout=0)


@pytest.mark.skipif(
    apertium("nob-nno", "apertium-nno-nob").missing is not None or shutil.which("gawk") is None,
    reason="apertium-nno-nob is not installed",
)
def test_apertium_translates_between_the_two_norwegians() -> None:
    teacher = ProgramTeacher("nob-nno", apertium("nob-nno", "apertium-nno-nob"))
    rows = [
        Assignment(str(at), text, "nb", "nn")
        for at, text in enumerate(("Ikke lagre %(name)s.", "Hva er <b>dette</b> * [her]?", "Qwzxk"))
    ]
    lessons = teacher.teach(rows)
    assert reasons(lessons) == ["Ikkje lagre %(name)s.", "Kva er <b>dette</b> * [her]?", "Qwzxk"]
    assert [row.unknown for row in lessons.taught] == [0, 0, 1]


def test_a_program_that_knows_one_alphabet_is_asked_in_it_and_answers_in_the_rows() -> None:
    program = Program(("tr", "x", "y"), respelling=TO_CYRILLIC)
    sent = program.masked("Сачувај %(name)s у љубичастој Џ-датотеци <b>ћирилица</b>").text
    assert sent == "Sačuvaj PH0Q u ljubičastoj Dž-datoteci PH1Q ćirilica PH2Q"
    row = Assignment("1", "Отвори Django фасциклу %(name)s", "sr", "mk")
    (lesson,) = ProgramTeacher("t", program).teach([row]).taught
    # What the program left in Latin letters is spelt in Macedonian ones, names and placeholders not.
    assert lesson.text == "Отвори Django фасциклу %(name)s"
    croatian = Assignment(
        "1", "Đaci: otvori Django LJETO u %(ljeto)s", "hr", "mk", original="Django %(ljeto)s"
    )
    (lesson,) = ProgramTeacher("t", program).teach([croatian]).taught
    assert lesson.text == "Ѓаци: отвори Django ЉЕТО у %(ljeto)s"
    assert cyrillic("Ćao", Assignment("1", "x", "hr", "sr")) == "Ћао"


def test_a_direction_that_is_packaged_broken_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    packaged = tmp_path / "modes/rus-bel.mode"
    packaged.parent.mkdir()
    packaged.write_text(
        "lt-proc 'a' | cg-proc -w 'b.bin' | apertium-tagger -g $2 'c' | lt-proc 'd'"
    )
    needed = apertium("rus-bel", "apertium-bel-rus", tmp_path).needs[0]
    assert needed.read_text() == "lt-proc 'a' | cg-proc -w -n -1 'b.bin' | lt-proc 'd'"
    assert needed.is_relative_to(tmp_path / "cache")
    packaged.write_text("lt-proc 'a' | lt-proc 'd'")  # as a later package may be
    assert apertium("rus-bel", "apertium-bel-rus", tmp_path).needs[0] == packaged

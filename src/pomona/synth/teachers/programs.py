"""Programs as teachers: text in, text out, such as the rule-based translations of Apertium."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pomona.errors import PomonaError, positive, quantity
from pomona.files import atomic_file, cache_folder
from pomona.synth.teachers.kept import ProgramStore
from pomona.synth.teachers.masks import Masked, between_masks, is_mask, mask
from pomona.synth.teachers.processes import Output, run_process
from pomona.synth.teachers.spelling import TO_CYRILLIC, Respelling
from pomona.synth.teachers.teacher import (
    Assignment,
    Lesson,
    Lessons,
    Reject,
    Terms,
    Usage,
    check_ids,
    refusal,
)
from pomona.text import expected_scripts, letters_by_script

_FAILURES = 10  # rows in a row that fail alone, after which no more are tried
_NOT_TRIED = f"not tried: {_FAILURES} texts in a row failed"
_TRACE = 200
_APERTIUM = Path("/usr/share/apertium")
# What is taken out of the pipes of directions that Debian 12 packages broken. rus-bel 0.2.1: the
# tagger crashes at a fourth of the texts; the first reading that the grammar leaves is as good.
# hbs-mkd 0.1.1: the grammar writes dependencies that the next stage takes for parts of words.
_BROKEN = {
    "rus-bel": (r"cg-proc -w ('[^']+') \| apertium-tagger [^|]*\|", r"cg-proc -w -n -1 \1 |"),
    "hbs-mkd": (r"(cg-proc [^|]*)\|", r"\1| sed 's/<#[0-9]*→[0-9]*>//g' |"),
}


@dataclass(frozen=True)
class Program:
    """A command that reads texts and writes as many answers, in order.

    after: what ends a text, in its input and in its output; `{number}` in it becomes the place of
        the text in the batch, so that answers cannot slip to the wrong text.
    trailing: characters that may follow the last answer.
    escaped: signs of text that have a meaning for the program; a backslash is put before them, and
        taken away from answers.
    marks: signs that it puts before words that it does not know; they are counted and taken away.
    needs: files that must be there.
    packages: Debian's packages to install where something is missing; their versions are part of
        the key of the store.
    version: part of the key too, where there are no packages.
    batch: texts of one process.
    respelling: of texts before, and of answers after, where it knows one alphabet of several.

    Raises PomonaError for an empty command and a batch below 1.
    """

    command: tuple[str, ...]
    after: str = "\n"
    trailing: str = ""
    escaped: str = ""
    marks: str = ""
    needs: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    version: str = ""
    batch: int = 256
    respelling: Respelling | None = None

    def __post_init__(self) -> None:
        if not self.command or not self.after:
            remedy = "give a command and what ends a text"
            raise PomonaError("has no command", where="a program", remedy=remedy)
        positive(self, " ".join(self.command), "batch")

    @property
    def missing(self) -> str | None:
        """What is not there, with what to install; None where nothing is missing."""
        lost = [str(path) for path in self.needs if not path.exists()]
        if shutil.which(self.command[0]) is None:
            lost.insert(0, self.command[0])
        if not lost:
            return None
        known = f": apt-get install {' '.join(self.packages)}" if self.packages else ""
        return f"is not installed ({lost[0]} is not there){known}"

    @cached_property
    def identity(self) -> str:
        """Equal identities write equal answers: the command, its form, its packages' versions,
        and the contents of files that the command or `needs` name.
        """
        program = shutil.which(self.command[0]) or ""
        files = [program, *self.command[1:], *map(str, self.needs)]
        digests = [digest for name in files if (digest := _digest(name)) is not None]
        form = (self.command, self.after, self.escaped, self.marks, self.version)
        key = repr((form, _versions(self.packages), digests))
        return f"{self.command[0]}:{hashlib.sha256(key.encode()).hexdigest()[:32]}"

    def masked(self, text: str) -> Masked:
        """A text without what the program must not touch, or would take for its own signs."""
        masked = mask(text, lines="\n" in self.after, signs=self.marks)
        if self.respelling is None:
            return masked
        return replace(masked, text=between_masks(masked.text, self.respelling.before))

    def write(self, texts: Sequence[str]) -> bytes:
        """The input for texts."""
        pairs = [(sign, f"\\{sign}") for sign in self.escaped if sign != "\\"]
        pairs = [("\\", "\\\\"), *pairs] if "\\" in self.escaped else pairs
        parts: list[str] = []
        for number, text in enumerate(texts):
            for sign, spelt in pairs:
                text = text.replace(sign, spelt)
            parts += [text, self._end(number)]
        return "".join(parts).encode("utf-8", "replace")

    def read(self, written: bytes, count: int) -> list[str] | str:
        """The answers to `count` texts, or why they cannot be told apart."""
        try:
            text = written.decode()
        except UnicodeDecodeError as error:
            return f"wrote what is no UTF-8, at byte {error.start:,}"
        answers, at = [], 0
        for number in range(count):
            end = self._end(number)
            found = text.find(end, at)
            if found < 0:
                return f"wrote {quantity(number, 'answer')} to {quantity(count, 'text')}"
            answers.append(text[at:found])
            at = found + len(end)
        if text[at:].strip(self.trailing or None):
            return f"wrote more than {quantity(count, 'answer')} to {quantity(count, 'text')}"
        return answers

    def clean(self, answer: str) -> tuple[str, int | None]:
        """An answer without marks and backslashes, and how many words were marked."""
        if not self.marks and not self.escaped:
            return answer, None
        marked = rf"|(?<!\w)[{re.escape(self.marks)}](?=\w)" if self.marks else ""
        signs = re.compile(rf"\\(.){marked}", re.DOTALL)
        found_marks = (found for found in signs.finditer(answer) if found[1] is None)
        unknown = sum(not is_mask(answer, found.end()) for found in found_marks)
        plain = signs.sub(lambda found: found[1] or "", answer)
        return plain, unknown if self.marks else None

    def respelt(self, answer: str, row: Assignment) -> str:
        """An answer that still has its masks, as it is spelt in the row's language."""
        if self.respelling is None:
            return answer
        after = self.respelling.after
        return between_masks(answer, lambda part: after(part, row))

    def _end(self, number: int) -> str:
        return self.after.replace("{number}", str(number))


def apertium(mode: str, package: str, folder: Path = _APERTIUM) -> Program:
    """Apertium's translation in a direction such as "nld-afr" (`apertium -l` lists them), which
    Debian's `package` holds. `folder` has the file modes/MODE.mode.

    Null characters flush each text through the pipe, so that none changes the next. A blank with
    its number follows each, since some stages swallow null characters. Apertium's own formatters
    are left out: they keep no null characters, and `-u` makes some directions write nothing. From
    Serbo-Croatian ("hbs-mkd") Cyrillic is spelt in Latin letters before, which its dictionary has,
    and words that it does not know in Cyrillic ones after. Directions that are packaged broken run
    from a copy in the user's cache that is mended.
    """
    folder = _mended(mode, folder)
    return Program(
        ("apertium", "-z", "-f", "none", "-d", str(folder), mode),
        after=".[][={number}=]\0",
        trailing="\0\n ",
        escaped="\\[]{}^$/@<>",
        marks="*@#",
        needs=(folder / "modes" / f"{mode}.mode",),
        packages=("apertium", package),
        respelling=TO_CYRILLIC if mode == "hbs-mkd" else None,
    )


def _mended(mode: str, folder: Path) -> Path:
    """The folder, or one in the user's cache that has the mode without what breaks it."""
    packaged = folder / "modes" / f"{mode}.mode"
    if mode not in _BROKEN or not packaged.is_file():
        return folder
    text, times = re.subn(*_BROKEN[mode], packaged.read_text(encoding="utf-8"))
    if not times:
        return folder
    copy = cache_folder() / "apertium" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (file := copy / "modes" / f"{mode}.mode").is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as partial:
            partial.write_text(text, encoding="utf-8")
    return copy


@dataclass(frozen=True)
class ProgramTeacher:
    """A program that answers rows, on terms. `store` is the file of what it wrote; without one
    nothing is kept.

    Texts go in batches, each to one process. A batch that fails is halved until the text is found
    that it fails at, which is a reject. After ten that failed alone, one after the other, no more
    are tried. What a batch wrote is kept as soon as it ended; what failed is tried again next time.
    """

    name: str
    program: Program
    terms: Terms = field(default_factory=Terms)
    store: Path | None = None

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """See `Teacher`. Raises PomonaError when two rows have one id, or the store is no store."""
        check_ids(rows)
        missing = self.program.missing
        masked = {
            row.id: self.program.masked(row.text.strip())
            for row in rows
            if missing is None and refusal(self.terms, row, sample, draws=False) is None
        }
        wanted = list(dict.fromkeys(one.text for one in masked.values()))
        if self.store is None:
            run = _Run(self.program, self.terms, None, wanted)
        else:
            with closing(ProgramStore(self.store)) as store:
                run = _Run(self.program, self.terms, store, wanted)
        made = tuple(
            self._row(row, masked[row.id], run)
            if row.id in masked
            else self._refused(row, missing, sample)
            for row in rows
        )
        seconds = run.lost_seconds + sum(cpu for _, cpu in run.answers.values())
        price = self.terms.cpu_price
        money = None if price is None else price * seconds / 3600
        return Lessons(made, Usage(fresh=run.fresh, money=money, cpu_seconds=seconds))

    def _row(self, row: Assignment, masked: Masked, run: _Run) -> Lesson | Reject:
        if (failure := run.failures.get(masked.text)) is not None:
            reason, trace = failure
            tried = reason != _NOT_TRIED
            return Reject(row.id, self.name, reason, None, trace, asked=tried)
        answer, unknown = self.program.clean(run.answers[masked.text][0])
        text, lost = masked.restore(self.program.respelt(answer.strip(), row))
        if lost is None and not text:
            lost = "wrote nothing"
        lost = lost or _foreign(text, row)
        if lost is not None:
            return Reject(row.id, self.name, lost, "stop", answer[:_TRACE])
        body = row.text.strip()
        before, after = row.text.split(body, 1)
        whole = before + text + after
        return Lesson(row.id, whole, self.name, self.terms.licence, unknown=unknown)

    def _refused(self, row: Assignment, missing: str | None, sample: int) -> Reject:
        reason = missing or refusal(self.terms, row, sample, draws=False) or ""
        return Reject(row.id, self.name, reason, asked=False)


class _Run:
    """The answers to texts, from the store and from processes; `failures` have reason and trace,
    `lost_seconds` are those of processes that failed.
    """

    def __init__(
        self, program: Program, terms: Terms, store: ProgramStore | None, texts: Sequence[str]
    ) -> None:
        self.program, self.terms, self.store = program, terms, store
        self.failures: dict[str, tuple[str, str | None]] = {}
        self.answers = {} if store is None else store.held(program.identity, texts)
        self.fresh, self.lost_seconds = 0, 0.0
        self._in_a_row, self._lock = 0, threading.Lock()
        left = [text for text in texts if text not in self.answers]
        size = program.batch
        batches = [left[at : at + size] for at in range(0, len(left), size)]
        with ThreadPoolExecutor(terms.concurrency) as threads:
            for _ in threads.map(self._batch, batches):
                pass

    def _batch(self, texts: Sequence[str]) -> None:
        if self._in_a_row >= _FAILURES:
            with self._lock:
                self.failures |= dict.fromkeys(texts, (_NOT_TRIED, None))
            return
        output = run_process(self.program.command, self.program.write(texts), self.terms.timeout)
        answers = output.failure or self.program.read(output.written, len(texts))
        if not isinstance(answers, str):
            self._keep(texts, answers, output.cpu_seconds / len(texts))
            return
        with self._lock:
            self.lost_seconds += output.cpu_seconds
        if len(texts) == 1:
            self._fail(texts[0], answers, output)
        else:
            half = len(texts) // 2
            self._batch(texts[:half])
            self._batch(texts[half:])

    def _keep(self, texts: Iterable[str], answers: Iterable[str], seconds: float) -> None:
        made = {text: (answer, seconds) for text, answer in zip(texts, answers, strict=True)}
        with self._lock:
            if self.store is not None:
                self.store.keep(self.program.identity, made)
            self.answers |= made
            self.fresh += len(made)
            self._in_a_row = 0

    def _fail(self, text: str, reason: str, output: Output) -> None:
        trace = output.said or output.written.decode("utf-8", "replace")
        with self._lock:
            self.failures[text] = (reason, trace[:_TRACE] or None)
            self._in_a_row += 1


def _foreign(answer: str, row: Assignment) -> str | None:
    """Why an answer is garbage: it has letters of a script that neither its language nor the text
    is written in. None where it has not, or the language's script is not known.
    """
    expected = expected_scripts(row.lang)
    if expected is None:
        return None
    others = letters_by_script(answer).keys() - expected - letters_by_script(row.text).keys()
    return f"wrote letters of a foreign script: {', '.join(sorted(others))}" if others else None


def _digest(name: str) -> str | None:
    """The hash of a file; None where there is no such file, as most arguments are none."""
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


def _versions(packages: Sequence[str]) -> str:
    """The versions of Debian's packages, "" where there is no dpkg."""
    if not packages or shutil.which("dpkg-query") is None:
        return ""
    command = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout

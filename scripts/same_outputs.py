"""Show that a change left what a user sees as it was: record before it and after, and compare.

    python scripts/same_outputs.py record FOLDER [--checkout DIR] [--python PATH] [--run DIR]
    python scripts/same_outputs.py compare BEFORE AFTER [--strict]

`record` runs a checkout (the one this script stands in, or `--checkout`, which need not have the
script) and writes into FOLDER, a folder for each item:

    inputs            two slices of the embedded ui table, which the items below read
    ledger            `pomona ledger RUN`, as JSON and as a table, of a finished quickstart run
                      (`--run`, else runs/quickstart of the checkout; left out where there is none)
    dedup-minhash     the whole ui table: rows, pairs, card
    dedup-exact       a slice of it; so does dedup-substring
    merge             the folder of the README's ties merge
    sample            answers to 50 test rows, and their card
    server            status, headers and body of every answer to `requests`, one after another
    help              `--help` of every command

Every item has what its command printed and its exit status, and every file that it left behind but
the SQLite stores, which hold times. The program is `.venv/bin/pomona` of the checkout, or the
Python given with `--python`; its code is always that of the checkout's src. It runs on one thread,
without a terminal, and with an empty cache, so a recording takes half a minute.

Not recorded is what is no function of the inputs: the folders of the checkout and of the scratch
work in every text; in the ledger and the server's answers also seconds, dates, random ids, lengths
of bodies, the port (`STRIPPED`) and the order of methods in `allow`. Cards have no times. The
rest is compared byte by byte.

`compare` prints a line an item and exits 1 where anything differs. A page or a help
text that differs, or is new, is told and does not fail unless `--strict` is given; one that is gone
fails.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ABOUT = "about.json"
PRINTED = "printed.txt"
START = "import sys; from pomona.cli import main; sys.exit(main())"
BINARY = {".parquet", ".safetensors"}
# Pages for people: their looks may change where what they say does not.
PAGES = {"merge/merged/report.html", "server/26-page.txt"}
STORES = {".db", ".db-wal", ".db-shm"}

TIMED = ("ledger/", "server/")
STRIPPED = [
    (rb'("seconds": ?)[-+.\de]+', rb"\1*"),
    (rb'("created": ?)\d+', rb"\1*"),
    (rb'("id": ?"(?:chatcmpl|cmpl)-)\w+', rb"\1*"),
    # The length of a body changes with the digits of its seconds.
    (rb"(?m)^(date|x-request-id|content-length): .*", rb"\1: *"),
    (rb"(?m)^(pomona_request_seconds_(?:bucket|sum)\{.*\}) .*", rb"\1 *"),
    (rb"(?m)^: still at work\n\n", rb""),
    (rb"(http://127\.0\.0\.1:)\d+", rb"\1PORT"),
]

SLICES = """
import json
from pathlib import Path
from pomona import records

def write(name, rows):
    lines = [json.dumps(row, ensure_ascii=False) + "\\n" for row in rows]
    Path(name).write_text("".join(lines), encoding="utf-8")

ui = records.read("ui")
test = ui.where(split="test").to_table().to_pylist()
write("test.jsonl", test[:: len(test) // 50][:50])
write("german.jsonl", ui.where(lang="de", split="train").to_table().to_pylist()[:4000])
"""

RECIPE = """\
merge_method: ties
base_model: ui-s@20
models:
  - {model: ui-s@40, parameters: {weight: 1}}
  - {model: ui-s@80, parameters: {weight: [0.5, 1]}}
parameters: {density: 0.5}
"""

DEDUP = ["data", "dedup", "--column", "translation", "--out", "kept.parquet"]
GERMAN = "../inputs/german.jsonl"
COMMANDS = {
    "dedup-minhash": [*DEDUP, "--threshold", "0.8", "ui"],
    "dedup-exact": [*DEDUP, "--method", "exact", GERMAN],
    "dedup-substring": [*DEDUP, "--method", "substring", "--min-length", "6", GERMAN],
    "merge": ["merge", "../merge.yaml", "merged", "--threads", "1"],
    "sample": [
        *["sample", "../inputs/test.jsonl", "--out", "answers.jsonl", "--model", "ui-s"],
        *["--prompt", "<|{lang}|>{english}<|to|>", "--strategy", "hedged5-mbr"],
        *["--max-tokens", "32", "--reference", "translation"],
    ],
}


@dataclass(frozen=True)
class Ask:
    """One request to the server; `body` is sent as JSON, or as it is where it is a text."""

    name: str
    path: str
    body: dict[str, Any] | str | None = None
    method: str = ""


def requests() -> list[Ask]:
    """What the server is asked, in this order: the metrics count what came before them."""
    prompt = {"model": "ui-s", "prompt": "<|de|>Save the page<|to|>", "max_tokens": 16}
    greedy, drawn = {**prompt, "temperature": 0}, {**prompt, "temperature": 0.8, "seed": 7}
    said = [{"role": "user", "content": "<|de|>Close the window<|to|>"}]
    chat = {"model": "ui-s", "messages": said, "max_tokens": 16, "temperature": 0.8, "seed": 7}
    chosen = {**chat, "model": "ui-s@hedged5-mbr"}
    led = {**chat, "pomona": {"strategy": "hedged5-mbr", "context": ["memory"], "user": "ann"}}
    liked = {"prompt": said[0]["content"], "chosen": "Schließen", "good": True, "user": "ann"}
    return [
        Ask("models", "/v1/models"),
        Ask("model", "/v1/models/ui-s@hedged5-mbr"),
        Ask("completion-greedy", "/v1/completions", greedy),
        Ask("completion-logprobs", "/v1/completions", {**greedy, "logprobs": 2}),
        Ask("completion-n", "/v1/completions", {**drawn, "n": 3}),
        Ask("completion-prompts", "/v1/completions", {**drawn, "prompt": ["<|fr|>Open<|to|>"] * 2}),
        Ask("completion-stream", "/v1/completions", {**drawn, "stream": True, "logprobs": 1}),
        Ask("completion-strategy", "/v1/completions", {**drawn, "model": "ui-s@hedged5-mbr"}),
        Ask("chat-n-logprobs", "/v1/chat/completions", {**chat, "n": 2, "logprobs": True}),
        Ask("chat-stream", "/v1/chat/completions", streamed({**chat, "n": 2})),
        Ask("chat-strategy", "/v1/chat/completions", {**chat, "model": "ui-s@sample8-vote"}),
        Ask("chat-strategy-stream", "/v1/chat/completions", streamed(chosen)),
        Ask("feedback", "/v1/feedback", liked),
        Ask("chat-memory", "/v1/chat/completions", led),
        Ask("feedback-forget", "/v1/feedback?user=ann", method="DELETE"),
        Ask("embeddings", "/v1/embeddings", {"model": "ui-s", "input": ["Save", "the page"]}),
        Ask("error-400-missing", "/v1/completions", {"model": "ui-s"}),
        Ask("error-400-value", "/v1/chat/completions", {**chat, "temperature": 3}),
        Ask("error-400-json", "/v1/completions", '{"model":'),
        Ask("error-400-strategy", "/v1/completions", {**prompt, "model": "ui-s@nothing"}),
        Ask("error-404-model", "/v1/completions", {**prompt, "model": "ui-z"}),
        Ask("error-404-address", "/v1/nothing"),
        Ask("error-405", "/v1/models", {}),
        Ask("health", "/healthz"),
        Ask("schema", "/openapi.json"),
        Ask("page", "/"),
        Ask("metrics", "/metrics"),
    ]


def streamed(body: dict[str, Any]) -> dict[str, Any]:
    """The same request, answered in events with the usage at their end."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Recorder:
    """Runs a checkout's program in `scratch` and keeps what it says and writes in `folder`."""

    checkout: Path
    program: list[str]
    python: str
    scratch: Path
    folder: Path

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's that shows in what the program prints, and no other code."""
        dropped = re.compile(r"POMONA_|OPENAI_|PYTHONPATH$|COLUMNS$|LINES$|FORCE_COLOR$")
        kept = {name: value for name, value in os.environ.items() if not dropped.match(name)}
        ours = {"PYTHONPATH": str(self.checkout / "src"), "PYTHONUTF8": "1", "NO_COLOR": "1"}
        cache = {"POMONA_CACHE": str(self.scratch / "cache"), "OMP_NUM_THREADS": "1"}
        return {**kept, **ours, **cache}

    def work(self, item: str) -> Path:
        """The scratch folder that the commands of an item run in."""
        folder = self.scratch / item
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, item: str, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end. SystemExit with what it said when it fails."""
        done = subprocess.run(
            command,
            cwd=self.work(item),
            env=self.environment(),
            stdin=subprocess.DEVNULL,  # a terminal there would give tables its width
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise SystemExit(f"{item}: {' '.join(command)} ended with {done.returncode}\n{said}")
        return done

    def pomona(self, item: str, *arguments: str) -> bytes:
        """What the program prints: its standard output, then its standard error."""
        done = self.run(item, [*self.program, *arguments])
        return printed(done.stdout, done.stderr, done.returncode)

    def keep(self, name: str, content: bytes) -> None:
        """Keep one file of a recording, without what is no function of the inputs if it is text."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix not in BINARY:
            # Elsewhere "seconds" may be anything: in the tokenizer of a merge it is a token.
            content = self.stripped(content, STRIPPED if name.startswith(TIMED) else [])
        path.write_bytes(content)

    def keep_files(self, item: str) -> None:
        """Keep whatever the item's commands left in their folder."""
        work = self.work(item)
        for path in sorted(work.rglob("*")):
            if path.is_file() and path.suffix not in STORES:
                self.keep(f"{item}/{path.relative_to(work).as_posix()}", path.read_bytes())

    def stripped(self, content: bytes, patterns: list[tuple[bytes, bytes]]) -> bytes:
        """Text with a star for whatever changes from one recording to the next."""
        for place, name in ((self.scratch, b"SCRATCH"), (self.checkout, b"CHECKOUT")):
            content = content.replace(os.fsencode(place), name)
        for pattern, star in patterns:
            content = re.sub(pattern, star, content)
        return content


def printed(output: bytes, errors: bytes, status: int) -> bytes:
    """What a command said, as one text."""
    return b"%b\n--- standard error\n%b\n--- exit status %d\n" % (output, errors, status)


def check_code(recorder: Recorder) -> None:
    """SystemExit unless the program's code is the checkout's."""
    asked = [recorder.python, "-c", "import pomona; print(pomona.__file__)"]
    found = Path(recorder.run("code", asked).stdout.decode().strip()).resolve()
    if not found.is_relative_to(recorder.checkout):
        raise SystemExit(f"pomona comes from {found}, which is not in {recorder.checkout}")


def record_commands(recorder: Recorder) -> None:
    """The inputs, and every item that is one command."""
    recorder.run("inputs", [recorder.python, "-c", SLICES])
    recorder.keep_files("inputs")
    (recorder.scratch / "merge.yaml").write_text(RECIPE, encoding="utf-8")
    for item, arguments in COMMANDS.items():
        recorder.keep(f"{item}/{PRINTED}", recorder.pomona(item, *arguments))
        recorder.keep_files(item)


def record_ledger(recorder: Recorder, run: Path) -> str:
    """The entries of a run. Returns why there are none, or nothing."""
    if not (run / "ledger.json").is_file():
        return f"there is no finished run in {run}"
    for format in ("json", "human"):
        said = recorder.pomona("ledger", "ledger", str(run), "--format", format)
        recorder.keep(f"ledger/{format}.txt", said)
    return ""


def record_help(recorder: Recorder, *command: str) -> None:
    """`--help` of a command, and of each that it names."""
    said = recorder.pomona("help", *command, "--help")
    recorder.keep(f"help/{'-'.join(('pomona', *command))}.txt", said)
    _, _, panel = said.decode().partition("╭─ Commands ")
    panel = panel.partition("╰")[0]
    for name in re.findall(r"^│ ([a-z][\w-]*) ", panel, re.MULTILINE):
        record_help(recorder, *command, name)


def record_server(recorder: Recorder) -> None:
    """The answers of a server to `requests`, and what it said until it was interrupted."""
    arguments = ["serve", "--model", "ui-s", "--port", "0", "--feedback", "feedback.db"]
    errors = recorder.scratch / "server-errors.txt"
    with errors.open("wb") as sink:
        server = subprocess.Popen(
            [*recorder.program, *arguments],
            cwd=recorder.work("server"),
            env=recorder.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
        )
    assert server.stdout is not None
    try:
        address = server.stdout.readline()
        if not address:
            raise SystemExit(f"server: it does not start\n{errors.read_text(encoding='utf-8')}")
        port = int(address.rpartition(b":")[2])
        await_listening(port)
        for number, ask in enumerate(requests(), 1):
            recorder.keep(f"server/{number:02}-{ask.name}.txt", answered(ask, port))
    finally:
        server.send_signal(signal.SIGINT)
        try:
            rest, _ = server.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            raise
    said = printed(address + rest, errors.read_bytes(), server.returncode)
    recorder.keep(f"server/{PRINTED}", said)
    recorder.keep_files("server")


def await_listening(port: int) -> None:
    """Return when the port takes connections: the address is printed before it does."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("server: it does not listen")


def answered(ask: Ask, port: int) -> bytes:
    """Status, headers and body of an answer."""
    body = ask.body if isinstance(ask.body, str | None) else json.dumps(ask.body)
    method = ask.method or ("GET" if body is None else "POST")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, ask.path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        headers = "".join(f"{name}: {ordered(name, value)}\n" for name, value in reply.getheaders())
        return f"{reply.status} {reply.reason}\n{headers}\n".encode() + reply.read()
    finally:
        connection.close()


def ordered(name: str, value: str) -> str:
    """The value of a header: methods come from a set, in another order each time."""
    return ", ".join(sorted(value.split(", "))) if name == "allow" else value


def commit(checkout: Path) -> str:
    """The commit of a checkout, with a + where files are changed; nothing where git cannot tell."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")


def record(folder: Path, checkout: Path, python: Path | None, run: Path | None) -> None:
    """Record a checkout into a new folder, which appears when all of it is there."""
    if folder.exists():
        raise SystemExit(f"{folder} exists; give a folder that does not")
    if python is None and not (checkout / ".venv/bin/pomona").is_file():
        raise SystemExit(f"{checkout} has no .venv/bin/pomona; install it there, or give --python")
    started, checkout, folder = time.monotonic(), checkout.resolve(), folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".recording-", dir=folder.parent) as temporary:
        scratch = Path(temporary).resolve()
        # An interpreter is not resolved: a venv's is a link, and is known by where it lies.
        interpreter = str((python or checkout / ".venv/bin/python").absolute())
        program = [interpreter, "-c", START] if python else [str(checkout / ".venv/bin/pomona")]
        kept = scratch / "kept"
        kept.mkdir()
        recorder = Recorder(checkout, program, interpreter, scratch, kept)
        check_code(recorder)
        skipped = record_ledger(recorder, (run or checkout / "runs/quickstart").resolve())
        record_commands(recorder)
        record_server(recorder)
        record_help(recorder)
        about = {"commit": commit(checkout), "seconds": round(time.monotonic() - started, 1)}
        about |= {"skipped": {"ledger": skipped} if skipped else {}}
        (kept / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        kept.rename(folder)
    if skipped:
        print(f"skipped: ledger, {skipped}")
    print(f"{sum(1 for _ in names(folder))} items in {about['seconds']} s: {folder}")


def names(folder: Path) -> Iterator[str]:
    """The items of a recording."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ABOUT:
            yield path.relative_to(folder).as_posix()


def compare(before: Path, after: Path, strict: bool) -> int:
    """Print a line an item. Returns the exit status: 1 where something differs."""
    for folder in (before, after):
        if not (folder / ABOUT).is_file():
            raise SystemExit(f"{folder} is no recording")
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        print(f"{folder}: commit {about['commit'] or 'unknown'}")
        for item, why in about["skipped"].items():
            print(f"{folder}: {item} was skipped, {why}")
    counts = {"equal": 0, "differs": 0, "differs (help)": 0, "differs (page)": 0}
    for item in sorted({*names(before), *names(after)}):
        found, verdict = difference(before / item, after / item), "equal"
        if found:
            kind = "help" if item.startswith("help/") else "page" if item in PAGES else ""
            mild = kind and (after / item).is_file() and not strict
            verdict = f"differs ({kind})" if mild else "differs"
        counts[verdict] += 1
        print(f"{verdict:<8} {item}  {found}".rstrip())
    print(", ".join(f"{verdict}: {count}" for verdict, count in counts.items()))
    return int(counts["differs"] > 0)


def difference(before: Path, after: Path) -> str:
    """Where two files differ first; nothing where they are equal."""
    for path, other in ((before, "AFTER"), (after, "BEFORE")):
        if not path.is_file():
            return f"only in {other}"
    old, new = before.read_bytes(), after.read_bytes()
    if before.name.endswith("-metrics.txt"):
        old, new = counted(old), counted(new)
    if old == new:
        return ""
    if before.suffix == ".parquet":
        return rows_differ(before, after)
    pairs = enumerate(zip(old, new, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
    if before.suffix in BINARY:
        return f"at byte {at} of {len(old)} and {len(new)}"
    shown = [one[max(0, at - 30) : at + 30].decode(errors="replace") for one in (old, new)]
    line = old.count(b"\n", 0, at) + 1
    return f"in line {line}: {shown[0]!r} | {shown[1]!r}"


def counted(metrics: bytes) -> bytes:
    """Metrics in one order, each number written alike: 6.4e+08 is 640000000 to who reads them."""

    def alike(number: re.Match[bytes]) -> bytes:
        return repr(float(number[0])).encode()

    return b"\n".join(sorted(re.sub(rb"(?m)(?<= )[\d.e+-]+$", alike, metrics).splitlines()))


def rows_differ(before: Path, after: Path) -> str:
    """Where two tables whose bytes differ have different columns or rows, if they have."""
    import pyarrow.parquet as pq

    old, new = pq.read_table(before), pq.read_table(after)
    if old.schema != new.schema:
        return f"columns {old.schema.names} | {new.schema.names}, or their types"
    for at, (one, other) in enumerate(zip(old.to_pylist(), new.to_pylist(), strict=False)):
        if one != other:
            return f"in row {at}: {one} | {other}"
    if old.num_rows != new.num_rows:
        return f"{old.num_rows} rows | {new.num_rows} rows, the same as far as both go"
    return "the same rows in other bytes"


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record", help="write what a user of a checkout sees")
    recording.add_argument("folder", type=Path, help="a folder that does not exist yet")
    here = Path(__file__).parents[1]
    recording.add_argument("--checkout", type=Path, default=here, help="this one if left out")
    recording.add_argument("--python", type=Path, help="the checkout's .venv if left out")
    recording.add_argument("--run", type=Path, help="its runs/quickstart if left out")
    comparing = verbs.add_parser("compare", help="tell where two recordings differ")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--strict", action="store_true", help="nor may pages and help differ")
    given = parser.parse_args()
    if given.verb == "compare":
        return compare(given.before, given.after, given.strict)
    record(given.folder, given.checkout, given.python, given.run)
    return 0


if __name__ == "__main__":
    sys.exit(main())

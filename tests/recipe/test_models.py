"""One recipe file on any model: torch, llama.cpp, servers; judged, with passages, with tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pomona.errors import PomonaError, ResourceError
from pomona.ledger import Ledger
from pomona.models import smollm2_path
from pomona.recipe import dry_run, run
from pomona.recipe.asked import AskedModel, Says
from pomona.recipe.levers import load_recipe
from pomona.recipe.steps import Served

SMOLLM2 = smollm2_path()  # before the tests' own cache hides it
RECIPE = """\
name: any
dtype: float32
data: {records: rows.jsonl, prompt: "{question}", completion: "{answer}", group: null}
task: {where: {split: test}, tail: 0, max_new_tokens: 6, resamples: 1000}
base: BASE
models:
  judge: {uri: JUDGE, concurrency: 1}
  served: {uri: "SERVER", price: [2, 4], concurrency: 1}
levers:
  sampling: {strategies: [hedged3-mbr, hedged3-chops, sample4-vote-text-stop0.9-round3], judge: judge}
  context:
    retrieval: {records: pages.jsonl, source: title}
    tools: [calculator, "times:double"]
stacks: [[context/retrieval, hedged3-chops]]
"""
ROWS = [
    ("When does the library open?", "at nine"),
    ("What is 3 times 4?", "12"),
]
OTHERS = [("When is it closed?", "on Sundays"), ("Is there a fine?", "yes, ten cents a day")]
SEEN = {
    "base", "hedged3-mbr", "hedged3-chops", "sample4-vote-text-stop0.9-round3",
    "context/retrieval", "context/tools", "context/retrieval + hedged3-chops",
}  # fmt: skip
"""Systems that ask a model."""


@pytest.fixture
def folder(tmp_path: Path, make_checkpoint: Callable[[Path, int], Path]) -> Path:
    """A user's folder: a model, questions, pages, and a tool."""
    config = make_checkpoint(tmp_path / "model", 16) / "config.json"
    longer = {"max_position_embeddings": 1024}  # for what requests carry
    config.write_text(json.dumps(json.loads(config.read_text()) | longer))
    rows = [{"question": q, "answer": a, "split": "test"} for q, a in ROWS]
    rows += [{"question": q, "answer": a, "split": "valid"} for q, a in OTHERS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pages = [
        {"title": "Hours", "text": "The library opens at nine on weekdays."},
        {"title": "Fines", "text": "Fines are ten cents a day."},
    ]
    (tmp_path / "pages.jsonl").write_text("\n".join(map(json.dumps, pages)))
    code = 'def double(number: float) -> float:\n    """Twice a number."""\n    return 2 * number\n'
    (tmp_path / "times.py").write_text(code)
    return tmp_path


def recipe(folder: Path, **names: str) -> Path:
    """The recipe with the models put into it."""
    text = RECIPE
    for name, uri in {"BASE": "hf:model", "JUDGE": "hf:model", "SERVER": "none", **names}.items():
        text = text.replace(name, uri)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def asked(ledger: Ledger, base: str) -> dict[str, Any]:
    """The entries of the systems that ask a model, by their names, without what is timed."""
    return {
        "base" if entry.variant == base else entry.variant: {
            name: value
            for name, value in entry.to_json().items()
            if "seconds" not in name and name not in ("variant", "baseline")
        }
        for entry in ledger.of("overall")
        if entry.baseline == base
        and entry.lever != "control"
        and not entry.variant.endswith(("/random", "/hope", "/risk"))
    }


class Server:
    """This package's own server as a process, behind an address that counts what it answers."""

    def __init__(self, model: str, python: Path) -> None:
        self.python = python
        self.model, self.answered, self.tried = model, Counter[bytes](), 0
        self.kill_after: int | None = None
        self.process: subprocess.Popen[str] | None = None
        self.victim: subprocess.Popen[bytes] | None = None  # killed in place of the server
        self.start()
        owner = self

        class Counting(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass(b"")

            def do_POST(self) -> None:
                self._pass(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass(self, body: bytes) -> None:
                status, content = owner.passed(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with suppress(OSError):  # of a client that was killed
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.front = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
        threading.Thread(target=self.front.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.front.server_port}/v1#{self.model.partition('=')[0]}"

    def start(self) -> None:
        code = "import sys; from pomona.cli import main; sys.exit(main())"
        options = ["serve", "--model", self.model, "--port", "0"]
        command = [str(self.python), "-c", code, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if "http://" in line)
        self.upstream = "http://" + line.split("http://")[1].split()[0].rstrip("/")

    def passed(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """What the server answers; killed at the chosen request, and up again at the next."""
        assert self.process is not None
        self.tried += method == "POST"
        if self.process.poll() is not None:
            self.process.communicate()
            self.start()
        if self.kill_after is not None and self.tried > self.kill_after:
            self.kill_after = None
            killed = self.victim or self.process
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            return 502, b"{}"
        answer = httpx.request(
            method, self.upstream + path, content=body, timeout=60.0,
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        if method == "POST" and answer.status_code == 200:
            self.answered[body] += 1
        return answer.status_code, answer.content

    def close(self) -> None:
        self.front.shutdown()
        self.front.server_close()
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(forked: Path) -> Iterator[Server]:
    served = Server("ui-xs", forked / "python")
    yield served
    served.close()


@pytest.fixture
def draws_alike(forked: Path) -> Iterator[Server]:
    """A server that draws the same again after it was killed: llama.cpp may not, since the numbers
    it rounds depend on what its cache holds.
    """
    served = Server("ui-xs", forked / "python")
    yield served
    served.close()


def test_one_recipe_runs_on_every_kind_of_model(folder: Path, server: Server) -> None:
    path, ledgers = recipe(folder, SERVER=server.uri), {}
    bases = ["hf:model", "served", *([f"gguf:{SMOLLM2}"] if SMOLLM2.is_file() else [])]
    unknown = dry_run(path, base="served").totals()
    assert unknown["prompt_tokens"] is None  # of requests that carry passages
    assert unknown["money"] is None and dry_run(path).totals()["money"] == 0  # by what is carried
    for base in bases:
        out = run(path, folder / f"run-{len(ledgers)}", base=base)
        ledgers[base] = asked(Ledger.read(out / "ledger.json"), base)
        assert set(ledgers[base]) == SEEN
    here, there = ledgers["hf:model"], ledgers["served"]
    for name, row in there.items():
        # Nobody knows what a server computes; what it is paid is known where its judge is.
        assert row["flops_per_item"] is None and row["bytes"] is None
        assert (row["money_per_item"] is None) == ("chops" in name)
        assert (here[name]["flops_per_item"] or 0) > 0 and (here[name]["bytes"] or 0) > 0
        assert row["tokens_per_item"] >= there["base"]["tokens_per_item"] > 0
    base, pool = there["base"], there["hedged3-mbr"]
    assert base["money_once"] == 0 and 0 < base["money_per_item"] < pool["money_per_item"]
    assert there["context/retrieval"]["tokens_per_item"] > base["tokens_per_item"]
    assert "<dt>base</dt><dd>served</dd>" in (folder / "run-1/report.html").read_text()
    if f"gguf:{SMOLLM2}" in ledgers:
        assert ledgers[f"gguf:{SMOLLM2}"]["base"]["bytes"] == SMOLLM2.stat().st_size
    assert server.answered and set(server.answered.values()) == {1}


def test_served_sizes_are_a_ladder_where_the_recipe_says_how_large_they_are(
    folder: Path, server: Server
) -> None:
    path = recipe(folder)
    text = path.read_text().split("base:")[0] + "base: small\nladder: [small, large, unknown]\n"
    served = [f'{{uri: "{server.uri}", parameters: {size}}}' for size in (1000, 2000)]
    text += f'models: {{small: {served[0]}, large: {served[1]}, unknown: {{uri: "hf:model"}}}}\n'
    path.write_text(text)
    server.answered.clear()
    ledger = Ledger.read(run(path, folder / "run") / "ledger.json")
    sizes = {rung.variant: rung.parameters for rung in ledger.meta.rungs}
    assert sizes["small"] == ledger.meta.base_parameters == 1000 and sizes["large"] == 2000
    large = next(entry for entry in ledger.of("overall") if entry.variant == "large")
    assert large.delta == 0 and large.scale_equivalent and large.scale_equivalent.ratio == 2
    assert large.flops_once is None and large.money_once == 0 and large.money_per_item is None
    assert set(server.answered.values()) == {1}  # one model under two names is asked once


RUN = """\
import sys
sys.modules["torch"] = None  # where servers answer, nobody needs it
from pomona.recipe import run
run(*sys.argv[1:3], base="served")
"""


def test_run_and_server_are_killed_and_nothing_is_paid_for_twice(
    folder: Path, draws_alike: Server
) -> None:
    server = draws_alike
    path = recipe(folder, SERVER=server.uri)
    others = ", hedged3-chops, sample4-vote-text-stop0.9-round3], judge: judge}"
    assert others in path.read_text()
    text = path.read_text().replace(others, "]}").split("  context:")[0]
    text += "validation: {where: {split: valid}}\n"
    path.write_text(text + "stack: {steps: 1, cost: money, among: [hedged3-mbr]}\n")
    forecast = dry_run(path, folder / "whole", base="served").totals()
    told = forecast["money"]
    whole = run(path, folder / "whole", base="served")
    paid = dry_run(path, folder / "whole", base="served")
    assert paid.totals()["money"] == 0 and sum(row["money"] for row in paid.rows()) >= told > 0
    tried = json.loads((whole / "stack.json").read_text())["trials"]
    assert [trial["name"] for trial in tried] == ["hedged3-mbr"] and tried[0]["extra"] > 0
    expected = asked(Ledger.read(whole / "ledger.json"), "served")
    assert len(ROWS) * expected["hedged3-mbr"]["money_per_item"] <= told
    most = forecast["prompt_tokens"] + forecast["completion_tokens"]
    assert len(ROWS) * expected["hedged3-mbr"]["tokens_per_item"] <= most
    server.answered.clear()

    command = [sys.executable, "-c", RUN, str(path), str(folder / "run")]
    server.tried, server.kill_after = 0, 2
    with subprocess.Popen(command) as child:
        server.victim = child
    assert child.returncode == -signal.SIGKILL and sum(server.answered.values()) == 2

    server.tried, server.kill_after, server.victim = 0, 2, None
    path.write_text(path.read_text().replace("base:", "budget: {tokens: 60}\nbase:"))
    with pytest.raises(ResourceError, match=r"the budget of tokens: was spent .* and kept"):
        run(path, folder / "run", base="served")
    path.write_text(path.read_text().replace("tokens: 60", "tokens: 100000"))
    again = run(path, folder / "run", base="served")
    assert server.kill_after is None
    assert asked(Ledger.read(again / "ledger.json"), "served") == expected
    assert set(server.answered.values()) == {1}


def test_a_server_that_is_starting_is_waited_for_where_the_recipe_says_so(
    folder: Path,
) -> None:
    class Listing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "m", "root": "M"}]}')

        def log_message(self, format: str, *args: Any) -> None: ...

    late = ThreadingHTTPServer(("127.0.0.1", 0), Listing, bind_and_activate=False)
    late.server_bind()  # refuses connections as long as it does not listen
    uri = f"http://127.0.0.1:{late.server_address[1]}/v1#m"

    def start() -> None:
        late.server_activate()
        late.serve_forever(0.01)

    threading.Timer(0.1, start).start()
    says = Says(folder / "models.json", insist=True, waits={uri: 60.0})
    assert says[uri]
    late.shutdown()
    late.server_close()
    with pytest.raises(PomonaError, match="does not answer"):
        Says(folder / "models.json", insist=True)[uri]
    # A run goes on with what it has.
    assert AskedModel(wait_for_server=60).settings() == AskedModel().settings()
    assert Served("m", uri, "x", 60.0).key == Served("m", uri, "x").key
    path = recipe(folder)
    path.write_text(path.read_text().replace("price:", "wait_for_server: 0, price:"))
    with pytest.raises(PomonaError, match='"wait_for_server" must be more than 0, not 0'):
        load_recipe(path)


def test_what_a_server_cannot_do_is_refused_when_the_recipe_is_read(folder: Path) -> None:
    path = recipe(folder)
    text = path.read_text().split("levers:")[0].replace("base: hf:model", "base: http://h/v1#m")
    path.write_text(
        text + "train: {where: {split: test}, tokens: 100}\n"
        "levers: {data: {keep: 0.5, by: {length: [top]}}, memory: {states: {}, selector: {}}}\n"
    )
    with pytest.raises(PomonaError) as caught:
        dry_run(path)
    said = str(caught.value)
    assert 'the lever "data" needs a model that can be trained ("train")' in said
    assert 'the lever "memory" needs a model that can show the states of its network' in said
    assert 'the lever "memory" needs a model that can score given text ("score")' in said
    assert 'a server does not let "http://h/v1#m" do that' in said and "hf:PATH" in said
    path.write_text(path.read_text().replace("http://h/v1#m", "hf:model"))
    path.write_text(path.read_text().replace(", selector: {}", ""))
    assert dry_run(path).rows()
    with pytest.raises(PomonaError, match=r'base: .*the lever "data" needs a model'):
        dry_run(path, base="http://h/v1#m")
    path.write_text(recipe(folder).read_text() + "budget: {money: 1}\n")
    path.write_text(path.read_text().replace("base: hf:model", "base: http://h/v1#m"))
    with pytest.raises(PomonaError, match=r"needs the price of .http://h/v1#m"):
        dry_run(path)
    with pytest.raises(PomonaError, match=r"does not answer: .* start the server"):
        run(recipe(folder, SERVER="http://127.0.0.1:9/v1#m"), folder / "run", base="served")
    assert not (folder / "run").exists()

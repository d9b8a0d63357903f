"""A synthetic ledger with the magnitudes of a real run, and a browser to open its report in."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import random
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pomona.ledger import Entry, GroupCount, Ledger, Meta, Rung, ScaleEquivalent

LANGUAGES = [
    "de", "fr", "es", "pt_BR", "ru", "pl", "it", "nl", "cs", "ja", "sv", "uk", "tr", "zh_Hans",
    "ca", "ko", "fi", "el", "ar", "he", "sk", "hu", "da", "lt", "sl", "cy", "ga", "eo",
]  # fmt: skip
SIZES = {"ui-xs": 0.5e6, "ui-s": 1.2e6, "ui-m": 3e6, "ui-l": 8e6}
# lever, variant, gain, how much more the tail gains, FLOPs once, FLOPs per item, tokens
VARIANTS = [
    ("data", "all", 0.05, 0.0, 5.6e12, 1.0e8, 3_100_000),
    ("data", "prune/bottom", 0.9, -0.6, 2.9e12, 1.0e8, 1_600_000),
    ("data", "prune/middle", 0.35, -0.2, 2.9e12, 1.0e8, 1_600_000),
    ("data", "prune/top", -1.4, 0.4, 2.9e12, 1.0e8, 1_600_000),
    ("data", "prune/random", -0.2, -0.3, 2.9e12, 1.0e8, 1_600_000),
    ("merging", "mixed", 0.7, 0.2, 9.4e12, 1.0e8, 5_000_000),
    ("merging", "linear", 1.3, 1.4, 9.5e12, 1.0e8, 5_000_000),
    ("merging", "slerp", 1.25, 1.2, 9.5e12, 1.0e8, 5_000_000),
    ("merging", "experts", 1.9, 0.9, 9.4e12, 1.0e8, 5_000_000),
    ("sampling", "hedged5/chrf-mbr", 1.6, 0.3, 0.0, 5.0e8, 0),
    ("sampling", "hope", 0.3, 0.1, 0.0, 2.4e8, 0),
    ("sampling", "risk", -0.6, -0.2, 0.0, 83 * 1.2e6, 0),
]
SIGNATURE = "chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0|boot:1000|seed:7"


def _equivalent(gain: float) -> ScaleEquivalent:
    if gain < -6:
        return ScaleEquivalent(None, None, None, "below the ladder")
    if gain > 9:
        return ScaleEquivalent(None, None, None, "beyond the ladder")
    return ScaleEquivalent(
        1.2 ** (gain * 1.3),
        None if gain < -5 else 1.2 ** (gain - 0.8),
        None if gain > 8 else 1.2 ** (gain * 1.3 + 1),
    )


def _entries(
    name: tuple[str, str],
    gain: float,
    tail: float,
    costs: tuple[float, float, int],
    chance: random.Random,
) -> list[Entry]:
    (lever, variant), found = name, []
    for group in ["overall", "head", "tail", *LANGUAGES]:
        place = (
            LANGUAGES.index(group) / len(LANGUAGES)
            if group in LANGUAGES
            else {"overall": 0.35, "head": 0.1, "tail": 0.85}[group]
        )
        n = {"overall": 2400, "head": 1500, "tail": 420}.get(
            group, round(190 * math.exp(-2.2 * place))
        )
        half = 0 if variant == "ui-s" else 24 / math.sqrt(n)
        delta = (
            0.0
            if variant == "ui-s"
            else gain + tail * (place - 0.35) * 2 + (chance.gauss(0, half / 2.5) if n < 400 else 0)
        )
        found.append(
            Entry(
                lever=lever,
                variant=variant,
                metric="chrf",
                group=group,
                baseline="ui-s",
                value=40 - 18 * place + delta,
                delta=delta,
                ci_low=delta - half,
                ci_high=delta + half * 1.05,
                n=n,
                flops_once=costs[0],
                flops_per_item=costs[1],
                tokens=costs[2],
                seconds=round(costs[0] / 2.5e10, 1),
                scale_equivalent=_equivalent(delta),
                seed=7,
                signature=SIGNATURE,
            )
        )
    return found


@pytest.fixture
def make_ledger() -> Callable[..., Ledger]:
    """`make_ledger(ladder=True, groups=True)`: the same ledger at every call."""

    def make(*, ladder: bool = True, groups: bool = True) -> Ledger:
        chance, entries = random.Random(7), []
        for variant, size in SIZES.items() if ladder else [("ui-s", 1.2e6)]:
            costs = (
                0 if variant == "ui-s" else 1.0e8 * size,
                83.0 * size,
                0 if variant == "ui-s" else 16_000_000,
            )
            entries += _entries(
                ("scale", variant), 4.6 * math.log(size / 1.2e6), 0.4, costs, chance
            )
        for lever, variant, gain, tail, *costs in VARIANTS:
            entries += _entries(
                (lever, variant), gain, tail, (costs[0], costs[1], int(costs[2])), chance
            )
        if not ladder:
            entries = [replace(entry, scale_equivalent=None) for entry in entries]
        if not groups:
            entries = [entry for entry in entries if entry.group == "overall"]
        counts = [
            GroupCount(name, round(19_000 * math.exp(-0.19 * i)), i >= 18)
            for i, name in enumerate(LANGUAGES)
        ]
        meta = Meta(
            name="levers-on-ui",
            metric="chrF",
            higher_is_better=True,
            base="ui-s",
            base_parameters=1_200_000,
            serve_items=100_000,
            seed=7,
            created="2026-01-15T10:00:00+00:00",
            groups=counts if groups else [],
            rungs=[Rung(name, int(size)) for name, size in SIZES.items()] if ladder else [],
            versions={
                "pomona": "0.1.0",
                "torch": "2.13.0",
                "transformers": "5.23.0",
                "sacrebleu": "2.6.0",
            },
            notes=["The synthetic ledger of the tests: no number in it was measured."],
        )
        return Ledger(meta, entries)

    return make


class Browser:
    """A headless Chromium spoken to over its debugging pipe: one tab, what it asked for and what it
    complained about.
    """

    def __init__(self, program: str, profile: Path) -> None:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ]
        flags += [
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ]
        script = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
        command = ["sh", "-c", script, program, *flags, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.number, self.session, self.buffer = 0, "", b""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events that arrive meanwhile are noted."""
        assert self.process.stdin
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | (
            {"sessionId": self.session} if self.session else {}
        )
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], 60)
            assert ready, "the browser does not answer"
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            assert chunk, "the browser has ended"
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(json.dumps(params)[:2000])

    def open(self, page: Path, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Open a file at a width in CSS pixels and wait until its charts are drawn, where it has
        scripts.
        """
        self.requests.clear()
        self.complaints.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=page.as_uri())
        for _ in range(300):
            if self.run(
                "location.protocol == 'file:' && document.readyState == 'complete' && "
                "(!document.scripts.length || document.documentElement.dataset.charts == 'drawn')"
            ):
                return
            time.sleep(0.1)
        raise AssertionError(f"charts not drawn after 30 s: {self.complaints}")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get(
            "value"
        )

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG, for a person to look at."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium where the machine has one; the tests that ask for it are skipped elsewhere."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no Chromium on this machine: the page cannot be opened")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()

"""The commands: functions of the library behind one wrapper, each imported when it is needed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile

from cyclopts import App, Parameter

from pomona._version import __version__
from pomona.cli.errors import guarded, tell
from pomona.cli.output import HelpPages
from pomona.files import cache_folder
from pomona.workspace import NO_WINDOWS

_SLOW = ("data", "merge", "run", "sample", "serve")  # commands that load much the first time
_COMMANDS = {
    "run": ("run:run", "Run a recipe: its steps, then its ledger and report."),
    "ledger": ("run:ledger", "Print the ledger of a run."),
    "report": ("run:report", "Write the report and the picture of a run again from its ledger."),
    "data": ("data:app", "Find duplicates, score, prune, mix and audit data."),
    "merge": ("merge:app", "Merge checkpoints, or search for the best merge."),
    "sample": (
        "sample:app",
        "Answer every row of a table: several answers each, and a choice among them.",
    ),
    "synth": ("synth:app", "What teachers write, and what a student inherits from it."),
    "markers": ("markers:app", "Tag texts with what is known of them, for a model to learn from."),
    "forget": ("forget:app", "What a change to a model lost and gained, and for whom."),
    "scale": ("scale:app", "What size, data and compute buy: laws, plans, tables, thresholds."),
    "arena": ("arena:app", "Which model wins by votes, how sure that is, and whom to ask."),
    "models": ("models:app", "List the models known by name, and fetch one."),
    "serve": ("sample:serve", "Serve models and sampling strategies behind the OpenAI API."),
    "doctor": ("models:doctor", "Show what this installation has and whether something is broken."),
}
app = App(
    name="pomona",
    help=(
        "Before you pay for a bigger model: what do the other levers buy, for whom, and at "
        "what cost?"
    ),
    version=f"pomona {__version__}",
    help_format="plaintext",
    help_formatter=HelpPages(),
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name, (_place, _help) in _COMMANDS.items():
    app.command(f"pomona.cli.{_place}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with `arguments` (the process's own if None). Returns its exit code: 0, 1, 2
    or 130.
    """
    # NumPy's would be one for each core, and wait actively
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "win32":
        tell(f"error: {NO_WINDOWS}")
        return 2
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        _greet(tokens)
        # A server ends by itself. All others end as at Ctrl-C, so that nothing half-written stays.
        if "serve" not in tokens[:2] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
    return guarded(lambda: app(tokens, exit_on_error=False, print_error=False, verbose=False))


def _greet(tokens: Sequence[str]) -> None:
    """On the first use of a slow command with an empty cache, say why it takes so long: before
    anything large is imported, since that may take many seconds by itself.
    """
    words = list(takewhile(str.isalpha, tokens))[: 2 if tokens[:1] == ["data"] else 1]
    if not words or words[0] not in _SLOW or {"--help", "-h", "--version"} & set(tokens):
        return
    mark = cache_folder() / "used" / f"{'-'.join(words)}-{__version__}"
    if mark.exists():
        return
    tell(
        f"first use of pomona {' '.join(words)}: libraries are loaded and loops compiled for this "
        "processor, which later runs need not do"
    )
    with suppress(OSError):  # a cache that cannot be written is told of every time
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

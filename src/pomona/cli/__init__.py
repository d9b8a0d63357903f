"""The commands: one file a group, no logic."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with `arguments` (the process's own if None). Returns its exit code: 0, 1, 2
    or 130.
    """
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # NumPy's would be one for each core, and wait actively
    from pomona.cli._app import app
    from pomona.cli._errors import guarded

    tokens = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: app(tokens, exit_on_error=False, print_error=False, verbose=False))

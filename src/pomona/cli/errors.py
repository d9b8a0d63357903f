"""What ends the program early, told in a line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from pomona.errors import Later, PomonaError, first_line
from pomona.workspace import is_full

INTERRUPTED = 130
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_MEMORY = ("can't allocate memory", "out of memory")


def tell(text: str) -> None:
    """A line on stderr, without characters that could steer a terminal."""
    sys.stderr.write(
        "".join(letter if letter.isprintable() else "\ufffd" for letter in text) + "\n"
    )


def guarded(command: Callable[[], Any]) -> int:
    """The exit code of `command`: what it returns, or what its error stands for. Only an error we
    do not know shows a traceback.
    """
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        tell("interrupted; the same command goes on with what is finished")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough: no failure of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:  # rich ends the program where it finds that reader gone
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        raise
    except PomonaError as error:
        head = "" if isinstance(error, Later) else "error: "
        for line in str(error).splitlines():
            tell(f"{head}{line}")
        return error.exit_code
    except Exception as error:
        return _others(error)
    return code if isinstance(code, int) else 0


def _others(error: Exception) -> int:
    from cyclopts import CycloptsError

    if isinstance(error, CycloptsError):
        from pomona.cli.foreign import hints

        chain, tokens = error.command_chain or (), error.root_input_tokens or ()
        for line in hints(chain, tokens) or [_usage(error)]:
            tell(f"error: {line}")
        return 2
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _MEMORY):
        tell(
            "error: out of memory — close other programs, or use a smaller model or shorter "
            "answers; finished steps are kept"
        )
        return 1
    if is_full(error):
        tell(
            f"error: the disk is full{_file(error)} — free some space and run again: "
            "finished steps are kept"
        )
        return 1
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        tell(
            f"error: no permission to write or read{_file(error)} — choose another folder, "
            "or change its permissions"
        )
        return 2
    if isinstance(error, OSError) and error.errno in _NO_PATH:
        tell(f"error: {first_line(error)} — give another path")
        return 2
    import traceback

    traceback.print_exception(error)
    return 1


def _usage(error: Any) -> str:
    """What is wrong with a command line."""
    from cyclopts import UnusedCliTokensError

    unused = error.unused_tokens if isinstance(error, UnusedCliTokensError) else None
    if not unused:  # an unknown option or command has its nearest name told
        return " ".join(str(error).split())
    remedy = "leave it out; an option of several values is given with each: --name ONE --name TWO"
    return f'"{unused[0]}" belongs to no option — {remedy}'


def _file(error: Exception) -> str:
    named = getattr(error, "filename", None)
    return f": {named}" if named else ""

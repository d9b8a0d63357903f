"""`pomona doctor`."""

from __future__ import annotations

from dataclasses import asdict

from pomona.cli._out import Format, Out


def doctor(*, format: Format = "human") -> int:
    """Show what this installation has. The exit code is 1 if something that Pomona needs is broken.

    Parameters
    ----------
    """
    from pomona.cli._facts import facts

    found = list(facts())
    marks = {"ok": "", "absent": "absent", "broken": "BROKEN"}
    shown = [{"what": fact.what, "state": marks[fact.state], "value": fact.value} for fact in found]
    Out(format).table([asdict(fact) for fact in found], shown)
    return int(any(fact.state == "broken" for fact in found))

from __future__ import annotations

import sys
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.tasks import harness


def test_a_missing_package_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, fake: Any
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    message = (
        "lm_eval must be installed for tasks of lm-evaluation-harness"
        r" — pip install 'pomona\[harness\]'"
    )
    with pytest.raises(PomonaError, match=message):
        harness.harness_task("hellaswag")
    with pytest.raises(PomonaError, match=message):
        harness.harness_model(fake())

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pomona.models import Request
from pomona.synth.pipeline import pool


def shout(request: Request, index: int, temperature: float) -> str:
    return str(request.messages[0]["content"]).upper() + "!" * index


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, fake: Any) -> dict[str, Any]:
    """Models by their URI, which recipes name."""
    known: dict[str, Any] = {"m": fake(shout, name="m")}

    def load(uri: str, **settings: Any) -> Any:
        known[uri].settings = settings
        return known[uri]

    monkeypatch.setattr(pool, "load", load)
    return known


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """A recipe on so many rows, or on texts, whose languages take turns."""

    def write(recipe: str, rows: int = 12, texts: list[str] | None = None, data: str = "") -> Path:
        texts = texts or [f"text {at}" for at in range(rows)]
        lines = [
            json.dumps({"id": f"r{at}", "text": text, "lang": ("af", "be")[at % 2]}) + "\n"
            for at, text in enumerate(texts)
        ]
        (tmp_path / "in.jsonl").write_text("".join(lines))
        path = tmp_path / "r.yaml"
        path.write_text(f"data: {{rows: in.jsonl, id: id{data}}}\n{recipe}")
        return path

    return write

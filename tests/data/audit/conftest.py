"""A small parallel corpus with every kind of fault, audits drawn from it, and a browser."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.data.audit import sample_audit

GOOD = {
    "de": "Öffnen Sie die Übersicht und wählen Sie das Fenster Nummer {}.",
    "ru": "Откройте обзор и выберите окно номер {} из списка слева.",
    "ja": "概要を開いて左の一覧からウィンドウ {} を選択してください。",
    "tr": "Open the overview and choose window number {} from the list.",
}


def _corpus(rows: int = 40) -> pa.Table:
    found = []
    for lang, text in GOOD.items():
        for place in range(rows):
            english = GOOD["tr"].format(place)
            found.append(
                {
                    "id": f"{lang}-{place}",
                    "lang": lang,
                    "english": english,
                    "text": text.format(place),
                }
            )
    return pa.Table.from_pylist(found)


@pytest.fixture
def corpus() -> Callable[..., pa.Table]:
    """`corpus(rows=40)`: so many rows in each of four languages; tr was never translated."""
    return _corpus


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """An audit of ten rows a language, unlabelled."""
    sample_audit(_corpus(), tmp_path / "audit", english="english", n=10)
    return tmp_path / "audit"


@pytest.fixture
def edit(audit: Path) -> Callable[[Callable[[list[list[str]]], Any]], Path]:
    """`edit(change)`: let `change` alter the rows of `labels.csv` (the header first) as a person
    would; the audit's folder.
    """

    def edited(change: Callable[[list[list[str]]], Any]) -> Path:
        path = audit / "labels.csv"
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        change(rows)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        return audit

    return edited

"""Tables in and out: Parquet, JSONL, CSV and Hugging Face dataset folders, local or s3://, lazily, with bad rows named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pomona.records._read import read as read
    from pomona.records._records import Records as Records
    from pomona.records._write import write as write

_HOMES = {"Records": "_records", "read": "_read", "write": "_write"}
__all__ = ["Records", "read", "write"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

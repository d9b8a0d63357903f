"""The server: any model and sampling strategy behind the OpenAI API."""

from __future__ import annotations

from pomona.serve.app import application
from pomona.serve.run import listening, open_models, run
from pomona.serve.settings import Settings, check_host, parse_size, read_keys

__all__ = [
    "Settings",
    "application",
    "check_host",
    "listening",
    "open_models",
    "parse_size",
    "read_keys",
    "run",
]

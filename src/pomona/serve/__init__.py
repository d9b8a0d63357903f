"""The server: any model and sampling strategy behind the OpenAI API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.serve.app import (
        application as application,
        open_models as open_models,
        run as run,
    )
    from pomona.serve.settings import (
        ServeSettings as ServeSettings,
        check_host as check_host,
        parse_size as parse_size,
        read_keys as read_keys,
    )
    from pomona.serve.starting import Server as Server, serve as serve

__getattr__, __dir__ = lazily(
    __name__,
    {
        "app": "application open_models run",
        "settings": "ServeSettings check_host parse_size read_keys",
        "starting": "Server serve",
    },
)

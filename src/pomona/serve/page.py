"""The page to try prompts on, and the description of the API, as they are served."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files


@cache
def page() -> tuple[bytes, str]:
    """The page, and the policy that lets it run its own script only and talk to its own server
    only.
    """
    text = files("pomona.serve").joinpath("page.html").read_text(encoding="utf-8")
    script = text.partition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        text.encode(),
        (
            f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'; "
            "connect-src 'self'; img-src data:"
        ),
    )


@cache
def schema() -> bytes:
    """The OpenAPI description of the server."""
    return files("pomona.serve").joinpath("openapi.json").read_bytes()

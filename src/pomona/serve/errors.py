"""Everything that goes wrong, as the OpenAI API says it: a status and
`{"error": {message, type, param, code}}`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.answers import BudgetSpent
from pomona.errors import PomonaError
from pomona.models.chat.errors import ModelError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """What a client is told. `param` is the field of its request that is wrong, `code` a short name
    for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = (
            status,
            message,
            param,
            code,
            dict(headers or {}),
        )

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        kind = _TYPES.get(self.status) or (
            "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        }


class ClientGone(Exception):
    """Nobody reads the answer any more."""


def wrong(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """The error of a field: status 400."""
    return ApiError(400, message, param=param, code=code)


def api_error(error: BaseException, timeout: float) -> ApiError | None:
    """What to tell a client about `error`; None for an error that only a mistake in this program
    can raise.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ModelError):
        headers = {}
        if error.status == 429:
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1.0)))
        code = error.code or {
            502: "upstream_failed",
            504: "upstream_timeout",
            429: "rate_limit_exceeded",
        }.get(error.status)
        return ApiError(error.status, str(error), code=code, headers=headers)
    if isinstance(error, BudgetSpent):
        return ApiError(400, str(error), param="pomona.budget", code="budget_spent")
    if isinstance(error, PomonaError) and not isinstance(
        error.where, Path
    ):  # with a path it is about a file of the server
        return ApiError(
            400 if error.exit_code == 2 else 502,
            str(error),
            code="invalid_value" if error.exit_code == 2 else "failed",
        )
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return ApiError(
            504, f"no answer within {timeout:g} s — ask for fewer tokens or samples", code="timeout"
        )
    return None


def unknown_failure() -> ApiError:
    """What a client hears of a mistake in this program; the log has the rest."""
    return ApiError(
        500,
        "the server failed; its log has the reason under this request's id",
        code="internal_error",
    )

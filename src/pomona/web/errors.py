"""What a client is told when something goes wrong, in the form of the OpenAI API: a status and
`{"error": {message, type, param, code}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

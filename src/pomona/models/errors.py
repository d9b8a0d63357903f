"""Why a model did not answer, with the HTTP status a server in front of it should give."""

from __future__ import annotations

from pomona.errors import PomonaError


class ModelError(PomonaError):
    """A request that cannot succeed, or one that all retries failed.

    `status` is what to answer a client: 400, 404, 413 or 422 where the request itself is wrong, 429
    where a limit was met, 502 where the model's side failed, 504 where it took too long. `upstream`
    is the status the model's server gave, None without one. `code` is a short name as in the OpenAI
    API (such as "context_length_exceeded"), and `retry_after` the seconds a server asked to wait.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        status: int,
        where: object = None,
        remedy: str | None = None,
        upstream: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.status, self.upstream, self.code, self.retry_after = (
            status,
            upstream,
            code,
            retry_after,
        )


def wrong_request(
    message: str, *, where: object = None, remedy: str | None = None, code: str | None = None
) -> ModelError:
    """The error of a request that no retry can help: status 400."""
    return ModelError(message, status=400, where=where, remedy=remedy, code=code)


def reason_of(error: BaseException) -> str:
    """The first line of what a library says, its class where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def too_long(tokens: int, context: int, name: str) -> ModelError:
    """The error of a prompt that leaves no room for an answer."""
    return wrong_request(
        f"the prompt has {tokens:,} tokens, and {name} takes {context:,} with the answer",
        remedy="shorten the messages, or use a model with a longer context",
        code="context_length_exceeded",
    )

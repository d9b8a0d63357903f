"""What every request must pass: its place, its token, its rate; and the headers of every answer."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from pomona.arena.annotating.people import Session
from pomona.web import ApiError, page_headers

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'"
_MOST_KNOWN = 20_000


class Rate:
    """So many requests at once, and so many a second after that, from each who asks."""

    def __init__(
        self, burst: int, each_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._each_second, self._clock = burst, each_second, clock
        self._known: dict[str, tuple[float, float]] = {}  # when, and how many are left
        self._lock = threading.Lock()

    def wait(self, who: str) -> float:
        """Seconds until `who` may ask, 0 for now."""
        return max(0.0, (1 - self._left(who)) / self._each_second)

    def count(self, who: str) -> None:
        """Count a request."""
        with self._lock:
            left = self._left(who) - 1
            if len(self._known) >= _MOST_KNOWN:
                self._forget()
            self._known[who] = self._clock(), left

    def check(self, who: str) -> None:
        """Count a request; ApiError 429 where it is one too many."""
        if wait := self.wait(who):
            raise too_many(wait)
        self.count(who)

    def _left(self, who: str) -> float:
        when, left = self._known.get(who, (self._clock(), float(self._burst)))
        return min(self._burst, left + (self._clock() - when) * self._each_second)

    def _forget(self) -> None:
        """Who could ask as much as anybody new need not be known; then whoever came first."""
        for who in [who for who in self._known if self._left(who) >= self._burst]:
            del self._known[who]
        while len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]


def too_many(wait: float) -> ApiError:
    """The refusal of whoever asks too often."""
    seconds = str(int(wait) + 1)
    message = f"too many requests: try again in {seconds} s"
    return ApiError(429, message, code="too_many", headers={"retry-after": seconds})


def check_origin(request: Request, url: str) -> None:
    """ApiError 403 where another page makes this browser ask. `url` is the address that people
    open, where it is another than the one that is asked here.
    """
    origin, site = (request.headers.get(name) for name in ("origin", "sec-fetch-site"))
    ours = {request.headers.get("host", "").lower(), urlsplit(url).netloc.lower()} - {""}
    # As browsers write it; a text that is no address at all is nobody's.
    known = origin is None or origin.lower().partition("://")[2] in ours
    if not known or site not in (None, "same-origin", "none"):
        raise ApiError(403, "another page sent this form: open the arena itself", code="origin")


def check_token(session: Session, given: str) -> None:
    """ApiError 403 where a form does not hold the session's token."""
    if not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise ApiError(403, "the form is of another session: open the page again", code="csrf")


def secure(response: Response, policy: str | None = None) -> None:
    """Say what a page may do, that nobody may hold it in a frame or keep it, and what it is."""
    response.headers.update(page_headers(policy or _NOTHING))
    response.headers.setdefault("cache-control", "no-store")
    response.headers.update(
        {
            "x-content-type-options": "nosniff",
            "cross-origin-opener-policy": "same-origin",
            # Without any referrer browsers do not say which page a form is from either.
            "referrer-policy": "same-origin",
        }
    )

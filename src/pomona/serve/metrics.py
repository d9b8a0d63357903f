"""Counts and times of requests, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from functools import partial

import prometheus_client as prometheus

from pomona.models import Spent

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_COSTS = ("prompt_tokens", "completion_tokens", "flops", "money")


class Gate:
    """Places for the requests of one model. `inside` are under way or waiting; who finds all `most`
    taken is turned away.
    """

    def __init__(self, most: int) -> None:
        self.most, self.inside, self.refused = most, 0, 0
        self._seconds = 1.0

    def enter(self) -> bool:
        """Take a place; False when there is none."""
        if self.inside >= self.most:
            self.refused += 1
            return False
        self.inside += 1
        return True

    def leave(self, seconds: float) -> None:
        """Give the place back after so many seconds."""
        self.inside -= 1
        self._seconds += 0.1 * (seconds - self._seconds)

    @property
    def retry_after(self) -> int:
        """Seconds after which a place should be free: what a request took lately, from 1 to 60."""
        return int(min(60.0, max(1.0, round(self._seconds))))


class Metrics:
    """What the server has done since its start."""

    def __init__(self) -> None:
        prometheus.disable_created_metrics()  # a series more for each, which nobody asks for
        # Its own registry: the library's has the process, and mixes the servers of one process.
        own = self._registry = prometheus.CollectorRegistry()
        counter = partial(prometheus.Counter, registry=own)
        gauge = partial(prometheus.Gauge, registry=own)
        labels = ("model", "route", "status")
        about = "Requests answered; 499 is a client that left."
        self._requests = counter("pomona_requests", about, labels)
        self._seconds = prometheus.Histogram(
            "pomona_request_seconds",
            "Time from the request to the end of its answer.",
            ("model",),
            registry=own,
            buckets=_BUCKETS,
        )
        about = "of all samples and judges."
        self._costs = {
            kind: counter(f"pomona_{kind}", f"{kind.replace('_', ' ')} {about}", ("model",))
            for kind in _COSTS
        }
        self._inside = gauge("pomona_requests_in_flight", "Requests under way or waiting.")
        about = "Requests of one model that may be under way or waiting."
        self._limit = gauge("pomona_queue_limit", about)
        about = "Requests turned away with status 429."
        self._refused = counter("pomona_requests_refused", about)

    def done(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one request. `model` must be one of ours or empty: clients do not choose labels."""
        self._requests.labels(model, route, str(status)).inc()
        self._seconds.labels(model).observe(seconds)

    def paid(self, model: str, spent: Spent) -> None:
        """Count what an answer cost."""
        for kind, counter in self._costs.items():
            counter.labels(model).inc(getattr(spent, kind))

    def text(self, *gates: Gate) -> str:
        """All of it, with how full these gates are."""
        self._inside.set(sum(gate.inside for gate in gates))
        self._limit.set(max(gate.most for gate in gates))
        self._refused.reset()
        self._refused.inc(sum(gate.refused for gate in gates))
        return prometheus.generate_latest(self._registry).decode()

"""Counts and times of requests, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pomona.models.chat.protocol import Spent

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_Labels = tuple[tuple[str, str], ...]


class Gate:
    """Places for requests. `inside` are under way or waiting for a model; who finds all `most`
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
        self._requests: defaultdict[_Labels, int] = defaultdict(int)
        self._times: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._spent: defaultdict[str, Spent] = defaultdict(Spent)

    def done(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one request. `model` must be one of ours or empty: clients do not choose labels."""
        self._requests[("model", model), ("route", route), ("status", str(status))] += 1
        buckets = self._times.setdefault(model, [0] * (len(_BUCKETS) + 1))
        buckets[bisect.bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[model] += seconds

    def paid(self, model: str, spent: Spent) -> None:
        """Count what an answer cost."""
        self._spent[model] += spent

    def text(self, gate: Gate) -> str:
        """All of it."""
        lines = [
            *_family(
                "pomona_requests_total",
                "counter",
                "Requests answered; 499 is a client that left.",
                self._requests,
            )
        ]
        lines += self._histogram()
        for kind in ("prompt_tokens", "completion_tokens", "flops", "money"):
            values = {
                (("model", model),): getattr(spent, kind) for model, spent in self._spent.items()
            }
            lines += _family(
                f"pomona_{kind}_total",
                "counter",
                f"{kind} of all samples and judges.".replace("_", " "),
                values,
            )
        lines += _family(
            "pomona_requests_in_flight",
            "gauge",
            "Requests under way or waiting.",
            {(): gate.inside},
        )
        lines += _family(
            "pomona_queue_limit",
            "gauge",
            "Requests that may be under way or waiting.",
            {(): gate.most},
        )
        lines += _family(
            "pomona_requests_refused_total",
            "counter",
            "Requests turned away with status 429.",
            {(): gate.refused},
        )
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterable[str]:
        name = "pomona_request_seconds"
        yield f"# HELP {name} Time from the request to the end of its answer."
        yield f"# TYPE {name} histogram"
        for model, buckets in self._times.items():
            total = 0
            for bound, count in zip((*_BUCKETS, "+Inf"), buckets, strict=True):
                total += count
                yield f"{name}_bucket{_labels((('le', str(bound)), ('model', model)))} {total}"
            yield f"{name}_sum{_labels((('model', model),))} {self._seconds[model]:.6f}"
            yield f"{name}_count{_labels((('model', model),))} {total}"


def _family(name: str, kind: str, about: str, values: Mapping[_Labels, float]) -> list[str]:
    return [
        f"# HELP {name} {about}",
        f"# TYPE {name} {kind}",
        *(f"{name}{_labels(labels)} {value}" for labels, value in values.items()),
    ]


def _labels(labels: _Labels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return (
        "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"
        if labels
        else ""
    )

"""Metrics as Prometheus reads them, and the places of the queue."""

from __future__ import annotations

from hypothesis import given, strategies as st

from pomona.models import Spent
from pomona.serve.metrics import Gate, Metrics


@given(st.lists(st.floats(0, 200), min_size=1))
def test_buckets_are_cumulative_and_end_with_the_count(times: list[float]) -> None:
    metrics = Metrics()
    for seconds in times:
        metrics.done("/v1", "a", 200, seconds)
    rows = dict(
        line.rsplit(" ", 1)
        for line in metrics.text(Gate(1)).splitlines()
        if not line.startswith("#")
    )
    buckets = {
        name.split('"')[1]: float(value) for name, value in rows.items() if "_bucket" in name
    }
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["+Inf"] == len(times) == float(rows['pomona_request_seconds_count{model="a"}'])
    assert all(
        count == sum(seconds <= float(bound) for seconds in times)
        for bound, count in buckets.items()
    )


def test_costs_add_up_by_model_and_labels_are_escaped() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.paid('a"b\\', Spent(3, 4, 5.0, 0.5))
    text = metrics.text(Gate(7))
    assert 'pomona_prompt_tokens_total{model="a\\"b\\\\"} 6' in text
    assert 'pomona_flops_total{model="a\\"b\\\\"} 10.0' in text
    assert "pomona_queue_limit 7" in text


def test_a_gate_lets_no_more_in_than_it_has_places_for() -> None:
    gate = Gate(2)
    assert [gate.enter() for _ in range(3)] == [True, True, False]
    gate.leave(500.0)
    assert gate.enter()
    assert 1 <= gate.retry_after <= 60

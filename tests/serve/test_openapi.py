"""The description of the API is true: what is generated from it is never answered with a 500 or in
another shape.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import House

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SUPPRESSED: Any = list(HealthCheck)
EXAMPLES = int(os.environ.get("POMONA_FUZZ", "6"))


def _schema(house: House) -> Any:
    """The server's description, with its model's name in place of any text."""
    described: Any = house.client.get("/openapi.json").json()
    for name, schema in described["components"]["schemas"].items():
        if name.endswith("Request") and "model" in schema["properties"]:
            schema["properties"]["model"] = {
                "enum": ["fake", "fake@hedged5-mbr", "fake@greedy", "other"]
            }
            for held in ("response_format", "tool_choice", "text"):  # `fake` says no JSON: a 502
                schema["properties"].pop(held, None)
    return schemathesis.openapi.from_dict(described)


POSTS = [
    (f"/v1/{name}", "POST")
    for name in ("chat/completions", "completions", "responses", "embeddings", "feedback", "memory")
]
GETS = [(path, "GET") for path in ("/v1/models/{name}", "/v1/models", "/healthz", "/metrics")]
PATHS = [*POSTS, ("/v1/feedback", "DELETE"), ("/v1/memory/{row}", "DELETE"), *GETS]


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("path", "method"), PATHS)
def test_no_request_finds_a_500(house: House, path: str, method: str, mode: str) -> None:
    operation = _schema(house)[path][method]
    wanted = (
        schemathesis.GenerationMode.POSITIVE
        if mode == "positive"
        else schemathesis.GenerationMode.NEGATIVE
    )
    if mode == "negative" and method == "GET":
        return

    @given(case=operation.as_strategy(generation_mode=wanted))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=SUPPRESSED,
    )
    def run(case: Any) -> None:
        response = case.call(base_url=house.url)
        case.validate_response(response, checks=CHECKS)

    run()

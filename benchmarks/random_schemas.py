"""Random JSON Schemas for benchmarks/constrained.py: what hypothesis-jsonschema makes of draft 7's own
schema, two levels deep, without those of which it knows that nothing fulfils them. In an
environment of its own, with hypothesis-jsonschema 0.23.1 and jsonschema; it takes minutes.

python benchmarks/random_schemas.py --count 500 --out schemas.jsonl
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings  # pyright: ignore
from hypothesis.errors import FlakyStrategyDefinition  # pyright: ignore
from hypothesis_jsonschema import from_schema  # pyright: ignore
from hypothesis_jsonschema._canonicalise import FALSEY, canonicalish  # pyright: ignore
from jsonschema import Draft7Validator

META: Any = Draft7Validator.META_SCHEMA
LEVELS, SEED = 2, 7
REFERENCES = {"$ref", "$id", "$schema"}


def unrolled(node: Any, depth: int) -> Any:
    """A part of draft 7's schema with its references written out."""
    if isinstance(node, list):
        return [unrolled(one, depth) for one in node]
    if not isinstance(node, dict):
        return node
    reference = str(node.get("$ref", ""))
    if reference == "#":
        return level(depth - 1)
    if reference.startswith("#/definitions/"):
        return unrolled(META["definitions"][reference.rpartition("/")[2]], depth)
    return {name: unrolled(one, depth) for name, one in node.items() if name != "default"}


def level(depth: int) -> dict[str, Any]:
    """The schema of schemas with so many levels of schemas in them."""
    named = {
        name: one
        for name, one in META["properties"].items()
        if name not in REFERENCES
        and (depth or not any(text in json.dumps(one) for text in ('"#"', "schemaArray")))
    }
    bare = {"type": ["object", "boolean"], "properties": named, "additionalProperties": False}
    return unrolled(bare, depth)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--out", type=Path, required=True)
    wanted = options.parse_args()
    found: dict[str, bool] = {}

    def collect(first: int) -> None:
        """Some more, from a seed of their own: after some hundreds the library draws otherwise than
        before, which hypothesis takes for a mistake of ours.
        """

        @seed(first)
        @settings(
            max_examples=50,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),  # pyright: ignore
            phases=[Phase.generate],
        )
        @given(from_schema(level(LEVELS)))
        def keep(schema: Any) -> None:
            if canonicalish(schema) != FALSEY:
                found[json.dumps(schema)] = True

        with suppress(FlakyStrategyDefinition):
            keep()

    for first in count(SEED):
        if len(found) >= wanted.count:
            break
        collect(first)
    wanted.out.write_text("".join(f"{text}\n" for text in list(found)[: wanted.count]))


if __name__ == "__main__":
    main()

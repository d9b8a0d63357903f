"""Answers held to random JSON Schemas: how many are valid, and what a token costs beside a free one.

python benchmarks/constrained.py --model ui-s --schemas 500
python benchmarks/constrained.py --from schemas.jsonl  # of benchmarks/random_schemas.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _machine import machine
from jsonschema import Draft7Validator, Draft202012Validator

from pomona.models import ModelError, Reply, Request, load
from pomona.models.torch.held import HeldRow

NAMES = ("name", "age", "Größe", "a b", "x-y", "id", "list", "$k", "日")
VALUES = (1, 2.5, "a", "bé", '"q"', None, True, [1, 2], {"x": 1}, "line\nbreak", "日本")
PATTERNS = (r"^[a-z]{2,5}$", r"^\d{4}-\d{2}$", r"^(ja|nein)$", "[0-9]+", "^[A-Z][a-z]*$")
FORMATS = ("date", "time", "date-time", "uuid", "email", "ipv4")


def random_schema(draw: random.Random, depth: int, *, top: bool = False) -> dict[str, Any]:
    """A schema of at most so many levels, of the keywords that programs write."""
    parts = ["array", "object", "object", "anyOf"]
    leaves = ["null", "boolean", "integer", "number", "string", "enum", "const", "types"]
    kind = draw.choice(parts if top else leaves + parts * (depth > 0))
    schema: dict[str, Any] = {"type": kind}
    low = draw.randint(-50, 50)
    match kind:
        case "integer" | "number":
            schema |= {"minimum": low} if draw.random() < 0.4 else {}
            schema |= {"maximum": low + draw.randint(2, 500)} if draw.random() < 0.6 else {}
        case "string":
            length = draw.randint(0, 5)
            more = [{"minLength": length, "maxLength": length + draw.randint(0, 20)}]
            more += [{"pattern": draw.choice(PATTERNS)}, {"format": draw.choice(FORMATS)}]
            schema |= draw.choice([*more, {"maxLength": 20}])
        case "enum":
            schema = {"enum": draw.sample(VALUES, draw.randint(1, 5))}
        case "const":
            schema = {"const": draw.choice(VALUES)}
        case "types":
            schema = {"type": draw.sample(["null", "integer", "boolean"], 2)}
        case "array":
            least = draw.randint(0, 2)
            schema |= {"items": random_schema(draw, depth - 1), "minItems": least}
            schema |= {"maxItems": least + draw.randint(0, 3)}
        case "object":
            names = draw.sample(NAMES, draw.randint(0, 4))
            schema["properties"] = {name: random_schema(draw, depth - 1) for name in names}
            schema["required"] = draw.sample(names, draw.randint(0, len(names)))
            schema["additionalProperties"] = False
        case "anyOf":
            several = [random_schema(draw, depth - 1) for _ in range(draw.randint(1, 3))]
            schema = {"anyOf": several}
    if top and draw.random() < 0.2:
        inner = {
            "value": random_schema(draw, 1),
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        }
        node = {
            "type": "object",
            "properties": inner,
            "required": list(inner),
            "additionalProperties": False,
        }
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}
    return schema


def verdict(reply: Reply, schema: Any) -> str:
    """Whether an answer fulfils its schema, of draft 7 and of draft 2020-12 where that can read it,
    and whether the limit ended it.
    """
    ended = "" if reply.finish_reason == "stop" else ", ended by the limit"
    try:
        value = json.loads(reply.text)
    except ValueError:
        return "cut" if ended else "no JSON"
    found = Draft7Validator(schema).is_valid(value)
    if '"items": [' not in json.dumps(schema):
        found = found and Draft202012Validator(schema).is_valid(value)
    return ("valid" if found else "invalid") + ended


def timed() -> list[float]:
    """Seconds and tokens that rows of torch spend on their grammar, from now on."""
    spent = [0.0, 0.0]
    for name in ("__call__", "take"):
        plain = getattr(HeldRow, name)

        def work(row: Any, given: Any, plain: Any = plain, count: int = name == "take") -> Any:
            started = time.thread_time()
            found = plain(row, given)
            spent[0] += time.thread_time() - started
            spent[1] += count
            return found

        setattr(HeldRow, name, work)
    return spent


async def measured(uri: str, schemas: list[Any], tokens: int, temperature: float) -> dict[str, Any]:
    model, masks = load(uri), timed()
    found: Counter[str] = Counter()
    bad, cost = [], {"held": [0.0, 0], "free": [0.0, 0]}
    prompt = "<|de|>Save the page<|to|>" if uri.startswith("ui") else "Answer with JSON."
    bare = Request(messages=({"role": "user", "content": prompt},), max_tokens=tokens)
    for at, schema in enumerate(schemas):
        request = Request(bare.messages, max_tokens=tokens, seed=at, schema=schema)
        started = time.process_time()
        try:
            (reply,) = await model.reply(request, [(0, temperature)])
        except ModelError as error:
            found["refused"] += 1
            bad.append((at, "refused", str(error)[:200]))
            continue
        cost["held"][0] += time.process_time() - started
        cost["held"][1] += reply.spent.completion_tokens
        if at % 50 == 49:
            print(at + 1, dict(found), file=sys.stderr, flush=True)
        said = verdict(reply, schema)
        found[said] += 1
        if not said.startswith("valid"):
            bad.append((at, said, reply.text[:200]))
    for at in range(20):
        request = Request(bare.messages, max_tokens=tokens, seed=at)
        started = time.process_time()
        (reply,) = await model.reply(request, [(0, 1.0)])
        cost["free"][0] += time.process_time() - started
        cost["free"][1] += reply.spent.completion_tokens
    await model.close()
    each = {name: round(1e3 * spent / count, 3) for name, (spent, count) in cost.items()}
    return {
        "answers": dict(found),
        "cpu_ms_a_token": each,
        "tokens": {name: int(count) for name, (_, count) in cost.items()},
        "grammar_us_a_token": round(1e6 * masks[0] / max(masks[1], 1), 1),
        "bad": bad,
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="ui-s")
    options.add_argument("--schemas", type=int, default=500)
    options.add_argument("--tokens", type=int, default=300)
    options.add_argument("--temperature", type=float, default=1.0)
    options.add_argument("--from", dest="file", type=Path, help="JSON Lines of schemas")
    given = options.parse_args()
    schemas = [random_schema(random.Random(at), 3, top=True) for at in range(given.schemas)]
    if given.file:
        schemas = [*map(json.loads, given.file.read_text().splitlines())][: given.schemas]
    work = measured(given.model, schemas, given.tokens, given.temperature)
    print(json.dumps({"machine": machine(), **asyncio.run(work)}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()

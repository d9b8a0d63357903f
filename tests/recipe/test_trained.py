"""Sizes that are trained for several numbers of tokens: the table that `pomona scale fit` reads."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from pomona import models, recipe
from pomona.errors import PomonaError

RECIPE = """\
name: sizes
data: {records: rows.jsonl, group: group}
task: {where: {split: test}, tail: 1, max_new_tokens: 2, metric: exact_match}
base: small
ladder: [small]
pretrain:
  where: {split: train}
  tokenizer: ui-tokenizer
  sizes:
    small: {hidden: 16, layers: 1, heads: 2, intermediate: 32}
    larger: {hidden: 32, layers: 1, heads: 2, intermediate: 32}
  tokens: [600, 300]
  also: model
  batch_tokens: 128
  learning_rate: 1.0e-2
"""


def run(project: Path) -> Path:
    training = {"tokens": 5000, "flops": 1.5e9, "settings": {"learning_rate": 0.5}}
    (project / "model" / "training.json").write_text(json.dumps(training))
    (project / "sizes.yaml").write_text(RECIPE)
    return recipe.run(project / "sizes.yaml", project / "run")


def test_every_size_is_trained_for_every_number_of_tokens(project):
    trained = run(project)
    with (trained / "training-runs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    overall = [row for row in rows if row["part"] == "overall"]
    assert {row["part"] for row in rows} >= {"overall", "head", "tail", "de", "fr", "af"}
    assert [row["size"] for row in overall] == ["small", "small", "model", "larger", "larger"]

    small, known = overall[:2], overall[2]  # as large, and trained for more
    assert (known["tokens"], known["flops"], known["learning_rate"]) == (
        "5000",
        "1500000000.0",
        "0.5",
    )
    assert known["unique_tokens"] == known["seed"] == ""  # its training does not say
    assert 300 <= int(small[0]["tokens"]) < 600 <= int(small[1]["tokens"])
    assert small[0]["unique_tokens"] == small[1]["unique_tokens"]
    assert int(small[0]["params"]) > int(small[0]["params_no_embedding"]) > 0

    # The longest is what the recipe calls by the name of the size.
    steps = json.loads((trained / "manifest.json").read_text())["steps"]
    network = models.load(str(trained / "steps" / steps["pretrain small"] / "model"))
    items = [json.loads(line) for line in (project / "rows.jsonl").read_text().splitlines()]
    items = [row for row in items if row["split"] == "test"]
    texts = [row["completion"] for row in items]
    scores = network.score([row["prompt"] for row in items], texts, end=True)
    nats = -sum(float(each.sum()) for each in scores)
    assert float(small[1]["loss"]) == pytest.approx(nats / sum(map(len, scores)), rel=1e-5)
    without = -sum(float(each[:-1].sum()) for each in scores) / math.log(2)
    read = sum(len(text.encode()) for text in texts)
    assert float(small[1]["bits_per_byte"]) == pytest.approx(without / read, rel=1e-5)
    assert float(small[1]["loss_low"]) < float(small[1]["loss"]) < float(small[1]["loss_high"])

    # A recipe that trains nothing takes the table away.
    keep = [line for line in RECIPE.splitlines() if not line.startswith(("pretrain", "  "))]
    (project / "sizes.yaml").write_text("\n".join(keep).replace("small", "model"))
    recipe.run(project / "sizes.yaml", trained)
    assert not (trained / "training-runs.csv").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("tokens: [600, 300]", "tokens: [600, 600]", "a count stands twice"),
        ("tokens: [600, 300]", "tokens: []", '"tokens" must not be empty'),
        ("also: model", "also: small", '"small" is one of the sizes'),
        ("also: model", "also: http://127.0.0.1:9/v1#m", "is no folder of a checkpoint"),
    ],
)
def test_tokens_and_checkpoints_that_make_no_sense_are_refused(project, right, wrong, said):
    (project / "sizes.yaml").write_text(RECIPE.replace(right, wrong))
    with pytest.raises(PomonaError, match=said):
        recipe.dry_run(project / "sizes.yaml", project / "run")

"""Real votes, where they are beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import pomona.arena
from pomona.arena import Votes, read_votes
from pomona.records import read


def _data(name: str) -> Path:
    for folder in (Path(__file__).resolve(), Path(pomona.arena.__file__).resolve(), Path.cwd()):
        for parent in folder.parents:
            if (file := parent / "shared" / "data" / name).exists():
                return file
    pytest.skip("the fact tables are not beside the checkout")


@pytest.fixture(scope="session")
def llmfao_folder() -> Path:
    """The folder of LLMFAO (Ustalov 2023): votes of people, verdicts of models, completions."""
    return _data("llmfao")


@pytest.fixture(scope="session")
def llmfao(llmfao_folder: Path) -> Votes:
    """8,931 votes of 124 people on 2,139 items: 13 prompts, 59 models."""
    return read_votes(llmfao_folder / "crowd-comparisons.csv")


@pytest.fixture(scope="session")
def llmfao_written(llmfao_folder: Path) -> pa.Table:
    """The same votes as a table with prompt, completion_a and completion_b as texts, and item,
    prompt_id and voter.
    """
    votes = read(llmfao_folder / "crowd-comparisons.csv").to_table().to_pylist()
    pairs = {
        row["id"]: row for row in read(llmfao_folder / "pairs-crowd.jsonl").to_table().to_pylist()
    }
    models = {
        row["id"]: row["name"]
        for row in read(llmfao_folder / "models.jsonl").to_table().to_pylist()
    }
    rows = []
    for vote in votes:
        pair = pairs[int(vote["id"])]
        said = {models[pair[f"model_{side}"]]: pair[f"result_{side}"] for side in "xy"}
        rows.append(
            {
                "model_a": vote["left"],
                "model_b": vote["right"],
                "winner": vote["winner"],
                "item": vote["id"],
                "prompt": pair["text"],
                "prompt_id": vote["prompt"],
                "voter": vote["worker"],
                "completion_a": said[vote["left"]],
                "completion_b": said[vote["right"]],
            }
        )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="session")
def leaderbot() -> Votes:
    """1,670,250 votes on 129 models as counts of pairs (leaderbot's, BSD-3-Clause)."""
    return read_votes(_data("leaderbot_chatbotarena_20240814_pairs.csv"))

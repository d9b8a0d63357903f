"""A model as what is profiled: its answers to prompts, drawn once and kept, and what it prefers of
two texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.answers import Account, Answer, BudgetSpent, answer_rows, draw, forecaster, text_of
from pomona.errors import PomonaError
from pomona.models import Model, Request, Spent, load
from pomona.records import Where, read

_TABLES = re.compile(r"[*?]|\.(?:parquet|jsonl|ndjson|csv)(?:\.\w+)?$|^s3://", re.IGNORECASE)
PAIRS = (("stereotype", "antistereotype"), ("sent_more", "sent_less"))
_SCORED = 256  # texts a call


def is_model(side: Any) -> bool:
    """Whether a word names a model and no table."""
    if not isinstance(side, str) or _TABLES.search(side):
        return False
    if Path(side).is_dir():
        return (Path(side) / "config.json").is_file()
    return side != "ui" and not Path(side).exists()


@dataclass(frozen=True)
class Samples:
    """Answers rows with n samples of a model, the first of which is the answer."""

    n: int
    temperature: float

    operation = "profile"

    def parameters(self, models: Sequence[Model], judge: Model | None) -> dict[str, Any]:
        """See `Answerer`."""
        names = [model.identity for model in models]
        return {"models": names, "n": self.n, "temperature": self.temperature}

    async def answer(
        self, request: Request, models: Sequence[Model], judge: Model | None, account: Account
    ) -> Answer:
        """See `Answerer`."""
        plan = [(index, self.temperature) for index in range(self.n)]
        replies, met = await draw(models[0], request, plan, account)
        if not replies:
            raise BudgetSpent(met or "samples")
        spent = sum((reply.spent for reply in replies), Spent())
        scores = (0.0,) * len(replies)
        name = f"sample{self.n}"
        text = text_of(replies[0])
        return Answer(text, 0, tuple(replies), scores, spent, met or "complete", name, {})

    def forecast(self, request: Request, models: Sequence[Model], judge: Model | None) -> Spent:
        """See `Answerer`."""
        return forecaster(models[0], request)(self.n)


def answers_of(
    uri: str,
    prompts: Where,
    folder: Path,
    how: Samples,
    progress: Callable[[int, int], None] | None,
    **options: Any,
) -> Path:
    """The file of a model's answers to prompts, the column `candidates` of `FOLDER/MODEL.parquet`.

    All that was drawn is kept beside it, so nothing is drawn twice. Raises what `answer_rows` does.
    """
    name = re.sub(r"[^\w.@-]+", "-", uri).strip("-.") or "model"
    out = folder / f"{name}.parquet"
    answer_rows(prompts, out, how, model=uri, progress=progress, **options)
    return out


def preferred(uri: str, pairs: Where) -> NDArray[np.float64]:
    """For each pair of texts 1 where the model finds the first likelier, .5 where neither, else 0:
    by the sum of log-probabilities of each text's tokens after a new line.

    The texts are columns stereotype and antistereotype, or CrowS-Pairs' sent_more and sent_less.
    Raises PomonaError for other columns, a null, and a model that does not score texts.
    """
    records = read(pairs)
    names, where = records.column_names, str(records.source.where)
    columns = next((both for both in PAIRS if set(both) <= set(names)), None)
    if columns is None:
        message = "has no columns stereotype and antistereotype"
        raise PomonaError(message, where=where, remedy="rename those that hold the texts")
    rows = records.complete(texts=columns).select(*columns)
    table = rows.to_table().to_pylist()
    for row, pair in enumerate(table):
        for column in columns:
            if not isinstance(pair[column], str) or not pair[column].strip():
                message = f'column "{column}" has no text'
                raise PomonaError(message, where=rows.row_name(row), remedy="fill it")
    if not table:
        raise PomonaError("has no rows", where=where, remedy="give pairs of texts")
    model = load(uri, need=("score",))
    if "score" not in model.abilities:
        raise model.without("score")
    texts = [pair[column] for column in columns for pair in table]
    batches = [texts[start : start + _SCORED] for start in range(0, len(texts), _SCORED)]
    # Not every tokenizer has a start token, and something must predict the first one.
    scores = [one for batch in batches for one in model.score(["\n"] * len(batch), batch)]
    sums = [float(np.sum(one, dtype=np.float64)) for one in scores]
    first, second = np.array(sums[: len(table)]), np.array(sums[len(table) :])
    return np.where(first == second, 0.5, (first > second).astype(np.float64))

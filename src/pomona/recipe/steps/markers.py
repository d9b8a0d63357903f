"""The markers lever's work: rows get tags, prompts and completions lists of them, and answers lose
their lists again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from pomona.errors import PomonaError
from pomona.ledger import Meter
from pomona.markers import (
    AUTO,
    PREFIX,
    Marker,
    Taxonomy,
    Trained,
    Value,
    attach,
    begin,
    read_trained,
    split_list,
    tag,
    trained_of,
    training_rows,
    write_trained,
)
from pomona.recipe.steps import Cost, StepContext, checkpoint
from pomona.recipe.steps.answering import answer_flops, load_model
from pomona.recipe.steps.pools import distinct, read_pools, write_pools
from pomona.recipe.steps.results import BEGUN, Serving, made_here, read_rows, write_serving
from pomona.recipe.steps.tables import read_items, wanted_rows, write_items
from pomona.recipe.steps.training import train_and_save, trainable
from pomona.tasks import Items, fields_of, items_from

pc: Any = pyarrow.compute  # its stubs lack most functions

TAGS, GIVEN, INFERRED = "tags.parquet", "given.parquet", "inferred.parquet"
FILLED = "filled_"  # begins the columns of templates
WORDS = "in words"  # no name of a marker
_ROW, _ANSWER, _SOURCE = "row of the table", "answer of the item", "source of the item"
_PROMPT = "\0"  # where words have the prompt that is asked
_ALL = 1 << 30


def tag_items(step: StepContext) -> Cost:
    """What is known of each item, by the columns of its row and by measures, beside the templates
    that are filled with that row. No model is asked.
    """
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        rows = _rows_of(step, items)
        taxonomy = Taxonomy.model_validate(p["taxonomy"])
        model = step.inputs.get("model")
        tokenizer = None if model is None else str(checkpoint(model))
        said = _said(rows, taxonomy, p["columns"], strict=p["strict"])
        tags = tagged(step.scratch, taxonomy, items.sources, items.completions, said, tokenizer)
        tags = tags.add_column(0, "id", pa.array(items.ids, pa.string()))
        for name, template in p["templates"].items():
            texts = _filled(rows, template, {"prompt": _PROMPT} if name == WORDS else {})
            tags = tags.append_column(FILLED + name, pa.array(texts, pa.string()))
        pq.write_table(tags, step.out / TAGS, compression="zstd")
    # Nobody tags what is asked when it is served: these tags are what is compared with.
    write_serving(step.out, Serving(0.0, seconds_per_item=0.0))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def tagged(
    work: Path,
    taxonomy: Taxonomy,
    sources: Sequence[str],
    answers: Sequence[str],
    said: Mapping[str, pa.Array],
    tokenizer: str | None,
) -> pa.Table:
    """The tags of answers to sources: the columns `marker_NAME`, what each is from, and how sure;
    what is `said` of a marker comes before what is measured. A file of it stays in `work`.
    """
    own = {f"{name} of the row": values for name, values in said.items()}
    texts = {_SOURCE: pa.array(sources, pa.string()), _ANSWER: pa.array(answers, pa.string())}
    # Its columns are given here, under names that no text of a row can have.
    bare = {name: one.model_copy(update={"column": None}) for name, one in taxonomy.markers.items()}
    out = work / TAGS
    tag(
        pa.table({**texts, **own}), out, taxonomy=Taxonomy(markers=bare), prompt=_SOURCE,
        completion=_ANSWER, tokenizer=tokenizer,
        columns=[f"{name}={name} of the row" for name in said],
    )  # fmt: skip
    table = pq.read_table(out)
    return table.drop_columns([*texts, *own])


def _rows_of(step: StepContext, items: Items) -> pa.Table:
    """The row of the records that each item is made of."""
    p, table = step.params, wanted_rows(step).to_table()
    numbers = pa.array(map(str, range(table.num_rows)), pa.string())
    found = items_from(
        table.append_column(_ROW, numbers), p["prompt"], p["completion"], p["group"],
        source=p["source"], cluster=_ROW, options=p["options"],
    )  # fmt: skip
    places = dict(zip(found.ids, map(int, found.clusters), strict=True))
    return table.take([places[id_] for id_ in items.ids])


def _said(
    rows: pa.Table, taxonomy: Taxonomy, columns: Mapping[str, str], *, strict: bool
) -> dict[str, pa.Array]:
    """What the columns of rows say of markers: those that are named, else tags that are there
    already, else the taxonomy's own. Values outside the taxonomy are errors where it is `strict`,
    else nothing is said.
    """
    found = {}
    for name, marker in taxonomy.markers.items():
        column = source_of_marker(name, marker, columns, rows.column_names)
        if column is None or column not in rows.column_names:
            continue
        values = rows[column].combine_chunks()
        if marker.values and not strict:
            inside = pc.is_in(values.cast(pa.string()), pa.array(list(marker.values)))
            values = pc.if_else(inside, values, None)
        found[name] = values
    return found


def source_of_marker(
    name: str, marker: Marker, columns: Mapping[str, str], there: Sequence[str]
) -> str | None:
    """The column of the records that says a marker, None where none is named."""
    if name in columns:
        return columns[name]
    return PREFIX + name if PREFIX + name in there else marker.column


def _filled(rows: pa.Table, template: str, more: Mapping[str, str]) -> list[str | None]:
    """A template filled with each row; None where a column of it is null."""
    names = [name for name in fields_of(template) if name not in more]
    told = rows.select(names).to_pylist() if names else [{}] * rows.num_rows
    return [None if None in row.values() else template.format_map({**row, **more}) for row in told]


def write_lists(step: StepContext) -> Cost:
    """Items to train on: a list of all that is known before each completion, and behind a prompt
    none, or some of it. `markers.json` says with which markers, and what "auto" stands for.
    """
    items, p = read_items(step.inputs["items"]), step.params
    taxonomy = Taxonomy.model_validate(p["taxonomy"])
    with Meter() as meter:
        tags = read_rows(step.inputs["tags"] / TAGS, "id", *(PREFIX + n for n in taxonomy.listed))
        if all(tags[PREFIX + name].null_count == len(tags) for name in taxonomy.listed):
            remedy = "name columns that say them under `columns`"
            message = "none of the markers is known of any training row"
            raise PomonaError(message, where="levers.markers", remedy=remedy)
        texts = {"prompt": items.prompts, "completion": items.completions}
        table = tags
        for name, several in texts.items():
            table = table.append_column(name, pa.array(several, pa.string()))
        made = training_rows(
            table, taxonomy, prompt="prompt", completion="completion", id="id", form=p["form"],
            dataset_dropout=p["dataset_dropout"], sample_dropout=p["sample_dropout"],
            seed=p["seed"],
        )  # fmt: skip
        prompts, completions = (made[name].to_pylist() for name in texts)
        write_items(step.out, replace(items, prompts=prompts, completions=completions))
        whole = pq.read_table(step.inputs["tags"] / TAGS)
        write_trained(step.out, trained_of(whole, taxonomy, p["form"]))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def finetune_on_lists(step: StepContext) -> Cost:
    """Continue a model on items with lists; its checkpoint says with which."""
    cost = train_and_save(step, *trainable(step))
    write_trained(step.out / "model", read_trained(step.inputs["items"]))
    return cost


def show_lists(step: StepContext) -> Cost:
    """Items whose prompts end with a list of what is given, where anything is; `given.parquet` has
    the values.
    """
    items = read_items(step.inputs["items"])
    with Meter() as meter:
        trained = _trained(step)
        given = _given(step, items, trained)
        pairs = zip(items.prompts, given, strict=True)
        prompts = [attach(text, one, trained.taxonomy, trained.form) for text, one in pairs]
        write_items(step.out, replace(items, prompts=prompts))
        columns = {name: [one.get(name) for one in given] for name in step.params["fixed"]}
        pq.write_table(pa.table({"id": items.ids, **columns}), step.out / GIVEN)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _trained(step: StepContext) -> Trained:
    with made_here(step.inputs["lists"]):
        return read_trained(step.inputs["lists"])


def _given(step: StepContext, items: Items, trained: Trained) -> list[dict[str, Value]]:
    """The values that are given for each item. Raises PomonaError for those outside the
    taxonomy.
    """
    fixed = step.params["fixed"]
    if not fixed:
        return [{}] * len(items)
    filled = [name for name, value in fixed.items() if value is None]
    columns = [FILLED + name for name in filled]
    rows = read_rows(step.inputs["tags"] / TAGS, "id", *columns).to_pylist()
    known: dict[tuple[Any, ...], dict[str, Value]] = {}
    found = []
    for id_, row in zip(items.ids, rows, strict=True):
        key = tuple(row[column] for column in columns)
        if key not in known:
            said = {**fixed, **dict(zip(filled, key, strict=True))}
            values = {n: as_value(trained.taxonomy.marker(n), v) for n, v in said.items()}
            try:
                known[key] = trained.values({n: v for n, v in values.items() if v is not None})
            except PomonaError as error:
                where, remedy = "levers.markers.fixed", error.remedy
                raise PomonaError(
                    f"item {id_}: {error.message}", where=where, remedy=remedy
                ) from None
        found.append(known[key])
    return found


def as_value(marker: Marker, given: Value | None) -> Value | None:
    """What is given as a value of the marker's kind, as far as it can be one."""
    if given is None or given == AUTO or marker.kind not in ("integer", "float"):
        return None if given is None else str(given)
    try:
        return int(given) if marker.kind == "integer" else float(given)
    except ValueError:
        return given  # which the marker refuses


def say_in_words(step: StepContext) -> Cost:
    """Items with words for what is wanted around their prompts."""
    items = read_items(step.inputs["items"])
    with Meter() as meter:
        texts = read_rows(step.inputs["tags"] / TAGS, FILLED + WORDS)[FILLED + WORDS].to_pylist()
        pairs = zip(items.prompts, texts, strict=True)
        prompts = [
            prompt if text is None else text.replace(_PROMPT, prompt) for prompt, text in pairs
        ]
        write_items(step.out, replace(items, prompts=prompts))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def begin_answers(step: StepContext) -> Cost:
    """What the answers to items begin with: the list that the model infers of each greedily, with
    what is given in it. `inferred.parquet` has its values, and whether the model began with a list.
    """
    items, trained, p = read_items(step.inputs["items"]), _trained(step), step.params
    given = read_rows(step.inputs["items"] / GIVEN)
    model = load_model(step, step.inputs["model"])
    with Meter() as meter:
        pools = model.generate(items.prompts, max_new_tokens=p["room"], seed=p["seed"])
        found = [split_list(pool[0].text, trained) for pool in pools]
        rows = given.drop_columns("id").to_pylist()
        lists = [
            {**(own[0] if own else {}), **{n: v for n, v in row.items() if v is not None}}
            for own, row in zip(found, rows, strict=True)
        ]
        texts = [begin("", one, trained.taxonomy, trained.form) for one in lists]
        pq.write_table(pa.table({"id": items.ids, "prefix": texts}), step.out / BEGUN)
        _write_inferred(step, trained, items.ids, [own is not None for own in found], lists)
    flops = answer_flops(model, pools)
    tokens = sum(pool[0].prompt_tokens + pool[0].completion_tokens for pool in pools)
    told = Serving(flops / len(items), tokens_per_item=tokens / len(items))
    write_serving(step.out, told)
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)


def _write_inferred(
    step: StepContext,
    trained: Trained,
    ids: Sequence[str],
    listed: Sequence[bool],
    lists: Sequence[Mapping[str, Value] | None],
) -> None:
    """What lists say, a row for each answer: those to an item come one after the other."""
    places: Counter[str] = Counter()
    told: dict[str, Any] = {"id": ids, "answer": [], "listed": listed}
    for id_ in ids:
        told["answer"].append(places[id_])
        places[id_] += 1
    names = trained.taxonomy.listed
    said = {n: [None if one is None else one.get(n) for one in lists] for n in names}
    pq.write_table(pa.table(told | said), step.out / INFERRED)


def take_lists_off(step: StepContext) -> Cost:
    """Pools of answers without the lists that these begin with; what the lists say is kept in
    `inferred.parquet`, a row for each answer. An answer without a list stays as it is.
    """
    with Meter() as meter:
        trained = _trained(step)
        about, rows = read_pools(step.inputs["pools"], _ALL)
        read = [
            [split_list(text, trained) or (None, text) for text in row["answers"]] for row in rows
        ]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        columns["answers"] = [[text for _, text in pool] for pool in read]
        write_pools(step.out, columns, replace(about, distinct=distinct(columns["answers"])))
        lists = [one for pool in read for one, _ in pool]
        ids = [row["id"] for row, pool in zip(rows, read, strict=True) for _ in pool]
        _write_inferred(step, trained, ids, [one is not None for one in lists], lists)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)

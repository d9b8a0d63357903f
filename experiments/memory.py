"""What a memory of the training rows adds to a model of the ladder, on validation items of projects
that it was trained on: states beside the network, neighbours among the candidates, lookup, copying.

python experiments/memory.py [--model ui-s] [--items 20] [--store states.safetensors]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
from _shared import DATA, ROOT

from pomona import models, records, tasks
from pomona.memory import Interpolation, choose_among, find, look_up
from pomona.models.torch import Datastore

CHRF = tasks.metric("chrf")
POOL = {"n": 5, "temperature": [0.0, 0.8, 0.8, 0.8, 0.8], "min_p": 0.1, "max_new_tokens": 48}


def items_of(split: str, per_group: int | None = None) -> tasks.Items:
    rows = (
        records.read(ROOT / "src/pomona/assets/ui/ui.parquet")
        .where(split=split, lang=DATA.groups)
        .to_table()
    )
    rows = rows.filter(pc.not_equal(rows["domain"], "sphinx"))
    return tasks.limit(tasks.items_from(rows, DATA.prompt, DATA.completion, DATA.group), per_group)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ui-s")
    parser.add_argument("--items", type=int, default=20, help="of each language")
    parser.add_argument("--store", type=Path, default=Path("states.safetensors"))
    given = parser.parse_args()
    model, items, rows = models.load(given.model), items_of("valid", given.items), items_of("train")
    if not given.store.exists():
        Datastore.of_answers(model, rows.prompts, rows.completions, rows.groups, out=given.store)
    store = Datastore.open(given.store)
    spread = store.spread()
    found = find(rows.sources, rows.groups, items.sources, items.groups, 5)
    near = [[rows.completions[int(row)] for row in each] for each in found.rows]

    def tell(name: str, answers: list[str]) -> None:
        statistics = CHRF.statistics(answers, items.completions)
        parts = [CHRF.aggregate(statistics.sum(0))]
        for low, high in ((-1, 0.4), (0.4, 0.65), (0.65, 2)):
            rows_ = (found.nearest >= low) & (found.nearest < high)
            parts.append(CHRF.aggregate(statistics[rows_].sum(0)))
        print(name.ljust(44), *(f"{float(part):6.2f}" for part in parts), flush=True)

    def drawn(name: str, lever: Interpolation | None, **more: object) -> list[list[str]]:
        started = time.process_time()
        steers = None if lever is None else lever.of(items.groups)
        pools = model.generate(items.prompts, **{**POOL, **more}, steers=steers)
        seconds = time.process_time() - started
        texts = [[sample.text for sample in pool] for pool in pools]
        tell(f"{name} ({seconds:.0f} s)", [pool[0] for pool in texts])
        return texts

    chosen(items, near, found.similarity, [[] for _ in items.ids], tell, "no model")
    looked = look_up(found, rows.completions, least=0)
    pairs = zip(looked, items.sources, strict=True)
    tell("lookup", [source if one is None else one for one, source in pairs])
    tell("copy", items.sources)
    pools = drawn("network alone", None)
    chosen(items, near, found.similarity, pools, tell, "network alone")
    for part in (0.025, 0.05, 0.1, 0.2):
        drawn(f"states, T {part:g} of {spread:.0f}", Interpolation(store, part * spread), n=1,
              temperature=0.0)  # fmt: skip
    for k, weight in ((4, 0.5), (64, 0.5), (16, 0.3), (16, 0.7)):
        lever = Interpolation(store, 0.05 * spread, weight, k)
        drawn(f"states, k {k}, weight {weight:g}", lever, n=1, temperature=0.0)
    pools = drawn("states", Interpolation(store, 0.05 * spread))
    chosen(items, near, found.similarity, pools, tell, "states")
    each = [store.flops(group) for group in items.groups]
    print(f"{len(items)} items, {len(set(items.sources))} sources; store {store.bytes:,} bytes;",
          f"search of states {sum(each) / len(each):.3g} FLOPs a token;",
          f"of rows {found.flops.mean():.3g} an item")  # fmt: skip


def chosen(
    items: tasks.Items,
    near: list[list[str]],
    similarity: list,
    pools: list[list[str]],
    tell: Callable[[str, list[str]], None],
    name: str,
) -> None:
    """A pool's own choice, and with neighbours, for several thresholds of copying."""
    if any(pools):
        none = [[] for _ in pools]
        tell(f"{name}, MBR", choose_among(CHRF, pools, none, none).texts)
    for far in (None, 0.2, 0.3, 0.4):
        among = choose_among(CHRF, pools, near, similarity, sources=items.sources, far=far)
        tell(f"{name}, with neighbours, copy below {far}", among.texts)


if __name__ == "__main__":
    main()

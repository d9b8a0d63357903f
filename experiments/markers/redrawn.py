"""Whether a length, or a language, is kept to where answers are drawn until one does: students of
students.py with markers, and the control without, which nobody told of either.

    python experiments/markers/redrawn.py --work DIR [--corpus ui|gnome] [--form FORM] [--seeds N]
        [--out FILE]

DIR is what students.py worked in. The first answer is greedy, up to fifteen more are drawn at
temperature .7 with min-p .1, one after the other, as `hedged16-best-within-stop1-round1` does it;
where none fits, the first is taken. Of `ui` the wish is a length: "within" asks for no more
characters than a bucket has, "kept" for no fewer either. Of the GNOME manuals it is the language,
by py3langid, in the four languages that are untranslated in many rows; what is English is then
said by words too, since py3langid has chosen. Intervals are over English sources and seeds; FLOPs
have the prompt in every draw.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from numpy.typing import NDArray
from students import (
    CHRF,
    CORPORA,
    END,
    HERE,
    Items,
    Percent,
    Told,
    ask,
    in_english,
    kept,
    share,
    where_and_with_what,
)

from pomona import models, records
from pomona.markers import list_of, read_answer, read_taxonomy
from pomona.models import inference_flops
from pomona.text import detect, prose

pc: Any = pyarrow.compute  # its stubs lack most functions
DRAWS = (1, 2, 4, 8, 16)
_ENGLISH = re.compile(r"\b(the|and|you|your|is|are|with|this|that|from|of)\b", re.IGNORECASE)
Fits = Callable[[int, str], bool]


@dataclass(frozen=True)
class Pools:
    """The answers of a student to each item, and what each of them and the list before cost."""

    texts: list[list[str]]
    flops: NDArray[np.float64]  # [items, draws]
    first: NDArray[np.float64]  # [items]


@dataclass(frozen=True)
class Wish:
    """What is asked for: what a student is told of it, which answers fit, and shares of answers
    with the items that they are of.
    """

    name: str
    mode: str
    fits: dict[str, Fits]
    shares: dict[str, tuple[Callable[[Sequence[str]], list[bool]], NDArray[np.bool_]]]


def pools_of(folder: Path, mode: str, items: Items, work: Path) -> Pools:
    """Drawn now, unless they are kept."""
    student: Any = models.load(str(folder))
    prompts, shape = items.prompts(mode.removesuffix(" forced")), student.shape
    first = np.zeros(len(prompts))
    file, forced = f"answers/{folder.name}-{mode}-{len(prompts)}", mode.endswith(" forced")
    drawn: list[list[Any]] = []
    if forced:  # as students.py begins answers
        drawn = ask(folder, prompts, work / f"{file}-lists.json")
        own = [read_answer(text, items.taxonomy, items.form)[0] or {} for text, *_ in drawn]
        begun = [{**v, **g} for v, g in zip(own, items.given(mode), strict=True)]
        heads = [list_of(values, items.taxonomy, items.form) + END for values in begun]
        prompts = [p + h for p, h in zip(prompts, heads, strict=True)]

    def draw() -> list[list[list[Any]]]:
        greedy = student.generate(prompts, max_new_tokens=112)
        more = student.generate(
            prompts, max_new_tokens=112, n=DRAWS[-1] - 1, temperature=0.7, min_p=0.1, seed=1
        )
        pools = [[*one, *others] for one, others in zip(greedy, more, strict=True)]
        return [[[s.text, s.prompt_tokens, s.completion_tokens] for s in one] for one in pools]

    told = kept(work / f"{file}.json", draw)
    tokens = np.array([[one[1:] for one in pool] for pool in told])
    flops = inference_flops(shape, tokens[..., 0].ravel(), tokens[..., 1].ravel())
    if forced:
        lists = np.array([p[0][1] - d[1] for p, d in zip(told, drawn, strict=True)])
        first = inference_flops(shape, np.array([d[1] for d in drawn]), lists)
    texts = [
        [(text if forced or mode == "free" else read_answer(text, items.taxonomy, items.form)[1])
         .strip() for text, *_ in pool] for pool in told
    ]  # fmt: skip
    return Pools(texts, flops.reshape(tokens.shape[:2]), first)


@dataclass(frozen=True)
class Taken:
    """Of each item the answer, how many were drawn for it, and what they cost."""

    texts: list[str]
    draws: NDArray[np.float64]
    flops: NDArray[np.float64]


def taken(pools: Pools, fits: Fits, draws: int) -> Taken:
    """The first of so many that fits, else the first."""
    at, drawn = [], []
    for item, pool in enumerate(pools.texts):
        place = next((n for n, text in enumerate(pool[:draws]) if fits(item, text)), None)
        at.append(place or 0)
        drawn.append(draws if place is None else place + 1)
    texts = [pool[place] for pool, place in zip(pools.texts, at, strict=True)]
    spent = [row[:n].sum() for row, n in zip(pools.flops, drawn, strict=True)]
    return Taken(texts, np.array(drawn, float), np.array(spent) + pools.first)


def results(items: Items, wish: Wish, pools: dict[str, list[Pools]]) -> dict[str, Any]:
    """What each way of asking reaches; the first of the pools are the control's."""
    told, references = Told(items.column("english")), items.column("translation")
    rows = np.flatnonzero(np.any([where for _, where in wish.shares.values()], axis=0))
    made: dict[str, Any] = {"items": len(rows)}
    base: Any = None
    for name, mine in pools.items():
        for how, fits in wish.fits.items():
            for draws in DRAWS:
                some = [taken(one, fits, draws) for one in mine]
                scores = np.stack([np.asarray(CHRF.statistics(s.texts, references)) for s in some])
                flops = np.mean([s.flops[rows].mean() for s in some])
                base = base or (scores, flops)
                entry: dict[str, Any] = {
                    label: told.value(Percent(), share([say(s.texts) for s in some], where), rows)
                    for label, (say, where) in wish.shares.items()
                }
                made[f"{name}, {how}, {draws}"] = entry | {
                    "chrf": told.value(CHRF, scores, rows),
                    "above the control's first": told.above(CHRF, scores, base[0], rows),
                    "draws": round(float(np.mean([s.draws[rows].mean() for s in some])), 3),
                    "flops": round(float(flops / base[1]), 3),
                }
    return made


def lengths(items: Items) -> Iterator[Wish]:
    """Of the reference's bucket, and of the one below."""
    for name, mode in (("the reference's bucket", "length"), ("one below", "shorter")):
        wanted = items.wanted(mode)
        most = [items.most(one) for one in wanted]
        least = [items.least(one) for one in wanted]

        def within(item: int, text: str, most: list[int | None] = most) -> bool:
            end = most[item]
            return end is None or len(text) <= end

        def long(texts: Sequence[str], fits: Fits = within) -> list[bool]:
            return [not fits(item, text) for item, text in enumerate(texts)]

        def short(texts: Sequence[str], least: list[int] = least) -> list[bool]:
            return [len(text) < end for text, end in zip(texts, least, strict=True)]

        def exact(item: int, text: str, fits: Fits = within, least: list[int] = least) -> bool:
            return fits(item, text) and len(text) >= least[item]

        asked = np.array([one is not None for one in wanted])
        capped = asked & np.array([one is not None for one in most])
        floored = asked & np.array([one > 0 for one in least])
        shares = {"too long": (long, capped), "too short": (short, floored)}
        yield Wish(name, mode, {"within": within, "kept": exact}, shares)


def languages(items: Items) -> Iterator[Wish]:
    """The language of each item."""
    langs = items.column("lang")

    def own(item: int, text: str) -> bool:
        return detect(prose(text))[0] == langs[item]

    def by_words(texts: Sequence[str]) -> list[bool]:
        return [len(_ENGLISH.findall(text)) > 1 for text in texts]

    shares: dict[str, Any] = {}
    for lang in (None, *dict.fromkeys(langs)):
        where = np.array([lang in (None, one) for one in langs])
        name = f" in {lang}" if lang else ""
        shares |= {f"English{name}": (lambda texts: in_english(texts, langs), where)}
        shares |= {f"English by words{name}": (by_words, where)}
    yield Wish("the language", "fixed", {"kept": own}, shares)


def main() -> None:
    """Draw, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--corpus", choices=list(CORPORA), default="ui")
    parser.add_argument("--form", choices=("compact", "compact1"), default="compact")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = records.read(given.work / "test.parquet").to_table()
    asked = zip(table["lang"].to_pylist(), table["english"].to_pylist(), strict=True)
    table = table.append_column("prompt", pa.array([f"<|{a}|>{b}<|to|>" for a, b in asked]))
    if given.corpus == "gnome":
        poor = pa.array(CORPORA["gnome"].untranslated)
        table = table.filter(pc.is_in(table["lang"], poor))
    items = Items(table, read_taxonomy(HERE / f"{given.corpus}.yaml"), given.form)
    told: dict[str, Any] = where_and_with_what(range(given.seeds))
    for wish in (lengths if given.corpus == "ui" else languages)(items):
        modes = {"free": "none", wish.mode: "50-50", f"{wish.mode} forced": "50-50"}
        pools = {
            "control" if mode == "free" else mode.replace(wish.mode, "told"): [
                pools_of(given.work / f"{arm}-{seed}", mode, items, given.work)
                for seed in range(given.seeds)
            ]
            for mode, arm in modes.items()
        }
        told[wish.name] = results(items, wish, pools)
    text = json.dumps(told, indent=1, ensure_ascii=False)
    short = re.sub(r"\[([-\d.,\s]+)\]", lambda one: f"[{' '.join(one[1].split())}]", text)
    out = given.out or HERE / f"results/{given.corpus}-redrawn.json"
    out.write_text(short + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What markers buy: `ui-s` after 40 % of its training goes on with and without them for as many
tokens, and is asked without a list, with a fixed one, and with a length.

    python experiments/markers/students.py [--corpus ui|gnome] [--base NAME] [--form FORM] [--arms ARM …]
        [--seeds N] [--work DIR] [--out FILE]

Markers are those of ui.yaml and gnome.yaml beside this file. Quality is what checks say: the
probability of the language, placeholders kept, a usual length, and translated at all. Trainings:
none, dataset-level dropout 0, 50 and 70 % (50 % of the markers of the other lists), and MeCo's
order (the list in every prompt and none in answers, the last tenth of the tokens without any).
Languages of `ui` are those of the ladder and four in which 10 % of the rows or more are not
translated; those of the GNOME manuals (`python scripts/build_corpora.py`), which the base has never
seen, are twelve, among them nl, da, it and hi, in which as many are not. Test items are of projects
that are trained on, up to 40 a language; intervals are over their English sources and the seeds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from pomona import models, records
from pomona.markers import (
    Form,
    Taxonomy,
    attach,
    list_of,
    read_answer,
    read_taxonomy,
    tag,
    training_rows,
)
from pomona.models import inference_flops
from pomona.records import Records, TableSource
from pomona.stats import Resamples, Share, compare, interval, value_of
from pomona.synth.teachers import mask
from pomona.tasks import metric
from pomona.text import identify, language_confidence, prose
from pomona.train import (
    Examples,
    TrainSettings,
    cooldown,
    encode,
    fit,
    save_checkpoint,
    shuffled,
    temperature_repeats,
)

sys.path.append(str(Path(__file__).parents[1]))
from _students import CHRF, RESAMPLES, kept, where_and_with_what

HERE = Path(__file__).parent
BASE, END = "ui-s@40", "|"
LADDER = (
    "fr es pt_BR it ca ro gl de nl sv da nb af nn ru pl cs uk be mk hsb tr id el hi zh_Hans cy sw"
)
POOR = "languages with untranslated rows"
MANUALS = "de es fr ru sv cs pl ca nl da it hi"


@dataclass(frozen=True)
class Corpus:
    """Rows of English strings and their translations, and how they are learnt from."""

    records: str
    text: str  # column of translations
    langs: tuple[str, ...]
    untranslated: tuple[str, ...]  # languages of which 10 % of the rows or more are
    arms: tuple[str, ...]
    tokens: int  # of each training
    context: int  # most tokens of an example
    items: int  # test items a language


ROOT = HERE.parents[1]
CORPORA = {
    "ui": Corpus(
        "ui",
        "translation",
        (*LADDER.split(), "es_MX", "lb", "ig", "io"),
        ("es_MX", "lb", "ig", "io"),
        ("none", "50/50", "0/50", "70/50", "meco"),
        2_400_000,
        512,
        40,
    ),
    "gnome": Corpus(
        str(ROOT / "build/corpora/gnome.parquet"),
        "text",
        tuple(MANUALS.split()),
        ("nl", "da", "it", "hi"),
        ("none", "50/50"),
        1_500_000,
        160,
        40,
    ),
}
ARMS: dict[str, tuple[float, float] | None] = {
    "none": None, "50/50": (0.5, 0.5), "0/50": (0.0, 0.5), "70/50": (0.7, 0.5), "meco": (0.0, 0.0),
}  # fmt: skip


def quality(sources: Sequence[str], texts: Sequence[str], langs: Sequence[str]) -> NDArray[Any]:
    """From 0 to 1."""
    sure = language_confidence(texts, [one.partition("_")[0] for one in langs])
    sure = np.where(np.isfinite(sure), sure, 0.5)
    ratio = np.log([(len(t) + 1) / (len(s) + 1) for s, t in zip(sources, texts, strict=True)])
    lang, usual = np.array(langs), np.zeros(len(langs))
    for one in set(langs):
        usual[lang == one] = np.median(ratio[lang == one])
    pairs = list(zip(sources, texts, strict=True))
    kept = np.array([Counter(mask(s).parts) == Counter(mask(t).parts) for s, t in pairs])
    own = np.array([s.strip() != t.strip() for s, t in pairs])
    return own * kept * sure * np.exp(-np.abs(ratio - usual))


def opened(corpus: Corpus, taxonomy: Taxonomy) -> pa.Table:
    """Rows of projects that are trained on; of manuals a page's topic is the project."""
    table = records.read(corpus.records).where(lang=list(corpus.langs)).to_table()
    projects = list(taxonomy.markers["project"].values)
    if corpus.text == "text":
        pages = [
            re.split(r"[-/.]", one.partition("/")[2])[0] for one in table["source"].to_pylist()
        ]
        told = [one if one in projects else "rest" for one in pages]
        table = table.set_column(2, "domain", pa.array(told))
        table = table.rename_columns({"text": "translation"})
        names = [f"{i}-{n}" for n, i in enumerate(table["id"].to_pylist())]
        table = table.set_column(0, "id", pa.array(names))
    return table.filter(pa.compute.is_in(table["domain"], pa.array(projects)))


def tagged(corpus: Corpus, work: Path, split: str, taxonomy: Taxonomy) -> pa.Table:
    """Rows of a split with their tags and rendered prompts."""
    table = opened(corpus, taxonomy)
    table = table.filter(pa.compute.equal(table["split"], split))
    per_language = corpus.items if split == "test" else None
    if per_language:
        lang = np.array(table["lang"].to_pylist())
        keep = [np.flatnonzero(lang == one) for one in corpus.langs]
        rng = np.random.default_rng(0)
        some = [rng.choice(rows, min(per_language, len(rows)), replace=False) for rows in keep]
        table = table.take(np.sort(np.concatenate(some)))
    columns = [table[name].to_pylist() for name in ("english", "translation", "lang")]
    table = table.append_column("quality", pa.array(quality(*columns)))
    prompts = [f"<|{lang}|>{source}<|to|>" for source, _, lang in zip(*columns, strict=True)]
    out = work / f"{split}.parquet"
    tag(Records.of(TableSource(table)), out, taxonomy=taxonomy, completion="translation")
    return records.read(out).to_table().append_column("prompt", pa.array(prompts))


def examples_of(
    arm: str, rows: pa.Table, taxonomy: Taxonomy, form: Form, codec: Any, context: int
) -> Examples:
    """What a student sees; in MeCo's order every row with its markers and without."""
    repeats = temperature_repeats(rows["lang"].to_pylist(), 3)
    texts = [rows[name].to_pylist() for name in ("prompt", "translation")]
    if (dropout := ARMS[arm]) is not None:
        made = training_rows(
            rows, taxonomy, prompt="prompt", completion="translation", id="id", form=form,
            dataset_dropout=dropout[0], sample_dropout=dropout[1], answers=arm != "meco",
        )  # fmt: skip
        marked = [made[name].to_pylist() for name in ("prompt", "translation")]
        if arm == "meco":
            texts = [[*more, *bare] for more, bare in zip(marked, texts, strict=True)]
            repeats = np.concatenate([repeats, repeats])
        else:
            texts = marked
    return encode(codec, *texts, max_tokens=context, repeats=repeats)


def train(
    corpus: Corpus, base: str, arm: str, seed: int, rows: pa.Table, taxonomy: Taxonomy, form: Form,
    work: Path,
) -> Path:  # fmt: skip
    """The checkpoint of a student, trained now unless it is there."""
    out = work / f"{arm.replace('/', '-')}-{seed}"
    if out.exists():
        return out
    folder = models.locate(base)
    network: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    codec = models.Codec(folder, network, chat=False)
    examples = examples_of(arm, rows, taxonomy, form, codec, corpus.context)
    settings = TrainSettings(
        tokens=corpus.tokens, batch_tokens=4096, learning_rate=3e-3, optimizer="muon", seed=seed,
        weight_decay=0.05, warmup=0.02, save_every=200,
    )  # fmt: skip
    order = cooldown(np.arange(2 * rows.num_rows) >= rows.num_rows) if arm == "meco" else shuffled
    fitted = fit(network, codec.tokenizer, examples, out.with_name(out.name + "-work"), settings,
                 order=order)  # fmt: skip
    save_checkpoint(network, codec.tokenizer, out)
    loss = np.mean(fitted.losses[-20:])
    print(
        f"{out.name}: {fitted.tokens:,} tokens, {fitted.steps} steps, loss {loss:.3f}", flush=True
    )
    return out


ASKED = {
    "none": ("free", "words"),
    "50/50": (
        "inferred", "fixed", "quality", "length", "shorter", "longer",
        "fixed forced", "quality forced", "length forced", "shorter forced", "longer forced",
    ),
    "0/50": ("inferred", "fixed", "length"),
    "70/50": ("inferred", "fixed", "length"),
    "meco": ("free", "fixed", "length"),
}  # fmt: skip
GUESSED = ("language", "project", "longest", "quality_bucket", "untranslated", "formality")
JUDGES = {"chrf": CHRF, "chrf, beta 1": metric({"name": "chrf", "beta": 1}),
          "exact match": metric("exact_match")}  # fmt: skip


class Percent(Share):
    """Of sums `[..., 2]` of hits and of what is counted."""

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Per cent, `[...]`; 0 where nothing is counted."""
        return 100 * super().aggregate(np.maximum(sums, [0, 1e-9]))


@dataclass(frozen=True)
class Items:
    """Test items, with what each mode gives a model."""

    table: pa.Table
    taxonomy: Taxonomy
    form: Form

    def column(self, name: str) -> list[Any]:
        return self.table[name].to_pylist()

    def marker(self, name: str) -> list[Any]:
        return self.column(f"marker_{name}")

    @property
    def buckets(self) -> list[str]:
        return list(self.taxonomy.markers["longest"].values)

    def wanted(self, mode: str) -> list[str | None]:
        """The length that a mode asks for, None of items that it cannot ask."""
        step = {"length": 0, "words": 0, "shorter": -1, "longer": 1}.get(
            mode.removesuffix(" forced")
        )
        names = self.buckets
        if step is None:
            return [None] * self.table.num_rows
        places = [names.index(one) + step for one in self.marker("longest")]
        return [names[at] if 0 <= at < len(names) else None for at in places]

    def given(self, mode: str) -> list[dict[str, Any]]:
        """The markers that a mode gives with each item."""
        if mode.removesuffix(" forced") == "fixed":
            each = zip(self.marker("language"), self.marker("project"), strict=True)
            more = {"quality_bucket": "1", "untranslated": "no"}
            return [{"language": lang, "project": project, **more} for lang, project in each]
        if mode.removesuffix(" forced") == "quality":
            return [{"quality_bucket": "1"}] * self.table.num_rows
        return [{} if one is None else {"longest": one} for one in self.wanted(mode)]

    def prompts(self, mode: str) -> list[str]:
        """What a model is asked."""
        prompts = self.column("prompt")
        if mode == "free":
            return prompts
        if mode == "words":
            ends = [self.most(one) for one in self.wanted(mode)]
            spoken = [f" (at most {end} characters)" if end else "" for end in ends]
            return [p.replace("<|to|>", f"{s}<|to|>") for p, s in zip(prompts, spoken, strict=True)]
        given = zip(prompts, self.given(mode), strict=True)
        return [attach(prompt, values, self.taxonomy, self.form) for prompt, values in given]

    def most(self, bucket: str | None) -> int | None:
        """The most characters of a bucket."""
        edges = self.taxonomy.markers["longest"].edges or []
        at = None if bucket is None else self.buckets.index(bucket)
        return None if at is None or at == len(edges) else int(edges[at]) - 1

    def least(self, bucket: str | None) -> int:
        """The fewest."""
        at = 0 if bucket is None else self.buckets.index(bucket)
        return int((self.taxonomy.markers["longest"].edges or [])[at - 1]) if at else 0


def ask(folder: Path, prompts: list[str], file: Path) -> list[list[Any]]:
    """Text, tokens of the prompt and of the answer, of each prompt; kept."""

    def draw() -> list[list[Any]]:
        pools = models.load(str(folder)).generate(prompts, max_new_tokens=112)
        told = [pool[0] for pool in pools]
        return [[one.text, one.prompt_tokens, one.completion_tokens] for one in told]

    return kept(file, draw)


@dataclass
class Asked:
    """What the students of an arm answered in a mode, one list a seed."""

    answers: list[list[str]]
    lists: list[list[dict[str, Any] | None]]
    flops: float


def asked(arm: str, mode: str, folders: Sequence[Path], items: Items, work: Path) -> Asked:
    """Answers without their lists, the lists, and what an answer costs. Forced is a list where the
    answer is begun with it as `MarkersContext` begins it: what is given, and the rest as it was
    inferred behind the same prompt, which is paid for too.
    """
    told = Asked([], [], 0.0)
    forced, mode = mode.endswith(" forced"), mode.removesuffix(" forced")
    prompts = items.prompts(mode)
    for folder in folders:
        drawn = ask(folder, prompts, work / f"answers/{folder.name}-{mode}.json")
        shape = models.load(str(folder)).shape
        first = 0.0
        if forced:
            own = [read_answer(text, items.taxonomy, items.form)[0] or {} for text, *_ in drawn]
            begun = [{**v, **g} for v, g in zip(own, items.given(mode), strict=True)]
            heads = [list_of(values, items.taxonomy, items.form) + END for values in begun]
            both = [p + h for p, h in zip(prompts, heads, strict=True)]
            again = ask(folder, both, work / f"answers/{folder.name}-{mode}-forced.json")
            lists = np.array([d[1] - b[1] for d, b in zip(again, drawn, strict=True)])
            first = inference_flops(shape, np.array([d[1] for d in drawn]), lists).mean()
            drawn = again
        lists = arm not in ("none", "meco") and not forced
        read = [read_answer(text, items.taxonomy, items.form) if lists else (None, text)
                for text, *_ in drawn]  # fmt: skip
        told.answers.append([text.strip() for _, text in read])
        told.lists.append([values for values, _ in read])
        spent = inference_flops(shape, *np.array([d[1:] for d in drawn]).T)
        told.flops += float(spent.mean() + first) / len(folders)
    return told


def share(hits: Any, counted: Any) -> NDArray[np.float64]:
    """Statistics `[seeds, n, 2]` of `Percent`."""
    counted = np.broadcast_to(np.array(counted, float), np.shape(hits))
    return np.stack([np.array(hits, float) * counted, counted], -1)


class Told:
    """Results with intervals over the English sources of some items, and over seeds."""

    def __init__(self, clusters: Sequence[str]) -> None:
        self.clusters = list(clusters)

    def value(self, judge: Any, statistics: NDArray[Any], rows: NDArray[Any]) -> list[float]:
        """Value, low, high."""
        draws = self._draws(rows)
        ends = interval(judge, statistics[:, rows], draws)
        return [round(v, 2) for v in (value_of(judge, statistics[:, rows]), *ends)]

    def above(
        self, judge: Any, ours: NDArray[Any], base: NDArray[Any], rows: NDArray[Any]
    ) -> list[float]:
        """Difference, low, high."""
        found = compare(judge, ours[:, rows], base[:, rows], self._draws(rows))
        return [round(v, 2) for v in (found.delta, found.ci_low, found.ci_high)]

    def gain(
        self, ours: NDArray[Any], base: NDArray[Any], some: NDArray[Any], others: NDArray[Any]
    ) -> list[float]:
        """How much more is gained on some items than on others, low, high."""
        every = np.arange(len(self.clusters))
        draws = self._draws(every)
        parts = []
        for rows in (some, others):
            inside = np.isin(every, rows)[None, :, None]
            drawn = [draws.resampled(CHRF, one * inside) for one in (ours, base)]
            value = [value_of(CHRF, one[:, rows]) for one in (ours, base)]
            parts.append((drawn[0] - drawn[1], value[0] - value[1]))
        low, high = np.quantile(parts[0][0] - parts[1][0], [0.025, 0.975])
        return [round(float(v), 2) for v in (parts[0][1] - parts[1][1], low, high)]

    def _draws(self, rows: NDArray[Any]) -> Resamples:
        return Resamples(len(rows), RESAMPLES, 0, [self.clusters[row] for row in rows])


def parts_of(
    items: Items, rows: pa.Table, untranslated: Sequence[str]
) -> dict[str, NDArray[np.intp]]:
    """Items by how often their language, and their project in it, is trained on."""
    lang, project = np.array(items.column("lang")), np.array(items.column("domain"))
    cells = Counter(zip(rows["lang"].to_pylist(), rows["domain"].to_pylist(), strict=True))
    langs = Counter(rows["lang"].to_pylist())
    by = {"languages": np.array([langs[one] for one in lang]),
          "languages' projects": np.array([cells[one] for one in zip(lang, project, strict=True)])}  # fmt: skip
    parts = {"all": np.arange(len(lang))}
    for name, often in by.items():
        low, high = np.quantile(often, [1 / 3, 2 / 3])
        parts[f"tail of {name}"] = np.flatnonzero(often <= low)
        parts[f"middle of {name}"] = np.flatnonzero((often > low) & (often < high))
        parts[f"head of {name}"] = np.flatnonzero(often >= high)
    parts[POOR] = np.flatnonzero(np.isin(lang, untranslated))
    return {name: where for name, where in parts.items() if len(where)}


def results(
    found: dict[tuple[str, str], Asked], items: Items, rows: pa.Table, untranslated: Sequence[str]
) -> dict[str, Any]:
    """Everything that is told of the answers."""
    told, parts = Told(items.column("english")), parts_of(items, rows, untranslated)
    references, every = items.column("translation"), parts["all"]
    statistics = {
        label: {
            key: np.stack([np.asarray(judge.statistics(a, references)) for a in one.answers])
            for key, one in found.items()
        }
        for label, judge in JUDGES.items()
    }
    base = ("none", "free")
    made: dict[str, Any] = {"items": len(every), "parts": {k: len(v) for k, v in parts.items()}}
    for (arm, mode), one in found.items():
        entry: dict[str, Any] = {"flops": round(one.flops / found[base].flops, 3)}
        for label, judge in JUDGES.items():
            its = statistics[label]
            some = parts if label == "chrf" else {"all": every}
            entry[label] = {
                name: {
                    "value": told.value(judge, its[arm, mode], where),
                    "above none": told.above(judge, its[arm, mode], its[base], where),
                }
                for name, where in some.items()
            }
        for name in ("languages", "languages' projects"):
            ends = parts[f"tail of {name}"], parts[f"head of {name}"]
            mine, other = statistics["chrf"][arm, mode], statistics["chrf"][base]
            entry[f"gain in the tail above the head's, {name}"] = told.gain(mine, other, *ends)
        entry |= kept_to(told, items, one, mode, found[base], parts)
        made[f"{arm}, {mode}"] = entry
    return made


def in_english(texts: Sequence[str], langs: Sequence[str]) -> list[bool]:
    """Which answers are surely English and not of their own language, copied or not."""
    return [one == "en" for one in identify([prose(text) for text in texts], langs)]


def kept_to(
    told: Told, items: Items, one: Asked, mode: str, free: Asked, parts: dict[str, Any]
) -> dict[str, Any]:
    """What was inferred, whether lengths were kept to, and how much is untranslated."""
    entry: dict[str, Any] = {}
    every = parts["all"]
    if any(values is not None for lists in one.lists for values in lists):
        began = share([[v is not None for v in lists] for lists in one.lists], 1.0)
        entry["answers with a list"] = told.value(Percent(), began, every)
        given = items.given(mode)
        for name in GUESSED:
            right = items.marker(name)
            known = [value is not None for value in right]
            same = [[(v or {}).get(name) == r for v, r in zip(lists, right, strict=True)]
                    for lists in one.lists]  # fmt: skip
            entry.setdefault("list equals the reference's", {})[name] = told.value(
                Percent(), share(same, known), every
            )
            if any(name in values for values in given):
                told_of = [name in values for values in given]
                repeats = [[(v or {}).get(name) == g.get(name)
                            for v, g in zip(lists, given, strict=True)] for lists in one.lists]  # fmt: skip
                entry.setdefault("list repeats what was given", {})[name] = told.value(
                    Percent(), share(repeats, told_of), every
                )
    wanted = items.wanted(mode)
    if any(wanted):
        for label, answers in (("", one.answers), (", free answers of none", free.answers)):
            long, short = [], []
            for texts in answers:
                pairs = list(zip(texts, wanted, strict=True))
                ends = [(items.most(w), items.least(w)) for w in wanted]
                long.append([e[0] is not None and len(t) > e[0]
                             for (t, _), e in zip(pairs, ends, strict=True)])  # fmt: skip
                short.append([len(t) < e[1] for (t, _), e in zip(pairs, ends, strict=True)])
            capped = [w is not None and items.most(w) is not None for w in wanted]
            floored = [w is not None and items.least(w) > 0 for w in wanted]
            entry[f"too long{label}"] = told.value(Percent(), share(long, capped), every)
            entry[f"too short{label}"] = told.value(Percent(), share(short, floored), every)
    copies = [[t == s.strip() for t, s in zip(texts, items.column("english"), strict=True)]
              for texts in one.answers]  # fmt: skip
    entry["untranslated"] = {
        name: told.value(Percent(), share(copies, 1.0), where)
        for name, where in parts.items()
        if name in ("all", POOR)
    }
    english, others = (
        share([in_english(texts, items.column("lang")) for texts in each.answers], 1.0)
        for each in (one, free)
    )
    langs = np.array(items.column("lang"))
    groups = {POOR: parts[POOR]} | {
        lang: np.flatnonzero(langs == lang) for lang in dict.fromkeys(langs[parts[POOR]].tolist())
    }
    entry["in English"] = {
        name: {
            "value": told.value(Percent(), english, where),
            "above none": told.above(Percent(), english, others, where),
        }
        for name, where in groups.items()
    }
    return entry


def frequencies(rows: pa.Table) -> dict[str, Any]:
    """How often what is trained on."""
    return {
        name: dict(Counter(rows[name].to_pylist()).most_common())
        for name in ("lang", "domain", "marker_longest", "marker_formality")
    }


def main() -> None:
    """Train, ask, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=list(CORPORA), default="ui")
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--form", choices=("compact", "compact1"), default="compact")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpus, taxonomy = CORPORA[given.corpus], read_taxonomy(HERE / f"{given.corpus}.yaml")
    own = "" if given.base == BASE else f"-{given.base}"
    own += "" if given.form == "compact" else f"-{given.form}"
    arms = tuple(given.arms or corpus.arms)
    work = given.work or ROOT / f"runs/markers-{given.corpus}{own}"
    work.mkdir(parents=True, exist_ok=True)
    rows, items = (tagged(corpus, work, split, taxonomy) for split in ("train", "test"))
    folders: dict[str, list[Path]] = {arm: [] for arm in arms}
    spawn = get_context("spawn")  # a process each: torch does not give memory back after a training
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for seed in range(given.seeds):
            for arm in arms:
                asked_for = pool.submit(
                    train, corpus, given.base, arm, seed, rows, taxonomy, given.form, work
                )
                folders[arm].append(asked_for.result())
    test = Items(items, taxonomy, given.form)
    found = {
        (arm, mode): asked(arm, mode, folders[arm], test, work)
        for arm in arms
        for mode in ASKED[arm]
    }
    told = {
        **where_and_with_what(range(given.seeds)),
        "base": given.base, "form": given.form, "tokens": corpus.tokens, "taxonomy": taxonomy.digest,
        "rows": frequencies(rows), **results(found, test, rows, corpus.untranslated),
    }  # fmt: skip
    out = given.out or HERE / f"results/{given.corpus}{own}.json"
    out.parent.mkdir(exist_ok=True)
    text = json.dumps(told, indent=1, ensure_ascii=False)
    short = re.sub(r"\[([-\d.,\s]+)\]", lambda one: f"[{' '.join(one[1].split())}]", text)
    out.write_text(short + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

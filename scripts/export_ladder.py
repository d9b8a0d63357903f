"""Put the models of a ladder run into the package: the rungs, their intermediate checkpoints and
the loss of every step.

python scripts/export_ladder.py runs/ladder
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from pomona.documents import read_json

ASSETS = Path(__file__).parents[1] / "src/pomona/assets"


def checkpoints(step: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Names in the catalogue and folders of everything a pretraining step left."""
    yield name, step / "model"
    for mark in sorted(step.glob("mark-*")):
        yield f"{name}@{float(mark.name.removeprefix('mark-')):.0%}".removesuffix("%"), mark


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    steps = read_json(run / "manifest.json")["steps"]
    for step, folder in steps.items():
        if step.startswith("pretrain "):
            for name, source in checkpoints(run / "steps" / folder, step.removeprefix("pretrain ")):
                shutil.rmtree(ASSETS / name, ignore_errors=True)  # the repository keeps the old one
                shutil.copytree(source, ASSETS / name)
                if "@" not in name:
                    losses = run / "steps" / folder / "losses.json"
                    shutil.copyfile(losses, ASSETS / name / losses.name)
                print(
                    f"{name}: "
                    f"{sum(p.stat().st_size for p in (ASSETS / name).iterdir()) / 1e6:.1f} "
                    "MB"
                )


if __name__ == "__main__":
    main()

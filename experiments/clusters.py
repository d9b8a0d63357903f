"""Do intervals cover what they promise where items share sources? Simulated differences with an effect
of the source as large as an item's; as many clusters as given, of 1 to 33 items (`ui` has 421 of 17).

python experiments/clusters.py [--samples 4000]
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from pomona.stats import Resamples, compare


class Mean:
    """Statistics (sum, count)."""

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return sums[..., 0] / sums[..., 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=4000)
    samples = parser.parse_args().samples
    print("| clusters | items | clusters drawn | items drawn | width, clusters over items |")
    print("|---|---|---|---|---|")
    for clusters in (10, 30, 100, 421):
        sizes = np.random.default_rng(0).integers(1, 34, clusters)
        owner = np.repeat(np.arange(clusters), sizes)
        draws = [
            Resamples(len(owner), 2000, 1, owner.astype(str)),
            Resamples(len(owner), 1000, 1),
        ]
        covered, widths = np.zeros(2), np.zeros(2)
        zero = np.column_stack([np.zeros(len(owner)), np.ones(len(owner))])
        for seed in range(samples):
            rng = np.random.default_rng([seed, 1])
            values = rng.normal(size=clusters)[owner] + rng.normal(size=len(owner))
            ours = np.column_stack([values, np.ones(len(owner))])
            for i, drawn in enumerate(draws if seed < 1000 else draws[:1]):
                c = compare(Mean(), ours, zero, drawn)
                covered[i] += c.ci_low <= 0 <= c.ci_high
                widths[i] += c.ci_high - c.ci_low
        share = covered / [samples, min(samples, 1000)]
        width = widths / [samples, min(samples, 1000)]
        print(
            f"| {clusters} | {len(owner):,} | {100 * share[0]:.1f} % | {100 * share[1]:.1f} % "
            f"| {width[0] / width[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

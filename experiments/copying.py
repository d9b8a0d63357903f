"""Does a model of the ladder translate better than copying the English source? Every test item, per
language, paired intervals.

python experiments/copying.py [--model ui-l]
"""

from __future__ import annotations

import argparse

from _shared import items_of

from pomona import models, stats, tasks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ui-l")
    name = parser.parse_args().model
    items = items_of("test")
    copies = [prompt.split("|>", 1)[1].removesuffix("<|to|>") for prompt in items.prompts]
    answers = [
        pool[0].text for pool in models.load(name).generate(items.prompts, max_new_tokens=96)
    ]
    chrf = tasks.metric("chrf")
    ours, base = (
        chrf.statistics(answers, items.completions),
        chrf.statistics(copies, items.completions),
    )
    print(f"{name} greedy against copying, {chrf.signature}|boot:1000|seed:0", end="\n\n")
    print(f"| language | n | {name} | copying | difference |")
    print("|---|---|---|---|---|")
    groups = stats.by_group(chrf, ours, base, stats.rows_of(items.groups))
    for group, c in sorted(groups.items(), key=lambda pair: (pair[0] != "overall", -pair[1].delta)):
        print(
            f"| {group} | {c.n} | {c.value:.1f} | {c.baseline_value:.1f} | {c.delta:+.1f} "
            f"[{c.ci_low:+.1f}, {c.ci_high:+.1f}] |"
        )


if __name__ == "__main__":
    main()

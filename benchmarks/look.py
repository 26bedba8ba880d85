"""Do images have to be drawn at every checkpoint? Kept runs replayed as studies, with all images and with fewer.

python -m benchmarks.look [--quick] [--json FILE]     about 10 minutes; --quick: two packs of each kind in two orders

A rule may become the default (`score.look: auto`) if, on reported concepts, the verdict (winner and epoch to ship) is
the same in at least `SAME` of the studies, what ships is truly no worse (the lower end of the change in strict quality
is at least `-WORSE`), and no more than `LONGER` as many epochs are trained. This was fixed, and the rule chosen on
choosing concepts (`CHOSEN`), before reported concepts were replayed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.look_replay import Rule, compare, load_runs, losses_read_once

SAME, WORSE, LONGER = 0.95, 0.01, 1.05
CHOSEN = Rule(1.5, due=True, learned=True)
TRIED = (
    Rule(1.5),
    Rule(1.5, due=True),
    Rule(1.25, due=True, learned=True),
    CHOSEN,
    Rule(1.75, due=True, learned=True),
    Rule(2.0, due=True, learned=True),
    Rule(3.0, due=True, learned=True),
)
SEEDS = 10
GRIDS = {"32 epochs, every 2": (32, 2), "30 epochs, every 2": (30, 2), "20 epochs, each": (20, 1)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.look", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two packs of each kind, in two orders")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    from benchmarks.strict import table_text

    figures = measure(seeds=2 if args.quick else SEEDS, packs=2 if args.quick else None)
    print(table_text(figures["replayed"]))
    print("\nmay be the default: " + ("yes" if figures["may be the default"] else "no"))
    print("at most so many looks while a trial runs: " + json.dumps(figures["looks while a trial runs"]))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    return 0


def measure(*, seeds: int, packs: int | None) -> dict[str, Any]:
    """`replayed`: group and rule to `compare`. `looks while a trial runs`: of the chosen rule, where checkpoints are
    evenly spaced and nothing is near pruning, of all checkpoints."""
    replayed: dict[str, Mapping[str, float]] = {}
    with losses_read_once():
        for group, rules in (("choosing", TRIED), ("reported", (CHOSEN,))):
            runs = load_runs(group, packs)
            for rule in rules:
                replayed[f"{group}, {rule}"] = compare(runs, rule, seeds)
    return {
        "replayed": replayed,
        "may be the default": may_be_default(replayed[f"reported, {CHOSEN}"]),
        "looks while a trial runs": {name: _spaced(*grid) for name, grid in GRIDS.items()},
    }


def may_be_default(row: Mapping[str, float]) -> bool:
    return row["verdict"] >= SAME and row["quality, low"] >= -WORSE and row["epochs"] <= LONGER


def _spaced(epochs: int, step: int) -> list[int]:
    looked: list[int] = []
    for epoch in range(step, epochs + 1, step):
        if CHOSEN.drawn_anyway(epoch, looked):
            looked.append(epoch)
    return [len(looked), epochs // step]


if __name__ == "__main__":
    sys.exit(main())

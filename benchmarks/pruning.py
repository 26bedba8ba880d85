"""From when on may a trial be pruned? Kept runs replayed as studies, with the pruner's warm-up and others.

python -m benchmarks.pruning [--quick] [--json FILE]     about six minutes; --quick: studies of one set in two orders

Studies are those of `benchmarks.look`: the runs of one set of photos, and those of all sets of one concept, in ten
orders on two workers, with images at every checkpoint. A rule was chosen on choosing concepts: the fewest epochs among
those whose studies ship as good a LoRA as today's. It may become the default if that holds on reported concepts, too:
the lower end of the change in strict quality is at least `-WORSE`. This was fixed before reported concepts were
replayed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.look_replay import ALWAYS, Outcome, Run, load_runs, losses_read_once, replay, studies
from search.tuning.pruner import PeerPruner

WORSE = 0.01
SEEDS = 10
BEFORE, CHOSEN = PeerPruner(warmup=0.3, reports=3), PeerPruner(warmup=0.1, reports=2)
NEVER = PeerPruner(warmup=2.0)
TRIED = {
    "choosing": (
        BEFORE,
        PeerPruner(warmup=0.2, reports=3),
        PeerPruner(warmup=0.15, reports=3),
        CHOSEN,
        PeerPruner(warmup=0.3, min_peers=4, reports=3),
        PeerPruner(warmup=0.1, min_peers=4, reports=2),
        NEVER,
    ),
    "reported": (BEFORE, CHOSEN, NEVER),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pruning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two sets of each kind, in two orders")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    rows = measure(seeds=2 if args.quick else SEEDS, packs=2 if args.quick else None)
    print(f"{'':<56} {'epochs':>7} {'pruned':>7} {'all right':>10}   change (90 %)")
    for name, row in rows.items():
        change = f"{row['change']:+.3f} ({row['change, low']:+.3f} to {row['change, high']:+.3f})"
        print(f"{name:<56} {row['epochs']:7.2f} {row['pruned']:7.2f} {row['quality']:10.3f}   {change}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def measure(*, seeds: int, packs: int | None) -> dict[str, dict[str, float]]:
    """Group, kind of study and rule to what its studies came to (`row_of`)."""
    rows: dict[str, dict[str, float]] = {}
    with losses_read_once():
        for group, pruners in TRIED.items():
            sets = load_runs(group, packs)
            concepts: dict[str, list[Run]] = {}
            for runs in sets.values():
                concepts.setdefault(runs[0].case.concept, []).extend(runs)
            for kind, each in (("a set", sets), ("a concept", concepts)):
                before = _outcomes(each, BEFORE, seeds)
                for pruner in pruners:
                    after = before if pruner is BEFORE else _outcomes(each, pruner, seeds)
                    rows[f"{group}, {kind}, {told(pruner)}"] = row_of(before, after)
    return rows


def told(pruner: PeerPruner) -> str:
    if pruner is NEVER:
        return "none is pruned"
    return f"warm-up {pruner.warmup:g}, {pruner.reports} reports, {pruner.min_peers} peers"


def row_of(before: Mapping[str, Sequence[Outcome]], after: Mapping[str, Sequence[Outcome]]) -> dict[str, float]:
    """Means over studies: `epochs`, trained, as a share of all trials' horizons; `pruned`, share of trials; `quality`,
    strict, of what ships; `change` of it from `before`, with a 90 % interval (whole sets or concepts are resampled)."""
    outcomes = [one for each in after.values() for one in each]
    changes = np.array(
        [np.mean([a.quality - b.quality for a, b in zip(after[name], before[name], strict=True)]) for name in before]
    )
    draws = changes[np.random.default_rng(0).integers(len(changes), size=(2000, len(changes)))].mean(axis=1)
    low, high = np.quantile(draws, [0.05, 0.95])
    found = {
        "epochs": np.mean([one.epochs / sum(trial.run.horizon for trial in one.trials) for one in outcomes]),
        "pruned": np.mean([np.mean([trial.state == "pruned" for trial in one.trials]) for one in outcomes]),
        "quality": np.mean([one.quality for one in outcomes]),
        "change": changes.mean(),
        "change, low": low,
        "change, high": high,
        "studies": len(outcomes),
    }
    return {name: float(value) for name, value in found.items()}


def _outcomes(packs: Mapping[str, Sequence[Run]], pruner: PeerPruner, seeds: int) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for pack, runs in studies(packs, seeds):
        found.setdefault(pack, []).append(replay(runs, ALWAYS, pruner))
    return found


if __name__ == "__main__":
    sys.exit(main())

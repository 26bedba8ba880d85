"""What the epoch to ship gives away where a run left only a few checkpoints.

    python -m benchmarks.onset_few                  concepts that chose nothing
    python -m benchmarks.onset_few --choosing       those that settings were chosen on

From the kept trainings: of each run that learned, so many checkpoints at equal distances, losses alone (as in a log of
validation losses). Regret is the share of what was learned in new contexts that the shipped epoch gives away.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.onset_packs import KEPT
from benchmarks.onset_plan import CHOOSING, HELD_OUT
from benchmarks.onset_truth import Case, load_cases
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory

COUNTS = (4, 5, 6, 8, 10)
PICKS: dict[str, Callable[[Trajectory], int]] = {
    "onset": lambda seen: find_onset(seen).best,
    "lowest held-out loss": lambda seen: int(seen.epochs[1:][seen.values("heldout_loss")[1:, 0].argmin()]),
    "last": lambda seen: int(seen.epochs[-1]),
}


def thinned(case: Case, count: int) -> Trajectory | None:
    """The base and so many checkpoints of a run, losses alone; None where it has fewer."""
    whole = case.trajectory(held_out=HELD_OUT)
    trained = np.nonzero(whole.epochs > 0)[0]
    last = whole.epochs[-1]
    wanted = np.linspace(last / count, last, count)
    rows = sorted({int(trained[np.argmin(abs(whole.epochs[trained] - epoch))]) for epoch in wanted})
    return Trajectory(tuple(_losses(whole.readings[row]) for row in (0, *rows))) if len(rows) == count else None


def regret(case: Case, epoch: int) -> float:
    """Of the dip in new contexts."""
    truth = case.context
    at = np.interp(np.log2(epoch), np.log2(np.maximum(truth.epochs, 0.5)), truth.losses)
    return float((at - truth.losses.min()) / max(truth.depth, 1e-9))


def measure(place: Path, *, choosing: bool) -> dict[str, dict[str, dict[str, float]]]:
    """By number of checkpoints and by pick: runs, and the mean, median and 90th percentile of their regrets."""
    found: dict[int, dict[str, list[float]]] = {count: {name: [] for name in PICKS} for count in COUNTS}
    for case in load_cases(place):
        if not case.learned or (case.concept in CHOOSING) != choosing:
            continue
        for count in COUNTS:
            seen = thinned(case, count)
            for name, pick in PICKS.items() if seen is not None else ():
                assert seen is not None
                found[count][name].append(regret(case, pick(seen)))
    return {
        str(count): {
            name: {
                "runs": len(values),
                "mean": float(np.mean(values)),
                "median": float(np.median(values)),
                "p90": float(np.quantile(values, 0.9)),
            }
            for name, values in picks.items()
            if values
        }
        for count, picks in found.items()
    }


def _losses(readings: Readings) -> Readings:
    channels = {name: reading for name, reading in readings.channels.items() if name.endswith("_loss")}
    return dataclasses.replace(readings, channels=channels, score=float("nan"))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--choosing", action="store_true", help="the concepts that settings were chosen on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="the same: it takes a minute")
    args = parser.parse_args()
    table = measure(KEPT, choosing=args.choosing)
    print(f"{'checkpoints':>11}  {'runs':>4}  " + "  ".join(f"{name:>24}" for name in PICKS))
    print(f"{'':>11}  {'':>4}  " + "  ".join(f"{'mean  median   90th':>24}" for _ in PICKS))
    for count, picks in table.items():
        cells = "  ".join(f"{row['mean']:>10.3f} {row['median']:>6.3f} {row['p90']:>6.2f}" for row in picks.values())
        print(f"{count:>11}  {picks['onset']['runs']:>4.0f}  {cells}")
    if args.json is not None:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

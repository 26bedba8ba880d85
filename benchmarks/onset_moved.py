"""What fewer moved subjects would cost: kept runs read with so many of them, photos of held-out contexts beside them.

python -m benchmarks.onset_moved [--choosing] [--quick] [--json FILE]     about three minutes; --quick: two counts

Those that are left are spread over the photos. Errors of the context onset are in octaves; regret is the share of what
was learned in new contexts that the epoch to ship gives away.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.onset_few import regret
from benchmarks.onset_packs import KEPT
from benchmarks.onset_plan import CHOOSING
from benchmarks.onset_truth import Case, load_cases
from metrics.onset.onset import find_onset

COUNTS = (80, 40, 24, 12)


def with_moved(case: Case, count: int) -> Case:
    """The run with so many moved subjects in all, of training and of held-out photos as they were."""
    arrays = dict(case.arrays)
    names = ("shifted", "shifted_train")
    of_all = sum(len(arrays[f"{name}_photo"]) for name in names)
    for name in names:
        photos = arrays[f"{name}_photo"]
        kept = spread(photos.tolist(), round(count * len(photos) / of_all))
        arrays[name], arrays[f"{name}_photo"] = arrays[name][:, kept], photos[kept]
    return dataclasses.replace(case, arrays=arrays)


def spread(photos: Sequence[int], count: int) -> list[int]:
    """Places of `count` of these, of each photo as many as of the others, in order."""
    turn: Counter[int] = Counter()
    places = []
    for place, photo in enumerate(photos):
        places.append((turn[photo], photo, place))
        turn[photo] += 1
    return sorted(place for *_, place in sorted(places)[:count])


def measure(*, choosing: bool, counts: Sequence[int]) -> dict[str, dict[str, float]]:
    """How many moved subjects to the context onset's errors over all learned runs."""
    cases = [each for each in load_cases(KEPT) if (each.concept in CHOOSING) == choosing and each.learned]
    return {str(count): _row(cases, count) for count in counts}


def _row(cases: Sequence[Case], count: int) -> dict[str, float]:
    errors, regrets, quiet, missed, false = [], [], 0, 0, 0
    for case in cases:
        onset, truth = find_onset(with_moved(case, count).trajectory(contexts=True)), case.context
        regrets.append(regret(case, onset.best))
        found = onset.context.epoch
        if not truth.sure:
            continue
        if truth.epoch is None:
            quiet += 1
            false += found is not None
        elif found is None:
            missed += 1
        else:
            errors.append(abs(np.log2(found / truth.epoch)))
    return {
        "median": float(np.median(errors)),
        "mean": float(np.mean(errors)),
        "p90": float(np.quantile(errors, 0.9)),
        "missed": missed,
        "turn": len(errors) + missed,
        "false": false,
        "quiet": quiet,
        "regret": float(np.mean(regrets)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onset_moved", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--choosing", action="store_true", help="the concepts that settings were chosen on")
    parser.add_argument("--quick", action="store_true", help="two counts")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    rows = measure(choosing=args.choosing, counts=COUNTS[::3] if args.quick else COUNTS)
    for count, row in rows.items():
        errors = ", ".join(f"{row[name]:.2f}" for name in ("median", "mean", "p90"))
        wrong = f"missed {row['missed']} of {row['turn']}; false alarms {row['false']} of {row['quiet']}"
        print(f"{count:>3} moved subjects: {errors}; {wrong}; regret {row['regret']:.3f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Do training photos come back in drawings: what a study sees of it against true copying.

python -m benchmarks.copying [--quick] [--json FILE]    the kept readings of 92 runs: `copying-readings.npz`
python -m benchmarks.copying --keep FILE --out PACKS    writes such a file of packs that `benchmarks.strict` has drawn
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.copying_truth import SHIPS, CopyingRun, copying_runs, keep_readings
from benchmarks.strict import WORKED_ON, table_text
from metrics.onset.copied import copying_curve

CAPTIONS = {"6 trained, 4 held out": (6, 4), "3 and 3": (3, 3)}
"""How many captions of each kind the probe draws, two seeds each."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.copying", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="all tables (what happens anyway: it takes seconds)")
    parser.add_argument("--keep", type=Path, help="write what the packs in --out say, and end")
    parser.add_argument("--out", type=Path, default=WORKED_ON, help="folder of drawn packs (default: %(default)s)")
    parser.add_argument("--runs", action="store_true", help="print every run, too")
    parser.add_argument("--only", choices=("choosing", "reported"), help="one group of concepts")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.keep:
        print(f"{args.keep}: {keep_readings(args.out, args.keep)} runs")
        return 0
    runs = list(copying_runs())
    groups = {"choosing": [r for r in runs if r.chooses], "reported": [r for r in runs if not r.chooses]}
    groups = {name: own for name, own in groups.items() if args.only in (None, name)}
    if args.runs:
        print("\n".join(map(_line, (run for own in groups.values() for run in own))), end="\n\n")
    figures = {
        "what is seen": {
            f"{group}, {name}": of_checkpoints(own, *count)
            for group, own in groups.items()
            for name, count in CAPTIONS.items()
        },
        "which epoch ships": {
            f"{group}, {rule}": row for group, own in groups.items() for rule, row in of_shipping(own).items()
        },
    }
    for title, table in figures.items():
        print(f"{title}\n{table_text(table)}", end="\n\n")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def of_checkpoints(runs: Sequence[CopyingRun], trained: int, held_out: int) -> dict[str, float]:
    """How many trained checkpoints copy, by the truth (a share of COPIES or more), and the share of them at which that
    is seen; the same of those that do not (NO_COPIES or less), and of those between; and by whole runs, which surely
    copy or surely never do: seen at any checkpoint. `first`: octaves between the first checkpoint at which it is seen
    and the true onset (median without and with its sign), which is why no onset is told."""
    curves = [copying_curve(run.trajectory(trained=trained, held_out=held_out)) for run in runs]
    seen = [np.zeros(len(run.epochs), bool) if c is None else c.seen for run, c in zip(runs, curves, strict=True)]
    true = np.concatenate([run.truth.shares[1:] for run in runs])
    told = np.concatenate([each[1:] for each in seen])
    groups = {"copying": true >= COPIES, "not": true <= NO_COPIES, "between": (true > NO_COPIES) & (true < COPIES)}
    row: dict[str, float] = {}
    for name, rows in groups.items():
        row |= {name: int(rows.sum()), f"{name}, seen": _mean(told[rows])}
    for kind in ("copies", "never"):
        own = [bool(each.any()) for run, each in zip(runs, seen, strict=True) if run.truth.kind == kind]
        row |= {f"runs, {kind}": len(own), f"{kind}, seen": _mean(own)}
    off = [
        np.log2(run.epochs[each.argmax()]) - run.truth.log_epoch
        for run, each in zip(runs, seen, strict=True)
        if run.truth.kind == "copies" and each.any()
    ]
    return row | {"first": _median(np.abs(off)), "first, sign": _median(off)}


COPIES, NO_COPIES = 0.4, 0.2  # of 16 images, chance being 0.11


def _mean(values: Sequence[bool] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _median(values: Sequence[float] | np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def of_shipping(runs: Sequence[CopyingRun]) -> dict[str, dict[str, float]]:
    """Rule to means over runs that learned their subject: strict quality at the epoch that ships, true copies there
    (share of images of training captions), and how much more strict quality than without the rule, with its 90 %
    interval (packs are drawn again). The rule: of the checkpoints up to it, the last before photos are seen to come
    back."""
    rows: dict[str, dict[str, float]] = {}
    learned = [run for run in runs if run.right.max() > LEARNED]
    packs = np.array([run.pack for run in learned])
    for number, ship in enumerate(SHIPS):
        plain = [int(run.ships[number]) for run in learned]
        held_back = [_before(run, epoch) for run, epoch in zip(learned, plain, strict=True)]
        qualities = []
        for name, epochs in ((ship, plain), (f"{ship}, not beyond", held_back)):
            pairs = list(zip(learned, epochs, strict=True))
            quality = np.array([_at(run, run.right, epoch) for run, epoch in pairs])
            qualities.append(quality)
            low, high = _resampled(quality - qualities[0], packs)
            rows[name] = {
                "right": float(quality.mean()),
                "copies": float(np.mean([_at(run, run.copied.mean(axis=1), epoch) for run, epoch in pairs])),
                "more, low": low, "more, high": high, "runs": len(learned),
                "moved": sum(first != second for first, second in zip(plain, epochs, strict=True)),
            }  # fmt: skip
    return rows


LEARNED = 0.1  # of fresh images are right at the best checkpoint


def _before(run: CopyingRun, epoch: int) -> int:
    """The epoch, or the last checkpoint before photos are first seen to come back where that is earlier."""
    curve = copying_curve(run.trajectory())
    if curve is None or not curve.seen[curve.epochs <= epoch].any():
        return epoch
    return int(run.epochs[max(int(curve.seen.argmax()) - 1, 1)])


def _at(run: CopyingRun, values: np.ndarray, epoch: int) -> float:
    return float(values[int(np.abs(run.epochs - epoch).argmin())])


def _resampled(values: np.ndarray, packs: np.ndarray) -> tuple[float, float]:
    """90 % interval of the mean over packs."""
    means = np.array([values[packs == pack].mean() for pack in np.unique(packs)])
    drawn = np.random.default_rng(0).integers(len(means), size=(2000, len(means)))
    low, high = np.quantile(means[drawn].mean(axis=1), [0.05, 0.95])
    return float(low), float(high)


def _line(run: CopyingRun) -> str:
    truth, curve = run.truth, copying_curve(run.trajectory())
    seen = [] if curve is None else curve.epochs[curve.seen].tolist()
    at = (
        f"{2**truth.log_epoch:.1f} ({2**truth.low:.1f} to {2**truth.high:.1f})" if np.isfinite(truth.log_epoch) else "–"
    )
    shares = " ".join(f"{epoch}: {share:.2f}" for epoch, share in zip(run.epochs, truth.shares, strict=True))
    return f"{run.pack}/{run.name}: {truth.kind} ({truth.share:.2f}), true onset {at}, seen at {seen}; shares {shares}"


if __name__ == "__main__":
    sys.exit(main())

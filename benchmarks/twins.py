"""How well cross-fitted twins date memorising where no photo is held out.

    python -m benchmarks.twins FOLDER [--json FILE]     trains what FOLDER lacks, then reports
    python -m benchmarks.twins FOLDER --device cuda --concepts bee duck     some of them, on a GPU
    python -m benchmarks.twins FOLDER --seconds 0       reports only
    python -m benchmarks.twins FOLDER --quick           one set, few steps: whether it runs
    python -m benchmarks.twins --kept [--json FILE]     how onsets of kept runs grow with the number of photos

Each set has a run on all its photos, without any held out, and three twins of it, packed: same seed, schedule and
number of steps, another third of the photos left out. True is where the main run's loss on fresh renders turns, as in
`benchmarks.onset_truth`. Errors are in octaves.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.onset_packs import KEPT, read_packs
from benchmarks.onset_plan import BATCH_SIZE, CHOOSING, detector_grid, plans
from benchmarks.onset_truth import Truth, true_onset
from metrics.channels.bootstrap import reading_of_items
from metrics.channels.losses import log_ratios
from metrics.onset.onset import find_onset
from metrics.onset.turns import Turn
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.record.twin_curve import worth
from search.study.folds import folds

TWINS, HELD_OUT, LEVELS, STEPS, FRESH = 3, 4, 8, 264, 160
FAST, USUAL, SLOW = 5e-3, 3.5e-3, 2e-4
SETS = (
    ("mushroom", 12, FAST), ("castle", 12, FAST), ("robot", 12, USUAL), ("bee", 12, USUAL), ("rabbit", 15, FAST),
    ("duck", 12, FAST), ("hammer", 12, USUAL), ("cactus", 12, SLOW), ("lamp", 15, USUAL), ("planet", 12, FAST),
    ("dumbbell", 12, SLOW), ("rocket", 15, USUAL), ("cornet", 12, FAST), ("pine", 12, FAST), ("propeller", 12, SLOW),
    ("snowman", 12, USUAL),
)  # fmt: skip
"""Concept, photos, learning rate. AdamW at rank 16; at the slow rate nothing is memorised."""
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""A twin at the main run's number of steps stands for that epoch times (photos ÷ its photos) to this power: 0 compares
equal steps, 1 equal passes over the photos."""


@dataclass(frozen=True)
class Case:
    """One main run. `truth`: of its memory onset. twins: ln ratios [T, photos, levels, draws] of each photo under the
    twin that never saw it, at equal steps; held_out: of four further photos under the main run."""

    concept: str
    rate: float
    epochs: np.ndarray
    truth: Truth
    twins: np.ndarray
    held_out: np.ndarray

    @property
    def memorises(self) -> bool:
        return self.truth.epoch is not None

    def onset(self, read: np.ndarray, power: float = 0.0) -> Turn:
        """What the detector makes of these losses [T, photos, levels, draws]."""
        factor = worth(TWINS, 1, power)
        readings = []
        for epoch, items in zip(self.epochs.tolist(), read.astype(np.float64), strict=True):
            readings.append(Readings(epoch, 0.0, {"heldout_loss": reading_of_items(items)}, {"heldout_loss": items}))
        turn = find_onset(Trajectory(tuple(readings))).memory
        if turn.epoch is None:
            return turn
        if turn.epoch * factor > self.epochs[-1]:
            return Turn("beyond")
        low, high = (None if at is None else at * factor for at in (turn.low, turn.high))
        return Turn("found", turn.epoch * factor, low, high, turn.channels)


def compute(
    folder: Path, sets: Sequence[tuple[str, int, float]], steps: int, seconds: float, device: str = "cpu"
) -> None:
    """Train and read what `folder` lacks; no further set is begun after so many seconds."""
    began = time.monotonic()
    base = None
    for concept, photos, rate in sets:
        file = folder / f"{concept}-{photos}-{rate:g}.npz"
        if file.is_file() or time.monotonic() - began > seconds:
            continue
        if base is None:
            from benchmarks.onset_recompute import BASE
            from trainer.base_model.load import load_base

            base = load_base(BASE, device=device)
        since = time.monotonic()
        arrays = _computed(base, concept, photos, rate, steps)
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{file.name}"
        np.savez_compressed(aside, allow_pickle=False, **arrays)
        aside.rename(file)
        print(f"{file.stem}: {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)


def _computed(base: Any, concept: str, count: int, rate: float, steps: int) -> dict[str, np.ndarray]:
    from benchmarks.onset_plan import PackPlan
    from benchmarks.onset_world import World, write_photos
    from studies.demo.scenes import render_concept
    from trainer.config.config import TrainConfig
    from trainer.data.dataset import scan_dataset
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack

    photos, captions, _, _ = render_concept(concept, "set", count + HELD_OUT, seed=700, device=base.device)
    fresh, texts, _, _ = render_concept(concept, "set", FRESH, seed=9700, device=base.device)
    left_out = folds(TWINS, np.eye(count), seed=0)
    twin_losses = [_Losses(base, photos[rows], [captions[row] for row in rows]) for rows in left_out]
    held_losses = _Losses(base, photos[count:], captions[count:])
    true_losses = _Losses(base, fresh, texts, groups=LEVELS)
    epochs = round(steps * BATCH_SIZE / count)
    grid = detector_grid(epochs)
    read: dict[str, list[np.ndarray]] = {"twins": [], "held_out": [], "true": []}
    with tempfile.TemporaryDirectory(prefix="onset-twins-") as scratch:
        plan = PackPlan("twins", concept, count, 0, {})
        dataset = scan_dataset(write_photos(Path(scratch) / "photos", plan, World(photos, captions, {}, {})))
        asked: dict[str, Any] = {"resolution": 64, "batch_size": BATCH_SIZE, "epochs": epochs, "seed": 0}
        config = TrainConfig(base="demo", data=str(dataset.root), rank=16, learning_rate=rate, **asked)
        pack, settings = Pack(base, dataset, pack_settings(config)), run_settings(config)
        main, twins = pack.join(settings, run_dir=Path(scratch) / "main"), []
        for at, rows in enumerate(left_out):
            kept = dataset.subset([row for row in range(count) if row not in rows])
            twins.append(pack.join(settings, run_dir=Path(scratch) / f"twin-{at}", photos=kept))
        for epoch in range(epochs + 1):
            if epoch:
                pack.train_epoch()
            if epoch and epoch not in grid:
                continue
            joined = np.empty((count, LEVELS, 1))
            for rows, losses, run in zip(left_out, twin_losses, twins, strict=True):
                joined[rows] = losses(run.lora_weights() if epoch else None)
            weights = main.lora_weights() if epoch else None
            for name, values in (("twins", joined), ("held_out", held_losses(weights)), ("true", true_losses(weights))):
                read[name].append(values)
    ratios = {name: np.stack([log_ratios(each, values[0]) for each in values]) for name, values in read.items()}
    return {"epochs": np.array([0, *grid]), **{name: values.astype(np.float32) for name, values in ratios.items()}}


class _Losses:
    """Losses on images under noise that is fixed for good; with `groups` each of these has one share of the levels."""

    def __init__(self, base: Any, images: np.ndarray, captions: Sequence[str], groups: int = 1) -> None:
        from trainer.inference.evaluate import Evaluation

        self._rows = [list(range(group, len(images), groups)) for group in range(groups)]
        self._ready = []
        for group, rows in enumerate(self._rows):
            texts = [captions[row] for row in rows]
            ready = Evaluation.prepare(base, images[rows], texts, levels=LEVELS, draws=1, seed=7 + group)
            self._ready.append(replace(ready, timesteps=ready.timesteps[group::groups]))

    def __call__(self, lora: Any) -> np.ndarray:
        """[N, levels ÷ groups, 1]."""
        read = [ready.losses(lora) for ready in self._ready]
        losses = np.empty((sum(map(len, self._rows)), *read[0].shape[1:]))
        for rows, values in zip(self._rows, read, strict=True):
            losses[rows] = values
        return losses


def cases(folder: Path) -> Iterator[Case]:
    """All runs that `folder` holds."""
    for file in sorted(folder.glob("*-*-*.npz")):
        concept, _, rate = file.stem.split("-", 2)
        with np.load(file, allow_pickle=False) as arrays:
            renders = arrays["true"].astype(np.float64).mean(axis=(2, 3))
            weights = np.random.default_rng(1).normal(size=(renders.shape[1], 300)) / renders.shape[1]
            apart = renders - renders.mean(axis=1, keepdims=True)
            truth = true_onset(arrays["epochs"], renders.mean(axis=1), apart @ weights)
            yield Case(concept, float(rate), arrays["epochs"], truth, arrays["twins"], arrays["held_out"])


def summary(found: Sequence[tuple[Case, Turn]]) -> dict[str, Any]:
    """Errors in octaves of the runs that memorise, what was missed of them, and what was seen in others."""
    sure = [(case.truth.epoch, turn) for case, turn in found if case.truth.sure]
    turning = [(truth, turn) for truth, turn in sure if truth is not None]
    quiet = [turn for truth, turn in sure if truth is None]
    dated = [(truth, turn, turn.epoch) for truth, turn in turning if turn.epoch is not None]
    off = np.array([float(np.log2(epoch / truth)) for truth, _, epoch in dated])
    inside = [(turn.low or 0) <= truth <= (turn.high or np.inf) for truth, turn, _ in dated]
    some = off.size > 0
    return {
        "runs": len(turning),
        "median": float(np.median(np.abs(off))) if some else None,
        "p90": float(np.quantile(np.abs(off), 0.9)) if some else None,
        "bias": float(np.median(off)) if some else None,
        "missed": len(turning) - off.size,
        "covered": float(np.mean(inside)) if some else None,
        "quiet": len(quiet),
        "false": sum(turn.epoch is not None for turn in quiet),
    }


def report(folder: Path) -> dict[str, Any]:
    """Ways to know, by group of concepts."""
    out: dict[str, Any] = {}
    every = list(cases(folder))
    for group in ("choosing", "reported"):
        own = [case for case in every if (case.concept in CHOOSING) == (group == "choosing")]
        rows: dict[str, Any] = {"nothing held out": summary([(case, Turn("unmeasured")) for case in own])}
        rows[f"{HELD_OUT} held out"] = summary([(case, case.onset(case.held_out)) for case in own])
        for power in POWERS:
            rows[f"{TWINS} twins, power {power:g}"] = summary([(case, case.onset(case.twins, power)) for case in own])
        out[group] = rows
    return out


def by_photos(place: Path = KEPT, resamples: int = 200) -> dict[str, Any]:
    """To which power of the number of photos the true memory onset grows, in optimizer steps: least squares over the
    kept runs that surely turn, of logarithms, beside the learning rate, each concept and each kind of run. With the 5th
    and the 95th percentile over sets drawn anew."""
    planned = {plan.name: plan for plan in plans()}
    rows = []
    for name, arrays in read_packs(place):
        plan = planned.get(name)
        for run, settings in ({} if plan is None else plan.runs).items():
            if f"{run}/true_set" not in arrays or plan is None:
                continue
            truth = true_onset(*(arrays[f"{run}/true_set{part}"] for part in ("_epochs", "", "_replicates")))
            if truth.epoch is not None and truth.sure:
                steps = truth.epoch * plan.num_photos / BATCH_SIZE
                rows.append((name, plan.concept, run, plan.num_photos, settings["learning_rate"], steps))
    found: dict[str, Any] = {}
    for group in ("choosing", "reported", "all"):
        own = [row for row in rows if group == "all" or (row[1] in CHOOSING) == (group == "choosing")]
        sets, generator = sorted({row[0] for row in own}), np.random.default_rng(0)
        drawn = [
            [row for one in generator.choice(sets, len(sets)) for row in own if row[0] == one] for _ in range(resamples)
        ]
        low, high = np.quantile([_power(each) for each in drawn], (0.05, 0.95))
        found[group] = {
            "runs": len(own),
            "sets": len(sets),
            "power": _power(own),
            "low": float(low),
            "high": float(high),
        }
    return found


def _power(rows: Sequence[tuple[str, str, str, int, float, float]]) -> float:
    _, concepts, runs, photos, rates, steps = zip(*rows, strict=True)
    columns = [np.log2(photos), np.log2(rates)]
    columns += [np.array(each) == one for each in (concepts, runs) for one in sorted(set(each))]
    return float(np.linalg.lstsq(np.stack(columns, axis=1).astype(np.float64), np.log2(steps), rcond=None)[0][0])


def _table(found: dict[str, Any]) -> Iterator[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    for group, rows in found.items():
        yield f"\n{group}\n{'':24}{'runs':>6}{'median':>8}{'p90':>8}{'bias':>8}{'missed':>8}{'covered':>9}{'false':>9}"
        for name, row in rows.items():
            error = "".join(f"{number(row[key]):>8}" for key in ("median", "p90", "bias"))
            quiet = f"{row['false']} of {row['quiet']}"
            yield f"{name:24}{row['runs']:>6}{error}{row['missed']:>8}{number(row['covered']):>9}{quiet:>9}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("twins"))
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--concepts", nargs="+", default=[concept for concept, _, _ in SETS], help="only these")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further set after so many")
    asked = parser.parse_args(arguments)
    if asked.kept:
        found = by_photos()
        print(json.dumps(found, indent=1))
    else:
        folder = asked.folder / "quick" if asked.quick else asked.folder
        sets = [each for each in SETS if each[0] in asked.concepts]
        steps = 36 if asked.quick else STEPS
        compute(folder, sets[:1] if asked.quick else sets, steps, asked.seconds, asked.device)
        found = report(folder)
        print("\n".join(_table(found)))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

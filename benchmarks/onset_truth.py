"""True onsets of the benchmark's runs, and their trajectories as detectors get to see them.

The truth was fixed before any detector was run: the first epoch where a valley fit (isotonic down, then up) of the mean
ln loss ratio over 320 fresh renders exceeds its minimum by max(0.2 %, 15 % of its depth), interpolated in log epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.onset_packs import read_packs
from benchmarks.onset_plan import FRESH, HELD_OUT
from metrics.onset.curves import Kind
from metrics.onset.plateau import RISE, SHARE, log_axis
from metrics.onset.valley import fit_valley
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

KEYS: dict[Kind, str] = {"memory": "true_set", "context": "true_new"}  # of a kind's truth among a run's arrays
SEEN = ("heldout", "shifted", "shifted_train")  # by detectors, of every run
UNLEARNED = 0.1  # of the median depth among the pack's runs: below it a run has learned nothing


@dataclass(frozen=True)
class Truth:
    """One kind of onset of one run.

    Attributes:
        epoch: None when the loss never rises far enough.
        low, high: 95 % interval over renders; epoch is None whenever fewer than half of the replicates turn.
        sure: whether at least 95 % of the replicates agree on turning or not turning.
        epochs: [T] at which the truth was read. losses: [T] mean ln ratio over the renders. depth: how far it fell.
    """

    epoch: float | None
    low: float
    high: float
    sure: bool
    epochs: np.ndarray
    losses: np.ndarray
    depth: float

    @property
    def width(self) -> float:
        """Octaves of the interval; what lies beyond the last checkpoint counts up to twice its epoch."""
        return float(np.log2(min(self.high, 2.0 * self.epochs[-1]) / max(self.low, 0.5)))


@dataclass(frozen=True)
class Case:
    """One run: what is true, and what was read."""

    pack: str
    concept: str
    run: str
    num_photos: int
    epochs: np.ndarray
    effort: np.ndarray
    memory: Truth
    context: Truth
    learned: bool
    arrays: dict[str, np.ndarray]
    images: dict[int, dict[str, float]]

    def trajectory(
        self, *, held_out: int = HELD_OUT, until: int | None = None, contexts: bool = False, places: Sequence[int] = ()
    ) -> Trajectory:
        """What a detector sees with `held_out` photos; with none, subjects are cut out of the training photos only.

        Args:
            until: last epoch shown.
            contexts: whether photos in contexts of their own are held out, too.
            places: the same in these places instead, of choosing concepts.
        """
        arrays, heldout, elsewhere = self.arrays, None, None
        shifted, owners = arrays["shifted_train"].astype(np.float64), HELD_OUT + arrays["shifted_train_photo"]
        if held_out:
            heldout = arrays["heldout"][:, :held_out].astype(np.float64)
            shown = arrays["shifted_photo"] < held_out
            shifted = np.concatenate([arrays["shifted"][:, shown].astype(np.float64), shifted], axis=1)
            owners = np.concatenate([arrays["shifted_photo"][shown], owners])
        if places:
            elsewhere = arrays["elsewhere"][:, np.isin(arrays["elsewhere_photo"], places)].astype(np.float64)
        elif contexts:
            elsewhere = arrays["context"].astype(np.float64)
        readings = []
        for row, epoch in enumerate(self.epochs.tolist()):
            if until is not None and epoch > until:
                break
            items = {"shifted_loss": shifted[row], "shifted_loss_photo": owners}
            if heldout is not None:
                items["heldout_loss"] = heldout[row]
            if elsewhere is not None:
                items["context_loss"] = elsewhere[row]
            channels = {name: _reading(values) for name, values in items.items() if name.endswith("_loss")}
            seen = self.images.get(epoch, {})
            for name in seen:
                if f"{name}_low" in seen:
                    channels[name] = Reading(seen[name], seen[f"{name}_low"], seen[f"{name}_high"])
            readings.append(Readings(epoch, float(self.effort[row]), channels, items, seen.get("score", float("nan"))))
        return Trajectory(tuple(readings))


def load_cases(place: Path) -> Iterator[Case]:
    """All runs of all packs in a folder or archive but those whose losses are still to be read (again)."""
    for name, arrays in read_packs(place):
        yield from _cases(name, arrays)


def write_tables(folder: Path) -> None:
    """Beside every pack a CSV that a person can read: the means at every checkpoint of every run."""
    import pandas

    for pack, arrays in read_packs(folder):
        tables = []
        for case in _cases(pack, arrays):
            columns: dict[str, Any] = {"run": case.run, "epoch": case.epochs, "effort": case.effort}
            columns |= {
                name: values.astype(np.float64).reshape(len(case.epochs), -1).mean(axis=1)
                for name, values in sorted(case.arrays.items())
                if name in (*SEEN, "context")
            }
            for name in ("true_set", "true_new"):
                read = dict(zip(case.arrays[f"{name}_epochs"].tolist(), case.arrays[name].tolist(), strict=True))
                columns[name] = [read.get(epoch, float("nan")) for epoch in case.epochs.tolist()]
            for name in ("score", "fidelity", "prompt", "copying", "clip_image", "clip_text", "true_quality"):
                columns[name] = [case.images.get(epoch, {}).get(name, float("nan")) for epoch in case.epochs.tolist()]
            tables.append(pandas.DataFrame(columns))
        if tables:
            pandas.concat(tables).to_csv(folder / f"{pack}.csv", index=False, float_format="%.5g")


def _cases(pack: str, arrays: dict[str, np.ndarray]) -> Iterator[Case]:
    about: dict[str, Any] = json.loads(bytes(arrays["about"]))
    runs = [name for name in about["images"] if all(f"{name}/{key}" in arrays for key in SEEN)]
    truths = {
        name: {
            kind: true_onset(*(arrays[f"{name}/{key}{part}"] for part in ("_epochs", "", "_replicates")))
            for kind, key in KEYS.items()
        }
        for name in runs
    }
    typical = float(np.median([truths[name]["memory"].depth for name in runs])) if runs else 0.0
    for name in runs:
        own = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
        own |= {key: value for key, value in arrays.items() if key.endswith("_photo")}
        yield Case(
            pack, about["concept"], name, about["num_photos"], own["epochs"], own["effort"],
            truths[name]["memory"], truths[name]["context"], truths[name]["memory"].depth >= UNLEARNED * typical, own,
            {int(epoch): seen for epoch, seen in about["images"][name].items()},
        )  # fmt: skip


def true_onset(epochs: np.ndarray, losses: np.ndarray, deviations: np.ndarray) -> Truth:
    """The true onset of a curve.

    Args:
        epochs: [T]. losses: [T] mean ln ratios. deviations: [T, R] plausible errors of that mean.
    """
    curves = np.vstack([losses, losses + deviations.T])
    ends, depth = _ends(curves, epochs)
    turned = np.isfinite(ends[1:])
    share = float(turned.mean())
    epoch = float(2 ** ends[0]) if np.isfinite(ends[0]) and share >= 0.5 else None
    low, high = np.quantile(np.where(turned, ends[1:], 99.0), [0.025, 0.975], method="nearest")
    return Truth(epoch, float(2**low), float(2**high), share >= 0.95 or share <= 0.05, epochs, losses, float(depth[0]))


def _ends(curves: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = log_axis(epochs)
    fit, bottom, _ = fit_valley(curves)
    rows, index = np.arange(len(curves)), np.arange(len(epochs))
    lowest = fit[rows, bottom]
    depth = curves[:, 0] - lowest
    threshold = lowest + np.maximum(RISE, SHARE * depth)
    over = (fit > threshold[:, None]) & (index > bottom[:, None])
    after = np.where(over.any(axis=1), over.argmax(axis=1), 1)
    low, high = fit[rows, after - 1], fit[rows, after]
    share = np.clip((threshold - low) / np.maximum(high - low, 1e-12), 0, 1)
    crossing = axis[after - 1] + share * (axis[after] - axis[after - 1])
    return np.where(over.any(axis=1), crossing, np.inf), depth


def turns_from(case: Case, kind: Kind, renders: int) -> np.ndarray:
    """[R] log2 epochs at which the truth itself would seem to turn, had it been read from so few renders (inf: not at
    all): what the best possible detector with that many photos of the real thing could know."""
    truth, deviations = truth_of(case, kind), case.arrays[f"{KEYS[kind]}_replicates"]
    return _ends(truth.losses + np.sqrt(FRESH / renders) * deviations.T, truth.epochs)[0]


def truth_of(case: Case, kind: Kind) -> Truth:
    return case.memory if kind == "memory" else case.context


def _reading(items: np.ndarray) -> Reading:
    photos = items.reshape(len(items), -1).mean(axis=1)
    middle = float(photos.mean())
    half = 1.645 * float(photos.std(ddof=1)) / np.sqrt(len(photos)) if len(photos) > 1 else 0.0
    return Reading(middle, middle - half, middle + half)

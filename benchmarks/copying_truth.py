"""True copying of drawn runs, and what a detector sees of them: `benchmarks/copying-readings.npz`.

Of each run of fourteen packs (PACK/RUN) it has, at the base and seven checkpoints: `epochs [T]`, `copied [T, 16]` (is
an image of a training caption nearer to its own photo than to any of eight fresh renders of the same attributes,
`strict_truth.copied`), `own_photo [T, 6]` and `own_photo_held_out [T, 4]` (what the probe reads, as a study reads it),
`right [T]` (share of 40 fresh images that are right in everything) and `ships [3]` (what `find_onset` shipped of these
checkpoints when the file was written: the epochs of SHIPS).

The truth was fixed before any detector was tried (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.onset_plan import CHOOSING
from benchmarks.strict_truth import AGAIN
from metrics.channels.bootstrap import reading_of_items
from metrics.onset.copied import CHANNEL, HELD_OUT
from metrics.onset.plateau import log_axis
from metrics.onset.turns import Ship
from metrics.onset.valley import fit_valley
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

FILE = Path(__file__).with_name("copying-readings.npz")
CHANCE = 1 / (AGAIN + 1)
COPYING = 3 * CHANCE  # the share of copies from which on a run copies
SURELY, SURELY_NOT = 0.9, 0.2  # of the curves that other photos would give
REDRAWN = 400

SHIPS: tuple[Ship, ...] = ("safe", "balanced", "likeness")

Kind = Literal["copies", "never", "undecided"]


@dataclass(frozen=True)
class CopyingRun:
    """One run: `epochs [T]`, `copied [T, n]`, photo of each image `[n]`, what the probe reads, `right [T]`, `ships`."""

    pack: str
    name: str
    epochs: np.ndarray
    copied: np.ndarray
    photo: np.ndarray
    own_photo: np.ndarray
    own_photo_held_out: np.ndarray
    right: np.ndarray
    ships: np.ndarray

    @property
    def concept(self) -> str:
        return self.pack.split("-")[0]

    @property
    def chooses(self) -> bool:
        return self.concept in CHOOSING

    @cached_property
    def truth(self) -> TrueCopying:
        return true_copying(self.epochs, self.copied, self.photo)

    def trajectory(self, *, trained: int = 6, held_out: int = 4) -> Trajectory:
        """What a study reads of the run, from so many captions of each kind."""
        readings = []
        for row, epoch in enumerate(self.epochs.tolist()):
            parts = {CHANNEL: self.own_photo[row, :trained], HELD_OUT: self.own_photo_held_out[row, :held_out]}
            items = {name: values.astype(float) for name, values in parts.items()}
            value = float(items[CHANNEL].mean() - items[HELD_OUT].mean())
            readings.append(Readings(epoch, 0.0, {CHANNEL: Reading(value, value, value)}, items))
        return Trajectory(tuple(readings))


@dataclass(frozen=True)
class TrueCopying:
    """Whether and from when on a run copies.

    Attributes:
        kind: surely "copies", surely "never", or "undecided".
        share: of the curves that other photos would give, how many copy.
        log_epoch: log2 epoch at which it begins to; inf where it does not.
        low, high: its middle 95 %, log2 epochs; inf beyond the last checkpoint.
        shares: [T] share of copies, less the base's, plus what chance gives.
    """

    kind: Kind
    share: float
    log_epoch: float
    low: float
    high: float
    shares: np.ndarray


def true_copying(epochs: np.ndarray, copied: np.ndarray, photo: np.ndarray) -> TrueCopying:
    """The truth of a run.

    Args:
        epochs: [T], the base first. copied: bool [T, n]. photo: [n], whose caption each image was drawn from.
    """
    shares = copied.astype(float) - copied[0] + CHANCE
    own = [np.flatnonzero(photo == each) for each in np.unique(photo)]
    generator = np.random.default_rng(0)
    drawn = [generator.choice(len(own), len(own)) for _ in range(REDRAWN)]
    curves = [
        shares.mean(axis=1),
        *(shares[:, np.concatenate([own[row] for row in rows])].mean(axis=1) for rows in drawn),
    ]
    at = first_reached(np.stack(curves), epochs, COPYING)
    share = float(np.isfinite(at[1:]).mean())
    low, high = np.quantile(np.where(np.isfinite(at[1:]), at[1:], 99.0), [0.025, 0.975], method="nearest")
    kind: Kind = "undecided"
    if share >= SURELY and np.isfinite(at[0]):
        kind = "copies"
    elif share <= SURELY_NOT:
        kind = "never"
    return TrueCopying(kind, share, float(at[0]), float(low), float(high) if high < 99 else np.inf, curves[0])


def first_reached(curves: np.ndarray, epochs: np.ndarray, level: float) -> np.ndarray:
    """[R] log2 epochs at which a fit of each curve [R, T] that rises, then falls first reaches a level; inf: not."""
    axis, fit = log_axis(epochs), -fit_valley(-curves).fit
    over = fit >= level
    there, after = over.any(axis=1), np.maximum(over.argmax(axis=1), 1)
    rows = np.arange(len(curves))
    low, high = fit[rows, after - 1], fit[rows, after]
    share = np.clip((level - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    return np.where(there, axis[after - 1] + share * (axis[after] - axis[after - 1]), np.inf)


def copying_runs(file: Path = FILE) -> Iterator[CopyingRun]:
    with np.load(file) as arrays:
        for key in dict.fromkeys(name.rsplit("/", 1)[0] for name in arrays.files):
            pack, name = key.split("/")
            copied = arrays[f"{key}/copied"]
            photo = np.arange(copied.shape[1]) % int(pack.split("-")[1])
            read = (arrays[f"{key}/{part}"] for part in ("own_photo", "own_photo_held_out", "right", "ships"))
            yield CopyingRun(pack, name, arrays[f"{key}/epochs"], copied, photo, *read)


def keep_readings(drawn: Path, file: Path) -> int:
    """Writes what the packs in a folder say (`strict_drawn`, with their sheets); returns how many runs that are."""
    from benchmarks.onset_plan import HELD_OUT as HELD_OUT_PHOTOS
    from benchmarks.strict_drawn import read_drawn, read_sheet
    from benchmarks.strict_scores import right_shares
    from benchmarks.strict_truth import copied
    from metrics.channels.own_photo import nearness_gained, small_pixels
    from metrics.onset.onset import find_onset
    from studies.demo.scenes import render_concept

    kept: dict[str, np.ndarray] = {}
    for plan, arrays in read_drawn(drawn):
        count = plan.num_photos + HELD_OUT_PHOTOS
        photos = small_pixels(render_concept(plan.concept, "set", count, seed=100 + plan.seed)[0])
        trained = np.arange(count) < plan.num_photos
        photo = np.repeat([*range(6), *range(plan.num_photos, plan.num_photos + 4)], 2)  # `onset_world._probe`
        with np.load(drawn / f"{plan.name}.webp.npz") as sheets:
            for run in plan.runs:
                epochs = arrays[f"{run}/epochs"]
                seen = [small_pixels(read_sheet(sheets[f"{run}/{row}"]))[: len(photo)] for row in range(len(epochs))]
                gained = [nearness_gained(pixels, seen[0], photos, photo, trained) for pixels in seen]
                own, held_out = (np.stack(part).astype(np.float32) for part in zip(*gained, strict=True))
                of_run = {key.removeprefix(f"{run}/"): arrays[key] for key in arrays if key.startswith(f"{run}/")}
                owners = np.concatenate([arrays["shifted_photo"], HELD_OUT_PHOTOS + arrays["shifted_train_photo"]])
                found = {
                    "epochs": epochs, "copied": copied(of_run["trained_apart"].astype(float)), "own_photo": own,
                    "own_photo_held_out": held_out, "right": right_shares(of_run).astype(np.float32),
                    "ships": np.array([find_onset(_read(of_run, owners), ship=ship).best for ship in SHIPS]),
                }  # fmt: skip
                kept |= {f"{plan.name}/{run}/{name}": values for name, values in found.items()}
    with file.open("wb") as written:
        np.savez_compressed(written, allow_pickle=False, **kept)
    return len(kept) // 6


def _read(arrays: dict[str, np.ndarray], owners: np.ndarray) -> Trajectory:
    """A drawn run as a study with held-out photos and contexts reads it."""
    losses = {f"{name}_loss": arrays[name].astype(float) for name in ("heldout", "context")}
    losses["shifted_loss"] = np.concatenate([arrays["shifted"], arrays["shifted_train"]], axis=1).astype(float)
    behaviour = [name for name, values in arrays.items() if values.ndim == 2 and values.shape[1] == 3]
    readings = []
    for row, epoch in enumerate(arrays["epochs"].tolist()):
        items: dict[str, Any] = {name: values[row] for name, values in losses.items()}
        channels = {name: reading_of_items(values) for name, values in items.items()}
        channels |= {name: Reading(*arrays[name][row].tolist()) for name in behaviour}
        items["shifted_loss_photo"] = owners
        readings.append(Readings(epoch, float(arrays["effort"][row]), channels, items, float(arrays["score"][row])))
    return Trajectory(tuple(readings))

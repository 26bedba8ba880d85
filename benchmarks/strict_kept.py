"""Strict quality of the kept packs of the onset benchmark: the share of images in new contexts that show the concept
and all that was asked for.

The packs keep, image by image, the judged probability of the concept and the mean probability of the four attributes
that were asked for (place, floor, position, size). Above 7/8 that mean leaves none of the four below one half, so an
image counts as right when the concept is likelier than not and the mean is above 7/8. Packs hold five checkpoints of
each run with sixteen such images each; between them strict quality is interpolated over log2 epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.onset_behaviour import NOVEL
from benchmarks.onset_packs import KEPT
from benchmarks.onset_plan import CHOOSING, REPORTED
from benchmarks.onset_truth import Case, load_cases
from metrics.onset.onset import find_onset
from metrics.onset.turns import Onset, Ship

CONCEPT, ASKED = 0.5, 0.875
OCTAVES = (-3, 4)
Groups = Mapping[str, Sequence[str]]
GROUPS: Groups = {"choosing": CHOOSING, "reported": REPORTED}


@dataclass(frozen=True)
class Judged:
    """A learned run whose images were judged."""

    case: Case

    @property
    def onset(self) -> Onset:
        return self._onsets["safe"]

    def ships(self, ship: Ship) -> int:
        """The epoch that is shipped under a setting of `score.ship`."""
        return self._onsets[ship].best

    @cached_property
    def _onsets(self) -> dict[Ship, Onset]:
        trajectory = self.case.trajectory(contexts=True)
        return {ship: find_onset(trajectory, ship=ship) for ship in get_args(Ship)}

    @cached_property
    def all_trained(self) -> dict[Ship, Onset]:
        """Its onset where no photo is held out, so that moved subjects alone are read."""
        trajectory = self.case.trajectory(held_out=0)
        return {ship: find_onset(trajectory, ship=ship) for ship in get_args(Ship)}

    @property
    def epochs(self) -> np.ndarray:
        return self.case.arrays["looked_epochs"]

    @cached_property
    def right(self) -> dict[str, np.ndarray]:
        """[looks] shares of the images in new contexts: `all` right, the concept, and all that was asked for."""
        concept = self.case.arrays["looked_right"].astype(float)[:, NOVEL] > CONCEPT
        asked = self.case.arrays["looked_obeyed"].astype(float)[:, NOVEL] > ASKED
        return {"all": (concept & asked).mean(1), "concept": concept.mean(1), "asked": asked.mean(1)}

    def at(self, epoch: float, what: str = "all") -> float:
        """Between two looked-at checkpoints by their distance in log2 epochs; the base obeys, and shows no concept."""
        at_base = 1.0 if what == "asked" else 0.0
        axis = np.log2([0.5, *self.epochs.tolist()])
        return float(np.interp(np.log2(max(epoch, 1)), axis, [at_base, *self.right[what]]))

    def lowest(self, *names: str) -> int:
        """The epoch with the lowest sum of these losses."""
        means = [self.case.arrays[n].astype(float).reshape(len(self.case.epochs), -1).mean(1) for n in names]
        return int(self.case.epochs[np.sum(means, axis=0).argmin()])

    def checkpoint(self, epoch: float | None) -> int:
        """The last checkpoint up to an epoch, the last of all for None."""
        trained = self.case.epochs[self.case.epochs > 0]
        return int(trained[trained <= epoch][-1]) if epoch is not None and trained[0] <= epoch else int(trained[-1])


def judged_runs(kept: Path = KEPT) -> list[Judged]:
    """The kept runs with judged images that learned their subject, as detectors see them."""
    runs = [Judged(case) for case in load_cases(kept) if "looked_right" in case.arrays]
    return [run for run in runs if run.onset.learned is not None]


PICKS: dict[str, Callable[[Judged], float]] = {
    "safe": lambda run: run.ships("safe"),
    "balanced": lambda run: run.ships("balanced"),
    "likeness": lambda run: run.ships("likeness"),
    "onset": lambda run: run.checkpoint(run.onset.epoch),
    "1.4 × onset": lambda run: run.checkpoint(1.4 * run.onset.epoch if run.onset.epoch else None),
    "2 × onset": lambda run: run.checkpoint(2 * run.onset.epoch if run.onset.epoch else None),
    "lowest held-out loss": lambda run: run.lowest("heldout"),
    "lowest context loss": lambda run: run.lowest("context"),
    "last": lambda run: run.checkpoint(None),
    "best of those looked at": lambda run: float(run.epochs[run.right["all"].argmax()]),
}


PICKS_OF_ALL_TRAINED: dict[str, Callable[[Judged], float]] = {
    "safe": lambda run: run.all_trained["safe"].best,
    "balanced": lambda run: run.all_trained["balanced"].best,
    "likeness": lambda run: run.all_trained["likeness"].best,
    "onset": lambda run: run.checkpoint(run.all_trained["safe"].epoch),
    "last": lambda run: run.checkpoint(None),
}


def of_picks(
    runs: Sequence[Judged], picks: Mapping[str, Callable[[Judged], float]] = PICKS
) -> dict[str, dict[str, dict[str, float]]]:
    """Group to rule to means over runs of strict quality (`all`), `concept` and `asked` at the epoch that it picks; and
    how much more strict quality that is than the safe one's, with a 90 % interval (whole packs are resampled)."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for group, concepts in GROUPS.items():
        own = [run for run in runs if run.case.concept in concepts]
        picked = {name: [rule(run) for run in own] for name, rule in picks.items()}
        packs = np.array([run.case.pack for run in own])
        values = {
            name: {
                what: np.array([run.at(e, what) for run, e in zip(own, epochs, strict=True)]) for what in own[0].right
            }
            for name, epochs in picked.items()
        }
        found[group] = {}
        for name, read in values.items():
            low, high = _resampled(read["all"] - values["safe"]["all"], packs)
            found[group][name] = {what: float(shares.mean()) for what, shares in read.items()}
            found[group][name] |= {"more, low": low, "more, high": high, "runs": len(own)}
    return found


def around_onsets(runs: Sequence[Judged]) -> dict[int, dict[str, float]]:
    """Octaves after the true onset in new contexts, rounded down, to means over checkpoints of reported runs that
    surely turn: strict quality, and `true_quality` as it was reported before (concept × mean of the attributes)."""
    rows: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        truth = run.case.context
        if truth.epoch is None or not truth.sure or run.case.concept not in REPORTED:
            continue
        for row, epoch in enumerate(run.epochs.tolist()):
            octaves = int(np.clip(np.floor(np.log2(epoch / truth.epoch)), *OCTAVES))
            soft = run.case.images[epoch]["true_quality"]
            rows.setdefault(octaves, []).append((float(run.right["all"][row]), soft))
    return {
        octaves: {
            "checkpoints": len(seen),
            "strict": float(np.mean(seen, axis=0)[0]),
            "soft": float(np.mean(seen, axis=0)[1]),
        }
        for octaves, seen in sorted(rows.items())
    }


def across_trials(runs: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Each pack as a study whose trials ship their balanced epoch: mean strict quality of the trial that a reading
    picks (of the looked-at checkpoint nearest to what the trial ships), and the median over packs of Spearman's
    correlation between the reading and strict quality. Packs of four trials or more."""
    from scipy.stats import spearmanr

    def read(run: Judged, name: str) -> tuple[float, float]:
        row = int(np.abs(np.log2(run.epochs / max(run.ships("balanced"), 1))).argmin())
        epoch = int(run.epochs[row])
        if name in ("heldout", "context"):
            at = int(np.searchsorted(run.case.epochs, epoch))
            return -float(run.case.arrays[name][at].astype(float).mean()), float(run.right["all"][row])
        value = float(run.right["all"][row]) if name == "oracle" else run.case.images[epoch][name]
        return value, float(run.right["all"][row])

    found: dict[str, dict[str, float]] = {}
    packs = sorted({run.case.pack for run in runs})
    for group, concepts in GROUPS.items():
        studies = [[r for r in runs if r.case.pack == pack and r.case.concept in concepts] for pack in packs]
        studies = [study for study in studies if len(study) >= 4]
        for name in ("score", "heldout", "context", "clip_image", "fidelity", "oracle"):
            picked, ranks = [], []
            for study in studies:
                values, truths = np.array([read(run, name) for run in study]).T
                picked.append(truths[values.argmax()])
                if len(set(truths)) > 1 and len(set(values)) > 1:
                    ranks.append(spearmanr(values, truths)[0])
            found[f"{group}, {name}"] = {
                "picked": float(np.mean(picked)),
                "rank": float(np.median(ranks)),
                "studies": len(studies),
            }
    return found


def _resampled(values: np.ndarray, packs: np.ndarray) -> tuple[float, float]:
    means = np.array([values[packs == pack].mean() for pack in np.unique(packs)])
    draws = np.random.default_rng(0).integers(len(means), size=(2000, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), [0.05, 0.95])
    return float(low), float(high)

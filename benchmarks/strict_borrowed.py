"""Does a score rank better when it borrows from neighbouring checkpoints, other trials or losses?

Two tables for each group of concepts. Drawn packs (`strict-scores.npz`, 104 fresh images as the truth): correlations of
`strict_scores.ranks` with their means, and `runs`, the rank correlation between the best-scored checkpoints of a pack's
runs. Kept packs, each as a study whose trials ship their balanced epoch: strict quality of the trial that a rule picks,
how much more that is than the score's pick (90 %, whole packs are resampled), and the rank correlation. There the
score is today's without moved subjects, and the truth is read from sixteen of the images that the score sees.

    python -m benchmarks.strict_borrowed [--groups choosing reported] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.onset_packs import KEPT
from benchmarks.onset_plan import plans
from benchmarks.onset_truth import Case, load_cases
from benchmarks.strict import table_text
from benchmarks.strict_ceiling import group_runs
from benchmarks.strict_kept import GROUPS, Judged
from benchmarks.strict_scores import SIGNS, ScoredRun, spearman
from metrics.channels.copying import copying_null
from metrics.checkpoint.score import Limits, score_within
from metrics.onset.onset import find_onset

OWN_IMAGES = 20  # of captions of photos, in a probe
PARTS = ("recognised", "fidelity", "fidelity_weak", "prompt", "copying", "colour", "scatter", "layout_copying",
         "collapse", "diversity", "burn")  # fmt: skip
Columns = Mapping[str, np.ndarray]


def scores(columns: Columns, colour_of_base: float, photos: int) -> np.ndarray:
    """[T] scores as they are computed today, of channels [T]."""
    copying = min(0.5 + 1.645 * copying_null(OWN_IMAGES, photos), 0.95)
    limits = Limits(copying=copying, colour=max(3.0, colour_of_base), diversity=0.0, weights={})
    rows = len(next(iter(columns.values())))
    return np.array([score_within(limits, {name: own[row] for name, own in columns.items()}) for row in range(rows)])


def smoothed(axis: np.ndarray, values: np.ndarray, octaves: float) -> np.ndarray:
    """[T] at the checkpoints themselves: a line under Gaussian weights over log2 epoch."""
    apart = axis - axis[:, None]
    weights = np.exp(-0.5 * (apart / octaves) ** 2)
    found = []
    for own, far in zip(weights, apart, strict=True):
        sides = np.stack([np.ones_like(far), far])
        found.append(np.linalg.solve((sides * own) @ sides.T + 1e-9 * np.eye(2), (sides * own) @ values)[0])
    return np.array(found)


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


# Drawn packs: a rule gives values for every checkpoint of each of a pack's runs.

PHOTOS = {plan.name: plan.num_photos for plan in plans()}
Pack = Sequence[ScoredRun]
Values = list[np.ndarray]


def as_it_is(pack: Pack) -> Values:
    return [run.columns["score"] for run in pack]


def _axis(run: ScoredRun) -> np.ndarray:
    return np.log2(run.columns["epochs"][1:])


def score_over_epochs(octaves: float, share: float = 1.0) -> Callable[[Pack], Values]:
    """The score, by a share, as its run's own smoothed curve."""

    def rule(pack: Pack) -> Values:
        return [
            np.append(own[0], (1 - share) * own[1:] + share * smoothed(_axis(run), own[1:], octaves))
            for run, own in zip(pack, as_it_is(pack), strict=True)
        ]

    return rule


def parts_over_epochs(names: Sequence[str], octaves: float) -> Callable[[Pack], Values]:
    """The score of channels, some of which are smoothed first."""

    def rule(pack: Pack) -> Values:
        found = []
        for run in pack:
            used = {name: run.columns[name] for name in PARTS if name in run.columns}
            for name in set(names) & used.keys():
                own = used[name]
                used[name] = np.append(own[0], smoothed(_axis(run), own[1:], octaves))
            found.append(scores(used, run.columns["colour"][0], PHOTOS[run.pack]))
        return found

    return rule


def to_the_study(share: float, octaves: float) -> Callable[[Pack], Values]:
    """By a share the mean curve of all runs of the pack."""

    def rule(pack: Pack) -> Values:
        axis, every = (np.concatenate(side) for side in ([_axis(run) for run in pack], [v[1:] for v in as_it_is(pack)]))
        found = []
        for run, own in zip(pack, as_it_is(pack), strict=True):
            weights = np.exp(-0.5 * ((_axis(run)[:, None] - axis) / octaves) ** 2)
            found.append(np.append(own[0], (1 - share) * own[1:] + share * (weights @ every) / weights.sum(axis=1)))
        return found

    return rule


def beside(name: str, weight: float) -> Callable[[Pack], Values]:
    """Standardised over all of a pack's checkpoints: the score, and so much of another reading."""

    def rule(pack: Pack) -> Values:
        ends = np.cumsum([len(run.columns["epochs"]) for run in pack])[:-1]
        trained = np.concatenate([run.columns["epochs"] > 0 for run in pack])
        found = np.zeros(len(trained))
        for own, much in ((as_it_is(pack), 1.0), ([SIGNS[name] * run.columns[name] for run in pack], weight)):
            values = np.nan_to_num(np.concatenate(own), nan=-9.0)
            found[trained] += much * standardised(values[trained])
        return np.split(found, ends)

    return rule


OF_CHECKPOINTS: dict[str, Callable[[Pack], Values]] = {
    "score": as_it_is,
    "score over epochs, 0.7 octaves": score_over_epochs(0.7),
    "score over epochs, 1.5 octaves": score_over_epochs(1.5),
    "score half over epochs, 1.5 octaves": score_over_epochs(1.5, 0.5),
    "all parts over epochs, 0.7 octaves": parts_over_epochs(PARTS, 0.7),
    "diversity over epochs, 2 octaves": parts_over_epochs(["diversity"], 2.0),
    "a quarter of the study's mean curve": to_the_study(0.25, 1.0),
    "score + context loss": beside("context", 1.0),
    "score + held-out loss": beside("heldout", 1.0),
    "score + 0.5 CLIP-I": beside("clip_image", 0.5),
}


def checkpoints_table(group: str) -> dict[str, dict[str, float]]:
    runs = group_runs(group)
    packs = [[run for run in runs if run.pack == name] for name in dict.fromkeys(run.pack for run in runs)]
    return {name: _ranked(packs, rule) for name, rule in OF_CHECKPOINTS.items()}


def _ranked(packs: Sequence[Pack], rule: Callable[[Pack], Values]) -> dict[str, float]:
    within, learned, every, picked, between = [], [], [], [], []
    for pack in packs:
        values, truths, kept = rule(pack), [run.columns["right"] for run in pack], [run.learned for run in pack]
        for value, truth, rows in zip(values, truths, kept, strict=True):
            if rows.sum() >= 4 and np.ptp(truth[rows]) > 0:
                within.append(spearman(value[rows], truth[rows]))
        value, truth, rows = (np.concatenate([each[1:] for each in side]) for side in (values, truths, kept))
        learned.append(spearman(value[rows], truth[rows]))
        every.append(spearman(value, truth))
        picked.append(truth[value.argmax()] / truth.max())
        best = [own[1:].argmax() + 1 for own in values]
        tops, true_tops = (
            np.array([own[row] for own, row in zip(side, best, strict=True)]) for side in (values, truths)
        )
        between.append(spearman(tops, true_tops))
    return {
        "within": float(np.median(within)), "within, mean": float(np.mean(within)),
        "learned": float(np.median(learned)), "learned, mean": float(np.mean(learned)),
        "every": float(np.median(every)), "picked": float(np.mean(picked)), "runs": float(np.mean(between)),
    }  # fmt: skip


# Kept packs: a rule gives one value for each trial of a study.


@dataclass(frozen=True)
class Trial:
    """A kept run as a trial of a study. All arrays are [looks], over the checkpoints whose images were judged."""

    case: Case
    ships: int

    @cached_property
    def epochs(self) -> np.ndarray:
        return self.case.arrays["looked_epochs"]

    @cached_property
    def axis(self) -> np.ndarray:
        return np.log2(self.epochs)

    @property
    def row(self) -> int:
        """The look that is nearest to what it ships."""
        return int(np.abs(np.log2(self.epochs / max(self.ships, 1))).argmin())  # ties as in `strict_kept`

    @cached_property
    def right(self) -> np.ndarray:
        return Judged(self.case).right["all"]

    def channel(self, name: str) -> np.ndarray:
        return np.array([self.case.images[epoch].get(name, np.nan) for epoch in self.epochs.tolist()])

    def loss(self, name: str) -> np.ndarray:
        rows = np.searchsorted(self.case.epochs, self.epochs)
        return self.case.arrays[name][rows].astype(float).reshape(len(rows), -1).mean(axis=1)

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        found = {name: self.channel(name) for name in PARTS}
        return {name: own for name, own in found.items() if np.isfinite(own).all()}

    def scores(self, parts: Columns) -> np.ndarray:
        return scores(parts, self.case.images[0].get("colour", 0.0), self.case.num_photos)

    @cached_property
    def score(self) -> np.ndarray:
        return self.scores(self.parts)

    @cached_property
    def error(self) -> np.ndarray:
        """Standard errors of the score, from the channels' own intervals as if they were independent."""
        squared = np.zeros(len(self.epochs))
        for name, own in self.parts.items():
            low, high = self.channel(f"{name}_low"), self.channel(f"{name}_high")
            step = np.nan_to_num((high - low) / (2 * 1.645))
            for side in (step, -step):
                squared += (self.scores({**self.parts, name: own + side}) - self.score) ** 2 / 2
        return np.sqrt(squared)

    def likeliest(self, octaves: float, share: float) -> np.ndarray:
        """The score as a Gaussian process around its run's mean, with so much of the measured variance as noise."""
        noise = share * self.error**2
        spread = max(float(self.score.var() - noise.mean()), 5e-4)
        wave = spread * np.exp(-0.5 * ((self.axis[:, None] - self.axis) / octaves) ** 2)
        middle = self.score.mean()
        return middle + wave @ np.linalg.solve(wave + np.diag(noise + 1e-8), self.score - middle)


Study = Sequence[Trial]


def each(read: Callable[[Trial], np.ndarray]) -> Callable[[Study], np.ndarray]:
    """A reading at the epoch to ship."""
    return lambda study: np.array([read(trial)[trial.row] for trial in study])


SCORE, ERROR = each(lambda trial: trial.score), each(lambda trial: trial.error)
HELD_OUT, CONTEXT = each(lambda trial: -trial.loss("heldout")), each(lambda trial: -trial.loss("context"))
CLIP_IMAGE, CLIP_TEXT = each(lambda trial: trial.channel("clip_image")), each(lambda trial: trial.channel("clip_text"))


def shrunk(spread: float) -> Callable[[Study], np.ndarray]:
    """To the trials' mean, the more the larger its own error is beside a spread between trials."""

    def rule(study: Study) -> np.ndarray:
        own, errors = SCORE(study), ERROR(study)
        return own.mean() + (own - own.mean()) * spread**2 / (spread**2 + errors**2)

    return rule


def tied(reach: float, other: Callable[[Study], np.ndarray]) -> Callable[[Study], np.ndarray]:
    """Another reading among the trials whose scores lie so near the best."""
    return lambda study: np.where(SCORE(study) >= SCORE(study).max() - reach, 9 + other(study), SCORE(study))


def guarded(share: float) -> Callable[[Study], np.ndarray]:
    """The score among the trials whose held-out loss has fallen by this share of the most that any trial's has."""

    def rule(study: Study) -> np.ndarray:
        fallen = HELD_OUT(study)
        return np.where(fallen >= share * fallen.max(), SCORE(study), SCORE(study) - 9)

    return rule


def with_parts(names: Sequence[str], octaves: float) -> Callable[[Study], np.ndarray]:
    def read(trial: Trial) -> np.ndarray:
        smooth = {
            name: smoothed(trial.axis, own, octaves) if name in names else own for name, own in trial.parts.items()
        }
        return trial.scores(smooth)

    return each(read)


OF_TRIALS: dict[str, Callable[[Study], np.ndarray]] = {
    "score": SCORE,
    "held-out loss": HELD_OUT,
    "context loss": CONTEXT,
    "CLIP-I": CLIP_IMAGE,
    "CLIP-I + CLIP-T": lambda study: CLIP_IMAGE(study) + CLIP_TEXT(study),
    "score over epochs, 0.7 octaves": each(lambda trial: smoothed(trial.axis, trial.score, 0.7)),
    "all parts over epochs, 0.7 octaves": with_parts(PARTS, 0.7),
    "diversity over epochs, 2 octaves": with_parts(["diversity"], 2.0),
    "score over epochs by its own errors": each(lambda trial: trial.likeliest(1.0, 0.5)),
    "score shrunk by its own errors": shrunk(0.06),
    "score - 0.6 standard errors": lambda study: SCORE(study) - 0.6 * ERROR(study),
    "score + context loss": lambda study: standardised(SCORE(study)) + standardised(CONTEXT(study)),
    "score + held-out loss": lambda study: standardised(SCORE(study)) + standardised(HELD_OUT(study)),
    "score + 0.5 CLIP-I": lambda study: standardised(SCORE(study)) + 0.5 * standardised(CLIP_IMAGE(study)),
    "context loss among scores within 0.04": tied(0.04, CONTEXT),
    "score among half of the most learned": guarded(0.5),
    "score among 0.3 of the most learned": guarded(0.3),
    "score among 0.7 of the most learned": guarded(0.7),
    "oracle": each(lambda trial: trial.right),
}


def trials_table(group: str, most: int | None = None) -> dict[str, dict[str, float]]:
    """Of the first `most` packs with four learned trials or more."""
    studies = kept_studies(group, most)
    picks = {name: [_pick(study, rule) for study in studies] for name, rule in OF_TRIALS.items()}
    last = [max(study, key=lambda trial: trial.score[-1]).right[-1] for study in studies]
    picks["best last epoch"] = [(float(own), 0.0) for own in last]
    means = [float(np.mean([trial.right[trial.row] for trial in study])) for study in studies]
    picks["mean of the trials"] = [(own, 0.0) for own in means]
    usual = np.array([quality for quality, _ in picks["score"]])
    draws = np.random.default_rng(0).integers(len(studies), size=(2000, len(studies)))
    found = {}
    for name, rows in picks.items():
        quality, ranks = np.array(rows).T
        more = quality - usual
        low, high = np.quantile(more[draws].mean(axis=1), [0.05, 0.95])
        found[name] = {
            "picked": quality.mean(), "more": more.mean(), "more, low": low, "more, high": high,
            "rank": np.median(ranks), "rank, mean": ranks.mean(), "studies": len(studies),
        }  # fmt: skip
    return {name: {key: float(value) for key, value in row.items()} for name, row in found.items()}


def kept_studies(group: str, most: int | None = None) -> list[list[Trial]]:
    packs: dict[str, list[Trial]] = {}
    for case in load_cases(KEPT):
        if "looked_right" in case.arrays and case.concept in GROUPS[group]:
            if case.pack not in packs and most is not None and len(packs) == most:
                break
            onset = find_onset(case.trajectory(contexts=True), ship="balanced")
            packs.setdefault(case.pack, []).extend([Trial(case, onset.best)] if onset.learned is not None else [])
    return [study for study in packs.values() if len(study) >= 4]


def _pick(study: Study, rule: Callable[[Study], np.ndarray]) -> tuple[float, float]:
    values, truths = rule(study), each(lambda trial: trial.right)(study)
    return float(truths[int(values.argmax())]), spearman(values, truths)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strict_borrowed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="concepts")
    parser.add_argument("--quick", action="store_true", help="four kept packs of each group")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    args = parser.parse_args(arguments)
    found = {}
    for group in args.groups:
        tables = {"checkpoints": checkpoints_table(group), "trials": trials_table(group, 4 if args.quick else None)}
        for name, table in tables.items():
            print(f"{group}, {name}\n{table_text(table)}", end="\n\n")
        found[group] = tables
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

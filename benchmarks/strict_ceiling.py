"""How well could any score rank drawn checkpoints, when strict quality is itself read from images?

A run's true quality is taken for a smooth curve over log2 epoch: a Gaussian process of its logit, whose constants are
the likeliest of a grid on choosing concepts. Curves are drawn from what its images leave open; from each curve
come the images of a truth, and what a perfect reader would see in 36 or 16 images of its own.

All checkpoints of a pack draw the same prompts and seeds, so their errors are alike, and a difference of two has
only a share of the variance that independent images would give it. That share is counted image by image in the kept
packs (`paired_share`); the same is assumed of the images of a truth. Told beside it is what independent images would
allow.

    python -m benchmarks.strict_ceiling [--groups choosing reported] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.onset_behaviour import NOVEL
from benchmarks.onset_packs import KEPT
from benchmarks.onset_truth import load_cases
from benchmarks.strict import table_text
from benchmarks.strict_drawn import FRESH_DRAWN
from benchmarks.strict_kept import ASKED, CONCEPT, GROUPS
from benchmarks.strict_scores import LEARNED, SIGNS, ScoredRun, scored_runs, spearman

IMAGES = FRESH_DRAWN  # of a truth
READERS = {"a perfect score": None, "a perfect reader of 36 images": 36, "a perfect reader of 16 images": 16}
MIDDLE, BETWEEN, WITHIN, OCTAVES, JITTER = -0.6, 0.5, 1.0, 1.5, 0.15
"""Logits: mean, standard deviation between runs, within a run, its scale in octaves, and a checkpoint's own."""


def group_runs(group: str) -> list[ScoredRun]:
    """Drawn runs of a group with learned checkpoints."""
    return [run for run in scored_runs() if (run.concept in GROUPS["choosing"]) == (group == "choosing")]


def paired_share(group: str) -> float:
    """The variance of a difference of two learned checkpoints' strict quality, under the same prompts and seeds, as a
    share of what independent images would give it: image by image, over all pairs of a kept pack."""
    packs: dict[str, list[np.ndarray]] = {}
    for case in load_cases(KEPT):
        if "looked_right" not in case.arrays or case.concept not in GROUPS[group]:
            continue
        concept, asked = (case.arrays[f"looked_{name}"].astype(float) for name in ("right", "obeyed"))
        right = ((concept > CONCEPT) & (asked > ASKED))[:, NOVEL]
        packs.setdefault(case.pack, []).extend(right[concept.mean(axis=1) > LEARNED].astype(float))
    apart, independent = 0.0, 0.0
    for looks in packs.values():
        rows = np.array(looks)
        first, second = np.triu_indices(len(rows), 1)
        means = rows.mean(axis=1) if len(rows) else np.zeros(0)
        own = means * (1 - means)
        squared = np.square(rows[first] - rows[second]).mean(axis=1) if len(first) else np.zeros(0)
        apart += float((squared - np.square(means[first] - means[second])).sum())
        independent += float((own[first] + own[second]).sum())
    return apart / independent


def likely_curves(run: ScoredRun, images: float, draws: int, generator: np.random.Generator) -> np.ndarray:
    """[draws, learned] strict qualities that a run's learned checkpoints may have, given the shares seen in so many
    images: elliptical slice sampling (Murray, Adams and MacKay 2010, arXiv 1001.0175), a chain for each draw."""
    rows = run.learned
    right = images * run.columns["right"][rows]
    axis = np.log2(run.columns["epochs"][rows])
    apart = (axis[:, None] - axis) / OCTAVES
    spread = BETWEEN**2 + WITHIN**2 * np.exp(-0.5 * apart**2) + (JITTER**2 + 1e-6) * np.eye(len(axis))
    factor = np.linalg.cholesky(spread).T

    def likely(offsets: np.ndarray) -> np.ndarray:
        logits = MIDDLE + offsets
        return (right * logits - images * np.logaddexp(0, logits)).sum(axis=1)

    now = generator.normal(size=(draws, len(axis))) @ factor
    for _ in range(150):
        other = generator.normal(size=now.shape) @ factor
        least = likely(now) + np.log(generator.uniform(size=draws))
        angle = generator.uniform(0, 2 * np.pi, size=draws)
        low, high, moved = angle - 2 * np.pi, angle.copy(), now.copy()
        left = np.ones(draws, bool)
        while left.any():
            tried = now * np.cos(angle)[:, None] + other * np.sin(angle)[:, None]
            taken = left & (likely(tried) > least)
            moved[taken] = tried[taken]
            left &= ~taken
            low, high = np.where(left & (angle < 0), angle, low), np.where(left & (angle >= 0), angle, high)
            angle = np.where(left, generator.uniform(low, high), angle)
        now = moved
    return 1 / (1 + np.exp(-MIDDLE - now))


def correlations(runs: Sequence[ScoredRun], readings: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> np.ndarray:
    """[4] of readings and truths [learned] of each run: median and mean within a run (four or more learned
    checkpoints), median and mean over the learned checkpoints of a pack."""
    within = [spearman(*each) for each in zip(readings, truths, strict=True) if len(each[1]) > 3 and np.ptp(each[1])]
    over = []
    for pack in dict.fromkeys(run.pack for run in runs):
        rows = [row for row, run in enumerate(runs) if run.pack == pack]
        over.append(spearman(*(np.concatenate([side[row] for row in rows]) for side in (readings, truths))))
    return np.array([np.median(within), np.mean(within), np.median(over), np.mean(over)])


def ceilings(runs: Sequence[ScoredRun], share: float, draws: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Reader of `READERS` to the mean of `correlations` with a truth of `IMAGES` images."""
    generator = np.random.default_rng(seed)
    curves = [likely_curves(run, IMAGES / share, draws, generator) for run in runs]

    def seen(quality: np.ndarray, images: int | None) -> np.ndarray:
        many = 0 if images is None else round(images / share)
        return generator.binomial(many, quality) / many if many else quality

    found: dict[str, list[np.ndarray]] = {name: [] for name in READERS}
    for draw in range(draws):
        for name, images in READERS.items():
            readings, truths = ([seen(own[draw], count) for own in curves] for count in (images, IMAGES))
            found[name].append(correlations(runs, readings, truths))
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


def figures(group: str, draws: int) -> dict[str, dict[str, dict[str, float]]]:
    """Tables of a group.

    `ceilings`: `READERS`, under paired and under independent images. `readings`: those of `SIGNS`; `corrected`: their
    means as a share of a perfect score's, what they would reach against a truth without luck; `of 36`: as a share of a
    perfect reader's of 36 images.
    """
    runs = [run for run in group_runs(group) if run.learned.any()]
    share = paired_share(group)
    print(f"{group}: a difference of checkpoints has {share:.2f} of the variance that independent images give")
    paired, independent = ceilings(runs, share, draws), ceilings(runs, 1.0, draws)
    limits = {name: _row(found) for name, found in paired.items()}
    limits |= {f"{name}, independent images": _row(found) for name, found in independent.items()}
    truths = [run.columns["right"][run.learned] for run in runs]
    seen = {name: [sign * run.columns[name][run.learned] for run in runs] for name, sign in SIGNS.items()}
    seen["clip_image + clip_text"] = [
        image + text for image, text in zip(seen["clip_image"], seen["clip_text"], strict=True)
    ]
    score, reader = (paired[name] for name in list(READERS)[:2])
    readings = {}
    for name, values in seen.items():
        found = correlations(runs, [np.nan_to_num(own, nan=-9.0) for own in values], truths)
        readings[name] = _row(found)
        for kind, place in (("within", 1), ("learned", 3)):
            readings[name][f"{kind}, corrected"] = float(found[place] / score[place])
            readings[name][f"{kind}, of 36"] = float(found[place] / reader[place])
    return {"ceilings": limits, "readings": readings}


def _row(found: np.ndarray) -> dict[str, float]:
    names = ("within", "within, mean", "learned", "learned, mean")
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strict_ceiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="concepts")
    parser.add_argument("--quick", action="store_true", help="10 curves of each run instead of 100")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    args = parser.parse_args(arguments)
    found = {}
    for group in args.groups:
        found[group] = figures(group, 10 if args.quick else 100)
        for table in found[group].values():
            print(table_text(table), end="\n\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

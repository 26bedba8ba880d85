"""When drawn images get worse: the true behavioural onset of runs that were drawn densely, beside that of the losses.

    python -m benchmarks.onset --redraw --looks 16 --only castle- bee-

What judges see (the concept, where it was asked to be) is noisy: 16 images in new contexts at each checkpoint. So the
curve is fitted as losses are: up, then down, the onset where it has fallen by 15 % of its rise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.onset_truth import Case, Truth, true_onset
from metrics.onset.plateau import log_axis
from metrics.onset.valley import fit_valley

DENSE = 12  # checkpoints drawn from which on a run has a behavioural onset of its own
NOVEL = slice(20, None)  # images in new contexts: behind ten captions of photos, two seeds each (`onset_world._probe`)
SEEDS = 2
REPLICATES = 200


def behaviour_of(case: Case) -> Truth | None:
    """The true behavioural onset: `losses` is minus the mean judged quality of images in new contexts (the probability
    of the concept times that of what was asked for), 95 % interval over prompts. None where too few were drawn."""
    epochs = case.arrays.get("looked_epochs", np.zeros(0))
    if len(epochs) < DENSE or "looked_right" not in case.arrays or "true_quality" not in case.images.get(0, {}):
        return None
    right, obeyed = (case.arrays[f"looked_{name}"][:, NOVEL].astype(np.float64) for name in ("right", "obeyed"))
    prompts = (right * obeyed).reshape(len(epochs), -1, SEEDS).mean(axis=2)  # [T, prompts]
    mean = prompts.mean(axis=1)
    weights = np.random.default_rng(0).normal(size=(prompts.shape[1], REPLICATES))
    weights /= np.sqrt(prompts.shape[1] * (prompts.shape[1] - 1))
    deviations = (prompts - mean[:, None]) @ weights
    curve = np.concatenate([[-case.images[0]["true_quality"]], -mean])
    return true_onset(np.concatenate([[0], epochs]), curve, np.vstack([np.zeros(REPLICATES), deviations]))


def beside_losses(cases: Sequence[Case], ships: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """How true onsets in images lie to those in losses (new contexts), and how much of its best quality each detector's
    shipped epoch keeps.

    Args:
        ships: detector to the epoch it ships, by `id` of the case.

    Returns:
        `runs`: densely drawn ones. Of those that surely turn in losses `turning`, of those that surely do not `quiet`:
        how many there are, how many turn in images (in half of the replicates, as the truth is defined), and how many
        surely do. Of runs that turn in both `later`, octaves from the loss's onset to the images' (median, 10th and
        90th percentile). `width`: octaves of the images' 95 % interval, median. `kept`: detector to median and 10th
        percentile of fitted quality at the shipped epoch over the best, on all learned runs.
    """
    seen = [(case, truth) for case in cases if (truth := behaviour_of(case)) is not None]
    turning = [(case, truth) for case, truth in seen if case.context.sure and case.context.epoch is not None]
    quiet = [(case, truth) for case, truth in seen if case.context.sure and case.context.epoch is None]
    later = [
        float(np.log2(truth.epoch / case.context.epoch))
        for case, truth in turning
        if truth.epoch is not None and case.context.epoch is not None
    ]
    widths = [truth.width for _, truth in seen if truth.epoch is not None]
    kept = {
        name: [_kept(truth, shipped[id(case)]) for case, truth in seen if case.learned]
        for name, shipped in ships.items()
    }
    return {
        "runs": len(seen), "turning": _turned(turning), "quiet": _turned(quiet), "later": _spread(later),
        "width": _spread(widths)[0], "kept": {name: _spread(shares)[:2] for name, shares in kept.items()},
    }  # fmt: skip


def _turned(group: Sequence[tuple[Case, Truth]]) -> list[int]:
    """How many there are, how many turn in images, how many surely."""
    turned = [truth for _, truth in group if truth.epoch is not None]
    return [len(group), len(turned), sum(truth.sure for truth in turned)]


def _kept(truth: Truth, epoch: float) -> float:
    """Fitted quality at an epoch as a share of the best."""
    fit = -fit_valley(truth.losses).fit[0]
    return float(np.interp(log_axis(np.array([epoch]))[0], log_axis(truth.epochs), fit) / max(fit.max(), 1e-6))


def _spread(values: Sequence[float]) -> list[float]:
    """Median, 10th and 90th percentile."""
    return np.quantile(values, [0.5, 0.1, 0.9]).tolist() if len(values) else [float("nan")] * 3

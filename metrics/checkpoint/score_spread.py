"""How far a checkpoint's score would move with other prompts: one score for each resample of the prompts."""

from collections.abc import Mapping

import numpy as np

from metrics.channels.bootstrap import RESAMPLES
from metrics.checkpoint.calibration import Calibration, ProbeLabels
from metrics.checkpoint.objective import Objective
from metrics.checkpoint.score import limits_of, score_within
from metrics.trajectory.readings import OWN_SCORE, Readings

_OF_OWN = ("fidelity", "copying", "colour", "scatter", "layout_copying", "clip_image", "composition", "framing")
_OF_ALL = ("recognised", "burn", "clip_text", "own_pull")
_OF_PROMPTS = ("diversity", "collapse")
_OF_CONTEXTS = ("prompt", "prompt_change")


def score_draws(
    calibration: Calibration,
    readings: Readings,
    resamples: int = RESAMPLES,
    *,
    objective: Objective | None = None,
    also: Mapping[str, float] | None = None,
) -> np.ndarray:
    """`[resamples]` scores, each with other prompts; paired between checkpoints that were drawn from the same prompts.

    All images of a prompt come or stay together, since they are not independent. Prompts of photos and of new contexts
    are drawn each among themselves, one fewer than there are: so the spread of a mean is that of n - 1 degrees of
    freedom, not the smaller one of a plain bootstrap. What limits the channels stays as it is.

    Args:
        objective, also: as in `scored_by`: then the scores are the objective's, in its own units.
    """
    labels = calibration.labels
    counts, share = _prompt_counts(labels, resamples)
    weights = counts * share
    means = {name: np.full(resamples, reading.value) for name, reading in readings.channels.items()}
    for name in means:
        prompts, items = _prompts_of(labels, name), readings.items.get(name)
        if prompts is None or items is None or len(items) != len(prompts):
            continue
        drawn = weights[:, prompts]
        total = drawn.sum(axis=1)
        means[name] = np.where(total > 0, drawn @ items / np.maximum(total, 1), means[name])
    if "fidelity_weak" in readings.channels and "fidelity_novel" in readings.items:
        means["fidelity_weak"] = _weaker_halves(counts, labels, readings.items["fidelity_novel"])
    means.pop(OWN_SCORE, None)
    limits = limits_of(calibration, means)
    rows = [{name: float(values[row]) for name, values in means.items()} for row in range(resamples)]
    own = np.array([score_within(limits, row) for row in rows])
    if objective is None:
        return own
    known = also or {}
    drawn = [objective({**known, **row, OWN_SCORE: float(score)}) for row, score in zip(rows, own, strict=True)]
    return np.array(drawn, np.float64)


def _prompts_of(labels: ProbeLabels, channel: str) -> np.ndarray | None:
    """The prompt that each item of a channel is of; None where its value is no mean of such items."""
    numbers = labels.prompt_numbers
    if channel in _OF_ALL:
        return numbers
    if channel in _OF_OWN:
        return numbers[labels.from_set]
    if channel in _OF_PROMPTS:
        return np.flatnonzero(np.bincount(numbers) > 1)
    if channel == "fidelity_novel":
        return numbers[np.array(labels.sets) == "C"]
    return numbers[labels.contexts] if channel in _OF_CONTEXTS else None


def _prompt_counts(labels: ProbeLabels, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each prompt comes in each resample, `[resamples, prompts]`, and what it counts each time, `[prompts]`,
    so that both parts keep their shares; the same on every call."""
    numbers = labels.prompt_numbers
    first = [int(np.flatnonzero(numbers == number)[0]) for number in range(numbers.max() + 1)]
    novel = np.array([labels.sets[row] == "C" for row in first])
    counts, share = np.zeros((resamples, len(first))), np.ones(len(first))
    generator = np.random.default_rng([int(novel.sum()), int((~novel).sum()), resamples])
    for part in (novel, ~novel):
        size = int(part.sum())
        if size:
            drawn = max(1, size - 1)
            counts[:, part] = generator.multinomial(drawn, np.full(size, 1 / size), size=resamples)
            share[part] = size / drawn
    return counts, share


def _weaker_halves(counts: np.ndarray, labels: ProbeLabels, items: np.ndarray) -> np.ndarray:
    """The mean of the lower half of the items that come, in each resample."""
    prompts = labels.prompt_numbers[np.array(labels.sets) == "C"]
    order = np.argsort(items, kind="stable")
    drawn, ordered = counts[:, prompts[order]], items[order]
    total = drawn.sum(axis=1, keepdims=True)
    before = np.cumsum(drawn, axis=1) - drawn
    kept = np.clip(np.floor((total + 1) / 2) - before, 0, drawn)
    return (kept @ ordered) / np.maximum(kept.sum(axis=1), 1)

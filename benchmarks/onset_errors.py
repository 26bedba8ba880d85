"""How far onsets stray beside half of their replicates' spread: what `metrics.onset.curves.SUMS` holds as `own_error`.

    python -m benchmarks.onset --choosing --errors

The smallest half-width with which k of n turning runs are covered, k = ⌈0.9 (n + 1)⌉: split conformal prediction (Lei
et al. 2018, arXiv 1604.04173), so that few runs give a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from benchmarks.onset_plan import CONTEXTS
from benchmarks.onset_table import without_channel
from benchmarks.onset_truth import Case, truth_of
from metrics.onset.curves import Kind, onset_curves
from metrics.onset.onset import SPREAD_SHARE, find_onset
from metrics.onset.plateau import plateau_end, replicate_spread
from metrics.onset.turns import Turn
from metrics.trajectory.trajectory import Trajectory

COVERED = 0.9


def own_errors(cases: Sequence[Case]) -> dict[str, tuple[int, float]]:
    """Sum of channels to the number of turning runs and its error in octaves. Four and six held-out photos are readings
    of the same runs, as are all pairs of places of held-out contexts: all count for the error, once for the number. One
    and two photos stand apart."""
    found: dict[str, list[float]] = {}
    runs: dict[str, set[tuple[str, str]]] = {}
    for case in cases:
        for trajectory, kinds, words in _seen(case):
            for name, beyond in _beyond_spread(case, trajectory, kinds).items():
                name += words
                found.setdefault(name, []).append(beyond)
                runs.setdefault(name, set()).add((case.pack, case.run))
    return {name: (len(runs[name]), _conformal(errors, len(runs[name]))) for name, errors in found.items()}


def _seen(case: Case) -> list[tuple[Trajectory, tuple[Kind, ...], str]]:
    """What was held out in turn, the kinds of onset that it tells of anew, and words for so few photos."""
    held_out = {6: "", 4: "", 0: "", 2: ", 2 photos", 1: ", 1 photo"}
    seen: list[tuple[Trajectory, tuple[Kind, ...], str]] = [
        (case.trajectory(held_out=number), ("context", "memory"), words) for number, words in held_out.items()
    ]
    for trajectory in _with_contexts(case):
        fewer = [without_channel(trajectory, channel) for channel in ("heldout_loss", "shifted_loss")]
        seen += [(each, ("context",), "") for each in (trajectory, *fewer)]
    return seen


def _with_contexts(case: Case) -> list[Trajectory]:
    """The run beside photos of every two places that are not trained on, as far as they were read."""
    if "elsewhere" not in case.arrays:
        return [case.trajectory(contexts=True)] if "context" in case.arrays else []
    places = np.unique(case.arrays["elsewhere_photo"]).tolist()
    return [case.trajectory(places=pair) for pair in combinations(places, CONTEXTS)]


def _beyond_spread(case: Case, trajectory: Trajectory, kinds: tuple[Kind, ...]) -> dict[str, float]:
    """Channels that an onset was found by → its error less half of its replicates' spread, in octaves."""
    onset, found = find_onset(trajectory), {}
    turns: dict[Kind, Turn] = {"context": onset.context, "memory": onset.memory}
    for kind, read in onset_curves(trajectory).items():
        if kind not in kinds:
            continue
        truth, epoch = truth_of(case, kind), turns[kind].epoch
        if truth.epoch is None or not truth.sure or epoch is None:
            continue
        curves = read.curves
        end = plateau_end(curves.stacked, curves.epochs, curves.jitter)
        spread = replicate_spread(end, curves.epochs)
        found[f"{kind}: {' + '.join(read.channels)}"] = abs(float(np.log2(epoch / truth.epoch))) - SPREAD_SHARE * spread
    return found


def _conformal(errors: Sequence[float], runs: int) -> float:
    level = min(1.0, np.ceil((runs + 1) * COVERED) / runs)
    return float(np.quantile(errors, level, method="higher"))

"""When a trial is not worth going on with: only against trials of its kind, at equal progress, and only if it would not
catch up.

Equal epochs on a raw number would stop slow learning rates that end best, so progress is the share of the trial's own
horizon, and a trial that is still rising is judged by where its present course leads.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

HORIZON = "epochs"
"""User attribute of a trial: the epochs its schedule is laid out for."""
COHORT = "cohort"
"""User attribute of a trial: its kind; only trials of one kind are compared."""
_COHORTS = {
    "constant": "flat",
    "constant_with_warmup": "flat",
    "adafactor": "flat",
    "linear": "decaying",
    "cosine": "decaying",
    "polynomial": "decaying",
    "cosine_with_restarts": "restarts",
}


def cohort(lr_scheduler: str) -> str:
    """Kind of a schedule: "flat", "decaying" or "restarts"."""
    return _COHORTS[lr_scheduler]


class PeerPruner(optuna.pruners.BasePruner):
    """Stops a trial that is below its peers' median at equal progress and would not reach the best known score.

    Args:
        warmup: share of the horizon before which nothing is stopped.
        min_peers: trials of the same kind needed at the same progress.
        reports: checkpoints needed before anything is stopped.
    """

    def __init__(self, *, warmup: float = 0.3, min_peers: int = 3, reports: int = 3) -> None:
        self.warmup, self.min_peers, self.reports = warmup, min_peers, reports

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial, at its last report, is worse than its peers."""
        mine = _scores(trial)
        if len(mine) < self.reports:
            return False
        progress = max(mine) / trial.user_attrs[HORIZON]
        if progress < self.warmup:
            return False
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.intermediate_values]
        others = [t for t in others if t.state != TrialState.FAIL]
        peers = [
            best_at(t, progress)
            for t in others
            if t.user_attrs.get(COHORT) == trial.user_attrs[COHORT] and _reached(t, progress)
        ]
        if len(peers) < self.min_peers:
            return False
        best_known = max(max(_scores(t).values(), default=0.0) for t in others)
        return max(mine.values()) < float(np.median(peers)) and outlook(mine, trial.user_attrs[HORIZON]) < best_known


def best_at(trial: FrozenTrial, progress: float) -> float:
    """Highest score a trial had reported by a share of its horizon."""
    horizon = trial.user_attrs[HORIZON]
    scores = _scores(trial)
    by_then = [score for epoch, score in scores.items() if epoch / horizon <= progress + 1e-9]
    return max(by_then, default=min(scores.values(), default=0.0))


def outlook(scores: Mapping[int, float], horizon: int) -> float:
    """Score at the horizon if the trend of the last three checkpoints went on; never below the best so far.

    Learning curves flatten, so a straight line is the hopeful guess.
    """
    epochs = sorted(scores)[-3:]
    slopes = [(scores[b] - scores[a]) / (b - a) for a, b in pairwise(epochs)]
    rise = max(0.0, *slopes, 0.0)
    return max(max(scores.values()), scores[epochs[-1]] + rise * (horizon - epochs[-1]))


def _reached(trial: FrozenTrial, progress: float) -> bool:
    """A running peer counts once it has come as far; one that has ended keeps its best."""
    scores = _scores(trial)
    if not scores:
        return False
    return trial.state != TrialState.RUNNING or max(scores) / trial.user_attrs[HORIZON] >= progress - 1e-9


def _scores(trial: FrozenTrial) -> dict[int, float]:
    return {step: value for step, value in sorted(trial.intermediate_values.items()) if not np.isnan(value)}

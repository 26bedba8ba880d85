"""When a trial is not worth going on with: only against peers, at equal progress, and only if it would not catch up.

Equal epochs on a raw number would stop slow learning rates that end best. So progress is the share of its learning-rate
schedule that a trial has spent (Σ lr so far ÷ Σ lr planned): a cosine of 30 epochs and a constant of 20 are compared
where both have done the same part of their work. And a trial that still rises is judged by where its course leads.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import pi, sin

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.config.config import TrainConfig
from trainer.config.rules import FLAT_SCHEDULERS

HORIZON, SCHEDULE, CYCLES = "epochs", "schedule", "cycles"
"""User attributes of a trial: what `describe` returns."""
OWNER = "study"
"""User attribute of a trial: the study that placed it. Only trials of one study are peers."""


def describe(config: TrainConfig) -> dict[str, str | int | float]:
    """What the pruner has to know of a trial, as its user attributes."""
    return {HORIZON: config.epochs, SCHEDULE: config.lr_scheduler, CYCLES: config.effective_num_cycles}


class PeerPruner(optuna.pruners.BasePruner):
    """Stops a trial that is below its peers' median at equal progress and would not reach the best known score.

    Peers are trials of its kind of schedule; where there are too few of them, all others.

    Args:
        warmup: share of the schedule before which nothing is stopped.
        min_peers: trials needed at the same progress.
        reports: checkpoints needed before anything is stopped.
    """

    def __init__(self, *, warmup: float = 0.3, min_peers: int = 2, reports: int = 3) -> None:
        self.warmup, self.min_peers, self.reports = warmup, min_peers, reports

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial, at its last report, is worse than its peers."""
        mine = _scores(trial)
        if len(mine) < self.reports:
            return False
        progress = _progress(trial, max(mine))
        if progress < self.warmup:
            return False
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and _same_study(t, trial)]
        others = [t for t in others if t.state != TrialState.FAIL and _scores(t) and _reached(t, progress)]
        kin = [t for t in others if _kind(t) == _kind(trial)]
        peers = [best_at(t, progress) for t in (kin if len(kin) >= self.min_peers else others)]
        if len(peers) < self.min_peers or max(mine.values()) >= float(np.median(peers)):
            return False
        best_known = max(max(_scores(t).values()) for t in others)
        return outlook(mine, trial.user_attrs[HORIZON]) < best_known


def best_at(trial: FrozenTrial, progress: float) -> float:
    """Highest score a trial had reported by a share of its schedule."""
    scores = _scores(trial)
    by_then = [score for epoch, score in scores.items() if _progress(trial, epoch) <= progress + 1e-9]
    return max(by_then, default=min(scores.values(), default=0.0))


def outlook(scores: Mapping[int, float], horizon: int) -> float:
    """Score at the horizon if the trend of the last three checkpoints went on; never below the best so far.

    Learning curves flatten, so a straight line is the hopeful guess.
    """
    epochs = sorted(scores)[-3:]
    slopes = [(scores[b] - scores[a]) / (b - a) for a, b in pairwise(epochs)]
    rise = max(0.0, sum(slopes) / len(slopes)) if slopes else 0.0
    return max(max(scores.values()), scores[epochs[-1]] + rise * (horizon - epochs[-1]))


def spent(schedule: str, share: float, cycles: float = 1.0) -> float:
    """Σ lr up to a share of the horizon ÷ Σ lr of the whole, warm-up left aside; in [0, 1].

    Constant rates spend evenly (relative-step Adafactor nearly so), cosine by the integral of (1 + cos πx) / 2, linear
    and polynomial (power 1) by that of 1 - x.
    """
    if schedule == "cosine":
        return share + sin(pi * share) / pi
    if schedule == "cosine_with_restarts":
        done, part = divmod(share * cycles, 1.0)
        return min(1.0, (done + spent("cosine", part)) / cycles)
    if schedule in ("linear", "polynomial"):
        return share * (2 - share)
    return share


def _progress(trial: FrozenTrial, epoch: int) -> float:
    about = trial.user_attrs
    return spent(about[SCHEDULE], epoch / about[HORIZON], about[CYCLES])


def _kind(trial: FrozenTrial) -> str:
    schedule = trial.user_attrs[SCHEDULE]
    if schedule in FLAT_SCHEDULERS:
        return "flat"
    return "restarts" if schedule == "cosine_with_restarts" else "decaying"


def _same_study(other: FrozenTrial, trial: FrozenTrial) -> bool:
    """Whether both were trained here: one that somebody added says nothing of its schedule, or was scored elsewhere."""
    owner = trial.user_attrs.get(OWNER)
    return SCHEDULE in other.user_attrs and other.user_attrs.get(OWNER, owner) == owner


def _reached(trial: FrozenTrial, progress: float) -> bool:
    """A running peer counts once it has come as far; one that has ended keeps its best."""
    return trial.state != TrialState.RUNNING or _progress(trial, max(_scores(trial))) >= progress - 1e-9


def _scores(trial: FrozenTrial) -> dict[int, float]:
    return {step: value for step, value in sorted(trial.intermediate_values.items()) if not np.isnan(value)}

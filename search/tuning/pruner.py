"""When a trial is not worth going on with: only against peers, at equal progress, and only if it would not catch up.

Equal epochs on a raw number would stop slow learning rates that end best. So progress is the share of its learning-rate
schedule that a trial has spent (Σ lr so far ÷ Σ lr planned): a cosine of 30 epochs and a constant of 20 are compared
where both have done the same part of their work. And a trial that still rises is judged by where its course leads.
"""

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.tuning.peers import Curve, Peers
from trainer.config.config import TrainConfig

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
        peers, owner = self.peers(), trial.user_attrs.get(OWNER)
        for other in study.get_trials(deepcopy=False):
            if other.number != trial.number and is_peer(other, owner):
                peers.see(other.number, curve_of(other))
        peers.see(trial.number, curve_of(trial))
        return peers.behind(trial.number)

    def peers(self) -> Peers:
        """Where trials are compared as this pruner does it, none of them there yet."""
        return Peers(warmup=self.warmup, min_peers=self.min_peers, reports=self.reports)


def is_peer(trial: FrozenTrial, owner: str | None) -> bool:
    """Whether a trial was trained by this study and did not fail: one that somebody added says nothing of its schedule,
    or was scored elsewhere."""
    about = trial.user_attrs
    return SCHEDULE in about and about.get(OWNER, owner) == owner and trial.state != TrialState.FAIL


def curve_of(trial: FrozenTrial) -> Curve:
    """What a trial has reported."""
    about, runs = trial.user_attrs, trial.state == TrialState.RUNNING
    return Curve(about[HORIZON], about[SCHEDULE], about[CYCLES], trial.intermediate_values, runs=runs)

"""The pruner that a study names."""

import warnings

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)

from search.study.settings import StopSection
from search.tuning.classes import made
from search.tuning.pruner import PeerPruner


def pruner_for(stop: StopSection) -> BasePruner:
    """What says whether a trial goes on, asked after each checkpoint whose score was reported at its epoch.

    Raises:
        ConfigError: a class that is not there, or keywords that it does not take.
    """
    known = {
        "peers": PeerPruner,
        "median": MedianPruner,
        "percentile": PercentilePruner,
        "hyperband": HyperbandPruner,
        "successive_halving": SuccessiveHalvingPruner,
        "threshold": ThresholdPruner,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return made(("stop.pruner", "stop.pruner_arguments"), stop.pruner, stop.pruner_arguments, known, BasePruner)

"""Which searched settings mattered, by Optuna's PED-ANOVA over the complete trials; silent when too few say so."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

FEWEST = 6


@dataclass(frozen=True)
class Importances:
    """Attributes:
    shares: setting to its share in [0, 1], largest first; they sum to 1. Empty when they cannot be told.
    reason: why not, in words, "" otherwise.
    trials: complete trials that they rest on.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    trials: int = 0


def parameter_importances(storage: str, study: str) -> Importances:
    """Importances of a study in an Optuna storage, which may hold others: the vote on its finalists, for one.

    Args:
        storage: URL of the Optuna storage (`search.tuning.database.storage_url` gives that of a file).
        study: the study's name.
    """
    import optuna

    from search.tuning.optuna_storage import open_storage

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():  # "inaccurate with few trials": the report says so itself
            warnings.simplefilter("ignore")
            return _importances(optuna.load_study(study_name=study, storage=open_storage(storage)))
    except Exception as error:  # a picture in a report must not cost the report
        return Importances(reason=f"they could not be computed ({error})")
    finally:
        optuna.logging.set_verbosity(before)


def _importances(study: "optuna.Study") -> Importances:
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(done) < FEWEST:
        return Importances(
            reason=f"that takes at least {FEWEST} complete trials, and there {'is' if len(done) == 1 else 'are'} "
            f"{len(done)}"
        )
    if len({t.value for t in done}) < 2:
        return Importances(reason="all trials have the same value", trials=len(done))
    shares = {name: float(share) for name, share in get_param_importances(study).items()}
    shares = {name: share for name, share in shares.items() if isfinite(share)}
    if not shares:
        return Importances(reason="nothing was searched that differed between trials", trials=len(done))
    return Importances(shares=shares, trials=len(done))

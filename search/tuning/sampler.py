"""Samplers by name, seeded anew for every question from (study seed, trial number, parameter), so that a coordinator
that was killed in the middle of asking asks the same again."""

import contextlib
import hashlib
import json
import warnings
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial

from search.study.settings import SamplerSection
from search.tuning.classes import made

_GP_ANSWER = "gp:relative_params"
"""Optuna's name for what the process answered, in the trial's system attributes."""


def sampler_for(
    section: SamplerSection,
    seed: int,
    number: int,
    parameter: str,
    startup_trials: int,
    common: IntersectionSearchSpace | None = None,
) -> BaseSampler:
    """A fresh sampler for one parameter of one trial (`""` for those drawn together when the trial begins).

    TPE is multivariate and counts running trials as poor ones (`constant_liar`), so that two workers do not try the
    same. A grid draws at random here; `search.tuning.untried` takes what is left.

    Args:
        common: what all trials of the study have in common as far as earlier samplers looked (pruned ones among them),
            so that TPE looks at new trials only; None: it looks at all of them.

    Raises:
        ConfigError: a class that is not there, or keywords that it does not take.
    """
    key = hashlib.sha256(f"{seed}/{number}/{parameter}".encode()).digest()
    later = {"n_startup_trials": startup_trials}
    known = {
        "tpe": partial(_Estimators, common, **later, multivariate=True, constant_liar=True),
        "random": RandomSampler,
        "grid": RandomSampler,
        "qmc": partial(_Sequence, number, seed % 2**32),
        "gp": partial(_Process, **later, warn_independent_sampling=False),
        "cmaes": partial(CmaEsSampler, **later, warn_independent_sampling=False),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        own = int.from_bytes(key[:4], "little")
        return made(
            ("sampler.name", "sampler.arguments"), section.name, section.arguments, known, BaseSampler, seed=own
        )


class _Estimators(TPESampler):
    """TPE that goes on from what an earlier one found that all trials have in common."""

    def __init__(self, common: IntersectionSearchSpace | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        if common is not None:
            self._search_space = common


class _Sequence(QMCSampler):
    """A quasi-random sequence in which a trial's number is its place: asked again, it answers the same."""

    def __init__(self, number: int, sequence: int, seed: int, **arguments: Any) -> None:
        super().__init__(
            **{"scramble": True, "seed": sequence, **arguments},
            independent_sampler=RandomSampler(seed=seed),
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, Any]) -> int:
        return self._number


class _Process(GPSampler):
    """A Gaussian process that keeps to what it has answered: it writes its answers to the trial, and would count them
    as those of a peer when it is asked again after a kill."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        kept = [value for key, value in sorted(trial.system_attrs.items()) if key.startswith(_GP_ANSWER)]
        if kept:
            with contextlib.suppress(ValueError):  # killed between two parts of it
                return json.loads("".join(kept))
        return super().sample_relative(study, trial, search_space)

"""TPE, seeded anew for every question from (study seed, trial number, parameter), so that a coordinator that was killed
in the middle of asking asks the same again."""

import hashlib
import warnings

import optuna


def sampler_for(seed: int, number: int, parameter: str, startup_trials: int) -> optuna.samplers.BaseSampler:
    """A fresh sampler for one parameter of one trial (`""` for those drawn together when the trial begins).

    Multivariate TPE that counts running trials as poor ones (`constant_liar`), so that two workers do not try the same.
    """
    key = hashlib.sha256(f"{seed}/{number}/{parameter}".encode()).digest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=int.from_bytes(key[:4], "little"),
            n_startup_trials=startup_trials,
            multivariate=True,
            constant_liar=True,
        )

"""Which settings mattered: from six complete trials that differ, and why not otherwise."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from search.tuning.database import storage_url
from search.tuning.importances import Importances, parameter_importances


def found(home: Path, values: list[float], *, searched: bool = True, failed: int = 0) -> Importances:
    """Of trials in which `rate` is the value and `luck` says nothing."""
    url = storage_url(home / "study.db")
    study = optuna.create_study(storage=url, study_name="dog", direction="maximize")
    span = FloatDistribution(0.0, 1.0)
    for number, value in enumerate(values):
        params = {"rate": value, "luck": number * 0.37 % 1} if searched else {}
        study.add_trial(create_trial(value=value, params=params, distributions=dict.fromkeys(params, span)))
    for _ in range(failed):
        study.add_trial(create_trial(state=TrialState.FAIL))
    return parameter_importances(url, "dog")


@pytest.mark.parametrize(("count", "words"), [(0, "there are 0"), (1, "there is 1"), (5, "there are 5")])
def test_fewer_than_six_complete_trials_say_nothing(tmp_path: Path, count: int, words: str) -> None:
    told = found(tmp_path, [0.1 * n for n in range(count)], failed=9)
    assert told == Importances(reason=f"that takes at least 6 complete trials, and {words}")


@pytest.mark.parametrize("count", [6, 20])
def test_what_the_value_follows_matters_most(tmp_path: Path, count: int) -> None:
    told = found(tmp_path, [n / count for n in range(count)], failed=1)
    assert (told.reason, told.trials) == ("", count)
    assert next(iter(told.shares)) == "rate"
    assert told.shares["rate"] > told.shares.get("luck", 0.0)
    assert sum(told.shares.values()) == pytest.approx(1)


def test_trials_that_do_not_differ_say_nothing(tmp_path: Path) -> None:
    assert found(tmp_path, [0.5] * 6) == Importances(reason="all trials have the same value", trials=6)
    (tmp_path / "other").mkdir()
    told = found(tmp_path / "other", [0.1 * n for n in range(7)], searched=False)
    assert (told.shares, told.trials) == ({}, 7)
    assert told.reason.startswith("nothing was searched that differed")


def test_a_database_that_cannot_be_read_is_told_and_optuna_speaks_as_before(tmp_path: Path) -> None:
    before = optuna.logging.get_verbosity()
    told = parameter_importances(storage_url(tmp_path / "none.db"), "dog")
    assert told.shares == {}
    assert told.reason.startswith("they could not be computed (")
    assert optuna.logging.get_verbosity() == before

"""What a coordinator keeps in memory of a study is what the database has, and draws from it are the same."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState, create_trial

from search.study.settings import SamplerSection
from search.tuning.ledger import Ledger
from search.tuning.optuna_storage import open_storage
from search.tuning.sampler import sampler_for
from search.tuning.trials_in_memory import Draft, Mirror


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def study(url: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(storage=Mirror(open_storage(url)), study_name="s", direction="maximize")


def look(study: optuna.Study) -> None:
    mirror = study._storage
    assert isinstance(mirror, Mirror)
    mirror.look(study._study_id)


def test_what_is_written_is_what_the_database_has(study, url) -> None:
    for number in range(6):
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"began": number}))
        look(study)
        trial = Trial(study, study.get_trials()[-1]._trial_id)
        trial.suggest_float("rate", 1e-5, 1e-2, log=True)
        trial.suggest_categorical("name", [None, "a", 2, 0.5, True])
        trial.suggest_int("rank", 2, 64, step=2)
        trial.set_user_attr("pair", (1, 2.5))
        study._storage.set_trial_system_attr(trial._trial_id, "drawn:by", ["tpe", number])
        for epoch in (2, 4, 6):
            trial.report([0.1 * number, float("nan"), float("inf")][epoch // 2 - 1], epoch)
        if number < 4:
            study.tell(trial, 0.5 if number % 2 else None, state=TrialState.COMPLETE if number % 2 else TrialState.FAIL)
    stored = optuna.load_study(study_name="s", storage=url).get_trials()
    assert [repr(trial) for trial in study.get_trials()] == [repr(trial) for trial in stored]
    assert [list(trial.params) for trial in study.get_trials()] == [list(trial.params) for trial in stored]


def test_a_list_that_was_given_stays_as_it_was(study) -> None:
    study.add_trial(create_trial(state=TrialState.RUNNING))
    look(study)
    before = study.get_trials(deepcopy=False)
    trial = Trial(study, before[0]._trial_id)
    trial.report(0.5, 1)
    trial.set_user_attr("x", 1)
    assert (before[0].intermediate_values, before[0].user_attrs) == ({}, {})
    assert study.get_trials()[0].intermediate_values == {1: 0.5}


def test_what_others_add_change_and_end_is_seen(study, url) -> None:
    others = optuna.load_study(study_name="s", storage=url)
    theirs = others.ask()
    study.add_trial(create_trial(state=TrialState.RUNNING))
    others.enqueue_trial({"rank": 8})
    look(study)
    assert [trial.state.name for trial in study.get_trials()] == ["RUNNING", "RUNNING", "WAITING"]
    others.tell(theirs, 0.7)
    ours = Trial(study, study.get_trials()[1]._trial_id)
    study._storage.keep(ours._trial_id)
    others.tell(1, state=TrialState.FAIL)
    look(study)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "RUNNING", "WAITING"]
    with pytest.raises(UpdateFinishedTrialError):
        ours.report(0.5, 1)
    assert study.get_trials()[1].state == TrialState.FAIL


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_draw_on_a_draft_is_the_draw_on_a_copy(sampler: str) -> None:
    space = {"rank": CategoricalDistribution([4, 8, 16]), "rate": FloatDistribution(0.5, 8, log=True)}
    kept = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    for number in range(14):
        trial = kept.ask(space)
        if number < 12:
            kept.tell(trial, trial.params["rate"] / 8)
    before = [repr(trial) for trial in kept.get_trials()]
    drawn = []
    for storage in (Draft(kept.get_trials(deepcopy=False)), None):
        study = optuna.create_study(
            storage=storage, direction="maximize", sampler=sampler_for(SamplerSection(name=sampler), 3, 14, "", 5)
        )
        if storage is None:
            study.add_trials(kept.get_trials())
        study.add_trial(create_trial(state=TrialState.RUNNING))
        trial = Trial(study, study.get_trials()[-1]._trial_id)
        drawn.append((trial.suggest_categorical("rank", [4, 8, 16]), trial.suggest_float("rate", 0.5, 8, log=True)))
    assert drawn[0] == drawn[1]
    assert [repr(trial) for trial in kept.get_trials()] == before


def test_events_read_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report and its decision cost one write each, and no query for trials."""
    ledger = Ledger(tmp_path / "study.db", "s", seed=0, startup_trials=2)
    about = {"slot": 0, "study": "s", "epochs": 20, "schedule": "constant", "cycles": 1.0}
    for level in (0.5, 0.6):
        scores = dict.fromkeys(range(2, 21, 2), level)
        ledger.study.add_trial(create_trial(value=level, intermediate_values=scores, user_attrs=about))
    ledger.study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=about))
    ledger = Ledger(tmp_path / "study.db", "s", seed=0, startup_trials=2)
    trial = Trial(ledger.study, ledger.trial(2)._trial_id)
    backend = ledger.study._storage.backend
    for name in ("get_all_trials", "get_trial", "_get_trials"):
        monkeypatch.setattr(backend, name, None)
    decided = []
    for epoch in (2, 4, 6):
        ledger.report(trial, epoch, 0.1)
        decided.append(ledger.should_prune(trial))
        ledger.note(trial, processed=epoch)
    assert decided == [False, False, True]

"""What a coordinator keeps in memory of a study is what the database has, and draws from it are the same."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState, create_trial
from sqlalchemy.exc import OperationalError

from search.study.settings import SamplerSection
from search.tuning.ledger import Ledger
from search.tuning.optuna_storage import open_storage
from search.tuning.patience import Patience
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


def test_a_trial_whose_making_was_not_answered_is_made_once(url: str) -> None:
    """The answer is lost: what was written is found by its attributes, and made again only where it is not there."""
    storage, written = open_storage(url), [True]
    make, said = storage.create_new_trial, list[str]()

    def lost(study_id: int, template_trial: Any = None) -> int:
        first, written[0] = written[0], False
        if first is True:
            make(study_id, template_trial)
        if first in (True, None):
            raise OperationalError("INSERT", {}, Exception("gone"), connection_invalidated=True)
        return make(study_id, template_trial)

    storage.create_new_trial = lost
    mirror = Mirror(storage, Patience(said.append))
    study = optuna.create_study(storage=mirror, study_name="s", direction="maximize")
    template = create_trial(state=TrialState.RUNNING, user_attrs={"began": 3})
    one = mirror.create_new_trial(study._study_id, template)
    assert mirror.get_trial(one).user_attrs == {"began": 3}
    look(study)
    written[0] = None
    other = mirror.create_new_trial(study._study_id, create_trial(state=TrialState.RUNNING, user_attrs={"began": 4}))
    written[0] = None
    bare = mirror.create_new_trial(study._study_id)
    assert len(said) == 6
    look(study)
    assert [trial._trial_id for trial in study.get_trials()] == [one, other, bare]
    assert [trial.user_attrs for trial in study.get_trials()] == [{"began": 3}, {"began": 4}, {}]


def test_an_end_whose_answer_was_lost_is_told_once(url: str) -> None:
    storage, lost = open_storage(url), [True]
    end = storage.set_trial_state_values

    def ended(*arguments: Any) -> bool:
        done = end(*arguments)
        if lost.pop() if lost else False:
            raise OperationalError("UPDATE", {}, Exception("gone"), connection_invalidated=True)
        return done

    storage.set_trial_state_values = ended
    study = optuna.create_study(storage=Mirror(storage, Patience(lambda text: None)), study_name="s")
    study.add_trial(create_trial(state=TrialState.RUNNING))
    look(study)
    study.tell(0, 0.5)
    (trial,) = study.get_trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.5)
    assert trial.datetime_complete is not None


def test_trials_are_known_by_number_state_and_id() -> None:
    trials = [create_trial(state=TrialState.RUNNING), create_trial(value=1.0), create_trial(state=TrialState.FAIL)]
    for number, trial in enumerate(trials):
        trial.number, trial._trial_id = number, 10 + number
    kept = Draft(trials)
    assert [kept.get_trial_id_from_study_id_trial_number(0, number) for number in range(3)] == [10, 11, 12]
    for number in (-1, 3):
        with pytest.raises(KeyError, match=f"no trial {number}"):
            kept.get_trial_id_from_study_id_trial_number(0, number)
    assert kept.get_n_trials(0) == 3
    assert kept.get_n_trials(0, TrialState.COMPLETE) == 1
    assert kept.get_n_trials(0, (TrialState.COMPLETE, TrialState.FAIL)) == 2
    assert kept.get_all_trials(0, deepcopy=False) == trials
    assert kept.get_all_trials(0, deepcopy=False)[1] is trials[1]
    assert kept.get_all_trials(0)[1] is not trials[1]
    assert [trial.number for trial in kept.get_all_trials(0, states=(TrialState.RUNNING,))] == [0]
    assert kept.get_trial(11) is trials[1], "it cannot be written into any more"
    running = kept.get_trial(10)
    running.user_attrs["x"] = 1
    assert kept.get_trial(10).user_attrs == {}
    kept.set_trial_intermediate_value(10, 2, 0.5)
    assert (kept.get_trial(10).intermediate_values, trials[0].intermediate_values) == ({2: 0.5}, {})


def test_a_trial_that_comes_late_stands_at_its_number() -> None:
    kept = Draft()
    for number in (0, 2, 1, 3):
        trial = create_trial(value=float(number))
        trial.number, trial._trial_id = number, 20 + number
        kept._put(trial)
    assert [trial.number for trial in kept.get_all_trials(0)] == [0, 1, 2, 3]
    assert [kept.get_trial(20 + number).value for number in range(4)] == [0.0, 1.0, 2.0, 3.0]


def test_a_draft_is_no_study_of_a_database() -> None:
    trial = create_trial(value=1.0)
    trial.number, trial._trial_id = 0, 7
    draft = Draft([trial])
    study = optuna.create_study(storage=draft, direction="maximize")
    assert draft.get_study_user_attrs(0) == draft.get_study_system_attrs(0) == {}
    assert (draft.get_study_id_from_name("draft"), study.study_name) == (0, "draft")
    assert [direction.name for direction in draft.get_study_directions(0)] == ["MAXIMIZE"]
    template = create_trial(state=TrialState.RUNNING, user_attrs={"a": 1})
    made = draft.create_new_trial(0, template)
    assert (made, draft.get_trial(made).number) == (8, 1)
    assert template._trial_id != 8, "the template stays as it was"
    for asked in (draft.get_all_studies, lambda: draft.delete_study(0), lambda: draft.set_study_user_attr(0, "a", 1)):
        with pytest.raises(NotImplementedError):
            asked()
    empty = Draft()
    optuna.create_study(storage=empty)
    assert empty.create_new_trial(0, template) == 0


def test_a_trial_that_has_ended_is_ours_no_more_and_not_read_again(study) -> None:
    mirror = study._storage
    for _ in range(2):
        study.add_trial(create_trial(state=TrialState.RUNNING))
    look(study)
    first, second = (trial._trial_id for trial in study.get_trials())
    mirror.keep(first)
    assert (mirror._ours, mirror._unfinished) == ({first}, {first, second})
    assert [trial._trial_id for trial in mirror.look(study._study_id)] == [second], "ours is not read again"
    study.tell(0, 0.5)
    assert (mirror._ours, mirror._unfinished) == (set(), {second})


def test_nothing_is_moved_where_trials_come_in_order() -> None:
    class Ordered(list[Any]):
        def sort(self, **by: Any) -> None:
            raise AssertionError("nothing to sort")

    kept = Draft()
    kept._trials = Ordered()
    for number in range(3):
        trial = create_trial(value=float(number))
        trial.number, trial._trial_id = number, 20 + number
        kept._put(trial)
    assert [trial.number for trial in kept.get_all_trials(0)] == [0, 1, 2]

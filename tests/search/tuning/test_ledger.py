"""The study's one writer: what it asks for, writes and refuses, as the database has it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from search.errors import BusyError, StudyError
from search.record.record import StudyFolder
from search.study.settings import SamplerSection
from search.study.space import Space, parse_space
from search.tuning.database import connect
from search.tuning.ledger import BEGAN, STARTUP, Ledger
from search.tuning.optuna_storage import open_storage
from search.tuning.pruner import CYCLES, HORIZON, OWNER, SCHEDULE
from search.tuning.tally import SLOT, STARTED_WITH
from search.tuning.untried import key_of


@pytest.fixture
def space() -> Space:
    space, wrong = parse_space(Path("s.yaml"), {"rank": {"values": [4, 8, 16]}}, {})
    assert not wrong
    return space


Open = Callable[..., Ledger]


@pytest.fixture
def ledger(tmp_path: Path) -> Open:
    said: list[str] = []

    def make(**more: Any) -> Ledger:
        made = Ledger(tmp_path / "study.db", "dog", seed=3, startup_trials=2, say=said.append, **more)
        made.said = said
        return made

    return make


def stored(ledger: Ledger) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=ledger.name, storage=open_storage(ledger.url)).trials


def begun(ledger: Ledger, space: Space, **attributes: Any) -> optuna.trial.Trial:
    trial, _ = ledger.reattach(ledger.ask(space, slot=0, began=0), space)
    ledger.note(trial, **{HORIZON: 8, SCHEDULE: "constant", CYCLES: 1.0, **attributes})
    return trial


def test_readers_are_not_locked_out_and_the_score_has_its_name(ledger: Open, tmp_path: Path) -> None:
    made = ledger()
    with connect(tmp_path / "study.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert made.study.metric_names == ["score"]
    assert made.shown == str(tmp_path / "study.db")
    assert made.in_place()
    (tmp_path / "study.db").rename(tmp_path / "moved.db")
    assert not made.in_place()


def test_a_new_trial_says_where_it_is_and_whether_it_is_drawn_at_random(ledger: Open, space: Space) -> None:
    made = ledger()
    for number in range(4):
        assert made.starting_up == (number < 3)
        assert made.ask(space, slot=number % 2, began=10 * number) == number
        trial, params = made.reattach(number, space)
        if number != 1:  # one that still runs is nothing to learn from
            made.tell(trial, TrialState.COMPLETE, 0.5)
        assert params["rank"] in (4, 8, 16)
    for number, trial in enumerate(stored(made)):
        expected = {OWNER: "dog", SLOT: number % 2, BEGAN: 10 * number, STARTUP: number < 3}
        assert trial.user_attrs == expected
    assert made.tried == (4, len({key_of(t.params) for t in made.trials()}))
    assert [trial.number for trial in made.own()] == [0, 1, 2, 3]


def test_queued_trials_come_first_and_those_that_do_not_fit_are_named_once(ledger: Open, space: Space) -> None:
    made = ledger()
    for values in ({"rank": 5}, {"alpha": 1.0}, {"rank": 16}, {}):
        made.as_stored().enqueue_trial(values)
    assert [made.ask(space, 0, 0) for _ in range(2)] == [2, 3]
    assert made.ask(space, 0, 0) == 4
    assert made.reattach(2, space)[1] == {"rank": 16}
    assert made.said == [
        "trial 0 was queued with rank: 5, which is outside what is searched: it is left in the queue",
        "trial 1 was queued with alpha, which is not searched: it is left in the queue",
    ]
    assert [trial.state for trial in stored(made)][:2] == [TrialState.WAITING] * 2


def test_what_others_run_is_left_to_them(ledger: Open, space: Space) -> None:
    made = ledger()
    made.as_stored().add_trial(create_trial(state=TrialState.RUNNING))
    made.as_stored().add_trial(create_trial(state=TrialState.COMPLETE, value=0.5))
    for _ in range(2):
        made.look()
    assert made.said == ["trial 0 is run by another process: it is left to that one"]
    assert made.ask(space, 0, 0) == 2
    assert [trial.number for trial in made.own()] == [2]
    assert made.tried == (1, 1)
    made.ask(space, 0, 0)
    assert made.starting_up, "one of two has ended"
    assert len(made.said) == 1, "not what it places itself"


def test_a_study_starts_with_what_it_is_given_each_once(ledger: Open, space: Space) -> None:
    made = ledger(sampler=SamplerSection(start_with=[{"rank": 16}, {"rank": 4}]))
    ranks = [made.reattach(made.ask(space, 0, 0), space)[1]["rank"] for _ in range(3)]
    assert ranks == [16, 4, 8]
    given = [trial.user_attrs.get(STARTED_WITH) for trial in stored(made)]
    assert given[0] != given[1]
    assert (None not in given[:2], given[2]) == (True, None)


def test_a_score_is_reported_once(ledger: Open, space: Space) -> None:
    made = ledger()
    trial = begun(made, space)
    for epoch, score in ((2, 0.25), (4, 0.5), (4, 0.75), (2, 0.0)):
        made.report(trial, epoch, score)
    assert stored(made)[0].intermediate_values == {2: 0.25, 4: 0.5}
    again = ledger()
    trial, _ = again.reattach(0, space)
    again.report(trial, 4, 0.9)
    again.report(trial, 6, 0.6)
    assert stored(again)[0].intermediate_values == {2: 0.25, 4: 0.5, 6: 0.6}


def test_a_trial_behind_its_peers_is_pruned_whether_they_were_seen_or_read(ledger: Open, space: Space) -> None:
    made = ledger()
    trials = [begun(made, space) for _ in range(3)]
    for epoch in (2, 4, 6):
        for place, trial in enumerate(trials):
            made.report(trial, epoch, 0.5 - 0.2 * place)
    assert [made.should_prune(trial) for trial in trials] == [False, False, True]
    again = ledger()
    assert [again.should_prune(again.reattach(number, space)[0]) for number in range(3)] == [False, False, True]
    made.tell(trials[0], TrialState.FAIL)
    made.tell(trials[1], TrialState.FAIL)
    assert not made.should_prune(trials[2]), "what failed is nobody's peer"


def test_what_is_known_is_not_written_again(ledger: Open, space: Space) -> None:
    made = ledger()
    trial = begun(made, space)
    written: list[str] = []
    trial.set_user_attr = lambda key, value: written.append(key)
    made.note(trial, **{HORIZON: 8, "processed": 2})
    assert written == ["processed"]


def test_a_trial_that_has_ended_may_be_amended(ledger: Open, space: Space) -> None:
    made = ledger()
    trial = begun(made, space, epoch_shipped=4)
    made.tell(trial, TrialState.COMPLETE, 0.5)
    made.amend(trial.number, epoch_shipped=6, epoch_searched=4)
    assert {k: v for k, v in stored(made)[0].user_attrs.items() if k.startswith("epoch_")} == {
        "epoch_shipped": 6, "epoch_searched": 4,
    }  # fmt: skip
    made.amend(trial.number, epoch_shipped=6, epoch_searched=None)
    assert "epoch_searched" not in stored(made)[0].user_attrs
    assert made.trial(0).user_attrs["epoch_shipped"] == 6


def test_the_end_of_a_trial_is_what_was_told_and_nobody_elses(ledger: Open, space: Space) -> None:
    made = ledger()
    first, second, third = (begun(made, space) for _ in range(3))
    assert made.tell(first, TrialState.COMPLETE, 0.5) == 0.5
    made.report(second, 2, 0.25)
    assert made.tell(second, TrialState.PRUNED, 0.9) == 0.25, "its last report"
    made.as_stored().tell(2, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError, match="trial 2 has been ended as FAIL"):
        made.tell(third, TrialState.COMPLETE, 0.7)
    assert [trial.state.name for trial in stored(made)] == ["COMPLETE", "PRUNED", "FAIL"]
    assert made.tell(first, TrialState.COMPLETE, 0.1) == 0.5, "it is told once"


def test_begun_anew_the_old_trials_are_in_a_copy(ledger: Open, space: Space) -> None:
    made = ledger()
    made.tell(begun(made, space), TrialState.COMPLETE, 0.5)
    made.begin_anew(keep_as="dog, old")
    assert (made.trials(), made.tried) == ([], (0, 0))
    assert made.ask(space, 0, 0) == 0
    old = optuna.load_study(study_name="dog, old", storage=open_storage(made.url))
    assert [trial.value for trial in old.trials] == [0.5]
    made.begin_anew()
    assert made.trials() == []
    assert optuna.get_all_study_names(open_storage(made.url)) == ["dog, old", "dog"]


def test_a_parameter_of_another_kind_is_told_with_the_trial_that_has_it(ledger: Open, space: Space) -> None:
    made = ledger()
    other = made.as_stored().ask()
    other.suggest_categorical("rank", ["small", "large"])
    made.as_stored().tell(other.number, 0.5)
    number = made.ask(space, 0, 0)
    with pytest.raises(StudyError, match=r"search: expected .* added as trial 0, got 'rank'"):
        made.reattach(number, space)


def test_of_two_with_a_lease_the_second_is_refused_until_the_first_is_closed(ledger: Open, monkeypatch) -> None:
    first = ledger(leased=True)
    with pytest.raises(BusyError, match=r"dog: another process"):
        ledger(leased=True)
    first.close()
    ledger(leased=True).close()


def test_a_study_on_a_server_is_in_place_with_its_folder(ledger: Open, tmp_path: Path) -> None:
    home = tmp_path / "runs"
    made = ledger(folder=StudyFolder(home))
    made._where = None
    assert not made.in_place()
    home.mkdir()
    assert made.in_place()


def test_a_trial_of_its_own_is_not_read_again_and_those_of_others_are(ledger: Open, space: Space, monkeypatch) -> None:
    made = ledger()
    trial = begun(made, space)
    made.as_stored().add_trial(create_trial(state=TrialState.RUNNING))
    made.look()
    read: list[set[int]] = []
    whole = made._mirror.backend._get_trials

    def noted(study: int, states: Any, theirs: set[int], newest: int) -> Any:
        read.append(set(theirs))
        return whole(study, states, theirs, newest)

    monkeypatch.setattr(made._mirror.backend, "_get_trials", noted)
    made.look()
    (theirs,) = read
    assert theirs == {made.trial(1)._trial_id}
    assert trial._trial_id not in theirs


def test_its_folder_is_made_and_a_ledger_that_cannot_open_gives_the_lease_back(tmp_path: Path, monkeypatch) -> None:
    where = tmp_path / "runs" / "dog" / "study.db"
    for _ in range(2):
        Ledger(where, "dog", seed=3, startup_trials=2, leased=True).close()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_open", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Ledger(where, "dog", seed=3, startup_trials=2, leased=True)
    Ledger(where, "dog", seed=3, startup_trials=2, leased=True).close()


def test_values_are_drawn_from_the_seed_the_trials_number_and_the_parameters_name(ledger: Open, tmp_path: Path) -> None:
    """As a study's numbers have been since it began; the digest's first four bytes are the seed."""
    values = list(range(1, 200))
    space, _ = parse_space(Path("s.yaml"), {"rank": {"values": values}, "num_cycles": {"values": values}}, {})
    made = ledger(sampler=SamplerSection(name="random"))
    for number in range(3):
        _, params = made.reattach(made.ask(space, 0, 0), space)
        for entry in space.entries:
            seed = int.from_bytes(hashlib.sha256(f"3/{number}/{entry.parameter}".encode()).digest()[:4], "little")
            alone = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
            assert params[entry.field] == alone.suggest_categorical(entry.parameter, values)

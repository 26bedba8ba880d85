"""Trials that others put into a study's database, queued, added, running or ended by them, never stop the study."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from search.errors import SearchError
from search.record.clock import Clock
from search.record.record import StudyFolder
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.running.workers import Team
from search.study.study import load_study
from tests.messages import refusal
from tests.search.conftest import StudyWriter
from tests.search.scripted_worker import Script, scripted

RANKS = CategoricalDistribution([4, 8])
RATES = FloatDistribution(0.5, 8, log=True)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "runs" / "small")


@pytest.fixture
def others(folder: StudyFolder) -> optuna.Study:
    """The study as plain Optuna opens it, before or while it runs here."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.path.mkdir(parents=True)
    return optuna.create_study(
        study_name="small", storage=f"sqlite:///{folder.database}", direction="maximize", load_if_exists=True
    )


@pytest.fixture
def run(write_study: StudyWriter, folder: StudyFolder) -> Callable[..., Coordinator]:
    """Runs the study to the end of its budget; `meanwhile(number, epoch)` is called at every checkpoint."""

    def to_the_end(meanwhile: Callable[[int, int], None] | None = None, trials: int = 4) -> Coordinator:
        study = load_study(write_study(budget={"trials": trials, "startup_trials": 2}))
        team, board = Team(scripted, Script(folder.path), 1), Board("small", trials, 1)
        if meanwhile is not None:
            shown = board.checkpointed

            def seen(slot: int, record: Any, readings: Any) -> None:
                meanwhile(record.number, record.epochs_trained)
                shown(slot, record, readings)

            board.checkpointed = seen
        team.start()
        try:
            coordinator = Coordinator(study, folder, team, board, clock=Clock(folder))
            coordinator.run()
        finally:
            team.close()
        return coordinator

    return to_the_end


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def test_a_trial_queued_by_plain_optuna_is_trained_with_its_values(others, run, folder) -> None:
    others.enqueue_trial({"rank": 8, "learning_rate_scale": 0.75})
    others.enqueue_trial({"rank": 4})
    run()
    assert states(others) == ["COMPLETE"] * 4
    assert others.trials[0].params == {"rank": 8, "learning_rate_scale": 0.75}
    assert others.trials[1].params["rank"] == 4
    assert [record.number for record in folder.records()] == [0, 1, 2, 3]
    run(trials=5)
    assert states(others) == ["COMPLETE"] * 5


def test_a_trial_queued_while_the_study_runs_is_taken_up(others, run) -> None:
    def queue(number: int, epoch: int) -> None:
        if (number, epoch) == (1, 2):
            others.enqueue_trial({"rank": 8, "learning_rate_scale": 1.25})

    run(queue)
    assert {"rank": 8, "learning_rate_scale": 1.25} in [trial.params for trial in others.trials]
    assert states(others) == ["COMPLETE"] * 4


def test_queued_trials_that_do_not_fit_are_named_and_left(others, run, capsys) -> None:
    for params in ({"rank": 7}, {"learning_rate_scale": 80.0}, {"learning_rate_scale": "high"}, {"network_dim": 8}):
        others.enqueue_trial(params)
    run(trials=2)
    assert states(others) == ["WAITING"] * 4 + ["COMPLETE"] * 2
    said = capsys.readouterr().out
    for number, named in enumerate(
        (
            "rank: 7, which is outside what is searched",
            "learning_rate_scale: 80.0, which is outside",
            "learning_rate_scale: high, which is outside",
            "network_dim, which is not searched",
        )
    ):
        assert said.count(f"trial {number} was queued with {named}") == 1
    run(trials=3)
    assert states(others)[4:] == ["COMPLETE"] * 3


def test_trials_that_were_added_or_run_elsewhere_take_nothing_from_the_budget(others, run, folder, capsys) -> None:
    params, spaces = {"rank": 8, "learning_rate_scale": 2.0}, {"rank": RANKS, "learning_rate_scale": RATES}
    others.add_trial(create_trial(value=0.9, params=params, distributions=spaces, intermediate_values={2: 0.9}))
    others.add_trial(create_trial(state=TrialState.FAIL))
    others.add_trial(create_trial(value=0.3))
    others.ask()
    run()
    assert states(others) == ["COMPLETE", "FAIL", "COMPLETE", "RUNNING", *["COMPLETE"] * 4]
    assert [record.number for record in folder.records()] == [4, 5, 6, 7]
    assert "trial 3 is run by another process" in capsys.readouterr().out


def test_trials_copied_from_another_study_of_this_kind_are_not_taken_for_its_own(others, run, folder) -> None:
    placed = {"study": "another", "slot": 0, "began": 0, "startup": True, "epochs_trained": 8}
    about = {"epochs": 4, "schedule": "constant", "cycles": 1}
    for score in (0.8, 0.9):
        others.add_trial(create_trial(value=score, intermediate_values={2: score}, user_attrs=placed | about))
    run()
    assert [record.number for record in folder.records()] == [2, 3, 4, 5]
    assert others.trials[2].user_attrs["began"] == 0


@pytest.mark.parametrize("state", ["FAIL", "COMPLETE", "PRUNED"])
def test_a_trial_that_another_process_ends_is_given_up_and_the_study_goes_on(others, run, folder, state: str) -> None:
    def end(number: int, epoch: int) -> None:
        if (number, epoch) == (1, 2):
            others.tell(1, 0.99 if state == "COMPLETE" else None, state=TrialState[state])

    run(end)
    assert states(others) == ["COMPLETE", state, "COMPLETE", "COMPLETE"]
    record = next(record for record in folder.records() if record.number == 1)
    assert record.state == {"FAIL": "failed", "COMPLETE": "complete", "PRUNED": "pruned"}[state]
    assert "another process" in str(record.error)
    if state == "COMPLETE":
        assert record.value == record.score != 0.99  # its own reading, not what was told
    assert not (folder.trial(1) / "readings").exists()


def test_a_trial_that_was_ended_while_the_study_stood_still_is_settled(others, run, folder) -> None:
    def kill(number: int, epoch: int) -> None:
        if (number, epoch) == (1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kill)
    others.tell(1, state=TrialState.FAIL)
    run()
    assert states(others) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [record.state for record in folder.records()] == ["complete", "failed", "complete", "complete"]


def test_a_parameter_of_another_kind_is_refused_by_name(others, run) -> None:
    kind = {"distributions": {"rank": FloatDistribution(1, 64)}}
    others.add_trial(create_trial(value=0.9, params={"rank": 8.0}, **kind))
    with pytest.raises(
        SearchError, match=refusal("search", "rank", "what another process added as trial 0", "study.db")
    ):
        run()

"""The coordinator when trials fail and workers are lost: who pays for it, and what is said."""

from typing import Any

import pytest

from search.errors import WorkerError
from search.record.events import (
    Checkpointed,
    Failed,
    Lost,
    Prepared,
    StopTrial,
    TrialSpec,
)
from search.record.record import TrialRecord
from tests.search.running.one_sitting import Answer, Sitting


def at(number: int, epoch: int, message: Any, times: int = 1, to: list[int] | None = None) -> Answer:
    """In the place of a checkpoint, so many times."""
    left = [times]

    def happens(worker: int, event: Any) -> list[Any] | None:
        here = isinstance(event, Checkpointed) and (event.number, event.epoch) == (number, epoch)
        if not here or not left[0]:
            return None
        left[0] -= 1
        return [message]

    return happens


def test_a_trial_that_fails_of_itself_has_failed_and_its_slot_goes_on(sitting: Any) -> None:
    this: Sitting = sitting(happens=at(1, 4, Failed(1, 4, "loss is NaN", again=False))).run()
    assert [row[1] for row in this.outcome] == ["COMPLETE", "FAIL", "COMPLETE"]
    record = TrialRecord.load(this.folder.trial(1))
    assert (record.state, record.stopped, record.error, record.epochs_trained) == ("failed", "failed", "loss is NaN", 2)
    assert (record.epoch_shipped, record.score) == (None, None)
    assert len(this.team.specs(1)) == 1
    assert this.team.sent.index((0, StopTrial(1, 2))) > 0
    assert TrialRecord.load(this.folder.trial(2)).began == 6 + 2


@pytest.mark.parametrize("times", [1, 3])
def test_what_may_pass_is_tried_again_three_times(sitting: Any, times: int) -> None:
    whole = sitting(name="whole").run().outcome
    this: Sitting = sitting(happens=at(1, 4, Failed(1, 4, "the disk hiccuped", again=True), times)).run()
    assert this.outcome == whole
    assert [spec.processed for spec in this.team.specs(1)] == [0] + [2] * times
    assert this.board.notes == ["trial 1: the disk hiccuped; trying again"] * times


def test_what_does_not_pass_is_given_up_and_counts_as_failed_once_another_trial_works(sitting: Any) -> None:
    this: Sitting = sitting(happens=at(1, 4, Failed(1, 4, "the disk hiccuped", again=True), 4)).run()
    assert [row[1] for row in this.outcome] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert this.board.notes[-1] == "trial 1: the disk hiccuped; given up for now"
    assert len(this.team.specs(1)) == 4
    record = TrialRecord.load(this.folder.trial(1))
    assert (record.state, record.error, record.epochs_trained) == ("failed", "the disk hiccuped", 2)
    assert TrialRecord.load(this.folder.trial(2)).began == 6 + 2
    ends = [each[1:] for each in this.board.seen if each[0] == "ended"]
    assert ends == [(0, "complete"), (1, "failed"), (2, "complete")]
    began = this.board.seen.index(("began", 0, 2, 0))
    assert began < this.board.seen.index(("ended", 1, "failed")) < this.board.seen.index(("checkpointed", 0, 2, 2))


def test_three_that_are_given_up_in_a_row_are_the_machines_fault(sitting: Any) -> None:
    def broken(worker: int, event: Any) -> list[Any] | None:
        return [Failed(event.number, 2, "no driver", again=True)] if isinstance(event, Checkpointed) else None

    this: Sitting = sitting("budget.trials=5", happens=broken)
    with pytest.raises(WorkerError, match=r"^3 trials in a row failed: no driver; details are in .*workers\.log"):
        this.run()
    assert [trial.state.name for trial in this.trials] == ["RUNNING"] * 3
    assert sitting("budget.trials=3").run().outcome == sitting(name="whole").run().outcome
    few: Sitting = sitting("budget.trials=1", name="few", happens=broken)
    with pytest.raises(WorkerError, match=r"^every trial failed: no driver"):
        few.run()


def test_a_fault_of_the_machine_ends_the_sitting_and_no_trial(sitting: Any) -> None:
    this: Sitting = sitting(happens=at(1, 4, Failed(1, 4, "the disk is full", again=True, machine=True)))
    with pytest.raises(WorkerError, match=r"^the disk is full; every finished checkpoint is kept"):
        this.run()
    assert this.trials[1].state.name == "RUNNING"
    assert sitting().run().outcome == sitting(name="whole").run().outcome


@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_worker_that_is_lost_has_its_trial_again_up_to_three_times(sitting: Any, times: int) -> None:
    this: Sitting = sitting(happens=at(1, 4, Lost("it was killed"), times)).run()
    said = "trial 1: worker lost (it was killed); going on from its last checkpoint"
    assert this.board.notes.count(said) == times
    # it was loading, from the second loss on, unless it says that it is ready
    assert [spec.processed for spec in this.team.specs(1)] == [0] + [2] * times
    assert [row[1] for row in this.outcome] == ["COMPLETE"] * 3


@pytest.mark.parametrize(("times", "state"), [(3, "COMPLETE"), (4, "FAIL")])
def test_a_trial_in_which_ready_workers_are_lost_again_and_again_is_given_up(
    sitting: Any, times: int, state: str
) -> None:
    lost = at(1, 4, Lost("it was killed"), times)

    def happens(worker: int, event: Any) -> list[Any] | None:
        found = lost(worker, event)
        return None if found is None else [*found, Prepared(0.0)]

    this: Sitting = sitting(happens=happens).run()
    assert this.trials[1].state.name == state
    record = TrialRecord.load(this.folder.trial(1))
    error = None if state == "COMPLETE" else "its worker was lost 4 times: it was killed"
    tries = [note for note in this.board.notes if note.endswith("trying again")]
    if error is not None:
        assert record.error is not None
        assert record.error.startswith("its worker was lost")
    else:
        assert (record.error, tries) == (None, [])


def test_a_worker_that_never_comes_leaves_its_trials_to_the_others(sitting: Any) -> None:
    gone = [True]

    def happens(worker: int, event: Any) -> list[Any] | None:
        if worker == 1:
            answer = [Lost("it ended with exit code 9", replaced=False)] if gone[0] else []
            gone[0] = False
            return answer
        return None

    this: Sitting = sitting("budget.trials=4", count=2, happens=happens).run()
    assert [row[1] for row in this.outcome] == ["COMPLETE"] * 4
    assert this.board.notes == ["worker 1 cannot start (it ended with exit code 9); going on without it"]
    assert [worker for worker, spec in this.team.sent if isinstance(spec, TrialSpec)] == [0, 1, 0, 0, 0]
    assert {trial.user_attrs["slot"] for trial in this.trials} == {0}


def test_without_any_worker_there_is_no_study(sitting: Any) -> None:
    this: Sitting = sitting(happens=lambda w, e: [Lost("it ended with exit code 9", replaced=False)])
    with pytest.raises(WorkerError, match=r"^no worker could start: it ended with exit code 9; details are in"):
        this.run()
    assert [trial.state.name for trial in this.trials] == ["RUNNING"]


def test_what_a_lost_worker_had_told_before_it_was_due_is_told_again_by_the_next(sitting: Any) -> None:
    """The second worker is ahead: its checkpoint waits for its turn while it is lost."""
    whole = sitting("budget.trials=4", count=2, name="whole").run().outcome
    left = [1]

    def happens(worker: int, event: Any) -> list[Any] | None:
        if worker == 1 and isinstance(event, Checkpointed) and left[0]:
            left[0] = 0
            return [event, Lost("it was killed"), Prepared(0.0)]
        return None

    this: Sitting = sitting("budget.trials=4", count=2, happens=happens).run()
    assert this.outcome == whole
    assert len(this.team.specs(1)) == 2

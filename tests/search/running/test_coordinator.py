"""The coordinator beside workers in its own process: what it asks of them, shows, keeps and decides."""

from collections import Counter
from typing import Any

import pytest

from metrics.trajectory.readings import Readings
from search.errors import StudyError, WorkerError
from search.record.events import (
    Checkpointed,
    Doing,
    GoOn,
    Note,
    Prepared,
    StopTrial,
    TrialSpec,
    Unprepared,
)
from search.record.record import TrialRecord
from search.verdict.ranking import IN_DETAIL, best_trials
from tests.search.running.one_sitting import Killed, Sitting


def test_each_trial_is_placed_decided_on_and_ended_in_turn(sitting: Any) -> None:
    this: Sitting = sitting().run()
    for number in range(3):
        assert this.board.of(number) == [
            ("began", 0, number, 0), ("checkpointed", 0, number, 2), ("checkpointed", 0, number, 4),
            ("ended", number, "complete"),
        ]  # fmt: skip
        sent = [m for _, m in this.team.sent if m.number == number]
        assert sent[1:] == [GoOn(number, 2), GoOn(number, 4), StopTrial(number, 6)]
        (spec,) = this.team.specs(number)
        assert (spec.folder, spec.processed, spec.place) == (this.folder.trial(number), 0, 0)
        assert spec.params == this.trials[number].params
        record = TrialRecord.load(this.folder.trial(number))
        assert (record.state, record.stopped, record.epochs_trained) == ("complete", "horizon", 6)
        assert (record.slot, record.began) == (0, 6 * number)
        assert record.score == this.trials[number].value
        assert this.trials[number].intermediate_values.keys() == {2, 4, 6}
        assert len(this.folder.trajectory(number).readings) == 4
        attributes = this.trials[number].user_attrs
        assert (attributes["began"], attributes["slot"]) == (6 * number, 0)
        assert (attributes["processed"], attributes["epochs_trained"]) == (4, 6), "decided on, and in all"
        assert {name: attributes[name] for name in ("epochs", "schedule", "cycles")} == {
            "epochs": 6, "schedule": record.config.lr_scheduler, "cycles": record.config.effective_num_cycles
        }  # fmt: skip
        assert attributes.get("epoch_shipped") == record.epoch_shipped
    assert this.board.seen[0] == ("opened", 1, 1)
    assert this.clock.ticks == this.team.heard > 0
    assert this.board.notes == []


def test_two_workers_have_trials_of_their_own(sitting: Any) -> None:
    this: Sitting = sitting("budget.trials=4", count=2).run()
    assert Counter(each[1] for each in this.board.seen if each[0] == "began") == {0: 2, 1: 2}
    assert {(spec.number, worker) for worker, spec in this.team.sent if isinstance(spec, TrialSpec)} == {
        (0, 0), (1, 1), (2, 0), (3, 1)
    }  # fmt: skip
    assert all(slot.ready for slot in this.coordinator._slots)
    assert ("prepared", (0,)) in this.board.seen
    assert ("prepared", (1,)) in this.board.seen


def test_a_record_is_kept_before_the_trial_goes_on(sitting: Any) -> None:
    this: Sitting = sitting()
    kept: list[tuple[int, int, str]] = []
    shown = this.board.checkpointed

    def seen(slot: int, record: TrialRecord, readings: Readings) -> None:
        on_disk = TrialRecord.load(this.folder.trial(record.number))
        kept.append((on_disk.number, on_disk.epochs_trained, on_disk.state))
        shown(slot, record, readings)

    this.board.checkpointed = seen
    this.run()
    assert kept == [(number, epoch, "running") for number in range(3) for epoch in (2, 4)]


def test_a_second_sitting_shows_what_the_first_has_done_and_goes_on_behind_it(sitting: Any) -> None:
    whole = sitting("budget.trials=4", name="whole").run().outcome
    sitting("budget.trials=2").run()
    again: Sitting = sitting("budget.trials=4").run()
    assert again.outcome == whole
    assert again.board.seen[:3] == [("opened", 1, 1), ("ended", 0, "complete"), ("ended", 1, "complete")]
    assert not again.team.specs(0)
    assert [record.began for record in again.folder.records()] == [0, 6, 12, 18]
    best = best_trials(again.folder.records(), IN_DETAIL)
    assert sorted(record.number for record in again.coordinator._tidier.contenders) == sorted(best)


@pytest.mark.parametrize("at", [(1, 2), (1, 4), (2, 2)])
def test_a_trial_that_was_under_way_goes_on_from_its_last_decision(sitting: Any, at: tuple[int, int]) -> None:
    whole = sitting(name="whole").run().outcome
    first: Sitting = sitting()
    first.run_until_killed(at)
    again: Sitting = sitting().run()
    assert again.outcome == whole
    number, epoch = at
    assert again.team.specs(number)[0].processed == epoch
    assert again.board.of(number)[0] == ("began", 0, number, epoch)
    assert again.trials[number].user_attrs["began"] == 6 * number


def test_what_was_ended_elsewhere_between_two_sittings_is_written_down_and_one_without_a_record_is_left_out(
    sitting: Any,
) -> None:
    first: Sitting = sitting()
    first.run_until_killed((1, 4))
    first.coordinator.optuna_study.tell(1, 0.5)
    (first.folder.trial(0) / "record.json").unlink()
    again: Sitting = sitting()
    record = TrialRecord.load(first.folder.trial(1))
    assert (record.state, record.stopped, record.epochs_trained) == ("complete", "told", 4)
    assert len(first.folder.trajectory(1).readings) == 3
    assert [each for each in again.board.seen if each[0] == "ended"] == [("ended", 1, "complete")]
    (note,) = again.board.notes
    assert note == "trial 0 is complete, but it has no record here: it is left out"
    again.run()
    assert TrialRecord.load(first.folder.trial(2)).began == 6 + 4


@pytest.mark.parametrize(
    ("wrong", "kind", "text"), [(True, StudyError, r"study\.yaml: no"), (False, WorkerError, "^no$")]
)
def test_what_a_worker_refuses_is_the_users_or_the_workers(sitting: Any, wrong: bool, kind: Any, text: str) -> None:
    this: Sitting = sitting(happens=lambda w, e: [Unprepared("no", wrong_input=wrong)])
    with pytest.raises(kind, match=text):
        this.run()


def test_what_workers_say_is_shown_for_their_slots(sitting: Any) -> None:
    doing = Doing("drawing", 1, 4)

    def happens(worker: int, event: Any) -> list[Any] | None:
        if isinstance(event, Checkpointed) and (event.number, event.epoch) == (1, 4):
            return [doing, Note(1, "passed over a checkpoint"), event]
        return None

    this: Sitting = sitting("budget.trials=4", count=2, happens=happens).run()
    assert [each for each in this.board.seen if each[0] == "doing"] == [("doing", 1, doing)]
    assert this.board.notes == ["trial 1: passed over a checkpoint"]


def test_how_many_trials_a_worker_takes_it_says_itself(sitting: Any) -> None:
    def happens(worker: int, event: Any) -> list[Any] | None:
        return [Prepared(0.0, places=2)] if isinstance(event, Prepared) else None

    this: Sitting = sitting("budget.trials=4", count=2, places=None, happens=happens).run()
    assert this.board.seen[0] == ("opened", 4, 2)
    specs = [(worker, spec.number, spec.place) for worker, spec in this.team.sent if isinstance(spec, TrialSpec)]
    assert specs == [(0, 0, 0), (1, 1, 0), (0, 2, 1), (1, 3, 1)]
    assert ("prepared", (0, 2)) in this.board.seen
    assert [row[1] for row in this.outcome] == ["COMPLETE"] * 4


def test_trials_of_slots_that_are_there_no_more_wait_for_one(sitting: Any) -> None:
    first: Sitting = sitting("budget.trials=2", count=2)
    first.run_until_killed((1, 4))
    again: Sitting = sitting("budget.trials=2", count=1).run()
    assert [row[1] for row in again.outcome] == ["COMPLETE"] * 2
    assert [(t.user_attrs["slot"], t.user_attrs["began"]) for t in again.trials] == [(0, 0), (0, 6)]
    assert again.team.specs(1)[0].processed == 4


def test_queued_trials_that_the_budget_does_not_reach_are_told(sitting: Any) -> None:
    this: Sitting = sitting("budget.trials=1")
    for rank in (4, 8):
        this.coordinator.optuna_study.enqueue_trial({"rank": rank, "learning_rate_scale": 2.0})
    this.run()
    assert this.trials[0].params["rank"] == 4
    assert this.board.notes == ["1 queued trials are left. Raise budget.trials to run them"]


def test_what_is_done_before_optuna_is_told_finds_the_files(sitting: Any) -> None:
    this: Sitting = sitting()
    seen: list[tuple[int, str, str]] = []

    def before(trial: Any, record: TrialRecord) -> None:
        kept = TrialRecord.load(this.folder.trial(record.number))
        assert (this.folder.trial(record.number) / "trajectory.csv").is_file()
        seen.append((record.number, kept.state, this.trials[record.number].state.name))

    this.coordinator._before_tell = before
    this.run()
    assert seen == [(number, "complete", "RUNNING") for number in range(3)]


def test_a_trial_that_another_process_has_ended_is_given_up_and_said(sitting: Any) -> None:
    this: Sitting = sitting()
    shown = this.board.checkpointed

    def elsewhere(slot: int, record: TrialRecord, readings: Readings) -> None:
        shown(slot, record, readings)
        if (record.number, record.epochs_trained) == (1, 4):
            this.coordinator.optuna_study.tell(1, 0.5)

    this.board.checkpointed = elsewhere
    this.run()
    assert this.board.notes == ["trial 1: another process told Optuna that it is complete"]
    assert (0, StopTrial(1, 6)) in this.team.sent or (0, StopTrial(1, 4)) in this.team.sent
    record = TrialRecord.load(this.folder.trial(1))
    assert (record.state, record.stopped) == ("complete", "told")
    assert this.board.of(1)[-1] == ("ended", 1, "complete")
    assert [row[1] for row in this.outcome] == ["COMPLETE"] * 3
    assert TrialRecord.load(this.folder.trial(2)).began == 6 + record.epochs_trained


def test_whether_a_trial_was_drawn_at_random_is_as_it_was_when_it_was_asked_for(sitting: Any) -> None:
    """Two began before any had ended; the one that goes on after a kill is still one of the first."""
    settings = ("budget.trials=3", "budget.startup_trials=1")
    first: Sitting = sitting(*settings, count=2)
    shown = first.board.ended

    def killed(record: TrialRecord) -> None:
        shown(record)
        raise Killed

    first.board.ended = killed
    with pytest.raises(Killed):
        first.run()
    assert [trial.state.name for trial in first.trials] == ["COMPLETE", "RUNNING"]
    again: Sitting = sitting(*settings, count=2).run()
    assert [TrialRecord.load(again.folder.trial(number)).startup for number in range(3)] == [True, True, False]

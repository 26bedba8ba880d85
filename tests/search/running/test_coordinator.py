"""The coordinator beside workers in its own process: what it asks of them, shows, keeps and decides."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from metrics.trajectory.readings import Readings
from search.errors import StudyError, WorkerError
from search.record.clock import Clock
from search.record.events import (
    Checkpointed,
    Doing,
    Failed,
    GoOn,
    Lost,
    Note,
    Prepared,
    StopTrial,
    TrialSpec,
    Unprepared,
)
from search.record.record import StudyFolder, TrialRecord
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.study.study import Study, load_study
from search.verdict.ranking import IN_DETAIL, best_trials
from tests.search.one_process import OneProcess

optuna.logging.set_verbosity(optuna.logging.WARNING)
Answer = Callable[[int, Any], list[Any] | None]


class Told(OneProcess):
    """Notes what it is sent; `happens(worker, message)` may put other messages in the place of one."""

    def __init__(self, count: int, happens: Answer = lambda worker, message: None) -> None:
        super().__init__(count)
        self.sent: list[tuple[int, Any]] = []
        self.heard = 0
        self._happens = happens

    def send(self, slot: int, message: Any) -> None:
        self.sent.append((slot, message))
        super().send(slot, message)

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        self.heard += 1
        got = []
        for worker, message in super().receive(timeout):
            others = self._happens(worker, message)
            got += [(worker, other) for other in ([message] if others is None else others)]
        return got

    def specs(self, number: int) -> list[TrialSpec]:
        return [message for _, message in self.sent if isinstance(message, TrialSpec) and message.number == number]


class Shown(Board):
    """Notes what it is shown."""

    def __init__(self, slots: int) -> None:
        super().__init__("small", 9, slots)
        self.seen: list[tuple[Any, ...]] = []
        self.notes: list[str] = []

    def opened(self, slots: int, places: int) -> None:
        self.seen.append(("opened", slots, places))
        super().opened(slots, places)

    def prepared(self, slots: Any, message: Prepared) -> None:
        self.seen.append(("prepared", tuple(slots)))
        super().prepared(slots, message)

    def began(self, slot: int, record: TrialRecord) -> None:
        self.seen.append(("began", slot, record.number, record.epochs_trained))
        super().began(slot, record)

    def doing(self, slot: int, message: Doing) -> None:
        self.seen.append(("doing", slot, message))
        super().doing(slot, message)

    def checkpointed(self, slot: int, record: TrialRecord, readings: Readings) -> None:
        self.seen.append(("checkpointed", slot, record.number, record.epochs_trained))
        assert readings.epoch == record.epochs_trained
        super().checkpointed(slot, record, readings)

    def ended(self, record: TrialRecord) -> None:
        self.seen.append(("ended", record.number, record.state))
        super().ended(record)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def of(self, number: int) -> list[tuple[Any, ...]]:
        kinds = {"began": 2, "checkpointed": 2, "ended": 1}
        return [each for each in self.seen if each[0] in kinds and each[kinds[each[0]]] == number]


class Ticks(Clock):
    ticks = 0

    def tick(self) -> None:
        self.ticks += 1


class Sitting:
    """A study of a few short trials, of which more may be had in a second sitting."""

    def __init__(self, study: Study, folder: StudyFolder, count: int, places: int | None, happens: Answer) -> None:
        self.folder, self.team = folder, Told(count, happens)
        self.board, self.clock = Shown(count * (places or 1)), Ticks(folder)
        self.coordinator = Coordinator(study, folder, self.team, self.board, clock=self.clock, places=places)

    def run(self) -> "Sitting":
        self.coordinator.run()
        return self

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.coordinator.optuna_study.get_trials()

    @property
    def outcome(self) -> list[tuple[Any, ...]]:
        return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in self.trials]


@pytest.fixture
def sitting(write_study: Any, tmp_path: Path) -> Callable[..., Sitting]:
    file = write_study(
        train={"resolution": 64, "epochs": 6, "save_every_n_epochs": 2},
        budget={"trials": 3, "startup_trials": 9},
        finalists={"trials": 0},
    )

    def made(
        *settings: str, count: int = 1, places: int | None = 1, happens: Answer = lambda w, m: None, name: str = "small"
    ) -> Sitting:
        folder = StudyFolder(tmp_path / "runs" / name)
        folder.path.mkdir(parents=True, exist_ok=True)
        return Sitting(load_study(file, ["stop.onset=false", *settings]), folder, count, places, happens)

    return made


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
    assert this.board.seen[0] == ("opened", 1, 1)
    assert this.clock.ticks == this.team.heard > 0
    assert this.board.notes == []


def test_two_workers_have_trials_of_their_own(sitting: Any) -> None:
    this: Sitting = sitting("budget.trials=4", count=2).run()
    assert Counter(each[1] for each in this.board.seen if each[0] == "began") == {0: 2, 1: 2}
    assert {(spec.number, worker) for worker, spec in this.team.sent if isinstance(spec, TrialSpec)} == {
        (0, 0), (1, 1), (2, 0), (3, 1)
    }  # fmt: skip
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

    this.board.checkpointed = seen  # type: ignore[method-assign]
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


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [(1, 2), (1, 4), (2, 2)])
def test_a_trial_that_was_under_way_goes_on_from_its_last_decision(sitting: Any, at: tuple[int, int]) -> None:
    whole = sitting(name="whole").run().outcome
    first: Sitting = sitting()
    shown = first.board.checkpointed

    def killed(slot: int, record: TrialRecord, readings: Readings) -> None:
        if (record.number, record.epochs_trained) == at:
            raise Killed
        shown(slot, record, readings)

    first.board.checkpointed = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        first.run()
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
    shown = first.board.checkpointed

    def killed(slot: int, record: TrialRecord, readings: Readings) -> None:
        shown(slot, record, readings)
        if (record.number, record.epochs_trained) == (1, 4):
            raise Killed

    first.board.checkpointed = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        first.run()
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
    shown = first.board.checkpointed

    def killed(slot: int, record: TrialRecord, readings: Readings) -> None:
        shown(slot, record, readings)
        if (record.number, record.epochs_trained) == (1, 4):
            raise Killed

    first.board.checkpointed = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        first.run()
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

    this.board.checkpointed = elsewhere  # type: ignore[method-assign]
    this.run()
    assert this.board.notes == ["trial 1: another process told Optuna that it is complete"]
    assert (0, StopTrial(1, 6)) in this.team.sent or (0, StopTrial(1, 4)) in this.team.sent
    record = TrialRecord.load(this.folder.trial(1))
    assert (record.state, record.stopped) == ("complete", "told")
    assert this.board.of(1)[-1] == ("ended", 1, "complete")
    assert [row[1] for row in this.outcome] == ["COMPLETE"] * 3
    assert TrialRecord.load(this.folder.trial(2)).began == 6 + record.epochs_trained

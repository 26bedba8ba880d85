"""Which trials a new worker gets at once when the one before it was lost."""

import random
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from metrics.trajectory.readings import Readings
from search.record.events import Checkpointed, Failed
from search.record.record import TrialRecord
from search.record.trial_progress import Course
from search.running.slots import Running, Slot, Turns, given_up, on_worker, one_by_one, released, slots_of
from tests.search.any_config import CONFIG


@pytest.fixture
def slots() -> list[Slot]:
    study = optuna.create_study()
    found = slots_of(1, 3)
    for slot in found:
        trial = study.ask()
        slot.running = Running(trial, Course(TrialRecord(trial.number, "running", CONFIG, {}, 4)), retries=1)
    return found


def test_few_trials_are_spread_over_all_workers() -> None:
    found = slots_of(2, 2)
    assert [(slot.worker, slot.place) for slot in found] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [slot.index for slot in on_worker(found, 1, 2)] == [1, 3]
    assert not any(slot.ready for slot in found), "until its worker says so: what is lost before is no trial's fault"


def test_after_a_first_loss_all_are_given_at_once(slots: list[Slot]) -> None:
    assert one_by_one(slots) == slots
    assert released(slots) == []


def test_after_a_second_one_each_waits_for_the_one_before_it(slots: list[Slot]) -> None:
    assert slots[1].running is not None
    slots[1].running.retries = 2
    assert one_by_one(slots) == slots[:1]
    assert [released(slots) for _ in range(3)] == [slots[1:2], slots[2:], []]


def test_turns_are_those_of_a_search_through_all_slots() -> None:
    """Trials are placed, reach checkpoints, end, and slots retire, at random."""
    study, luck = optuna.create_study(), random.Random(0)
    found = slots_of(4, 3)
    turns = Turns(found)
    taken = 0
    for _ in range(400):
        free = next((slot for slot in found if slot.running is None and not slot.retired), None)
        assert turns.free() is free
        busy = [slot for slot in found if slot.running is not None]
        due = min(busy, key=lambda slot: slot.time, default=None)
        assert turns.due() is due
        if free is not None and luck.random() < 0.6:
            trial = study.ask()
            turns.placed(free, Running(trial, Course(TrialRecord(trial.number, "running", CONFIG, {}, 8))))
        elif due is not None and due.running is not None:
            taken += 1
            course = due.running.course
            if luck.random() < 0.3:
                due.clock += course.due
                turns.freed(due)
            elif luck.random() < 0.02:
                due.retired = True
                turns.freed(due)
            else:  # on to its next checkpoint
                due.running.course = replace(course, record=replace(course.record, epochs_trained=course.due))
    assert taken > 100
    assert any(slot.retired for slot in found)


def test_a_trial_taken_off_leaves_no_event_behind(slots: list[Slot]) -> None:
    running = slots[0].running
    assert running is not None
    for slot in slots:
        slot.free()
    turns = Turns(slots)
    assert turns.due() is None
    slots[1].events.append(Failed(0, 1, "of the trial before", again=False))
    turns.placed(slots[1], running)
    assert turns.due() is slots[1]
    assert not slots[1].events
    turns.freed(slots[1])
    assert turns.due() is None
    assert turns.free() is slots[0]


def test_an_event_waits_unless_it_is_of_another_trial_or_was_taken_already(slots: list[Slot]) -> None:
    slot = slots[1]
    running = slot.running
    assert running is not None
    running.course = replace(running.course, record=replace(running.course.record, epochs_trained=2))
    number = running.trial.number
    readings = Readings(4, 0.0, {}, {}, 0.5)
    events = [Checkpointed(number, 4, readings), Failed(number, 3, "a fault", again=True)]
    for event in (*events, Failed(number, 2, "before", again=True), Failed(number + 1, 4, "another's", again=True)):
        slot.arrived(event)
    assert list(slot.events) == events
    slot.free()
    slot.arrived(events[0])
    assert slot.running is None
    assert not slot.held


def test_a_slot_begins_without_a_trial_at_the_first_epoch_and_not_ready() -> None:
    (slot,) = slots_of(1, 1)
    assert (slot.clock, slot.running, list(slot.events)) == (0, None, [])
    assert (slot.ready, slot.retired, slot.held) == (False, False, False)
    assert Turns([slot]).free() is slot
    slot.retired = True
    assert Turns([slot]).free() is None


def test_the_next_event_is_timed_by_what_was_trained_on_the_slot_before(slots: list[Slot]) -> None:
    slots[0].clock = 7
    running = slots[0].running
    assert running is not None
    assert slots[0].time == (7 + running.course.due, running.trial.number)


@pytest.mark.parametrize(("count", "said"), [(1, "every trial failed: "), (3, "3 trials in a row failed: ")])
def test_of_trials_that_failed_in_a_row_the_last_ones_reason_is_told(
    slots: list[Slot], tmp_path: Path, count: int, said: str
) -> None:
    suspects = [slot.running for slot in slots if slot.running is not None][:count]
    for number, running in enumerate(suspects):
        running.course = replace(running.course, record=replace(running.course.record, error=f"reason {number}"))
    error = str(given_up(suspects, tmp_path / "workers.log"))
    assert error.startswith(f"{said}reason {count - 1}; details are in {tmp_path / 'workers.log'}")

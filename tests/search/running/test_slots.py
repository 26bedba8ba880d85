"""Which trials a new worker gets at once when the one before it was lost."""

import optuna
import pytest

from search.record.record import TrialRecord
from search.record.trial_progress import Course
from search.running.slots import Running, Slot, on_worker, one_by_one, released, slots_of
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


def test_after_a_first_loss_all_are_given_at_once(slots: list[Slot]) -> None:
    assert one_by_one(slots) == slots
    assert released(slots) == []


def test_after_a_second_one_each_waits_for_the_one_before_it(slots: list[Slot]) -> None:
    assert slots[1].running is not None
    slots[1].running.retries = 2
    assert one_by_one(slots) == slots[:1]
    assert [released(slots) for _ in range(3)] == [slots[1:2], slots[2:], []]

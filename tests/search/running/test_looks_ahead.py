"""Workers without a trial draw looks of the finals, which change nothing but the time."""

from types import SimpleNamespace
from typing import Any

import pytest

from search.record.events import DrawAgain, DrawnAgain, Failed, Lost
from search.record.record import StudyFolder
from search.running.looks_ahead import BASE, LooksAhead
from search.running.slots import Slot, slots_of
from search.running.workers import Team
from search.verdict.ranking import best_trials


class Sent(Team):
    def __init__(self) -> None:
        self.looks: list[tuple[int, DrawAgain]] = []

    def send(self, slot: int, message: Any) -> None:
        self.looks.append((slot, message))


@pytest.fixture
def slots() -> list[Slot]:
    """Three workers with two places each; only the first one has a trial."""
    found = slots_of(3, 2)
    for slot in found:
        slot.ready = True
    found[0].running = SimpleNamespace()
    return found


def test_whoever_waits_draws_the_base_and_then_the_best_so_far(slots: list[Slot], finished_study: StudyFolder) -> None:
    records = {record.number: record for record in finished_study.records()}
    ahead = LooksAhead(team := Sent(), 4)
    first, second, *_ = (DrawAgain(n, records[n].epoch_shipped) for n in best_trials(records.values(), 4))
    ahead.give(slots, records.values(), free=True)
    assert team.looks == [(1, BASE), (2, first)]
    assert ahead.at_work == {1: BASE, 2: first}
    ahead.give(slots, records.values(), free=True)
    assert len(team.looks) == 2, "both are at work"
    ahead.heard(2, DrawnAgain(None, 0))  # another's
    assert 2 in ahead.at_work
    ahead.heard(2, DrawnAgain(first.number, first.epoch))
    ahead.heard(1, Lost("it was killed"))
    slots[1].ready = False
    ahead.give(slots, records.values(), free=True)
    assert team.looks[2:] == [(2, second)]


@pytest.mark.parametrize("why", ["no finals", "nothing runs", "loading", "busy", "nowhere free", "nobody ended"])
def test_else_nothing_is_drawn(slots: list[Slot], finished_study: StudyFolder, why: str) -> None:
    records = [] if why == "nobody ended" else list(finished_study.records())
    ahead = LooksAhead(team := Sent(), 0 if why == "no finals" else 4)
    for slot in slots:
        if why == "nothing runs":
            slot.running = None
        elif why == "loading" and slot.worker:
            slot.ready = False
        elif why == "busy" and slot.place == 0:
            slot.running = SimpleNamespace()
    ahead.give(slots, records, free=why != "nowhere free")
    assert team.looks == ([(1, BASE)] if why == "nobody ended" else [])


def test_what_fails_is_left_to_the_finals(slots: list[Slot], finished_study: StudyFolder) -> None:
    ahead = LooksAhead(team := Sent(), 4)
    ahead.give(slots, finished_study.records(), free=True)
    (_, _), (worker, look) = team.looks
    ahead.heard(worker, Failed(look.number, look.epoch, "the disk hiccuped", again=True))
    assert worker not in ahead.at_work
    ahead.give(slots, finished_study.records(), free=True)
    assert [each for _, each in team.looks].count(look) == 1

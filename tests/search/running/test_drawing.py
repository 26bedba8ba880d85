"""Who is given which look of the finals, and what comes of answers, faults and losses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.errors import StudyError, WorkerError
from search.record.clock import Clock
from search.record.events import DrawAgain, DrawnAgain, Failed, Lost, Unprepared
from search.record.record import StudyFolder
from search.running.drawing import Drawing
from search.running.progress import Board
from search.running.workers import Team
from search.study.study import load_study


class Workers(Team):
    """Answer in the order in which they are asked, one look a turn."""

    def __init__(self, count: int, answer: Callable[[int, DrawAgain], Any]) -> None:
        self.count, self._answer = count, answer
        self.asked: list[tuple[int, DrawAgain]] = []
        self.given: list[tuple[int, DrawAgain]] = []

    def send(self, slot: int, message: Any) -> None:
        self.asked.append((slot, message))
        self.given.append((slot, message))

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        slot, look = self.asked.pop(0)
        return [(slot, self._answer(slot, look))]


class Said(Board):
    def __init__(self) -> None:
        super().__init__("small", 1, 1)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def drawing(write_study: Any, tmp_path: Path) -> Callable[..., Drawing]:
    def made(count: int, answer: Callable[[int, DrawAgain], Any] | None = None, **more: Any) -> Drawing:
        folder = StudyFolder(tmp_path / "runs" / "small")
        folder.path.mkdir(parents=True, exist_ok=True)
        team = Workers(count, answer or (lambda worker, look: DrawnAgain(look.number, look.epoch, look.twin)))
        check_place = more.pop("check_place", lambda: None)
        return Drawing(load_study(write_study()), folder, team, Said(), Clock(folder), check_place, **more)

    return made


def given(this: Drawing) -> list[tuple[int, DrawAgain]]:
    assert isinstance(this.team, Workers)
    return this.team.given


def notes(this: Drawing) -> list[str]:
    assert isinstance(this.board, Said)
    return this.board.notes


LOOKS = [DrawAgain(number, 8) for number in range(4)]


def failing(look: DrawAgain, times: int, *, again: bool = True, machine: bool = False) -> Callable[..., Any]:
    left = [times]

    def answer(worker: int, asked: DrawAgain) -> Any:
        if asked == look and left[0]:
            left[0] -= 1
            return Failed(look.number, look.epoch, "it hiccuped", again=again, machine=machine, twin=look.twin)
        return DrawnAgain(asked.number, asked.epoch, asked.twin)

    return answer


def test_looks_are_given_one_by_one_to_whoever_has_time(drawing: Any) -> None:
    checked: list[int] = []
    this = drawing(2, check_place=lambda: checked.append(1))
    this.run(LOOKS)
    assert given(this) == [(0, LOOKS[0]), (1, LOOKS[1]), (0, LOOKS[2]), (1, LOOKS[3])]
    assert len(checked) == 4
    assert (this.left_out, this.not_retrained, this.not_twinned, notes(this)) == ({}, {}, "", [])


@pytest.mark.parametrize("kind", [{"retrained": True}, {"twins": 5}])
@pytest.mark.parametrize(("count", "shares"), [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (7, [1] * 5)])
def test_what_is_trained_is_shared_out_at_once(drawing: Any, kind: dict[str, Any], count: int, shares: Any) -> None:
    asked = [DrawAgain(1, 8, place=place, **kind) for place in range(5)]
    this = drawing(count)
    this.run(asked)
    assert [look for _, look in given(this)] == asked
    assert [sum(worker == each for worker, _ in given(this)) for each in range(len(shares))] == shares


def test_what_a_worker_is_at_already_is_not_asked_for_again(drawing: Any) -> None:
    this = drawing(2, begun={1: LOOKS[2], 0: DrawAgain(9, 3)})
    this.team.asked = [(1, LOOKS[2]), (0, DrawAgain(9, 3))]
    this.run(LOOKS[1:3])
    assert given(this) == [(1, LOOKS[1])], "the other one is at something else"


def test_what_was_begun_and_is_not_asked_for_may_fail(drawing: Any) -> None:
    other = DrawAgain(9, 3)
    this = drawing(1, failing(other, 1, again=False, machine=True), begun={0: other})
    this.team.asked = [(0, other)]
    this.run(LOOKS[:1])
    assert (given(this), this.left_out, notes(this)) == ([(0, LOOKS[0])], {}, [])


@pytest.mark.parametrize("times", [1, 3])
def test_what_may_pass_is_tried_again_first_of_all(drawing: Any, times: int) -> None:
    this = drawing(1, failing(LOOKS[1], times))
    this.run(LOOKS)
    assert [look for _, look in given(this)] == [LOOKS[0], *[LOOKS[1]] * (times + 1), LOOKS[2], LOOKS[3]]
    assert (this.left_out, notes(this)) == ({}, [])


TWIN, SECOND = DrawAgain(1, 8, twins=3, place=2), DrawAgain(1, 8, retrained=True)
STRENGTHS, PART = DrawAgain(1, 8, strengths=True), DrawAgain(1, 8, strengths=True, parts=2, place=1)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(
    ("look", "left_out", "not_retrained", "not_twinned", "said"),
    [
        (LOOKS[1], {1: "it hiccuped"}, {}, "", ["trial 1 is not drawn again: it hiccuped"]),
        (SECOND, {}, {1: "it hiccuped"}, "", ["trial 1 is not trained a second time: it hiccuped"]),
        (TWIN, {}, {}, "it hiccuped", ["a twin of trial 1 is not trained: it hiccuped"]),
        (STRENGTHS, {}, {}, "", ["trial 1 is not shown at other strengths: it hiccuped"]),
        (PART, {}, {}, "", []),
    ],
)
def test_what_does_not_pass_is_left_out_and_named(
    drawing: Any, look: DrawAgain, left_out: Any, not_retrained: Any, not_twinned: str, said: list[str], times: int
) -> None:
    this = drawing(1, failing(look, times, again=times > 1))
    this.run([look, DrawAgain(2, 8)])
    assert sorted(given(this), key=lambda each: each[1] != look) == [*[(0, look)] * times, (0, DrawAgain(2, 8))]
    assert (this.left_out, this.not_retrained, this.not_twinned, notes(this)) == (
        left_out, not_retrained, not_twinned, said,
    )  # fmt: skip


def test_of_twins_the_first_reason_is_kept(drawing: Any) -> None:
    twins = [DrawAgain(1, 8, twins=2, place=place) for place in range(2)]
    this = drawing(1, lambda worker, look: Failed(1, 8, f"reason {look.place}", again=False, twin=look.twin))
    this.run(twins)
    assert this.not_twinned == "reason 0"
    assert len(notes(this)) == 2


@pytest.mark.parametrize(("look", "machine"), [(LOOKS[1], True), (DrawAgain(None, 0), False)])
def test_a_fault_of_the_machine_or_no_base_ends_the_sitting(drawing: Any, look: DrawAgain, machine: bool) -> None:
    this = drawing(1, failing(look, 1, again=machine, machine=machine))
    with pytest.raises(WorkerError, match=r"^it hiccuped; every trial is kept"):
        this.run([look])
    assert len(given(this)) == 1


def test_an_answer_about_something_else_changes_nothing(drawing: Any) -> None:
    answers = [DrawnAgain(1, 8, 2), DrawnAgain(1, 7), DrawnAgain(2, 8), "a word", DrawnAgain(1, 8)]

    def answer(worker: int, look: DrawAgain) -> Any:
        message = answers.pop(0)
        if answers:
            this.team.asked.append((worker, look))
        return message

    this = drawing(1, answer)
    this.run([LOOKS[1]])
    assert answers == []


def test_a_lost_workers_looks_go_on_elsewhere(drawing: Any) -> None:
    lost = [Lost("it was killed")]
    this = drawing(2, lambda worker, look: lost.pop() if lost else DrawnAgain(look.number, look.epoch))
    this.run(LOOKS[:3])
    assert given(this) == [(0, LOOKS[0]), (1, LOOKS[1]), (0, LOOKS[0]), (1, LOOKS[2])]
    assert this.left_out == {}


def test_a_worker_that_no_process_takes_up_is_given_nothing_more(drawing: Any) -> None:
    this = drawing(2, lambda w, look: DrawnAgain(look.number, look.epoch) if w else Lost("no memory", replaced=False))
    this.run(LOOKS)
    assert given(this)[0] == (0, LOOKS[0])
    assert sorted(look.number for worker, look in given(this) if worker == 1) == [0, 1, 2, 3]
    none = drawing(1, lambda worker, look: Lost("no memory", replaced=False))
    with pytest.raises(WorkerError, match=r"^no worker could start: no memory; details are in .*workers\.log"):
        none.run(LOOKS)


def test_looks_lost_too_often_are_left_out_with_the_reason(drawing: Any) -> None:
    this = drawing(
        1, lambda w, look: Lost("it was killed") if look == LOOKS[1] else DrawnAgain(look.number, look.epoch)
    )
    this.run(LOOKS)
    assert this.left_out == {1: "its worker was lost: it was killed"}
    assert len([1 for _, look in given(this) if look == LOOKS[1]]) == 4


def test_a_worker_that_refuses_ends_the_sitting(drawing: Any) -> None:
    with pytest.raises(StudyError, match="the base is gone"):
        drawing(1, lambda worker, look: Unprepared("the base is gone", wrong_input=True)).run(LOOKS)


def test_what_the_verdict_needs_is_imported_once_workers_have_something_to_do(drawing: Any) -> None:
    this = drawing(1, needed=["json", "no_such_module_of_onset"])
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_onset"):
        this.run(LOOKS)
    assert given(this) == [(0, LOOKS[0])]
    quiet = drawing(1, needed=["json"])
    quiet.run(LOOKS)
    assert quiet._needed == []

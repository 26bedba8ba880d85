"""Worker processes that die, never become ready, or hang: what is replaced, what is given up, and what is said."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.errors import WorkerError
from search.record.events import Alive, Doing, GoOn, Lost, Prepared, Quit
from search.running.workers import Team, _deaf_children, _ended, _WorkerProcess
from tests.search.shared_server import own_server

PATIENCE_SECONDS = 600.0  # of a test that would wait for ever


def dies_loading(connection: Connection, slot: int, setup: Any) -> None:
    """Says that it loads, and dies; slots named in `setup` become ready."""
    connection.send(Doing("loading the base"))
    if slot not in setup:
        os._exit(7)
    connection.send(Prepared(0.0))
    connection.recv()


def hangs_once(connection: Connection, slot: int, mark: Path) -> None:
    """Stops for good at the first message it gets, as a process does whose GPU is gone; the next one answers. Until
    then it shows life."""

    def received() -> Any:
        while not connection.poll(0.05):
            connection.send(Alive())
        return connection.recv()

    connection.send(Prepared(0.0))
    while not isinstance(message := received(), Quit):
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        connection.send(Doing("answered", message.number))


def works_slowly(connection: Connection, slot: int, seconds: float) -> None:
    """Takes `seconds` for an answer and shows life meanwhile."""
    connection.send(Prepared(0.0))
    while not isinstance(message := connection.recv(), Quit):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            connection.send(Alive())
            time.sleep(0.02)
        connection.send(Doing("answered", message.number))


@pytest.fixture
def team() -> Any:
    """Starts a team that is closed at the end: `team(target, setup, count, **more)`."""
    started: list[Team] = []

    def start(*args: Any, **more: Any) -> Team:
        started.append(Team(*args, **more))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.close()


def messages(team: Team, enough: Callable[[list[tuple[int, Any]]], bool], timeout: float = 1.0) -> list[Any]:
    """Everything that comes until it is enough."""
    got: list[tuple[int, Any]] = []
    until = time.monotonic() + PATIENCE_SECONDS
    while not enough(got):
        assert time.monotonic() < until, got
        got += team.receive(timeout)
    return got


def lost(got: list[tuple[int, Any]], slot: int) -> list[Lost]:
    return [message for index, message in got if index == slot and isinstance(message, Lost)]


def test_a_slot_whose_workers_never_become_ready_is_given_up_and_the_others_are_not(team) -> None:
    two = team(dies_loading, {1}, 2)
    got = messages(two, lambda got: any(not m.replaced for m in lost(got, 0)))
    assert [m.replaced for m in lost(got, 0)] == [True, True, False]
    assert "exit code 7" in lost(got, 0)[-1].reason
    assert not lost(got, 1)
    two.send(0, GoOn(3, 1))  # nobody is there, and nothing happens
    assert all(index == 1 for index, _ in two.receive(0.05))


@pytest.fixture
def server_of_its_own() -> Iterator[None]:
    with own_server():
        yield


def test_workers_come_back_when_the_process_that_they_are_forked_from_is_killed(server_of_its_own, team) -> None:
    two = team(works_slowly, 0.0, 2)
    messages(two, lambda got: sum(isinstance(m, Prepared) for _, m in got) == 2)
    for number in range(2):  # what it was doing when its workers are asked for again is chance
        pid = forkserver._forkserver._forkserver_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        got = messages(two, lambda got: all(any(isinstance(m, Prepared) for i, m in got if i == s) for s in (0, 1)))
        assert all(message.replaced for slot in (0, 1) for message in lost(got, slot))
        for slot in (0, 1):
            two.send(slot, GoOn(number, 1))
        answered = {(slot, Doing("answered", number)) for slot in (0, 1)}
        messages(two, lambda got, answered=answered: answered <= set(got))


def test_a_hung_worker_is_replaced(team, tmp_path: Path) -> None:
    one = team(hangs_once, tmp_path / "hung", 1, hung_after=1.5)
    messages(one, lambda got: any(isinstance(m, Prepared) for _, m in got))
    one.send(0, GoOn(3, 1))
    got = messages(one, lambda got: bool(lost(got, 0)), timeout=0.1)
    assert "no sign of life" in lost(got, 0)[0].reason
    one.send(0, GoOn(4, 1))
    got = messages(one, lambda got: any(isinstance(m, Doing) for _, m in got), timeout=0.1)
    assert (0, Doing("answered", 4)) in got


def test_a_slow_worker_that_shows_life_is_left_alone(team) -> None:
    one = team(works_slowly, 3.0, 1, hung_after=1.5)
    messages(one, lambda got: any(isinstance(m, Prepared) for _, m in got))
    one.send(0, GoOn(3, 1))
    got = messages(one, lambda got: any(isinstance(m, Doing) for _, m in got), timeout=0.1)
    assert got == [(0, Doing("answered", 3))]


def test_whatever_keeps_workers_from_starting_is_told(team) -> None:
    none = team(works_slowly, lambda: None, 2)  # cannot be sent to another process
    with pytest.raises(WorkerError, match=r"worker processes cannot be started: .*pickle"):
        none.receive(1.0)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "it ended with exit code 0"),
        (9, "it ended with exit code 9"),
        (None, "it ended with exit code None"),
        (-9, "it was killed: often because memory ran out"),
        (-15, "it was ended by SIGTERM"),
        (-11, "it was ended by SIGSEGV"),
    ],
)
def test_how_a_worker_ended_is_told_in_words(code: int | None, words: str) -> None:
    assert _ended(code) == words


class _Idle:
    """Stands where a worker's process does."""

    pid, how_it_ended = 7, "it ended"

    def __init__(self) -> None:
        self.alive, self.ends, self.done = True, True, list[str]()
        self.sentinel, self._other_end = multiprocessing.Pipe(duplex=False)

    def is_alive(self) -> bool:
        return self.alive

    def join(self, timeout: float | None = None) -> None:
        self.done.append("joined")
        self.alive = self.alive and not self.ends

    def kill(self) -> None:
        self.done.append("killed")
        self.alive = False


def idle_team(count: int, hung_after: float | None = None) -> Team:
    """Its workers do what the test says through `others`."""

    class Idle(Team):
        def _place(self, index: int) -> Any:
            ours, theirs = multiprocessing.Pipe()
            self.others.append((process := _Idle(), theirs))
            return process, ours

    made: Any = Idle(works_slowly, None, count, hung_after=hung_after)
    made.others = []
    made._launch_all()
    return made


@pytest.mark.parametrize(
    ("hung_after", "ready", "slowest", "loading", "patience"),
    [
        (None, True, 0.0, None, 120.0),
        (None, True, 5.9, None, 120.0),
        (None, True, 7.0, 3.0, 140.0),
        (30.0, True, 7.0, None, 30.0),
        (None, False, 7.0, None, None),  # the first one may download a base for hours
        (30.0, False, 7.0, None, None),
        (30.0, False, 7.0, 20.0, 600.0),
        (30.0, False, 7.0, 31.0, 620.0),
    ],
)
def test_how_long_a_worker_may_be_silent(hung_after, ready, slowest, loading, patience) -> None:
    process: Any = _Idle()
    slot = _WorkerProcess(process, process, ready=ready, slowest=slowest, loading=loading)
    assert Team(works_slowly, None, 1, hung_after=hung_after)._patience(slot) == patience


def test_what_a_worker_says_and_when_makes_it_known(monkeypatch: pytest.MonkeyPatch) -> None:
    team: Any = idle_team(2)
    (_, first), (_, _) = team.others
    slot, other = team._slots
    assert (slot.ready, slot.silent, slot.slowest, slot.loading, slot.losses, slot.retired) == (
        False, 0.0, 0.0, None, 0, False,
    )  # fmt: skip
    slot.silent = 50.0
    first.send(Prepared(12.5))
    assert team.receive(0.0) == [(0, Prepared(12.5))]
    assert (slot.ready, slot.loading, slot.slowest, slot.silent) == (True, 12.5, 0.0, 0.0), "loading is no step"
    slot.silent = 50.0
    first.send(Alive())
    first.send(Doing("training", 1, 2))
    assert team.receive(0.0) == [(0, Doing("training", 1, 2))]
    assert slot.slowest == pytest.approx(50.0, abs=0.5)
    slot.silent = 20.0
    first.send(Alive())
    assert team.receive(0.0) == []
    assert slot.slowest == pytest.approx(50.0, abs=0.5)
    assert other.silent < 5.0


def test_listening_counts_as_silence_and_a_sleeping_machine_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    team: Any = idle_team(1)
    times = iter([100.0, 101.5, 200.0, 9000.0])
    monkeypatch.setattr("search.running.workers.wait", lambda handles, timeout: [])
    monkeypatch.setattr("search.running.workers.time.monotonic", lambda: next(times))
    team.receive(1.0)
    assert team._slots[0].silent == 1.5
    team.receive(1.0)
    assert team._slots[0].silent == 1.5 + 2.0, "twice as long as it was to listen, at most"


def test_a_silent_worker_is_killed_and_another_put_in_its_place() -> None:
    team: Any = idle_team(1, hung_after=30.0)
    old = team._slots[0]
    old.ready, old.silent, old.loading = True, 29.0, 4.0
    assert team.receive(0.0) == []
    assert team._slots[0] is old
    old.silent = 31.0
    ((index, lost),) = team.receive(0.0)
    assert (index, lost) == (0, Lost("no sign of life for 31 s"))
    assert old.process.done == ["killed", "joined"]
    assert old.connection.closed
    new = team._slots[0]
    assert (new.ready, new.losses, new.loading, new.silent) == (False, 0, 4.0, 0.0)


def test_three_in_a_row_that_never_became_ready_are_enough() -> None:
    team: Any = idle_team(1)

    def dies() -> list[tuple[int, Any]]:
        process, theirs = team.others[-1]
        process.alive = False
        theirs.close()
        return team.receive(0.0)

    assert dies() == [(0, Lost("it ended"))]
    assert team._slots[0].losses == 1
    team.others[-1][1].send(Prepared(0.0))
    team.receive(0.0)
    assert dies() == [(0, Lost("it ended"))]
    assert team._slots[0].losses == 0, "that one was ready"
    assert [dies(), dies()] == [[(0, Lost("it ended"))]] * 2
    assert dies() == [(0, Lost("it ended", replaced=False))]
    assert team._slots[0].retired
    assert len(team.others) == 5
    assert team.receive(0.0) == []


def test_what_a_worker_said_last_comes_before_its_loss() -> None:
    team: Any = idle_team(1)
    process, theirs = team.others[0]
    theirs.send(Doing("loading the base"))
    process.alive = False
    theirs.close()
    assert team.receive(0.0) == [(0, Doing("loading the base")), (0, Lost("it ended"))]


def test_at_the_end_each_is_asked_to_end_and_those_that_do_not_are_ended() -> None:
    team: Any = idle_team(2)
    team.others[1][0].ends = False
    slots = list(team._slots)
    team.close(0.0)
    assert [theirs.recv() for _, theirs in team.others] == [Quit(), Quit()]
    assert [process.done for process, _ in team.others] == [["joined"], ["joined", "killed", "joined"]]
    assert all(slot.connection.closed for slot in slots)
    assert team._slots == []


def test_a_worker_that_is_gone_is_sent_to_without_a_fault() -> None:
    team: Any = idle_team(1)
    team.others[0][1].close()
    team.send(0, GoOn(1, 1))


def test_what_is_started_meanwhile_hears_neither_ctrl_c_nor_an_end() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with _deaf_children():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) - before == {signal.SIGINT, signal.SIGTERM} - before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("fails", [0, 2, 3])
def test_a_process_is_asked_for_three_times_at_most(monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    """Their server may be dying: the next one is asked."""
    started: list[dict[str, Any]] = []
    pipes: list[tuple[Connection, Connection]] = []

    class Process:
        sentinel, exitcode = 0, None
        is_alive = join = kill = staticmethod(lambda: None)

        def __init__(self, **how: Any) -> None:
            self.how = how

        def start(self) -> None:
            started.append(self.how)
            if len(started) <= fails:
                raise EOFError

    def pipe() -> tuple[Connection, Connection]:
        pipes.append(multiprocessing.Pipe())
        return pipes[-1]

    team = Team(dies_loading, "set up", 3)
    context: Any = SimpleNamespace(Pipe=pipe, Process=Process)
    monkeypatch.setattr(team, "_context", context)
    monkeypatch.setattr("search.running.workers._BETWEEN_SECONDS", 0.0)
    if fails == 3:
        with pytest.raises(EOFError):
            team._place(2)
    else:
        _, ours = team._place(2)
        assert ours is pipes[-1][0]
        assert not ours.closed
    assert len(started) == len(pipes) == min(fails + 1, 3)
    assert all(theirs.closed for _, theirs in pipes), "else our end would not see the worker's death"
    assert [ours.closed for ours, _ in pipes] == [True] * fails + [False] * (fails < 3)
    for how, (_, theirs) in zip(started, pipes, strict=True):
        assert (how["target"], how["args"], how["daemon"]) == (dies_loading, (theirs, 2, "set up"), True)

"""Worker processes that die, never become ready, or hang: what is replaced, what is given up, and what is said."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from search.errors import WorkerError
from search.record.events import Alive, Doing, GoOn, Lost, Prepared, Quit
from search.running.workers import Team
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

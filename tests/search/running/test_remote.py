"""Workers elsewhere, who call the coordinator back: here placed as plain processes, without Ray or Slurm."""

import contextlib
import multiprocessing
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection
from typing import Any

import pytest

from search.record.events import Doing, GoOn, Lost, Prepared, Quit
from search.running.remote import Invitation, RemoteTeam, _attended, _known, _RemoteWorker, answer, passed_on

PATIENCE_SECONDS = 120.0
_SPAWN = multiprocessing.get_context("spawn")


def answers(connection: Connection, slot: int, setup: Any) -> None:
    """Says what reached it, dies when it is told so, and answers everything else."""
    connection.send(Prepared(0.0))
    connection.send(Doing(f"{setup} {os.environ.get('HF_HUB_OFFLINE')} {os.environ.get('OMP_NUM_THREADS')}", slot))
    while not isinstance(message := connection.recv(), Quit):
        if message.epoch == 13:
            os._exit(9)
        connection.send(Doing(watched(connection) if message.epoch == 7 else "answered", message.number))


def watched(connection: Connection) -> str:
    """Whether the system asks now and then if the other end is still there."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        return "watched" if end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) else "not watched"


class _Process:
    """A job that is a process of this machine."""

    def __init__(self, invitation: Invitation) -> None:
        self.process = _SPAWN.Process(target=answer, args=(invitation,), daemon=True)
        self.process.start()

    def ended(self) -> str | None:
        return None if self.process.is_alive() else f"exit code {self.process.exitcode}"

    def cancel(self) -> None:
        self.process.kill()
        self.process.join()


class Here:
    """Places workers on this machine; one whose `room` is 0 keeps them waiting."""

    host = "127.0.0.1"

    def __init__(self, patience: float | None = None, disturb: Callable[[Invitation], object] | None = None) -> None:
        self.patience, self._disturb = patience, disturb
        self.jobs: list[Any] = []

    def place(self, slot: int, invitation: Invitation) -> Any:
        if self._disturb is not None:
            self._disturb(invitation)
        self.jobs.append(_Process(invitation) if self.patience is None else _Waits())
        return self.jobs[-1]


class _Waits:
    def ended(self) -> str | None:
        return None

    def cancel(self) -> None:
        """Nothing was begun."""


@pytest.fixture
def team() -> Iterator[Callable[..., RemoteTeam]]:
    started: list[RemoteTeam] = []

    def start(place: Here, count: int = 1) -> RemoteTeam:
        started.append(RemoteTeam(place, answers, "set up", count))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.close()


def messages(team: RemoteTeam, enough: Callable[[list[tuple[int, Any]]], bool]) -> list[tuple[int, Any]]:
    got: list[tuple[int, Any]] = []
    until = time.monotonic() + PATIENCE_SECONDS
    while not enough(got):
        assert time.monotonic() < until, got
        got += team.receive(0.2)
    return got


def test_a_worker_elsewhere_is_spoken_to_replaced_and_ended_like_one_of_this_machine(team, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    place = Here()
    one = team(place)
    one.send(0, GoOn(3, 1))  # before anybody is there
    got = messages(one, lambda got: len(got) == 3)
    assert got == [(0, Prepared(0.0)), (0, Doing("set up 7 None", 0)), (0, Doing("answered", 3))]
    one.send(0, GoOn(3, 7))
    assert messages(one, lambda got: len(got) == 1) == [(0, Doing("watched", 3))]
    one.send(0, GoOn(3, 13))
    got = messages(one, lambda got: any(isinstance(m, Lost) for _, m in got))
    assert got[-1][1].replaced
    assert "exit code 9" in got[-1][1].reason
    one.send(0, GoOn(4, 1))
    assert messages(one, lambda got: len(got) == 3)[-1] == (0, Doing("answered", 4))
    one.close()
    assert [job.ended() for job in place.jobs] == ["exit code 9", "exit code 0"]


def test_whoever_does_not_know_the_key_has_no_part_in_it(team) -> None:
    def knock(invitation: Invitation) -> None:
        strangers.append(socket.create_connection((invitation.host, invitation.port)))
        strangers[-1].sendall(b"GET / HTTP/1.1\r\n\r\n" * 20)

    strangers: list[socket.socket] = []
    one = team(Here(disturb=knock))
    assert (0, Prepared(0.0)) in messages(one, lambda got: len(got) == 2)
    for stranger in strangers:
        stranger.close()


def test_a_worker_for_which_there_is_never_room_is_given_up(team) -> None:
    one = team(Here(patience=0.3))
    got = messages(one, lambda got: len(got) == 3)
    assert [message.replaced for _, message in got] == [True, True, False]
    assert "no room" in got[-1][1].reason


def test_a_line_is_watched_small_messages_go_at_once_and_waiting_has_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        caller, _ = server.accept()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 3, 0))
        line = Connection(caller.detach())
        _attended(line)
        with socket.socket(fileno=os.dup(line.fileno())) as end:
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == struct.pack("ll", 0, 0)
            idle, every, tries, silent = (
                end.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            )
        assert idle + every * tries == 60, "seconds until a machine that is gone is noticed"
        assert silent == 60_000
        line.close()
        near.close()


@pytest.mark.parametrize("key", [b"the key", b"another"])
def test_a_line_is_that_of_a_caller_who_knows_the_key_and_it_is_watched(key: bytes) -> None:
    called: list[Any] = []

    def call(address: tuple[str, int]) -> None:
        with contextlib.suppress(multiprocessing.AuthenticationError, EOFError, OSError):
            called.append(Client(address, authkey=b"the key"))

    with socket.create_server(("127.0.0.1", 0)) as server:
        caller = threading.Thread(target=call, args=(server.getsockname(),))
        caller.start()
        line = _known(server.accept()[0], key)
        caller.join()
    assert (line is not None) == (key == b"the key")
    if line is not None:
        assert watched(line) == "watched"
        line.close()
    for each in called:
        each.close()


class _Stub:
    """A job that is what the test says; nobody calls back."""

    def __init__(self, ended: list[str | None]) -> None:
        self._ended, self.cancelled = ended, 0

    def ended(self) -> str | None:
        return self._ended.pop(0) if len(self._ended) > 1 else self._ended[0]

    def cancel(self) -> None:
        self.cancelled += 1


class _Placing:
    host = "127.0.0.1"

    def __init__(self, job: Any, patience: float | None = None) -> None:
        self.job, self.patience, self.invited = job, patience, list[Invitation]()

    def place(self, slot: int, invitation: Invitation) -> Any:
        self.invited.append(invitation)
        if isinstance(self.job, Exception):
            raise self.job
        return self.job


def lived(placing: _Placing) -> tuple[_RemoteWorker, Connection]:
    near, theirs = multiprocessing.Pipe()
    worker = _RemoteWorker(placing, 0, b"first word", theirs)
    return worker, near


@pytest.mark.parametrize(
    ("job", "patience", "said"),
    [
        (_Stub([None, "Ray ended it"]), None, "Ray ended it"),
        (_Stub([None]), 0.1, "there was no room for it for 0 s"),
        (ValueError("no such queue"), None, "ValueError: no such queue"),
    ],
)
def test_why_a_worker_that_never_called_is_no_more(job: Any, patience: float | None, said: str) -> None:
    placing = _Placing(job, patience)
    worker, near = lived(placing)
    assert near.poll(PATIENCE_SECONDS), "its end of the line is closed"
    with pytest.raises(EOFError):
        near.recv()
    worker.join(PATIENCE_SECONDS)
    assert (worker.is_alive(), worker.how_it_ended) == (False, said)
    assert worker.sentinel.poll(PATIENCE_SECONDS), "whoever waits for its end is told"
    (invitation,) = placing.invited
    assert (invitation.host, len(invitation.key)) == ("127.0.0.1", 32)
    assert invitation.environment == passed_on()
    if isinstance(job, _Stub):
        assert job.cancelled == 1


def test_one_that_is_killed_while_nobody_calls_is_cancelled() -> None:
    job = _Stub([None])
    placing = _Placing(job)
    (worker, _), (other, _) = lived(placing), lived(placing)
    assert worker.is_alive()
    for each in (worker, other):
        each.kill()
        each.join(PATIENCE_SECONDS)
        assert (each.is_alive(), each.how_it_ended) == (False, "it was ended")
    assert job.cancelled == len(placing.invited) == 2
    ports = {invitation.port for invitation in placing.invited}
    assert len(ports) == 2, "each is called by its own worker"
    assert min(ports) > 1023, "which anybody may open"


def test_variables_of_libraries_are_passed_on_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "OMP_NUM_THREADS", "SECRET_TOKEN", "MY_HF_HOME", "PATH"):
        monkeypatch.setenv(name, f"of {name}")
    found = passed_on()
    assert {name: found[name] for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "OMP_NUM_THREADS")} == {
        name: f"of {name}" for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "OMP_NUM_THREADS")
    }
    assert not {"SECRET_TOKEN", "MY_HF_HOME", "PATH"} & found.keys()

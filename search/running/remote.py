"""Workers on other machines. Each calls the coordinator back when it has been placed, and from then on speaks through a
socket as a worker of this machine does through a pipe; who places it (Ray, Slurm) has no part in that."""

import contextlib
import os
import platform
import secrets
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from search.running.workers import Target, Team

_PASSED_ON = (
    "BITSANDBYTES_", "CUBLAS_", "CUDNN_", "DIFFUSERS_", "GOMP_", "HF_", "HUGGINGFACE_", "KMP_", "MKL_", "NVIDIA_TF32_",
    "OMP_", "OPENBLAS_", "PYTORCH_", "TOKENIZERS_", "TORCH", "TRANSFORMERS_", "XDG_CACHE_HOME",
)  # fmt: skip
"""How environment variables begin that a worker takes from the coordinator: those of its libraries."""
_SET_BY_RAY = ("OMP_NUM_THREADS",)
"""Those that it does not have where the coordinator has none."""
_HANDSHAKE_SECONDS = 10
_SILENT_SECONDS = 60
"""After so long without an answer from the other machine, a line counts as cut."""
_LAST_WORD_SECONDS = 2.0
"""Until whoever placed a worker knows why it has ended."""


@dataclass(frozen=True)
class Invitation:
    """Where one worker calls back, and in which environment it works.

    Attributes:
        key: by which both ends know each other. A worker that was replaced has one that is worth nothing any more.
    """

    host: str
    port: int
    key: bytes
    environment: Mapping[str, str] = field(default_factory=dict)


class Job(Protocol):
    """A worker that has been asked for."""

    def ended(self) -> str | None:
        """Why it is no more, in words; None while it waits or lives."""

    def cancel(self) -> None:
        """End it, whatever it does."""


class Placing(Protocol):
    """Who places workers.

    Attributes:
        host: this machine's address, as machines with workers see it.
        patience: seconds until a worker has called back; None: as long as it takes.
    """

    host: str
    patience: float | None

    def place(self, slot: int, invitation: Invitation) -> Job:
        """Ask for a worker that calls `answer`; returns at once."""


def answer(invitation: Invitation) -> None:
    """Call the coordinator back, and be the worker that it asks for, until that one ends. Where the worker lives."""
    for name in _SET_BY_RAY:
        os.environ.pop(name, None)
    os.environ.update(invitation.environment)
    with Client((invitation.host, invitation.port), family="AF_INET", authkey=invitation.key) as connection:
        _attended(connection)
        connection.send(platform.node())
        target, slot, setup = connection.recv()
        target(connection, slot, setup)


def passed_on() -> dict[str, str]:
    """What a worker elsewhere takes from this process's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}


class RemoteTeam(Team):
    """`Team`, with workers that somebody else places.

    Args:
        placing: who does.
        target, setup, count, hung_after: as `Team`.
    """

    def __init__(
        self, placing: Placing, target: Target, setup: Any, count: int, hung_after: float | None = None
    ) -> None:
        super().__init__(target, setup, count, hung_after=hung_after)
        self._placing = placing

    def _place(self, index: int) -> tuple["_RemoteWorker", Connection]:
        first_word = bytes(ForkingPickler.dumps((self._target, index, self._setup)))
        ours, theirs = Pipe()
        return _RemoteWorker(self._placing, index, first_word, theirs), ours


class _RemoteWorker:
    """Stands where a process does: a thread that waits for the worker's call, then carries messages to and fro."""

    def __init__(self, placing: Placing, slot: int, first_word: bytes, near: Connection) -> None:
        self._placing, self._slot, self._first_word, self._near = placing, slot, first_word, near
        self.sentinel, self._done = Pipe(duplex=False)
        self._killed = threading.Event()
        self.how_it_ended = "it was ended"
        self._thread = threading.Thread(target=self._live, name=f"onset-line-{slot}", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def kill(self) -> None:
        self._killed.set()

    def _live(self) -> None:
        job: Job | None = None
        where = ""
        try:
            with socket.create_server((self._placing.host, 0)) as server:
                key = secrets.token_bytes(32)
                invitation = Invitation(self._placing.host, server.getsockname()[1], key, passed_on())
                job = self._placing.place(self._slot, invitation)
                far = self._met(server, key, job)
            if far is not None:
                with far:
                    where = f", on {far.recv()}"
                    far.send_bytes(self._first_word)
                    self._carry(far, job)
                self.how_it_ended = (self._last_word(job) or "its line was cut") + where
        except Exception as error:  # of Ray or Slurm, or the worker was gone before it had said a word
            self.how_it_ended = (job and job.ended()) or f"{type(error).__name__}: {error}"
        finally:
            if job is not None:
                with contextlib.suppress(Exception):
                    job.cancel()
            self._near.close()
            self._done.close()

    def _met(self, server: socket.socket, key: bytes, job: Job) -> Connection | None:
        """The line to the worker, once it has called."""
        until = None if self._placing.patience is None else time.monotonic() + self._placing.patience
        server.settimeout(0.5)
        while not self._killed.is_set():
            with contextlib.suppress(TimeoutError):
                caller, _ = server.accept()
                line = _known(caller, key)
                if line is not None:
                    return line
            ended = job.ended()
            if ended is not None or (until is not None and time.monotonic() > until):
                self.how_it_ended = ended or f"there was no room for it for {self._placing.patience:.0f} s"
                break
        return None

    def _carry(self, far: Connection, job: Job) -> None:
        """Until one end is gone, or the worker is although its line does not say so."""
        while not self._killed.is_set():
            ready = wait([self._near, far], timeout=0.5)
            if not ready and job.ended() is not None:
                return
            try:
                if self._near in ready:
                    far.send_bytes(self._near.recv_bytes())
                if far in ready:
                    self._near.send_bytes(far.recv_bytes())
            except (EOFError, OSError):
                return

    def _last_word(self, job: Job) -> str | None:
        until = time.monotonic() + _LAST_WORD_SECONDS
        while (said := job.ended()) is None and time.monotonic() < until and not self._killed.is_set():
            time.sleep(0.05)
        return said


def _known(caller: socket.socket, key: bytes) -> Connection | None:
    """The line to a caller that knows the key, and to whom we have shown that we do."""
    seconds = struct.pack("ll", _HANDSHAKE_SECONDS, 0)
    caller.setblocking(True)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    line = Connection(caller.detach())
    try:
        deliver_challenge(line, key)
        answer_challenge(line, key)
        _attended(line)
    except (AuthenticationError, EOFError, OSError):  # somebody else's call
        line.close()
        return None
    return line


def _attended(line: Connection) -> None:
    """Small messages go at once, and a machine that is gone without a word is noticed."""
    with socket.socket(fileno=os.dup(line.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", _SILENT_SECONDS // 3),
            ("TCP_KEEPINTVL", _SILENT_SECONDS // 6),
            ("TCP_KEEPCNT", 4),
            ("TCP_USER_TIMEOUT", _SILENT_SECONDS * 1000),
        ):
            if hasattr(socket, name):  # Linux
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

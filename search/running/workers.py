"""Places workers, each resident for the whole study, replaced at once when lost: processes on this machine, or
elsewhere (`search.running.remote`)."""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from search.errors import WorkerError
from search.record.events import Alive, Lost, Prepared, Quit

_MOST_LOSSES = 3
"""Workers of one slot that may end in a row before they are ready."""
_STARTS = 3
_BETWEEN_SECONDS = 0.2
_MARGIN = 20.0
"""Times its own slowest step: so long may a worker be silent."""
_LEAST_SILENCE = 120.0
"""Seconds that it may be silent in any case: the first steps on a device are slow."""
_LEAST_LOADING = 600.0
"""Seconds that a replaced worker may load without a word; the first one may download a base for hours."""


class Target(Protocol):
    """What a worker process runs; a module-level function, so that it can be sent there."""

    def __call__(self, connection: Connection, slot: int, setup: Any) -> None: ...


class Process(Protocol):
    """What `Team` asks of a worker's process, here or elsewhere. `sentinel`: for `multiprocessing.connection.wait`,
    ready once it has ended."""

    @property
    def sentinel(self) -> Any: ...
    @property
    def how_it_ended(self) -> str: ...
    def is_alive(self) -> bool: ...
    def join(self, timeout: float | None = None) -> None: ...
    def kill(self) -> None: ...


class _LocalProcess:
    """A process of this machine."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self.sentinel = process.sentinel
        self.is_alive, self.join, self.kill = process.is_alive, process.join, process.kill

    @property
    def how_it_ended(self) -> str:
        return _ended(self._process.exitcode)


@dataclass
class _WorkerProcess:
    """One worker process.

    `losses`: processes of this slot that ended before they were ready, in a row; `silent`: seconds without a word, as
    far as we listened; `slowest`: the longest silence that ended well; `loading`: seconds its first load took.
    """

    process: Process
    connection: Connection
    losses: int = 0
    ready: bool = False
    silent: float = 0.0
    slowest: float = 0.0
    loading: float | None = None
    retired: bool = False


class Team:
    """One process per slot, spoken to through pipes.

    Args:
        target: what each process runs.
        setup: given to each of them, pickled.
        count: how many slots.
        preload: modules imported once and shared by all workers, where the system can fork.
        hung_after: seconds without a sign of life after which a worker is replaced; None: 20 times its own slowest
            step, at least 120.
    """

    def __init__(
        self,
        target: Target,
        setup: Any,
        count: int,
        preload: tuple[str, ...] = (),
        hung_after: float | None = None,
    ) -> None:
        self._target, self._setup, self.count, self._hung_after = target, setup, count, hung_after
        methods = multiprocessing.get_all_start_methods()
        # forkserver: torch and diffusers are imported once, and a lost worker is back in milliseconds
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self._context.set_forkserver_preload(list(preload))
        self._slots: list[_WorkerProcess] = []
        self._launching: threading.Thread | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Begin to start the processes; returns at once."""
        self._launching = threading.Thread(target=self._launch_all, daemon=True)
        self._launching.start()

    def send(self, slot: int, message: Any) -> None:
        """Give a message to a slot's worker; if that one has just been lost, `Lost` will say so."""
        self._ready()
        with contextlib.suppress(OSError):
            self._slots[slot].connection.send(message)

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        """Messages that came within `timeout` seconds: (slot, message), a lost worker's `Lost` after its last word.
        A worker that is silent for too long is ended, and lost like one that died."""
        self._ready()
        handles: dict[Any, int] = {}
        for index, slot in enumerate(self._slots):
            if not slot.retired:
                handles[slot.connection] = index
                handles[slot.process.sentinel] = index
        began = time.monotonic()
        spoke = {handles[h] for h in wait(list(handles), timeout)}
        listened = min(time.monotonic() - began, 2 * timeout)  # the machine may have slept
        got: list[tuple[int, Any]] = []
        for index in sorted(set(handles.values())):
            slot = self._slots[index]
            slot.silent += listened
            if index in spoke:
                got += self._drain(index)
            elif (limit := self._patience(slot)) is not None and slot.silent > limit:
                slot.process.kill()  # stopped ones end, too
                slot.process.join(5.0)
                got.append((index, self._replace(index, f"no sign of life for {slot.silent:.0f} s")))
        return [(index, message) for index, message in got if not isinstance(message, Alive)]

    def close(self, grace_seconds: float = 3.0) -> None:
        """Ask every worker to end, and end those that do not."""
        if self._launching is not None:
            self._launching.join(timeout=grace_seconds)
        self._failure = None
        for index in range(len(self._slots)):
            self.send(index, Quit())
        for slot in self._slots:
            slot.process.join(grace_seconds)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.connection.close()
        self._slots = []

    def _drain(self, index: int) -> list[tuple[int, Any]]:
        slot = self._slots[index]
        got: list[tuple[int, Any]] = []
        try:
            while slot.connection.poll():
                got.append((index, slot.connection.recv()))
        except (EOFError, OSError):
            slot.process.join(1.0)
        if got:
            if slot.ready:
                slot.slowest = max(slot.slowest, slot.silent)
            slot.silent = 0.0
        for _, message in got:
            if isinstance(message, Prepared):
                slot.ready, slot.loading = True, message.seconds
        if not slot.process.is_alive():
            got.append((index, self._replace(index, slot.process.how_it_ended)))
        return got

    def _patience(self, slot: _WorkerProcess) -> float | None:
        """Seconds that a worker may be silent; None: as long as it takes."""
        if not slot.ready:
            return None if slot.loading is None else max(_LEAST_LOADING, _MARGIN * slot.loading)
        return self._hung_after or max(_LEAST_SILENCE, _MARGIN * slot.slowest)

    def _replace(self, index: int, reason: str) -> Lost:
        """Start another process in a slot whose worker is gone, unless its workers never become ready."""
        slot = self._slots[index]
        slot.connection.close()
        losses = 0 if slot.ready else slot.losses + 1
        if losses >= _MOST_LOSSES:
            slot.retired = True
            return Lost(reason, replaced=False)
        self._slots[index] = self._launch(index, losses)
        self._slots[index].loading = slot.loading
        return Lost(reason)

    def _launch_all(self) -> None:
        try:
            for index in range(self.count):
                self._slots.append(self._launch(index, 0))
        except Exception as error:  # such as a server of processes that was ended while it imported
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self._failure = f"worker processes cannot be started: {said}"

    def _launch(self, index: int, losses: int) -> _WorkerProcess:
        return _WorkerProcess(*self._place(index), losses)

    def _place(self, index: int) -> tuple[Process, Connection]:
        """Another process for a slot, and our end of the line to it."""
        for left in reversed(range(_STARTS)):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=self._target, args=(theirs, index, self._setup), name=f"onset-worker-{index}", daemon=True
            )
            try:
                with _deaf_children():
                    process.start()
                break
            except (OSError, EOFError):  # their server is dying: the next one is asked
                ours.close()
                if not left:
                    raise
                time.sleep(_BETWEEN_SECONDS)
            finally:
                theirs.close()  # so that our end sees the worker's death
        return _LocalProcess(process), ours

    def _ready(self) -> None:
        if self._launching is not None:
            self._launching.join()
            self._launching = None
        if self._failure is not None:
            raise WorkerError(self._failure)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """What is started meanwhile does not hear Ctrl-C, which a terminal sends to all of us: it would answer with the
    traceback of whatever it imports. The coordinator ends its workers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended(code: int | None) -> str:
    """How a process ended, in words."""
    if code == -signal.SIGKILL:
        return "it was killed: often because memory ran out"
    if code is not None and code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def resident(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """The worker of a study, for `Team`: torch is imported in its process, not in the coordinator's."""
    from search.running.worker import main

    main(connection, slot, *setup)

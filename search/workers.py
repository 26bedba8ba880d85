"""Places workers: processes on this machine, each resident for the whole study, replaced at once when lost."""

import contextlib
import multiprocessing
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from search.errors import WorkerError
from search.events import Lost, Quit

_MOST_LOSSES = 5  # of one slot in a row without a word from its worker


class Target(Protocol):
    """What a worker process runs; a module-level function, so that it can be sent there."""

    def __call__(self, connection: Connection, slot: int, setup: Any) -> None: ...


@dataclass
class _Slot:
    process: BaseProcess
    connection: Connection
    silent_losses: int = 0


class Team:
    """One process per slot, spoken to through pipes.

    Args:
        target: what each process runs.
        setup: given to each of them, pickled.
        count: how many slots.
        preload: modules imported once and shared by all workers, where the system can fork.
    """

    def __init__(self, target: Target, setup: Any, count: int, preload: tuple[str, ...] = ()) -> None:
        self._target, self._setup, self.count = target, setup, count
        methods = multiprocessing.get_all_start_methods()
        # forkserver: torch and diffusers are imported once, and a lost worker is back in milliseconds
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self._context.set_forkserver_preload(list(preload))
        self._slots: list[_Slot] = []
        self._launching: threading.Thread | None = None

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

        Raises:
            WorkerError: a slot's workers die again and again before they say anything.
        """
        self._ready()
        handles: dict[Any, int] = {}
        for index, slot in enumerate(self._slots):
            handles[slot.connection] = index
            handles[slot.process.sentinel] = index
        got: list[tuple[int, Any]] = []
        for index in sorted({handles[h] for h in wait(list(handles), timeout)}):
            got += self._drain(index)
        return got

    def close(self, grace_seconds: float = 3.0) -> None:
        """Ask every worker to end, and end those that do not."""
        if self._launching is not None:
            self._launching.join(timeout=grace_seconds)
        for index in range(len(self._slots)):
            self.send(index, Quit())
        for slot in self._slots:
            slot.process.join(grace_seconds)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.connection.close()
        self._slots = []

    @property
    def pids(self) -> list[int | None]:
        """Process ids by slot."""
        self._ready()
        return [slot.process.pid for slot in self._slots]

    def _drain(self, index: int) -> list[tuple[int, Any]]:
        slot = self._slots[index]
        got: list[tuple[int, Any]] = []
        try:
            while slot.connection.poll():
                got.append((index, slot.connection.recv()))
        except (EOFError, OSError):
            slot.process.join(1.0)
        if got:
            slot.silent_losses = 0
        if not slot.process.is_alive():
            code = slot.process.exitcode
            slot.connection.close()
            if slot.silent_losses >= _MOST_LOSSES:
                raise WorkerError(f"the worker in slot {index} ended {_MOST_LOSSES} times in a row (exit code {code})")
            self._slots[index] = self._launch(index, slot.silent_losses + 1)
            got.append((index, Lost(f"its process ended with exit code {code}")))
        return got

    def _launch_all(self) -> None:
        for index in range(self.count):
            self._slots.append(self._launch(index, 0))

    def _launch(self, index: int, silent_losses: int) -> _Slot:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=self._target, args=(theirs, index, self._setup), name=f"onset-worker-{index}", daemon=True
        )
        process.start()
        theirs.close()  # so that our end sees the worker's death
        return _Slot(process, ours, silent_losses)

    def _ready(self) -> None:
        if self._launching is not None:
            self._launching.join()
            self._launching = None


def resident(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """The worker of a study, for `Team`: torch is imported in its process, not in the coordinator's."""
    from search.worker import main

    main(connection, slot, *setup)

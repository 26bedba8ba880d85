"""Processor time of one thread, split by whose code it was spent in and by what was going on meanwhile."""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Adds up a thread's processor time by (task, layer); a layer's time is its own, without those it calls.

    Waiting for a disk or a server is not among it: that depends on the machine and on who else works there.
    """

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.each: dict[str, list[float]] = defaultdict(list)
        """By task, the seconds of layer "own" each time that it was done."""
        self._task, self._layers, self._since = "loop", ["own"], time.thread_time()
        self._running = False

    def begin(self) -> None:
        """Count from here on."""
        self.seconds.clear()
        self.each.clear()
        self._running, self._since = True, time.thread_time()

    @contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """What the block does is done by this layer."""
        self._pass()
        self._layers.append(name)
        try:
            yield
        finally:
            self._pass()
            self._layers.pop()

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """What the block does is this task; within it the task that began it rests."""
        self._pass()
        outer, self._task = self._task, name
        before = self.seconds[name, "own"]
        try:
            yield
        finally:
            self._pass()
            self._task = outer
            self.each[name].append(self.seconds[name, "own"] - before)

    def watch(self, owner: Any, names: list[str], layer: str) -> None:
        """From now on these functions of a class or module count as a layer."""
        self._wrap(owner, names, lambda: self.layer(layer))

    def watch_task(self, owner: Any, name: str, task: str) -> None:
        """From now on this function of a class is a task."""
        self._wrap(owner, [name], lambda: self.task(task))

    def _wrap(self, owner: Any, names: list[str], block: Callable[[], Any]) -> None:
        for name in names:
            original = getattr(owner, name)
            if isinstance(original, property):
                setattr(owner, name, property(_within(original.fget, block)))
            else:
                setattr(owner, name, _within(original, block))

    def _pass(self) -> None:
        now = time.thread_time()
        if self._running:
            self.seconds[self._task, self._layers[-1]] += now - self._since
        self._since = now


def _within(function: Any, block: Callable[[], Any]) -> Any:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return timed


def methods_of(kind: type) -> list[str]:
    """Names of the methods that a class defines itself."""
    return [
        name
        for name, value in vars(kind).items()
        if callable(value) and not name.startswith("__") and not isinstance(value, staticmethod | classmethod)
    ]

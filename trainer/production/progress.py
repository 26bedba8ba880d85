"""What a person sees while a run trains: a bar on a terminal, a line for each epoch everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from trainer.packing.pack import Pack, Run

if TYPE_CHECKING:
    from trainer.families.family import Base

_GIB = 2**30


@dataclass
class Watch:
    """Progress on a terminal: a bar with loss, it/s, time left and memory; in a log file: a line for each epoch."""

    console: Console
    run: Run
    pack: Pack
    epochs: int  # at which training ends: the horizon, or before it
    seconds: float = 0.0
    _marks: list[float] = field(default_factory=list)
    _shown: float = 0.0

    def __enter__(self) -> Watch:
        columns: list[ProgressColumn | str] = [
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("loss {task.fields[loss]}"),
            _Rate(self),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            TextColumn("{task.fields[memory]}"),
        ]
        self._progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._progress.start()
        self._task = self._progress.add_task(
            "train",
            total=self.epochs * self.pack.steps_per_epoch,
            completed=self.run.step,
            epoch=self.run.epoch + 1,
            epochs=self.epochs,
            loss="–",
            left="–",
            memory="",
        )
        self._begun = time.perf_counter()
        self._marks.append(self._begun)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def rate(self) -> float:
        """Steps a second over this epoch's last hundred steps."""
        if len(self._marks) < 2:
            return 0.0
        return (len(self._marks) - 1) / max(self._marks[-1] - self._marks[0], 1e-9)

    def step(self, pack: Pack) -> None:
        self._marks = [*self._marks[-100:], time.perf_counter()]
        if not self.console.is_terminal or self._marks[-1] - self._shown < 0.5:
            return  # reading the loss waits for the device: twice a second is enough
        self._shown = self._marks[-1]
        self._progress.update(
            self._task,
            completed=self.run.step,
            epoch=self.run.epoch + 1,
            loss=f"{self.run.mean_loss:.4f}",
            left=clock(self._left()),
            memory=f"{memory_gib(pack.base):.1f} GiB",
        )

    def go_on(self) -> None:
        """What lies between an epoch's end and this, saving and sampling, is no training time."""
        self._begun = time.perf_counter()
        self._marks = [self._begun]

    def epoch(self) -> None:
        """The line of an epoch that has just ended."""
        self.seconds = time.perf_counter() - self._begun
        self._progress.update(self._task, completed=self.run.step)
        self.console.print(
            f"epoch {self.run.epoch}/{self.epochs}  loss {self.run.last_loss:.4f}  "
            f"lr {self.run.learning_rate:.3g}  {self.pack.steps_per_epoch / self.seconds:.3g} it/s  "
            f"left {clock(self._left())}  {memory_gib(self.pack.base):.2f} GiB"
        )

    def _left(self) -> float:
        """Seconds of training that are left; samples apart."""
        steps = self.epochs * self.pack.steps_per_epoch - self.run.step
        return steps / self.rate if self.rate else 0.0


class _Rate(ProgressColumn):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def render(self, task: Any) -> Text:
        return Text(f"{self._watch.rate:.2f} it/s")


def memory_gib(base: Base) -> float:
    """Peak memory so far: of the device where it is CUDA, else of this process."""
    if base.device.type == "cuda":
        return torch.cuda.max_memory_allocated(base.device) / _GIB
    import sys

    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / _GIB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _GIB if sys.platform == "darwin" else peak * 1024 / _GIB


def synchronize(base: Base) -> None:
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""What is shown while a study runs: a table that is drawn in place, or a few plain lines where there is no terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import TYPE_CHECKING

from metrics.trajectory.readings import Readings
from search.record.events import Doing, Prepared
from search.record.record import TrialRecord
from search.running.eta import Forecast, TimeLeft
from search.running.finals_cost import NO_FINALS, FinalsCost
from search.running.live_table import LiveTable, RunningRow, how_far, row
from search.verdict.decision import Decision, best_so_far, decide, unit_of

if TYPE_CHECKING:
    from rich.console import Console

_MOST_NAMED = 8  # running trials in a line
_PLAIN_EVERY_SECONDS = 30.0
_FINISH_SECONDS = 4.0  # the verdict and the report of the demo
_UNITS = ((100, 1, "s", 5), (6000, 60, "min", 1), (36000, 3600, "h", 0.1), (inf, 3600, "h", 1))
"""Up to how many seconds each, its seconds, its name, and the steps in it."""


@dataclass
class _Line:
    """A running trial."""

    record: TrialRecord
    epoch: float
    score: float | None = None
    doing: str = "starting"


class Board:
    """Collects what happens and shows it. Nothing here decides anything.

    Args:
        name: the study's.
        trials: how many there will be.
        slots: how many run at a time.
        horizons: a sample of the epochs that trials are planned for, if known.
        prunes, stops: whether trials may be pruned, and stopped at their onset.
        finals: what is drawn and trained after the trials.
        seconds: after which no further trial is begun, or None.
        spent_seconds: time that earlier sittings took.
        clock: seconds, rising.

    Attributes:
        track: called with a trial's record at its checkpoints and its end (`search.running.tracking`).
    """

    def __init__(
        self,
        name: str,
        trials: int,
        slots: int,
        *,
        horizons: Sequence[int] = (),
        prunes: bool = True,
        stops: bool = True,
        finals: FinalsCost = NO_FINALS,
        seconds: float | None = None,
        spent_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.trials, self.slots = name, trials, slots
        self._clock = clock
        self.track: Callable[[TrialRecord], object] = lambda record: None
        self._lines: dict[int, _Line] = {}
        self._setting_up: dict[int, str] = dict.fromkeys(range(slots), "starting")
        self._ended: dict[int, TrialRecord] = {}
        self._best: Decision | None = None
        self._began = clock() - spent_seconds
        self._ready = False
        deadline = None if seconds is None else clock() + seconds
        self._forecast = Forecast(
            trials, slots, horizons=horizons, deadline=deadline, prunes=prunes, stops=stops, finish=_FINISH_SECONDS
        )
        self._finals = finals
        self._plain: bool = True
        self._said = 0.0
        self._lock = threading.Lock()
        self._console: Console | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the table while the block runs, if this is a terminal."""
        if not sys.stdout.isatty():
            yield
            return
        from rich.live import Live

        self._plain = False
        with Live(get_renderable=self.table, refresh_per_second=2, vertical_overflow="crop") as live:
            self._console = live.console
            yield
            live.update(self.table(), refresh=True)

    # --- what happens

    def opened(self, slots: int, places: int) -> None:
        """So many trials run at a time, so many of them on each worker."""
        with self._lock:
            self._forecast.slots = self.slots = slots
            self._forecast.places = places
            self._setting_up = {slot: self._setting_up.get(slot, "starting") for slot in range(slots)}

    def prepared(self, slots: Sequence[int], message: Prepared) -> None:
        """The worker of these slots is ready."""
        with self._lock:
            self._ready = True
            for slot in slots:
                self._setting_up.pop(slot, None)
                self._forecast.prepared(slot, self._clock())
        for notice in message.notices:
            self.note(notice)
        if self._plain and 0 in slots:
            self._print(f"ready after {message.seconds:.0f} s: base, encoder and probe are loaded")

    def began(self, slot: int, record: TrialRecord) -> None:
        with self._lock:
            self._lines[slot] = _Line(record, record.epochs_trained)
            self._forecast.began(slot, record, self._clock())

    def doing(self, slot: int, message: Doing) -> None:
        with self._lock:
            line = self._lines.get(slot)
            if message.number is None:
                self._setting_up[slot] = message.what
            elif line is not None and message.number == line.record.number:
                line.doing = message.what
                line.epoch = max(line.epoch, message.epoch)
        self._now_and_then()

    def checkpointed(self, slot: int, record: TrialRecord, readings: Readings) -> None:
        with self._lock:
            line = self._lines.get(slot)
            if line is not None:
                self._forecast.checkpointed(slot, record.epochs_trained, self._clock())
                line.record, line.score, line.epoch = record, readings.score, max(line.epoch, record.epochs_trained)
        self.track(record)
        self._now_and_then()

    def ended(self, record: TrialRecord) -> None:
        with self._lock:
            slot = next((slot for slot, line in self._lines.items() if line.record.number == record.number), None)
            self._forecast.ended(slot, record, self._clock())
            self._forecast.finish = max(self._forecast.finish, _FINISH_SECONDS + self._again(record))
            running = self._ready or bool(self._lines)
            self._lines.pop(slot, None) if slot is not None else None
            self._ended[record.number] = record
            known = [record] if self._best is None else [self._ended[self._best.trial or 0], record]
            self._best = best_so_far(known)
        self.track(record)
        if self._plain and running:
            self._print(f"{_time(self._clock() - self._began)}  {said(record)}  ({len(self._ended)}/{self.trials})")

    def _again(self, record: TrialRecord) -> float:
        """Seconds on the clock for the finals, if each look takes as long as this trial's checkpoints, and each
        training as long as its own."""
        checkpoints = ceil(record.epochs_trained / record.config.save_every_n_epochs)
        if not checkpoints:
            return 0.0
        train, images, readings = (record.timings.get(part, 0.0) for part in ("train", "sample", "score"))
        workers = max(1, self.slots // self._forecast.places)
        return self._finals.seconds(train, images / checkpoints, readings / checkpoints, workers=workers)

    def note(self, text: str) -> None:
        """Something the user should know, once."""
        self._print(text)

    # --- how it is shown

    def time_left(self) -> TimeLeft | None:
        """Seconds to the verdict, None before the first checkpoint."""
        with self._lock:
            return self._forecast.time_left(self._clock())

    def summary(self) -> tuple[str, ...]:
        """How far it is, how long still, the best so far."""
        best, left = self._best, self.time_left()
        parts = [f"{len(self._ended)} of {self.trials} trials", _time(self._clock() - self._began)]
        parts.append("ETA " + (time_left_text(left) if left is not None else "unknown yet"))
        if best is not None:
            parts.append(best_text(best, self._ended[best.trial or 0]))
        return tuple(parts)

    def table(self) -> LiveTable:
        """Everything at a glance, as far as it fits: running trials, the best of those that ended, the summary."""
        with self._lock:
            lines = sorted(self._lines.items(), key=lambda pair: pair[1].record.number)
            running = [
                RunningRow(line.record, line.score, self._setting_up.get(slot, line.doing), line.epoch)
                for slot, line in lines
            ]
            ended = list(self._ended.values())
        return LiveTable(f"study {self.name}", running, ended, self.summary())

    def _now_and_then(self) -> None:
        now = self._clock()
        if self._plain and self._lines and now - self._said > _PLAIN_EVERY_SECONDS:
            self._said = now
            with self._lock:
                lines = [(line, self._setting_up.get(slot)) for slot, line in self._lines.items()]
            at = [
                f"trial {line.record.number} {unit_of(line.record)} {far}"
                if loading is None and (far := how_far(line.record, line.epoch))
                else f"trial {line.record.number} {loading or line.doing}"
                for line, loading in lines[:_MOST_NAMED]
            ]
            more = [f"{len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else []
            self._print(" · ".join([*self.summary(), ", ".join([*at, *more])]))

    def _print(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, markup=False)
        else:
            print(text, flush=True)


def said(record: TrialRecord) -> str:
    """A trial that has ended as one line."""
    number, settings, epoch, score, best, onset, state = row(record)
    parts = [f"trial {number}: {state}"]
    if score:
        parts.append(f"score {score}" + (f" at {unit_of(record)} {best}" if best and decide(record).ships else ""))
    if onset and onset != "–":
        parts.append(f"onset {onset}")
    parts += [f"{unit_of(record)} {epoch}", settings] if epoch else [settings]
    if record.error:
        parts.append(record.error.splitlines()[-1])
    return " · ".join(parts)


def best_text(best: Decision, record: TrialRecord, *, score: str = "") -> str:
    """ "best so far: trial 3, 0.682 at epoch 16". `score`: a word before the number."""
    where = f" at {best.unit} {best.epoch}" if record.has_epochs else ""
    return f"best so far: trial {best.trial}, {score}{best.score:.3f}{where}"


def time_left_text(left: TimeLeft) -> str:
    """`5 min (4 to 7)`: the time left in the largest unit that fits, with its range; `5 min` where the range is that.

    >>> time_left_text(TimeLeft(290.0, 250.0, 400.0)), time_left_text(TimeLeft(44.0, 30.0, 62.0))
    ('5 min (4 to 7)', '45 s (30 to 65)')
    """
    if left.high < 1:
        return "a moment"
    _, size, unit, step = next(each for each in _UNITS if left.seconds < each[0])
    low, middle, high = (
        f"{turn(seconds / size / step) * step:.{step < 1:d}f}"
        for turn, seconds in ((floor, left.low), (round, left.seconds), (ceil, left.high))
    )
    return f"{middle} {unit}" + ("" if low == middle == high else f" ({low} to {high})")


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

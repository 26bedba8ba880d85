"""What is shown while a study runs: a table that is drawn in place, or a few plain lines where there is no terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metrics.readings import Readings
from search.events import Doing, Prepared
from search.record import TrialRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PLAIN_EVERY_SECONDS = 30.0


@dataclass
class _Line:
    """A running trial."""

    record: TrialRecord
    score: float | None = None
    doing: str = "starting"
    epoch: float = 0


class Board:
    """Collects what happens and shows it. Nothing here decides anything.

    Args:
        name: the study's.
        trials: how many there will be.
        slots: how many run at a time.
    """

    def __init__(self, name: str, trials: int, slots: int) -> None:
        self.name, self.trials, self.slots = name, trials, slots
        self._lines: dict[int, _Line] = {}
        self._setting_up: dict[int, str] = dict.fromkeys(range(slots), "starting")
        self._ended: dict[int, TrialRecord] = {}
        self._ended_before = 0
        self._began = time.monotonic()
        self._ready: float | None = None
        self._epochs = 0.0
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
        with Live(get_renderable=self.table, refresh_per_second=2) as live:
            self._console = live.console
            yield
            live.update(self.table(), refresh=True)

    # --- what happens

    def prepared(self, slot: int, message: Prepared) -> None:
        with self._lock:
            self._setting_up.pop(slot, None)
            if self._ready is None:
                self._ready = time.monotonic()
        for notice in message.notices:
            self.note(notice)
        if self._plain and slot == 0:
            self._print(f"ready after {message.seconds:.0f} s: base, encoder and probe are loaded")

    def began(self, slot: int, record: TrialRecord) -> None:
        with self._lock:
            self._lines[slot] = _Line(record, epoch=record.epochs_trained)

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
                self._epochs += record.epochs_trained - line.record.epochs_trained
                line.record, line.score, line.epoch = record, readings.score, max(line.epoch, record.epochs_trained)
        self._now_and_then()

    def ended(self, record: TrialRecord) -> None:
        with self._lock:
            for slot, line in list(self._lines.items()):
                if line.record.number == record.number:
                    del self._lines[slot]
            running = self._ready is not None or bool(self._lines)
            self._ended[record.number] = record
            self._ended_before += not running
        if self._plain and running:
            self._print(f"{_clock(time.monotonic() - self._began)}  {said(record)}  ({len(self._ended)}/{self.trials})")

    def note(self, text: str) -> None:
        """Something the user should know, once."""
        self._print(text)

    # --- how it is shown

    def eta_seconds(self) -> float | None:
        """Seconds to the end of the budget at the pace so far, None before anything is known."""
        done = len(self._ended) - self._ended_before
        with self._lock:
            part = sum(min(1.0, line.epoch / line.record.epochs) for line in self._lines.values()) / 1.5
        if self._ready is None or done + part < 0.5:
            return None
        pace = (time.monotonic() - self._ready) / (done + part)
        return max(0.0, pace * (self.trials - len(self._ended) - part))

    def summary(self) -> str:
        """One line: how far, the best so far, how long still."""
        best = max((r for r in self._ended.values() if r.state == "complete" and r.value is not None),
                   key=lambda r: r.value or 0.0, default=None)  # fmt: skip
        eta = self.eta_seconds()
        parts = [f"{len(self._ended)} of {self.trials} trials", _clock(time.monotonic() - self._began)]
        parts.append("ETA " + (_clock(eta) if eta is not None else "unknown yet"))
        if best is not None:
            parts.append(f"best so far: trial {best.number}, {best.value:.3f} at epoch {best.epoch_shipped}")
        return " · ".join(parts)

    def table(self) -> "Table":
        """Everything at a glance: ended trials, running ones, and the summary below."""
        from rich.table import Table

        with self._lock:
            lines, ended, waiting = dict(self._lines), dict(self._ended), dict(self._setting_up)
        table = Table(title=f"study {self.name}", caption=self.summary(), expand=False)
        for column in ("trial", "settings", "epoch", "score", "onset", "state"):
            table.add_column(column, justify="right" if column in ("trial", "epoch", "score") else "left")
        for record in sorted(ended.values(), key=lambda r: r.number)[-20:]:
            table.add_row(*row(record))
        for slot, line in sorted(lines.items(), key=lambda kv: kv[1].record.number):
            r = line.record
            score = "" if line.score is None else f"{line.score:.3f}"
            doing = waiting.get(slot, line.doing)
            table.add_row(
                str(r.number), settings_of(r), f"{line.epoch:g}/{r.epochs}", score, "not yet", doing, style="bold"
            )
        return table

    def _now_and_then(self) -> None:
        now = time.monotonic()
        if self._plain and self._lines and now - self._said > _PLAIN_EVERY_SECONDS:
            self._said = now
            with self._lock:
                at = ", ".join(
                    f"trial {line.record.number} epoch {line.epoch:g}/{line.record.epochs}"
                    for line in self._lines.values()
                )
            self._print(f"{_clock(now - self._began)}  {self.summary()} · {at}")

    def _print(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, markup=False)
        else:
            print(text, flush=True)


def row(record: TrialRecord) -> tuple[str, ...]:
    """A trial as a line of the table: trial, settings, epoch, score, onset, state."""
    score = record.score if record.score is not None else record.value
    return (
        str(record.number),
        settings_of(record),
        f"{record.epochs_trained}/{record.epochs}",
        "" if score is None else f"{score:.3f}",
        onset_of(record),
        (record.state if record.stopped in ("", "horizon", record.state) else f"{record.state} ({record.stopped})")
        + (", files lost" if record.lost else ""),
    )


def said(record: TrialRecord) -> str:
    """A trial that has ended as one line."""
    number, settings, epoch, score, onset, state = row(record)
    parts = [f"trial {number}: {state}", f"epoch {epoch}", settings]
    if score:
        parts.insert(1, f"score {score}")
    if onset:
        parts.insert(2, f"onset {onset}")
    if record.error:
        parts.append(record.error.splitlines()[-1])
    return " · ".join(parts)


def settings_of(record: TrialRecord) -> str:
    """The searched values, short."""
    short = {"learning_rate_scale": "lr×", "learning_rate": "lr", "alpha_ratio": "alpha×", "lr_scheduler": "",
             "optimizer": "", "num_cycles": "cycles", "relative_step": None, "epochs": None}  # fmt: skip
    parts = []
    for key, value in record.params.items():
        name = short.get(key, key)
        if name is not None:
            number = f"{value:.3g}" if isinstance(value, float) else str(value)
            parts.append(f"{name} {number}".strip())
    return ", ".join(parts)


def onset_of(record: TrialRecord) -> str:
    """The onset's epoch with its interval, or its status."""
    if record.onset is None:
        return ""
    turns = [(name, record.onset[name]) for name in ("context", "memory") if record.onset[name]["epoch"] is not None]
    if not turns:
        return str(record.onset["status"]).replace("_", " ")
    name, turn = min(turns, key=lambda t: t[1]["epoch"])
    high = "…" if turn["high"] is None else f"{turn['high']:.0f}"
    return f"{turn['epoch']:.0f} ({turn['low']:.0f}–{high}) {name}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

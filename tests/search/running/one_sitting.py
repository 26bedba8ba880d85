"""A sitting of a study whose workers live in its own process, and all that it says to them and shows."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest

from metrics.trajectory.readings import Readings
from search.record.clock import Clock
from search.record.events import (
    Doing,
    Prepared,
    TrialSpec,
)
from search.record.record import StudyFolder, TrialRecord
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.study.study import Study
from tests.search.one_process import OneProcess

optuna.logging.set_verbosity(optuna.logging.WARNING)
_MOST_TURNS = 300
Answer = Callable[[int, Any], list[Any] | None]


class Told(OneProcess):
    """Notes what it is sent; `happens(worker, message)` may put other messages in the place of one."""

    def __init__(self, count: int, happens: Answer = lambda worker, message: None) -> None:
        super().__init__(count)
        self.sent: list[tuple[int, Any]] = []
        self.heard = 0
        self._happens = happens

    def send(self, slot: int, message: Any) -> None:
        self.sent.append((slot, message))
        super().send(slot, message)

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        self.heard += 1
        assert self.heard < _MOST_TURNS, "it waits for what never comes"
        got = []
        for worker, message in super().receive(timeout):
            others = self._happens(worker, message)
            got += [(worker, other) for other in ([message] if others is None else others)]
        return got

    def specs(self, number: int) -> list[TrialSpec]:
        return [message for _, message in self.sent if isinstance(message, TrialSpec) and message.number == number]


class Shown(Board):
    """Notes what it is shown."""

    def __init__(self, slots: int) -> None:
        super().__init__("small", 9, slots)
        self.seen: list[tuple[Any, ...]] = []
        self.notes: list[str] = []

    def opened(self, slots: int, places: int) -> None:
        self.seen.append(("opened", slots, places))
        super().opened(slots, places)

    def prepared(self, slots: Any, message: Prepared) -> None:
        self.seen.append(("prepared", tuple(slots)))
        super().prepared(slots, message)

    def began(self, slot: int, record: TrialRecord) -> None:
        self.seen.append(("began", slot, record.number, record.epochs_trained))
        super().began(slot, record)

    def doing(self, slot: int, message: Doing) -> None:
        self.seen.append(("doing", slot, message))
        super().doing(slot, message)

    def checkpointed(self, slot: int, record: TrialRecord, readings: Readings) -> None:
        self.seen.append(("checkpointed", slot, record.number, record.epochs_trained))
        assert readings.epoch == record.epochs_trained
        super().checkpointed(slot, record, readings)

    def ended(self, record: TrialRecord) -> None:
        self.seen.append(("ended", record.number, record.state))
        super().ended(record)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def of(self, number: int) -> list[tuple[Any, ...]]:
        kinds = {"began": 2, "checkpointed": 2, "ended": 1}
        return [each for each in self.seen if each[0] in kinds and each[kinds[each[0]]] == number]


class Ticks(Clock):
    ticks = 0

    def tick(self) -> None:
        self.ticks += 1


class Sitting:
    """A study of a few short trials, of which more may be had in a second sitting."""

    def __init__(self, study: Study, folder: StudyFolder, count: int, places: int | None, happens: Answer) -> None:
        self.folder, self.team = folder, Told(count, happens)
        self.board, self.clock = Shown(count * (places or 1)), Ticks(folder)
        self.coordinator = Coordinator(study, folder, self.team, self.board, clock=self.clock, places=places)

    def run(self) -> "Sitting":
        self.coordinator.run()
        return self

    def run_until_killed(self, at: tuple[int, int]) -> None:
        """Runs until this (trial, epoch) is shown."""
        shown = self.board.checkpointed

        def killed(slot: int, record: TrialRecord, readings: Readings) -> None:
            shown(slot, record, readings)
            if (record.number, record.epochs_trained) == at:
                raise Killed

        self.board.checkpointed = killed
        with pytest.raises(Killed):
            self.run()

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.coordinator.optuna_study.get_trials()

    @property
    def outcome(self) -> list[tuple[Any, ...]]:
        return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in self.trials]


class Killed(Exception):
    pass

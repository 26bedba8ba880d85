"""A worker process that speaks the real protocol but trains nothing: its readings follow from the trial's settings.

For what is decided about trials; what is trained and measured is tested with the real worker.
"""

import os
import random
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from search.record.events import Checkpointed, Failed, GoOn, Prepared, Quit, StopTrial, TrialSpec, save_readings
from tests.search.finished_studies import Plan, planted

AHEAD = 2


@dataclass(frozen=True)
class Script:
    """How the scripted workers behave.

    jitter: seed of how long each checkpoint takes, up to `slowest` seconds; another seed, another order of arrival.
    dies_at: (trial, epoch) to the number of times the process ends there without a word.
    fails_at: (trial, epoch) that cannot be reached; `again`: whether trying once more may help; `heals`: it does.
    machine: what fails is the machine's fault.
    never_ready: slots whose workers end while they load.
    kills: trial and epoch at which the process ends each time.
    places: trials that each worker says it takes at once.
    """

    folder: Path
    jitter: int = 0
    slowest: float = 0.004
    dies_at: tuple[tuple[int, int], ...] = ()
    fails_at: tuple[tuple[int, int], ...] = ()
    again: bool = False
    heals: bool = False
    machine: bool = False
    never_ready: tuple[int, ...] = ()
    kills: tuple[tuple[int, int], ...] = ()
    places: int = 1


def scripted(connection: Connection, slot: int, script: Script) -> None:
    """Serve one slot."""
    pace = random.Random(f"{script.jitter}/{slot}")
    if slot in script.never_ready:
        os._exit(9)
    connection.send(Prepared(0.0, places=script.places))
    trials: dict[int, _Trial] = {}
    while True:
        going = [trial for trial in trials.values() if not trial.rests]
        while connection.poll() or not going:
            message = connection.recv()
            if isinstance(message, Quit):
                return
            if isinstance(message, TrialSpec):
                trials[message.number] = _Trial(message)
            elif isinstance(message, StopTrial):
                trials.pop(message.number, None)
            elif isinstance(message, GoOn) and message.number in trials:
                trials[message.number].decided = message.epoch
            going = [trial for trial in trials.values() if not trial.rests]
        time.sleep(pace.random() * script.slowest)
        for trial in going if pace.random() < 0.5 else reversed(going):
            if not trial.step(connection, script):
                del trials[trial.spec.number]


class _Trial:
    """A trial on the worker."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec, config = spec, spec.config
        turn = None if config.learning_rate_scale < 2 else 80 / config.learning_rate_scale
        plan = Plan({}, quality=0.2 + config.rank / 20, turn=turn)
        self._readings = {r.epoch: r for r in planted(plan, config.epochs, spec.number).readings}
        save_readings(Checkpointed.file(spec.folder, 0), self._readings[0])
        self.told = self.decided = spec.processed

    @property
    def rests(self) -> bool:
        config = self.spec.config
        return self.told == config.epochs or self.told - self.decided > AHEAD * config.save_every_n_epochs

    def step(self, connection: Connection, script: Script) -> bool:
        """To the next checkpoint; False where it cannot be reached."""
        spec = self.spec
        epoch = self.told + spec.config.save_every_n_epochs
        dies = (spec.number, epoch) in script.dies_at and _first_time(script, spec, epoch)
        if dies or (spec.number, epoch) in script.kills:
            os._exit(9)
        if (spec.number, epoch) in script.fails_at and (not script.heals or _first_time(script, spec, epoch)):
            connection.send(Failed(spec.number, epoch, "planted failure", again=script.again, machine=script.machine))
            return False
        event = Checkpointed(spec.number, epoch, self._readings[epoch], {"train": 1.0}, {})
        event.save(spec.folder)
        connection.send(event)
        self.told = epoch
        return True


def _first_time(script: Script, spec: TrialSpec, epoch: int) -> bool:
    mark = script.folder / f"{spec.number}-{epoch}.happened"
    if mark.exists():
        return False
    mark.touch()
    return True

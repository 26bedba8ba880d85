"""Workers that train nothing, inside the coordinator's own process: all that a study writes is written by one process,
always in the same order, so that it can be killed before any of its writes."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from metrics.trajectory.readings import Readings
from search.record.events import (
    Checkpointed,
    DrawAgain,
    DrawnAgain,
    GoOn,
    Prepared,
    StopTrial,
    TrialSpec,
    save_readings,
)
from search.record.finalists import FreshLook
from search.record.record import StudyFolder, TrialRecord, write_samples
from search.running.sharing import sharing_of
from search.running.trial_at_work import AHEAD, check_there, rewind
from search.running.workers import Team
from search.study.study import Study
from search.verdict.disk_cleanup import drop_after
from tests.search.finished_studies import Plan, picture, planted
from trainer.checkpoint import (
    LORA_FILE,
    STATE_FILE,
    checkpoint_path,
    drop_old_states,
    newest_state,
    save_state,
    write_checkpoint,
)

PROBE = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64], "trained": ["a"]}
"""What a worker leaves as `probe.json`."""


class _Trial:
    """A trial on a slot: does the work of the real worker, with readings that follow from the trial's settings."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self.told = self.decided = spec.processed
        rewind(spec)
        plan = Plan({}, quality=0.2 + spec.config.rank / 20, turn=_turn(spec))
        self.readings = {r.epoch: r for r in planted(plan, spec.config.epochs, spec.number).readings}
        if not Checkpointed.file(spec.folder, 0).is_file():
            self._draw(spec, 0)
            save_readings(Checkpointed.file(spec.folder, 0), self.readings[0])
        newest = newest_state(spec.folder / "checkpoints")
        self.epoch = int(newest.name) if newest else 0

    def step(self) -> Checkpointed | None:
        """To the next checkpoint, unless too far ahead of the decisions."""
        spec = self.spec
        step, last = spec.config.save_every_n_epochs, spec.config.epochs
        if self.told == last or self.told - self.decided > AHEAD * step:
            return None
        epoch = self.told + step
        while self.epoch < epoch:  # trained again where a checkpoint was lost
            self.epoch += step
            self._save(spec, self.epoch)
        if Checkpointed.file(spec.folder, epoch).is_file():
            event = Checkpointed.load(spec.folder, spec.number, epoch)
        else:
            self._draw(spec, epoch)
            event = Checkpointed(spec.number, epoch, self.readings[epoch], {"train": 1.0}, {})
            event.save(spec.folder)
        self.told = epoch
        return event

    def _save(self, spec: TrialSpec, epoch: int) -> None:
        check_there(spec.folder)
        folder = spec.folder / "checkpoints"
        if not (checkpoint_path(folder, epoch) / STATE_FILE).is_file():
            write_checkpoint(folder, epoch, lambda aside: _fill(aside, spec.number, epoch))
            drop_old_states(folder)

    def _draw(self, spec: TrialSpec, epoch: int) -> None:
        check_there(spec.folder)
        study = StudyFolder(spec.folder.parent.parent)
        images = np.stack([picture(0, seed, epoch) for seed in (11, 12)])
        write_samples(study.samples_file(spec.number, epoch), images, 2)


class Worker:
    """A trial in each of its places."""

    def __init__(self, folder: StudyFolder | None) -> None:
        self._folder = folder
        self.trials: dict[int, _Trial] = {}
        self.inbox: list[Any] = [Prepared(0.0)]

    def send(self, message: Any) -> None:
        if isinstance(message, StopTrial):
            trial = self.trials.pop(message.number, None)
            if trial is not None:
                drop_after(trial.spec.folder, message.epoch)
        elif isinstance(message, GoOn) and message.number in self.trials:
            self.trials[message.number].decided = message.epoch
        elif isinstance(message, TrialSpec):
            self.trials[message.number] = _Trial(message)
        elif isinstance(message, DrawAgain):
            assert self._folder is not None
            draw_again(self._folder, message)
            self.inbox.append(DrawnAgain(message.number, message.epoch))

    def step(self) -> None:
        """Every trial to its next checkpoint."""
        self.inbox += [event for trial in self.trials.values() if (event := trial.step()) is not None]


def places_of(study: Study) -> int:
    """Trials of a worker at once; one where the study leaves it to the machine: there is no memory to measure."""
    asked = study.workers.pack
    return sharing_of(study, 1 if asked == "auto" else asked).places


class OneProcess(Team):
    """Stands where `search.running.workers.Team` does. `folder`: the study's, where finalists are drawn again."""

    def __init__(self, count: int, folder: StudyFolder | None = None) -> None:
        self.count = count
        self._workers = [Worker(folder) for _ in range(count)]

    def start(self) -> None:
        """Nothing is started."""

    def close(self, grace_seconds: float = 3.0) -> None:
        """Nothing to end."""

    def send(self, slot: int, message: Any) -> None:
        self._workers[slot].send(message)

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        for worker in self._workers:
            worker.step()
        got = [(slot, message) for slot, worker in enumerate(self._workers) for message in worker.inbox]
        for worker in self._workers:
            worker.inbox = []
        return got


def draw_again(folder: StudyFolder, asked: DrawAgain) -> None:
    """What a worker leaves of a finalist: its score in the search again."""
    if asked.strengths:  # a picture alone
        return
    file = FreshLook.file(folder, asked.number, asked.epoch)
    if FreshLook.load(file) is not None:
        return
    luck, score = np.random.default_rng(0 if asked.number is None else asked.number + 1), 0.05
    if asked.number is not None:
        score = TrialRecord.load(folder.trial(asked.number)).score or 0.0
    draws = score + luck.normal(0, 0.04, 1000)
    images = np.stack([picture(row, seed, asked.epoch) for row in range(2) for seed in (21, 22)])
    prompts = [f"a fresh prompt, number {row}" for row in range(2) for _ in (21, 22)]
    write_samples(FreshLook.picture(folder, asked.number, asked.epoch), images, 2, prompts=prompts, seeds=[21, 22] * 2)
    FreshLook("asked", Readings(asked.epoch, 0.0, {}, {}, score), draws, len(images), 2, 0, 1.5).save(file)


def _turn(spec: TrialSpec) -> float | None:
    scale = spec.config.learning_rate_scale
    return None if scale < 2 else 80 / scale


def _fill(aside: Path, number: int, epoch: int) -> None:
    save_file({"weights": np.full(64, number * 100.0 + epoch, np.float32)}, aside / LORA_FILE)
    save_state(aside, {"epoch": epoch})

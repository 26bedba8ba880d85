"""A worker's checkpoints: saved, drawn, scored, kept in the trial's folder."""

import time
from collections.abc import Callable
from functools import partial
from math import nan

from search.findings.look import DataLook
from search.probe.probe import Probe, write_base_samples, write_probe_samples
from search.record.events import Checkpointed, TrialSpec, save_readings
from search.record.record import StudyFolder
from search.running.coordinator_line import Line
from search.running.final_run import make_average
from search.running.looks import Look
from search.running.trial_at_work import TrialAtWork, check_there
from search.running.worker_process import memory
from search.study.study import Study
from trainer.checkpoint import checkpoint_path, lora_damage, state_damage


class Measuring:
    """What is done at each checkpoint of a study's trials.

    Args:
        data: what a data check looks at besides; None in other studies.
        line: told what is being done, and by `tell` what was found.
    """

    def __init__(self, study: Study, folder: StudyFolder, probe: Probe, data: DataLook | None, line: Line) -> None:
        self._study, self._folder, self._probe, self._data, self._line = study, folder, probe, data, line

    def base(self, spec: TrialSpec) -> None:
        """Epoch 0 of a trial: the base as the probe saw it."""
        if not Checkpointed.file(spec.folder, 0).is_file():
            write_base_samples(self._folder.samples_file(spec.number, 0), self._probe)
            save_readings(Checkpointed.file(spec.folder, 0), self._probe.base_readings)

    def checkpoint(self, trial: TrialAtWork) -> None:
        """Save, draw, score, keep, tell; the twin first, whose losses count."""
        spec, run, twin = trial.spec, trial.run, trial.twin
        epoch = run.epoch
        check_there(spec.folder)
        began = time.perf_counter()
        for one in [run] if twin is None else [twin, run]:
            kept = checkpoint_path(one.run_dir / "checkpoints", epoch)
            if lora_damage(kept) is not None or state_damage(kept) is not None:  # or not there at all
                one.save()
        trained, trial.trained = trial.trained, 0.0
        if epoch <= trial.told:
            return
        if not Checkpointed.file(spec.folder, epoch).is_file():
            spent = {"train": trained, "save": time.perf_counter() - began}
            other = None if twin is None else twin.lora_weights()
            look = partial(self._probe.read, run.lora_weights(), epoch=epoch, effort=run.effort, twin=other)
            look = look if self._data is None else partial(self._data.look, look, run, spec)
            self.measured(spec, epoch, look, spent, run.last_loss)
        if twin is not None and run.finished:  # before the end is told: then the trial ends
            say, keep = partial(self._line.say, number=spec.number, epoch=epoch), self._study.keep.samples
            make_average(spec, self._probe, self._study.score.ship, keep_samples=keep, say=say)
        self.tell(trial, epoch)

    def measured(
        self, spec: TrialSpec, epoch: int, look: Callable[..., Look], spent: dict[str, float], loss: float = nan
    ) -> None:
        """Draw, score, keep; `spent`: seconds before that. `loss`: of the epoch in training."""
        readings, images, seconds = look(say=lambda what: self._line.say(what, spec.number, epoch))
        began = time.perf_counter()
        check_there(spec.folder)
        if self._study.keep.samples:
            write_probe_samples(self._folder.samples_file(spec.number, epoch), self._probe, images)
        spent["save"] += time.perf_counter() - began
        event = Checkpointed(spec.number, epoch, readings, {**spent, **seconds}, memory(self._probe.base.device), loss)
        event.save(spec.folder)

    def tell(self, trial: TrialAtWork, epoch: int) -> None:
        """Tell the coordinator of a checkpoint whose readings are in the trial's folder."""
        self._line.send(Checkpointed.load(trial.spec.folder, trial.number, epoch))
        trial.told = epoch

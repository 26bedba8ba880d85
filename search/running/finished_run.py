"""The LoRA files of a finished run, made ready to be looked at like checkpoints that were trained here."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from search.probe.probe import Probe
from search.record.events import Checkpointed, TrialSpec, load_readings, save_readings
from search.record.finished_run import FinishedRun
from search.record.record import StudyFolder
from search.running.looks import Look, Say
from search.study.finished_run import CheckpointFiles
from search.study.study import Study
from trainer.checkpoint import LORA_FILE, checkpoint_path
from trainer.config.config import TrainConfig
from trainer.errors import ModelError
from trainer.families import Base
from trainer.lora.kohya_file import load_lora, save_lora
from trainer.lora.lora import LoraWeights, Site
from trainer.lora.merge import check_fits
from trainer.optimization.schedules import ScheduleSettings, learning_rates

_FINE = 4000
"""Steps in which the course of the learning rate is added up."""


_KEPT = 2**30
"""Bytes of files that are kept once they were checked, so that the look need not read them again."""


def check_run(run: FinishedRun, base: Base) -> dict[int, LoraWeights]:
    """Whether every file is whole, finite, for this base and of one strength, before anything is drawn; returns those
    kept, by count.

    Raises:
        ModelError: the first one that is not, by name.
    """
    kept, room = dict[int, LoraWeights](), _KEPT
    alphas: dict[Site, float] = {}
    for count, file in run.files.items():
        lora = load_lora(file, family=base.family.name)
        try:
            check_fits(base, lora)
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None
        for (component, path), module in lora.modules.items():
            if not module.finite:
                raise ModelError(f"{file}: expected finite weights, got NaN or infinity in {component}.{path}")
            if alphas.setdefault((component, path), module.alpha) != module.alpha:
                expected = (
                    f"alpha {alphas[component, path]:g} in {component}.{path}, as in {next(iter(run.files.values()))}"
                )
                why = (
                    "another run, or its trainer left the alpha out, as SimpleTuner does in its last file: move it away"
                )
                raise ModelError(f"{file}: expected {expected}, got {module.alpha:g}: {why}")
        room -= Path(file).stat().st_size
        if room >= 0:
            kept[count] = lora
    return kept


def efforts(run: FinishedRun, config: TrainConfig) -> dict[int, float]:
    """Checkpoint to the sum of learning rates up to it, the rate at the start being 1: as a trial's, up to a factor.

    It tells where the learning rate restarted, so that a restart is not taken for overfitting. Without a schedule in
    the study file the rate is flat.
    """
    last = run.counts[-1]
    finer = max(1, _FINE // last)  # parts of an epoch
    cycles = config.effective_num_cycles
    settings = ScheduleSettings(config.lr_scheduler, cycles, epochs=last)
    rates = np.asarray(learning_rates(settings, learning_rate=1.0, total_steps=last * finer))
    spent = np.concatenate([[0.0], np.cumsum(rates)]) / finer
    return {count: float(spent[count * finer]) for count in run.counts}


def place_checkpoint(run: FinishedRun, count: int, trial: Path, family: str) -> None:
    """Put the file of one checkpoint where a trial keeps its own, too (a hard link where one can be)."""
    source, target = Path(run.files[count]), checkpoint_path(trial / "checkpoints", count) / LORA_FILE
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{LORA_FILE}.new")
    aside.unlink(missing_ok=True)
    if (source.parent / "adapter_config.json").is_file():  # it holds the alphas, which have to go along
        save_lora(aside, load_lora(source, family=family), dtype=torch.float32)
    else:
        _link(source.resolve(), aside)  # a link to a link would end with the user's
    aside.replace(target)


class RunLooks:
    """Looks at the files of a finished run (`search.running.looks.Looks`); those that were looked at before are taken
    from the cache.

    Args:
        checked: what `check_run` returned.
    """

    def __init__(
        self,
        study: Study,
        files: CheckpointFiles,
        folder: StudyFolder,
        probe: Probe,
        checked: Mapping[int, LoraWeights] | None = None,
    ) -> None:
        self._study, self._files, self._folder, self._probe = study, files, folder, probe
        self._checked = dict(checked or {})
        self._efforts = efforts(files.run, study.config({}))

    @property
    def counts(self) -> tuple[int, ...]:
        """Of the run."""
        return self._files.run.counts

    def begin(self, spec: TrialSpec, epoch: int) -> bool:
        """Put the file where a trial keeps its checkpoint, too."""
        known = Checkpointed.file(spec.folder, epoch).is_file()
        place_checkpoint(self._files.run, epoch, spec.folder, self._probe.base.family.name)
        seen = known or self._looked(spec, epoch).take(self._efforts[epoch], samples=self._study.keep.samples)
        if seen:
            self._checked.pop(epoch, None)
        return seen

    def look(self, spec: TrialSpec, epoch: int, *, say: Say) -> Look:
        """Read the file as a checkpoint."""
        lora = self._checked.pop(epoch, None)
        if lora is None:
            lora = load_lora(self._files.run.files[epoch], family=self._probe.base.family.name)
        return self._probe.read(lora, epoch=epoch, effort=self._efforts[epoch], say=say)

    def keep(self, spec: TrialSpec, epoch: int) -> None:
        """In the cache: a longer run need not look at this file again."""
        self._looked(spec, epoch).keep()

    def _looked(self, spec: TrialSpec, count: int) -> "Looked":
        about = f"{self._study.probe_digest} {count} {self._files.digests[str(count)].rpartition(' ')[2]}"
        place = self._folder.cache / "looked" / hashlib.sha256(about.encode()).hexdigest()
        own = Checkpointed.file(spec.folder, count), self._folder.samples_file(spec.number, count)
        return Looked(place.with_suffix(".npz"), place.with_suffix(".png"), *own)


@dataclass(frozen=True)
class Looked:
    """What one file showed, kept in the cache: a run with more files is looked at again, and only those are drawn.

    Attributes:
        readings, samples: in the cache. own_readings, own_samples: in the trial's folder.
    """

    readings: Path
    samples: Path
    own_readings: Path
    own_samples: Path

    def keep(self) -> None:
        """Once it was measured."""
        self.readings.parent.mkdir(parents=True, exist_ok=True)
        for own, kept in ((self.own_samples, self.samples), (self.own_readings, self.readings)):
            if own.is_file():
                kept.unlink(missing_ok=True)
                _link(own, kept)

    def take(self, effort: float, *, samples: bool) -> bool:
        """Put what is kept into the trial's folder; False where nothing is, or it cannot be read.

        Args:
            effort: of this checkpoint, which a longer run may see otherwise.
            samples: whether its images are wanted, too.
        """
        if samples and not self.samples.is_file():
            return False
        try:
            readings, about = load_readings(self.readings)
        except Exception:  # zip, numpy and JSON each raise kinds of their own
            return False
        if samples and not self.own_samples.is_file():
            self.own_samples.parent.mkdir(parents=True, exist_ok=True)
            _link(self.samples, self.own_samples)
        save_readings(self.own_readings, replace(readings, effort=effort), about)
        return True


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # another file system, or one without links
        os.link(source, target)
    if not target.is_file():
        shutil.copyfile(source, target)

"""Nothing is trained twice: a run that a trial of this study, or of one beside it in the runs folder, has had gives its
readings to the next trial that is the same run, as far as the two are one.

What a run is follows from what is trained and measured, not from how a study says it.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metrics.checkpoint.calibration import VERSION as CALIBRATION_VERSION
from metrics.checkpoint.objective import scored_by
from metrics.errors import MetricsError
from metrics.trajectory.trajectory import Trajectory
from search.errors import SearchError
from search.probe.probe import Probe
from search.record.events import Checkpointed, TrialSpec
from search.record.json_files import digest_of
from search.record.record import StudyFolder, TrialRecord
from search.record.taken_run import RunMark, TakenRun
from search.record.trial_progress import Course, checkpoint_epochs
from search.record.versions import of_training
from search.running.trial_end import end_of
from search.study.input_digests import fingerprint_of_base
from search.study.kind import SEARCH
from search.study.objective import Objective
from search.study.study import Study
from trainer.checkpoint import LORA_FILE, checkpoint_path, checkpoints, lora_damage, newest_state
from trainer.config.config import TrainConfig
from trainer.optimization.schedules import ScheduleSettings, learning_rates
from trainer.packing.builder import pack_settings, run_settings

_DIGITS = 12
"""Of a learning rate's share of its peak: two formulas of one course differ in the last bits of a double."""
_COARSEST_CLOCK = 4.0
"""Seconds: no file system notes the time of a change more coarsely."""


@dataclass(frozen=True)
class _Earlier:
    """A trial that has ended, with the readings that the next one may take."""

    folder: StudyFolder
    record: TrialRecord
    trajectory: Trajectory


class SameRuns:
    """The runs of a runs folder, as a worker looks for them.

    Args:
        common: what all trials of the study have in common, and another study may not (`common_of`).
    """

    def __init__(self, study: Study, folder: StudyFolder, common: Mapping[str, Any]) -> None:
        self._study, self._folder, self._common = study, folder, common
        self.looks = study.kind == SEARCH and study.budget.reuse
        self._marks: dict[Path, RunMark] = {}
        self._changed: dict[Path, tuple[int, float]] = {}  # a folder's own time of its last change, and when we saw it
        self._listed: dict[Path, Sequence[Path]] = {}

    def mark(self, config: TrainConfig, steps_per_epoch: int, shape: tuple[int | None, int | None]) -> RunMark:
        """What a trial of the study is. `shape`: width and rank of the pack that it sits in, which its last bits hang
        on."""
        settings = run_settings(config)
        own = {
            "adapter": asdict(settings.adapter),
            "optimizer": asdict(settings.optimizer),
            "loss": asdict(settings.loss),
            "pack": asdict(pack_settings(config)),
            "shape": shape,
            "warmup": config.warmup_steps,
            "every": config.save_every_n_epochs,
        }
        return RunMark(digest_of([self._common, own]), _course(settings.schedule, config, steps_per_epoch))

    def take(self, spec: TrialSpec, mark: RunMark) -> TakenRun | None:
        """Put into a trial's folder what an earlier one has of the same run: readings, images, LoRAs. None where no
        trial has more than this one."""
        before = TakenRun.load(spec.folder)
        if not self.looks or before is not None or newest_state(spec.folder / "checkpoints") is not None:
            return before
        for earlier, shared in self._same(spec, mark):
            readings = _readings(earlier, spec, shared)
            if readings is None or not self._ends_well(earlier, spec, readings):
                continue
            with suppress(OSError):  # it is being tidied or deleted at this moment
                return _taken(earlier, spec, readings, shared, self._study.objective)
        return None

    def _same(self, spec: TrialSpec, mark: RunMark) -> Iterator[tuple[_Earlier, int]]:
        """Trials that are the same run for a while, those first that share most of it, then by study and number."""
        shared = [(mark.shared(other), trial) for trial, other in self._known() if trial != spec.folder]
        for epochs, trial in sorted(shared, key=lambda each: (-each[0], each[1])):
            if epochs < 1:
                return
            try:
                record, trajectory = TrialRecord.load(trial), Trajectory.load(trial)
            except (SearchError, MetricsError):
                continue
            if record.state in ("complete", "pruned") and not record.lost:
                yield _Earlier(StudyFolder(trial.parent.parent), record, trajectory), epochs

    def _known(self) -> Iterator[tuple[Path, RunMark]]:
        for home in sorted(self._folder.path.parent.glob("*/trials")):
            for trial in self._trials(home):
                mark = self._marks.get(trial) or RunMark.load(trial)
                if mark is not None:
                    self._marks[trial] = mark
                    yield trial, mark

    def _trials(self, home: Path) -> Sequence[Path]:
        """What lies in a study's folder of trials. It is listed until nothing has changed for longer than the coarsest
        clock takes to tell of it, and then only after a change."""
        now = time.monotonic()
        try:
            changed = home.stat().st_mtime_ns
        except OSError:  # it has gone
            return ()
        before, since = self._changed.get(home, (None, now))
        if changed != before:
            since = now
            self._changed[home] = changed, now
            self._listed.pop(home, None)
        if home in self._listed:
            return self._listed[home]
        trials = sorted(home.glob("[0-9]*"))
        if now - since > _COARSEST_CLOCK:
            self._listed[home] = trials
        return trials

    def _ends_well(self, earlier: _Earlier, spec: TrialSpec, readings: Sequence[int]) -> bool:
        """Whether the LoRA to ship is there, if the trial will end within these readings without having been pruned."""
        config = spec.config
        record = TrialRecord(spec.number, "running", config, spec.params, config.epochs)
        rows = {reading.epoch: reading for reading in earlier.trajectory.readings}
        course = Course(record, 0, Trajectory((rows[0],)))
        for epoch in readings:
            course = replace(
                course,
                record=replace(record, epochs_trained=epoch),
                trajectory=course.trajectory.append(rows[epoch]),
            )
            end = end_of(course, self._study, prune=lambda: False)
            if end is not None:
                shipped = None if end[2] is None else end[2].best
                return shipped is None or lora_damage(earlier.folder.checkpoint(earlier.record.number, shipped)) is None
        return True


def _readings(earlier: _Earlier, spec: TrialSpec, shared: int) -> list[int] | None:
    """The epochs of this trial's first checkpoints that the earlier one has, too, without a gap; None without any."""
    have = {reading.epoch for reading in earlier.trajectory.readings}
    found = list(takewhile(lambda epoch: epoch <= shared and epoch in have, checkpoint_epochs(spec.config)))
    return found if found and 0 in have else None


def _taken(
    earlier: _Earlier, spec: TrialSpec, readings: Sequence[int], shared: int, objective: Objective | None
) -> TakenRun:
    """Copies what there is, scored as this study scores. `taken.json` comes last: until then it is done again."""
    folder, record, target = earlier.folder, earlier.record, spec.folder
    for path in checkpoints(folder.trial(record.number) / "checkpoints"):
        epoch = int(path.name)
        if epoch <= shared and (path / LORA_FILE).is_file():
            there = checkpoint_path(target / "checkpoints", epoch)
            shutil.rmtree(there, ignore_errors=True)
            aside = there.with_name(f".{there.name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(path, aside, copy_function=_linked)
            aside.rename(there)
    for epoch in readings:
        picture = folder.samples_file(record.number, epoch)
        if picture.is_file():
            there = target / "samples" / picture.name
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, there)
    rows = {reading.epoch: reading for reading in earlier.trajectory.readings}
    for epoch in readings:
        Checkpointed(spec.number, epoch, scored_by(objective, rows[epoch])).save(target)
    state = newest_state(target / "checkpoints")
    own, looks = record.taken, len(earlier.trajectory.epochs) - 1
    spent = record.timings
    training = spent.get("train", 0) + spent.get("save", 0)
    found = TakenRun(
        study=folder.path.name,
        trial=record.number,
        looked=readings[-1],
        trained=0 if state is None else int(state.name),
        epoch_seconds=own.epoch_seconds if own else training / max(1, record.epochs_trained),
        look_seconds=own.look_seconds if own else (spent.get("sample", 0) + spent.get("score", 0)) / max(1, looks),
    )
    found.save(target)
    return found


def _linked(source: str, target: str) -> None:
    """A hard link where one can be: files of a checkpoint are replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def common_of(study: Study, folder: StudyFolder, probe: Probe) -> Mapping[str, Any]:
    """What the numbers of all trials of a study follow from, beside their settings: base, photos, probe, machine.
    Empty where nobody asks."""
    if study.kind != SEARCH or not study.budget.reuse:
        return {}
    device = probe.base.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    encoders = [probe.calibration.encoder, probe.calibration.identity_encoder]
    return {
        "base": fingerprint_of_base(study, folder),
        "photos": [photo.content for photo in probe.trained.photos],
        "probe": study.probe_digest,
        "labels": asdict(probe.labels),
        "calibration": CALIBRATION_VERSION,
        "encoders": [None if encoder is None else encoder.digest for encoder in encoders],
        "precision": [probe.precision, probe.config.precision, probe.config.quantize],
        "device": [name, study.workers.deterministic],
        "versions": of_training(),
    }


def _course(schedule: ScheduleSettings, config: TrainConfig, steps_per_epoch: int) -> tuple[str, ...]:
    """The learning rates up to the end of each epoch. Where the optimizer sets its own they hang on nothing else."""
    total = config.epochs * steps_per_epoch
    if config.relative_step or schedule.lr_scheduler == "adafactor":
        rates = np.zeros(total)
    else:
        rates = np.round(learning_rates(schedule, learning_rate=1.0, total_steps=total), _DIGITS)
    found, so_far = [], hashlib.sha256(str(steps_per_epoch).encode())
    for epoch in range(config.epochs):
        so_far.update(rates[epoch * steps_per_epoch : (epoch + 1) * steps_per_epoch].tobytes())
        found.append(so_far.hexdigest()[:16])
    return tuple(found)

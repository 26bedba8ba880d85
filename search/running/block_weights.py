"""Looks at one finished LoRA under other weights of its blocks, as at checkpoints of a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from metrics.checkpoint.weighting import likeness, subject_axes, with_subject, worth
from metrics.trajectory.readings import Readings
from search.probe.probe import Probe
from search.record.events import Checkpointed, TrialSpec
from search.running.looks import Look, Say
from search.study.delivery import Delivery
from trainer.delivery.blocks import weighted
from trainer.lora.kohya_file import load_lora
from trainer.lora.lora import LoraWeights


class BlockLooks:
    """The LoRA, and the probe that it is looked at with; each trial is one look (`search.running.looks.Looks`).

    Args:
        home: the probe's folder, in which the moved subjects lie.
        lora: the file's, where it was read before.
    """

    def __init__(self, delivery: Delivery, probe: Probe, home: Path, lora: LoraWeights | None = None) -> None:
        self._delivery, self._probe = delivery, probe
        self.lora: LoraWeights = lora or load_lora(delivery.lora, family=probe.base.family.name)
        with np.load(home / "arrays.npz", allow_pickle=False) as arrays:
            moved = arrays["shifted_images"]
        self._axes = subject_axes(probe.calibration, list(moved))
        self._before: float | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """One checkpoint."""
        return (1,)

    def begin(self, spec: TrialSpec, epoch: int) -> bool:
        """Whether these weights were looked at."""
        return Checkpointed.file(spec.folder, epoch).is_file()

    def look(self, spec: TrialSpec, epoch: int, *, say: Say) -> Look:
        """As `Probe.read`, the readings' score being the worth of the trial's weights."""
        readings, images, seconds = self.read(self._delivery.weights(spec.params), say)
        if self._before is None:
            self._before = self._likeness_as_it_is(spec.params, readings, say)
        score = worth(self._probe.calibration, readings, self._before)
        return replace(readings, score=score), images, seconds

    def keep(self, spec: TrialSpec, epoch: int) -> None:
        """Other weights are another trial: nothing of this look is taken again."""

    def read(self, weights: Mapping[str, float], say: Say = lambda what: None) -> Look:
        """Readings under these weights by block, with the channels `subject` and `background`."""
        # else nothing is left of the LoRA but what no block has
        lora = weighted(self.lora, weights) if any(weights.values()) else _without(self.lora, weights)
        readings, images, seconds = self._probe.read(lora, epoch=1, effort=1.0, say=say)
        calibration = self._probe.calibration
        return with_subject(calibration, readings, images[: len(calibration.labels)], self._axes), images, seconds

    def _likeness_as_it_is(self, params: Mapping[str, float], readings: Readings, say: Say) -> float | None:
        if all(weight == 1 for weight in params.values()):
            return likeness(readings.channels)
        return likeness(self.read({}, say)[0].channels)


def _without(lora: LoraWeights, weights: Mapping[str, float]) -> LoraWeights:
    """The LoRA without the blocks of `weights`; one module that changes nothing where that leaves none."""
    from trainer.delivery.blocks import block_of

    kept = {site: module for site, module in lora.modules.items() if block_of(site) not in weights}
    if not kept:
        site, module = next(iter(lora.modules.items()))
        kept = {site: replace(module, up=module.up * 0, magnitude=None)}
    return replace(lora, modules=kept)

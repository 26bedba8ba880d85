"""Looking at finished LoRA files: what such a study does instead of training, as the worker sees it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from metrics.trajectory.readings import Readings
from search.record.events import TrialSpec

Say = Callable[[str], None]
Look = tuple[Readings, np.ndarray, dict[str, float]]
"""Readings, the probe's images, and the seconds of each part."""


class Looks(Protocol):
    """Looks at files one after the other, each as at a checkpoint of a trial."""

    @property
    def counts(self) -> tuple[int, ...]:
        """The epochs (or steps) of the checkpoints, rising."""

    def begin(self, spec: TrialSpec, epoch: int) -> bool:
        """Make the checkpoint ready; whether its readings are in the trial's folder already."""

    def look(self, spec: TrialSpec, epoch: int, *, say: Say) -> Look:
        """As `Probe.read`."""

    def keep(self, spec: TrialSpec, epoch: int) -> None:
        """Once what was seen is in the trial's folder."""

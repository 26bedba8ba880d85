"""The readings of one checkpoint, and of a run over its checkpoints."""

from metrics.trajectory.readings import CHANNELS, Reading, Readings
from metrics.trajectory.trajectory import Trajectory

__all__ = ["CHANNELS", "Reading", "Readings", "Trajectory"]

"""The onset of overfitting: from a run's trajectory to two epochs with intervals, and the epoch to ship."""

from metrics.onset.onset import Onset, Turn, find_onset

__all__ = ["Onset", "Turn", "find_onset"]

"""The onset of overfitting: from a run's trajectory to two epochs with intervals, and the epoch to ship."""

"""A score of somebody's own: any function from a checkpoint's readings to a number, higher is better."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from metrics.trajectory.readings import OWN_SCORE, Reading, Readings

Objective = Callable[[Mapping[str, float]], float]
"""From a channel's name to its value, `OWN_SCORE` among them, to the score. What it raises goes through."""


def scored_by(objective: Objective | None, readings: Readings, also: Mapping[str, float] | None = None) -> Readings:
    """The same readings with the objective's number for a score, and the own one as the channel `OWN_SCORE`; as they
    were where there is no objective, whoever has scored them before.

    Args:
        also: values of channels that were not measured here, from another look at the same checkpoint.
    """
    before = readings.channels.get(OWN_SCORE)
    own = readings.score if before is None else before.value
    channels = {name: reading for name, reading in readings.channels.items() if name != OWN_SCORE}
    if objective is None:
        return replace(readings, channels=channels, score=own)
    scored = {**channels, OWN_SCORE: Reading(own, own, own)} if own == own else channels
    values = {**(also or {}), **{name: reading.value for name, reading in scored.items()}}
    return replace(readings, channels=scored, score=objective(values))

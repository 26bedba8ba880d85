"""Which trial wins, and which are as good."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log, log2

import numpy as np

from search.record.curve import Curve
from search.record.finalists import Finalists
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.verdict.decision import decide
from search.verdict.finalists import at_twins_epoch
from search.verdict.plateau import plateau


def ranked_trials(
    records: Sequence[TrialRecord], curves: Mapping[int, Curve | None], noise: float
) -> list[TrialRecord]:
    """The winner, then those as good within the noise: by file size, then by the width of the plateau, then value;
    under an objective by value alone.

    Trials with an epoch to ship come before those without one, whatever these score.
    """
    scored = [r for r in records if r.epoch_shipped is not None and _value(r) is not None]
    complete = [r for r in scored if r.state == "complete"]
    pool = [r for r in complete if decide(r).ships] or complete or scored
    if not pool:
        return []
    top = max(_value(r) or 0.0 for r in pool)
    close = [r for r in pool if (_value(r) or 0.0) >= top - noise]

    def order(record: TrialRecord) -> tuple[float, float, float, int]:
        if record.objective:
            return (0.0, 0.0, -(_value(record) or 0.0), record.number)
        around = plateau(curves[record.number], record.epoch_shipped, noise)
        width = log2(around[1] / max(around[0], 1)) if around else 0.0
        return (_size_step(record), -round(width, 2), -(_value(record) or 0.0), record.number)

    return sorted(close, key=order)


def as_drawn(records: Sequence[TrialRecord], finalists: Finalists) -> list[TrialRecord]:
    """The finalists that may win, with the scores of their fresh images."""
    little = finalists.learned_little
    fresh = {one.trial: one for one in finalists.drawn if one.trial not in little}
    found = [(record, fresh[record.number]) for record in records if record.number in fresh]
    return [replace(record, score=one.score, value=one.score, own_score=one.own) for record, one in found]


def by_twins(
    folder: StudyFolder, record: TrialRecord, finalists: Finalists | None
) -> tuple[TrialRecord, Finalists | None]:
    """The winner with what its twins say of it, and the finalists with it. Where another epoch ships by that, score and
    finalists are of that epoch, where it was drawn again there."""
    found = record.with_twins(Twins.load(folder.trial(record.number)))
    if finalists is None or found.twins is None or not found.twins.moved:
        return found, finalists
    moved = at_twins_epoch(folder, finalists, record.number, found.twins.shipped)
    one = None if moved is None else moved.of(record.number)
    if one is None:
        return found, finalists
    return replace(found, score=one.score, value=one.score, own_score=one.own), moved


def _value(record: TrialRecord) -> float | None:
    value = record.value if record.state == "complete" else record.score
    return None if value is None or not np.isfinite(value) else float(value)


def _size_step(record: TrialRecord) -> float:
    """The LoRA's size on a ladder of 5 % steps, so that a few bytes of metadata decide nothing.

    Checkpoints of losing trials may be gone: the number of weights per layer is known from the config alone.
    """
    config = record.config
    share = 0.4 if config.targets == "attention" else 1.0  # attention's share of kohya's weights in SD1.5
    text = 1.1 if config.train_text_encoder else 1.0
    return round(log((config.rank * share + (config.conv_rank or 0)) * text) / 0.05)

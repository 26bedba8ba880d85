"""How many trials of a study its workers train at once: as many as asked for, where they can share passes. From the
study file and what its folder keeps, so that a study that goes on has them sit where they sat. Imports no torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.study.study import Study
from trainer.config.config import TrainConfig
from trainer.packing.settings import FeedSettings, PackSettings

TOGETHER = ("targets", *(each.name for kind in (FeedSettings, PackSettings) for each in fields(kind)))
"""Fields of a trial's config in which all trials of a pack are equal, as far as they can be searched."""
_MOST = 16
"""Trials at once, where `workers.pack` is auto."""
_ROUNDS = 4
"""Trials of a study that follow one another in each place at least, where `workers.pack` is auto: else nothing is
learned from the first ones."""
_RANGE = 64
"""Values that a range counts as."""


@dataclass(frozen=True)
class Sharing:
    """How the trials of one worker share passes.

    Attributes:
        places: trials of a worker at once.
        width: slots of each pack, whoever sits there, so that a trial's numbers do not depend on its neighbours; None:
            trials are trained one at a time.
        max_rank: of all trials, to which each is padded for the same reason; None with `width`.
        alone: the fields that keep trials from sharing passes although that was asked for.
    """

    places: int = 1
    width: int | None = None
    max_rank: int | None = None
    alone: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it."""
        if not self.alone:
            return ()
        fields = " and ".join(self.alone)
        return (f"workers.pack: trials are trained one at a time, since {fields} keeps them from sharing passes",)


def known(study: Study, folder: StudyFolder) -> Sharing | None:
    """How trials share passes, where no worker has to measure it; else None. What `auto` comes to is kept in the
    study's folder, for when it goes on with more trials."""
    asked = study.workers.pack
    if isinstance(asked, int):
        return sharing_of(study, asked)
    kept = PackWidth.load(folder, asked)
    if kept is None and at_most(study).width is None:
        kept = PackWidth(asked, 1, 1)
        kept.save(folder)
    return None if kept is None else sharing_of(study, kept.trials)


def at_most(study: Study) -> Sharing:
    """The widest that `workers.pack: auto` may come to, whatever memory holds."""
    workers = min(study.workers.count, study.trials)
    return sharing_of(study, max(1, min(_MOST, study.trials // (_ROUNDS * workers))))


def sharing_of(study: Study, asked: int) -> Sharing:
    """What comes of asking for so many trials at once: a study of few trials has no use for more, finished files are
    looked at one by one, and trials that differ in a field of `TOGETHER` sit in packs of their own that take turns."""
    workers = min(study.workers.count, study.trials)
    asked = min(asked, math.ceil(study.trials / workers))
    if asked == 1 or study.finished_run is not None or study.kind.final is not None:
        return Sharing()
    searched = {field: choices for field in TOGETHER if len(choices := set(_choices(study, field))) > 1}
    width = asked // math.prod(len(choices) for choices in searched.values())
    alone = [field for field in ("dora", "conv_rank") if all(_choices(study, field))]
    if width < 2 or alone:
        return Sharing(alone=tuple(alone or searched))
    return Sharing(asked, width, int(max(_choices(study, "rank"))))


def _choices(study: Study, field: str) -> Iterator[Any]:
    """What trials of this study may have for a field."""
    entries = [entry for entry in study.space.entries if entry.field == field]
    for entry in entries:
        if entry.values:
            yield from entry.values
        else:
            span = entry.high - entry.low
            steps = max(1, min(_RANGE, math.floor(span / entry.step) if entry.step else _RANGE))
            yield from (entry.low + span * at / steps for at in range(steps + 1))
    if not entries or all(entry.when for entry in entries):
        known = TrainConfig.model_fields.get(field)
        yield study.train.get(field, None if known is None else known.default)

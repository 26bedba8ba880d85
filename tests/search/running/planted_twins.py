"""Workers that train no twins: these read what is planted."""

from collections.abc import Callable
from typing import Any

import numpy as np

from metrics.trajectory.readings import OWN_SCORE, Reading, Readings
from search.record.events import DrawAgain, DrawnAgain
from search.record.finalists import FreshLook
from search.record.record import StudyFolder
from search.record.twins import TwinLosses
from tests.search.running.test_finalists import Workers

TURN = 14.0
"""Epoch of a twin of three at which its losses turn; it stands for half as many more of the trial."""
LAST = 28
"""Of these epochs as many passes over two thirds of the photos as 40 epochs are over all."""


def planted(place: int, last: int = LAST, turn: float = TURN, count: int = 3) -> TwinLosses:
    """A third of nine photos (`count`: another part), whose losses turn."""
    epochs = np.array([0, *range(2, last + 1, 2)])
    luck = np.random.default_rng(place)
    curve = -0.3 * epochs / (epochs + 3) + 0.15 * np.maximum(0.0, epochs / turn - 0.8) ** 1.5
    rows = np.arange(place, 9, count)
    each = curve[:, None, None, None] * luck.uniform(0.9, 1.1, (1, len(rows), 8, 1))
    each = each + luck.normal(0, 0.002, each.shape) * (epochs > 0)[:, None, None, None]
    return TwinLosses("asked", rows, epochs, each, 4.0)


class TwinWorkers(Workers):
    """As the finals' workers; twins leave what is planted."""

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        slot, look = self.asked[-1]
        if not look.twins or self.happens(slot, look) is not None:
            return super().receive(timeout)
        self.asked.pop()
        planted(look.place, count=look.twins).save(
            TwinLosses.file(self.folder.path / "finalists", look.number, look.twins, look.place)
        )
        return [(slot, DrawnAgain(look.number, look.epoch, look.twin))]


def drawn_at(folder: StudyFolder, scores: dict[int, float], asked: list[DrawAgain]) -> Callable[..., Any]:
    """Fresh images at these epochs have these scores; `asked` notes what is asked for."""

    def happens(worker: int, look: DrawAgain) -> Any:
        asked.append(look)
        if look.number is None or look.twins or look.strengths or look.epoch not in scores:
            return None
        score = scores[look.epoch] - 0.02 * look.retrained
        draws = score + np.random.default_rng(0).normal(0, 0.01, 1000)
        readings = Readings(look.epoch, 0.0, {OWN_SCORE: Reading(0.25, 0.2, 0.3)}, {}, score)
        file = FreshLook.file(folder, look.number, look.epoch, retrained=look.retrained)
        FreshLook("asked", readings, draws, 8, 4, 0, 2.0).save(file)
        return DrawnAgain(look.number, look.epoch)

    return happens

"""Looks of the finals that workers draw while they wait for a search's last trials."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from search.record.events import DrawAgain, DrawnAgain, Failed, Lost
from search.record.record import TrialRecord
from search.running.slots import Slot
from search.running.workers import Team
from search.verdict.ranking import best_trials

BASE = DrawAgain(None, 0)
"""What all others are held against."""


class LooksAhead:
    """Gives workers that have no trial any more the looks of those that are best so far. Only files come of it: who is
    in the finals is decided when all trials have ended, and what was not drawn, or not well, is drawn then.

    Args:
        most: finalists that there will be; with 0 nothing is drawn.

    Attributes:
        at_work: what each worker is at.
    """

    def __init__(self, team: Team, most: int) -> None:
        self._team, self._most = team, most
        self._given: set[DrawAgain] = set()
        self.at_work: dict[int, DrawAgain] = {}

    def give(self, slots: Sequence[Slot], ended: Iterable[TrialRecord], *, free: bool) -> None:
        """A look to each worker that is ready and without a trial.

        Args:
            ended: the best trials so far.
            free: whether any slot has no trial; else nothing is looked at.
        """
        if not (free and self._most):
            return
        known = {record.number: record for record in ended}
        best = best_trials(known.values(), self._most)
        shipped = [(number, known[number].epoch_shipped) for number in best]
        looks = [BASE, *(DrawAgain(number, epoch) for number, epoch in shipped if epoch is not None)]
        left = [look for look in looks if look not in self._given]
        if not left or all(slot.running is None for slot in slots):
            return
        idle = [worker for worker, own in groupby(sorted(slots, key=_worker), _worker) if all(map(_idle, own))]
        idle = [worker for worker in idle if worker not in self.at_work]
        for worker, look in zip(idle, left, strict=False):
            self._given.add(look)
            self.at_work[worker] = look
            self._team.send(worker, look)

    def heard(self, worker: int, message: object) -> None:
        """What a worker has said: it may have drawn its look, or not, or be lost."""
        look = self.at_work.get(worker)
        answered = isinstance(message, DrawnAgain | Failed) and look is not None and message.number == look.number
        if answered or isinstance(message, Lost):
            self.at_work.pop(worker, None)


def _worker(slot: Slot) -> int:
    return slot.worker


def _idle(slot: Slot) -> bool:
    return slot.ready and not slot.retired and slot.running is None

"""The finals: the best trials are drawn again by the study's workers, with seeds and prompts that the search never
used, and compared.

What was drawn is kept image by image, so that a study that is killed here goes on with what is left.
"""

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from metrics.trajectory.readings import OWN_SCORE
from search.errors import WorkerError
from search.record.clock import Clock
from search.record.events import DrawAgain, DrawnAgain, Failed, Lost, Unprepared
from search.record.finalists import Finalist, Finalists, FreshLook
from search.record.record import StudyFolder
from search.running.progress import Board
from search.running.slots import refused
from search.running.workers import Team
from search.study.study import Study
from search.verdict.ranking import best_trials

_MOST_RETRIES = 3


def draw_finalists(
    study: Study, folder: StudyFolder, team: Team, board: Board, clock: Clock, check_place: Callable[[], None]
) -> Finalists | None:
    """Draw the best trials again; None where the study asks for none, or none ships. Kept as `finalists.json`.

    Args:
        team: the study's workers, with nothing else to do.
        check_place: called before anything is written; raises where the study is not ours any more.

    Raises:
        WorkerError: the workers cannot work.
    """
    records = {record.number: record for record in folder.records()}
    asked = best_trials(records.values(), study.num_finalists)
    if not asked:
        return None
    epochs = {number: records[number].epoch_shipped or 0 for number in asked}
    again = "the best trial is" if len(asked) == 1 else f"the best {len(asked)} trials are"
    board.note(f"{again} drawn again, with seeds and prompts that the search never used")
    drawing = _Drawing(study, folder, team, board, clock, check_place)
    drawing.run([DrawAgain(None, 0)])  # what all others are held against
    drawing.run([DrawAgain(number, epoch) for number, epoch in epochs.items()])
    check_place()
    scores = {number: records[number].score or 0.0 for number in asked}
    found = compared(study, folder, scores, epochs, drawing.left_out)
    if found.drawn and (study.finalists.strengths or study.transfer_bases):
        best = found.drawn[0]
        drawing.run([DrawAgain(best.trial, best.epoch, strengths=True)])
        check_place()
    found.save(folder)  # last: with it all is drawn
    return found


class _Drawing:
    """Gives looks to workers as these have time, and takes their answers. Who draws what changes nothing."""

    def __init__(
        self, study: Study, folder: StudyFolder, team: Team, board: Board, clock: Clock, check_place: Callable[[], None]
    ) -> None:
        self.study, self.folder, self.team, self.board, self._clock = study, folder, team, board, clock
        self._check_place = check_place
        self.left_out: dict[int, str] = {}
        self._retired: set[int] = set()
        self._tries: dict[DrawAgain, int] = {}
        self._todo: deque[DrawAgain] = deque()
        self._at_work: dict[int, DrawAgain] = {}

    def run(self, looks: list[DrawAgain]) -> None:
        """Until each of them is drawn, or left out."""
        self._todo = deque(looks)
        while self._todo or self._at_work:
            for worker in range(self.team.count):
                if self._todo and worker not in self._at_work and worker not in self._retired:
                    self._at_work[worker] = self._todo.popleft()
                    self.team.send(worker, self._at_work[worker])
            self._clock.tick()
            messages = self.team.receive(timeout=1.0)
            self._check_place()
            for worker, message in messages:
                self._take(worker, message)

    def _take(self, worker: int, message: object) -> None:
        look = self._at_work.get(worker)
        if isinstance(message, Unprepared):
            raise refused(self.study, message)
        if isinstance(message, Lost):
            self._lost(worker, message)
        elif look is None or not isinstance(message, DrawnAgain | Failed):
            return
        elif (message.number, message.epoch) == (look.number, look.epoch):
            del self._at_work[worker]
            if isinstance(message, Failed):
                self._failed(look, message.error, again=message.again, machine=message.machine)

    def _lost(self, worker: int, lost: Lost) -> None:
        look = self._at_work.pop(worker, None)
        if not lost.replaced:
            self._retired.add(worker)
            if len(self._retired) == self.team.count:
                raise WorkerError(f"no worker could start: {lost.reason}; details are in {self.folder.workers_log}")
        if look is not None:
            self._failed(look, f"its worker was lost: {lost.reason}", again=True, machine=False)

    def _failed(self, look: DrawAgain, error: str, *, again: bool, machine: bool) -> None:
        self._tries[look] = tries = self._tries.get(look, 0) + 1
        if again and not machine and tries <= _MOST_RETRIES:
            self._todo.appendleft(look)
        elif machine or look.number is None:
            raise WorkerError(f"{error}; every trial is kept: the same command goes on from there")
        elif look.strengths:
            self.board.note(f"trial {look.number} is not shown at other strengths: {error}")
        else:
            self.left_out[look.number] = error
            self.board.note(f"trial {look.number} is not drawn again: {error}")


def compared(
    study: Study,
    folder: StudyFolder,
    searched: Mapping[int, float],
    epochs: Mapping[int, int],
    left_out: Mapping[int, str],
) -> Finalists:
    """What the fresh images say, with a picture of them.

    Args:
        searched: score in the search, by trial. epochs: to ship, by trial.
        left_out: those that could not be drawn again.
    """
    base = FreshLook.load(FreshLook.file(folder, None, 0))
    found = {n: FreshLook.load(FreshLook.file(folder, n, epochs[n])) for n in searched if n not in left_out}
    looks = {number: look for number, look in found.items() if look is not None and np.isfinite(look.readings.score)}
    missing = dict.fromkeys(set(found) - set(looks), "its fresh images have no score")
    drawn = _drawn(looks, searched, epochs)
    one = next(iter(looks.values()), None)
    result = Finalists(
        settings=study.finalists.model_dump(mode="json"),
        drawn=drawn,
        left_out={**left_out, **missing},
        images=0 if one is None else one.images,
        prompts=0 if one is None else one.prompts,
        repeated=0 if one is None else one.repeated,
        base=None if base is None else base.readings.score,
        seconds=sum(look.seconds for look in (*looks.values(), *([] if base is None else [base]))),
    )
    return result


def _drawn(
    looks: Mapping[int, FreshLook], searched: Mapping[int, float], epochs: Mapping[int, int]
) -> tuple[Finalist, ...]:
    """The best first; of equal ones the one that the search put first."""
    order = sorted(looks, key=lambda number: (-looks[number].readings.score, -searched[number], number))
    if not order:
        return ()
    draws = np.stack([looks[number].draws for number in order])
    best = draws.argmax(axis=0)
    made = []
    for place, number in enumerate(order):
        low, high = (float(value) for value in np.quantile(draws[place], (0.05, 0.95)))
        own = looks[number].readings.channels.get(OWN_SCORE)
        made.append(
            Finalist(
                trial=number,
                epoch=epochs[number],
                searched=searched[number],
                score=looks[number].readings.score,
                low=low,
                high=high,
                best=float((best == place).mean()),
                behind=float((draws[place] < draws[0]).mean()),
                own=None if own is None else own.value,
            )
        )
    return tuple(made)

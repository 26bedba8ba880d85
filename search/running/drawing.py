"""Gives the looks of the finals to the study's workers: drawings, second trainings, twins."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import ceil

from search.errors import WorkerError
from search.record.clock import Clock
from search.record.events import DrawAgain, DrawnAgain, Failed, Lost, Unprepared
from search.record.record import StudyFolder
from search.running.progress import Board
from search.running.slots import refused
from search.running.workers import Team
from search.study.study import Study

_MOST_RETRIES = 3


class Drawing:
    """Gives looks to workers as these have time, and takes their answers. Who draws what changes nothing.

    Args:
        check_place: called before anything is written; raises where the study is not ours any more.
        begun: what workers are at already, whether it will be asked for or not.
        needed: modules that the verdict needs, which are imported while workers draw.
    """

    def __init__(
        self,
        study: Study,
        folder: StudyFolder,
        team: Team,
        board: Board,
        clock: Clock,
        check_place: Callable[[], None],
        begun: Mapping[int, DrawAgain] | None = None,
        needed: Sequence[str] = (),
    ) -> None:
        self.study, self.folder, self.team, self.board, self._clock = study, folder, team, board, clock
        self.check_place, self._needed = check_place, [*needed]
        self.left_out: dict[int, str] = {}
        self.not_retrained: dict[int, str] = {}
        self.not_twinned = ""
        self._retired: set[int] = set()
        self._tries: dict[DrawAgain, int] = {}
        self._todo: deque[DrawAgain] = deque()
        self._asked: list[DrawAgain] = []
        self._at_work: dict[int, list[DrawAgain]] = {worker: [look] for worker, look in (begun or {}).items()}

    def run(self, looks: list[DrawAgain]) -> None:
        """Until each of them is drawn, or left out. What is trained is shared out at once: a worker trains its share
        side by side."""
        self._asked, self._todo = looks, deque(look for look in looks if look not in self._begun())
        while self._todo or any(look in looks for look in self._begun()):
            for worker in range(self.team.count):
                if not self._todo or worker in self._at_work or worker in self._retired:
                    continue
                free = self.team.count - len(self._retired) - len(self._at_work)
                share = ceil(len(self._todo) / free) if self._todo[0].retrained or self._todo[0].twins else 1
                self._at_work[worker] = [self._todo.popleft() for _ in range(share)]
                for look in self._at_work[worker]:
                    self.team.send(worker, look)
            while self._needed:
                import_module(self._needed.pop())
            self._clock.tick()
            messages = self.team.receive(timeout=1.0)
            self.check_place()
            for worker, message in messages:
                self._take(worker, message)

    def _begun(self) -> list[DrawAgain]:
        return [look for each in self._at_work.values() for look in each]

    def _take(self, worker: int, message: object) -> None:
        if isinstance(message, Unprepared):
            raise refused(self.study, message)
        if isinstance(message, Lost):
            self._lost(worker, message)
        if not isinstance(message, DrawnAgain | Failed):
            return
        looks, answered = self._at_work.get(worker, []), (message.number, message.epoch, message.twin)
        for look in [look for look in looks if (look.number, look.epoch, look.twin) == answered]:
            looks.remove(look)
            if not looks:
                del self._at_work[worker]
            if isinstance(message, Failed) and look in self._asked:
                self._failed(look, message.error, again=message.again, machine=message.machine)

    def _lost(self, worker: int, lost: Lost) -> None:
        looks = self._at_work.pop(worker, [])
        if not lost.replaced:
            self._retired.add(worker)
            if len(self._retired) == self.team.count:
                raise WorkerError(f"no worker could start: {lost.reason}; details are in {self.folder.workers_log}")
        for look in [look for look in looks if look in self._asked]:
            self._failed(look, f"its worker was lost: {lost.reason}", again=True, machine=False)

    def _failed(self, look: DrawAgain, error: str, *, again: bool, machine: bool) -> None:
        self._tries[look] = tries = self._tries.get(look, 0) + 1
        if again and not machine and tries <= _MOST_RETRIES:
            self._todo.appendleft(look)
        elif machine or look.number is None:
            raise WorkerError(f"{error}; every trial is kept: the same command goes on from there")
        elif look.parts:
            pass  # whoever draws the picture comes to it again, and says so
        elif look.strengths:
            self.board.note(f"trial {look.number} is not shown at other strengths: {error}")
        elif look.twins:
            self.not_twinned = self.not_twinned or error
            self.board.note(f"a twin of trial {look.number} is not trained: {error}")
        elif look.retrained:
            self.not_retrained[look.number] = error
            self.board.note(f"trial {look.number} is not trained a second time: {error}")
        else:
            self.left_out[look.number] = error
            self.board.note(f"trial {look.number} is not drawn again: {error}")

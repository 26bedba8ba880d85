"""Three searches of one study on a virtual clock: kept runs are its trials, and measured seconds are its steps.

A *process* for each trial, which trains to the end and then draws every checkpoint; a *resident* Optuna objective on
each card with Optuna's own MedianPruner; *Onset*, whose workers train packs of trials side by side, with its own pruner
and stop at the onset. Each card has one worker. What a coordinator takes for itself (below 1 ms an event) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from math import ceil

import optuna

from benchmarks.look_replay import Outcome, Run, Trial, _curve
from benchmarks.simulated_times import Times
from search.running.trial_at_work import AHEAD
from search.tuning.peers import Peers
from search.tuning.pruner import PeerPruner

_FINALISTS = 4


@dataclass(frozen=True)
class Bill:
    """What a search took, and what it ships.

    Attributes:
        seconds: from start to verdict.
        card_seconds: for which a card was held: a worker of Onset holds its own to the verdict, the others theirs until
            no trial is left to begin.
        trained, looks: samples (one run's) and looks at checkpoints.
        quality: true share of right images of what ships, 0 where nothing does.
    """

    seconds: float
    card_seconds: float
    trained: int
    looks: int
    quality: float


@dataclass(frozen=True)
class Rules:
    """What of Onset is switched on. `pack`: trials that a worker trains at once."""

    pack: int = 8
    prune: bool = True
    stop: bool = True


@dataclass(frozen=True)
class Task:
    """A study: its trials in order, and how often an epoch repeats its photos."""

    runs: Sequence[Run]
    repeats: int = 1

    def samples(self, run: Run, epochs: int) -> int:
        """Samples in so many epochs of a run."""
        return epochs * run.case.num_photos * self.repeats


# --- a process for each trial


def by_processes(task: Task, cards: int, times: Times) -> Bill:
    """Each trial is trained to its end and then drawn at every checkpoint, by a process that loads everything."""
    free = [0.0] * cards
    for run in task.runs:
        trained = task.samples(run, run.horizon) * times.plain
        heapreplace(free, free[0] + times.load + trained + len(run.epochs) * times.drawn)
    best = max(((run.score(e), -i, e) for i, run in enumerate(task.runs) for e in run.epochs), default=None)
    trained_samples = sum(task.samples(run, run.horizon) for run in task.runs)
    looks = sum(len(run.epochs) for run in task.runs)
    quality = 0.0 if best is None else task.runs[-best[1]].quality(best[2])
    return Bill(max(free), sum(free), trained_samples, looks, quality)


# --- a resident objective


def resident(task: Task, cards: int, times: Times, pruner: optuna.pruners.BasePruner | None = None) -> Bill:
    """Each card keeps the base loaded and takes trial after trial; images at each checkpoint, Optuna's MedianPruner."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=pruner or optuna.pruners.MedianPruner())
    left = list(range(len(task.runs)))[::-1]
    trials: dict[int, tuple[optuna.Trial, Run, list[int]]] = {}
    best, trained, looks = (-1.0, 0.0), 0, 0
    free, ends = [(times.load, card) for card in range(cards)], [0.0] * cards
    heapify(free)
    while free:
        now, card = heappop(free)
        if card in trials:  # its trial has reached a checkpoint
            trial, run, epochs = trials[card]
            epoch = epochs.pop(0)
            trial.report(run.score(epoch), epoch)
            looks += 1
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                del trials[card]
            elif not epochs:
                score, at = max((run.score(e), e) for e in run.epochs)
                study.tell(trial, score)
                best = max(best, (score, run.quality(at)))
                del trials[card]
        if card not in trials and left:
            run = task.runs[left.pop()]
            trials[card] = study.ask(), run, list(run.epochs)
        if card not in trials:
            ends[card] = now
            continue
        _, run, epochs = trials[card]
        before = max((e for e in run.epochs if e < epochs[0]), default=0)
        samples = task.samples(run, epochs[0] - before)
        trained += samples
        heappush(free, (now + samples * times.plain + times.drawn, card))
    return Bill(max(ends), sum(ends), trained, looks, best[1])


# --- Onset


@dataclass(eq=False)
class _Seat:
    """A trial on a worker: epochs trained, the last checkpoints told and decided on, and how many wait for a word."""

    trial: Trial
    slot: _Slot
    at: int = 0
    looked: int = 0
    ahead: int = 0

    def __post_init__(self) -> None:
        self.checkpoints = frozenset(self.trial.run.epochs)

    @property
    def rests(self) -> bool:
        return self.at == self.trial.run.horizon or self.ahead > AHEAD


@dataclass(eq=False)
class _Slot:
    """A place on a worker, as the coordinator sees it: `clock` in epochs, and checkpoints told but not yet decided."""

    worker: _Worker
    clock: int = 0
    seat: _Seat | None = None
    told: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Worker:
    """One card: its trials, and what it is at. `turn`: counts what it has begun; what was broken off has an old one."""

    index: int
    seats: list[_Seat] = field(default_factory=list)
    work: str = ""
    at_work: list[_Seat] = field(default_factory=list)
    turn: int = 0


def onset(task: Task, cards: int, times: Times, rules: Rules) -> tuple[Bill, Outcome]:
    """Onset's coordinator and its workers, as `search.running` has them."""
    return _Onset(task, cards, times, rules).run()


class _Onset:
    """Decides in logical time (epochs of a slot, then number); workers train up to `AHEAD` checkpoints beyond that."""

    def __init__(self, task: Task, cards: int, times: Times, rules: Rules) -> None:
        self.task, self.times, self.rules = task, times, rules
        pruner = PeerPruner()
        self.peers = Peers(warmup=pruner.warmup, min_peers=pruner.min_peers, reports=pruner.reports)
        workers = min(cards, len(task.runs))
        self.width = min(rules.pack, ceil(len(task.runs) / workers))
        self.workers = [_Worker(index) for index in range(workers)]
        self.slots = [_Slot(self.workers[place % workers]) for place in range(workers * self.width)]
        self.trials: list[Trial] = []
        self.trained = self.looks = 0
        self.last_end = 0.0
        self.order: list[tuple[int, int, _Seat]] = []  # time of the next checkpoint, as it was noted, and whose it is
        self.events: list[tuple[float, int, int]] = []  # when, whose, and which of its turns

    def run(self) -> tuple[Bill, Outcome]:
        self._fill()
        ready = self.times.load + self.times.looked  # the first one sees the base; the others wait for it
        for worker in self.workers:
            self._next(ready, worker)
        while self.events:
            now, index, turn = heappop(self.events)
            if turn == self.workers[index].turn:
                self._done(now, self.workers[index])
        found, end = Outcome(tuple(self.trials)), self.last_end
        shown = min(_FINALISTS, len(found.ranked))
        if shown:
            end += (1 + ceil(shown / len(self.workers))) * self.times.fresh * self.times.image
        return Bill(end, end * len(self.workers), self.trained, self.looks, found.quality), found

    # --- a worker

    def _done(self, now: float, worker: _Worker) -> None:
        """What a worker was at is done; it does the next thing, or waits."""
        those, work, worker.work = worker.at_work, worker.work, ""
        for seat in those:
            if work == "train":
                seat.at += 1
                self.trained += self.task.samples(seat.trial.run, 1)
            elif seat in worker.seats:  # not stopped meanwhile
                seat.ahead += 1
                seat.slot.told.append(seat.at)
                self._decide(now)
        if not worker.work:
            self._next(now, worker)

    def _next(self, now: float, worker: _Worker) -> None:
        """A look that is due, else an epoch of all that need not wait, else nothing."""
        due = [seat for seat in worker.seats if seat.at in seat.checkpoints and seat.looked < seat.at]
        going = [seat for seat in worker.seats if not seat.rests]
        if due:
            worker.work, worker.at_work, seconds = "look", due[:1], self.times.looked
            due[0].looked = due[0].at
            self.looks += 1
        elif going:
            samples = max(self.task.samples(seat.trial.run, 1) for seat in going)
            worker.work, worker.at_work, seconds = "train", going, samples * self.times.step(self.width)
        else:
            return
        worker.turn += 1
        heappush(self.events, (now + seconds, worker.index, worker.turn))

    # --- the coordinator

    def _fill(self) -> None:
        for slot in self.slots:
            if slot.seat is None and len(self.trials) < len(self.task.runs):
                trial = Trial(len(self.trials), self.task.runs[len(self.trials)], slot.clock)
                self.trials.append(trial)
                self.peers.see(trial.number, _curve(trial.run))
                slot.seat, slot.told = _Seat(trial, slot), []
                slot.worker.seats.append(slot.seat)
                heappush(self.order, (trial.time, trial.number, slot.seat))

    def _decide(self, now: float) -> None:
        """Take events as long as the earliest one of all running trials has arrived."""
        woken: dict[int, _Worker] = {}
        while True:
            seat = self._due()
            if seat is None or not seat.slot.told:
                break
            slot, worker = seat.slot, seat.slot.worker
            slot.told.pop(0)
            seat.ahead -= 1
            woken[worker.index] = worker
            if self._ends(seat.trial):
                self.last_end, slot.clock = now, seat.trial.began + seat.trial.at
                worker.seats.remove(seat)
                slot.seat = None
                if worker.work == "train" and not any(other in worker.seats for other in worker.at_work):
                    worker.work, worker.turn = "", worker.turn + 1  # a trial leaves between two steps
                self._fill()
        for worker in woken.values():
            if not worker.work:
                self._next(now, worker)

    def _due(self) -> _Seat | None:
        """Whose next checkpoint comes first; a trial's time only rises."""
        while self.order:
            noted, number, seat = self.order[0]
            if seat.slot.seat is not seat:
                heappop(self.order)
            elif seat.trial.time == noted:
                return seat
            else:
                heapreplace(self.order, (seat.trial.time, number, seat))
        return None

    def _ends(self, trial: Trial) -> bool:
        """Whether a trial ends at its next checkpoint; as `search.running.trial_end.end_of`."""
        trial.at = trial.next
        trial.looked.append(trial.at)
        self.peers.reported(trial.number, trial.at, trial.run.score(trial.at))
        found = trial.run.onset(trial.at, trial.looked, confirmed=True) if self.rules.stop else None
        if found is not None:
            trial.state, trial.onset = "complete", found
        elif trial.at == trial.run.horizon:
            trial.state, trial.onset = "complete", trial.run.onset(trial.at, trial.looked, confirmed=False)
        elif self.rules.prune and self.peers.behind(trial.number):
            trial.state, trial.onset = "pruned", trial.run.onset(trial.at, trial.looked, confirmed=False)
        else:
            return False
        self.peers.ended(trial.number, failed=False)
        return True

"""Kept runs of the onset benchmark replayed as studies: what the pruner, the onset and the pick would have been, had
only some checkpoints' images been drawn.

The runs of one pack are a study's trials, in an order that a seed chooses, on two workers. Losses are read at every
checkpoint. Of reported packs those with twelve drawn checkpoints or more of each run are taken, and just these
checkpoints. Choosing packs keep five drawn checkpoints of a run: between these, what images say is interpolated over
log2 epoch, with noise of half the readings' own standard error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.onset_behaviour import DENSE
from benchmarks.onset_packs import KEPT
from benchmarks.onset_plan import CHOOSING, EXTREME, OVERFITTING, QUIET, REPORTED
from benchmarks.onset_truth import Case, load_cases
from benchmarks.strict_kept import Judged
from metrics.channels.copying import copying_null
from metrics.checkpoint.score import Limits, score_within
from metrics.onset import onset as onset_module
from metrics.onset.onset import confirmed_onset, find_onset
from metrics.onset.turns import Onset
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.tuning.peers import Curve, Peers, _median_without, spent
from search.tuning.pruner import PeerPruner
from search.verdict.decision import LEAST_SCORE

GROUPS = {"choosing": CHOOSING, "reported": REPORTED}
_TRIALS = 4
CHECKPOINTS, WORKERS, OWN_IMAGES = 16, 2, 20  # images of captions of photos (`onset_reader`)
NOISE = 0.5  # of a reading's standard error: neighbours are drawn with the same prompts and seeds
SETTINGS = {**OVERFITTING, **EXTREME, **QUIET}


@contextlib.contextmanager
def losses_read_once() -> Iterator[None]:
    """What the onset reads of losses hangs on no image, and takes nearly all of its time: it is remembered."""
    names = ("onset_curves", "_loss_turn", "disagreement")
    kept = {name: getattr(onset_module, name) for name in names}
    for name, function in kept.items():
        setattr(onset_module, name, _remembering(function))
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(onset_module, name, function)


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    found: dict[Any, tuple[Any, Any]] = {}

    def ask(first: Any, *others: Any, **named: Any) -> Any:
        key = [id(first), str(others), str(named)]
        if isinstance(first, Trajectory):  # the same arrays of losses, up to the same checkpoint
            key = [id(first.readings[-1].items["shifted_loss"]), len(first), *key[1:]]
        if tuple(key) not in found:
            found[tuple(key)] = function(first, *others, **named), first  # kept, so that its id stays its own
        return found[tuple(key)][0]

    return ask


@dataclass(frozen=True)
class Rule:
    """When images are drawn while a trial runs; the epoch to ship is looked at in any case, as the trial ends.

    Attributes:
        growth: at the first checkpoint, and wherever the epoch is at least so many times that of the last look; 1 is
            every checkpoint.
        due: also where the pruner might end the trial.
        learned: as a complete trial ends, also before the first look that shows the subject as learned, until the
            checkpoint right before was looked at.
    """

    growth: float = 1.0
    due: bool = False
    learned: bool = False

    def drawn_anyway(self, epoch: int, looked: Sequence[int]) -> bool:
        return not looked or epoch >= self.growth * looked[-1]

    def __str__(self) -> str:
        if self.growth == 1.0:
            return "always"
        return f"× {self.growth:g}" + ", near pruning" * self.due + ", where learned" * self.learned


ALWAYS = Rule()


@dataclass(frozen=True)
class Run:
    """One kept run as a trial: the base and its checkpoints with all readings."""

    case: Case
    readings: tuple[Readings, ...]

    @property
    def epochs(self) -> list[int]:
        return [each.epoch for each in self.readings[1:]]

    @property
    def horizon(self) -> int:
        return self.readings[-1].epoch

    @cached_property
    def losses(self) -> tuple[Readings, ...]:
        """The same without what images say."""
        return tuple(without_images(each) for each in self.readings)

    @cached_property
    def _found(self) -> dict[tuple[int, frozenset[int], bool], Onset | None]:
        return {}

    def onset(self, until: int, looked: Sequence[int], *, confirmed: bool) -> Onset | None:
        """As the coordinator asks for it, of the checkpoints up to an epoch with the images of some."""
        seen = frozenset(epoch for epoch in looked if epoch <= until)
        key = (until, seen, confirmed)
        if key not in self._found:
            pairs = zip(self.readings, self.losses, strict=True)
            shown = [full if full.epoch in seen or full.epoch == 0 else bare for full, bare in pairs]
            trajectory = Trajectory(tuple(each for each in shown if each.epoch <= until))
            self._found[key] = confirmed_onset(trajectory) if confirmed else find_onset(trajectory)
        return self._found[key]

    def score(self, epoch: int) -> float:
        return next(each.score for each in self.readings if each.epoch == epoch)

    def quality(self, epoch: int) -> float:
        """Share of images in new contexts with everything right."""
        return Judged(self.case).at(epoch)


def without_images(readings: Readings) -> Readings:
    losses = {name: own for name, own in readings.channels.items() if name.endswith("_loss")}
    return replace(readings, channels=losses, score=float("nan"))


def load_runs(group: str, most: int | None = None) -> dict[str, list[Run]]:
    """Pack to its runs; of `most` packs."""
    found: dict[str, list[Case]] = {}
    for case in load_cases(KEPT):
        if case.concept in GROUPS[group] and "looked_right" in case.arrays:
            found.setdefault(case.pack, []).append(case)
    packs: dict[str, list[Run]] = {}
    for pack, cases in found.items():
        dense = max(len(case.arrays["looked_epochs"]) for case in cases) >= DENSE
        if len(cases) >= _TRIALS and dense == (group == "reported") and (most is None or len(packs) < most):
            packs[pack] = [_run(case, dense) for case in cases]
    return packs


def _run(case: Case, dense: bool) -> Run:
    limits = Limits(
        copying=min(0.5 + 1.645 * copying_null(OWN_IMAGES, case.num_photos), 0.95),
        colour=max(3.0, case.images[0].get("colour", 0.0)),
        diversity=0.0,
        weights={},
    )
    looked, trained = case.arrays["looked_epochs"].tolist(), case.epochs[case.epochs > 0].tolist()
    places = np.unique(np.linspace(0, len(trained) - 1, min(CHECKPOINTS, len(trained))).round().astype(int))
    grid = looked if dense else [trained[place] for place in places]
    images = case.images if dense else _between(case, grid)
    readings = []
    for each in replace(case, images=images).trajectory(contexts=True).readings:
        if each.epoch in (0, *grid):
            values = {name: own.value for name, own in each.channels.items()}
            readings.append(replace(each, score=score_within(limits, values)))
    return Run(case, tuple(readings))


def _between(case: Case, grid: Sequence[int]) -> dict[int, dict[str, float]]:
    """What images would have said at the checkpoints of `grid`."""
    looked = sorted(case.images)
    axis, wanted = np.log2(np.maximum(looked, 0.5)), np.log2(np.maximum(grid, 0.5))
    names = [n for n in case.images[looked[-1]] if all(f"{n}_low" in case.images[e] for e in looked)]
    luck = np.random.default_rng([sum(map(ord, case.pack + case.run))])
    found: dict[int, dict[str, float]] = {0: dict(case.images[0])} | {epoch: {} for epoch in grid}
    for name in names:
        value, low, high = (
            np.interp(wanted, axis, [case.images[e][f"{name}{part}"] for e in looked]) for part in ("", "_low", "_high")
        )
        off = NOISE * (high - low) / (2 * 1.645) * luck.normal(size=len(grid))
        for row, epoch in enumerate(grid):
            for part, values in (("", value), ("_low", low), ("_high", high)):
                found[epoch][f"{name}{part}"] = float(values[row] + off[row])
    return found


@dataclass
class Trial:
    """A trial as far as it has come: its place in the order, and the epochs whose images were drawn."""

    number: int
    run: Run
    began: int
    at: int = 0
    looked: list[int] = field(default_factory=list)
    state: str = "running"
    onset: Onset | None = None

    @property
    def next(self) -> int:
        return next(epoch for epoch in self.run.epochs if epoch > self.at)

    @property
    def time(self) -> int:
        return self.began + self.next

    @property
    def score(self) -> float | None:
        """At its epoch to ship; None where it ships nothing."""
        if self.state != "complete" or self.onset is None or self.onset.status == "never_learned":
            return None
        score = self.run.score(self.onset.best)
        return score if score >= LEAST_SCORE else None


@dataclass(frozen=True)
class Outcome:
    """What a study came to."""

    trials: tuple[Trial, ...]

    @cached_property
    def ranked(self) -> list[Trial]:
        """Those that ship, the best first."""
        shipped = [(score, trial) for trial in self.trials if (score := trial.score) is not None]
        return [trial for _, trial in sorted(shipped, key=lambda pair: (-pair[0], pair[1].number))]

    @property
    def verdict(self) -> tuple[int, int] | None:
        """The winner and the epoch that it ships."""
        best = self.ranked[0] if self.ranked else None
        return None if best is None or best.onset is None else (best.number, best.onset.best)

    @property
    def finalists(self) -> set[int]:
        return {trial.number for trial in self.ranked[:4]}

    @property
    def looks(self) -> int:
        return sum(len(trial.looked) for trial in self.trials)

    @property
    def epochs(self) -> int:
        return sum(trial.at for trial in self.trials)

    @property
    def quality(self) -> float:
        """True quality of what ships; none where nothing does."""
        best = self.ranked[0] if self.ranked else None
        return 0.0 if best is None or best.onset is None else best.run.quality(best.onset.best)


class Compared(Peers):
    """Trials as the pruner compares them, which also says where it need not be asked."""

    def may_fall_behind(self, number: int, epoch: int) -> bool:
        """Whether `behind` may say yes of a trial once it reports this later epoch, whatever the score there."""
        mine = self._curves[number]
        progress = spent(mine.schedule, epoch / mine.horizon, mine.cycles)
        if len(mine.scores) + 1 < self.reports or progress < self.warmup:
            return False
        place = self._place(progress)
        own = place.running.get(number)
        kin, others = place.of[mine.kind], place.of[""]
        among = kin if len(kin) - (own is not None) >= self.min_peers else others
        if len(among) - (own is not None) < self.min_peers:
            return False
        return not mine.scores or mine.best < _median_without(among, own)


def replay(runs: Sequence[Run], rule: Rule, pruner: PeerPruner | None = None) -> Outcome:
    """A study of these trials in this order; `pruner` is the search's own by default."""
    pruner = pruner or PeerPruner()
    peers = Compared(warmup=pruner.warmup, min_peers=pruner.min_peers, reports=pruner.reports)
    trials, busy, clocks = list[Trial](), dict[int, Trial](), [0] * WORKERS
    while len(trials) < len(runs) or busy:
        for worker, clock in enumerate(clocks):
            if worker not in busy and len(trials) < len(runs):
                trials.append(Trial(len(trials), runs[len(trials)], clock))
                busy[worker] = trials[-1]
                peers.see(trials[-1].number, _curve(trials[-1].run))
        worker = min(busy, key=lambda each: (busy[each].time, busy[each].number))
        trial = busy[worker]
        if _ends(trial, rule, peers):
            peers.ended(trial.number, failed=False)
            clocks[worker] = trial.began + trial.at
            del busy[worker]
    return Outcome(tuple(trials))


def _curve(run: Run) -> Curve:
    settings = SETTINGS[run.case.run]
    return Curve(
        run.horizon, settings.get("lr_scheduler", "constant"), float(settings.get("num_cycles", 1)), {}, runs=True
    )


def _ends(trial: Trial, rule: Rule, peers: Compared) -> bool:
    """The next checkpoint of a trial; whether it ends there."""
    trial.at = trial.next
    drawn = rule.drawn_anyway(trial.at, trial.looked) or (rule.due and peers.may_fall_behind(trial.number, trial.at))
    if drawn:
        _look(trial, trial.at, peers)
    while True:
        state, onset = _end_of(trial, drawn, peers)
        if onset is None:
            return False
        wanted = _wanted(trial, onset, rule, state)
        if not wanted:
            trial.state, trial.onset = state, onset
            return True
        for epoch in wanted:
            _look(trial, epoch, peers)


def _wanted(trial: Trial, onset: Onset, rule: Rule, state: str) -> list[int]:
    """Checkpoints of a trial that is about to end whose images are still to be drawn."""
    found = [] if onset.best in trial.looked else [onset.best]
    if rule.learned and state == "complete" and onset.learned is not None:
        before = max((e for e in trial.looked if e < onset.learned), default=0)
        between = [e for e in trial.run.epochs if before < e < onset.learned]
        found += [e for e in between[len(between) // 2 :][:1] if e not in found]
    return found


def _end_of(trial: Trial, drawn: bool, peers: Peers) -> tuple[str, Onset | None]:
    """As `search.running.trial_end.end_of`."""
    onset = trial.run.onset(trial.at, trial.looked, confirmed=True)
    if onset is not None:
        return "complete", onset
    if trial.at == trial.run.horizon:
        return "complete", trial.run.onset(trial.at, trial.looked, confirmed=False)
    if drawn and peers.behind(trial.number):
        return "pruned", trial.run.onset(trial.at, trial.looked, confirmed=False)
    return "", None


def _look(trial: Trial, epoch: int, peers: Peers) -> None:
    trial.looked = sorted({*trial.looked, epoch})
    peers.reported(trial.number, epoch, trial.run.score(epoch))


def studies(packs: Mapping[str, Sequence[Run]], seeds: int) -> Iterator[tuple[str, list[Run]]]:
    """Each pack's runs in so many orders."""
    for pack, runs in packs.items():
        for seed in range(seeds):
            order = np.random.default_rng([seed, len(runs)]).permutation(len(runs))
            yield pack, [runs[row] for row in order]


def compare(packs: Mapping[str, Sequence[Run]], rule: Rule, seeds: int) -> dict[str, float]:
    """What a rule changes against looking always, over studies.

    Shares of studies with the same `verdict` (winner and epoch to ship) and the same four best trials (`finalists`);
    shares of trials that end alike (`ends`), and of those complete in both, with the same onsets (`onset`), epoch from
    which the subject is learned (`learned`) and epoch to ship (`ships`). Ratios of looks and of trained epochs.
    `quality`: how much better what ships truly is, with a 90 % interval (whole packs are resampled).
    """
    rows: list[dict[str, float]] = []
    names: list[str] = []
    for pack, runs in studies(packs, seeds):
        before, after = replay(runs, ALWAYS), replay(runs, rule)
        pairs = list(zip(before.trials, after.trials, strict=True))
        both = [(a.onset, b.onset) for a, b in pairs if a.state == b.state == "complete" and a.onset and b.onset]
        rows.append(
            {
                "verdict": before.verdict == after.verdict,
                "finalists": before.finalists == after.finalists,
                "ends": float(np.mean([(a.state, a.at) == (b.state, b.at) for a, b in pairs])),
                "onset": float(np.mean([(a.context, a.memory) == (b.context, b.memory) for a, b in both]))
                if both
                else 1.0,
                "learned": float(np.mean([a.learned == b.learned for a, b in both])) if both else 1.0,
                "ships": float(np.mean([a.best == b.best for a, b in both])) if both else 1.0,
                "looks": after.looks / before.looks,
                "epochs": after.epochs / before.epochs,
                "quality before": before.quality,
                "quality": after.quality - before.quality,
            }
        )
        names.append(pack)
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    quality = np.array([row["quality"] for row in rows])
    means = np.array([quality[[own == pack for own in names]].mean() for pack in dict.fromkeys(names)])
    draws = means[np.random.default_rng(0).integers(len(means), size=(2000, len(means)))].mean(axis=1)
    low, high = np.quantile(draws, [0.05, 0.95])
    return found | {"quality, low": float(low), "quality, high": float(high), "studies": len(rows), "packs": len(means)}

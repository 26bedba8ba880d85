"""The onset of overfitting: from a trajectory of readings to two epochs with intervals, and the epoch to ship.

`find_onset` looks at a whole trajectory, `confirmed_onset` at one that is still growing. Both are pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from metrics.onset.behaviour import BehaviourTurn, behaviour_turn, learned_row
from metrics.onset.copied import copying_at
from metrics.onset.curves import Kind, OnsetCurves, onset_curves
from metrics.onset.plateau import (
    FEW,
    RISE,
    STEADY,
    PlateauEnd,
    least_rise,
    log_axis,
    plateau_end,
    replicate_spread,
    surely_rises,
)
from metrics.onset.replicates import Curves
from metrics.onset.sentences import FLAT, sentence, worse_sentence
from metrics.onset.shipping import shippable
from metrics.onset.turns import BEHAVIOURS, DEFAULT_SHIP, MADE_UP, REAL, Onset, OnsetStatus, Ship, Turn, TurnStatus
from metrics.onset.witnesses import disagreement
from metrics.trajectory.trajectory import Trajectory

FOUND_SHARE = 0.6  # of the replicates have to turn; set on planted trajectories (tests/metrics/planted_onsets.py)
CONFIRMED_SHARE, CONFIRMED_MARGIN = 0.97, 2.0  # while a trial runs: share, and jitters above the threshold at the end
# Half an interval is the sum's own error and this share of the replicates' standard deviation, in octaves: replicates
# add their noise to a curve that has noise already, so alone they are too wide where photos are few. Chosen likewise.
SPREAD_SHARE = 0.5
COPIES = ("copying", "composition")
SURE = 1.645  # standard errors, 95 %: with one, every fifth flat curve of five checkpoints seemed to turn
LAST, CLEARLY = 3, 4.0  # checkpoints, and jitters: a loss that never fell ends clearly worse than the base
SURELY = 0.95  # of the replicates have to be worse than the base throughout, or to rise by what is no share of a dip


def find_onset(trajectory: Trajectory, *, seed: int = 0, ship: Ship = DEFAULT_SHIP) -> Onset:
    """Both onsets of a whole trajectory, the epoch to ship, and a sentence.

    Losses place the onsets: a valley is fitted, its plateau ends where it has risen by max(0.2 %, 15 % of its depth),
    if it rises by more than the checkpoints' own noise explains.
    Memory is read from `heldout_loss`; contexts from 0.65 `shifted_loss` + 0.3 `context_loss` + 0.05 `heldout_loss`, or
    else from `shifted_loss` + 0.4 `heldout_loss`, or, without held-out photos, from `shifted_loss` and what `fidelity`
    says has been learned (`metrics.onset.curves.SUMS`). Copying and composition together speak for memory where they
    surely turn before the loss. Without losses the behavioural channels speak alone: copying for memory, the second
    one that turns for contexts. With fewer than six checkpoints a paired test of the checkpoints takes the fit's place.
    Where moved subjects and real held-out contexts surely contradict each other (`metrics.onset.witnesses`), the real
    ones alone place the onset in new contexts. Whether training photos come back in drawings is read by itself
    (`metrics.onset.copied.copying_at`) and moves neither onset nor the epoch to ship.

    Args:
        trajectory: at least one checkpoint.
        seed: of the bootstrap; the same trajectory and seed give the same onset.
        ship: which epoch is the one to ship (`metrics.onset.shipping.shippable`).

    >>> import numpy as np
    >>> from metrics.trajectory.readings import Reading, Readings
    >>> from metrics.trajectory.trajectory import Trajectory
    >>> losses = {0: 0, 1: -0.1, 2: -0.2, 4: -0.3, 6: -0.35, 8: -0.36, 12: -0.35, 16: -0.3, 24: -0.2, 32: -0.1}
    >>> def at(epoch, loss):  # six held-out photos, ln ratio to the base
    ...     each = {"heldout_loss": np.full(6, float(loss))}
    ...     return Readings(epoch, 1e-3 * epoch, {"heldout_loss": Reading(loss, loss, loss)}, each)
    >>> onset = find_onset(Trajectory(tuple(at(*each) for each in losses.items())))
    >>> onset.status, onset.memory.status, onset.context.status, onset.best
    ('found', 'found', 'unmeasured', 12)
    """
    return _judge(trajectory, seed, FOUND_SHARE, 0.0, ship).told(trajectory, seed)


def confirmed_onset(trajectory: Trajectory, *, seed: int = 0, ship: Ship = DEFAULT_SHIP) -> Onset | None:
    """The onset of a trajectory that is still growing, once it is certain enough to stop the trial; None before.

    Certain enough: the subject is learned, there are checkpoints enough for a fit, almost every replicate has turned
    and ends clear of the threshold by twice a checkpoint's jitter, and the last two checkpoints lie behind the onset
    (which may lie at the first). Set on planted nulls, of which at most
    5 % of whole trajectories are ever stopped (tests/metrics/onset/test_onset.py).
    """
    epochs = trajectory.epochs
    if (epochs > 0).sum() < FEW:
        return None
    judged = _judge(trajectory, seed, CONFIRMED_SHARE, CONFIRMED_MARGIN, ship)
    onset = judged.onset
    if onset.status not in ("found", "at_start") or onset.learned is None or onset.epoch is None:
        return None
    if epochs[-2] <= max(onset.epoch, onset.learned):
        return None
    return judged.told(trajectory, seed)


@dataclass(frozen=True)
class _Judged:
    """An onset before copies are looked for, which takes as long as all else and is not asked for as a trial runs.

    `note`, `worse`: what the sentence has to say besides.
    """

    onset: Onset
    note: str
    worse: str

    def told(self, trajectory: Trajectory, seed: int) -> Onset:
        """With what copies there are, and the sentence."""
        onset = self.onset
        if onset.status != "never_learned":
            onset = replace(onset, copying=copying_at(trajectory, onset.best, seed=seed))
        said = sentence(onset, self.note, trajectory.unit, int(trajectory.epochs[-1]), self.worse)
        return replace(onset, sentence=said)


def _judge(trajectory: Trajectory, seed: int, share: float, margin: float, ship: Ship) -> _Judged:
    if not len(trajectory):
        raise ValueError("a trajectory needs at least one checkpoint")
    unmeasured = Turn("unmeasured")
    losses = onset_curves(trajectory, seed=seed)
    turns: dict[Kind, Turn] = {"context": unmeasured, "memory": unmeasured}
    turns |= {kind: _loss_turn(read, share, margin) for kind, read in losses.items()}
    contradiction = None
    if "context" in losses and {MADE_UP, REAL} <= set(losses["context"].channels):
        real = onset_curves(trajectory, seed=seed, ignoring=(MADE_UP,))["context"]
        by_real = _loss_turn(real, share, margin)
        dated = [turn.epoch for turn in (turns["context"], by_real) if turn.epoch is not None]
        contradiction = disagreement(trajectory, dated, seed=seed)
        if contradiction is not None:
            losses["context"], turns["context"] = real, by_real
    row, by = learned_row(trajectory, {kind: read.measured for kind, read in losses.items()}, turns["memory"].epoch)
    flat = by == "assumed" and bool(losses) and all(turn.epoch is None for turn in turns.values())
    if flat:
        row, by = None, ""
    learned = None if row is None else int(trajectory.epochs[row])
    alone = turns["context"].channels == ("shifted_loss",)
    if alone and (turns["context"].epoch or np.inf) < (learned or np.inf):
        turns["context"] = unmeasured  # it saw contexts being forgotten while the subject was still being learned
    context, memory = turns["context"], turns["memory"]
    turned = {turn.channels[0]: turn.epoch for turn in turns.values() if turn.epoch is not None}
    if row is not None:
        seen = {channel: at for channel in BEHAVIOURS if (at := behaviour_turn(trajectory, channel, row)) is not None}
        turned |= {channel: at.epoch for channel, at in seen.items()}
        context, memory = _with_behaviour(trajectory, context, memory, seen)

    fidelity = trajectory.values("fidelity")[trajectory.epochs > 0, 0]
    judged = bool(np.isfinite(fidelity).any())
    never_fell = any(_ends_worse(read.curves) for kind, read in losses.items() if turns[kind].epoch is not None)
    status = _status({context.status, memory.status}, learned, goes_wrong=never_fell and not judged)
    worse = FLAT if flat else worse_sentence([t for t in turns.values() if t.status == "at_start"], trajectory.unit)
    if status == "never_learned":
        context = memory = unmeasured
        turned = {}
    likeness = float(np.nanmax(fidelity)) if judged else None
    onset = Onset(
        status, context, memory, learned, 0, turned, learned_by=by, disagreement=contradiction, likeness=likeness
    )
    chosen = shippable(trajectory, onset, losses, ship)
    onset = replace(onset, best=chosen.best, safe=chosen.safe, alike=chosen.alike, ship=chosen.ship)
    return _Judged(onset, chosen.note, worse)


def _loss_turn(read: OnsetCurves, share: float, margin: float) -> Turn:
    channels, curves = read.channels, read.curves
    epochs = curves.epochs
    first = float(epochs[epochs > 0][0]) if (epochs > 0).any() else float(epochs[0])
    if epochs[0] == 0 and (curves.replicates[:, 1:].min(axis=1) > RISE).mean() >= SURELY:
        return Turn("at_start", first, 0.0, float(epochs[1]), channels)
    if (epochs > 0).sum() < FEW:
        return _few_checkpoints(channels, curves, read.own_error)
    end = _plateau_that_ends(curves, share, margin)
    if end is None:
        return Turn("beyond", channels=channels)
    ends, turns = end.log_epoch[1:], np.isfinite(end.log_epoch)
    point = float(end.log_epoch[0]) if turns[0] else float(np.median(ends[turns[1:]]))
    axis = log_axis(epochs)
    half = read.own_error + SPREAD_SHARE * replicate_spread(end, epochs)
    low = float(2 ** max(point - half, axis[0]))
    high = float(2 ** (point + half)) if point + half <= axis[-1] else None
    if 2**point <= first or (epochs[0] > 0 and end.bottom[0] == 0 and 2**point <= epochs[1]):
        return Turn("at_start", first, float(epochs[0]), None if high is None else max(high, first), channels)
    return Turn("found", float(2**point), low, high, channels)


def _plateau_that_ends(curves: Curves, share: float, margin: float) -> PlateauEnd | None:
    """The end of a plateau that is left for sure; None without one. Of a loss that does not rise by its share of a huge
    dip a steady rise is enough; but no trial is stopped for that."""
    if not surely_rises(curves.mean, curves.epochs, curves.jitter):
        return None
    end = plateau_end(curves.stacked, curves.epochs, curves.jitter)
    if (end.excess[1:] > margin * curves.jitter).mean() >= share:
        return end
    steady = plateau_end(curves.stacked, curves.epochs, curves.jitter, STEADY)
    return steady if margin == 0.0 and (steady.excess[1:] > 0).mean() >= SURELY else None


def _few_checkpoints(channels: tuple[str, ...], curves: Curves, own_error: float) -> Turn:
    """A paired test: the first later checkpoint that is surely worse than the best, if the last one is, too."""
    epochs, mean = curves.epochs, curves.mean
    best = int(mean.argmin())
    rise = float(least_rise(mean[0] - mean[best], STEADY))
    later = np.arange(best + 1, len(mean))
    paired = curves.replicates[:, later] - curves.replicates[:, [best]]
    worse = later[(mean[later] - mean[best] > rise) & (mean[later] - mean[best] > SURE * paired.std(axis=0))]
    if not worse.size or worse[-1] != len(mean) - 1:
        return Turn("beyond", channels=channels)
    at = int(worse[0])
    axis = log_axis(epochs)
    part = np.clip(rise / max(mean[at] - mean[at - 1], 1e-12), 0, 1) if at == best + 1 else 0.5
    epoch = float(2.0 ** (axis[at - 1] + part * (axis[at] - axis[at - 1])))
    first, factor = float(epochs[epochs > 0][0]), 2**own_error
    low = min(float(epochs[max(best - 1, 0)]), epoch / factor)
    high = max(float(epochs[min(at + 1, len(epochs) - 1)]), epoch * factor)
    if best == 0 or epoch <= first:
        return Turn("at_start", first, float(epochs[0]), float(epochs[at]), channels)
    return Turn("found", epoch, low, high if high <= epochs[-1] and at + 1 < len(epochs) else None, channels)


def _with_behaviour(
    trajectory: Trajectory, context: Turn, memory: Turn, seen: Mapping[str, BehaviourTurn]
) -> tuple[Turn, Turn]:
    """Lets the behavioural channels speak where no loss does, copying alone for memory, and copying and composition
    together where they surely come before the loss: photos that are reproduced have been memorised."""
    measured = [name for name in BEHAVIOURS if np.isfinite(trajectory.values(name)[:, 0]).any()]
    if context.status == "unmeasured" and len(measured) >= 2:
        second = sorted(seen, key=lambda name: seen[name].epoch)[:2]
        context = (
            _behaviour_turn_of(seen, tuple(second)) if len(second) == 2 else Turn("beyond", channels=tuple(measured))
        )
    held_out = np.isfinite(trajectory.values("heldout_loss")[:, 0]).any()
    if not held_out and "copying" in measured:
        memory = _behaviour_turn_of(seen, COPIES[:1]) if "copying" in seen else Turn("beyond", channels=COPIES[:1])
    elif all(name in seen for name in COPIES):
        reproduced = _behaviour_turn_of(seen, COPIES)
        memory = reproduced if _surely_before(reproduced, memory) else memory
    return context, memory


def _surely_before(turn: Turn, other: Turn) -> bool:
    if other.status == "unmeasured" or turn.high is None:
        return False
    return other.epoch is None or turn.high < (other.low or 0.0)


def _behaviour_turn_of(seen: Mapping[str, BehaviourTurn], names: tuple[str, ...]) -> Turn:
    """All of them together: when the last one has turned."""
    together = [seen[name] for name in names]
    high = max(turn.high for turn in together)
    low, epoch = max(turn.low for turn in together), max(turn.epoch for turn in together)
    return Turn("found", epoch, low, None if np.isinf(high) else high, names)


def _ends_worse(curves: Curves) -> bool:
    """Whether the last checkpoints are worse than the base, by more than luck."""
    if (curves.epochs > 0).sum() < FEW:
        return True  # the paired test has said so
    rise = float(np.median(curves.mean[-LAST:]) - curves.mean[0])
    return rise > max(RISE, CLEARLY * curves.jitter)


def _status(statuses: set[TurnStatus], learned: int | None, *, goes_wrong: bool) -> OnsetStatus:
    """Of both turns' `statuses`. `goes_wrong`: losses get worse than the base's, and no images were judged. Then they
    do not say that nothing was learned."""
    if learned is None and not goes_wrong:
        return "never_learned"
    for status in ("at_start", "found", "beyond"):
        if status in statuses:
            return status
    return "unmeasured"

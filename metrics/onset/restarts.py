"""Restarting schedules: takes out of a loss what only swings with the learning rate's phase."""

from __future__ import annotations

import numpy as np

from metrics.onset.replicates import Curves, checkpoint_jitter
from metrics.onset.valley import fit_valley

SWING = 0.3  # of the largest rate: it has to fall and rise again by this much to count as a restart


def restarts(rates: np.ndarray) -> bool:
    """Whether the learning rate falls and then rises again. A warm-up, which only rises, is none.

    Args:
        rates: [K] mean learning rate before each checkpoint.
    """
    fallen = np.maximum.accumulate(rates) - rates
    lowest_since = np.minimum.accumulate(np.where(fallen > SWING * rates.max(), rates, np.inf))
    return bool((rates - lowest_since > SWING * rates.max()).any())


def restart_epochs(epochs: np.ndarray, effort: np.ndarray) -> list[float]:
    """The checkpoints after which the learning rate jumps up again, having fallen; none of a schedule without restarts.

    Args:
        epochs: [K] increasing. effort: [K] effective sum of learning rates at them; NaN where that is not known.

    >>> import numpy as np
    >>> restart_epochs(np.arange(7), np.array([0, 1, 1.5, 1.6, 2.6, 3.1, 3.2]))
    [3.0]
    """
    if len(epochs) < 3 or not np.all(np.isfinite(effort)):
        return []
    rates = np.maximum(np.diff(effort), 0) / np.diff(epochs)
    swing = SWING * rates.max()
    found: list[float] = []
    peak = low = float(rates[0])
    at = 0
    for row, rate in enumerate(rates.tolist()):
        if peak - low > swing and rate - low > swing:
            found.append(float(epochs[at + 1]))
            peak = low = rate
        elif rate <= low:
            low, at = rate, row
        if rate > peak:
            peak = low = rate
            at = row
    return found


def without_phase(curves: Curves, effort: np.ndarray) -> Curves:
    """The curves as they would be at the end of a cycle; unchanged when the schedule does not restart.

    The loss of noisy descent carries a part proportional to the rate (it is gone at a cycle's end and back after a
    restart). That part is fitted together with the valley: the factor whose removal leaves the best valley. All of it
    is taken out, since the base has none: a mean of it left in would make the valley shallower than it is.

    Args:
        curves: one channel. effort: [K] effective sum of learning rates at its checkpoints.
    """
    steps = np.diff(curves.epochs)
    if len(steps) < 5 or not np.all(np.isfinite(effort)):
        return curves
    rates = np.maximum(np.diff(effort), 0) / steps
    if rates.max() <= 0 or not restarts(rates):
        return curves
    shares = rates / rates.max()
    first = shares[0] if curves.epochs[0] > 0 else 0.0  # of a table without the base: what all is compared with swings
    phase = np.concatenate([[0.0], shares - first])
    largest = 2 * float(np.ptp(curves.mean[1:]))
    factors = np.linspace(0, largest, 81)
    candidates = curves.mean[1:] - factors[:, None] * phase[1:]
    factor = float(factors[int(np.argmin(fit_valley(candidates).error))])
    mean = curves.mean - factor * phase
    return curves._replace(
        mean=mean, replicates=curves.replicates - factor * phase, jitter=checkpoint_jitter(mean, curves.epochs)
    )

"""What people do instead: rules that pick an epoch from the same readings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.onset_truth import Case

Rule = Callable[[Case], float | None]
"""The onset that a rule names, in epochs; None when it abstains."""


def heldout_loss(case: Case) -> np.ndarray:
    """[T] mean ln loss ratio of four held-out photos."""
    return case.arrays["heldout"][:, :4].astype(np.float64).mean(axis=(1, 2))


def lowest_loss(case: Case) -> float | None:
    """The epoch of the smallest held-out loss on four photos."""
    return _lowest(case, heldout_loss(case))


def lowest_context_loss(case: Case) -> float | None:
    """The epoch of the smallest loss on photos in contexts of their own."""
    return _lowest(case, case.arrays["context"].astype(np.float64).mean(axis=(1, 2)))


def _lowest(case: Case, losses: np.ndarray) -> float:
    return float(case.epochs[max(int(losses.argmin()), 1)])


def patience(checkpoints: int) -> Rule:
    """Early stopping: the last best epoch before `checkpoints` checkpoints in a row without a new best."""

    def rule(case: Case) -> float | None:
        losses, best = heldout_loss(case), 0
        for row in range(1, len(losses)):
            if losses[row] < losses[best]:
                best = row
            elif row - best >= checkpoints:
                return float(case.epochs[max(best, 1)])
        return None

    return rule


def most_alike(case: Case) -> float | None:
    """The epoch whose images are most like the photos by CLIP."""
    seen = {epoch: values["clip_image"] for epoch, values in case.images.items() if epoch and "clip_image" in values}
    return float(max(seen, key=lambda epoch: seen[epoch])) if seen else None


def dvar(case: Case, *, window: int = 6, threshold: float = 0.15) -> float | None:
    """DVAR (Voronov et al. 2023, arXiv 2302.04841): stop once a deterministic loss varies over a sliding window by a
    small share of its variance so far. Theirs is of training photos, which these runs do not keep: here of four
    held-out ones, which falls and flattens with it until photos are memorised."""
    losses = heldout_loss(case)
    for row in range(window, len(losses)):
        whole = losses[: row + 1].var()
        if whole > 0 and losses[row - window + 1 : row + 1].var() / whole < threshold:
            return float(case.epochs[row])
    return None


def kneedle(case: Case) -> float | None:
    """Kneedle (Satopää et al. 2011): the knee of the falling held-out loss, farthest below the chord of its ends."""
    losses, epochs = heldout_loss(case), case.epochs.astype(np.float64)
    x = (epochs - epochs[0]) / np.ptp(epochs)
    y = (losses - losses.min()) / max(np.ptp(losses), 1e-12)
    return float(case.epochs[max(int((1 - x - y).argmax()), 1)])


def last(case: Case) -> float | None:
    """The last epoch."""
    return float(case.epochs[-1])


RULES: dict[str, Rule] = {
    "max CLIP-I": most_alike,
    "min held-out loss, 4 images": lowest_loss,
    "patience 1": patience(1),
    "patience 2": patience(2),
    "DVAR": dvar,
    "Kneedle": kneedle,
    "last epoch": last,
}

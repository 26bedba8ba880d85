"""What limits any detector: how much the truth moves with few renders, and an onset with which photos are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.onset_truth import Case, truth_of, turns_from
from metrics.onset.curves import Kind
from metrics.onset.onset import find_onset
from metrics.onset.turns import Onset

RENDERS = (48, 96)  # 48 readings of a loss are what six photos at eight noise levels give


def of_renders(cases: Sequence[Case], kind: Kind, renders: int) -> dict[str, float]:
    """How far the truth lies from itself when it is read from few renders, on runs that turn; readings
    that do not turn have no error and are left out."""
    errors: list[float] = []
    for case in cases:
        truth = truth_of(case, kind)
        if truth.sure and truth.epoch is not None:
            seen = turns_from(case, kind, renders)
            errors += np.abs(seen[np.isfinite(seen)] - np.log2(truth.epoch)).tolist()
    return {"median": _quantile(errors, 0.5), "p90": _quantile(errors, 0.9)}


def of_truth(cases: Sequence[Case], kind: Kind) -> dict[str, float]:
    """How wide the truth's own 95 % interval is, octaves, on runs that surely turn."""
    truths = (truth_of(case, kind) for case in cases)
    widths = [truth.width for truth in truths if truth.sure and truth.epoch is not None]
    return {"runs": len(widths), "median": _quantile(widths, 0.5), "p90": _quantile(widths, 0.9)}


def of_photos(cases: Sequence[Case], onsets: Mapping[int, Onset]) -> dict[Kind, dict[str, float]]:
    """The luck of which photos are held out: half of what the onsets read from one half of them and from the other
    differ by, which is about the standard error of the onset that all of them give; and that onset's own error.

    Octaves: median, 90th percentile (`_p90`), root mean square (`_rms`), over the runs that surely turn and whose
    onset is found all three times. Moved training photos are shared out among the halves, too.

    Args:
        onsets: of all held-out photos, by `id` of the case.
    """
    found: dict[Kind, dict[str, list[float]]] = {}
    kinds: tuple[Kind, ...] = ("context", "memory")
    for case in cases:
        true = {kind: truth.epoch for kind in kinds if (truth := truth_of(case, kind)).sure and truth.epoch is not None}
        halves = [find_onset(_half(case, half).trajectory()) for half in (0, 1)] if true else []
        for kind, epoch in true.items():
            epochs = [getattr(onset, kind).epoch for onset in (*halves, onsets[id(case)])]
            if None in epochs:
                continue
            first, second, whole = np.log2(epochs)
            row = found.setdefault(kind, {"luck": [], "error": []})
            row["luck"].append(abs(first - second) / 2)
            row["error"].append(abs(whole - np.log2(epoch)))
    return {kind: _summary(row) for kind, row in found.items()}


def _summary(row: Mapping[str, Sequence[float]]) -> dict[str, float]:
    figures: dict[str, float] = {"runs": len(row["luck"])}
    for name, values in row.items():
        figures |= {name: _quantile(values, 0.5), f"{name}_p90": _quantile(values, 0.9)}
        figures[f"{name}_rms"] = float(np.sqrt(np.mean(np.square(values))))
    return figures


def _half(case: Case, half: int) -> Case:
    """The same run with every other photo only, from `half` on: of those held out and of those moved."""
    arrays = case.arrays | {"heldout": case.arrays["heldout"][:, half::2]}
    for name in ("shifted", "shifted_train"):
        owners = case.arrays[f"{name}_photo"]
        mine = owners % 2 == half
        arrays |= {name: case.arrays[name][:, mine], f"{name}_photo": owners[mine] // 2}
    return replace(case, arrays=arrays)


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")

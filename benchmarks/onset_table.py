"""Detectors against the truth: errors, misses, false alarms, coverage, regret, and what the score is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.onset_behaviour import beside_losses
from benchmarks.onset_limits import RENDERS, of_photos, of_renders, of_truth
from benchmarks.onset_quality import BEHAVIOUR, FARTHEST, behaviour_around
from benchmarks.onset_rivals import RULES, lowest_context_loss
from benchmarks.onset_truth import Case, Truth, truth_of
from metrics.onset.curves import Kind
from metrics.onset.onset import confirmed_onset, find_onset
from metrics.onset.turns import Onset, Turn, earlier_of
from metrics.onset.valley import fit_valley
from metrics.trajectory.trajectory import Trajectory

KINDS: tuple[Kind, ...] = ("context", "memory")
NEAR = 0.5  # octaves from the epoch to ship to a checkpoint whose images were drawn
IMAGES = ("score", "clip_image", "clip_text", "clip_sum")
SHIPPING = ("Onset, 6 held-out photos", "max CLIP-I", "min held-out loss, 4 images", "patience 2", "last epoch")


@dataclass(frozen=True)
class Call:
    """What a detector says about one run: an onset or None, its interval, and the epoch it would ship."""

    epoch: float | None
    low: float | None
    high: float | None
    ship: float


def figures(cases: Sequence[Case], *, online: bool = False) -> dict[str, Any]:
    """All figures of the table, by detector and kind of onset."""
    with_photos = {id(case): find_onset(case.trajectory()) for case in cases}
    with_four = {id(case): find_onset(case.trajectory(held_out=4)) for case in cases}
    without = {id(case): find_onset(case.trajectory(held_out=0)) for case in cases}
    alone = {id(case): find_onset(without_channel(case.trajectory(), "shifted_loss")) for case in cases}
    detectors: dict[str, Callable[[Case, Kind], Call | None]] = {
        "Onset, 6 held-out photos": lambda case, kind: _ours(case, with_photos[id(case)], kind),
        "Onset, 4 held-out photos": lambda case, kind: _ours(case, with_four[id(case)], kind),
        "Onset, no held-out photos": lambda case, kind: _ours(case, without[id(case)], kind),
        "held-out loss, our statistics": lambda case, kind: _ours(case, alone[id(case)], "memory"),
    }
    for name, rule in RULES.items():
        detectors[name] = lambda case, kind, rule=rule: _theirs(case, rule(case))  # type: ignore[misc]  # bound now
    found: dict[str, Any] = {
        "runs": _counts(cases),
        "detectors": {
            name: {kind: _compare(cases, [detector(case, kind) for case in cases], kind) for kind in KINDS}
            for name, detector in detectors.items()
        },
        "status": {
            "with held-out photos": _status_right(cases, with_photos),
            "without": _status_right(cases, without),
        },
        "rank correlation": _rank_correlations(cases, with_photos),
        "behaviour": {str(octaves): row for octaves, row in behaviour_around(cases).items()},
        "images": beside_losses(
            cases,
            {
                name: {id(case): _ship(detector(case, "context"), case) for case in cases}
                for name, detector in detectors.items()
                if name in SHIPPING
            },
        ),
        "limit": {str(renders): {kind: of_renders(cases, kind, renders) for kind in KINDS} for renders in RENDERS},
        "truth": {kind: of_truth(cases, kind) for kind in KINDS},
        "luck": of_photos(cases, with_photos),
    }
    if online:
        found["online"] = _online(cases)
    with_contexts = [case for case in cases if "context" in case.arrays]
    if with_contexts:
        found["contexts held out"] = _with_contexts(with_contexts, online=online)
    return found


def _with_contexts(cases: Sequence[Case], *, online: bool) -> dict[str, Any]:
    """What photos in contexts of their own add, on the runs for which they were read."""
    trajectories = {id(case): case.trajectory(contexts=True) for case in cases}
    onsets = {key: find_onset(trajectory) for key, trajectory in trajectories.items()}
    alone = {key: find_onset(without_channel(trajectory, "shifted_loss")) for key, trajectory in trajectories.items()}
    before = {id(case): find_onset(case.trajectory()) for case in cases}
    calls = {
        "Onset, 6 photos and 6 of 2 contexts": [_ours(case, onsets[id(case)], "context") for case in cases],
        "Onset, 6 held-out photos": [_ours(case, before[id(case)], "context") for case in cases],
        "2 contexts' loss, our statistics": [_ours(case, alone[id(case)], "context") for case in cases],
        "lowest loss in 2 contexts": [_theirs(case, lowest_context_loss(case)) for case in cases],
    }
    found: dict[str, Any] = {
        "runs": _counts(cases),
        "detectors": {name: {"context": _compare(cases, called, "context")} for name, called in calls.items()},
        "status": {"with contexts": _status_right(cases, onsets), "without": _status_right(cases, before)},
    }
    if online:
        found["online"] = _online(cases, contexts=True)
    return found


def without_channel(trajectory: Trajectory, channel: str) -> Trajectory:
    """The same run as if a channel had not been measured."""
    return Trajectory(
        tuple(
            replace(reading, channels={name: value for name, value in reading.channels.items() if name != channel})
            for reading in trajectory.readings
        )
    )


def table(found: dict[str, Any]) -> str:
    """The figures as a page of text."""
    lines = [_about(found["runs"])]
    for kind in KINDS:
        lines += ["", *_detectors(found["detectors"], kind)]
    lines += ["", "status right: " + ", ".join(f"{k} {_share(v)}" for k, v in found["status"].items())]
    lines.append("Spearman with true quality, median over concepts, or over sets of photos:")
    for where, rows in found["rank correlation"].items():
        lines.append(f"  {where}: " + ", ".join(f"{name} {_num(value, sign=True)}" for name, value in rows.items()))
    lines += _behaviour(found["behaviour"])
    lines += _images(found["images"])
    lines.append("the truth itself from so few fresh renders, against all of them, |log2 error| median, 90th pct:")
    for renders, kinds in found["limit"].items():
        each = (f"{kind} {_num(row['median'])}, {_num(row['p90'])}" for kind, row in kinds.items())
        lines.append(f"  {renders:>3} renders: " + "; ".join(each))
    each = (f"{kind} {_num(row['median'])}, {_num(row['p90'])}" for kind, row in found["truth"].items())
    lines.append(f"octaves wide, the truth's own 95 % interval, median, 90th pct: {'; '.join(each)}")
    lines.append("half of what the onsets of either half of the held-out photos differ by, octaves, beside the error:")
    for kind, row in found["luck"].items():
        luck, error = (f"{_num(row[name])}, {_num(row[f'{name}_p90'])}" for name in ("luck", "error"))
        lines.append(
            f"  {kind}: {luck}; error {error} ({row['runs']} runs; root mean squares "
            f"{_num(row['luck_rms'])}; {_num(row['error_rms'])})"
        )
    if "online" in found:
        lines.append(_stops(found["online"]))
    if held_out := found.get("contexts held out"):
        lines += ["", f"with contexts held out, too: {_about(held_out['runs'])}"]
        lines += _detectors(held_out["detectors"], "context")
        lines.append("status right: " + ", ".join(f"{k} {_share(v)}" for k, v in held_out["status"].items()))
        lines += [_stops(held_out["online"])] if "online" in held_out else []
    return "\n".join(lines)


def _about(runs: dict[str, Any]) -> str:
    return f"{runs['runs']} runs of {runs['concepts']} concepts ({runs['packs']} sets of photos); " + "; ".join(
        f"{kind}: {runs[kind]['turning']} turn, {runs[kind]['quiet']} do not, {runs[kind]['undecided']} undecided"
        for kind in KINDS
    )


def _detectors(detectors: dict[str, Any], kind: Kind) -> list[str]:
    lines = [
        f"{kind + ' onset':35s}  |log2 error| median [90 %]  90th pct   bias   false alarms   misses   "
        "covered (of all)   open   octaves wide   regret median / 90th pct"
    ]
    for name, rows in detectors.items():
        row = rows[kind]
        lines.append(
            f"{name:36s} {_num(row['median'])} [{_num(row['median_low'])}–{_num(row['median_high'])}]"
            f"      {_num(row['p90'])}   {_num(row['bias'], sign=True)}    {_share(row['false_alarms'])}"
            f"       {_share(row['misses'])}    {_share(row['covered'])} ({_share(row['covered_of_all'])})"
            f"      {_share(row['open'])}   {_num(row['width'])}"
            f"         {_share(row['regret'])} / {_share(row['regret_p90'])}"
        )
    return lines


def _behaviour(found: dict[str, dict[str, float]]) -> list[str]:
    lines = ["what judges see in the images, by octaves from the true onset in new contexts:"]
    for name in BEHAVIOUR:
        each = (
            f"{'≤ ' * (int(octaves) == -FARTHEST)}{octaves}{' or more' * (int(octaves) == FARTHEST)}: {_num(row[name])}"
            for octaves, row in found.items()
        )
        lines.append(f"  {name}: " + "; ".join(each))
    return lines


def _images(found: dict[str, Any]) -> list[str]:
    if not found["runs"]:
        return []
    later, low, high = found["later"]
    groups = (
        f"{many} {words} turn in losses of new contexts, {images} of them in images ({surely} surely)"
        for words, (many, images, surely) in (("surely", found["turning"]), ("surely do not", found["quiet"]))
    )
    return [
        f"true onset in the images of {found['runs']} densely drawn runs: {'; '.join(groups)}; "
        f"{_num(later, sign=True)} octaves later than in losses ({_num(low, sign=True)} to {_num(high, sign=True)}; "
        f"95 % interval {_num(found['width'])} octaves wide)",
        "  share of the best images' quality that the shipped epoch keeps, median, 10th pct: "
        + "; ".join(f"{name} {_num(median)}, {_num(least)}" for name, (median, least) in found["kept"].items()),
    ]


def _stops(online: dict[str, float]) -> str:
    return "online: " + ", ".join(f"{name} {_num(value)}" for name, value in online.items())


def _ours(case: Case, onset: Onset, kind: Kind) -> Call:
    turn: Turn = onset.context if kind == "context" else onset.memory
    if turn.epoch is None:
        return Call(None, None, None, onset.best)
    high = turn.high if turn.high is not None else float(case.epochs[-1]) * 2
    return Call(turn.epoch, max(turn.low or 0.5, 0.5), high, onset.best)


def _ship(call: Call | None, case: Case) -> float:
    return float(case.epochs[-1]) if call is None else call.ship


def _theirs(case: Case, epoch: float | None) -> Call:
    return Call(epoch, None, None, epoch if epoch is not None else float(case.epochs[-1]))


def _counts(cases: Sequence[Case]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "runs": len(cases),
        "concepts": len({case.concept for case in cases}),
        "packs": len({case.pack for case in cases}),
    }
    for kind in KINDS:
        truths = [truth_of(case, kind) for case in cases]
        sure = [truth for truth in truths if truth.sure]
        turning = sum(truth.epoch is not None for truth in sure)
        found[kind] = {"turning": turning, "quiet": len(sure) - turning, "undecided": len(truths) - len(sure)}
    return found


def _compare(cases: Sequence[Case], calls: Sequence[Call | None], kind: Kind) -> dict[str, float]:
    errors, concepts, covered, reaching, widths, regrets = [], [], [], [], [], []
    misses = turning = alarms = quiet = 0
    for case, call in zip(cases, calls, strict=True):
        truth = truth_of(case, kind)
        if call is None or not truth.sure:
            continue
        if truth.epoch is None:
            quiet += 1
            alarms += call.epoch is not None
            continue
        turning += 1
        regrets.append(_regret(truth, call.ship))
        if call.epoch is None:
            misses += 1
            continue
        errors.append(float(np.log2(call.epoch / truth.epoch)))
        concepts.append(case.concept)
        if call.low is not None and call.high is not None:
            covered.append(call.low <= truth.epoch <= call.high)
            reaching.append(call.high >= case.epochs[-1])
            widths.append(float(np.log2(min(call.high, float(case.epochs[-1])) / call.low)))
    absolute = np.abs(errors)
    low, high = _clustered_median(absolute, concepts)
    return {
        "median": _median(absolute), "median_low": low, "median_high": high,
        "p90": float(np.quantile(absolute, 0.9)) if len(absolute) else float("nan"),
        "bias": _median(np.array(errors)), "false_alarms": alarms / quiet if quiet else float("nan"),
        "misses": misses / turning if turning else float("nan"),
        "covered": float(np.mean(covered)) if covered else float("nan"),
        "covered_of_all": sum(covered) / turning if covered else float("nan"),
        "open": float(np.mean(reaching)) if reaching else float("nan"), "width": _median(np.array(widths)),
        "regret": _median(np.array(regrets)),
        "regret_p90": float(np.quantile(regrets, 0.9)) if regrets else float("nan"),
    }  # fmt: skip


def _regret(truth: Truth, ship: float) -> float:
    """How much of the dip the shipped epoch gives away: on the valley fit, so that jitter is nobody's merit."""
    fit = fit_valley(truth.losses).fit[0]
    at = float(np.interp(ship, truth.epochs, fit))
    return (at - float(fit.min())) / max(truth.depth, 1e-9)


def _clustered_median(values: np.ndarray, concepts: Sequence[str]) -> tuple[float, float]:
    """90 % interval of the median when whole concepts are resampled."""
    if not len(values):
        return float("nan"), float("nan")
    names, generator = sorted(set(concepts)), np.random.default_rng(0)
    groups = {name: values[np.array(concepts) == name] for name in names}
    medians = [
        np.median(np.concatenate([groups[name] for name in generator.choice(names, len(names))])) for _ in range(400)
    ]
    return float(np.quantile(medians, 0.05)), float(np.quantile(medians, 0.95))


def _status_right(cases: Sequence[Case], onsets: dict[int, Onset]) -> float:
    """Share of runs whose status is the true one, among those whose truth is sure."""
    right = []
    for case in cases:
        if not (case.context.sure and case.memory.sure):
            continue
        turned = any(truth.epoch is not None for truth in (case.context, case.memory))
        true = "never_learned" if not case.learned else "found" if turned else "beyond"
        said = onsets[id(case)].status
        right.append(("found" if said == "at_start" else said) == true)
    return float(np.mean(right)) if right else float("nan")


def _rank_correlations(cases: Sequence[Case], onsets: dict[int, Onset]) -> dict[str, dict[str, float]]:
    """Over learned checkpoints, and over the shipped checkpoints of different runs: within a concept, and within one
    set of photos, as the trials of a study are (each set has a probe and a calibration of its own). Five checkpoints of
    each run are drawn, of some sixteen; that next to the epoch to ship stands for it where it lies within NEAR. `half`
    is what the truth of half of the images says about the truth of the other half: the luck of the draw. Packs whose
    images were drawn before the score read the weaker half of them (`--redraw` draws them anew) are left out."""
    found: dict[str, dict[str, float]] = {}
    for within, words in (("concept", ""), ("pack", ", within a set")):
        learned, shipped = _ranks(), _ranks()
        for name in sorted({getattr(case, within) for case in cases}):
            own = [_learned_looks(case, onsets[id(case)]) for case in cases if getattr(case, within) == name]
            rows = [seen for looks, _ in own for seen in looks]
            picks = [next_to_shipped for _, next_to_shipped in own if next_to_shipped is not None]
            _add_ranks(learned, rows)
            _add_ranks(shipped, picks)
        for where, ranks in (("learned checkpoints", learned), ("shipped checkpoints", shipped)):
            found[where + words] = {name: _median(np.array(values)) for name, values in ranks.items()}
    return found


def _learned_looks(case: Case, onset: Onset) -> tuple[list[dict[str, float]], dict[str, float] | None]:
    """The learned checkpoints of a run that were drawn, and the one next to the epoch to ship, if it is within NEAR."""
    if onset.learned is None:
        return [], None
    looks = {
        epoch: seen
        for epoch, seen in sorted(case.images.items())
        if epoch >= onset.learned and "true_quality_a" in seen
    }
    off = {epoch: abs(float(np.log2(epoch / max(onset.best, 1)))) for epoch in looks}
    nearest = min(off, key=off.__getitem__, default=None)
    return list(looks.values()), looks[nearest] if nearest is not None and off[nearest] <= NEAR else None


def _ranks() -> dict[str, list[float]]:
    return {name: [] for name in (*IMAGES, "half")}


def _add_ranks(ranks: dict[str, list[float]], rows: Iterable[dict[str, float]]) -> None:
    from scipy.stats import spearmanr

    rows = [row | {"clip_sum": row["clip_image"] + row["clip_text"]} for row in rows if "clip_image" in row]
    if len(rows) < 5:
        return
    for name, values in ranks.items():
        first, second = ("true_quality_a", "true_quality_b") if name == "half" else (name, "true_quality")
        found = spearmanr([row[first] for row in rows], [row[second] for row in rows]).statistic
        if np.isfinite(found):
            values.append(float(found))


def _online(cases: Sequence[Case], *, contexts: bool = False) -> dict[str, float]:
    """Stops while the run grows: on runs that never turn, before the true onset, and how late after it."""
    quiet = quiet_stops = turning = early = 0
    late = []
    for case in cases:
        if not (case.context.sure and case.memory.sure):
            continue
        first = earlier_of(case.context, case.memory)
        true = None if first is None else first[1].epoch
        stop = next(
            (
                epoch
                for epoch in case.epochs.tolist()[4:]
                if confirmed_onset(case.trajectory(until=epoch, contexts=contexts)) is not None
            ),
            None,
        )
        if true is None:
            quiet, quiet_stops = quiet + 1, quiet_stops + (stop is not None)
        else:
            turning, early = turning + 1, early + (stop is not None and stop < true)
            if stop is not None and stop >= true:
                late.append(float(np.log2(stop / true)))
    return {
        "false stops on quiet runs": quiet_stops / quiet if quiet else float("nan"),
        "stops before the true onset": early / turning if turning else float("nan"),
        "stopped runs": len(late) / turning if turning else float("nan"),
        "octaves after the onset": _median(np.array(late)),
    }


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _num(value: float, *, sign: bool = False) -> str:
    if np.isnan(value):
        return "   –"
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def _share(value: float) -> str:
    return "   –" if np.isnan(value) else f"{100 * value:3.0f} %"

"""The last look of a delivery study: the weights that the search chose, on seeds that it never saw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.weighting import (
    HARMS,
    KEPT,
    WORTH_TELLING,
    better,
    difference,
    likeness,
    likeness_difference,
    lost,
    worth,
)
from metrics.trajectory.readings import Reading, Readings
from search.probe.probe import open_probe
from search.record.judgement import SHEET_FILE, Change, Judgement
from search.record.record import StudyFolder, TrialRecord
from search.running.block_weights import BlockLooks
from search.running.worker_process import load_models
from search.study.delivery import Delivery
from search.study.study import Study
from trainer.delivery.blocks import lbw

SURE = 0.05
"""Chance, in all, that a channel seems better although none is; shared out among the channels that decide, and among
the sets of weights that are judged."""
_CANDIDATES = 5
"""Sets of weights that are judged: the best of a search was also the luckiest."""
_EQUAL = 0.01
"""Worths that are closer are alike; of these the weights that change fewest blocks are judged."""
_LEAST_SEEDS, _MORE_SEEDS = 4, 2
_WEAKER = (0.75, 0.5)
_MOST_ROWS = 12


def judge(study: Study, folder: StudyFolder, say: Callable[[str], None]) -> Judgement:
    """Judge the best weights of the study's trials; kept as `judgement.json`, with a sheet of before and after.

    A judgement of the same trials that is there already is taken.
    """
    records = [record for record in folder.records() if record.state == "complete" and record.score is not None]
    chosen = choose(records)
    best = candidates(records, chosen)
    kept = Judgement.load(folder.path)
    if kept is not None and kept.among == tuple(one.number for one in best or [chosen]):
        return kept
    if not best:
        why = "of all weights that were tried, those of the LoRA as it is did best"
        found = Judgement(chosen.number, dict(chosen.params), why_not=why, among=(chosen.number,))
    else:
        found = _judged(study, folder, best, say)
    found.save(folder.path)
    return found


def choose(records: Sequence[TrialRecord]) -> TrialRecord:
    """The trial whose weights are judged: of the best ones the one that changes fewest blocks, then the best."""
    assert records
    best = max(record.score or 0.0 for record in records)
    near = [record for record in records if (record.score or 0.0) >= best - _EQUAL]
    return min(near, key=lambda r: (sum(w != 1 for w in r.params.values()), -(r.score or 0.0), r.number))


def candidates(records: Sequence[TrialRecord], chosen: TrialRecord) -> list[TrialRecord]:
    """The trials that are judged: `chosen`, then others with the highest scores; none where `chosen` is the LoRA as it
    is."""
    if _is_as_it_is(chosen):
        return []
    as_it_is = next((record.score or 0.0 for record in records if _is_as_it_is(record)), 0.0)
    better = [record for record in records if record is not chosen and (record.score or 0.0) > as_it_is]
    better.sort(key=lambda record: (-(record.score or 0.0), record.number))
    return [chosen, *better[: _CANDIDATES - 1]]


def _is_as_it_is(record: TrialRecord) -> bool:
    return all(weight == 1 for weight in record.params.values())


def _judged(study: Study, folder: StudyFolder, best: Sequence[TrialRecord], say: Callable[[str], None]) -> Judgement:
    assert isinstance(study.kind, Delivery)
    delivery = study.kind
    say("the best weights are looked at on fresh seeds")
    models = load_models(study, folder, 0)
    fresh = with_fresh_seeds(study)
    home = folder.cache / "judgement"
    probe = open_probe(fresh, models.base, home, models.encoder, models.identity)
    looks = BlockLooks(delivery, probe, home / "probe")
    before, images, _ = looks.read({})
    blocks = delivery.weights(best[0].params)
    weaker = {s: looks.read(dict.fromkeys(blocks, s))[0] for s in _WEAKER if _may_be(s, delivery.step)}
    judged: list[tuple[float, Judgement, np.ndarray]] = []
    for one in best:
        after, changed, _ = looks.read(delivery.weights(one.params))
        found = compare(probe.calibration, one, before, after, weaker, among=len(best))
        judged.append((worth(probe.calibration, after, likeness(before.channels)), found, changed))
    wins = [each for each in judged if each[1].turns_down]
    _, found, changed = max(wins, key=lambda each: each[0], default=judged[0])
    weights, count = delivery.weights(found.params), len(probe.labels)
    _sheet(folder, probe.labels.prompts, [probe.base_images, images[:count], changed[:count]], study.name)
    return replace(
        found,
        weights=weights,
        lbw=lbw(weights, looks.lora),
        images=count,
        prompts=count // probe.num_seeds,
        among=tuple(one.number for one in best),
    )


def with_fresh_seeds(study: Study) -> Study:
    """The study with another seed for everything that is drawn, and more images of each prompt."""
    probe = study.score.probe.model_copy(update={"seeds": max(_LEAST_SEEDS, _MORE_SEEDS * study.score.probe.seeds)})
    return replace(study, score=study.score.model_copy(update={"seed": study.score.seed ^ 0x5EED, "probe": probe}))


def compare(
    calibration: Calibration,
    chosen: TrialRecord,
    before: Readings,
    after: Readings,
    weaker: Mapping[float, Readings],
    among: int = 1,
) -> Judgement:
    """The judgement of two looks with the same prompts and seeds.

    The weights win where a channel is surely better, none surely worse, and no more than `KEPT` of the likeness seems
    lost. Each channel's interval is so wide that all of them together err in `SURE` of the cases.

    Args:
        weaker: strength to the look at the whole LoRA.
        among: how many sets of weights are judged.
    """
    there = [name for name in HARMS if name in before.channels and name in after.channels]
    level = 1 - 2 * SURE / max(1, among * len(there))
    changes: dict[str, Change] = {}
    for name in there:
        read = difference(calibration, name, before, after, level)
        if read is not None:
            turned = better(name, read)
            changes[name] = _change(before.channels[name], after.channels[name], turned)
    alike = likeness_difference(calibration, before, after, 0.9)
    was, now = likeness(before.channels), likeness(after.channels)
    kept = None if alike is None or was is None or now is None else Change(was, now, alike.value, alike.low, alike.high)
    wins = tuple(n for n, change in changes.items() if change.low > 0 and change.better_by >= WORTH_TELLING[n])
    costs = tuple(n for n, change in changes.items() if change.high < 0 and change.better_by <= -WORTH_TELLING[n])
    plain, values = _plain(before, after, weaker, there)
    return Judgement(
        chosen.number,
        dict(chosen.params),
        likeness=kept,
        changes=changes,
        wins=wins,
        costs=costs,
        plain=plain,
        plain_values=values,
        level=level,
        why_not=_why_not(kept, wins, costs),
    )


def _change(before: Reading, after: Reading, turned: Reading) -> Change:
    return Change(before.value, after.value, turned.value, turned.low, turned.high)


def _why_not(kept: Change | None, wins: Sequence[str], costs: Sequence[str]) -> str:
    if kept is not None and lost(kept.after, kept.before) > KEPT:
        return f"they lose more than {100 * KEPT:g} % of the likeness"
    if costs:
        return "something else is surely worse"
    return "" if wins else "nothing is surely better"


def _plain(
    before: Readings, after: Readings, weaker: Mapping[float, Readings], names: Sequence[str]
) -> tuple[float | None, dict[str, float]]:
    """The strength at which the whole LoRA is as alike as under the weights, and what the channels read there; between
    the strengths that were looked at along straight lines."""
    looks = {1.0: before, **weaker}
    strengths = sorted(looks)
    alike = [likeness(looks[s].channels) for s in strengths]
    now = likeness(after.channels)
    if now is None or len(strengths) < 2 or any(value is None for value in alike):
        return None, {}
    levels = np.array(alike, float)
    if now >= levels[-1]:
        strength = 1.0
    else:
        above = next(row for row in range(len(levels) - 1, -1, -1) if levels[row] <= now or row == 0)
        low, high = levels[above], levels[min(above + 1, len(levels) - 1)]
        share = 0.0 if high <= low else float(np.clip((now - low) / (high - low), 0, 1))
        strength = strengths[above] + share * (strengths[min(above + 1, len(levels) - 1)] - strengths[above])
    read = {
        name: float(np.interp(strength, strengths, [looks[s].channels[name].value for s in strengths]))
        for name in names
        if all(name in looks[s].channels for s in strengths)
    }
    return float(strength), read


def _may_be(strength: float, step: float) -> bool:
    return abs(strength / step - round(strength / step)) < 1e-6


def _sheet(folder: StudyFolder, prompts: Sequence[str], looks: Sequence[np.ndarray], name: str) -> None:
    """Before and after: each prompt's first seeds, the base beside the LoRA as it is and as it is weighted."""
    from trainer.inference.picture_grid import Column, picture_grid
    from trainer.inference.sample_files import write_figure

    first = [row for row, prompt in enumerate(prompts) if prompts.index(prompt) == row]
    rows = [row + seed for row in first for seed in (0, 1) if row + seed < len(prompts)][: 2 * _MOST_ROWS]
    columns = [Column("base"), Column("as it is"), Column("weighted")]
    grid = picture_grid(
        [[look[row] for row in rows] for look in looks],
        columns,
        [prompts[row] for row in rows],
        title=f"{name}: before and after",
        subtitle="seeds that the search never saw",
        cell=max(96, min(192, looks[0].shape[2])),
    )
    write_figure(folder.path / SHEET_FILE, grid)

"""What is said of block weights: a planted gain is found, nothing where there is nothing, and likeness counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.score import calibrate
from metrics.checkpoint.weighting import KEPT, LEAK, SUBJECT, WORTH_TELLING
from metrics.trajectory.readings import Reading, Readings
from search.record.judgement import SHEET_FILE, Judgement
from search.record.record import StudyFolder, TrialRecord
from search.running.judging import SURE, _may_be, _plain, _sheet, candidates, choose, compare, judge, with_fresh_seeds
from search.study.study import load_study
from tests.metrics.photo_sets import OTHERS, crops, probe_labels
from trainer.config.config import parse_train_config
from trainer.inference.picture_grid import Column, picture_grid

LABELS = probe_labels()
NEW = int((np.array(LABELS.sets) == "C").sum())
NOISE = 0.01
PHOTOS = np.repeat(np.arange(8), 4)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    photos, base = crops(24, 1), crops(len(LABELS), 2, OTHERS)
    return calibrate(photos, [True] * 24, base, LABELS, None)


def trial(number: int, score: float, **params: float) -> TrialRecord:
    config = parse_train_config({"base": "b", "data": "d"})
    return TrialRecord(number, "complete", config, params, 1, score=score)


def look(rng: np.random.Generator, *, subject: float = 1.0, leak: float = 0.6, loss: float = 0.2) -> Readings:
    items = {
        SUBJECT: rng.normal(subject, NOISE, NEW),
        LEAK: rng.normal(leak, NOISE, NEW),
        "prompt": rng.normal(-0.1, NOISE, NEW),
        "shifted_loss": rng.normal(loss, 0.02, len(PHOTOS)),
    }
    channels = {name: Reading(float(values.mean()), 0.0, 0.0) for name, values in items.items()}
    return Readings(1, 1.0, channels, {**items, "shifted_loss_photo": PHOTOS.astype(float)})


def judged(calibration: Calibration, before: Readings, after: Readings) -> Judgement:
    return compare(calibration, trial(3, 0.5, IN04=0.0), before, after, {})


def test_a_background_that_is_gone_is_a_win_at_equal_likeness(calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    found = judged(calibration, look(rng), look(rng, leak=0.2))
    assert found.turns_down
    assert found.wins == (LEAK,)
    change = found.changes[LEAK]
    assert change.low < change.better_by < change.high
    assert (change.before, change.after, change.better_by) == pytest.approx((0.6, 0.2, 0.4), abs=0.02)


def test_it_is_no_win_when_the_likeness_goes_or_something_else_gets_worse(calibration: Calibration) -> None:
    rng = np.random.default_rng(1)
    lost = judged(calibration, look(rng), look(rng, leak=0.2, subject=1 - 2 * KEPT))
    assert not lost.turns_down
    assert "likeness" in lost.why_not
    worse = judged(calibration, look(rng), look(rng, leak=0.2, loss=0.3))
    assert not worse.turns_down
    assert worse.costs == ("shifted_loss",)


def test_where_nothing_changes_something_is_found_as_seldom_as_promised(calibration: Calibration) -> None:
    rng = np.random.default_rng(2)
    won = 0
    for _ in range(120):
        before = look(rng)
        noisy = {name: values + rng.normal(0, 0.1, len(values)) for name, values in before.items.items()}
        after = replace(before, items={**noisy, "shifted_loss_photo": PHOTOS.astype(float)})
        won += judged(calibration, before, after).turns_down
    assert won <= 120 * SURE + 3 * (120 * SURE * (1 - SURE)) ** 0.5


def test_the_whole_lora_turned_down_is_read_at_the_same_likeness(calibration: Calibration) -> None:
    rng = np.random.default_rng(3)
    weaker = {0.75: look(rng, subject=0.9, leak=0.5), 0.5: look(rng, subject=0.6, leak=0.4)}
    found = compare(calibration, trial(3, 0.5, IN04=0.0), look(rng), look(rng, subject=0.95, leak=0.2), weaker)
    assert found.plain == pytest.approx(0.875, abs=0.06)
    assert found.plain_values[LEAK] == pytest.approx(0.55, abs=0.03)


def test_a_likeness_below_that_of_every_strength_is_that_of_the_weakest(calibration: Calibration) -> None:
    rng = np.random.default_rng(5)
    weaker = {0.75: look(rng, subject=0.7, leak=0.5), 0.5: look(rng, subject=0.8, leak=0.4)}
    found = compare(calibration, trial(3, 0.5, IN04=0.0), look(rng), look(rng, subject=0.3, leak=0.2), weaker)
    assert found.plain == 0.5
    assert found.plain_values[LEAK] == pytest.approx(0.4, abs=0.03)


def test_of_weights_that_are_as_good_those_that_change_less_are_judged() -> None:
    records = [trial(0, 0.5, A=1.0, B=1.0), trial(1, 0.802, A=0.0, B=0.5), trial(2, 0.8, A=0.0, B=1.0)]
    assert choose(records).number == 2
    assert choose(records[:1]).number == 0


def test_the_best_sets_that_did_better_than_the_lora_as_it_is_are_judged() -> None:
    scores = {0: 0.5, 1: 0.9, 2: 0.6, 3: 0.4, 4: 0.7, 5: 0.65, 6: 0.7, 7: 0.55, 8: 0.51}
    records = [trial(n, score, A=1.0 if n == 0 else 0.5 + 0.01 * n) for n, score in scores.items()]
    assert [one.number for one in candidates(records, choose(records))] == [1, 4, 6, 5, 2]
    few = [records[0], records[3], records[2]]
    assert [one.number for one in candidates(few, choose(few))] == [2]
    assert candidates(records[:1], records[0]) == []


def test_intervals_are_wider_where_more_is_judged(calibration: Calibration) -> None:
    rng = np.random.default_rng(9)
    before, after = look(rng), look(rng, leak=0.2)
    one, three = (compare(calibration, trial(3, 0.5, IN04=0.0), before, after, {}, among=n) for n in (1, 3))
    assert 1 - three.level == pytest.approx((1 - one.level) / 3)
    assert three.changes[LEAK].low < one.changes[LEAK].low < one.changes[LEAK].better_by


def test_where_the_lora_as_it_is_did_best_that_is_the_judgement_and_is_kept(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for record in (trial(0, 0.6, IN04=1.0, M00=1.0), trial(1, 0.4, IN04=0.0, M00=1.0)):
        record.save(folder.trial(record.number))
    nothing_to_draw_with: Any = None
    found = judge(nothing_to_draw_with, folder, say=lambda line: None)
    assert (found.trial, found.params, found.turns_down) == (0, {"IN04": 1.0, "M00": 1.0}, False)
    assert "as it is" in found.why_not
    assert Judgement.load(tmp_path) == found == judge(nothing_to_draw_with, folder, say=lambda line: None)


def test_a_judgement_is_read_as_it_was_kept(calibration: Calibration, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    found = judged(calibration, look(rng), look(rng, leak=0.2))
    assert Judgement.load(tmp_path) is None
    found.save(tmp_path)
    assert Judgement.load(tmp_path) == found
    (tmp_path / "judgement.json").write_text("{}")
    assert Judgement.load(tmp_path) is None


def moved(before: Readings, **by: float) -> Readings:
    """A look at which every image reads as much more, and every photo: a difference without any doubt."""
    items = {name: values + by.get(name, 0.0) for name, values in before.items.items()}
    channels = {name: replace(one, value=one.value + by.get(name, 0.0)) for name, one in before.channels.items()}
    return replace(before, items=items, channels=channels)


@pytest.mark.parametrize("name", [LEAK, "prompt", "shifted_loss"])
@pytest.mark.parametrize("share", [-1.1, -0.9, 0.9, 1.1])
def test_a_sure_change_counts_from_where_it_is_worth_telling(calibration: Calibration, name: str, share: float) -> None:
    before = look(np.random.default_rng(6))
    more_is_better = name == "prompt"
    by = share * WORTH_TELLING[name] * (1 if more_is_better else -1)
    found = judged(calibration, before, moved(before, **{name: by}))
    assert found.wins == ((name,) if share > 1 else ())
    assert found.costs == ((name,) if share < -1 else ())
    assert found.changes[name].better_by == pytest.approx(share * WORTH_TELLING[name])
    assert found.changes[name].after == pytest.approx(before.channels[name].value + by)
    assert found.turns_down == (share > 1)
    whys = {1.1: "", -1.1: "something else is surely worse"}
    assert found.why_not == whys.get(share, "nothing is surely better")


def test_a_change_that_is_not_sure_neither_wins_nor_costs(calibration: Calibration) -> None:
    rng = np.random.default_rng(7)
    before = look(rng)
    for by in (-0.1, 0.1):
        values = before.items[LEAK] + by + np.where(np.arange(NEW) < NEW // 2, 2.0, -2.0)
        found = judged(calibration, before, replace(before, items={**before.items, LEAK: values}))
        assert abs(found.changes[LEAK].better_by) > WORTH_TELLING[LEAK]
        assert (found.wins, found.costs) == ((), ())


@pytest.mark.parametrize(("lost", "why"), [(0.9, ""), (1.1, "they lose more than 5 % of the likeness")])
def test_weights_may_lose_a_share_of_the_likeness(calibration: Calibration, lost: float, why: str) -> None:
    before = look(np.random.default_rng(8))
    alike = before.channels[SUBJECT].value
    by = -lost * KEPT * alike
    found = judged(calibration, before, moved(before, **{SUBJECT: by, LEAK: -0.2}))
    assert found.why_not == why
    assert found.likeness is not None
    assert (found.likeness.before, found.likeness.after) == pytest.approx((alike, alike + by))
    assert found.likeness.better_by == pytest.approx(by)


def test_what_was_not_read_both_times_decides_nothing(calibration: Calibration) -> None:
    before = look(np.random.default_rng(9))
    after = moved(before, **{LEAK: -0.2})
    bare = {name: one for name, one in before.channels.items() if name != LEAK}
    for pair in ((replace(before, channels=bare), after), (after, replace(before, channels=bare))):
        found = judged(calibration, *pair)
        assert set(found.changes) == {"prompt", "shifted_loss"}
        assert found.level == pytest.approx(1 - 2 * SURE / 2)
    assert judged(calibration, before, after).level == pytest.approx(1 - 2 * SURE / 3)
    assert judged(calibration, replace(before, channels={}), after).level == pytest.approx(1 - 2 * SURE)


def alike(subject: float | None, leak: float | None = None) -> Readings:
    values = {SUBJECT: subject, LEAK: leak}
    return Readings(1, 1.0, {name: Reading(v, v, v) for name, v in values.items() if v is not None})


@pytest.mark.parametrize(
    ("now", "strength", "leak"),
    [
        (1.2, 1.0, 0.6),
        (1.0, 1.0, 0.6),
        (0.95, 0.875, 0.55),
        (0.9, 0.75, 0.5),
        (0.75, 0.625, 0.4),
        (0.6, 0.5, 0.3),
        (0.1, 0.5, 0.3),
    ],
)
def test_between_strengths_everything_lies_on_straight_lines(now: float, strength: float, leak: float) -> None:
    weaker = {0.75: alike(0.9, 0.5), 0.5: alike(0.6, 0.3)}
    found, values = _plain(alike(1.0, 0.6), alike(now, 0.1), weaker, [LEAK, "prompt"])
    assert found == pytest.approx(strength)
    assert values == {LEAK: pytest.approx(leak)}


def test_where_the_likeness_does_not_fall_with_the_strength_the_stronger_one_is_taken() -> None:
    weaker = {0.75: alike(0.5), 0.5: alike(0.8)}
    assert _plain(alike(1.0), alike(0.75), weaker, []) == (pytest.approx(0.875), {})


@pytest.mark.parametrize(
    ("before", "after", "weaker"),
    [
        (alike(1.0), alike(0.9), {}),
        (alike(1.0), alike(None, 0.1), {0.5: alike(0.5)}),
        (alike(None, 0.1), alike(0.9), {0.5: alike(0.5)}),
        (alike(1.0), alike(0.9), {0.5: alike(None, 0.1)}),
    ],
)
def test_without_likeness_at_all_strengths_there_is_none_to_compare_with(before, after, weaker) -> None:
    assert _plain(before, after, weaker, [LEAK]) == (None, {})


def test_a_channel_that_one_strength_lacks_is_not_read_between_them() -> None:
    assert _plain(alike(1.0, 0.6), alike(0.9), {0.5: alike(0.8)}, [LEAK])[1] == {}


@pytest.mark.parametrize(
    ("step", "strength", "may"),
    [(0.25, 0.75, True), (0.25, 0.5, True), (0.5, 0.75, False), (0.5, 0.5, True), (0.1, 0.5, True), (0.1, 0.75, False)],
)
def test_a_strength_may_be_where_it_is_a_whole_number_of_steps(step: float, strength: float, may: bool) -> None:
    assert _may_be(strength, step) is may


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([0.0, -1.0], 0),
        ([0.5, 0.505, 0.495], 0),  # as good, and it changes least
        ([0.5, 0.511, 0.4], 1),
        ([0.5, 0.52, 0.515], 2),
        ([0.1, 0.2, 0.3, 0.305], 3),  # as few blocks, and it is better
        ([0.1, 0.2, 0.3, 0.3], 2),  # the first of two that are the same
    ],
)
def test_the_best_counts_and_of_those_alike_the_one_that_changes_fewest_blocks(scores, chosen: int) -> None:
    weights = [{"A": 1.0, "B": 1.0}, {"A": 0.0, "B": 0.5}, {"A": 0.0, "B": 1.0}, {"A": 1.0, "B": 0.5}]
    records = [trial(n, score, **weights[n]) for n, score in enumerate(scores)]
    assert choose(records).number == chosen


@pytest.mark.parametrize(("seeds", "fresh"), [(1, 4), (2, 4), (3, 6)])
def test_fresh_seeds_are_others_and_more(write_study, seeds: int, fresh: int) -> None:
    study = load_study(write_study(score={"encoder": "clip", "holdout": 2, "seed": 5, "probe": {"seeds": seeds}}))
    found = with_fresh_seeds(study)
    assert found.score.seed != 5
    assert with_fresh_seeds(found).score.seed == 5
    assert found.score.probe.seeds == fresh
    probe = found.score.probe.model_copy(update={"seeds": seeds})
    assert replace(found, score=found.score.model_copy(update={"seed": 5, "probe": probe})) == study


@pytest.mark.parametrize("changed", ["trial", "params"])
def test_a_judgement_of_other_weights_is_made_anew(tmp_path: Path, changed: str) -> None:
    folder = StudyFolder(tmp_path)
    trial(0, 0.6, IN04=1.0).save(folder.trial(0))
    replace(trial(1, 0.9, IN04=1.0), state="failed").save(folder.trial(1))
    replace(trial(2, 0.9, IN04=1.0), score=None).save(folder.trial(2))
    kept = {"trial": Judgement(1, {"IN04": 1.0}), "params": Judgement(0, {"IN04": 0.5})}[changed]
    kept.save(tmp_path)
    nothing_to_draw_with: Any = None
    found = judge(nothing_to_draw_with, folder, say=lambda line: None)
    assert (found.trial, found.params) == (0, {"IN04": 1.0})
    assert found == Judgement.load(tmp_path) != kept


@pytest.mark.parametrize(
    ("prompts", "rows"),
    [
        ("aaaabbbb", [0, 1, 4, 5]),
        ("aabb", [0, 1, 2, 3]),
        ("aaaab", [0, 1, 4]),
        ("aaaabbbba", [0, 1, 4, 5]),
        ("".join(c * 4 for c in "abcdefghijklmn"), [4 * n + seed for n in range(12) for seed in (0, 1)]),
    ],
)
def test_the_sheet_shows_each_prompts_first_two_seeds_before_and_after(
    tmp_path: Path, prompts: str, rows: list[int]
) -> None:
    luck = np.random.default_rng(0)
    looks = [luck.integers(0, 255, (len(prompts), 128, 128, 3), dtype=np.uint8) for _ in range(3)]
    _sheet(StudyFolder(tmp_path), list(prompts), looks, "toy")
    expected = picture_grid(
        [[look[row] for row in rows] for look in looks],
        [Column("base"), Column("as it is"), Column("weighted")],
        [prompts[row] for row in rows],
        title="toy: before and after",
        subtitle="seeds that the search never saw",
        cell=128,
    )
    with Image.open(tmp_path / SHEET_FILE) as drawn:
        assert np.array_equal(np.asarray(drawn.convert("RGB")), np.asarray(expected.convert("RGB")))


def test_weights_that_change_a_block_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def judged(study: Any, folder: Any, best: list[TrialRecord], say: Any) -> Judgement:
        looked.append(best[0].number)
        return Judgement(best[0].number, dict(best[0].params), among=tuple(one.number for one in best))

    monkeypatch.setattr("search.running.judging._judged", judged)
    nothing: Any = None
    folder = StudyFolder(tmp_path)
    for record in (trial(0, 0.4, IN04=1.0, M00=1.0), trial(1, 0.5, IN04=0.5, M00=1.0)):
        record.save(folder.trial(record.number))
    found = judge(nothing, folder, lambda what: None)
    assert (found.trial, looked) == (1, [1])
    assert Judgement.load(folder.path) == found
    judge(nothing, folder, lambda what: None)
    assert looked == [1], "it was kept"

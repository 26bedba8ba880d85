"""What is said of block weights: a planted gain is found, nothing where there is nothing, and likeness counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.score import calibrate
from metrics.checkpoint.weighting import KEPT, LEAK, SUBJECT
from metrics.trajectory.readings import Reading, Readings
from search.record.judgement import Judgement
from search.record.record import StudyFolder, TrialRecord
from search.running.judging import SURE, choose, compare, judge
from tests.metrics.photo_sets import OTHERS, crops, probe_labels
from trainer.config.config import parse_train_config

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

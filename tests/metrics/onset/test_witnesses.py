"""Moved subjects against real photos of held-out contexts: who contradicts whom, who is believed, and what is said."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.onset.onset import confirmed_onset, find_onset
from metrics.onset.plot import plot_onset
from metrics.onset.replicates import Curves
from metrics.onset.witnesses import _direction, disagreement
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import plant, with_contexts

EPOCHS = np.array([0, *range(2, 33, 2)])
LEARNS = -np.log1p(EPOCHS / 4) / np.log1p(8)  # 0 at the base, -1 at the end, falling all the way
WORSENS = EPOCHS / EPOCHS[-1]


def run(moved: np.ndarray, real: np.ndarray, *, spread: float = 0.02, photos: int = 6) -> Trajectory:
    """A subject that is learned by epoch 8, with these losses of moved subjects and of held-out contexts."""
    generator = np.random.default_rng(3)
    own = {"shifted_loss": generator.normal(0, spread, 12), "context_loss": generator.normal(0, spread, photos)}
    own["heldout_loss"] = generator.normal(0, 0.02, 6)
    readings = []
    for row, epoch in enumerate(EPOCHS.tolist()):
        level = {"shifted_loss": moved[row], "context_loss": real[row], "heldout_loss": 0.6 * LEARNS[row]}
        items = {name: level[name] + epoch / 32 * own[name] for name in level}
        items["fidelity"] = min(1.0, epoch / 8) + generator.normal(0, 0.02, 8) * (epoch > 0)
        readings.append(Readings(epoch, float(epoch), {name: _reading(v) for name, v in items.items()}, items, 0.5))
    return Trajectory(tuple(readings))


def test_moved_subjects_that_contradict_real_contexts_lose_and_it_is_said():
    """Masks that show one eye of a cat: +150 % on what they cut out, -55 % on real photos elsewhere."""
    eye = run(0.92 * WORSENS, 0.8 * LEARNS)
    onset = find_onset(eye)
    assert onset.context.status == "beyond"
    assert onset.context.channels == ("context_loss",)
    assert "disagree" in onset.sentence
    assert "+150 %" in onset.sentence
    assert "−55 %" in onset.sentence
    assert onset.disagreement is not None
    assert onset.disagreement.moved_rises
    assert all(confirmed_onset(Trajectory(eye.readings[:count])) is None for count in range(7, len(eye) + 1))


def test_moved_subjects_that_only_get_better_do_not_hide_what_real_contexts_lose():
    real = 0.5 * LEARNS + 1.6 * np.maximum(0, EPOCHS - 10) / 22
    onset = find_onset(run(1.2 * LEARNS, real))
    assert onset.disagreement is not None
    assert not onset.disagreement.moved_rises
    assert onset.context.channels == ("context_loss",)
    assert 8 <= onset.context.epoch <= 16, "rises from 10 on"


def test_where_one_of_them_is_not_sure_both_are_read_together():
    for spread, photos in ((2.5, 6), (0.02, 1)):
        apart = run(0.92 * WORSENS, 0.8 * LEARNS if photos > 1 else 0.0 * LEARNS, spread=spread, photos=photos)
        onset = find_onset(apart)
        assert onset.disagreement is None
        assert "shifted_loss" in onset.context.channels


@pytest.mark.parametrize("kind", ["valley", "falling", "plateau", "late"])
def test_witnesses_of_one_truth_are_never_said_to_disagree(kind):
    assert all(find_onset(with_contexts(plant(kind, seed).trajectory)).disagreement is None for seed in range(6))


def test_the_picture_says_which_curve_is_not_used(tmp_path: Path):
    eye = run(0.92 * WORSENS, 0.8 * LEARNS)
    text = plot_onset(tmp_path / "onset.svg", eye, find_onset(eye)).read_text(encoding="utf-8")
    words = re.findall(r"<text[^>]*>([^<]*)|<!-- (.*?) -->", text, re.DOTALL)
    told = "\n".join(" ".join(pair).strip() for pair in words)
    assert re.findall(r"(.+)\n+\(not used\)", told) == ["moved subjects"], told
    agreed = run(0.5 * LEARNS, 0.8 * LEARNS)
    assert "(not used)" not in plot_onset(tmp_path / "a.svg", agreed, find_onset(agreed)).read_text(encoding="utf-8")


def _reading(values: np.ndarray) -> Reading:
    half = 1.645 * float(values.std(ddof=1)) / np.sqrt(values.size) if values.size > 1 else 0.0
    return Reading(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)


def test_what_contradicts_is_told_from_the_checkpoint_before_the_onset_to_the_last() -> None:
    eye = run(0.92 * WORSENS, 0.8 * LEARNS)
    found = disagreement(eye, [11.0])
    assert found is not None
    assert (found.since, found.until, found.moved_rises) == (10, 32, True)
    assert (found.moved, found.real) == (pytest.approx(0.92, abs=0.02), pytest.approx(-0.8, abs=0.02))
    assert disagreement(eye, [12.0]) == replace(found, since=10)
    assert disagreement(eye, [0.0]) == replace(found, since=0)
    assert disagreement(eye, [99.0]) is None
    assert disagreement(eye, [99.0, 11.0]) == found, "the first that is contradicted counts"
    assert disagreement(eye, []) is None
    turned = disagreement(run(0.8 * LEARNS, 0.92 * WORSENS), [11.0])
    assert turned is not None
    assert (turned.moved_rises, turned.moved < 0 < turned.real) == (False, True)
    assert disagreement(run(0.8 * LEARNS, 0.5 * LEARNS), [11.0]) is None
    assert disagreement(run(0.8 * WORSENS, 0.5 * WORSENS), [11.0]) is None


@pytest.mark.parametrize(("rising", "direction"), [(19, 1), (18, 0)])
def test_a_direction_is_sure_where_95_of_100_replicates_go_there_by_a_fifth_of_a_percent(
    rising: int, direction: int
) -> None:
    rows = np.where(np.arange(20)[:, None] < rising, 0.0021, 0.0019) * [0, 7, 1]
    for sign in (1, -1):
        both = Curves(np.arange(3), np.array([2, 4, 8]), rows[0], sign * rows, 0.0, np.zeros(3))
        assert _direction(both, 2, 8) == sign * direction
        assert _direction(both, 2, 4) == sign
        assert _direction(both, 4, 8) == -sign

"""Rules that borrow: a line stays a line, today's score is the kept one, and a trial's pick is one by hand."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from benchmarks.strict_borrowed import OF_CHECKPOINTS, Trial, guarded, parts_over_epochs, smoothed, tied
from benchmarks.strict_ceiling import group_runs


def test_a_line_over_epochs_stays_and_noise_around_it_shrinks():
    axis = np.arange(12.0)
    line = 0.1 + 0.02 * axis
    assert smoothed(axis, line, 1.5) == pytest.approx(line, abs=1e-6)
    noisy = line + 0.05 * np.random.default_rng(0).normal(size=12)
    assert np.abs(smoothed(axis, noisy, 2.0) - line).mean() < 0.7 * np.abs(noisy - line).mean()


def test_the_score_of_the_kept_channels_is_the_kept_score():
    runs = group_runs("choosing")
    again = parts_over_epochs([], 1.0)(runs)
    off = np.abs(np.concatenate(again) - np.concatenate([run.columns["score"] for run in runs]))
    assert np.quantile(off, 0.95) < 1e-4  # the rest has copied layouts or scattered colours, which are not kept


@pytest.mark.parametrize("name", OF_CHECKPOINTS)
def test_each_rule_gives_a_value_for_each_checkpoint(name: str):
    pack = [run for run in group_runs("choosing") if run.pack == "mushroom-20-0"]
    for values, run in zip(OF_CHECKPOINTS[name](pack), pack, strict=True):
        assert values.shape == run.columns["epochs"].shape
        assert np.isfinite(values[1:]).all()


def test_a_tie_is_broken_by_the_other_reading_among_the_best_only():
    study = [cast(Trial, SimpleNamespace(row=1, score=np.array([0.0, own]))) for own in (0.50, 0.52, 0.30)]
    other = np.array([0.2, 0.1, 0.9])
    assert tied(0.04, lambda study: other)(study).argmax() == 0
    assert tied(0.01, lambda study: other)(study).argmax() == 1


def test_a_trial_that_has_learned_less_than_half_of_another_is_not_picked():
    def trial(score: float, loss: float) -> Trial:
        known = SimpleNamespace(row=0, score=np.array([score]), loss=lambda kind: np.array([loss]))
        return cast(Trial, known)

    study = [trial(0.49, -0.12), trial(0.40, -0.42), trial(0.38, -0.44)]
    assert guarded(0.5)(study).argmax() == 1
    assert guarded(0.2)(study).argmax() == 0

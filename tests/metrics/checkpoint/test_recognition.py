"""The line between subject and not: another logistic regression agrees, and its ends are where they should be."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from metrics.checkpoint.recognition import PENALTY, recognised, recogniser


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def features(count: int, shift: float, seed: int, size: int = 24) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(count, size)) * np.linspace(0.5, 2, size)
    rows[:, 3] += shift
    return unit(rows)


@pytest.mark.parametrize("size", [24, 200])  # fewer and more numbers than images
def test_an_independent_logistic_regression_agrees(size: int):
    shown, spoiled, base = (features(n, shift, n, size) for n, shift in ((40, 2.0), (20, -1.0), (31, -1.0)))
    line = recogniser(shown, np.arange(40) % 10, spoiled, base)
    rows = np.concatenate([shown, base, spoiled])
    wanted = np.arange(91) < 40
    scaled = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6)
    share = np.where(wanted, 0.5 / 40, 0.5 / 51)
    theirs = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=5000).fit(scaled, wanted, sample_weight=share)
    ours = rows @ line[:-1] + line[-1]
    logits = theirs.decision_function(scaled)
    assert np.corrcoef(ours, logits)[0, 1] == pytest.approx(1, abs=1e-6)
    assert ours[40:71].mean() == pytest.approx(0, abs=1e-9)


def test_a_photo_has_no_part_in_what_its_own_images_read():
    """Noise that only looks like the subject because it was fitted on reads far above 1; left out, it does not."""
    shown, spoiled, base = (features(n, shift, n, 200) for n, shift in ((40, 1.0), (20, -1.0), (30, -1.0)))
    line = recogniser(shown, np.arange(40), spoiled, base)
    fresh = features(300, 1.0, 1000, 200)
    assert np.median(fresh @ line[:-1] + line[-1]) == pytest.approx(1, abs=0.25)
    assert np.median(shown @ line[:-1] + line[-1]) > 1.3


def test_shares_rise_from_the_base_to_the_subject():
    shown, spoiled, base = (features(n, shift, n) for n, shift in ((40, 3.0), (20, -3.0), (30, -3.0)))
    line = recogniser(shown, np.arange(40) // 2, spoiled, base)
    assert recognised(line, features(100, 3.0, 7)).mean() > 0.85
    assert recognised(line, features(100, -3.0, 8)).mean() < 0.1


def test_what_cannot_be_told_apart_has_no_line():
    alike = np.repeat(features(1, 0, 0), 12, axis=0)
    assert recogniser(alike, np.arange(12), alike[:4], alike[:6]).size == 0

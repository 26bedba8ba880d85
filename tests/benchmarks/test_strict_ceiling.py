"""The ceiling of a score on planted qualities: without luck nothing is lost, and images of luck cost what they do."""

import numpy as np
import pytest

from benchmarks import strict_ceiling
from benchmarks.strict_ceiling import IMAGES, ceilings, correlations, likely_curves
from benchmarks.strict_scores import ScoredRun


def planted(runs: int, images: int, seed: int = 0) -> tuple[list[ScoredRun], list[np.ndarray]]:
    """Runs of one pack whose quality rises and falls, seen in so many images; and their true qualities."""
    generator = np.random.default_rng(seed)
    epochs = np.array([0, 2, 4, 8, 16, 32, 64, 128])
    found, true = [], []
    for run in range(runs):
        quality = 0.1 + 0.6 * np.exp(-0.5 * (np.log2(epochs[1:]) - 3 - run % 3) ** 2)
        right = np.append(0, generator.binomial(images, quality) / images)
        found.append(ScoredRun("a-1-0", {"epochs": epochs, "right": right, "concept": np.append(0, np.ones(7))}))
        true.append(quality)
    return found, true


def test_likely_curves_lie_around_the_true_quality_and_closer_with_more_images():
    for images, nearest in ((40, 0.12), (4000, 0.02)):
        runs, true = planted(6, images)
        generator = np.random.default_rng(0)
        curves = [likely_curves(run, images, 60, generator) for run in runs]
        errors = np.concatenate([own.mean(axis=0) - quality for own, quality in zip(curves, true, strict=True)])
        assert np.sqrt(np.square(errors).mean()) < nearest
        spread = np.concatenate([own.std(axis=0) for own in curves])
        assert 0.5 < np.sqrt(np.square(errors).mean() / np.square(spread).mean()) < 1.6


def test_a_perfect_score_beats_readers_of_images_and_paired_images_cost_less():
    runs, _ = planted(6, IMAGES)
    paired, independent = ceilings(runs, 0.4, 20), ceilings(runs, 1.0, 20)
    for found in (paired, independent):
        score, many, few = found.values()
        assert (score > many).all()
        assert (many > few).all()
    assert (paired["a perfect score"] > independent["a perfect score"]).all()
    assert (paired["a perfect score"] < 1).all()


def test_correlations_are_medians_and_means_within_runs_and_over_a_pack():
    rising, falling = np.arange(5.0), -np.arange(5.0)
    runs = planted(2, IMAGES)[0]
    assert correlations(runs, [rising, rising], [rising, rising]) == pytest.approx([1, 1, 1, 1])
    assert correlations(runs, [rising, rising], [rising, falling])[:2] == pytest.approx([0, 0])


def test_the_images_of_kept_checkpoints_are_alike_and_differ_less_than_independent_ones():
    assert 0.3 < strict_ceiling.paired_share("choosing") < 0.8

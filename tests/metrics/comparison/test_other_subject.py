"""Samples of another subject than the photos, and samples that only differ as samples do."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from metrics.comparison.other_subject import APART, CHANCE, FARTHER, Apartness, _apart, _within, apartness
from metrics.trajectory.readings import Reading

SUBJECTS = Path(__file__).parents[4] / "shared" / "data" / "subjects"


def photos_of(subject: int, count: int, *, seed: int, spread: float = 0.7, shared: float = 1.0) -> np.ndarray:
    """Unit rows: a part that all images have, the subject's own, and each image's own."""
    own, common = np.random.default_rng(subject).normal(size=64), np.random.default_rng(99).normal(size=64)
    each = np.random.default_rng([subject, seed]).normal(size=(count, 64))
    rows = shared * common + own + spread * each
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("shared", [0.0, 1.0, 4.0])  # how alike the encoder finds whatever it is shown
@pytest.mark.parametrize("counts", [(3, 4), (8, 20)])
def test_another_subject_is_named_whatever_the_encoder_calls_alike(shared: float, counts: tuple[int, int]) -> None:
    few, many = counts
    for subject in range(4):
        photos = photos_of(subject, many, seed=0, shared=shared)
        assert apartness(photos_of(subject + 10, few, seed=1, shared=shared), photos).other
        assert not apartness(photos_of(subject, few, seed=1, shared=shared), photos).other


def test_a_style_of_drawing_and_samples_that_are_all_one_are_no_other_subject() -> None:
    photos = photos_of(0, 12, seed=0)
    drawn = photos_of(0, 8, seed=1) + 0.25 * photos_of(50, 1, seed=0, spread=0, shared=0)
    assert not apartness(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), photos).other
    for copied in range(3):
        assert not apartness(np.repeat(photos[copied : copied + 1], 6, axis=0), photos).other


def test_the_interval_holds_the_value_and_narrows_with_samples() -> None:
    photos = photos_of(0, 20, seed=0)
    widths = []
    for count in (5, 40):
        reading = apartness(photos_of(7, count, seed=1), photos).reading
        assert reading.low < reading.value < reading.high
        widths.append(reading.high - reading.low)
    assert widths[1] < widths[0] / 2


@pytest.mark.services
def test_real_subjects_are_told_apart() -> None:
    """Photos of each real subject as the samples of the next one's LoRA; and three photos against the others."""
    from PIL import Image

    from benchmarks.data_check import real_encoder

    encoder = real_encoder()
    features = []
    for folder in sorted(path for path in SUBJECTS.iterdir() if path.is_dir()):
        images = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.jpg"))]
        features.append(encoder.images(images))
    assert len(features) >= 17
    for samples, photos in pairwise([*features, features[0]]):
        assert apartness(samples, photos).other
    accused = [apartness(rows[:3], rows[3:]).other for rows in features if len(rows) >= 6]
    assert sum(accused) == 0


def test_how_far_groups_lie_apart_is_what_its_definition_says() -> None:
    samples, photos = photos_of(0, 5, seed=1), photos_of(7, 6, seed=2)
    rows = np.concatenate([samples, photos])
    cosines = rows @ rows.T
    one, other, between = (
        np.mean([cosines[i, j] for i in a for j in b if i != j])
        for a, b in ((range(5), range(5)), (range(5, 11), range(5, 11)), (range(5), range(5, 11)))
    )
    assert _within(cosines[:5, :5]) == pytest.approx(one)
    within = (min(one, (1 + other) / 2) + other) / 2
    found = apartness(samples, photos)
    assert found.reading.value == pytest.approx((within - between) / (1 - within))
    assert found.farther == pytest.approx((other - between) / (1 - other))
    assert 1 / 200 <= found.chance <= 1
    mine = np.arange(11) < 5
    each = [_apart(np.delete(np.delete(cosines, r, 0), r, 1), np.delete(mine, r)) for r in range(5)]
    jackknife = 1.645 * np.sqrt(4 / 5 * sum((value - np.mean(each)) ** 2 for value in each))
    assert found.reading.high - found.reading.value == pytest.approx(jackknife)
    assert found.reading.value - found.reading.low == pytest.approx(jackknife)
    alone = apartness(samples[:3], photos).reading
    assert alone.low == alone.value == alone.high


@pytest.mark.parametrize(
    ("value", "farther", "chance", "other"),
    [
        (APART + 0.01, FARTHER + 0.01, CHANCE, True),
        (APART, FARTHER + 0.01, CHANCE, False),
        (APART + 0.01, FARTHER, CHANCE, False),
        (APART + 0.01, FARTHER + 0.01, CHANCE + 0.01, False),
    ],
)
def test_another_subject_is_far_apart_farther_than_photos_and_by_no_chance(
    value: float, farther: float, chance: float, other: bool
) -> None:
    assert Apartness(Reading(value, value, value), farther, chance).other is other

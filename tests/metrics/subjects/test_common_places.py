"""What all photos show is told from what stands around it, by features of places."""

import numpy as np
import pytest

from metrics.subjects.common_places import _evenly, _of_stage, common_places
from metrics.subjects.masks import subject_masks
from tests.metrics.subjects.test_masks import attended, overlap, portraits


def seen(count: int, side: int, seed: int, size: int = 48) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features of places, a block of which shows the subject before a background of its own; and the blocks."""
    generator = np.random.default_rng(seed)
    subject = generator.normal(size=size)
    features, blocks = [], []
    for _ in range(count):
        behind, block = generator.normal(size=size), np.zeros((side, side), bool)
        top, left = generator.integers(1, side - side // 2, 2)
        block[top : top + side // 2, left : left + side // 2 - 1] = True
        features.append(np.where(block[..., None], subject, behind) + 0.5 * generator.normal(size=(side, side, size)))
        blocks.append(block)
    return np.array(features, np.float32), blocks


@pytest.mark.parametrize("count", [2, 5, 20])
def test_places_that_all_photos_show_are_higher(count: int) -> None:
    stage, blocks = seen(count, 12, seed=count)
    found = common_places([stage])
    assert len(found) == count
    for values, block in zip(found, blocks, strict=True):
        assert values.shape == (12, 12)
        assert values[block].min() > values[~block].max() - 0.5
        assert values[block].mean() > values[~block].mean() + 0.5


def test_stages_are_added_up_at_the_finest() -> None:
    fine, blocks = seen(4, 12, seed=0)
    coarse = fine.reshape(4, 6, 2, 6, 2, -1).mean(axis=(2, 4))
    both, one = common_places([coarse, fine]), common_places([fine])
    for values, alone, block in zip(both, one, blocks, strict=True):
        assert values.shape == alone.shape == (12, 12)
        assert values[block].mean() - values[~block].mean() > alone[block].mean() - alone[~block].mean()


def test_hints_keep_of_a_subject_what_does_not_stand_out() -> None:
    """An astronaut of whom only the orange suit stands out."""
    photos, persons = portraits()
    hints = attended(persons[:4], side=16, noise=0.1)
    plain = subject_masks(photos[:4], source="saliency")
    found = subject_masks(photos[:4], source="saliency", hints=hints)
    assert set(found.sources) == {"saliency"}
    assert "what the encoder sees in all photos" in found.notes[-1]
    without, with_hints = (
        np.mean([overlap(mask, person) for mask, person in zip(each.masks, persons[:4], strict=True)])
        for each in (plain, found)
    )
    assert without < 0.5
    assert with_hints > without + 0.2


def test_a_stage_of_one_place_says_nothing() -> None:
    stage = np.random.default_rng(0).normal(size=(3, 1, 1, 5))
    for values in common_places([stage]):
        assert values == pytest.approx(np.zeros((1, 1)), abs=0.2)


def by_definition(stage: np.ndarray, asked: list[list[int]]) -> list[np.ndarray]:
    """Place by place: the mean of the two likest places of each photo that is asked, less that of its border's."""
    count, height, width, _ = stage.shape
    rows = stage - stage.mean(axis=(0, 1, 2))
    rows = rows / np.linalg.norm(rows, axis=3, keepdims=True)
    border = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
    every = [(y, x) for y in range(height) for x in range(width)]
    maps = []
    for own in range(count):
        values = np.empty((height, width))
        for y, x in every:
            more = []
            for other in asked[own]:
                alike, edge = (
                    sorted(float(rows[own, y, x] @ rows[other, b, a]) for b, a in places) for places in (every, border)
                )
                more.append(np.mean(alike[-2:]) - np.mean(edge[-2:]))
            values[y, x] = np.median(more)
        maps.append(values)
    return maps


def test_a_place_counts_for_what_it_shares_beyond_the_border_of_others() -> None:
    stage = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    found = _of_stage(stage)
    for values, expected in zip(found, by_definition(stage, [[1, 2], [0, 2], [0, 1]]), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-5)
    whole = common_places([stage])
    for values, expected in zip(whole, found, strict=True):
        low, high = np.quantile(expected, [0.02, 0.98])
        np.testing.assert_allclose(values, ((expected - low) / (high - low)).clip(-0.2, 1.2), atol=1e-5)


@pytest.mark.parametrize(
    ("others", "places", "asked"),
    [
        (1, 9, [0]),
        (3, 2304, [0, 1, 2]),
        (12, 9, [*range(12)]),
        (23, 576, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]),
        (11, 1024, [0, 2, 4, 6, 8, 10]),  # 6 * 1024 places of all that may be looked at
        (7, 2304, [0, 2, 4, 6]),
        (13, 10**6, [0, 4, 8, 12]),
    ],
)
def test_of_many_photos_or_places_some_are_asked_evenly(others: int, places: int, asked: list[int]) -> None:
    assert _evenly(others, places).tolist() == asked

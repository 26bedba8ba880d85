"""What all photos show is told from what stands around it, by features of places."""

import numpy as np
import pytest

from metrics.subjects.common_places import common_places
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

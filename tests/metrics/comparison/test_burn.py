"""Burn between two folders: how rare its worst reading is, and on which side of the photos the samples are."""

import numpy as np
import pytest
from scipy.stats import norm, t

from metrics.channels.colour import burn_null
from metrics.comparison.compare import score_folders
from tests.metrics.photo_sets import burnt, crops, in_memory


def test_the_word_for_burn_says_on_which_side_the_samples_are() -> None:
    plain, dull = crops(12, 1), np.uint8(crops(12, 1) * 0.4 + 80)
    for photos, samples, says in (
        (plain, burnt(crops(8, 5)), "clipped pixels"),
        (burnt(plain), crops(8, 5), "fewer clipped pixels"),
        (dull, crops(8, 5), "more saturated"),
        (plain, np.uint8(crops(8, 5) * 0.4 + 80), "less colourful"),
        (plain, crops(8, 5), "as the photos"),
    ):
        found = score_folders(in_memory(photos), in_memory(samples), None, None).measures
        assert next(each.says for each in found if each.name == "burn") == says


def test_burn_is_the_worst_of_ten_readings() -> None:
    found = score_folders(in_memory(crops(20, 1)), in_memory(burnt(crops(8, 5))), None, None).measures[1]
    rare = 10 * t.sf(found.value / burn_null(8, 20), 19)
    assert found.units == pytest.approx(norm.isf(rare), rel=1e-6)

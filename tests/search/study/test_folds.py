"""Which photos twins leave out, and how many twins there can be."""

from typing import Any

import numpy as np
import pytest

from search.errors import StudyError
from search.study.folds import folds
from search.study.study import load_study
from tests.messages import refusal
from tests.search.conftest import StudyWriter


def test_each_photo_is_left_out_once_and_never_without_its_copies() -> None:
    seen = np.eye(10)
    copies = np.zeros((10, 10), bool)
    copies[2, 7] = copies[7, 2] = copies[7, 9] = copies[9, 7] = True
    found = folds(3, seen, 0, copies)
    assert sorted(row for rows in found for row in rows) == list(range(10))
    assert [{2, 7, 9} <= set(rows) for rows in found].count(True) == 1
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert folds(3, seen, 0, copies) == found != folds(3, seen, 1, copies)
    assert folds(4, np.ones((3, 2)), 0) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("settings", "got", "expected"),
    [
        ({"finalists": {"twins": 1}}, 1, "from 2 to 8"),
        ({"finalists": {"twins": 9}}, 9, "8"),
        ({"finalists": {"twins": 7}}, 7, "at most 6, so that each leaves one out"),
    ],
)
def test_twins_that_cannot_be_are_refused(
    write_study: StudyWriter, settings: dict[str, Any], got: int, expected: str
) -> None:
    with pytest.raises(StudyError, match=refusal("finalists.twins", got, expected)):
        load_study(write_study(**settings))

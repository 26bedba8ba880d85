"""Images laid out on paper: which belong together is seen."""

import numpy as np

from trainer.inference.picture_grid import Column, picture_grid


def test_rows_of_one_prompt_stand_closer_together_than_those_of_two() -> None:
    red = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    grid = np.asarray(picture_grid([[red] * 3], [Column("8")], ["a toy", "a toy", "a house"], cell=64))
    rows = np.flatnonzero((grid == (255, 0, 0)).all(axis=2).any(axis=1))
    within, between = np.diff(rows)[np.diff(rows) > 1]
    assert within < between

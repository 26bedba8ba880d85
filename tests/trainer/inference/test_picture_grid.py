"""Images laid out on paper: which belong together is seen."""

import numpy as np

from trainer.inference.picture_grid import Column, picture_grid


def test_rows_of_one_prompt_stand_closer_together_than_those_of_two() -> None:
    red = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    grid = np.asarray(picture_grid([[red] * 3], [Column("8")], ["a toy", "a toy", "a house"], cell=64))
    rows = np.flatnonzero((grid == (255, 0, 0)).all(axis=2).any(axis=1))
    within, between = np.diff(rows)[np.diff(rows) > 1]
    assert within < between


def test_no_image_covers_another():
    colours = {(column, row): (40 + 50 * column, 90 * row, 200) for column in range(3) for row in range(2)}
    images = [[np.full((48, 32, 3), colours[column, row], np.uint8) for row in range(2)] for column in range(3)]
    columns = [Column("8", paper=(255, 240, 220)), Column("16", "ships"), Column("24")]
    grid = np.asarray(picture_grid(images, columns, ["a toy", "a house"], kinds=["new", "known"], title="t", cell=64))
    for colour in colours.values():
        rows, places = np.nonzero((grid == colour).all(axis=2))
        assert len(rows) == 64 * 96
        assert (np.ptp(rows), np.ptp(places)) == (95, 63)

"""Contact sheets: epochs go across, prompts go down, and what is to be pointed out is."""

import numpy as np
import pytest

from search.verdict.best_files import fitting
from search.verdict.sheet import BAND, ONSET, SHIP, SHIP_PAPER, Marks, _column, choose_epochs, contact_sheet

EPOCHS = (0, 5, 10, 20)
CAPTIONS = ("a photo of sks toy", "a photo of sks toy", "sks toy on the moon, seen from very far away, in winter")


def _colour(epoch: int, row: int) -> tuple[int, int, int]:
    return (40 + 10 * EPOCHS.index(epoch), 60 + 20 * row, 200)


def _images() -> dict[int, list[np.ndarray]]:
    return {e: [np.full((32, 48, 3), _colour(e, row), np.uint8) for row in range(len(CAPTIONS))] for e in EPOCHS}


def _box(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of all pixels of one colour."""
    rows, columns = np.nonzero((sheet == np.array(colour)).all(axis=-1))
    assert rows.size, f"{colour} is not on the sheet"
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_epochs_go_across_and_prompts_down_and_no_picture_is_squeezed():
    sheet = np.asarray(contact_sheet(_images(), CAPTIONS, title="Trial 7", cell=96))
    boxes = {(e, row): _box(sheet, _colour(e, row)) for e in EPOCHS for row in range(len(CAPTIONS))}
    for row in range(len(CAPTIONS)):
        lefts = [boxes[e, row][0] for e in EPOCHS]
        assert lefts == sorted(lefts)
        assert len(set(lefts)) == len(EPOCHS)
        assert len({boxes[e, row][1] for e in EPOCHS}) == 1, "one row, one height"
    tops = [boxes[5, row][1] for row in range(len(CAPTIONS))]
    assert tops == sorted(tops)
    assert len(set(tops)) == len(CAPTIONS)
    left, top, right, bottom = boxes[10, 2]
    assert (right - left + 1, bottom - top + 1) == (96, 64)


def test_the_epoch_to_ship_and_the_onset_are_marked_in_their_columns_only():
    marks = Marks(shipped=5, onset=12.0, low=8.0, high=14.0)
    sheet = np.asarray(contact_sheet(_images(), CAPTIONS, marks=marks))
    plain = np.asarray(contact_sheet(_images(), CAPTIONS))
    for paper, epoch in ((SHIP_PAPER, 5), (BAND, 10)):
        left, _, right, _ = _box(sheet, paper)
        picture = _box(sheet, _colour(epoch, 0))
        assert left <= picture[0]
        assert picture[2] <= right
        others = [_box(sheet, _colour(e, 0)) for e in EPOCHS if e != epoch]
        assert all(right < other[0] or left > other[2] for other in others)
        assert not (plain == np.array(paper)).all(axis=-1).any()


def test_the_base_is_never_marked_even_where_the_interval_begins_at_it():
    marks = Marks(shipped=5, onset=1.0, low=0.0, high=12.0)
    assert marks.nearest(EPOCHS) == 5
    sheet = np.asarray(contact_sheet(_images(), CAPTIONS, marks=marks))
    assert _box(sheet, BAND)[0] > _box(sheet, _colour(0, 0))[2]


def test_a_checkpoint_without_one_of_the_images_is_refused_by_name():
    images = _images()
    images[10] = images[10][:-1]
    with pytest.raises(ValueError, match="epoch 10 has 2 images for 3 prompts"):
        contact_sheet(images, CAPTIONS)


def test_a_long_run_is_thinned_out_but_never_loses_what_matters():
    chosen = choose_epochs(range(0, 202, 2), 8, keep=(37, 120, None))
    assert len(chosen) <= 8
    assert {0, 200, 120} <= set(chosen)
    assert {36, 38} & set(chosen)
    assert choose_epochs([4, 0, 2], 8) == [0, 2, 4]


def test_around_what_matters_epochs_are_shown_one_by_one():
    chosen = choose_epochs(range(0, 202, 2), 12, keep=(60,))
    assert len(chosen) == 12
    assert set(range(54, 68, 2)) <= set(chosen)
    assert {0, 200} <= set(chosen)


def test_a_label_stays_within_its_column():
    images = {epoch: [np.full((64, 64, 3), 200, np.uint8)] for epoch in (4, 8, 12)}
    marks = Marks(shipped=4, onset=8.0, onset_name="context onset", unit="epoch")
    sheet = np.asarray(contact_sheet(images, ["toy"], marks=marks, cell=104))
    head = sheet[: np.flatnonzero((sheet == 200).all(axis=2).any(axis=1))[0]]
    inked = (np.abs(head.astype(int) - ONSET).sum(axis=2) < 60).any(axis=0)
    columns = np.flatnonzero((sheet == 200).all(axis=2).any(axis=0))
    second = columns[104:208]
    at = np.flatnonzero(inked)
    assert at.size
    assert second[0] - 6 <= at[0]
    assert at[-1] <= second[-1] + 6


def test_the_range_of_the_onset_is_named_once():
    marks = Marks(shipped=8, onset=12.0, low=6.0, high=None, onset_name="context onset")
    epochs = (0, 4, 6, 8, 10, 12, 14, 16)
    labels = [marks.label(epoch, epochs) for epoch in epochs]
    assert labels == ["", "", "onset range", "ship this", "", "context onset", "", ""]
    assert [marks.label(epoch, epochs[2:]) for epoch in epochs[2:]] == labels[2:]


def test_each_caption_says_what_its_images_are():
    plain = np.asarray(contact_sheet(_images(), CAPTIONS))
    told = np.asarray(contact_sheet(_images(), CAPTIONS, kinds=["trained caption"] * 2 + ["new context"]))
    differ = np.nonzero((plain != told).any(axis=-1))
    first = _box(told, _colour(0, 0))
    assert differ[0].size
    assert differ[1].max() < first[0], "beside the images only"
    assert np.ptp(differ[0]) > first[3] - first[1], "at both captions"


@pytest.mark.parametrize("prompts", [1, 6, 16, 30])
@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("size", [(64, 64), (512, 512), (1152, 768)])
def test_a_sheet_is_never_higher_than_a_screen_can_show(prompts, seeds, size):
    cell, shown = fitting(prompts, seeds, *size)
    images = {epoch: [np.zeros((*size, 3), np.uint8)] * (prompts * shown) for epoch in (0, 2)}
    captions = [f"prompt {number}" for number in range(prompts) for _ in range(shown)]
    sheet = contact_sheet(images, captions, title="t", subtitle="s", kinds=["new context"] * len(captions), cell=cell)
    assert sheet.height <= 1600
    assert 1 <= shown <= seeds
    if prompts <= 6:
        assert shown == seeds or cell < 160


@pytest.mark.parametrize(("images", "captions"), [({}, CAPTIONS), (_images(), ())])
def test_a_sheet_of_nothing_is_refused(images, captions):
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet(images, captions, title="Trial 7")


def test_only_what_ships_and_the_onset_have_a_sign() -> None:
    marks = Marks(shipped=4, onset=7.0, low=6.0, high=12.0, safe=2, alike=10, onset_name="memory onset")
    epochs = [0, 2, 4, 6, 8, 10, 12, 14]
    heads = {epoch: _column(epoch, epochs, marks) for epoch in epochs}
    assert {epoch: head.label for epoch, head in heads.items()} == {
        0: "", 2: "safe", 4: "▲ ship this", 6: "● memory onset", 8: "onset range", 10: "most alike", 12: "", 14: "",
    }  # fmt: skip
    assert [head.name for head in heads.values()][:2] == ["base", "epoch 2"]
    assert [epoch for epoch, head in heads.items() if head.bold] == [4, 6]
    assert [epoch for epoch, head in heads.items() if head.ink == SHIP] == [2, 4, 10]
    assert [epoch for epoch, head in heads.items() if head.paper == BAND] == [6, 8, 10, 12]
    assert [epoch for epoch, head in heads.items() if head.paper == SHIP_PAPER] == [4]

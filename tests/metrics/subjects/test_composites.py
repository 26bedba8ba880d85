"""Composites: the subject arrives whole, elsewhere, in other sizes; backgrounds stay; everything is used evenly."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.errors import MetricsError
from metrics.subjects.composites import composites_sheet, context_caption, make_composites, position_words
from tests.metrics.subjects.planted_subjects import planted


@pytest.fixture(scope="module")
def made():
    photos, truths = planted(4)
    masks = [truth.astype(np.float32) for truth in truths]
    backgrounds = np.stack([np.full((64, 64, 3), value, np.uint8) for value in (0, 60, 120)])
    return photos, masks, backgrounds, make_composites(photos, masks, backgrounds, count=24, seed=0)


def test_every_photo_meets_every_background_equally_often(made):
    _, _, _, composites = made
    pairs = list(zip(composites.photo.tolist(), composites.background.tolist(), strict=True))
    assert {pair: pairs.count(pair) for pair in pairs} == {
        (photo, scene): 2 for photo in range(4) for scene in range(3)
    }


def test_outside_its_box_the_background_is_untouched_and_inside_the_subject_is_there(made):
    _, _, backgrounds, composites = made
    for image, scene, (left, top, right, bottom) in zip(
        composites.images, composites.background, composites.box, strict=True
    ):
        outside = np.ones((64, 64), bool)
        outside[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = False  # the seam is soft
        assert (image[outside] == backgrounds[scene][0, 0]).all()
        red = (image[..., 0] > 150) & (image[..., 1] < 90)
        assert red[top:bottom, left:right].mean() > 0.2
        assert not red[: max(0, top - 1)].any()
        assert not red[bottom + 1 :].any()


def test_the_box_is_the_subject_without_its_seam():
    photo, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)
    mask[26:50, 22:42] = 1
    photo[..., 0] = 255 * mask
    moved = make_composites([photo], [mask], np.zeros((2, 64, 64, 3), np.uint8), count=40, seed=0)
    for image, (left, top, right, bottom) in zip(moved.images, moved.box, strict=True):
        red = image[..., 0] > 127
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        seen = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        assert np.abs(np.subtract(seen, (left, top, right, bottom))).max() <= 1
        assert abs(bottom - 50) <= 0.03 * 64 + 1


def test_subjects_move_and_change_size(made):
    _, _, _, composites = made
    widths = composites.box[:, 2] - composites.box[:, 0]
    assert widths.max() > 1.4 * widths.min()
    middles = (composites.box[:, 0] + composites.box[:, 2]) / 2 / 64
    assert middles.max() - middles.min() > 0.4


def test_subjects_are_never_mirrored(made):
    photos, masks, _, _ = made
    lopsided = photos[0].copy()
    lopsided[:, : int(np.flatnonzero(masks[0].any(axis=0)).mean())] = (0, 255, 0)
    moved = make_composites([lopsided], masks[:1], np.zeros((1, 64, 64, 3), np.uint8), count=12, seed=1)
    for image, (left, _, right, _) in zip(moved.images, moved.box, strict=True):
        green = np.flatnonzero(((image[..., 1] > 150) & (image[..., 0] < 80)).any(axis=0)).mean()
        assert green < (left + right) / 2


@pytest.mark.parametrize("side", [64, 512])
def test_seams_are_soft_and_carry_no_rim_of_the_old_background(side: int):
    photo = np.full((side, side, 3), (0, 255, 0), np.uint8)
    rows, columns = np.indices((side, side))
    disc = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (0.23 * side) ** 2
    photo[disc] = (255, 0, 0)
    black = np.zeros((1, side, side, 3), np.uint8)
    composites = make_composites([photo], [disc.astype(np.float32)], black, count=6, seed=0)
    greens, reds = composites.images[..., 1].astype(int), composites.images[..., 0].astype(int)
    assert greens.max() < 40
    assert ((reds > 30) & (reds < 220)).any()


def test_limbs_stay_whole_and_the_gaps_between_them_empty():
    photo, mask = np.full((512, 512, 3), (0, 255, 0), np.uint8), np.zeros((512, 512), np.float32)
    mask[100:460, 200:300] = mask[200:400, 308:320] = mask[60:500, 180:188] = 1  # a body, an arm beside it, a staff
    mask[200:212, 300:308] = mask[300:308, 188:200] = 1
    photo[mask > 0] = (255, 0, 0)
    moved = make_composites([photo], [mask], np.zeros((1, 512, 512, 3), np.uint8), count=4, seed=0, scales=(1, 1))
    for image in moved.images:
        assert image[..., 0].sum() > 0.95 * 255 * mask.sum()
        assert image[..., 1].sum() < 0.002 * 255 * mask.sum()


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(made):
    photos, masks, backgrounds, composites = made
    again = make_composites(photos, masks, backgrounds, count=24, seed=0)
    np.testing.assert_array_equal(again.images, composites.images)
    assert not np.array_equal(make_composites(photos, masks, backgrounds, count=24, seed=1).images, composites.images)


@pytest.mark.parametrize(("count", "num_backgrounds"), [(24, 6), (16, 8), (30, 7)])
def test_backgrounds_are_used_evenly_and_no_pair_twice_before_its_time(made, count: int, num_backgrounds: int):
    photos, masks, backgrounds, _ = made
    scenes = np.resize(backgrounds, (num_backgrounds, *backgrounds.shape[1:]))
    composites = make_composites(photos, masks, scenes, count=count, seed=3)
    assert np.ptp(np.bincount(composites.background, minlength=num_backgrounds)) <= 1
    for photo in range(len(photos)):
        assert np.ptp(np.bincount(composites.background[composites.photo == photo], minlength=num_backgrounds)) <= 1


@pytest.mark.parametrize("sides", ["bottom", "top", "left", "right", "left bottom", "top right"])
def test_a_subject_that_the_photo_cuts_off_stays_at_that_edge(sides: str):
    photo, mask = np.full((96, 96, 3), 255, np.uint8), np.zeros((96, 96), np.float32)
    rows = slice(0, 50) if "top" in sides else slice(50, 96) if "bottom" in sides else slice(30, 70)
    columns = slice(0, 40) if "left" in sides else slice(56, 96) if "right" in sides else slice(30, 70)
    mask[rows, columns] = 1
    moved = make_composites([photo], [mask], np.zeros((2, 64, 96, 3), np.uint8), count=10, seed=0)
    edges = {"left": (0, 0), "top": (1, 0), "right": (2, 96), "bottom": (3, 64)}
    for side in sides.split():
        assert (moved.box[:, edges[side][0]] == edges[side][1]).all()
    for image, (left, top, right, bottom) in zip(moved.images, moved.box, strict=True):  # opaque up to the edge
        x, y = (left + right) // 2, (top + bottom) // 2
        ends = {"left": image[y, 0], "top": image[0, x], "right": image[y, 95], "bottom": image[63, x]}
        assert all((ends[side] > 250).all() for side in sides.split())
    if sides in ("bottom", "top"):
        assert np.ptp(moved.box[:, 0]) > 10


def test_a_subject_cut_off_below_has_the_same_seam_at_its_left_and_right():
    photo, mask = np.full((64, 160, 3), 255, np.uint8), np.zeros((64, 160), np.float32)
    mask[30:, 64:96] = 1
    moved = make_composites([photo], [mask], np.zeros((1, 64, 160, 3), np.uint8), count=4, seed=0, scales=(1, 1))
    for image, (left, top, right, bottom) in zip(moved.images, moved.box, strict=True):
        row = image[(top + bottom) // 2, :, 0]
        np.testing.assert_array_equal(row[left - 4 : left + 4], row[right - 4 : right + 4][::-1])
        assert 0 < row[right - 1] < 250  # soft


@pytest.mark.parametrize("gap", [0, 1])
def test_a_mask_that_ends_just_before_the_edge_leaves_no_stripe(gap: int):
    photo, mask = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), np.float32)
    photo[200:, 150:350] = 255
    mask[200 : 512 - gap, 150:350] = 1
    moved = make_composites([photo], [mask], np.zeros((1, 512, 512, 3), np.uint8), count=4, seed=0)
    for image, (left, _, right, _) in zip(moved.images, moved.box, strict=True):
        assert image[-1, (left + right) // 2].min() == 255


def test_a_bust_that_nearly_fills_the_frame_shows_no_cut():
    photo, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.float32)
    mask[2:30, 20:44] = mask[30:, :] = 1  # head and shoulders
    moved = make_composites([photo], [mask], np.zeros((2, 64, 64, 3), np.uint8), count=6, seed=0)
    assert (moved.images[:, 40:, [0, 63]] == 255).all()


def test_subjects_stand_elsewhere_than_in_their_photo():
    photo, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.float32)
    mask[20:50, 22:42] = 1  # in the middle
    moved = make_composites([photo], [mask], np.zeros((1, 64, 64, 3), np.uint8), count=200, seed=0)
    middle = (moved.box[:, [0, 1]] + moved.box[:, [2, 3]]) / 2 / 64
    assert (np.hypot(*(middle - (0.5, 35 / 64)).T) > 0.14).mean() > 0.97


@pytest.mark.parametrize("across", [True, False])
def test_a_subject_that_is_cut_off_at_both_sides_goes_from_edge_to_edge(across: bool):
    photo, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.float32)
    mask[(slice(40, 64), slice(None)) if across else (slice(None), slice(20, 40))] = 1
    moved = make_composites([photo], [mask], np.zeros((2, 96, 96, 3), np.uint8), count=12, seed=0)
    ends = (0, 2) if across else (1, 3)
    assert (moved.box[:, ends] == (0, 96)).all()
    for image, (left, top, right, bottom) in zip(moved.images, moved.box, strict=True):
        line = image[(top + bottom) // 2, :, 0] if across else image[:, (left + right) // 2, 0]
        assert line.min() > 250  # no cut inside the frame
    assert across or np.ptp(moved.box[:, 0]) > 20


def test_photos_and_scenes_of_other_shapes_squeeze_no_subject():
    photo, mask = np.full((60, 120, 3), 255, np.uint8), np.zeros((60, 120), np.float32)
    mask[20:50, 50:70] = 1
    moved = make_composites([photo], [mask], np.zeros((1, 120, 90, 3), np.uint8), count=40, seed=0)
    size = np.stack([moved.box[:, 2] - moved.box[:, 0], moved.box[:, 3] - moved.box[:, 1]], axis=1)
    assert np.abs(size[:, 1] / size[:, 0] - 1.5).max() < 0.1
    share = np.sqrt(size.prod(axis=1) / (90 * 120)) / np.sqrt(20 * 30 / (60 * 120))
    assert np.abs(share - moved.scale).max() < 0.05
    assert moved.scale.min() < 0.7
    assert 0.95 < moved.scale.max() <= 1
    large = make_composites([photo], [mask], np.zeros((1, 120, 90, 3), np.uint8), count=4, seed=0, scales=(9, 9))
    assert (large.box[:, 3] - large.box[:, 1] == 114).all()  # 0.95 of the frame at most


def test_photos_without_a_subject_are_left_out_and_none_at_all_is_an_error(made):
    photos, masks, backgrounds, _ = made
    empty, row = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    row[30, 10:50] = 1  # a scratch
    for nothing in (empty, row, row.T):
        composites = make_composites(photos, [nothing, *masks[1:]], backgrounds, count=9, seed=0)
        assert set(composites.photo) == {1, 2, 3}
    with pytest.raises(MetricsError, match="no photo has a subject"):
        make_composites(photos, [empty] * 4, backgrounds, count=9, seed=0)
    with pytest.raises(MetricsError, match="no background"):
        make_composites(photos, masks, backgrounds[:0], count=9, seed=0)


def test_moves_keep_to_what_was_asked(made):
    photos, masks, backgrounds, _ = made
    composites = make_composites(photos, masks, backgrounds, count=36, seed=0, scales=(1, 1), rise=0)
    middles = (composites.box[:, 0] + composites.box[:, 2]) / 2 / 64
    assert np.abs(middles[:, None] - [0.25, 0.5, 0.75]).min(axis=1).max() < 0.06
    feet = [np.flatnonzero((mask > 0.5).any(axis=1))[-1] + 1 for mask in masks]
    assert np.abs(composites.box[:, 3] - np.array(feet)[composites.photo]).max() <= 1
    sizes = np.array([np.flatnonzero((mask > 0.5).any(axis=0)).size for mask in masks])
    assert np.abs(composites.box[:, 2] - composites.box[:, 0] - sizes[composites.photo]).max() <= 1


def test_captions_say_what_was_done(made):
    _, _, _, composites = made
    words = position_words(composites)
    assert set(words) == {"left", "centre", "right"}
    left = composites.box[words.index("left")]
    assert (left[0] + left[2]) / 2 < 64 / 3
    assert context_caption("{trigger} {class} in the snow", trigger="sks", class_word="toy") == "sks toy in the snow"
    assert context_caption("a {trigger} {class} in snow", trigger="", class_word="toy") == "a toy in snow"
    with pytest.raises(MetricsError, match=r"only \{trigger\} and \{class\}"):
        context_caption("{subject} in snow", trigger="sks", class_word="toy")


def test_the_sheet_shows_photo_outline_cutout_and_composites(made, tmp_path: Path):
    photos, masks, _, composites = made
    sheet = composites_sheet(
        photos, masks, composites, path=tmp_path / "new" / "sheets" / "moved.png", columns=3, cell=68
    )
    assert sheet.shape == (4 * 68, 5 * 68, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "sheets" / "moved.png")), sheet)
    again = composites_sheet(photos, masks, composites, path=tmp_path / "new" / "sheets" / "moved.png", cell=20)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "sheets" / "moved.png")), again)
    outlined = sheet[:68, :68].reshape(-1, 3)
    assert (np.abs(outlined.astype(int) - (255, 0, 90)).max(axis=1) < 8).sum() > 20


def test_the_sheet_of_many_photos_is_about_as_wide_as_tall(made):
    photos, masks, backgrounds, _ = made
    many = make_composites(photos * 5, masks * 5, backgrounds, count=20, seed=0)
    sheet = composites_sheet(photos * 5, masks * 5, many, rows=20, cell=40)
    assert sheet.shape == (7 * 40, 9 * 40, 3)
    assert (sheet[6 * 40 :, 6 * 40 :] == 255).all()  # 20 photos, three in a row
    assert (sheet[6 * 40 :, 3 * 40 : 6 * 40] < 255).any()

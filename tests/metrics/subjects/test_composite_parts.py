"""The parts of composites: what is cut off, how soft a seam is, where a subject may stand, and the sheet's pictures."""

import numpy as np
import pytest

from metrics.subjects.composites import (
    Composites,
    _bounding_box,
    _cut_out,
    _Cutout,
    _on_checks,
    _outlined,
    _paste,
    _place,
    _scaled,
    _spread_backgrounds,
    _thickness,
    _tile,
    composites_sheet,
    position_words,
)


@pytest.mark.parametrize(
    ("filled", "box"),
    [
        ((slice(3, 7), slice(2, 9)), (2, 3, 9, 7)),
        ((slice(0, 12), slice(0, 16)), (0, 0, 16, 12)),
        ((slice(3, 5), slice(2, 4)), (2, 3, 4, 5)),
        ((slice(3, 4), slice(2, 9)), None),
        ((slice(3, 7), slice(2, 3)), None),
    ],
)
def test_a_subject_has_a_box_of_at_least_two_pixels(
    filled: tuple[slice, slice], box: tuple[int, int, int, int] | None
) -> None:
    mask = np.full((12, 16), 0.5)
    mask[filled] = 0.51
    assert _bounding_box(mask) == box


@pytest.mark.parametrize(("side", "near"), [(64, 1), (512, 2), (1000, 4)])
@pytest.mark.parametrize("edge", range(4))
def test_a_subject_within_a_few_thousandths_of_an_edge_is_cut_off_there(side: int, near: int, edge: int) -> None:
    for gap in range(near + 2):
        box = [side // 4, side // 4, side - side // 4, side - side // 4]
        box[edge] = gap if edge < 2 else side - gap
        left, top, right, bottom = box
        mask = np.zeros((side, side))
        mask[top:bottom, left:right] = 1
        found = _cut_out(np.zeros((side, side, 3), np.uint8), mask, (left, top, right, bottom), 0.02)
        assert found.cut_off == tuple(place == edge and gap < near for place in range(4))
        assert (found.margins[edge] == 0) is (gap < near or gap == 0)
        assert found.box == tuple(part / side for part in box)
        assert found.size == (side, side)
        tall, wide = found.alpha.shape
        assert (wide, tall) == (
            right - left + found.margins[0] + found.margins[2],
            bottom - top + found.margins[1] + found.margins[3],
        )


@pytest.mark.parametrize("width", [4, 10, 21])
def test_the_thickness_of_a_stripe_is_its_width(width: int) -> None:
    mask = np.zeros((200, 60))
    mask[:, 10 : 10 + width] = 1
    assert _thickness(mask) == pytest.approx(width, abs=2.2)


def test_the_seam_is_as_soft_as_a_share_of_the_thickness_and_reaches_no_further_than_its_margin() -> None:
    mask = np.zeros((200, 200))
    mask[50:150, 50:150] = 1
    photo = np.zeros((200, 200, 3), np.uint8)
    width = {}
    for seam in (0.0, 0.05, 0.15):
        found = _cut_out(photo, mask, (50, 50, 150, 150), seam)
        row = found.alpha[found.alpha.shape[0] // 2]
        width[seam] = int(((row > 0) & (row < 1)).sum())
        assert row.max() == 1
        assert row[0] < 0.05
        assert (found.alpha >= 0).all()
    # a Gaussian of 0.6 pixels, or of that share of the thickness
    assert width[0.0] < width[0.05] < width[0.15]
    assert _cut_out(photo, mask, (50, 50, 150, 150), 0.0).margins == (2, 2, 2, 2)


def cutout(box: tuple[float, float, float, float], cut_off: tuple[bool, bool, bool, bool] = (False,) * 4) -> _Cutout:
    return _Cutout(np.zeros((1, 1, 3)), np.zeros((1, 1)), (0,) * 4, cut_off, box, (100, 100))


def test_a_subject_stands_at_its_height_and_near_a_quarter_a_half_or_three_quarters() -> None:
    generator = np.random.default_rng(0)
    places = np.array([_place((20, 10), cutout((0.4, 0.5, 0.6, 0.8)), (100, 200), 0.05, generator) for _ in range(300)])
    feet = places[:, 1] + 20
    assert (feet.min(), feet.max()) == (75, 85)
    assert set(feet) == set(range(75, 86))
    middles = (places[:, 0] + 5) / 200
    nearest = np.abs(middles[:, None] - [0.25, 0.5, 0.75])
    assert nearest.min(axis=1).max() <= 0.04 + 0.5 / 200
    assert set(nearest.argmin(axis=1)) == {0, 2}, "in the middle it stood before"
    elsewhere = [_place((20, 10), cutout((0.0, 0.5, 0.1, 0.8)), (100, 200), 0.05, generator) for _ in range(99)]
    assert {round(4 * (left + 5) / 200) for left, _ in elsewhere} == {1, 2, 3}


@pytest.mark.parametrize(
    ("cut_off", "left", "top"),
    [
        ((True, False, False, False), 0, None),
        ((False, True, False, False), None, 0),
        ((False, False, True, False), 190, None),
        ((False, False, False, True), None, 80),
        ((True, True, False, False), 0, 0),
        ((False, True, False, True), None, 80),  # from edge to edge it has no room; else it stands on the ground
    ],
)
def test_a_subject_that_was_cut_off_stands_at_that_edge(
    cut_off: tuple[bool, bool, bool, bool], left: int | None, top: int | None
) -> None:
    generator = np.random.default_rng(1)
    found = [_place((20, 10), cutout((0.3, 0.5, 0.6, 0.7), cut_off), (100, 200), 0.03, generator) for _ in range(30)]
    for values, expected in zip(zip(*found, strict=True), (left, top), strict=True):
        assert (set(values) == {expected}) is (expected is not None)


def test_a_subject_that_fills_the_frame_stands_in_it_whole() -> None:
    generator = np.random.default_rng(2)
    for _ in range(20):
        left, top = _place((95, 190), cutout((0.0, 0.0, 1.0, 1.0)), (100, 200), 0.5, generator)
        assert 0 <= left <= 10
        assert 0 <= top <= 5


@pytest.mark.parametrize("count", [1, 3, 5])
def test_backgrounds_go_round_for_each_photo_and_over_all(count: int) -> None:
    photo = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 2 * count))
    chosen = _spread_backgrounds(photo, count, np.random.default_rng(1))
    for number in range(4):
        assert sorted(chosen[photo == number]) == sorted(2 * list(range(count)))


@pytest.mark.parametrize(
    ("left", "right", "word"),
    [
        (0, 20, "l"),
        (0, 65, "l"),
        (0, 67, "m"),
        (30, 70, "m"),
        (66, 67, "m"),
        (60, 80, "r"),
        (90, 100, "r"),
        (99, 109, "r"),
    ],
)
def test_thirds_of_the_frame_have_words(left: int, right: int, word: str) -> None:
    box = np.array([[left, 0, right, 10]])
    made = Composites(np.zeros((1, 50, 100, 3), np.uint8), np.zeros(1), np.zeros(1), box, np.ones(1))
    assert position_words(made, ("l", "m", "r")) == [word]


def test_planes_are_scaled_to_height_and_width_and_keep_their_level() -> None:
    assert _scaled(np.full((4, 6), 7.0), (10, 3)).shape == (10, 3)
    np.testing.assert_allclose(_scaled(np.full((4, 6), 7.0), (10, 3)), 7, rtol=1e-5)


@pytest.mark.parametrize(("side", "thick"), [(64, 1), (128, 1), (256, 2), (512, 4)])
def test_an_outline_is_a_hundred_and_twenty_eighth_thick(side: int, thick: int) -> None:
    photo, mask = np.zeros((side, side // 2, 3), np.uint8), np.zeros((side, side // 2))
    mask[side // 4 : side // 2, side // 8 : side // 4] = 1
    found = _outlined(photo, mask)
    line = (found == (255, 0, 90)).all(axis=2)
    height, width = side // 4, side // 8
    assert line.sum() == height * width - (height - 2 * thick) * (width - 2 * thick)
    assert not line[mask == 0].any()
    assert not found[~line].any()
    assert not photo.any()


def test_a_cutout_lies_on_checks() -> None:
    photo, mask = np.full((64, 64, 3), 9, np.uint8), np.zeros((64, 64))
    mask[:, 32:] = 1
    mask[:, 31] = 0.5
    found = _on_checks(photo, mask)
    assert (found[:, 32:] == 9).all()
    checks = found[:, :28, 0]
    rows, columns = np.indices(checks.shape)
    np.testing.assert_array_equal(checks, np.where((rows // 4 + columns // 4) % 2 == 1, 235, 205))
    assert set(found[:, 31, 0]) <= {122, 107}
    assert (_on_checks(np.zeros((512, 8, 3), np.uint8), np.zeros((512, 8)))[::32, 0, 0] == [205, 235] * 8).all()


@pytest.mark.parametrize(("size", "inner"), [((100, 50), (36, 18)), ((10, 10), (36, 36)), ((20, 400), (2, 36))])
def test_a_tile_holds_the_whole_picture_in_the_middle(size: tuple[int, int], inner: tuple[int, int]) -> None:
    found = _tile(np.full((*size, 3), 40, np.uint8), 40)
    assert (found.shape, found.dtype) == ((40, 40, 3), np.uint8)
    dark = (found == 40).all(axis=2)
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert (len(rows), len(columns), dark.sum()) == (*inner, inner[0] * inner[1])
    assert (rows[0], columns[0]) == ((40 - inner[0]) // 2, (40 - inner[1]) // 2)
    assert (found[~dark] == 255).all()


def test_a_row_of_the_sheet_shows_a_photo_and_its_own_composites() -> None:
    photo = np.array([2, 0, 2, 0, 2, 3])
    images = np.stack([np.full((20, 20, 3), 10 * (row + 1), np.uint8) for row in range(6)])
    made = Composites(images, photo, np.zeros(6), np.zeros((6, 4)), np.ones(6))
    photos, masks = [np.full((20, 20, 3), 200 + index, np.uint8) for index in range(4)], [np.zeros((20, 20))] * 4

    def middles(**options: int) -> list[list[int]]:
        sheet = composites_sheet(photos, masks, made, cell=20, **options)
        return sheet[10::20, 10::20, 0].tolist()

    checks = middles()[0][1]
    assert middles() == [
        [200, checks, 20, 40, 255],
        [202, checks, 10, 30, 50],
        [203, checks, 60, 255, 255],
    ]
    assert middles(rows=2, columns=2) == [[200, checks, 20, 40], [202, checks, 10, 30]]
    assert middles(columns=1) == [[200, checks, 20], [202, checks, 10], [203, checks, 60]]


@pytest.mark.parametrize("cut", range(16))
def test_what_is_cut_off_on_both_sides_reaches_from_edge_to_edge_and_all_else_keeps_its_size(cut: int) -> None:
    """A subject of 20 x 10 pixels of 100 x 100, pasted on 100 x 200: the frame's diagonal is √2 times as long."""
    cut_off = (bool(cut & 1), bool(cut & 2), bool(cut & 4), bool(cut & 8))
    subject = _Cutout(
        np.full((20, 10, 3), 250.0), np.ones((20, 10)), (0, 0, 0, 0), cut_off, (0.45, 0.4, 0.55, 0.6), (100, 100)
    )
    for seed in range(4):
        scene = np.zeros((100, 200, 3), np.uint8)
        image, box, scale = _paste(subject, scene, (0.66, 1.0), 0.03, np.random.default_rng(seed))
        high, wide = box[3] - box[1], box[2] - box[0]
        assert wide / high == pytest.approx(0.5, abs=0.1)
        whole = (cut_off[0] and cut_off[2]) or (cut_off[1] and cut_off[3])
        if whole:
            assert high == 100, "it fills the frame's height, and its width is what that allows"
        else:
            assert 0.66 <= scale <= 1.0
            assert high == round(20 * scale * np.sqrt(2))
        assert scale == pytest.approx(high / 20 / np.sqrt(2), abs=0.05)
        assert (image[box[1] : box[3], box[0] : box[2]] > 240).mean() > 0.9
        assert image.sum() == pytest.approx(250 * 3 * high * wide, rel=0.01)
        assert not scene.any()


def test_a_tiny_subject_is_two_pixels_and_a_large_one_leaves_a_twentieth() -> None:
    tiny = _Cutout(np.ones((2, 2, 3)), np.ones((2, 2)), (0,) * 4, (False,) * 4, (0.4, 0.4, 0.6, 0.6), (400, 400))
    _, box, _ = _paste(tiny, np.zeros((40, 40, 3), np.uint8), (0.9, 1.0), 0.03, np.random.default_rng(0))
    assert (box[2] - box[0], box[3] - box[1]) == (2, 2)
    large = _Cutout(np.ones((90, 90, 3)), np.ones((90, 90)), (0,) * 4, (False,) * 4, (0, 0, 1, 1), (90, 90))
    _, box, scale = _paste(large, np.zeros((40, 80, 3), np.uint8), (0.99, 1.0), 0.03, np.random.default_rng(0))
    assert (box[2] - box[0], box[3] - box[1]) == (38, 38)
    assert scale == pytest.approx(0.95 * 40 / 90 / np.sqrt(3200 / 8100))


@pytest.mark.parametrize("size", [(20, 10), (100, 10)])
def test_a_subject_with_room_stands_elsewhere_however_tall_it_is(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(3)
    subject = cutout((0.45, 0.5 - size[0] / 200, 0.55, 0.5 + size[0] / 200))
    places = [_place(size, subject, (100, 200), 0.0, generator) for _ in range(400)]
    moved = [abs((left + size[1] / 2) / 200 - 0.5) > 0.15 for left, _ in places]
    assert np.mean(moved) > 0.99


@pytest.mark.parametrize(("height", "width"), [(100, 600), (600, 100)])
def test_how_near_an_edge_is_is_told_by_the_longer_side(height: int, width: int) -> None:
    for gap, cut in ((1, True), (2, False)):
        mask = np.zeros((height, width))
        mask[gap : height - gap, gap : width - gap] = 1
        box = (gap, gap, width - gap, height - gap)
        assert _cut_out(np.zeros((height, width, 3), np.uint8), mask, box, 0.02).cut_off == (cut,) * 4


def test_a_small_picture_is_enlarged_pixel_by_pixel_and_a_large_one_smoothed() -> None:
    small = np.zeros((2, 2, 3), np.uint8)
    small[0, 0] = small[1, 1] = 200
    tile = _tile(small, 44)
    np.testing.assert_array_equal(tile[2:42, 2:42], small.repeat(20, axis=0).repeat(20, axis=1))
    large = np.indices((120, 120)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * np.uint8(200)
    inner = _tile(large.astype(np.uint8), 44)[4:40, 4:40]
    assert abs(inner.astype(float) - 100).max() < 40

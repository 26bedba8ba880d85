"""The parts of saliency against their definitions: colours, superpixels, what reaches the border, what photos share."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from metrics.subjects.saliency import (
    CHROMA_BINS,
    LIGHTNESS_BINS,
    SIDE,
    _adjacent,
    _as_guess,
    _colour_bins,
    _histogram,
    _lab_of,
    _mean_colours,
    _optimised,
    _shared,
    _single,
    _View,
    common_saliency,
)
from tests.metrics.subjects.planted_subjects import planted

BINS = LIGHTNESS_BINS * CHROMA_BINS**2


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 64), (SIDE, SIDE)),
        ((256, 512), (64, SIDE)),
        ((300, 100), (SIDE, 43)),
        ((1000, 10), (SIDE, 8)),  # never narrower
        ((10, 1000), (8, SIDE)),
    ],
)
def test_a_photo_is_looked_at_with_its_longer_side_at_128_pixels(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    lab = _lab_of(np.full((*size, 3), (200, 30, 60), np.uint8))
    assert lab.shape == (*expected, 3)
    np.testing.assert_allclose(lab, np.broadcast_to(rgb2lab([[[200 / 255, 30 / 255, 60 / 255]]]), lab.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("lab", "place"),
    [
        ((0, -80, -80), (0, 0, 0)),
        ((-5, -99, -99), (0, 0, 0)),
        ((100, 80, 80), (11, 15, 15)),
        ((100, 99, 99), (11, 15, 15)),
        ((50, 0, 0), (6, 8, 8)),
        ((49.9, -0.1, 10), (5, 7, 9)),
        ((8.4, 0, -70.1), (1, 8, 0)),
    ],
)
def test_colours_fall_into_even_bins_of_cielab(lab: tuple[float, ...], place: tuple[int, int, int]) -> None:
    lightness, green_red, blue_yellow = place
    expected = lightness * CHROMA_BINS**2 + green_red * CHROMA_BINS + blue_yellow
    assert _colour_bins(np.array([[lab]], float)).tolist() == [[expected]]


def test_a_histogram_is_shares_of_the_weight_spread_evenly_over_neighbours() -> None:
    bins = np.array([[6 * 256 + 8 * 16 + 8, 2 * 256 + 3 * 16 + 3]])
    cube = _histogram(bins, np.array([[3.0, 1.0]])).reshape(LIGHTNESS_BINS, CHROMA_BINS, CHROMA_BINS)
    assert cube.sum() == pytest.approx(1)
    assert cube[4:, 6:, 6:].sum() == pytest.approx(0.75, abs=1e-3)
    beside = [cube[5, 8, 8], cube[7, 8, 8], cube[6, 7, 8], cube[6, 9, 8], cube[6, 8, 7], cube[6, 8, 9]]
    assert np.ptp(beside) < 1e-9
    assert 0 < beside[0] < cube[6, 8, 8]
    assert beside[0] / cube[6, 8, 8] == pytest.approx(np.exp(-1 / (2 * 0.7**2)), rel=1e-6)  # a Gaussian of 0.7 bins
    assert _histogram(bins, np.zeros((1, 2))).sum() == 0


def test_a_start_of_any_scale_is_a_guess_whose_middle_is_otsus_threshold() -> None:
    steps = np.repeat(np.array([0.0, 0.1, 0.9, 1.0]), 16).reshape(8, 8)
    guess = _as_guess(steps, (8, 8))
    assert guess.shape == (8, 8)
    # the threshold is where the lower class ends
    np.testing.assert_allclose(guess[:, 0], [0.5 - 0.1 / 0.3] * 2 + [0.5] * 2 + [1] * 4, atol=0.02)
    assert np.all(np.diff(guess[:, 0]) >= 0)
    np.testing.assert_allclose(_as_guess(7 * steps + 3, (8, 8)), guess, atol=1e-5)
    assert _as_guess(steps, (16, 24)).shape == (16, 24)
    assert (_as_guess(np.full((4, 4), 3.0), (8, 6)) == 0.5).all()


def test_a_guess_rises_by_one_over_three_tenths_of_the_map() -> None:
    ramp = np.linspace(0, 1, 400).reshape(20, 20)
    guess = _as_guess(ramp, (20, 20)).ravel()
    inside = np.flatnonzero((guess > 0.02) & (guess < 0.98))
    slope = np.diff(guess[inside]).mean() * 399
    assert slope == pytest.approx(1 / 0.3 / (0.99 - 0.02), rel=0.02)  # of what lies between two quantiles


def test_how_much_subjects_share_is_a_difference_of_bhattacharyya_coefficients() -> None:
    red, blue, mixed = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0.5, 0.5, 0])
    assert _shared(np.array([red, red]), np.array([blue, blue])) == pytest.approx(1)
    assert _shared(np.array([red, blue]), np.array([blue, red])) == pytest.approx(-1)
    assert _shared(np.array([red, blue]), np.array([red, blue])) == pytest.approx(0)
    # alike by √0.5; the first to the second's surroundings √0.5, the second to the first's 0
    assert _shared(np.array([red, mixed]), np.array([[0, 0, 1.0], mixed])) == pytest.approx(np.sqrt(0.5) / 2)
    assert np.isnan(_shared(red[None], blue[None]))


LABELS = np.array([[0, 0, 1, 1, 1], [0, 2, 2, 3, 1], [4, 2, 2, 3, 1], [4, 4, 4, 4, 4]])


def lab_of_superpixels(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    colours = np.array([[50, 0, 0], [53, 2, -1], [70, 40, 20], [60, -5, 9], [47, 1, 3]], float)
    return colours[LABELS] + generator.normal(0, 1, (*LABELS.shape, 3))


def test_superpixels_have_mean_colours_and_neighbours() -> None:
    lab = lab_of_superpixels(0)
    colour, area = _mean_colours(lab, LABELS)
    assert area.tolist() == [3, 5, 4, 2, 6]
    for number in range(5):
        np.testing.assert_allclose(colour[number], lab[number == LABELS].mean(axis=0))
    touching = {(one, other) for one, other in zip(*np.nonzero(_adjacent(LABELS)), strict=True) if one < other}
    assert touching == {(0, 1), (0, 2), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}
    assert not _adjacent(LABELS).diagonal().any()
    assert (_adjacent(LABELS) == _adjacent(LABELS).T).all()


def test_the_saliency_of_superpixels_is_as_the_paper_defines_it() -> None:
    """Zhu et al. 2014, superpixel by superpixel: boundary connectivity, contrast, and the least squares of both."""
    lab = lab_of_superpixels(1)
    count, (height, width) = 5, LABELS.shape
    means = [lab[n == LABELS].mean(axis=0) for n in range(count)]
    areas = [float((n == LABELS).sum()) for n in range(count)]
    middles = [np.argwhere(n == LABELS).mean(axis=0) / max(height, width) for n in range(count)]
    frame = [*LABELS[0], *LABELS[-1], *LABELS[:, 0], *LABELS[:, -1]]
    border = [frame.count(n) for n in range(count)]
    apart = [[float(np.linalg.norm(a - b)) for b in means] for a in means]
    pairs = {(0, 1), (0, 2), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}
    touch = [[(min(a, b), max(a, b)) in pairs for b in range(count)] for a in range(count)]
    free = float(np.median([min(apart[a][b] for b in range(count) if touch[a][b]) for a in range(count)]))
    way = [[0.0 if a == b else np.inf for b in range(count)] for a in range(count)]
    for a in range(count):
        for b in range(count):
            if a != b and (touch[a][b] or (border[a] and border[b])):
                way[a][b] = max(apart[a][b] - free, 0.0) + 1e-6
    for over in range(count):
        for a in range(count):
            for b in range(count):
                way[a][b] = min(way[a][b], way[a][over] + way[over][b])
    reach = [[np.exp(-(way[a][b] ** 2) / 200) for b in range(count)] for a in range(count)]
    connected = [
        sum(reach[a][b] * border[b] for b in range(count)) / sum(reach[a][b] * areas[b] for b in range(count)) ** 0.5
        for a in range(count)
    ]
    background = [1 - np.exp(-(value**2) / 2) for value in connected]
    contrast = []
    for a in range(count):
        near = [np.exp(-float(((middles[a] - middles[b]) ** 2).sum()) / 0.32) for b in range(count)]
        weights = [near[b] * background[b] * areas[b] for b in range(count)]
        contrast.append(sum(w * apart[a][b] for b, w in enumerate(weights)) / sum(weights))
    subject = np.array([c * (1 - b) for c, b in zip(contrast, background, strict=True)])
    subject /= subject.max()

    def cost(values: np.ndarray) -> float:
        """Weighted squares: background is 0, subject is 1, alike neighbours are alike."""
        own = sum(
            b * v**2 + s * (1 - v) ** 2 + 1e-6 * v**2 for b, s, v in zip(background, subject, values, strict=True)
        )
        smooth = sum((np.exp(-(apart[a][b] ** 2) / 200) + 0.1) * (values[a] - values[b]) ** 2 for a, b in pairs)
        return float(own + smooth)

    found = _optimised(lab, LABELS)
    least = cost(found)
    for number in range(count):
        for step in (-1e-3, 1e-3):
            moved = found.copy()
            moved[number] += step
            assert cost(moved) > least
    gradient = [(cost(found + 1e-5 * row) - cost(found - 1e-5 * row)) / 2e-5 for row in np.eye(count)]
    assert np.abs(gradient).max() < 1e-6
    assert found.argmax() == 2


def test_a_disc_stands_out_of_one_photo_whichever_way_it_is_turned() -> None:
    rows, columns = np.indices((48, 64))
    disc = (rows - 20) ** 2 + (columns - 40) ** 2 < 120
    image = np.where(disc[..., None], (210, 40, 40), (90, 120, 150)).astype(np.uint8)
    for turned, inside in ((image, disc), (image[:, ::-1], disc[:, ::-1]), (np.rot90(image), np.rot90(disc))):
        found = _single(rgb2lab(np.ascontiguousarray(turned)))
        assert (found.min(), found.max()) == (0, pytest.approx(1, abs=1e-6))
        assert found.dtype == np.float32
        assert found[inside].mean() > 0.9
        assert found[~inside].mean() < 0.1


def test_the_smoother_of_a_photo_keeps_sums_and_joins_what_is_alike() -> None:
    columns = np.indices((64, 64))[1]
    image = np.where((columns < 32)[..., None], (200, 60, 60), (60, 60, 200)).astype(np.uint8)
    view = _View.of(_lab_of(image))
    assert view.labels.shape == view.bins.shape == (SIDE, SIDE)
    assert view.area.sum() == SIDE**2
    np.testing.assert_allclose(view.smoother.sum(axis=1), 1, atol=1e-6)  # a constant stays
    np.testing.assert_allclose(view.smoother, view.smoother.T, atol=1e-9)
    left = np.array([(view.labels[:, :60] == n).any() for n in range(len(view.area))])
    bump = np.zeros(len(view.area))
    bump[view.labels[64, 20]] = 1.0
    spread = view.smoother @ bump
    assert spread[left].sum() > 0.95


def test_beliefs_follow_colours_and_what_is_known() -> None:
    image = np.where((np.indices((64, 64))[1] < 32)[..., None], (200, 60, 60), (60, 60, 200)).astype(np.uint8)
    view = _View.of(_lab_of(image))
    left = np.indices(view.bins.shape)[1] < SIDE / 2
    red, blue = _histogram(view.bins, left), _histogram(view.bins, ~left)
    level, nothing = np.full(view.bins.shape, 0.5), np.zeros(view.bins.shape)
    found = view.refined(red, blue, level, nothing)
    assert found[:, :50].min() > 0.9
    assert found[:, -50:].max() < 0.1
    against = view.refined(red, blue, level, np.where(left, -30.0, 30.0))
    assert against[:, :50].max() < 0.1
    assert against[:, -50:].min() > 0.9
    even = view.refined(red, red, level, nothing)
    # no colour speaks: what is everywhere as likely as the last guess says, log((1 + 0.02) ÷ (1.3 − 1))
    assert even == pytest.approx(np.full(even.shape, 1.02 / 1.32), abs=1e-3)


def test_more_rounds_and_more_photos_change_little_and_starts_go_before_hints() -> None:
    images, truths = planted(4)
    starts = [truth.astype(np.float32) for truth in truths]
    wrong = [1 - start for start in starts]
    told = common_saliency(images, starts)
    both = common_saliency(images, starts, hints=wrong)
    for one, other in zip(told.maps, both.maps, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
        assert (one.min() >= 0, one.max() <= 1) == (True, True)
    assert told.shared == both.shared
    plain, hinted = common_saliency(images), common_saliency(images, hints=starts)
    assert plain.shared == hinted.shared, "that is told before anybody helps"
    assert (plain.maps[0] != hinted.maps[0]).any()
    assert np.isnan(common_saliency(images[:1]).shared)

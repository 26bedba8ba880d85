"""The plateau of a loss in closed form: smoothers that keep lines, thresholds, and a rise that is more than luck."""

from itertools import pairwise

import numpy as np
import pytest

from metrics.onset.plateau import (
    FEW,
    LEVEL_WIDTH,
    RISE,
    SHARE,
    SMALL,
    STEADY,
    WIDTHS,
    PlateauEnd,
    _crossing,
    fitted_dip,
    least_rise,
    log_axis,
    plateau_end,
    replicate_spread,
    smoothed,
    smoother,
    surely_rises,
)

EPOCHS = np.concatenate([[0.0], 2.0 ** np.arange(0, 6.01, 0.25)])  # the base, then four to an octave


def valley(bottom: float = 8.0, left: float = 0.1, right: float = 0.1) -> np.ndarray:
    """Straight over log epochs on both sides of its bottom of −0.4."""
    octaves = log_axis(EPOCHS) - np.log2(bottom)
    course = -0.4 + np.where(octaves < 0, -left * octaves, right * octaves)
    course[0] = 0.0
    return course


def test_the_base_takes_a_place_an_octave_before_the_first_checkpoint() -> None:
    assert log_axis(np.array([0, 4, 8, 16])).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert log_axis(np.array([2, 4, 8])).tolist() == [1.0, 2.0, 3.0]
    assert len(log_axis(np.array([0]))) == 1


def test_how_far_a_loss_has_to_rise() -> None:
    for depth, most, rise in (
        (0.0, np.inf, RISE),
        (RISE / SHARE, np.inf, RISE),
        (0.2, np.inf, SHARE * 0.2),
        (0.2, STEADY, SHARE * 0.2),
        (4.0, STEADY, STEADY),
        (-1.0, STEADY, RISE),
    ):
        assert least_rise(depth, most) == pytest.approx(rise)
    np.testing.assert_allclose(least_rise(np.array([0.0, 1.0])), [RISE, SHARE])


def test_a_smoother_keeps_lines_and_the_base() -> None:
    axis = log_axis(EPOCHS)
    for width in WIDTHS:
        matrix = smoother(axis, width, True)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
        assert matrix[0, 0] == 1.0
        assert not matrix[0, 1:].any()
        assert not matrix[1:, 0].any()
        line = 3 - 2 * axis
        np.testing.assert_allclose(matrix @ line, line, atol=0.02)
    free = smoother(axis, 0.4, False)
    assert free[0, 1] > 0
    alone = smoother(np.array([0.0, 50.0]), 0.1, False)
    np.testing.assert_allclose(alone, np.eye(2), atol=1e-12)
    # three points at distance 1 and width 1: the middle of a symmetric kernel is its normalised weights
    weights = np.array([np.exp(-0.5), 1.0, np.exp(-0.5)])
    np.testing.assert_allclose(smoother(np.array([0.0, 1.0, 2.0]), 1.0, False)[1], weights / weights.sum())


def test_as_much_is_smoothed_as_jitter_asks_for_and_nothing_below_six_checkpoints() -> None:
    curve, axis = valley(), log_axis(EPOCHS)
    np.testing.assert_allclose(smoothed(curve, EPOCHS, 0.0), smoother(axis, WIDTHS[0], True) @ curve)
    np.testing.assert_allclose(smoothed(curve, EPOCHS, 9.0), smoother(axis, WIDTHS[-1], True) @ curve)
    for narrow, wide in pairwise(WIDTHS):
        matrix = smoother(axis, narrow, True)
        smooth = matrix @ curve
        bottom = int(smooth.argmin())
        most = SMALL * SHARE * -smooth[bottom] / np.linalg.norm(matrix[bottom])  # of jitter that this width makes small
        np.testing.assert_allclose(smoothed(curve, EPOCHS, most * 0.999), smooth)
        np.testing.assert_allclose(smoothed(curve, EPOCHS, most * 1.001), smoother(axis, wide, True) @ curve)
    few = slice(0, FEW)  # with the base: five trained checkpoints
    np.testing.assert_array_equal(smoothed(curve[few], EPOCHS[few], 9.0), curve[few])


def test_the_plateau_ends_where_the_smoothed_valley_crosses_its_threshold() -> None:
    curves = np.stack([valley(), valley(left=0.05), valley(right=0.0), valley(bottom=64.0)])
    end = plateau_end(curves, EPOCHS)
    axis = log_axis(EPOCHS)
    wide = smoother(axis, LEVEL_WIDTH * WIDTHS[0], True)
    for row, curve in enumerate(curves):
        level = max((wide @ curve)[end.bottom[row]], end.fit[row, end.bottom[row]])
        assert end.depth[row] == pytest.approx(curve[0] - level)
        assert end.threshold[row] == pytest.approx(level + SHARE * end.depth[row])
        assert end.excess[row] == pytest.approx(end.fit[row, -1] - end.threshold[row])
    for row in (0, 1):
        assert EPOCHS[end.bottom[row]] == 8.0
        crossing = np.interp(end.log_epoch[row], axis, end.fit[row])
        assert crossing == pytest.approx(end.threshold[row])
        assert end.log_epoch[row] > axis[end.bottom[row]]
        # 0.1 an octave: as far behind the bottom as the rise takes
        assert end.log_epoch[row] == pytest.approx(3 + (end.threshold[row] + 0.4) / 0.1, abs=0.02)
    assert np.isinf(end.log_epoch[2:]).all()
    steady = plateau_end(curves, EPOCHS, most=STEADY)
    assert steady.threshold[0] == pytest.approx(end.threshold[0] - SHARE * end.depth[0] + STEADY)


def test_a_line_meets_its_threshold_between_two_points_and_no_further() -> None:
    places = np.array([2.0, 4.0, 8.0])
    for values, threshold, after, where in (
        ((0.0, 1.0, 3.0), 0.25, 1, 2.5),
        ((0.0, 1.0, 3.0), 2.0, 2, 6.0),
        ((0.0, 1.0, 3.0), 5.0, 2, 8.0),
        ((0.0, 1.0, 3.0), 0.5, 2, 4.0),
        ((3.0, 1.0, 1.0), 2.0, 1, 3.0),
        ((3.0, 1.0, 1.0), 1.0, 2, 8.0),
        ((3.0, 1.0, 1.0), 2.0, 2, 8.0),
    ):
        assert _crossing(places, np.array(values), threshold, after) == pytest.approx(where)


def test_replicates_that_do_not_end_count_as_if_at_the_last_checkpoint() -> None:
    ends = np.array([99.0, 1.0, 3.0, np.inf])
    nothing = np.zeros(4)
    end = PlateauEnd(ends, nothing, nothing.astype(int), nothing, nothing, nothing[None])
    assert replicate_spread(end, np.array([0, 4, 32])) == pytest.approx(np.std([1.0, 3.0, 5.0]))


def test_the_dip_of_few_checkpoints_is_their_own_line() -> None:
    epochs, curve = np.array([0.0, 2.0, 4.0, 8.0, 16.0]), np.array([0.0, -0.2, -0.4, -0.2, 0.0])
    dip = fitted_dip(curve, epochs, 0.0)
    assert dip.level == -0.4
    assert dip.threshold == pytest.approx(-0.4 + STEADY)
    share = STEADY / 0.2  # of an octave on either side, 0.2 higher each
    assert dip.since == pytest.approx(4 * 2**-share)
    assert dip.until == pytest.approx(4 * 2**share)
    assert dip.epochs[0] == 0.0
    assert dip.epochs[-1] == pytest.approx(16.0)
    np.testing.assert_allclose(
        np.interp(np.log2(epochs[1:]), np.log2(dip.epochs[1:]), dip.line[1:]), curve[1:], atol=1e-3
    )
    falling = fitted_dip(-np.arange(5) / 10, epochs, 0.0)
    assert falling.until is None
    rising = fitted_dip(np.arange(5) / 10, epochs, 0.0)
    assert rising.since == 0.0
    assert rising.until == pytest.approx(2 * RISE / 0.1), (
        "the base is at 0, and what lies before 2 is straight in epochs"
    )


def test_the_dip_of_many_checkpoints_is_that_of_the_plateau() -> None:
    curve = valley()
    dip, end = fitted_dip(curve, EPOCHS, 0.001), plateau_end(curve[None], EPOCHS, 0.001)
    assert dip.threshold == pytest.approx(end.threshold[0])
    assert dip.level == pytest.approx(curve[0] - end.depth[0])
    assert dip.until == pytest.approx(2.0 ** end.log_epoch[0])
    assert dip.since < 8.0 < dip.until
    assert np.interp(np.log2(dip.since), log_axis(EPOCHS), end.fit[0]) == pytest.approx(dip.threshold, abs=1e-6)
    assert fitted_dip(valley(right=0.0), EPOCHS, 0.001).until is None


def test_a_rise_is_sure_where_luck_of_that_size_does_not_make_one() -> None:
    luck = np.random.default_rng(0).normal(size=(40, len(EPOCHS)))
    falls = -0.4 * EPOCHS / (4 + EPOCHS)
    in_vain = sum(surely_rises(falls + 0.02 * each, EPOCHS, 0.02) for each in luck)
    assert in_vain <= 6, "about one in twenty"
    assert all(surely_rises(valley() + 0.02 * each, EPOCHS, 0.02) for each in luck)

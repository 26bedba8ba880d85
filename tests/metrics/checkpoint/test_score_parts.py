"""The parts of a checkpoint's readings against their definitions, from features that are laid out by hand."""

from dataclasses import fields, replace

import numpy as np
import pytest

from metrics.checkpoint.calibration import Calibration, ProbeLabels
from metrics.checkpoint.image_descriptors import Traits
from metrics.checkpoint.score import (
    _beyond,
    _difference,
    _gap_interval,
    _missing,
    _read_own_photos,
    _read_prompts,
    _read_similarity,
    _share_above,
    _weaker_half,
)
from metrics.checkpoint.score_spread import score_draws
from metrics.checkpoint.weighting import (
    LEAK,
    SUBJECT,
    _as_alike,
    better,
    difference,
    likeness,
    likeness_difference,
    worth,
)
from metrics.trajectory.readings import CHANNELS, OWN_SCORE, Reading, Readings

SIZE = 12


def point(value: float) -> Reading:
    return Reading(value, value, value)


@pytest.mark.parametrize(
    ("value", "ceiling", "share"), [(0.5, 0.6, 0), (0.6, 0.6, 0), (0.8, 0.6, 0.5), (1.0, 0.6, 1.0)]
)
def test_a_share_above_a_ceiling(value: float, ceiling: float, share: float) -> None:
    assert _share_above(value, ceiling) == pytest.approx(share)


@pytest.mark.parametrize(("value", "limit", "share"), [(2, 3, 0), (3, 3, 0), (6, 3, 0.5), (12, 3, 0.75), (-9, 3, 0)])
def test_a_share_beyond_a_limit(value: float, limit: float, share: float) -> None:
    assert _beyond(value, limit) == pytest.approx(share)


@pytest.mark.parametrize(
    ("value", "floor", "share"), [(1, 0.5, 0), (0.5, 0.5, 0), (0.25, 0.5, 0.5), (0, 0.5, 1), (0.2, 0.0, 0)]
)
def test_a_share_that_is_missing(value: float, floor: float, share: float) -> None:
    assert _missing(value, floor) == pytest.approx(share)


def test_a_difference_has_both_spreads() -> None:
    found = _difference(Reading(5, 2, 6), Reading(1, -3, 5))
    assert (found.value, found.low, found.high) == (4, 4 - 5, pytest.approx(4 + np.hypot(1, 4)))


@pytest.mark.parametrize(
    ("items", "half"), [([3, 1, 2], 1.5), ([4, 1, 2, 3], 1.5), ([7], 7.0), ([1, 1, 9, 9, 9], 11 / 3)]
)
def test_the_weaker_half_has_the_middle_one(items: list[float], half: float) -> None:
    found = _weaker_half(np.array(items, float), np.arange(len(items)))
    assert found.value == pytest.approx(half)
    assert min(items) <= found.low <= found.value <= found.high <= max(items)
    alone = _weaker_half(np.array(items, float), np.zeros(len(items)))
    assert alone.low == alone.high == pytest.approx(half), "one prompt alone has no spread"


def test_the_gap_of_own_captions_is_spread_within_each_kind() -> None:
    hits = np.array([1.0, 1.0, 0.0, 0.0, np.nan])
    photo, trained = np.array([0, 1, 2, 3, -1]), np.array([True, True, False, False])
    assert _gap_interval(hits, photo, trained) == (1.0, 1.0)
    low, high = _gap_interval(np.array([1.0, 0.0, 0.0, 0.0, np.nan]), photo, trained)
    assert (low, high) == (0.0, 1.0)


CONTEXTS = ("snow", "snow", "beach", "beach")
LABELS = ProbeLabels(
    ("a", "a", "b", "b", "c", "c", "d", "d"), (*CONTEXTS, "x", "x", "y", "y"), tuple("CCCCAABB"),
    (-1, -1, -1, -1, 0, 0, 1, 1), (0, 1) * 4,
)  # fmt: skip
TEXTS = np.stack([np.eye(SIZE)[{"snow": 0, "beach": 1, "x": 2, "y": 3}[text]] for text in LABELS.neutral])


def traits(features: np.ndarray) -> Traits:
    empty = np.zeros((len(features), 0))
    given = {entry.name: empty for entry in fields(Traits)}
    return Traits(**{**given, "colour_means": np.zeros((len(features), 3)), "features": features, "identity": features})


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def drawn(obeyed: float, seed: int) -> np.ndarray:
    """Images of a subject that go towards their texts."""
    noise = 0.1 * np.random.default_rng(seed).normal(size=(8, SIZE))
    return unit(np.eye(SIZE)[8] + obeyed * TEXTS + noise)


def calibration(texts: np.ndarray = TEXTS) -> Calibration:
    photos = traits(unit(np.eye(SIZE)[9] + 0.1 * np.random.default_rng(0).normal(size=(6, SIZE))))
    nan, axis = float("nan"), np.eye(SIZE)[9]
    return Calibration(
        LABELS, np.ones(6, bool), np.ones(6, bool), photos, traits(drawn(1.0, 1)), texts, axis, np.zeros(0),
        (nan, nan), nan, nan, {}, np.zeros(0, np.int64), {},
    )  # fmt: skip


def read_prompts(rule: Calibration, features: np.ndarray) -> tuple[dict[str, Reading], dict[str, np.ndarray]]:
    channels: dict[str, Reading] = {}
    items: dict[str, np.ndarray] = {}
    _read_prompts(rule, traits(features), channels, items)
    return channels, items


def test_prompts_are_read_on_new_contexts_against_the_base() -> None:
    features, base = drawn(0.3, 2), drawn(1.0, 1)
    channels, items = read_prompts(calibration(), features)
    np.testing.assert_allclose(items["clip_text"], (features * TEXTS).sum(axis=1))
    np.testing.assert_allclose(items["prompt_change"], ((features - base) * TEXTS).sum(axis=1)[:4])
    own = [features[row, column] - features[row, 1 - column] for row, column in enumerate((0, 0, 1, 1))]
    before = [base[row, column] - base[row, 1 - column] for row, column in enumerate((0, 0, 1, 1))]
    np.testing.assert_allclose(items["prompt"], (np.array(own) - before) / np.mean(before))
    assert channels.keys() == items.keys() == {"clip_text", "prompt_change", "prompt"}
    for name, reading in channels.items():
        assert reading.value == pytest.approx(items[name].mean())
    assert channels["prompt_change"].value < -0.2
    assert channels["prompt"].value < -0.4


def test_without_texts_or_with_one_context_nothing_is_said_of_obedience() -> None:
    assert read_prompts(calibration(np.zeros((8, 0))), drawn(1, 2)) == ({}, {})
    same = replace(LABELS, neutral=("snow",) * 8)
    channels, _ = read_prompts(replace(calibration(), labels=same), drawn(1, 2))
    assert channels.keys() == {"clip_text", "prompt_change"}


def test_likeness_is_read_where_it_is_judged() -> None:
    rule, features = calibration(), drawn(0.5, 3)
    channels: dict[str, Reading] = {}
    items: dict[str, np.ndarray] = {}
    _read_similarity(rule, traits(features), channels, items)
    base = rule.base.features
    np.testing.assert_allclose(items["fidelity"], (features - base)[4:, 9])
    np.testing.assert_allclose(items["fidelity_novel"], (features - base)[:4, 9])
    np.testing.assert_allclose(items["clip_image"], (features @ rule.photos.features.T).mean(axis=1)[4:])
    assert len(items["copying"]) == 4
    assert channels["fidelity_weak"].value == pytest.approx(np.sort(items["fidelity_novel"])[:2].mean())
    assert "recognised" not in channels
    few = replace(rule, kept=np.array([True, True, *[False] * 4]))
    channels.clear()
    _read_similarity(few, traits(features), channels, items)
    assert "copying" not in channels, "two photos have one distance"


def test_own_photos_pull_their_captions_images_more_where_they_are_trained_on() -> None:
    """Photos 0 and 1 are trained on; the image of the first has gone to its photo, the others are the base's."""
    photos, owner = unit(np.random.default_rng(0).normal(size=(4, SIZE))), (0, 1, 2, 3, 0, -1, -1, -1)
    base = unit(np.random.default_rng(1).normal(size=(8, SIZE)))
    features = np.concatenate([photos[:1], base[1:]])
    asked = replace(LABELS, prompts=tuple("abcdefgh"), sets=tuple("AABBACCC"), photo=owner)
    rule = replace(
        calibration(),
        labels=asked,
        photos=traits(photos),
        base=traits(base),
        trained=np.array([True, True, False, False]),
    )
    channels: dict[str, Reading] = {}
    items: dict[str, np.ndarray] = {}
    _read_own_photos(rule, traits(features), channels, items)
    between = [photos[one] @ photos[other] for one in range(4) for other in range(one)]
    gains = (features - base)[0] @ photos.T
    pulled = (gains[0] - gains.mean()) / np.std(between) / 3  # one of three captions of trained photos
    assert channels["own_pull"].value == pytest.approx(pulled)
    assert items["own_pull"].tolist() == pytest.approx([8 * pulled, *[0] * 7])
    nearest = (features @ photos.T).argmax(axis=1)
    hits = [float(nearest[row] == owner[row]) for row in range(5)]
    assert items["own_caption"].tolist() == hits
    assert channels["own_caption"].value == pytest.approx(np.mean([hits[0], hits[1], hits[4]]) - np.mean(hits[2:4]))
    assert "own_photo" not in channels, "no pixels were kept"
    for trained in ([True] * 4, [True, False, False, False]):
        channels.clear()
        _read_own_photos(replace(rule, trained=np.array(trained)), traits(features), channels, items)
        assert channels == {}, "two photos of each kind are needed"


def readings(**values: float) -> Readings:
    return Readings(1, 1.0, {name: point(value) for name, value in values.items()}, {}, 0.5)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({}, 1.0),
        ({"prompt": -0.3}, np.exp(-0.3)),
        ({"prompt": 0.4}, 1.0),
        ({LEAK: 0.25}, np.exp(-0.25)),
        ({LEAK: -1.0}, 1.0),
        ({"shifted_loss": 0.2, "context_loss": 0.1}, np.exp(-0.3)),
        ({"shifted_loss": -0.2}, 1.0),
        ({"prompt": -0.5, LEAK: 1.5, "shifted_loss": 1.0}, np.exp(-3.0)),
    ],
)
def test_the_worth_of_weights_is_what_is_obeyed_less_what_leaks(values: dict[str, float], kept: float) -> None:
    assert worth(calibration(), readings(**values), None) == pytest.approx(kept)


def test_what_is_copied_costs_as_its_excess_does() -> None:
    limit = 0.5 + 1.645 * np.sqrt((4 + 6 + 1) / (12 * 4 * 6))
    assert worth(calibration(), readings(copying=1.0), None) == pytest.approx(np.exp(-1))
    assert worth(calibration(), readings(copying=(1 + limit) / 2), None) == pytest.approx(np.exp(-0.5))


@pytest.mark.parametrize(
    ("now", "before", "left"),
    [
        (None, 0.5, 1), (0.5, None, 1), (0.5, 0.0, 1), (0.5, -1, 1), (0.98, 1, 1), (0.88, 1, np.exp(-1)),
        (0.39, 0.5, np.exp(-2)), (2, 1, 1), (0.98, 1.5, 1), (0.78, 1.5, np.exp(-2)),
    ],
)  # fmt: skip
def test_a_fiftieth_of_the_likeness_is_free_and_a_tenth_more_costs_a_factor_of_e(
    now: float | None, before: float | None, left: float
) -> None:
    assert _as_alike(now, before) == pytest.approx(left)


def test_likeness_is_that_of_the_subject_where_it_was_read() -> None:
    assert likeness({SUBJECT: point(0.3), "fidelity": point(0.9)}) == 0.3
    assert likeness({"fidelity": point(0.9), "fidelity_novel": point(0.5)}) == pytest.approx(0.7)
    assert likeness({"copying": point(0.9)}) is None


def test_more_is_better_once_turned() -> None:
    rise = Reading(0.2, 0.1, 0.4)
    for name, channel in CHANNELS.items():
        assert better(name, rise) == (Reading(-0.2, -0.4, -0.1) if channel.worse > 0 else rise)
    assert better(LEAK, rise) == Reading(-0.2, -0.4, -0.1)


def test_a_difference_is_over_prompts_and_of_losses_over_photos() -> None:
    zeros = {
        "prompt": np.zeros(4),
        "fidelity": np.zeros(4),
        "context_loss": np.zeros((4, 2, 3)),
        "subject": np.zeros(4),
    }
    ones = {name: values + np.resize([0.0, 2.0], values.shape) for name, values in zeros.items()}
    before, after = (Readings(1, 1.0, {}, items) for items in (zeros, ones))
    for name in ("prompt", "fidelity", "subject"):  # two prompts of two seeds: each gains 1
        found = difference(calibration(), name, before, after, 0.9)
        assert found is not None
        assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    photos = difference(calibration(), "context_loss", before, after, 0.9)
    assert photos is not None
    assert photos.value == pytest.approx(1.0)
    whose = {**zeros, "context_loss_photo": np.zeros(4)}
    assert difference(calibration(), "context_loss", replace(before, items=whose), after, 0.9) is None


def test_likeness_of_two_looks_is_compared_where_both_have_it() -> None:
    one = {"fidelity": np.zeros(4), "fidelity_novel": np.zeros(4)}
    two = {"fidelity": np.array([0.1, 0.3, 0.5, 0.7]), "fidelity_novel": np.array([1.0, 1.0, 2.0, 2.0])}

    def compared(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> Reading | None:
        return likeness_difference(calibration(), Readings(1, 1, {}, first), Readings(1, 1, {}, second), 0.9)

    both = compared(one, two)
    assert both is not None
    assert both.value == pytest.approx(np.mean([0.2, 0.6, 1.0, 2.0])), "a mean of prompts, each with two images"
    for first, second in ((one, {"fidelity": two["fidelity"]}), ({"fidelity": one["fidelity"]}, two)):
        alone = compared(first, second)
        assert alone is not None
        assert alone.value == pytest.approx(0.4)
    assert compared(one, {}) is None
    whole = compared({SUBJECT: np.zeros(4), **one}, {SUBJECT: np.array([1.0, 1, 3, 3]), **two})
    assert whole is not None
    assert whole.value == 2.0, "the subject's own likeness says all"


def test_an_objective_draws_its_own_scores_from_the_channels_and_the_score() -> None:
    rule = calibration()
    shares = np.linspace(0.2, 0.6, 8)
    look = Readings(1, 1.0, {"recognised": point(0.4), OWN_SCORE: point(9.0)}, {"recognised": shares}, 0.4)
    own = score_draws(rule, look, 50)
    assert own.std() > 0
    seen = []

    def objective(values: dict[str, float]) -> float:
        seen.append(values)
        return 2 * values[OWN_SCORE] + values["other"]

    drawn = score_draws(rule, look, 50, objective=objective, also={"other": 1.0, "recognised": -5.0})
    np.testing.assert_allclose(drawn, 2 * own + 1)
    assert [values["recognised"] for values in seen] == pytest.approx(own.tolist())

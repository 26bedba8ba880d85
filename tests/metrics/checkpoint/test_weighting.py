"""What block weights win and cost: the two directions tell subject from background, intervals are Student's, and
nothing is found where there is nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.encoders import Encoder, load_encoder
from metrics.checkpoint.score import calibrate, read_checkpoint
from metrics.checkpoint.weighting import (
    FREE,
    LEAK,
    STEEP,
    SUBJECT,
    _dual,
    better,
    difference,
    likeness,
    likeness_difference,
    subject_axes,
    with_subject,
    worth,
)
from metrics.trajectory.readings import CHANNELS, Reading, Readings
from tests.metrics.photo_sets import OTHERS, crops, probe_labels

LABELS = probe_labels()
NEW = np.array(LABELS.sets) == "C"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(str(Path(__file__).parents[3] / "studies" / "demo" / "clip"))


def before(background: str, count: int, seed: int, subject: bool = True) -> np.ndarray:
    """Pictures of one subject, or of varying things, in front of one background."""
    rng = np.random.default_rng(seed)
    shades = {"red": (200, 30, 30), "blue": (30, 30, 200), "any": None}[background]
    made = []
    for _ in range(count):
        shade = rng.integers(0, 255, 3) if shades is None else np.array(shades)
        image = np.clip(rng.normal(shade, 12, (64, 64, 3)), 0, 255)
        image[16:48, 16:48] = (250, 250, 40) if subject else rng.integers(0, 255, 3)
        image[24:40:4, 16:48] = 0 if subject else image[24:40:4, 16:48]
        made.append(image.astype(np.uint8))
    return np.stack(made)


@pytest.fixture(scope="module")
def bound(encoder: Encoder) -> Calibration:
    """Photos of a subject that is always before red."""
    base = before("any", len(LABELS), 2, subject=False)
    return calibrate(before("red", 24, 1), [True] * 20 + [False] * 4, base, LABELS, encoder)


def looked_at(calibration: Calibration, images: np.ndarray) -> Readings:
    axes = subject_axes(calibration, before("any", 24, 3))
    return with_subject(calibration, read_checkpoint(calibration, epoch=1, effort=1, images=images), images, axes)


def test_subject_and_background_are_told_apart(bound: Calibration) -> None:
    read = {
        name: looked_at(bound, images).channels
        for name, images in {
            "base": bound_base(),
            "leaks": before("red", len(LABELS), 5),
            "clean": before("any", len(LABELS), 6),
            "background alone": before("red", len(LABELS), 7, subject=False),
        }.items()
    }
    assert read["base"][SUBJECT].value == pytest.approx(0, abs=1e-5)
    assert read["base"][LEAK].value == pytest.approx(0, abs=1e-5)
    assert read["clean"][SUBJECT].value > 0.7
    assert read["leaks"][LEAK].value > read["clean"][LEAK].value + 0.4
    assert read["background alone"][SUBJECT].value < read["clean"][SUBJECT].value - 0.4
    as_it_is = likeness(read["leaks"])
    assert worth(bound, looked_at(bound, before("any", len(LABELS), 6)), as_it_is) > worth(
        bound, looked_at(bound, before("red", len(LABELS), 5)), as_it_is
    )


def bound_base() -> np.ndarray:
    return before("any", len(LABELS), 2, subject=False)


def test_each_direction_reads_its_own_change_and_nothing_of_the_other() -> None:
    rng = np.random.default_rng(4)
    axes, changes = rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
    axes[0] += changes[0] + 0.5 * changes[1]
    axes[1] += changes[1] - 0.4 * changes[0]
    assert np.allclose(_dual(axes, changes) @ changes.T, np.diag(np.diag(axes @ changes.T)))
    same = np.stack([changes[0], changes[0] + 0.1 * changes[1]])
    assert np.array_equal(_dual(same, same), same), "what cannot be told apart stays as it is"
    assert np.array_equal(_dual(-axes[:1].repeat(2, axis=0), changes), -axes[:1].repeat(2, axis=0))


def test_worth_falls_with_what_is_lost_of_the_likeness(bound: Calibration) -> None:
    read, now = looked_at(bound, before("any", len(LABELS), 6)), 0.4
    read = replace(read, channels={**read.channels, SUBJECT: Reading(now, now, now)})
    whole = worth(bound, read, now)
    assert worth(bound, read, now * 0.9) == whole
    assert worth(bound, read, now / (1 - FREE)) == pytest.approx(whole)
    assert worth(bound, read, now / (1 - FREE - STEEP)) == pytest.approx(whole / np.e)
    assert 0 < worth(bound, read, 0.9) < 0.02 * whole, "of two bad ones the search still sees the better one"


def readings(items: dict[str, np.ndarray]) -> Readings:
    channels = {name: Reading(float(values.mean()), 0.0, 0.0) for name, values in items.items()}
    return Readings(1, 1.0, channels, items)


def test_intervals_are_students_over_prompts(bound: Calibration) -> None:
    rng = np.random.default_rng(3)
    first, second = (rng.normal(0, 1, int(NEW.sum())) for _ in range(2))
    found = difference(bound, LEAK, readings({LEAK: first}), readings({LEAK: second}), 0.9)
    prompts = LABELS_PROMPTS[NEW]
    means = [float((second - first)[prompts == prompt].mean()) for prompt in np.unique(prompts)]
    expected = ttest_1samp(means, 0).confidence_interval(0.9)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    turned = better(LEAK, found)
    assert (turned.value, turned.low, turned.high) == (-found.value, -found.high, -found.low)
    assert better("prompt", found) == found
    alike = likeness_difference(bound, readings({SUBJECT: first}), readings({SUBJECT: second}), 0.9)
    assert alike == found


LABELS_PROMPTS = LABELS.prompt_numbers


def test_what_was_not_measured_alike_is_not_compared(bound: Calibration) -> None:
    one, two = readings({LEAK: np.zeros(4)}), readings({LEAK: np.zeros(6)})
    assert difference(bound, LEAK, one, two, 0.9) is None
    assert difference(bound, "prompt", one, two, 0.9) is None
    assert likeness_difference(bound, one, two, 0.9) is None
    single = replace(one, items={"shifted_loss": np.zeros(4), "shifted_loss_photo": np.zeros(4)})
    assert difference(bound, "shifted_loss", single, single, 0.9) is None  # one photo tells nothing of others


def test_a_loss_that_rises_is_worse_at_every_noise_level_and_a_likeness_that_rises_is_better() -> None:
    rise, fall = Reading(0.2, 0.1, 0.3), Reading(-0.2, -0.3, -0.1)
    losses = [name for name, channel in CHANNELS.items() if "loss" in (name + (channel.part_of or ""))]
    assert {"heldout_loss", "heldout_high", "heldout_low", "shifted_mid"} <= set(losses)
    assert {name: better(name, rise) for name in losses} == dict.fromkeys(losses, fall)
    assert better("fidelity", rise) == rise


def test_without_an_encoder_there_are_no_directions() -> None:
    photos, base = crops(24, 1), crops(len(LABELS), 2, OTHERS)
    calibration = calibrate(photos, [True] * 24, base, LABELS, None)
    assert subject_axes(calibration, photos) is None
    plain = read_checkpoint(calibration, epoch=1, effort=1, images=base)
    assert with_subject(calibration, plain, base, None) is plain
    assert likeness(plain.channels) is None
    assert 0 <= worth(calibration, plain, None) <= 1

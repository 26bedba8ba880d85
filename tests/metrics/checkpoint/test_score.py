"""A checkpoint's readings on real photos: each fault shows in its own channel, and a reloaded calibration agrees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.channels.colour import drift
from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.encoders import Encoder, load_encoder
from metrics.checkpoint.recognition import recogniser
from metrics.checkpoint.score import calibrate, excesses, read_checkpoint, score_of
from metrics.errors import MetricsError
from metrics.trajectory.readings import CHANNELS, DIVERSITY_FLOOR, Reading, Readings
from tests.metrics.photo_sets import OTHERS, boxes, burnt, crops, probe_labels, recoloured, upside_down

LABELS = probe_labels()
TRAINED = [True] * 20 + [False] * 4


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> Encoder:
    return load_encoder(str(tiny_clip))


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return crops(24, 1)


@pytest.fixture(scope="module")
def losses() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"heldout": generator.uniform(0.1, 1, (4, 8, 4)), "shifted": generator.uniform(0.1, 1, (16, 8, 1))}


@pytest.fixture(scope="module")
def calibration(photos: np.ndarray, encoder: Encoder, losses: dict[str, np.ndarray]) -> Calibration:
    base = crops(len(LABELS), 2, OTHERS)
    owner = np.repeat(np.arange(20, 24), 4)
    return calibrate(photos, TRAINED, base, LABELS, encoder, base_losses=losses, shifted_photo=owner)


def read(calibration: Calibration, images: np.ndarray) -> Readings:
    return read_checkpoint(calibration, epoch=3, effort=0.1, images=images)


def values(readings: Readings) -> dict[str, float]:
    return {name: reading.value for name, reading in readings.channels.items()}


def test_the_base_reads_as_the_base(calibration: Calibration, losses: dict[str, np.ndarray]):
    base = crops(len(LABELS), 2, OTHERS)
    readings = read_checkpoint(calibration, epoch=0, effort=0, images=base, losses=losses)
    found = values(readings)
    assert found["heldout_loss"] == found["shifted_loss"] == 0
    assert found["fidelity"] == pytest.approx(0, abs=1e-6)
    assert found["prompt"] == found["prompt_change"] == 0
    assert found["diversity"] == pytest.approx(1)
    assert found["collapse"] == pytest.approx(1)
    assert found["burn"] == 0
    assert 0 < readings.score < 0.05


def test_fresh_photos_are_no_fault(calibration: Calibration):
    readings = read(calibration, crops(len(LABELS), 5))
    found = values(readings)
    assert max(excesses(calibration, readings.channels).values()) == 0
    assert found["fidelity"] == pytest.approx(1, abs=0.3)
    assert 0.3 < found["copying"] < 0.7
    assert 0.3 < found["layout_copying"] < 0.7
    assert abs(found["colour"]) < 3
    assert abs(found["composition"]) < 3


def test_copies_raise_copying_and_its_layout_and_nothing_else(calibration: Calibration, photos: np.ndarray):
    rows = np.array([photo if photo >= 0 else 7 + row % 9 for row, photo in enumerate(LABELS.photo)]) % 20
    readings = read(calibration, photos[rows])
    found, excess = values(readings), excesses(calibration, readings.channels)
    assert found["copying"] > 0.95
    assert found["layout_copying"] > 0.95
    assert found["own_caption"] == 1
    assert excess["copying"] > 0.9
    assert excess["colour"] == 0
    assert abs(found["colour"]) < 3
    assert readings.score < 0.1


def test_recolouring_raises_colour_and_leaves_layout_alone(calibration: Calibration):
    plain, changed = (values(read(calibration, edit(crops(len(LABELS), 5)))) for edit in (lambda x: x, recoloured))
    assert changed["colour"] > plain["colour"] + 4
    assert changed["composition"] == pytest.approx(plain["composition"], abs=1.5)
    assert changed["layout_copying"] == pytest.approx(plain["layout_copying"], abs=0.12)
    assert changed["collapse"] == pytest.approx(plain["collapse"], rel=0.1)


def test_burning_raises_burn_and_leaves_layout_alone(calibration: Calibration):
    plain, changed = (read(calibration, edit(crops(len(LABELS), 5))) for edit in (lambda x: x, burnt))
    assert changed.channels["burn"].value > 1.5 > 0.8 > plain.channels["burn"].value
    assert changed.channels["burn"].value > 5
    cool = changed.channels | {"burn": Reading(1, 1, 1)}
    assert changed.score < 0.7 * score_of(calibration, cool)
    assert excesses(calibration, changed.channels)["composition"] == 0
    assert changed.score < plain.score


def test_turned_pictures_raise_composition_and_leave_colour_alone(calibration: Calibration):
    plain, changed = (values(read(calibration, edit(crops(len(LABELS), 5)))) for edit in (lambda x: x, upside_down))
    assert changed["composition"] > plain["composition"] + 2
    assert changed["colour"] == pytest.approx(plain["colour"], abs=0.3)
    assert changed["burn"] == pytest.approx(plain["burn"], abs=0.3)


def test_a_subject_that_stands_elsewhere_raises_framing_and_leaves_colour_alone():
    calibration = calibrate(boxes(24, 1, 0.5), TRAINED, boxes(len(LABELS), 2, 0.5), LABELS, None)
    plain, changed = (values(read(calibration, boxes(len(LABELS), 3, middle))) for middle in (0.5, 0.75))
    assert abs(plain["framing"]) < 3
    assert changed["framing"] > plain["framing"] + 10
    assert changed["colour"] == pytest.approx(plain["colour"], abs=0.5)


def test_photos_framed_alike_make_no_fault_of_what_cannot_be_seen():
    alike = np.repeat(boxes(1, 1, 0.5), 24, axis=0)
    calibration = calibrate(alike, TRAINED, boxes(len(LABELS), 2, 0.5), LABELS, None)
    moved = np.roll(np.repeat(alike[:1], len(LABELS), axis=0), 1, axis=2)  # by 1.6 % of the width
    assert abs(read(calibration, moved).channels["framing"].value) < 3


def test_the_score_follows_the_weaker_half_of_the_images_in_new_contexts(calibration: Calibration):
    images = crops(len(LABELS), 5)
    whole = read(calibration, images)
    novel = np.flatnonzero(np.array(LABELS.sets) == "C")
    missed = novel[1::2]  # one of each prompt's two seeds shows what the base draws
    images[missed] = crops(len(LABELS), 2, OTHERS)[missed]
    half = read(calibration, images)
    assert half.channels["fidelity_weak"].value == pytest.approx(0, abs=0.15)
    assert half.channels["fidelity_novel"].value > 0.3
    items = np.sort(half.items["fidelity_novel"])
    assert half.channels["fidelity_weak"].value == pytest.approx(items[: len(items) // 2].mean())
    assert half.score < 0.8 * whole.score


def test_images_of_one_prompt_that_vary_like_the_class_cost_consistency_and_nothing_else(calibration: Calibration):
    readings = read(calibration, crops(len(LABELS), 2, OTHERS))  # as the base draws
    assert readings.channels["diversity"].value == pytest.approx(1)
    assert excesses(calibration, readings.channels)["diversity"] == 0
    style = replace(calibration, weights={"consistency": 0.0})
    settled = (1 / (1 + np.exp((1 - 0.8) / 0.2))) ** 0.35
    assert readings.score == pytest.approx(settled * score_of(style, readings.channels))
    less = readings.channels | {"diversity": Reading(0.5, 0.5, 0.5)}
    assert score_of(calibration, less) > 1.3 * readings.score
    assert score_of(style, less) == score_of(style, readings.channels)


def test_with_a_critic_obedience_is_steeper_and_consistency_counts_only_where_it_is_asked_for(calibration: Calibration):
    channels = read(calibration, crops(len(LABELS), 30)).channels
    channels |= {"diversity": Reading(1.0, 1.0, 1.0), "prompt": Reading(-0.1, -0.1, -0.1)}
    settled, obeyed, steeper = ((1 / (1 + np.exp(-x))) for x in ((0.8 - 1) / 0.2, (-0.1 + 0.2) / 0.3, -0.1 / 0.2))
    rest = score_of(calibration, channels) / (settled**0.35 * obeyed)
    seen = replace(calibration, critic=0.1)
    assert score_of(seen, channels) == pytest.approx(rest * steeper)
    asked = replace(seen, weights={"consistency": 1.0})
    assert score_of(asked, channels) == pytest.approx(rest * steeper * settled**0.35)


def test_equal_seeds_lower_diversity_and_spread_and_leave_colour_alone(calibration: Calibration):
    images = crops(len(LABELS), 5)
    plain, changed = read(calibration, images), read(calibration, np.repeat(images[::2], 2, axis=0))
    assert changed.channels["diversity"].value == pytest.approx(0, abs=1e-4)
    (floor,) = changed.items[DIVERSITY_FLOOR]
    assert 0 < floor <= 0.25
    assert excesses(calibration, {"diversity": Reading(floor / 2, 0, 1)})["diversity"] == pytest.approx(0.5)
    assert changed.channels["collapse"].value == pytest.approx(0, abs=1e-4)
    assert excesses(calibration, changed.channels)["diversity"] > 0.99
    assert abs(changed.channels["colour"].value - plain.channels["colour"].value) < 2.5
    assert changed.score < 0.1


def test_excesses_are_what_their_formulas_say(calibration: Calibration):
    """By hand, channel by channel; the worst of each kind counts."""

    def excess(**channels: float) -> dict[str, float]:
        return excesses(calibration, {name: Reading(value, value, value) for name, value in channels.items()})

    own = np.array(LABELS.sets) != "C"
    ceiling = 0.5 + 1.645 * np.sqrt((own.sum() + 20 + 1) / (12 * own.sum() * 20))  # Mann-Whitney, 20 trained photos
    share = (0.9 - ceiling) / (1 - ceiling)
    assert excess(copying=0.9)["copying"] == pytest.approx(share)
    assert excess(layout_copying=0.9)["composition"] == pytest.approx(share)
    assert excess(copying=0.9 * ceiling, layout_copying=0.9 * ceiling)["copying"] == 0
    assert excess(collapse=0.05)["composition"] == pytest.approx(1 - 0.05 / 0.25)
    assert excess(collapse=0.05, layout_copying=0.99)["composition"] == pytest.approx((0.99 - ceiling) / (1 - ceiling))
    assert excess(scatter=8)["colour"] == pytest.approx(1 - 2 / 8)
    assert excess(scatter=1.9, burn=5)["colour"] == 0
    photos, drawn = calibration.photos.rows(calibration.kept), calibration.base.rows(own)
    limit = max(3.0, drift(drawn.colour_cdfs, photos.colour_cdfs, calibration.colour_null)[0])
    assert excess(colour=4 * limit)["colour"] == pytest.approx(0.75)
    assert excess(colour=0.9 * limit)["colour"] == 0
    assert excess(colour=4 * limit, scatter=3)["colour"] == pytest.approx(0.75)
    quarter = replace(calibration, weights={"colour": 0.25})
    assert excesses(quarter, {"scatter": Reading(8, 8, 8)})["colour"] == pytest.approx(0.25 * 0.75)


def test_the_score_is_what_its_formula_says(calibration: Calibration):
    """By hand: subject, settled, obeyed, burn, and the worst excess (here scatter)."""

    def score(weights: dict[str, float] | None = None, **channels: float) -> float:
        weighted = replace(calibration, weights=weights or {})
        return score_of(weighted, {name: Reading(value, value, value) for name, value in channels.items()})

    def rise(value: float) -> float:
        return 1 / (1 + np.exp(-value))

    likeness = rise((0.75 - 0.5) / 0.15)
    assert score(fidelity=0.9, fidelity_weak=0.6) == pytest.approx(likeness)
    assert score(fidelity=0.75) == pytest.approx(likeness)
    assert score(recognised=0.4, fidelity=0.9) == pytest.approx(0.4)  # image by image, where that can be said
    rest = {"prompt": -0.5, "diversity": 0.6, "burn": 5.0, "scatter": 8.0}
    settled, obeyed, burnt = rise((0.8 - 0.6) / 0.2) ** 0.35, rise((-0.5 + 0.2) / 0.3), 5**-0.3
    assert score(recognised=0.4, **rest) == pytest.approx(0.4 * settled * obeyed * burnt * (1 - 0.95 * 0.75))
    plain = {"colour": 0.0, "consistency": 0.0}
    assert score(plain, recognised=0.4, **rest) == pytest.approx(0.4 * obeyed)
    assert np.isnan(score(prompt=0.1))


def test_a_better_image_is_a_better_score_however_bad_it_is(calibration: Calibration):
    worst = {"fidelity": -0.2, "prompt": -1.3, "diversity": 0.0, "burn": 40.0, "copying": 1.0}

    def score(**better: float) -> float:
        return score_of(calibration, {name: Reading(v, v, v) for name, v in (worst | better).items()})

    assert 0 < score() < 0.001
    for name, value in {"fidelity": -0.1, "prompt": -1.2, "burn": 39.0}.items():
        assert score(**{name: value}) > 1.005 * score(), name


def test_moved_subjects_and_their_spoiled_twins_judge_image_by_image(photos: np.ndarray, encoder: Encoder):
    base, owners = crops(len(LABELS), 2, OTHERS), [row % 20 for row in range(32)]
    moved, spoiled = crops(32, 7), crops(32, 8, OTHERS)
    made = calibrate(
        photos, TRAINED, base, LABELS, encoder,
        shifted_photo=owners, shifted_images=moved, spoiled_images=spoiled,
    )  # fmt: skip
    images = base.copy()
    images[::2] = crops(len(LABELS), 5)[::2]
    items = read(made, images).items["recognised"]
    assert np.mean(items[::2, None] > items[1::2]) > 0.95
    assert items[::2].mean() > 0.6
    assert items[1::2].mean() < 0.2
    assert read(made, crops(len(LABELS), 5)).score > 1.4 * read(made, images).score > 7 * read(made, base).score
    with pytest.raises(MetricsError, match="32 moved subjects, and photos of 31"):
        calibrate(
            photos, TRAINED, base, LABELS, encoder,
            shifted_photo=owners[1:], shifted_images=moved, spoiled_images=spoiled,
        )  # fmt: skip


def test_photos_that_repeat_each_other_count_once(photos: np.ndarray, encoder: Encoder):
    repeated = photos.copy()
    repeated[3], repeated[7], repeated[22] = photos[0], photos[0], photos[20]  # two trained on, one held out
    base = crops(len(LABELS), 2, OTHERS)
    calibration = calibrate(repeated, TRAINED, base, LABELS, encoder)
    assert np.flatnonzero(~calibration.kept[:20]).tolist() == [3, 7]
    assert not calibration.kept[20:].any()
    rest = np.delete(np.arange(24), [3, 7])
    labels = replace(LABELS, photo=tuple(-1 for _ in LABELS.photo))
    once = calibrate(repeated[rest], np.array(TRAINED)[rest].tolist(), base, labels, encoder)
    twice = calibrate(repeated, TRAINED, base, labels, encoder)
    images = crops(len(LABELS), 5)
    first, second = values(read(once, images)), values(read(twice, images))
    for name in ("fidelity", "copying", "layout_copying", "colour", "scatter", "composition", "framing", "clip_image"):
        assert second[name] == pytest.approx(first[name]), name


def test_items_average_to_their_channel_and_intervals_hold_the_value(
    calibration: Calibration, losses: dict[str, np.ndarray]
):
    lower = {name: array * 0.9 for name, array in losses.items()}
    readings = read_checkpoint(calibration, epoch=3, effort=0.1, images=crops(len(LABELS), 5), losses=lower)
    assert set(readings.channels) <= set(CHANNELS)
    assert all(reading.low <= reading.value <= reading.high for reading in readings.channels.values())
    averaged = readings.channels.keys() & readings.items.keys() - {"own_caption", "own_photo"}
    assert averaged >= {"heldout_loss", "shifted_loss", "fidelity", "copying", "prompt", "colour", "composition"}
    for name in averaged:
        assert readings.items[name].mean() == pytest.approx(readings.channels[name].value), name
    gained = readings.items["own_photo"].mean() - readings.items["own_photo_held_out"].mean()
    assert gained == pytest.approx(readings.channels["own_photo"].value)
    assert readings.items["heldout_loss"].shape == (4, 8, 4)
    assert readings.channels["shifted_high"].value == pytest.approx(np.log(0.9))
    np.testing.assert_array_equal(readings.items["shifted_loss_photo"], np.repeat(np.arange(20, 24), 4))


def test_a_saved_calibration_gives_the_same_numbers_and_refuses_another_encoder(
    calibration: Calibration, encoder: Encoder, tmp_path: Path, losses: dict[str, np.ndarray]
):
    moved, spoiled = crops(16, 7), crops(16, 8, OTHERS)
    line = recogniser(encoder.images(moved), np.arange(16), encoder.images(spoiled), calibration.base.identity)
    calibration = replace(calibration, subject=line)
    calibration.save(tmp_path / "calibration.npz")
    again = Calibration.load(tmp_path / "calibration.npz", encoder=encoder)
    images = crops(len(LABELS), 5)
    first, second = (
        read_checkpoint(each, epoch=3, effort=0.1, images=images, losses=losses) for each in (calibration, again)
    )
    assert first.channels == second.channels
    assert first.score == second.score
    assert "recognised" in second.channels
    assert again.labels == calibration.labels
    with pytest.raises(MetricsError, match="another encoder"):
        Calibration.load(tmp_path / "calibration.npz", encoder=None)
    whole = (tmp_path / "calibration.npz").read_bytes()
    for left in (b"cut short", whole[: len(whole) // 2], b""):
        (tmp_path / "calibration.npz").write_bytes(left)
        with pytest.raises(MetricsError, match="cannot be read"):
            Calibration.load(tmp_path / "calibration.npz", encoder=encoder)


def test_without_an_encoder_colour_and_layout_remain(photos: np.ndarray):
    base, images = crops(len(LABELS), 2, OTHERS), crops(len(LABELS), 5)
    calibration = calibrate(photos, TRAINED, base, LABELS, None)
    readings = read(calibration, images)
    assert {"copying", "colour", "burn", "composition", "collapse"} <= set(readings.channels)
    assert not {"fidelity", "prompt", "diversity", "clip_image"} & set(readings.channels)
    assert np.isnan(readings.score)


def test_three_photos_and_one_seed_are_enough_to_go_on(encoder: Encoder):
    labels = probe_labels(num_prompts=6, seeds=1, first_held_out=2, num_held_out=1)
    calibration = calibrate(crops(3, 1), [True, True, False], crops(6, 2, OTHERS), labels, encoder)
    found = values(read(calibration, crops(6, 5)))
    assert "fidelity" in found
    assert not {"colour", "composition", "framing", "diversity"} & set(found)


def test_numbers_that_do_not_fit_are_named(calibration: Calibration, photos: np.ndarray, encoder: Encoder):
    with pytest.raises(MetricsError, match="3 images, the probe has 24"):
        read(calibration, crops(3, 1))
    with pytest.raises(MetricsError, match="24 photos with 2 flags"):
        calibrate(photos, [True, False], crops(24, 2), LABELS, encoder)
    with pytest.raises(MetricsError, match=r"weights: expected one of .*, got 'burn'"):
        calibrate(photos, TRAINED, crops(24, 2), LABELS, encoder, weights={"burn": 2})


def test_a_weight_of_zero_silences_a_channel(photos: np.ndarray, encoder: Encoder):
    base, copies = crops(len(LABELS), 2, OTHERS), photos[np.arange(24) % 20]
    deaf, plain = (
        calibrate(photos, TRAINED, base, LABELS, encoder, weights=weights) for weights in ({"copying": 0}, {})
    )
    assert excesses(deaf, read(deaf, copies).channels)["copying"] == 0
    assert excesses(plain, read(plain, copies).channels)["copying"] > 0.5


def test_losses_of_a_lora_that_has_blown_up_are_left_out(calibration: Calibration, losses: dict[str, np.ndarray]):
    burst = losses | {"heldout": np.full_like(losses["heldout"], np.inf)}
    readings = read_checkpoint(calibration, epoch=3, effort=0.1, images=crops(len(LABELS), 5), losses=burst)
    assert "heldout_loss" not in readings.channels
    assert "shifted_loss" in readings.channels
    assert np.isfinite(readings.score)


def test_training_photos_that_come_back_are_seen_against_held_out_ones(calibration: Calibration, photos: np.ndarray):
    base = crops(len(LABELS), 2, OTHERS)
    own = np.array(LABELS.photo)
    kind = np.array(LABELS.sets)
    copied, learned = base.copy(), base.copy()
    copied[kind == "A"] = photos[own[kind == "A"]]
    learned[kind != "C"] = photos[own[kind != "C"]]
    both, only_trained = (read(calibration, images).channels["own_photo"] for images in (learned, copied))
    assert only_trained.low > 1
    assert abs(both.value) < only_trained.value / 4
    seen = read_checkpoint(calibration, epoch=3, effort=0.1, images=copied, unseen=False)
    assert not {"own_photo", "own_caption", "own_pull"} & seen.channels.keys()


def test_too_few_captions_say_nothing_of_copies(photos: np.ndarray, encoder: Encoder):
    def told(num_prompts: int) -> set[str]:
        labels = probe_labels(num_prompts=num_prompts)
        few = calibrate(photos, TRAINED, crops(len(labels), 2, OTHERS), labels, encoder)
        return {"own_photo", "own_caption"} & read(few, crops(len(labels), 5)).channels.keys()

    assert told(6) == {"own_caption"}  # two of each kind
    assert told(3) == set()


def test_a_calibration_from_before_copies_were_looked_for_still_reads(
    calibration: Calibration, encoder: Encoder, tmp_path: Path
):
    calibration.save(tmp_path / "now.npz")
    with np.load(tmp_path / "now.npz") as file:
        kept = {name: file[name] for name in file.files if not name.endswith(".pixels")}
    np.savez(tmp_path / "before.npz", **kept)
    images = crops(len(LABELS), 5)
    now, before = (
        read(Calibration.load(tmp_path / f"{name}.npz", encoder=encoder), images) for name in ("now", "before")
    )
    assert now.channels.keys() - before.channels.keys() == {"own_photo"}
    assert before.score == now.score

"""How far a score would move with other prompts: paired, repeatable, and as wide as the prompts differ."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.checkpoint.calibration import Calibration, ProbeLabels
from metrics.checkpoint.encoders import load_encoder
from metrics.checkpoint.score import calibrate, read_checkpoint, score_of
from metrics.checkpoint.score_spread import score_draws
from metrics.errors import MetricsError
from metrics.trajectory.readings import Reading, Readings
from tests.metrics.photo_sets import OTHERS, crops, probe_labels

LABELS = probe_labels()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(crops(24, 1), [True] * 24, crops(len(LABELS), 2, OTHERS), LABELS, None)


def looked(shares: np.ndarray) -> Readings:
    """A checkpoint whose score is the mean of these shares, one for each image."""
    mean = float(shares.mean())
    return Readings(3, 0.0, {"recognised": Reading(mean, mean, mean)}, {"recognised": shares}, mean)


def test_it_is_as_wide_as_the_prompts_differ(calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    of_prompt = rng.normal(0.5, 0.1, LABELS.prompt_numbers.max() + 1)
    draws = score_draws(calibration, looked(of_prompt[LABELS.prompt_numbers]))
    novel = np.array([LABELS.sets[list(LABELS.prompt_numbers).index(n)] == "C" for n in range(len(of_prompt))])
    parts = [(part.mean(), of_prompt[part]) for part in (novel, ~novel)]
    expected = sum(share**2 * values.var(ddof=1) / len(values) for share, values in parts) ** 0.5
    assert draws.mean() == pytest.approx(of_prompt.mean(), abs=3 * expected / len(draws) ** 0.5)
    assert draws.std() == pytest.approx(expected, rel=0.1)


def test_two_checkpoints_are_compared_on_the_same_prompts(calibration: Calibration) -> None:
    rng = np.random.default_rng(1)
    shares = rng.uniform(0.2, 0.6, len(LABELS))
    one, other = (score_draws(calibration, looked(values)) for values in (shares, shares + 0.1))
    assert one.std() > 0.01
    assert other - one == pytest.approx(np.full(len(one), 0.1))


def test_prompts_that_are_all_alike_move_nothing(calibration: Calibration) -> None:
    draws = score_draws(calibration, looked(np.full(len(LABELS), 0.4)))
    assert draws == pytest.approx(np.full(len(draws), 0.4))


def test_every_part_of_a_real_score_is_drawn(calibration: Calibration) -> None:
    readings = read_checkpoint(calibration, epoch=3, effort=0.0, images=crops(len(LABELS), 5))
    named = {"burn", "colour", "scatter", "copying", "layout_copying", "collapse"} & set(readings.channels)
    assert len(named) >= 5
    shares = np.random.default_rng(2).uniform(0.3, 0.7, len(LABELS))
    mean = Reading(float(shares.mean()), 0.0, 1.0)
    items = {**readings.items, "recognised": shares}
    whole = replace(readings, channels={**readings.channels, "recognised": mean}, items=items)
    draws, score = score_draws(calibration, whole), score_of(calibration, whole.channels)
    low, high = np.quantile(draws, [0.005, 0.995])
    assert low < score < high
    for name, values in (("collapse", [0.0, 0.3]), ("copying", [1.0, 0.6])):  # each moves it by itself
        bad = {**items, name: np.resize(values, len(items[name]))}
        channels = {**whole.channels, name: Reading(float(bad[name].mean()), 0.0, 1.0)}
        changed = score_draws(calibration, replace(whole, channels=channels, items=bad))
        assert not np.array_equal(changed, draws), name


def test_a_score_of_likeness_alone_takes_the_weaker_half_of_each_resample(calibration: Calibration) -> None:
    novel = np.array(LABELS.sets) == "C"
    fidelity = np.random.default_rng(3).uniform(0, 1, int(novel.sum()))
    half = np.sort(fidelity)[: (len(fidelity) + 1) // 2]
    channels = {"fidelity_weak": Reading(float(half.mean()), 0.0, 1.0)}
    found = Readings(3, 0.0, channels, {"fidelity_novel": fidelity}, score_of(calibration, channels))
    draws = score_draws(calibration, found)
    assert draws.min() < found.score < draws.max()
    flat = replace(found, items={"fidelity_novel": np.full(len(fidelity), channels["fidelity_weak"].value)})
    assert score_draws(calibration, flat) == pytest.approx(np.full(len(draws), found.score))


def test_the_same_rule_for_the_same_images_gives_the_same_score_and_others_need_a_base_of_their_own(
    calibration: Calibration,
) -> None:
    images = crops(len(LABELS), 5)
    again = calibration.for_images(LABELS, crops(len(LABELS), 2, OTHERS))
    here, there = (read_checkpoint(rule, epoch=3, effort=0.0, images=images) for rule in (calibration, again))
    assert {name: reading.value for name, reading in here.channels.items()} == {
        name: reading.value for name, reading in there.channels.items()
    }
    fewer = ProbeLabels(*(getattr(LABELS, name)[:10] for name in ("prompts", "neutral", "sets", "photo", "seeds")))
    with pytest.raises(MetricsError, match="10 labels"):
        calibration.for_images(fewer, images)
    other = calibration.for_images(fewer, crops(10, 9, OTHERS))
    read = read_checkpoint(other, epoch=3, effort=0.0, images=images[:10])
    assert read.channels["collapse"].value != here.channels["collapse"].value


def test_an_encoder_that_knows_images_alone_judges_other_prompts_without_texts(tmp_path) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.safetensors")
    encoder = load_encoder(f"timm:test_vit@{tmp_path / 'vit.safetensors'}")
    rule = calibrate(crops(24, 1), [True] * 24, crops(len(LABELS), 2, OTHERS), LABELS, encoder)
    other = rule.for_images(LABELS, crops(len(LABELS), 9, OTHERS))
    assert other.texts.shape == (len(LABELS), 0)


def test_a_resample_without_any_of_a_channels_prompts_keeps_its_value_and_what_is_no_mean_stays() -> None:
    """Of four prompts one was drawn twice, which alone says how images of one prompt vary."""
    labels = ProbeLabels(tuple("aabcd"), tuple("aabcd"), tuple("AAAAA"), (0, 0, 1, 2, 3), (0, 1, 0, 0, 0))
    rule = calibrate(crops(6, 1), [True] * 6, crops(5, 2, OTHERS), labels, None)
    shares = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    channels = {name: Reading(value, 0, 1) for name, value in (("heldout_loss", 9), ("collapse", 2), ("burn", 0.5))}
    found = Readings(3, 0.0, channels, {"collapse": np.array([5.0]), "burn": shares}, 0.5)
    seen = {name: score_draws(rule, found, 400, objective=lambda values, name=name: values[name]) for name in channels}
    assert set(seen["heldout_loss"]) == {9}
    assert set(seen["collapse"]) == {2, 5}
    missing = (3 / 4) ** 3  # three prompts are drawn, one fewer than there are
    assert np.mean(seen["collapse"] == 2) == pytest.approx(missing, abs=0.08)
    assert seen["burn"].std() > 0.05
    assert len(set(seen["burn"])) > 10

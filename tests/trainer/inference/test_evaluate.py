"""Held-out losses: the training objective without weights, under draws that never change."""

import numpy as np
import pytest
import torch

from tests.trainer.lora.made_loras import random_lora
from trainer.base_model.load import load_base
from trainer.data.dataset import load_pixels, scan_dataset
from trainer.errors import DataError
from trainer.inference.evaluate import Evaluation, losses
from trainer.streams import stream


@pytest.fixture(scope="module")
def photos(tiny_photos) -> tuple[np.ndarray, list[str]]:
    dataset = scan_dataset(tiny_photos).subset(range(3))
    return np.stack([load_pixels(photo) for photo in dataset.photos]), [photo.caption for photo in dataset.photos]


@pytest.mark.parametrize("name", ["sd15", "sd15_v", "sdxl", "sd3"])
def test_losses_do_not_depend_on_the_batch_size(name: str, request, photos) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    ready = Evaluation.prepare(base, *photos, levels=4, draws=3, seed=1)
    whole = ready.losses(batch_size=64)
    assert whole.shape == (3, 4, 3)
    assert whole.dtype == np.float64
    for batch_size in (5, 12) if name == "sdxl" else (1, 5, 12, 36):
        np.testing.assert_allclose(ready.losses(batch_size=batch_size), whole, rtol=1e-5)


@pytest.mark.parametrize("name", ["sd15", "sd15_v", "sdxl", "sd3"])
def test_one_loss_is_the_mean_square_error_by_hand(name: str, request, photos) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    family = base.family
    found = losses(base, None, *photos, levels=4, draws=3, seed=1)
    pixels = torch.from_numpy(photos[0][1:2]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = family.encode_images(base, pixels)[0]
        noise = torch.randn(12, *latents.shape[1:], generator=stream(1, "evaluate", 1))[2 * 3 + 1][None]
        timesteps = family.fixed_timesteps(base, 4)[2:3]
        conditioning = family.encode_prompts(base, [photos[1][1]])
        conditioning |= family.size_conditioning(base, (64, 64), (0, 0), (64, 64), 1)
        noisy = family.add_noise(base, latents, noise, timesteps)
        prediction = family.predict(base, noisy, timesteps, conditioning)
    expected = torch.nn.functional.mse_loss(prediction, family.target(base, latents, noise, timesteps)).item()
    assert found[1, 2, 1] == pytest.approx(expected, rel=1e-5)


def test_the_seed_fixes_the_draws(tiny_sd15, photos) -> None:
    base = load_base(tiny_sd15)
    first = losses(base, None, *photos, levels=2, draws=2, seed=1)
    np.testing.assert_array_equal(losses(base, None, *photos, levels=2, draws=2, seed=1), first)
    assert not np.allclose(losses(base, None, *photos, levels=2, draws=2, seed=2), first)
    # a shorter set sees the same draws: checkpoints and subsets stay paired
    np.testing.assert_allclose(
        losses(base, None, photos[0][:2], photos[1][:2], levels=2, draws=2, seed=1), first[:2], rtol=1e-5
    )


def test_a_lora_changes_the_losses_and_leaves_no_trace(tiny_sd15, photos) -> None:
    base = load_base(tiny_sd15)
    ready = Evaluation.prepare(base, *photos, levels=2, draws=2, seed=1)
    plain, lora = ready.losses(), random_lora(base)
    changed = ready.losses(lora)
    assert np.abs(changed - plain).max() > 1e-3
    np.testing.assert_array_equal(ready.losses(lora), changed)
    np.testing.assert_array_equal(ready.losses(lora, strength=0.0), plain)


def test_a_trained_text_encoder_is_used(tiny_sd15, photos) -> None:
    base = load_base(tiny_sd15)
    ready = Evaluation.prepare(base, *photos, levels=2, draws=2, seed=1)
    lora = random_lora(base)
    text_only = type(lora)({site: m for site, m in lora.modules.items() if site[0] != "denoiser"}, "sd15")
    assert np.abs(ready.losses(text_only) - ready.losses()).max() > 1e-5


def test_autocast_stays_near(tiny_sd15, photos) -> None:
    base = load_base(tiny_sd15)
    ready = Evaluation.prepare(base, *photos, levels=2, draws=2, seed=1)
    np.testing.assert_allclose(ready.losses(precision="bf16"), ready.losses(), rtol=0.02)


def test_latents_are_taken_as_they_are(tiny_sd15, photos) -> None:
    from trainer.inference.evaluate import encode

    base = load_base(tiny_sd15)
    direct = losses(base, None, encode(base, photos[0]), photos[1], levels=2, draws=2, seed=1)
    np.testing.assert_array_equal(direct, losses(base, None, *photos, levels=2, draws=2, seed=1))


def test_missing_captions_are_named(tiny_sd15, photos) -> None:
    with pytest.raises(DataError, match="3 images, 1 captions"):
        losses(load_base(tiny_sd15), None, photos[0], ["one"], seed=0)

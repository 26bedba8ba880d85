"""Batches and draws: the same for all who ask, as often as was said, and weighted as was said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from trainer.base_model.load import load_base
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.family import Base
from trainer.packing.batches import Batch, Feed
from trainer.packing.loss import Examples, draw_examples, run_losses
from trainer.packing.settings import FeedSettings, LossSettings
from trainer.streams import stream

PLAIN = FeedSettings(batch_size=4, resolution=(32, 32), seed=5)


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


@pytest.fixture(scope="module")
def dataset(tiny_photos: Path) -> Dataset:
    return scan_dataset(tiny_photos)


def feed(base: Base, dataset: Dataset, **settings: Any) -> Feed:
    return Feed(base, dataset, LatentCache(base), replace(PLAIN, **settings))


def draw(base: Base, batch: Batch, *, epoch: int = 0, number: int = 0, **settings: Any) -> Examples:
    """What a run of these loss settings learns from at the batch."""
    loss = LossSettings(**settings)
    return draw_examples(base, batch.mean, batch.std, batch.prior, settings=loss, seed=0, epoch=epoch, batch=number)


def test_an_epoch_shows_every_photo_as_often_as_its_folder_says(base: Base, dataset: Dataset) -> None:
    shown = [index for batch in feed(base, dataset).photo_pass(3) for index in batch]
    assert sorted(shown) == sorted(list(range(8)) * 2)


def test_asking_again_or_in_another_order_gives_the_same_batch(base: Base, dataset: Dataset) -> None:
    some = feed(base, dataset, flip=True, shuffle_caption=True, caption_dropout=0.4)
    first = some.batch([0, 1, 2, 3], 2, 1)
    some.batch([4, 5, 6, 7], 0, 0)
    again = feed(base, dataset, flip=True, shuffle_caption=True, caption_dropout=0.4).batch([0, 1, 2, 3], 2, 1)
    assert first.captions == again.captions
    assert torch.equal(first.mean, again.mean)
    assert torch.equal(first.conditioning["prompt_embeds"], again.conditioning["prompt_embeds"])


def test_captions_are_dropped_as_often_as_was_said(base: Base, dataset: Dataset) -> None:
    some = feed(base, dataset, caption_dropout=0.25)
    captions = [caption for number in range(200) for caption in some.batch([0, 1, 2, 3], 0, number).captions]
    assert captions.count("") / len(captions) == pytest.approx(0.25, abs=0.05)
    batch = next(some.batch([0, 1, 2, 3], 0, n) for n in range(50) if "" in some.batch([0, 1, 2, 3], 0, n).captions)
    empty = base.family.encode_prompts(base, [""])["prompt_embeds"][0]
    torch.testing.assert_close(batch.conditioning["prompt_embeds"][batch.captions.index("")], empty)


def test_shuffling_keeps_the_first_tags_and_all_of_them(base: Base, dataset: Dataset) -> None:
    photos = tuple(replace(photo, caption="sks toy, red, blue, green, snow") for photo in dataset.photos)
    some = feed(base, replace(dataset, photos=photos), shuffle_caption=True, keep_tokens=1)
    captions = {caption for epoch in range(10) for caption in some.batch([0, 1, 2, 3], epoch, 0).captions}
    assert len(captions) > 10
    assert all(caption.startswith("sks toy, ") for caption in captions)
    assert all(sorted(c.split(", ")) == sorted(["sks toy", "red", "blue", "green", "snow"]) for c in captions)


def test_flipping_shows_both_sides_about_evenly(base: Base, dataset: Dataset) -> None:
    plain, flipping = feed(base, dataset), feed(base, dataset, flip=True)
    straight = plain.batch([0], 0, 0).mean
    same = [torch.equal(flipping.batch([0], 0, number).mean, straight) for number in range(100)]
    assert 30 < sum(same) < 70


def test_regularisation_images_weigh_what_was_said(base: Base, dataset: Dataset) -> None:
    photos = tuple(replace(photo, is_reg=index >= 4) for index, photo in enumerate(dataset.photos))
    batch = feed(base, replace(dataset, photos=photos)).batch([1, 5, 2, 6], 0, 0)
    assert batch.prior.tolist() == [False, True, False, True]
    drawn = draw(base, batch, prior_loss_weight=0.25)
    assert drawn.weight.tolist() == [1.0, 0.25, 1.0, 0.25]


def test_latents_are_drawn_anew_from_the_posterior(base: Base, dataset: Dataset) -> None:
    batch = feed(base, dataset).batch([0, 1], 0, 0)
    batch = replace(batch, std=torch.full_like(batch.std, 0.5))
    first, again, later = draw(base, batch), draw(base, batch), draw(base, batch, epoch=1)
    assert torch.equal(first.noisy, again.noisy)
    assert not torch.equal(first.noisy, later.noisy)
    noise = first.target
    alphas = base.noise_scheduler.alphas_cumprod[first.timesteps].view(-1, 1, 1, 1)
    latents = (first.noisy - (1 - alphas).sqrt() * noise) / alphas.sqrt()
    spread = ((latents - batch.mean) / 0.5).flatten()
    assert float(spread.std()) == pytest.approx(1.0, abs=0.1)


def test_noise_offset_moves_whole_channels_and_nothing_else_is_drawn_differently(base: Base, dataset: Dataset) -> None:
    batch = feed(base, dataset).batch([0, 1], 0, 0)
    plain, moved = draw(base, batch), draw(base, batch, noise_offset=0.1)
    offsets = moved.target - plain.target
    assert float(offsets.flatten(2).std(dim=2).max()) < 1e-6
    expected = 0.1 * torch.randn(2, 4, 1, 1, generator=stream(0, "noise offset", 0, 0))
    torch.testing.assert_close(offsets[:, :, :1, :1], expected, atol=1e-6, rtol=1e-4)
    assert torch.equal(moved.timesteps, plain.timesteps)


def test_a_random_strength_scales_the_offset_of_a_batch_as_a_whole(base: Base, dataset: Dataset) -> None:
    batch = feed(base, dataset).batch([0, 1], 0, 0)
    shares = []
    for epoch, number in ((0, 0), (0, 1), (3, 0)):
        plain = draw(base, batch, epoch=epoch, number=number)
        random = draw(base, batch, epoch=epoch, number=number, noise_offset=0.5, noise_offset_random_strength=True)
        offsets = 0.5 * torch.randn(2, 4, 1, 1, generator=stream(0, "noise offset", epoch, number))
        share = torch.rand((), generator=stream(0, "noise offset strength", epoch, number))
        moved = random.target - plain.target
        torch.testing.assert_close(moved, (share * offsets).expand_as(moved), atol=1e-6, rtol=1e-4)
        again = draw(base, batch, epoch=epoch, number=number, noise_offset=0.5, noise_offset_random_strength=True)
        assert torch.equal(again.noisy, random.noisy)
        shares.append(float(share))
    assert len(set(shares)) == 3


def test_input_perturbation_is_seen_and_not_learned(base: Base, dataset: Dataset) -> None:
    """sd-scripts: add_noise(latents, noise + γ · randn), and the target of the noise alone."""
    batch = feed(base, dataset).batch([0, 1], 0, 0)
    plain, perturbed = draw(base, batch), draw(base, batch, ip_noise_gamma=0.1)
    assert torch.equal(perturbed.target, plain.target)
    assert torch.equal(perturbed.timesteps, plain.timesteps)
    further = torch.randn(batch.mean.shape, generator=stream(0, "input perturbation", 0, 0))
    sigma = (1 - base.noise_scheduler.alphas_cumprod[plain.timesteps]).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(perturbed.noisy - plain.noisy, 0.1 * sigma * further, atol=1e-6, rtol=1e-4)


def test_a_debiased_loss_weighs_the_timesteps_drawn(base: Base, dataset: Dataset) -> None:
    batch = feed(base, dataset).batch([0, 1, 2, 3], 0, 0)
    drawn = draw(base, batch, debiased_estimation_loss=True, min_snr_gamma=5.0)
    alphas = base.noise_scheduler.alphas_cumprod[drawn.timesteps]
    snr = alphas / (1 - alphas)
    expected = snr.clamp(max=5.0) / snr / snr.clamp(max=1000).sqrt()
    torch.testing.assert_close(drawn.weight, expected, rtol=1e-4, atol=1e-6)


def test_each_runs_loss_is_the_weighted_mean_of_its_own_rows() -> None:
    prediction, target = torch.randn(6, 4, 2, 2), torch.randn(6, 4, 2, 2)
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 3.0])
    losses = run_losses(prediction, target, weight, 2)
    for run in range(2):
        rows = slice(3 * run, 3 * run + 3)
        expected = ((prediction - target)[rows].square().mean(dim=(1, 2, 3)) * weight[rows]).mean()
        assert float(losses[run]) == pytest.approx(float(expected), rel=1e-6)


def test_a_batch_has_the_latents_of_its_photos_and_mirrored_ones_where_that_was_drawn(
    base: Base, dataset: Dataset
) -> None:
    cache = LatentCache(base)
    plain, flipping = feed(base, dataset).batch([3, 0], 0, 0), feed(base, dataset, flip=True)
    for row, index in enumerate((3, 0)):
        mean, std = cache.latents(dataset.photos[index], (32, 32))
        assert torch.equal(plain.mean[row], mean)
        assert torch.equal(plain.std[row], std)
    sides = [cache.latents(dataset.photos[3], (32, 32), flip=flip)[0] for flip in (False, True)]
    drawn = [flipping.batch([3], 0, number).mean[0] for number in range(20)]
    shown = [[torch.equal(mean, side) for side in sides] for mean in drawn]
    assert all(sum(which) == 1 for which in shown)
    assert all(any(which) for which in zip(*shown, strict=True))


def test_prompts_that_stay_are_encoded_once_and_others_with_each_batch(base: Base, dataset: Dataset) -> None:
    encoded = 0

    def count(*_: object) -> None:
        nonlocal encoded
        encoded += 1

    hook = base.text_encoders[0].register_forward_pre_hook(count)
    try:
        for settings, each in (
            ({"caption_dropout": 0.3}, 0),
            ({"shuffle_caption": True}, 1),
            ({"train_text_encoder": True}, 0),
        ):
            some = feed(base, dataset, **settings)
            encoded = 0
            batches = [some.batch([0, 1], 0, number) for number in range(3)]
            assert encoded == 3 * each
            kept = "prompt_embeds" in batches[0].conditioning
            assert kept is not settings.get("train_text_encoder", False)
            for batch in batches if kept else []:
                expected = base.family.encode_prompts(base, batch.captions)["prompt_embeds"]
                torch.testing.assert_close(batch.conditioning["prompt_embeds"], expected, atol=1e-5, rtol=1e-4)
                assert not batch.conditioning["prompt_embeds"].requires_grad
    finally:
        hook.remove()


def test_sizes_and_crops_of_each_photo_go_with_it(tiny_sdxl: Path, tmp_path: Path) -> None:
    """SDXL's (height, width), (top, left), (height, width), as diffusers' training script orders them."""
    folder = tmp_path / "1_sks toy"
    folder.mkdir()
    for name, size in (("a", (64, 64)), ("b", (96, 64)), ("c", (64, 80))):
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)
    some = feed(load_base(tiny_sdxl), scan_dataset(tmp_path))
    found = some.batch([2, 0, 1], 0, 0).conditioning["time_ids"].tolist()
    # sd-scripts' get_crop_ltrb: what the photo, made to fit 32×32 whole, leaves free at the top and at the left
    assert found == [[80, 64, 0, 3, 32, 32], [64, 64, 0, 0, 32, 32], [64, 96, 5, 0, 32, 32]]

"""The cache: by content, shared, and never wrong."""

import threading

import pytest
import torch

from trainer.base_model.load import load_base
from trainer.data.cache import LatentCache, fingerprint
from trainer.data.dataset import load_pixels, scan_dataset


def test_latents_are_the_posteriors_mean_and_spread(tiny_sd15, tiny_photos, tmp_path) -> None:
    base = load_base(tiny_sd15)
    photo = scan_dataset(tiny_photos).photos[0]
    mean, std = LatentCache(base, tmp_path).latents(photo, (64, 32))
    assert mean.shape == std.shape == (4, 8, 16)
    pixels = torch.from_numpy(load_pixels(photo, (64, 32))).permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = base.vae.encode(pixels).latent_dist
    torch.testing.assert_close(mean, posterior.mean[0].detach() * 0.18215)
    torch.testing.assert_close(std, posterior.std[0].detach() * 0.18215)


def test_the_second_process_reads_what_the_first_wrote(tiny_sd15, tiny_photos, tmp_path) -> None:
    photo = scan_dataset(tiny_photos).photos[0]
    first = LatentCache(load_base(tiny_sd15), tmp_path)
    expected = first.latents(photo, (64, 64)), first.prompts(["a toy"])
    base = load_base(tiny_sd15)
    second = LatentCache(base, tmp_path)
    second._vae_digest, second._text_digest = fingerprint(base.vae), first._text_digest
    base.vae = base.text_encoders = None  # nothing left to compute with
    torch.testing.assert_close(second.latents(photo, (64, 64)), expected[0], rtol=0, atol=0)
    torch.testing.assert_close(second.prompts(["a toy"]), expected[1], rtol=0, atol=0)


def test_another_vae_size_or_flip_is_another_entry(tiny_sd15, tiny_sd15_v, tiny_photos, tmp_path) -> None:
    photo = scan_dataset(tiny_photos).photos[0]
    base = load_base(tiny_sd15)
    cache = LatentCache(base, tmp_path)
    plain = cache.latents(photo, (64, 64))[0]
    flipped = cache.latents(photo, (64, 64), flip=True)[0]
    assert (plain - flipped).abs().max() > 1e-3
    assert cache.latents(photo, (32, 32))[0].shape == (4, 8, 8)
    with torch.no_grad():
        base.vae.encoder.conv_in.weight.mul_(1.1)
    changed = LatentCache(base, tmp_path).latents(photo, (64, 64))[0]
    assert (plain - changed).abs().max() > 1e-3


def test_prompts_are_encoded_as_the_family_does(tiny_sdxl) -> None:
    base = load_base(tiny_sdxl)
    prompts = ["a photo of sks toy", "snow", "a photo of sks toy"]
    cached = LatentCache(base).prompts(prompts)
    with torch.no_grad():
        expected = base.family.encode_prompts(base, prompts)
    for name, value in expected.items():
        torch.testing.assert_close(cached[name], value, rtol=1e-4, atol=1e-5)


def test_clip_skip_is_part_of_the_key(tiny_sd15, tmp_path) -> None:
    cache = LatentCache(load_base(tiny_sd15), tmp_path)
    assert (cache.prompts(["a"])["prompt_embeds"] - cache.prompts(["a"], 2)["prompt_embeds"]).abs().max() > 1e-3


def test_a_damaged_file_is_computed_again(tiny_sd15, tiny_photos, tmp_path) -> None:
    photo = scan_dataset(tiny_photos).photos[0]
    base = load_base(tiny_sd15)
    expected = LatentCache(base, tmp_path).latents(photo, (64, 64))
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:50], whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:], b""):
        file.write_bytes(damaged)
        torch.testing.assert_close(LatentCache(base, tmp_path).latents(photo, (64, 64)), expected, rtol=0, atol=0)
        assert file.read_bytes() == whole


def test_many_writers_leave_only_whole_files(tiny_sd15, tiny_photos, tmp_path) -> None:
    base, photos = load_base(tiny_sd15), scan_dataset(tiny_photos).photos[:3]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for photo in photos:
                LatentCache(base, tmp_path).latents(photo, (64, 64))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_prompts_that_are_known_are_not_encoded_again_and_new_ones_are(tiny_sd15, tmp_path) -> None:
    base = load_base(tiny_sd15)
    encoded: list[int] = []
    base.text_encoders[0].register_forward_pre_hook(lambda *_: encoded.append(1))
    cache = LatentCache(base, tmp_path)
    cache.prompts(["a toy", "a toy", "snow"])
    assert len(encoded) == 2
    cache.prompts(["snow", "a toy"])
    assert len(encoded) == 2
    found = cache.prompts(["a toy", "red", "snow"])["prompt_embeds"]
    assert len(encoded) == 3
    other = LatentCache(base, tmp_path).prompts(["snow", "red", "green", "a toy"])["prompt_embeds"]
    assert len(encoded) == 4
    torch.testing.assert_close(found, other[[3, 1, 0]], rtol=0, atol=0)
    assert not found.requires_grad


def test_latents_that_are_known_are_not_encoded_again(tiny_sd15, tiny_photos) -> None:
    base, photo = load_base(tiny_sd15), scan_dataset(tiny_photos).photos[0]
    encoded: list[int] = []
    base.vae.encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    cache = LatentCache(base)
    first = cache.latents(photo, (32, 32))
    assert cache.latents(photo, (32, 32))[0] is first[0]
    assert len(encoded) == 1
    mirrored = cache.latents(photo, (32, 32), flip=True)
    pixels = torch.from_numpy(load_pixels(photo, (32, 32))[:, ::-1].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    torch.testing.assert_close(mirrored[0], base.vae.encode(pixels).latent_dist.mean[0].detach() * 0.18215)


def test_another_weight_text_encoder_or_precision_is_another_fingerprint(tiny_sd15) -> None:
    base = load_base(tiny_sd15)
    before = fingerprint(base.vae)
    assert fingerprint(base.vae) == before
    with torch.no_grad():
        base.vae.decoder.conv_out.bias[0] += 1e-3
    changed = fingerprint(base.vae)
    base.vae.register_to_config(scaling_factor=0.5)
    assert len({before, changed, fingerprint(base.vae), fingerprint(base.vae.double())}) == 4


def test_where_a_folder_is_deleted_or_full_of_others_files_nothing_is_lost(tiny_sd15, tmp_path, monkeypatch) -> None:
    from trainer.data import cache

    base = load_base(tiny_sd15)

    def fails(error: OSError):
        def write(*_: object, **__: object) -> None:
            raise error

        return write

    LatentCache(base, tmp_path).prompts(["there"])
    for error in (FileNotFoundError(), FileExistsError()):
        monkeypatch.setattr(cache, "write_whole", fails(error))
        assert LatentCache(base, tmp_path).prompts(["a"])["prompt_embeds"].shape[0] == 1
    monkeypatch.setattr(cache, "write_whole", fails(PermissionError("no")))
    with pytest.raises(PermissionError):
        LatentCache(base, tmp_path).prompts(["a"])
    monkeypatch.setattr(LatentCache, "_read", lambda *_: None)
    assert LatentCache(base, tmp_path).prompts(["there"])["prompt_embeds"].shape[0] == 1, "another process has it now"

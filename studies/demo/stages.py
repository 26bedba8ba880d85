"""The stages of the build: VAE, latents, base (UNet with text encoder), CLIP, judges."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from studies.demo import judges as judging
from studies.demo import models
from studies.demo.boxes import Box, finished, train
from studies.demo.pool import CAPTIONS, Pool, chunks, concept_pool, join, make_pool
from studies.demo.scenes import vocabulary
from studies.demo.tokenizer import END, LENGTH, START, byte_pairs

OBJECT_WEIGHT = 5.0  # of the object's region in the UNet's loss, above the 1 that all pixels have


def train_vae(work: Path, box: Box, *, count: int, batch: int, device: torch.device, seed: int = 0) -> AutoencoderKL:
    """First mostly on crops around objects, which keep their colours, then on whole pictures."""
    pool = None if finished("vae", work, box) else make_pool(count, 1, device)
    offset = torch.arange(32, device=device)

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert pool is not None
        draw = {"device": device, "generator": generator}
        index = torch.randint(len(pool), (batch,), **draw)
        images = pool.images[index]
        if torch.rand((), generator=generator, device=device) < 0.5:
            where = pool.masks[index].flatten(1).float() + 1e-6
            centre = torch.multinomial(where, 1, generator=generator)[:, 0]
            top, left = ((centre // 64 - 16).clamp(0, 32), (centre % 64 - 16).clamp(0, 32))
            rows, columns = top[:, None] + offset, left[:, None] + offset
            images = images[torch.arange(batch, device=device)[:, None, None, None],
                            torch.arange(3, device=device)[None, :, None, None],
                            rows[:, None, :, None], columns[:, None, None, :]]  # fmt: skip
        pixels = images.float() / 127.5 - 1
        third = batch // 3
        pixels[:third] = pixels[:third][:, torch.randperm(3, **draw)]
        with _autocast(device):
            moments = module.quant_conv(module.encoder(_last(pixels)))
            mean, logvar = moments.float().chunk(2, 1)
            logvar = logvar.clamp(-20, 10)
            noise = torch.randn(mean.shape, **draw)
            decoded = module.decoder(module.post_quant_conv(mean + noise * (0.5 * logvar).exp())).float()
        off = decoded - pixels
        across, down = off[..., 1:] - off[..., :-1], off[..., 1:, :] - off[..., :-1, :]
        spread = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return off.abs().mean() + off.square().mean() + 0.5 * (across.abs().mean() + down.abs().mean()) + 1e-3 * spread

    vae = train("vae", work, box, models.make_vae(), loss, learning_rate=1.5e-3, seed=seed, device=device)
    assert isinstance(vae, AutoencoderKL)
    means = encode_images(vae, make_pool(128, 2, device).images)  # the same ones when it goes on
    models.whiten(vae, means.mean((0, 2, 3)), means.std((0, 2, 3)))
    return vae


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Posterior means [N, 4, 16, 16] of uint8 images [N, 3, 64, 64]; float32, not scaled."""
    device = vae.device
    parts = [vae.encode(part.to(device).float() / 127.5 - 1).latent_dist.mean for part in images.split(512)]
    return torch.cat(parts)


def make_latents(work: Path, vae: AutoencoderKL, *, count: int, device: torch.device) -> dict[str, Tensor]:
    """latents float16 [N, 4, 16, 16], scaled; masks uint8 [N, 16, 16], 0…255; tokens int16 [N, 3, 32]. Kept."""
    from safetensors.torch import load_file, save_file

    file = work / "latents.safetensors"
    if file.exists():
        return load_file(file, device=str(device))
    parts: dict[str, list[Tensor]] = {"latents": [], "masks": [], "tokens": []}
    for index, pool in enumerate(chunks(count, 3, device)):
        parts["latents"].append((encode_images(vae, pool.images) * models.SCALING_FACTOR).half())
        parts["masks"].append((functional.avg_pool2d(pool.masks[:, None].float(), 4)[:, 0] * 255).to(torch.uint8))
        parts["tokens"].append(pool.tokens)
        if index % 10 == 9:
            print(f"latents: {(index + 1) * 4096} of {count}", flush=True)
    data = {name: torch.cat(values) for name, values in parts.items()}
    save_file(data, file.with_suffix(".part"))
    os.replace(file.with_suffix(".part"), file)
    return data


class Painter(nn.Module):
    """UNet and text encoder, trained together."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.unet = models.make_unet(attention)
        self.text = models.make_text_encoder()


def train_painter(
    work: Path, box: Box, data: dict[str, Tensor], *, attention: str, batch: int, device: torch.device, seed: int = 0
) -> Painter:
    """v-prediction; one caption in ten is empty; the object's region weighs more (conditioning comes only with it)."""
    vocab, _ = byte_pairs(vocabulary())
    empty = torch.tensor([vocab[START]] + [vocab[END]] * (LENGTH - 1), device=device)
    alphas = models.make_noise_schedule().alphas_cumprod.to(device)
    latents, masks, tokens = data["latents"], data["masks"], data["tokens"]

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        draw = {"device": device, "generator": generator}
        index = torch.randint(len(latents), (batch,), **draw)
        clean = latents[index].float()
        words = tokens[index, torch.randint(CAPTIONS, (batch,), **draw)].long()
        dropped = torch.rand(batch, **draw) < 0.1
        words = torch.where(dropped[:, None], empty, words)
        # Stratified over the batch, which steadies the loss.
        level = (torch.arange(batch, device=device) + torch.rand(batch, **draw)) / batch
        timesteps = (level * len(alphas)).long().clamp(max=len(alphas) - 1)
        kept = alphas[timesteps][:, None, None, None]
        signal, noisy = kept.sqrt(), (1 - kept).sqrt()
        noise = torch.randn(clean.shape, **draw)
        with _autocast(device):
            context = module.text(words).last_hidden_state
            found = module.unet(_last(signal * clean + noisy * noise), timesteps, context).sample.float()
        weight = 1 + OBJECT_WEIGHT * masks[index].float()[:, None] / 255
        off = (found - (signal * noise - noisy * clean)).square()
        return (off * weight).mean() / weight.mean()

    torch.manual_seed(seed)
    painter = train(
        f"painter{attention}", work, box, Painter(attention), loss, learning_rate=1.3e-3, average=0.999, seed=seed,
        device=device,
    )  # fmt: skip
    assert isinstance(painter, Painter)
    return painter


def train_clip(work: Path, box: Box, *, count: int, batch: int, device: torch.device, seed: int = 0) -> nn.Module:
    """Contrastive, on pictures and any of their captions."""
    pool = None if finished("clip", work, box) else make_pool(count, 4, device)

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert pool is not None
        draw = {"device": device, "generator": generator}
        index = torch.randint(len(pool), (batch,), **draw)
        chosen = torch.randint(CAPTIONS + 1, (batch,), **draw) % CAPTIONS
        pixels = pool.images[index].float() / 127.5 - 1
        pixels = pixels + 0.05 * torch.randn(pixels.shape, **draw)
        with _autocast(device):
            seen = module.encode_image(pixels, normalize=True)
            read = module.encode_text(pool.tokens[index, chosen].long(), normalize=True)
        logits = module.logit_scale.clamp(max=4.6052).exp() * seen.float() @ read.float().T
        truth = torch.arange(batch, device=device)
        return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2

    torch.manual_seed(seed)
    return train(
        "clip", work, box, models.make_clip(), loss, learning_rate=1e-3, weight_decay=0.02, seed=seed, device=device
    )


def train_judges(work: Path, box: Box, *, count: int, batch: int, device: torch.device, seed: int = 0) -> nn.Module:
    pool: Pool | None = None
    if not finished("judges", work, box):
        pool = join([make_pool(count, 5, device), concept_pool(max(2, count // 30), 6, device)])

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert pool is not None
        index = torch.randint(len(pool), (batch,), device=device, generator=generator)
        with _autocast(device):
            return judging.loss(module, pool, index, generator)

    torch.manual_seed(seed)
    return train("judges", work, box, judging.Judges(), loss, learning_rate=2e-3, seed=seed, device=device)


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _last(pixels: Tensor) -> Tensor:
    return pixels.to(memory_format=torch.channels_last) if pixels.is_cuda else pixels

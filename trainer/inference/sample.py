"""Images from a base, with or without a LoRA: all of a probe in a few batches, the same bytes for the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError, Plain, mistake
from trainer.lora.merge import check_fits, merged

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from trainer.data.cache import LatentCache
    from trainer.families.family import Base, Conditioning
    from trainer.lora.lora import LoraWeights

_PIXELS_AT_ONCE = 2**22


def sample(
    base: Base,
    lora: LoraWeights | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    size: tuple[int, int],
    steps: int = 12,
    guidance: float = 6.0,
    scheduler: str = "dpmpp_2m",
    negative: str = "",
    strength: float = 1.0,
    batch_size: int = 32,
    precision: str | None = None,
    clip_skip: int | None = None,
    cache: LatentCache | None = None,
) -> np.ndarray:
    """Draw one image for each (prompt, seed).

    An image depends on its own prompt and seed only, up to rounding: not on the batch size nor on its neighbours.

    Args:
        lora: merged into fp32 weights for the time of the call; beside the base where that is bf16 or quantised.
        size: (width, height) in pixels; multiples of the latent grid.
        guidance: classifier-free guidance scale; 1 or less draws without the negative prompt.
        scheduler: "dpmpp_2m", "unipc", "ddim" or "euler_a".
        batch_size: images at once; halved as long as the device's memory does not do.
        strength: multiplies the LoRA.
        precision: "bf16" or "fp16" runs the denoiser and the decoder under autocast; None as the base is.
        clip_skip: as the run was trained.
        cache: where embeddings of the frozen text encoders are kept.

    Returns:
        uint8 [N,H,W,3].

    Raises:
        ModelError: a LoRA that does not fit, an unknown scheduler, a size off the grid.
    """
    import numpy as np
    import torch

    if len(prompts) != len(seeds):
        raise ModelError(f"one seed for each prompt is needed: {len(prompts)} prompts, {len(seeds)} seeds")
    width, height = size
    if not prompts:
        return np.zeros((0, height, width, 3), dtype=np.uint8)
    latents = initial_noise(base, seeds, size)
    with torch.no_grad(), with_lora(base, lora, strength):
        conditioning = _encode(base, lora, [negative, *prompts], clip_skip, cache)

        def draw(rows: range) -> Tensor:
            return draw_latents(
                base,
                latents[rows.start : rows.stop].to(base.device),
                {name: value[1 + rows.start : 1 + rows.stop] for name, value in conditioning.items()},
                {name: value[:1].expand(len(rows), *value.shape[1:]) for name, value in conditioning.items()},
                [seeds[row] for row in rows],
                sampler=base.family.sampler(base, scheduler),
                steps=steps,
                guidance=guidance,
                size=size,
                precision=precision,
            )

        drawn = torch.cat(in_batches(len(prompts), batch_size, draw))
    return to_uint8(base, drawn, precision)


def in_batches(count: int, batch_size: int, work: Callable[[range], Tensor]) -> list[Tensor]:
    """`work` over 0…count in batches; a batch that does not fit the memory is tried again at half the size.

    Raises:
        torch.OutOfMemoryError: not even one row fits.
    """
    import torch

    done, found = 0, []
    while done < count:
        rows = range(done, min(done + batch_size, count))
        try:
            found.append(work(rows))
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size = max(1, len(rows) // 2)
            torch.cuda.empty_cache()
            continue
        done = rows.stop
    return found


def initial_noise(base: Base, seeds: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Standard normal latents [N,C,h,w] float32 on the CPU, each row from its own seed."""
    import torch

    factor = base.latent_factor
    if size[0] % factor or size[1] % factor:
        raise ModelError(mistake(None, "size", Plain(f"{size[0]}×{size[1]}"), f"two multiples of {factor}"))
    shape = (base.vae.config.latent_channels, size[1] // factor, size[0] // factor)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@contextmanager
def with_lora(base: Base, lora: LoraWeights | None, strength: float = 1.0) -> Iterator[None]:
    """Within the block the base answers with the LoRA: merged where the weights are fp32, beside them elsewhere."""
    if lora is None or strength == 0:
        yield
        return
    import torch

    if base.quantized is None and base.dtype in (torch.float32, torch.float64):
        with merged(base, lora, strength):
            yield
        return
    from trainer.packing.packed_layers import applied

    check_fits(base, lora)
    with applied(base, [lora], strength=strength):
        yield


def autocast(base: Base, precision: str | None) -> Any:
    """Autocast to "bf16" or "fp16" on the base's device; nothing for None, "fp32" or what the base already is."""
    import torch

    dtypes = {None: base.dtype, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise ModelError(mistake(None, "precision", precision, "fp32, bf16 or fp16"))
    dtype = dtypes[precision]
    if dtype in (base.dtype, torch.float32):
        return nullcontext()
    return torch.autocast(base.device.type, dtype=dtype)


def to_uint8(base: Base, latents: Tensor, precision: str | None = None) -> np.ndarray:
    """Decode latents [B,C,h,w] → uint8 [B,H,W,3]; about four megapixels at a time.

    The VAE works in fp32, or in bf16 under `precision="bf16"` or on a bf16 base: never in fp16, which SDXL's overflows.
    """
    import torch

    side = base.latent_factor
    batch_size = max(1, _PIXELS_AT_ONCE // (latents.shape[-1] * latents.shape[-2] * side**2))
    half = precision == "bf16" or (precision is None and base.dtype == torch.bfloat16)

    def decode(rows: range) -> Tensor:
        pixels = base.family.decode_latents(base, latents[rows.start : rows.stop])
        return ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()

    with torch.no_grad(), base.at_hand(vae=True), torch.autocast(base.device.type, torch.bfloat16, enabled=half):
        images = torch.cat(in_batches(len(latents), batch_size, decode))
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _encode(
    base: Base, lora: LoraWeights | None, prompts: list[str], clip_skip: int | None, cache: LatentCache | None
) -> Conditioning:
    """Embeddings of each prompt, equal ones encoded once; not from the cache when the LoRA changes the encoders."""
    import torch

    trained = lora is not None and any(component != "denoiser" for component, _ in lora.modules)
    if cache is not None and not trained:
        return cache.prompts(prompts, clip_skip)
    unique = list(dict.fromkeys(prompts))
    with base.at_hand(text_encoders=True):
        encoded = base.family.encode_prompts(base, unique, clip_skip)
    rows = torch.tensor([unique.index(prompt) for prompt in prompts], device=base.device)
    return {name: value[rows] for name, value in encoded.items()}


def draw_latents(
    base: Base,
    noise: Tensor,
    wanted: Conditioning,
    unwanted: Conditioning,
    seeds: Sequence[int],
    *,
    sampler: Any,
    steps: int,
    guidance: float,
    size: tuple[int, int],
    precision: str | None,
) -> Tensor:
    """The sampling loop: from noise to latents, both [B,C,h,w] in float32.

    Args:
        wanted, unwanted: embeddings of the prompts and of the negative prompt, a row for each image.
        seeds: of the noise that samplers such as euler_a add on the way.
        guidance: classifier-free; up to 1 there is none, and `unwanted` is not looked at.
    """
    import inspect

    import torch

    sampler.set_timesteps(steps, device=base.device)
    guided = guidance > 1
    conditioning = {name: torch.cat([unwanted[name], wanted[name]]) if guided else wanted[name] for name in wanted}
    rows = len(noise) * (2 if guided else 1)
    conditioning |= base.family.size_conditioning(base, size, (0, 0), size, rows)
    extra: dict[str, Any] = {}
    if "generator" in inspect.signature(sampler.step).parameters:  # noise on the way, each image from its own seed
        extra["generator"] = [torch.Generator().manual_seed(seed ^ 0x5DEECE66D) for seed in seeds]
    latents = noise * getattr(sampler, "init_noise_sigma", 1.0)
    for timestep in sampler.timesteps:
        scaled = sampler.scale_model_input(latents, timestep) if hasattr(sampler, "scale_model_input") else latents
        scaled = torch.cat([scaled, scaled]) if guided else scaled
        with autocast(base, precision):
            output = base.family.predict(base, scaled, timestep.expand(rows), conditioning)
        if guided:
            without, with_prompt = output.chunk(2)
            output = without + guidance * (with_prompt - without)
        latents = sampler.step(output, timestep, latents, return_dict=False, **extra)[0]
    return latents

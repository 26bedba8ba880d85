"""SD1.5 at 512² and SDXL at 1024² with random weights on CUDA: samples per second, share of the peak, memory, by K."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.data.dataset import Dataset, Photo
from trainer.devices import repeat_exactly
from trainer.families import FAMILIES
from trainer.families.ddpm import training_scheduler
from trainer.families.family import Base
from trainer.families.layout import CONFIGS
from trainer.lora.lora import AdapterSettings
from trainer.optimization.schedules import ScheduleSettings
from trainer.packing.pack import Pack
from trainer.packing.settings import FeedSettings, PackSettings, RunSettings

SIDES = {"sd15": 512, "sdxl": 1024}
RANK, PHOTOS = 16, 4
WARM_UP_STEPS, SECONDS = 3, 6.0
# dense bf16, TFLOP/s, as their makers state it
PEAKS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "RTX 4090": 165.0, "L40S": 362.0, "L4": 121.0}


def measure_full(
    family: str, widths: list[int], *, device: str = "cuda", seconds: float = SECONDS, exactly: bool = False
) -> dict[str, Any]:
    """Figures for each width until the memory is full; widths that did not fit once more with gradient checkpointing.

    Args:
        device: "cuda"; "cpu" is for trying the benchmark itself.
        seconds: how long each width is measured.
        exactly: with deterministic algorithms, as a study's workers train.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks.train --full needs a CUDA device")
    if exactly:
        repeat_exactly(torch.device(device))
    base = random_base(family, torch.device(device))
    name = torch.cuda.get_device_name(0) if device == "cuda" else "the CPU"
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    figures: dict[str, Any] = {
        "what": f"{family} at {SIDES[family]}², batch 1 for each run, rank {RANK}, bf16, AdamW, random weights",
        "deterministic": exactly,
        "peak TFLOP/s": peak,
        "measured matmul TFLOP/s": measured_peak(base.device),
        "TFLOP per sample": flops_per_sample(base) / 1e12,
        "packs": [],
        "peft alone": peft_alone(base, seconds),
    }
    print(figures["what"], "on", name)
    print(f"{'K':>3} {'checkpointing':>14} {'samples/s':>10} {'ms/step':>8} {'of peak':>8} {'of matmul':>9} {'GiB':>6}")
    alone = figures["peft alone"]
    print(f"{'peft':>18} {alone['samples per second']:>10.2f} {alone['ms per step']:>8.1f} {alone['GiB']:>25.1f}")
    for checkpointing in (False, True):
        for width in widths:
            if (
                checkpointing
                and width < widths[-1]
                and any(row["K"] == width and "samples per second" in row for row in figures["packs"])
            ):
                continue
            row = measure_pack(base, width, checkpointing, seconds)
            tflops = row.get("samples per second", 0.0) * figures["TFLOP per sample"]
            row["share of peak"] = tflops / peak if peak else None
            row["share of matmul"] = tflops / figures["measured matmul TFLOP/s"]
            figures["packs"].append(row)
            if "out of memory" in row:
                print(f"{width:>3} {checkpointing!s:>14} out of memory", flush=True)
                break
            print(
                f"{width:>3} {checkpointing!s:>14} {row['samples per second']:>10.2f} {row['ms per step']:>8.1f} "
                f"{row['share of peak'] or float('nan'):>8.1%} {row['share of matmul']:>9.1%} {row['GiB']:>6.1f}",
                flush=True,
            )
    plain = [row for row in figures["packs"] if not row["checkpointing"] and "samples per second" in row]
    figures["K=8 over K=1"] = _over(plain, 8)
    figures["K=16 over K=1"] = _over(plain, 16)
    print("K=8 over K=1:", figures["K=8 over K=1"])
    return figures


def random_base(family: str, device: torch.device) -> Base:
    """The real denoiser with random weights in bf16, without VAE and text encoders: see `RandomCache`."""
    from diffusers import UNet2DConditionModel

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            denoiser = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / family / "unet"))
    finally:
        torch.set_default_dtype(before)
    return Base(
        family=FAMILIES[family],
        denoiser=denoiser.eval().requires_grad_(False),
        vae=nn.Identity(),
        text_encoders=[],
        tokenizers=[],
        noise_scheduler=training_scheduler(
            {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
        ),
        device=device,
        dtype=torch.bfloat16,
        source=family,
    )


class RandomCache:
    """Latents and embeddings of the right shapes where a `LatentCache` would have real ones."""

    def __init__(self, base: Base) -> None:
        self._side, self._family, self._device = SIDES[base.source] // 8, base.source, base.device

    def latents(self, photo: Photo, size: tuple[int, int], *, flip: bool = False) -> tuple[Tensor, Tensor]:
        shape = (4, self._side, self._side)
        return torch.randn(shape, device=self._device), torch.full(shape, 0.1, device=self._device)

    def prompts(self, prompts: list[str], clip_skip: int | None = None) -> dict[str, Tensor]:
        width = 768 if self._family == "sd15" else 2048
        rows = {"prompt_embeds": torch.randn(len(prompts), 77, width, device=self._device, dtype=torch.bfloat16)}
        if self._family == "sdxl":
            rows["pooled_prompt_embeds"] = torch.randn(len(prompts), 1280, device=self._device, dtype=torch.bfloat16)
        return rows


def new_pack(base: Base, width: int, checkpointing: bool) -> Pack:
    side = SIDES[base.source]
    photos = tuple(Photo(Path(f"{i}.png"), f"{i}", 25, "sks", "toy", False, str(i), side, side) for i in range(PHOTOS))
    pack = Pack(
        base,
        Dataset(Path("."), photos),
        PackSettings(FeedSettings(resolution=(side, side)), gradient_checkpointing=checkpointing),
        cache=RandomCache(base),  # type: ignore[arg-type]  # what a pack asks of a cache
    )
    settings = RunSettings(AdapterSettings(RANK, RANK), schedule=ScheduleSettings(epochs=10**6))
    folder = Path(tempfile.mkdtemp(prefix="onset-benchmark-"))
    for number in range(width):
        pack.join(settings, run_dir=folder / str(number))
    return pack


class _Enough(Exception):
    """Leaves an epoch when the time is up."""


def measure_pack(base: Base, width: int, checkpointing: bool, seconds: float) -> dict[str, Any]:
    """Samples per second, milliseconds per step and peak memory of a pack; or that it does not fit."""
    row: dict[str, Any] = {"K": width, "checkpointing": checkpointing}
    steps, begun = 0, time.perf_counter()

    def count(pack: Pack) -> None:
        nonlocal steps, begun
        steps += 1
        if steps == WARM_UP_STEPS:
            _wait()
            row["s of the first steps"] = time.perf_counter() - begun
            begun = time.perf_counter()
        # a step that is far from finished on the device must not be counted: wait every few
        if steps > WARM_UP_STEPS and (steps - WARM_UP_STEPS) % 4 == 0:
            _wait()
            if time.perf_counter() - begun > seconds:
                raise _Enough

    _clean()
    try:
        pack = new_pack(base, width, checkpointing)
        while True:
            pack.train_epoch(count)
            for run in pack.runs:
                if run.failed is not None:  # then no step would follow
                    raise SystemExit(f"a run failed: {run.failed}")
    except _Enough:
        taken = time.perf_counter() - begun
        row["samples per second"] = (steps - WARM_UP_STEPS) * width / taken
        row["ms per step"] = 1000 * taken / (steps - WARM_UP_STEPS)
        row["GiB"] = _peak_gib()
    except torch.OutOfMemoryError:
        row["out of memory"] = True
    finally:
        pack = None  # type: ignore[assignment]  # its memory goes before the next one
        _clean()
    return row


def peft_alone(base: Base, seconds: float) -> dict[str, Any]:
    """One run as peft trains it, latents and embeddings at hand: what a pack of one is to be compared with."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig
    from torch.nn import functional as F

    _clean()
    unet: Any = base.denoiser
    assert isinstance(unet, UNet2DConditionModel)
    targets = base.family.lora_targets(base, "denoiser", "kohya", False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    cache = RandomCache(base)
    mean, _ = cache.latents(None, (0, 0))  # type: ignore[arg-type]  # random for any photo
    conditioning = cache.prompts(["a"])
    side = SIDES[base.source]
    conditioning |= base.family.size_conditioning(base, (side, side), (0, 0), (side, side), 1)
    steps, begun = 0, 0.0
    while True:
        noise = torch.randn_like(mean[None])
        timesteps = torch.randint(0, 1000, (1,), device=base.device)
        noisy = base.family.add_noise(base, mean[None], noise, timesteps)
        with torch.autocast(base.device.type, torch.bfloat16):
            prediction = base.family.predict(base, noisy, timesteps, conditioning)
        loss = F.mse_loss(prediction.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.detach().item()
        steps += 1
        if steps == WARM_UP_STEPS:
            _wait()
            begun = time.perf_counter()
        if steps > WARM_UP_STEPS and time.perf_counter() - begun > seconds:
            break
    taken = time.perf_counter() - begun
    row = {
        "samples per second": (steps - WARM_UP_STEPS) / taken,
        "ms per step": 1000 * taken / (steps - WARM_UP_STEPS),
        "GiB": _peak_gib(),
    }
    unet.delete_adapters("default")
    unet.unload_lora()
    del optimizer, parameters
    _clean()
    return row


def flops_per_sample(base: Base) -> float:
    """FLOP of one training step of one run, forward and backward, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    pack = new_pack(base, 1, False)

    def stop(pack: Pack) -> None:
        raise _Enough

    counter = FlopCounterMode(display=False)
    try:
        with counter:
            pack.train_epoch(stop)
    except _Enough:
        pass
    return float(counter.get_total_flops())


def measured_peak(device: torch.device) -> float:
    """TFLOP/s of a large bf16 product here: what can be had."""
    side, times = (8192, 30) if device.type == "cuda" else (512, 3)
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(5):
        a @ a
    _wait()
    begun = time.perf_counter()
    for _ in range(times):
        a @ a
    _wait()
    return times * 2 * side**3 / (time.perf_counter() - begun) / 1e12


def _over(rows: list[dict[str, Any]], width: int) -> float | None:
    rates = {row["K"]: row["samples per second"] for row in rows}
    return rates[width] / rates[1] if width in rates and 1 in rates else None


def _clean() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0

"""Layouts of training on a CPU, each in processes of its own that wait until it is their turn."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

BASE = Path(__file__).parent.parent / "studies" / "demo" / "base"
PHOTOS = Path(__file__).parent.parent / "studies" / "demo" / "photos"
SIDE, RANK, RATE = 64, 16, 1e-3


@dataclass(frozen=True)
class Layout:
    """width: runs in each worker's pack. threads: of each worker. loop: the pack's, the plain one, the base alone."""

    width: int
    threads: int
    batch_size: int
    workers: int = 1
    loop: Literal["pack", "plain", "base"] = "pack"


class Crew:
    """The processes of a layout: started once, measured in turn, stopped at the end."""

    def __init__(self, layout: Layout) -> None:
        begun = time.perf_counter()
        # forked from a server that has imported everything and computed nothing: libraries load once for all layouts
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.train_imports"])
        self._members: list[tuple[Any, Connection]] = []
        for _ in range(layout.workers):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, layout), daemon=True)
            process.start()
            self._members.append((process, here))
        for _, connection in self._members:
            connection.recv()
        self.seconds_to_start = time.perf_counter() - begun

    def measure(self, seconds: float) -> float:
        """Samples per second of all members together, training at the same time."""
        for _, connection in self._members:
            connection.send(seconds)
        return sum(connection.recv() for _, connection in self._members)

    def stop(self) -> None:
        for process, connection in self._members:
            connection.close()
            process.terminate()
            process.join()


def settings() -> dict[str, Any]:
    return {"base": BASE.name, "resolution": SIDE, "rank": RANK, "optimizer": "AdamW"}


def _work(connection: Connection, layout: Layout) -> None:
    import torch

    torch.set_num_threads(layout.threads)
    batch_size = layout.batch_size
    if layout.loop == "pack":
        step = packed_steps(layout.width, batch_size)
    else:
        step = plain_steps(batch_size) if layout.loop == "plain" else base_steps(batch_size)
    for _ in range(3):
        step()
    connection.send("ready")
    while True:
        try:
            seconds = connection.recv()
        except EOFError:
            return
        samples, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            samples += step()
        connection.send(samples / (time.perf_counter() - begun))


def packed_steps(width: int, batch_size: int) -> Callable[[], int]:
    """A function that trains one epoch of `width` runs and returns how many samples that were."""
    from trainer.base_model.load import load_base
    from trainer.data.dataset import scan_dataset
    from trainer.lora.lora import AdapterSettings
    from trainer.optimization.optimizers import OptimizerSettings
    from trainer.optimization.schedules import ScheduleSettings
    from trainer.packing.pack import Pack
    from trainer.packing.settings import FeedSettings, PackSettings, RunSettings

    dataset = scan_dataset(PHOTOS)
    feed = FeedSettings(batch_size=batch_size, resolution=(SIDE, SIDE))
    pack = Pack(load_base(BASE), dataset, PackSettings(feed))
    settings = RunSettings(
        AdapterSettings(RANK, RANK), OptimizerSettings(learning_rate=RATE), ScheduleSettings(epochs=10**6)
    )
    folder = Path(tempfile.mkdtemp(prefix="onset-benchmark-"))
    for number in range(width):
        pack.join(settings, run_dir=folder / str(number))
    samples = sum(len(batch) for batch in pack.feed.photo_pass(0)) * width

    def step() -> int:
        pack.train_epoch()
        return samples

    return step


def base_steps(batch_size: int) -> Callable[[], int]:
    """The frozen base alone: forward, and backward as far as the first module that a LoRA would adapt. No data, no
    LoRA, no optimizer: what no training through these operations can be faster than."""
    import torch
    from torch.nn import functional as F

    from trainer.base_model.load import load_base
    from trainer.families.unet import lora_targets
    from trainer.packing.cpu_tuning import prepack_convolutions

    base = load_base(BASE)
    prepack_convolutions(base.denoiser)
    first = base.denoiser.get_submodule(lora_targets(base.denoiser, "kohya", False)[0])
    first.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    side = SIDE // base.latent_factor
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(batch_size, base.denoiser.config.in_channels, side, side, generator=generator)
    timesteps = base.family.sample_timesteps(base, batch_size, generator)
    with torch.no_grad():
        conditioning = base.family.encode_prompts(base, ["a toy"] * batch_size)

    def step() -> int:
        prediction = base.family.predict(base, noisy, timesteps, conditioning)
        F.mse_loss(prediction, noisy).backward()
        return batch_size

    return step


def plain_steps(batch_size: int) -> Callable[[], int]:
    """One epoch as diffusers' text-to-image LoRA example trains: a DataLoader over image files, VAE and text encoder in
    the loop, peft's adapters in the UNet, the loss read at every step. The same modules, rank, batch and optimizer."""
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.optimization import get_scheduler
    from peft import LoraConfig
    from PIL import Image
    from torch.nn import functional as F
    from torchvision import transforms
    from transformers import CLIPTextModel, CLIPTokenizer

    from trainer.data.dataset import scan_dataset
    from trainer.families.unet import lora_targets

    tokenizer = CLIPTokenizer.from_pretrained(BASE / "tokenizer")
    scheduler = DDPMScheduler.from_pretrained(BASE / "scheduler")
    text_encoder = CLIPTextModel.from_pretrained(BASE / "text_encoder", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(BASE / "vae", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(BASE / "unet", torch_dtype=torch.float32)
    for module in (text_encoder, vae, unet):
        module.requires_grad_(False)
    targets = lora_targets(unet, "kohya", False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    schedule = get_scheduler("constant", optimizer=optimizer)
    transform = transforms.Compose(
        [
            transforms.Resize(SIDE),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    photos = [photo for photo in scan_dataset(PHOTOS).photos for _ in range(photo.repeats)]

    class Photos(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return len(photos)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            photo = photos[index]
            pixels = transform(Image.fromarray(np.asarray(Image.open(photo.path).convert("RGB"))))
            tokens = tokenizer(
                photo.caption,
                max_length=tokenizer.model_max_length,
                padding="max_length",
                truncation=True,
                return_tensors="pt",
            )
            return pixels, tokens.input_ids[0]

    def step() -> int:
        samples = 0
        for pixels, tokens in torch.utils.data.DataLoader(Photos(), shuffle=True, batch_size=batch_size):
            latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),)).long()
            noisy = scheduler.add_noise(latents, noise, timesteps)
            states = text_encoder(tokens, return_dict=False)[0]
            target = noise
            if scheduler.config.prediction_type == "v_prediction":
                target = scheduler.get_velocity(latents, noise, timesteps)
            prediction = unet(noisy, timesteps, states, return_dict=False)[0]
            loss = F.mse_loss(prediction.float(), target.float(), reduction="mean")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            loss.detach().item()
            samples += len(latents)
        return samples

    return step

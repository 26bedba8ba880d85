"""What we hand to the other tools: a made set of photos, exports of many runs, the modules of full-size LoRAs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.exports.sdscripts import SdScripts, to_sdscripts
from search.exports.ship_epoch import Ending
from search.exports.toml import toml
from trainer.config.config import TrainConfig, parse_train_config
from trainer.data.buckets import assign_buckets, batches_per_epoch
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.prediction import BaseTraits

if TYPE_CHECKING:
    from trainer.families.family import Base

OPTIMIZERS: tuple[dict[str, Any], ...] = (
    {"optimizer": "AdamW", "learning_rate_scale": 2.0, "optimizer_args": {"betas": [0.9, 0.99]}},
    {"optimizer": "AdamW8bit"},
    {"optimizer": "Adafactor", "learning_rate": 3e-4},
    {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"},
    {"optimizer": "DAdaptAdam", "d_coef": 0.5},
    {"optimizer": "Prodigy", "d_coef": 2.0},
    {"optimizer": "Lion", "weight_decay": 0.1},
    {"optimizer": "AdamWScheduleFree", "warmup_steps": 10},
)
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"lr_scheduler": "constant"},
    {"lr_scheduler": "constant_with_warmup", "warmup_steps": 7},
    {"lr_scheduler": "linear", "warmup_steps": 7},
    {"lr_scheduler": "cosine"},
    {"lr_scheduler": "cosine", "warmup_steps": 7},
    {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3, "warmup_steps": 7},
    {"lr_scheduler": "polynomial", "warmup_steps": 7},
)
EPOCHS, SHIPPED = 12, 5


@dataclass(frozen=True)
class Case:
    """One exported run: its name, our config, and the export, written into `folder`."""

    name: str
    config: TrainConfig
    there: SdScripts
    ending: Ending
    folder: Path
    traits: BaseTraits


def make_photos(root: Path) -> Path:
    """A set with three shapes of photos, `.caption` files on one shelf, missing captions, regularisation images."""
    from PIL import Image

    shapes = ((640, 640), (960, 640), (640, 960))
    for shelf, repeats_of, ending in (("4_sks toy", 7, ".txt"), ("1_sks toy", 3, ".caption"), ("reg/2_toy", 5, ".txt")):
        folder = root / shelf
        folder.mkdir(parents=True)
        for index in range(repeats_of):
            image = Image.linear_gradient("L").resize(shapes[index % 3]).convert("RGB")
            image.save(folder / f"{index:02d}.png")
            if index:
                (folder / f"{index:02d}{ending}").write_text(f"sks toy, number {index}, beach\nsecond line\n")
    return root


def cases(work: Path) -> Iterator[Case]:
    """Exports of every optimizer and schedule, to the horizon and to an epoch before it, and of every kind of base."""
    photos = make_photos(work / "photos")
    dataset = scan_dataset(photos)
    usual = {"enable_bucket": True, "batch_size": 2, "gradient_accumulation_steps": 2, "resolution": 512}
    for changes in OPTIMIZERS:
        yield _case(work / "optimizers", dataset, Ending(), {**usual, **changes})
    for changes in SCHEDULES:
        for epoch in (None, SHIPPED):
            yield _case(work / "schedules", dataset, Ending(epoch), {**usual, "optimizer": "AdamW", **changes})
    for family, velocity in (("sd15", True), ("sdxl", False), ("sdxl", True)):
        traits = BaseTraits(family, "v_prediction" if velocity else "epsilon", velocity, False, True)
        changes = {"min_snr_gamma": 5.0, "train_text_encoder": True, "seed": 0, "prior_loss_weight": 0.0, "rank": 8}
        yield _case(work / "bases", dataset, Ending(), {**usual, **changes}, traits)


def steps_per_epoch(config: TrainConfig, dataset: Dataset) -> int:
    """Optimizer steps, as we count them."""
    batches = batches_per_epoch(dataset.photos, sizes(config, dataset), config.batch_size)
    return ceil(batches / config.gradient_accumulation_steps)


def sizes(config: TrainConfig, dataset: Dataset) -> list[tuple[int, int]]:
    """The bucket of each photo."""
    return assign_buckets(
        dataset.photos,
        resolution=config.size,
        enable_bucket=config.enable_bucket,
        step=config.bucket_step,
        smallest=config.min_bucket_resolution,
        largest=config.max_bucket_resolution,
    )


def lora_modules(family: str) -> dict[str, tuple[int, ...]]:
    """kohya name → shape of the weight that it adapts, at full size, text encoders included."""
    base = full_size_base(family)
    found = {}
    for component in ("denoiser", *base.text_components):
        for path in base.family.lora_targets(base, component, "kohya", False):
            weight = base.component(component).get_submodule(path).weight
            found[base.family.kohya_name(component, path)] = tuple(weight.shape)
    return found


def full_size_base(family: str) -> "Base":
    """The real architecture of SD1.5 or SDXL without weights (meta device)."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from trainer.families import FAMILIES
    from trainer.families.family import Base
    from trainer.families.layout import CONFIGS

    folder = CONFIGS / family
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
        encoders: list[torch.nn.Module] = [CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))]
        if family == "sdxl":
            encoders.append(CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / "text_encoder_2")))
    return Base(
        family=FAMILIES[family], denoiser=unet, vae=vae, text_encoders=encoders, tokenizers=[],
        noise_scheduler=DDPMScheduler(), device=torch.device("meta"), dtype=torch.float32, source=family,
    )  # fmt: skip


def note(work: Path, content: dict[str, Any]) -> None:
    """Leaves `asked.json` for the other tool's process."""
    (work / "asked.json").write_text(json.dumps(content), encoding="utf-8")


def _case(
    work: Path, dataset: Dataset, ending: Ending, settings: dict[str, Any], traits: BaseTraits | None = None
) -> Case:
    base = dataset.root.parent / "base.safetensors"
    config = parse_train_config({"base": str(base), "data": str(dataset.root), "epochs": EPOCHS, **settings})
    traits = traits or BaseTraits("sd15", "epsilon", False, False, True)
    steps = steps_per_epoch(config, dataset)
    ending = Ending(ending.epoch, go_on=ending.go_on, steps_per_epoch=steps)
    words = [work.name, traits.family, traits.prediction_type, config.optimizer, config.lr_scheduler]
    words += ["relative"] * config.relative_step + [f"warm{config.warmup_steps}"] * bool(config.warmup_steps)
    words += ["ends early"] * (ending.epoch is not None)
    name = " ".join(words)
    folder = work / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    there = to_sdscripts(config, dataset, traits=traits, folder=folder, name="toy", ending=ending)
    (folder / "config.toml").write_text(toml(there.config, comment="one\ntwo"), encoding="utf-8")
    (folder / "dataset.toml").write_text(toml(there.dataset), encoding="utf-8")
    return Case(name, config, there, ending, folder, traits)

"""Exports for OneTrainer, ai-toolkit and SimpleTuner, for each to read with its own code, and what that comes to."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.parity import ours
from search.errors import SearchError
from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.onetrainer import for_onetrainer
from search.exports.photos import prepare
from search.exports.production_run import ForTrainer, ProductionRun
from search.exports.ship_epoch import Ending
from search.exports.simpletuner import for_simpletuner
from trainer.config.config import parse_train_config
from trainer.data.dataset import scan_dataset
from trainer.families.prediction import BaseTraits
from trainer.optimization.optimizers import build_optimizer
from trainer.optimization.schedules import learning_rates
from trainer.packing.builder import run_settings

TRANSLATE = {"onetrainer": for_onetrainer, "ai-toolkit": for_ai_toolkit, "simpletuner": for_simpletuner}
EPOCH_STEPS = 20
_MORE: tuple[dict[str, Any], ...] = (
    {"min_snr_gamma": 5.0, "noise_offset": 0.05, "seed": 3, "train_text_encoder": True, "text_encoder_lr": 2e-5},
    {"conv_rank": 4, "conv_alpha": 2.0, "rank": 16, "alpha": 4.0, "precision": "bf16", "dora": True},
    {"enable_bucket": True, "batch_size": 2, "gradient_accumulation_steps": 2, "flip": True, "shuffle_caption": True},
    {"quantize": "nf4", "precision": "bf16", "gradient_checkpointing": True, "targets": "attention", "rslora": True},
    {"quantize": "int8", "precision": "bf16", "caption_dropout": 0.1, "ip_noise_gamma": 0.1, "seed": 2**32 + 5},
    {"precision": "fp16", "max_grad_norm": 0.0, "optimizer": "Lion8bit", "resolution": [512, 768]},
)
_BASES = (
    BaseTraits("sd15", "epsilon", False, False, True),
    BaseTraits("sdxl", "epsilon", False, False, True),
    BaseTraits("sd3", "flow", False, False, True),
)
_MORE_BASES = (
    BaseTraits("sd15", "v_prediction", False, False, True),
    BaseTraits("sd15", "v_prediction", False, True, False),
    BaseTraits("sd15", "epsilon", False, True, False),
    BaseTraits("sdxl", "v_prediction", True, False, True),
)


def write_exports(tool: str, work: Path) -> int:
    """Writes exports of every optimizer, schedule and kind of base that the trainer can be told; returns how many.

    Beside each lies `expected.json`: our learning rate at every step up to the horizon, None where the optimizer sets
    its own or the export says that the warm-up is lost; the optimizer's settings, without those that are told to
    differ; and the caption of each photo.
    """
    photos = prepare(scan_dataset(ours.make_photos(work / "photos")), work / "prepared")
    dataset, count = scan_dataset(photos), 0
    runs = [*product((*ours.OPTIMIZERS, *ours.SCHEDULES, *_MORE), _BASES), *product(({"seed": 3},), _MORE_BASES)]
    for number, (changes, traits) in enumerate(runs):
        folder = work / "exports" / f"{number:02d}-{traits.family}"
        told = {"base": "org/base", "data": str(photos), "epochs": ours.EPOCHS, "resolution": 512, **changes}
        ending = Ending(ours.SHIPPED, steps_per_epoch=EPOCH_STEPS)
        made = ProductionRun(parse_train_config(told), dataset, traits, "toy", ending, "")
        try:
            export = TRANSLATE[tool](made, folder)
        except SearchError:
            continue
        folder.mkdir(parents=True)
        for name, text in (*export.files.items(), ("expected.json", json.dumps(_expected(made, export)))):
            (folder / name).write_text(text, encoding="utf-8")
        count += 1
    return count


def _expected(made: ProductionRun, export: ForTrainer) -> dict[str, Any]:
    config, settings = made.config, run_settings(made.config)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": config.effective_learning_rate}]
    optimizer = build_optimizer(settings.optimizer, groups, warmup_steps=config.warmup_steps)
    rate = optimizer.param_groups[0]["lr"]
    own = config.relative_step or config.optimizer == "AdamWScheduleFree"
    told = any(line.startswith("warmup_steps:") for line in export.notices)
    left = {"params", "fused", "foreach", "train_mode"} | {"eps" for line in export.notices if "has an eps of" in line}
    steps = made.steps(config.epochs)
    return {
        "captions": {str(photo.path.resolve()): photo.caption for photo in made.dataset.photos},
        "epoch_steps": EPOCH_STEPS,
        "rates": None if own or told else learning_rates(settings.schedule, learning_rate=rate, total_steps=steps),
        "optimizer": {
            key: value
            for key, value in optimizer.param_groups[0].items()
            if isinstance(value, int | float | list | tuple) and key not in left
        },
    }

"""What another trainer does differently is said: each notice where it is true, and nowhere else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.onetrainer import for_onetrainer
from search.exports.production_run import ProductionRun
from search.exports.ship_epoch import Ending
from search.exports.simpletuner import for_simpletuner
from tests import tiny
from tests.search.base_predictions import traits
from trainer.config.config import parse_train_config
from trainer.data.dataset import scan_dataset

TRANSLATE = {"OneTrainer": for_onetrainer, "ai-toolkit": for_ai_toolkit, "SimpleTuner": for_simpletuner}
ENCODER = {"train_text_encoder": True, "text_encoder_lr": 2e-5}
RESTS: dict[str, tuple[dict[str, Any], Sequence[str]]] = {
    # what a line begins with: (the run that it is said of, the trainers that say it)
    "conv_rank: 4: ": ({"conv_rank": 4}, ("OneTrainer", "SimpleTuner")),
    "dora: true: ": ({"dora": True}, ("ai-toolkit",)),
    "debiased_estimation_loss: true: ": ({"debiased_estimation_loss": True}, ("ai-toolkit", "SimpleTuner")),
    "ip_noise_gamma: 0.1: ": ({"ip_noise_gamma": 0.1}, ("OneTrainer", "ai-toolkit")),
    "noise_offset_random_strength: true: ": (
        {"noise_offset": 0.1, "noise_offset_random_strength": True},
        tuple(TRANSLATE),
    ),
    "clip_skip: 2: ": ({"clip_skip": 2}, ("ai-toolkit", "SimpleTuner")),
    "flip": ({"flip": True}, ("ai-toolkit", "SimpleTuner")),
    "shuffle_caption: ": ({"shuffle_caption": True}, ("SimpleTuner",)),
    "keep_tokens: 1: ": ({"shuffle_caption": True, "keep_tokens": 1}, ("ai-toolkit",)),
    "targets: attention: ": ({"targets": "attention"}, ("ai-toolkit",)),
    "resolution: ": ({"resolution": [64, 128]}, ("ai-toolkit", "SimpleTuner")),
    "enable_bucket: ": ({"enable_bucket": True, "min_bucket_resolution": 64}, ("OneTrainer",)),
    "batch_size: 2: ": ({"batch_size": 2}, ("OneTrainer", "SimpleTuner")),
    "caption_dropout: ": ({"caption_dropout": 0.1, "family": "sdxl"}, ("OneTrainer",)),
    "text_encoder_lr: 2e-05: ": (ENCODER, ("ai-toolkit",)),
    "precision: fp16: ": ({"precision": "fp16", "family": "sdxl"}, ("SimpleTuner",)),
    "reg_data: ": ({"reg": True}, tuple(TRANSLATE)),
    "base: ": ({"family": "sdxl", "zero_terminal": True}, ("OneTrainer", "ai-toolkit")),
    "epochs: ": ({"lr_scheduler": "cosine", "warmup_steps": 6, "go_on": True}, ("ai-toolkit", "SimpleTuner")),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Without and with images that regularise."""
    found = {reg: tiny.make_photos(tmp_path_factory.mktemp("data"), count=4, repeats=3) for reg in (False, True)}
    more = tiny.make_photos(tmp_path_factory.mktemp("more"), count=2, repeats=1)
    (found[True] / "reg").mkdir()
    (more / "1_sks toy").rename(found[True] / "reg" / "1_toy")
    return found


def said(photos: dict[bool, Path], trainer: str, changes: dict[str, Any]) -> tuple[str, ...]:
    data = photos[changes.get("reg", False)]
    base = traits(changes.get("family", "sd15"), zero_terminal=changes.get("zero_terminal", False))
    own = {key: value for key, value in changes.items() if key not in ("reg", "family", "zero_terminal", "go_on")}
    config = parse_train_config({"base": "org/base", "data": str(data), "resolution": 64, "epochs": 12, **own})
    run = ProductionRun(config, scan_dataset(data), base, "toy", Ending(4, changes.get("go_on", False), 7), "")
    return tuple(TRANSLATE[trainer](run, Path("/out")).notices)


@pytest.mark.parametrize("beginning", RESTS)
def test_a_trainer_that_does_it_differently_says_so_and_only_then(photos, beginning: str) -> None:
    changes, trainers = RESTS[beginning]
    for trainer in TRANSLATE:
        if trainer == "SimpleTuner" and "train_text_encoder" in changes:
            continue  # refused
        found = [line for line in said(photos, trainer, changes) if line.startswith(beginning)]
        assert len(found) == (trainer in trainers), (trainer, found)
        assert not found or trainer in found[0]
        assert not [line for line in said(photos, trainer, {}) if line.startswith(beginning)]


def test_how_much_images_that_regularise_would_weigh_is_told_where_they_cannot_be_balanced(photos) -> None:
    for weight, told in ((1.0, False), (0.5, True)):
        lines = said(photos, "SimpleTuner", {"reg": True, "prior_loss_weight": weight})
        assert any(line.startswith("reg_data: ") and "with weight 0.5" in line for line in lines) == told

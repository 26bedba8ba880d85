"""A production run, and what OneTrainer, ai-toolkit and SimpleTuner are told of it."""

import json
from pathlib import Path
from typing import Any

import yaml

from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.onetrainer import for_onetrainer
from search.exports.production_run import ProductionRun
from search.exports.ship_epoch import Ending
from search.exports.simpletuner import for_simpletuner
from tests import tiny
from tests.search.base_predictions import traits
from trainer.config.config import parse_train_config
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.prediction import BaseTraits

STEPS = 7  # of an epoch
SCHEDULES = [
    {"lr_scheduler": "constant"},
    {"lr_scheduler": "constant_with_warmup", "warmup_steps": 6},
    {"lr_scheduler": "linear"},
    {"lr_scheduler": "linear", "warmup_steps": 6},
    {"lr_scheduler": "cosine"},
    {"lr_scheduler": "cosine", "warmup_steps": 6},
    {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3},
    {"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 5, "warmup_steps": 1},
    {"lr_scheduler": "polynomial"},
]


def make_photos(root: Path) -> Path:
    """Two shelves with other repeats, one without captions, and regularisation images."""
    photos = root / "photos"
    tiny.make_photos(photos, count=4, repeats=3)
    tiny.make_photos(photos, count=2, repeats=1)
    for text in (photos / "1_sks toy").glob("*.txt"):
        text.unlink()
    reg = tiny.make_photos(root / "more", count=2, repeats=1) / "1_sks toy"
    (photos / "reg").mkdir()
    reg.rename(photos / "reg" / "1_toy")
    return photos


def make_run(
    photos: Path,
    base: BaseTraits | None = None,
    *,
    epoch: int | None = 4,
    go_on: bool = False,
    dataset: Dataset | None = None,
    **changes: Any,
) -> ProductionRun:
    """Ships `epoch` of 12. `dataset`: of the photos, where it is known."""
    config = parse_train_config({"base": "org/base", "data": str(photos), "resolution": 64, "epochs": 12, **changes})
    ending = Ending(epoch, go_on, STEPS)
    return ProductionRun(config, dataset or scan_dataset(photos), base or traits(), "toy", ending, "about it")


def onetrainer(made: ProductionRun) -> tuple[dict, list[dict]]:
    """Its configuration and concepts."""
    export = for_onetrainer(made, Path("/out/onetrainer"))
    return json.loads(export.files["config.json"]), json.loads(export.files["concepts.json"])


def ai_toolkit(made: ProductionRun) -> dict:
    """Its process."""
    return yaml.safe_load(for_ai_toolkit(made, Path("/out/ai")).files["config.yaml"])["config"]["process"][0]


def simpletuner(made: ProductionRun) -> dict:
    """Its configuration."""
    return json.loads(for_simpletuner(made, Path("/out/simple")).files["config.json"])

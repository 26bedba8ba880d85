"""OneTrainer trains our export on the demo's tiny base, on a CPU, and a finished-run study looks at what it wrote.

We train the same beside it. The two draw other noise, so their losses on a few photos are compared, not their weights.
"""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save_file

import studies.demo
from benchmarks.parity.checks import Check, verdict
from search.exports.base import encoders_of_transformers_5
from search.exports.onetrainer import for_onetrainer
from search.exports.production_run import ProductionRun
from search.exports.ship_epoch import Ending
from trainer.base_model.load import describe_base
from trainer.config.config import parse_train_config
from trainer.data.dataset import scan_dataset
from trainer.lora.run_files import run_files

_DEMO = Path(studies.demo.__file__).parent
_BATCH, _LAST, _EVERY = 5, 6, 2  # 30 photos: whole batches, since OneTrainer leaves out those that do not fill one
_RUN: dict[str, Any] = {
    "resolution": 64, "batch_size": _BATCH, "epochs": 8, "save_every_n_epochs": _EVERY, "optimizer": "AdamW", "rank": 4,
    "alpha": 2.0, "learning_rate": 3e-3, "lr_scheduler": "cosine", "train_text_encoder": True, "text_encoder_lr": 1e-3,
}  # fmt: skip
_RULER = ["02.png", "16.png", "18.png", "24.png"]
"""Photos whose losses are compared; both runs are trained on them as well."""
_CLOSE, _FALLEN = 0.03, 0.1
"""How far losses may lie apart, since the noise is another, and how far they have to fall; both as `heldout_loss`."""


def run(checkout: Path, python: str, work: Path) -> list[Check]:
    """Trains with both, and looks at both."""
    base, photos = demo_base(work / "base"), work / "photos"
    shutil.copytree(_DEMO / "photos", photos)
    told = {**_RUN, "base": str(base), "data": str(photos)}
    folder = _onetrainer(told, work / "onetrainer", checkout, python)
    last = folder / "toy.safetensors"
    shutil.copyfile(work / "onetrainer" / last.name, last)
    files = run_files(folder).files
    numbers = [(file.epoch, file.step) for file in files]
    steps = len(scan_dataset(photos).photos) // _BATCH
    expected = [*((epoch, epoch * steps) for epoch in range(_EVERY, _LAST, _EVERY)), (None, None)]
    wrong = [] if numbers == expected else [f"epochs and steps {numbers}, not {expected}"]
    theirs = _looked_at(work, "theirs", base, photos, folder)
    ours = _looked_at(work, "ours", base, photos, _ours(told, work))
    apart = [f"epoch {epoch}: {theirs[epoch]:.3f}, ours {ours[epoch]:.3f}" for epoch in ours]
    far = max(abs(theirs.get(epoch, 0.0) - ours[epoch]) for epoch in ours)
    fell = all(theirs[epoch] < -_FALLEN for epoch in ours)
    return [
        verdict("files", wrong, f"{len(files)}, each with its epoch and step; the last one's has to be given"),
        verdict("losses below the base's", [] if far < _CLOSE and fell else apart, "; ".join(apart)),
    ]


def demo_base(folder: Path) -> Path:
    """The demo's base with its text encoder's weights named as OneTrainer's transformers reads them."""
    shutil.copytree(_DEMO / "base", folder)
    for name in encoders_of_transformers_5(folder):
        file = folder / name / "model.safetensors"
        save_file({f"text_model.{key}": tensor for key, tensor in load_file(file).items()}, file, {"format": "pt"})
    return folder


def _onetrainer(told: dict[str, Any], folder: Path, checkout: Path, python: str) -> Path:
    """Lets OneTrainer's own command train the export; returns the folder of its checkpoints."""
    config, dataset = parse_train_config(told), scan_dataset(told["data"])
    ending = Ending(_LAST, steps_per_epoch=len(dataset.photos) // _BATCH)
    made = ProductionRun(config, dataset, describe_base(config.base), "toy", ending)
    folder.mkdir()
    for name, text in for_onetrainer(made, folder).files.items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [python, "scripts/train.py", "--config-path", str(folder / "config.json")]
    command += ["--config-value", "tensorboard=false"]  # which it would start as a server
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError("OneTrainer's scripts/train.py:\n" + "\n".join(done.stderr.strip().splitlines()[-12:]))
    return folder / "workspace" / "save"


def _ours(told: dict[str, Any], work: Path) -> Path:
    """Trains the same here; returns a folder of its files."""
    (work / "train.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    _here("trainer.run", str(work / "train.yaml"), "--out", str(work / "trained"))
    folder = work / "ours"
    folder.mkdir()
    for epoch in range(_EVERY, _LAST + 1, _EVERY):
        (found,) = (work / "trained" / "checkpoints").glob(f"*{epoch:02d}/lora.safetensors")
        shutil.copyfile(found, folder / f"toy_epoch{epoch}.safetensors")
    return folder


def _looked_at(work: Path, name: str, base: Path, photos: Path, folder: Path) -> dict[int, float]:
    """What a finished-run study says of the loss at each epoch, against the base's."""
    last = {"last": _LAST} if any(file.epoch is None for file in run_files(folder).files) else {}
    study = {
        "study": name,
        "base": str(base),
        "data": str(photos),
        "train": {"resolution": 64},
        "score": {
            "encoder": str(_DEMO / "clip"),
            "probe": {"seeds": 1, "steps": 3, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} on grass"]},
            "losses": {"levels": 4, "draws": 4},
            "shifted": {"composites": 0},
        },
        "checkpoints": {"folder": str(folder), "held_out": _RULER, **last},
    }
    (work / f"{name}.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    _here("search.run", str(work / f"{name}.yaml"), "--runs", str(work / "runs"))
    with (work / "runs" / name / "trials" / "0000" / "trajectory.csv").open() as file:
        return {int(row["epoch"]): float(row["heldout_loss"]) for row in csv.DictReader(file) if row["epoch"] != "0"}


def _here(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module}:\n{done.stderr[-2000:]}")

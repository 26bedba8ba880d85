"""The LoRA files of a finished run, made ready to be looked at like checkpoints that were trained here."""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from search.record.finished_run import FinishedRun
from trainer.checkpoint import LORA_FILE, checkpoint_path
from trainer.config.config import TrainConfig
from trainer.errors import ModelError
from trainer.families import Base
from trainer.lora.kohya_file import load_lora, save_lora
from trainer.lora.lora import LoraWeights
from trainer.lora.merge import check_fits
from trainer.optimization.schedules import ScheduleSettings, learning_rates

_FINE = 4000
"""Steps in which the course of the learning rate is added up."""


def check_run(run: FinishedRun, base: Base) -> None:
    """Whether every file is whole, finite and for this base, before anything is drawn.

    Raises:
        ModelError: the first one that is not, by name.
    """
    for file in run.files.values():
        lora = load_lora(file, family=base.family.name)
        try:
            check_fits(base, lora)
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None
        for (component, path), module in lora.modules.items():
            halves = (module.down, module.up, *([] if module.magnitude is None else [module.magnitude]))
            if not all(torch.isfinite(half).all() for half in halves):
                raise ModelError(f"{file}: expected finite weights, got NaN or infinity in {component}.{path}")


def efforts(run: FinishedRun, config: TrainConfig) -> dict[int, float]:
    """Checkpoint to the sum of learning rates up to it, the rate at the start being 1: as a trial's, up to a factor.

    It tells where the learning rate restarted, so that a restart is not taken for overfitting. Without a schedule in
    the study file the rate is flat.
    """
    last = run.counts[-1]
    finer = max(1, _FINE // last)  # parts of an epoch
    cycles = config.effective_num_cycles
    settings = ScheduleSettings(config.lr_scheduler, cycles, epochs=last)
    rates = np.asarray(learning_rates(settings, learning_rate=1.0, total_steps=last * finer))
    spent = np.concatenate([[0.0], np.cumsum(rates)]) / finer
    return {count: float(spent[count * finer]) for count in run.counts}


def take_checkpoint(run: FinishedRun, count: int, trial: Path, family: str) -> LoraWeights:
    """The LoRA of one checkpoint; its file is put where a trial keeps its own, too (a hard link where one can be)."""
    source, target = Path(run.files[count]), checkpoint_path(trial / "checkpoints", count) / LORA_FILE
    lora = load_lora(source, family=family)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{LORA_FILE}.new")
        aside.unlink(missing_ok=True)
        if (source.parent / "adapter_config.json").is_file():  # it holds the alphas, which have to go along
            save_lora(aside, lora, dtype=torch.float32)
        else:
            with contextlib.suppress(OSError):  # another file system, or one without links
                os.link(source.resolve(), aside)  # a link to a link would end with the user's
            if not aside.is_file():
                shutil.copyfile(source, aside)
        aside.replace(target)
    return lora

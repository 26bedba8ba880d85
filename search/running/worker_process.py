"""What a worker's process is apart from its work: its device and models, and its log."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from metrics.checkpoint.encoders import Encoder, load_encoder
from search.record.record import StudyFolder
from search.study.study import Study
from trainer.base_model.load import load_base
from trainer.devices import check_quantize, find_device, repeat_exactly
from trainer.families import Base


@dataclass(frozen=True)
class Models:
    """What stays loaded for the whole study. identity: the encoder of `score.identity_encoder`, None without one."""

    base: Base
    encoder: Encoder
    identity: Encoder | None


def load_models(
    study: Study,
    folder: StudyFolder,
    slot: int,
    *,
    exactly: bool = True,
    say: Callable[[str], None] = lambda what: None,
) -> Models:
    """The study's base and encoders on the device of a slot.

    Args:
        exactly: only operations that give the same numbers each time, where the study wants that.
    """
    device = find_device(device_of(study, slot), key="workers.device")
    config = study.config(next(study.space.combinations()))
    check_quantize(config.quantize, device)
    if exactly and study.workers.deterministic:
        repeat_exactly(device)
    say("loading the base")
    base = load_base(
        study.base, family=config.family, device=device, precision=config.precision, quantize=config.quantize
    )
    say("loading the encoder")
    features = folder.cache / "features"
    encoder = load_encoder(study.encoder, device=str(device), cache_dir=features)
    spec = study.identity_encoder
    identity = None if spec is None else load_encoder(spec, device=str(device), cache_dir=features)
    return Models(base, encoder, identity)


def cores() -> int:
    """Of this machine."""
    return os.cpu_count() or 1


def device_of(study: Study, slot: int) -> str:
    """`workers.device`; auto: GPU by GPU where there are GPUs."""
    if study.workers.device != "auto":
        return study.workers.device
    if torch.cuda.is_available():
        return f"cuda:{slot % torch.cuda.device_count()}"
    return "cpu"


def memory(device: torch.device) -> dict[str, float]:
    """Memory of this process now, and the peak of its GPU."""
    import psutil

    found = {"rss_gib": psutil.Process().memory_info().rss / 2**30}
    if device.type == "cuda":
        found["gpu_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return found


def write_to(path: Path) -> None:
    """Send what libraries print, and tracebacks, to a file: the terminal belongs to the live table."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)

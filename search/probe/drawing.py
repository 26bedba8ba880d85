"""How the probe's images are drawn: the sampler's settings, and the arithmetic."""

from typing import Any

import torch

from search.study.settings import ScoreSection
from trainer.config.config import TrainConfig
from trainer.families import Base


def drawing_of(score: ScoreSection, config: TrainConfig) -> dict[str, Any]:
    """The settings of the sampler, as `trainer.inference.sample.sample` takes them."""
    return {
        "size": config.size,
        "steps": score.probe.steps,
        "guidance": score.probe.guidance,
        "scheduler": score.probe.scheduler,
        "negative": score.probe.negative,
        "clip_skip": config.clip_skip,
    }


def precision_of(score: ScoreSection, base: Base) -> str | None:
    """ "bf16" or "fp16" to draw and measure under autocast, None as the base is."""
    if score.precision != "auto":
        return score.precision
    if base.dtype != torch.float32:
        return None
    if base.device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else None
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else None

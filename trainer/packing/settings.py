"""The settings of a pack and of each of its runs, below the config: a small dataclass for each thing that acts on them.

`trainer.packing.builder` makes them from a TrainConfig; nothing below reads one. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.lora.lora import AdapterSettings
from trainer.optimization.optimizers import OptimizerSettings
from trainer.optimization.schedules import ScheduleSettings


@dataclass(frozen=True)
class FeedSettings:
    """What the batches of an epoch are, and in which order; `trainer.packing.batches` acts on it."""

    batch_size: int = 1
    """Images of each run per pass, 1 or more."""
    resolution: tuple[int, int] = (512, 512)
    """(width, height) in pixels, multiples of 8."""
    enable_bucket: bool = False
    """Sort images into aspect-ratio buckets instead of cropping all to `resolution`."""
    bucket_step: int = 64
    """Bucket sides are multiples of this, in pixels; a multiple of 8."""
    min_bucket_resolution: int = 256
    """Smallest side of a bucket, in pixels."""
    max_bucket_resolution: int = 1024
    """Largest side of a bucket, in pixels."""
    flip: bool = False
    """Mirror half of the images at random."""
    shuffle_caption: bool = False
    """Shuffle the comma-separated tags of captions, anew each epoch."""
    keep_tokens: int = 0
    """Tags at the front that shuffling leaves alone, 0 or more."""
    caption_dropout: float = 0.0
    """Share of captions replaced by the empty one, from 0 to below 1."""
    clip_skip: int | None = None
    """Text encoder layer to read, counted from the end; None and 1 are the last."""
    train_text_encoder: bool = False
    """Leave prompts to be encoded at each step, since the text encoders have adapters, too."""
    seed: int = 0
    """Of the data order, flips, captions, timesteps, noise and initial weights: the same for all runs of a pack."""


@dataclass(frozen=True)
class LossSettings:
    """What noise a run sees and what each error weighs; `trainer.packing.loss` acts on it."""

    min_snr_gamma: float | None = None
    """Above 0; None weighs all timesteps alike. Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting
    Strategy"."""
    debiased_estimation_loss: bool = False
    """Weigh timesteps by 1 ÷ √SNR or, for velocity, 1 ÷ (SNR + 1), too. Yu et al. 2023, "Debias the Training of
    Diffusion Models"; sd-scripts' `apply_debiased_estimation` (library/custom_train_functions.py)."""
    noise_offset: float = 0.0
    """From 0 to 1. kohya's: a constant for each image and channel, noise + offset · randn[B, C, 1, 1]."""
    noise_offset_random_strength: bool = False
    """Draw the offset anew for each batch, evenly from 0 to `noise_offset`: sd-scripts'
    `get_noise_noisy_latents_and_timesteps` (library/train_util.py)."""
    ip_noise_gamma: float = 0.0
    """From 0 to 1. Input perturbation: the denoiser sees noise + γ · randn, and still has to say what follows from the
    noise. Ning et al. 2023, "Input Perturbation Reduces Exposure Bias in Diffusion Models"; sd-scripts' name."""
    prior_loss_weight: float = 1.0
    """Weight of regularisation images, 0 or more."""


@dataclass(frozen=True)
class OutputSettings:
    """What a run leaves behind; `trainer.packing.training_run` acts on it."""

    save_every_n_epochs: int = 1
    """Epochs between checkpoints, 1 or more; the last epoch always gets one."""
    output_name: str | None = None
    """What WebUIs show; None takes the name of the run's folder."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the LoRA file's metadata."""


@dataclass(frozen=True)
class PackSettings:
    """What all runs of a pack share. Runs on one base and data whose pack settings are equal may share a pack."""

    feed: FeedSettings = field(default_factory=FeedSettings)
    gradient_accumulation_steps: int = 1
    """Passes per optimizer step, 1 or more."""
    steps_per_epoch: int | None = None
    """Optimizer steps of an epoch, 1 or more; None: those of one pass over the photos. It says where epochs end, and
    changes nothing of what is learned until there."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""


@dataclass(frozen=True)
class RunSettings:
    """What is a run's own."""

    adapter: AdapterSettings
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    output: OutputSettings = field(default_factory=OutputSettings)

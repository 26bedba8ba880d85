"""Which settings of a run go together, and which of them do nothing: rules over a whole TrainConfig."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from trainer.data.buckets import bounds_on_grid
from trainer.errors import known_key
from trainer.optimization.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig

FLAT_SCHEDULERS = ("constant", "constant_with_warmup", "adafactor")
"""Schedules whose course does not depend on the horizon: the epoch is an outcome, not a setting."""
SELF_TUNING = ("Prodigy", "DAdaptAdam")
"""Optimizers that find their own step size; their learning rate is a factor of it."""
_TOO_LITTLE, _TOO_MUCH = 0.01, 0.1  # rates that self-tuning optimizers, and the others, cannot be meant to have
MOST_PIXELS = 16_384
"""Longest side that any setting can ask for."""
RESOLUTION = f"a multiple of 8 from 8 to {MOST_PIXELS}, or [width, height] in such multiples"
_FLAGS = (
    *("amsgrad", "foreach", "fused", "is_paged", "scale_parameter", "warmup_init", "weight_decouple"),
    *("fixed_decay", "bias_correction", "safeguard_warmup", "ams_bound"),
)
"""Optimizer arguments that are true or false."""
_ABOVE_NOTHING = ("d0", "growth_rate", "clip_threshold")
_NOTHING_OR_MORE = ("eps", "min_8bit_size", "decoupling_c", "r", "weight_lr_power")
"""Optimizer arguments that are numbers of a range; their libraries refuse others late, or not at all."""


def follows_horizon(config: TrainConfig) -> bool:
    """Whether the learning rate at a step depends on `epochs`, so that a run cannot be prolonged."""
    if config.lr_scheduler == "cosine_with_restarts" and config.cycle_epochs is not None:
        return config.warmup_steps > 0  # which shifts the cycles; without, they are as long as ever
    return config.lr_scheduler not in FLAT_SCHEDULERS


class Wanted(NamedTuple):
    """A setting that does not go together with others: what is expected of it, and why."""

    key: str
    expected: str
    why: str = ""


def check_pair(optimizer: str, lr_scheduler: str, relative_step: bool) -> Wanted | None:
    """What would have to change where this optimizer and scheduler cannot work together; None if they can."""
    if relative_step and optimizer != "Adafactor":
        return Wanted("relative_step", f"false with optimizer: {optimizer}", "only Adafactor can set its own rate")
    if relative_step and lr_scheduler not in ("adafactor", "constant"):
        why = "Adafactor sets its own rate under relative_step: true"
        return Wanted("lr_scheduler", "adafactor, or relative_step: false", why)
    if lr_scheduler == "adafactor" and not relative_step and optimizer == "Adafactor":
        why = "that schedule follows the rate that Adafactor then sets itself"
        return Wanted("relative_step", "true under lr_scheduler: adafactor", why)
    if lr_scheduler == "adafactor" and not relative_step:
        why = "that schedule follows the rate that Adafactor sets with relative_step: true"
        return Wanted("lr_scheduler", f"another schedule with optimizer: {optimizer}", why)
    if optimizer == "AdamWScheduleFree" and lr_scheduler != "constant":
        why = "it does without a schedule; warmup_steps is its own"
        return Wanted("lr_scheduler", "constant with optimizer: AdamWScheduleFree", why)
    return None


def conflicts(config: TrainConfig) -> Iterator[Wanted]:
    """What is expected of each setting that cannot work together with another one."""
    if config.alpha is not None and config.alpha_ratio is not None:
        yield Wanted("alpha_ratio", "alpha or alpha_ratio, not both")
    if any(side < 8 or side % 8 for side in config.size):
        yield Wanted("resolution", RESOLUTION)
    if config.min_bucket_resolution > config.max_bucket_resolution:
        yield Wanted("min_bucket_resolution", f"at most max_bucket_resolution ({config.max_bucket_resolution})")
    if config.enable_bucket and min(config.size) < config.bucket_step:
        yield Wanted("bucket_step", f"at most the resolution's shorter side ({min(config.size)})")
    if config.enable_bucket and min(config.size) < config.min_bucket_resolution:
        yield Wanted("min_bucket_resolution", f"at most the resolution's shorter side ({min(config.size)})")
    if config.enable_bucket and max(config.size) > config.max_bucket_resolution:
        yield Wanted("max_bucket_resolution", f"at least the resolution's longer side ({max(config.size)})")
    if (pair := check_pair(config.optimizer, config.lr_scheduler, config.relative_step)) is not None:
        yield pair
    if config.learning_rate is not None and config.learning_rate_scale != 1.0:
        why = "learning_rate is absolute; without it, the scale multiplies the optimizer's usual rate"
        yield Wanted("learning_rate_scale", "learning_rate or learning_rate_scale, not both", why)
    one_rate = config.optimizer in SELF_TUNING and config.train_text_encoder
    if one_rate and config.text_encoder_lr not in (None, config.effective_learning_rate):
        yield Wanted("text_encoder_lr", "no rate of its own", f"{config.optimizer} has one rate for all: leave it out")
    no_warmup = config.lr_scheduler in ("constant", "adafactor") and config.optimizer != "AdamWScheduleFree"
    if no_warmup and config.warmup_steps:
        why = "constant_with_warmup is the one that warms up"
        yield Wanted("warmup_steps", f"0 under lr_scheduler: {config.lr_scheduler}", why)
    if config.lr_scheduler == "constant_with_warmup" and not config.warmup_steps:
        yield Wanted("warmup_steps", "at least 1 under lr_scheduler: constant_with_warmup")
    if config.lr_scheduler == "cosine_with_restarts" and None not in (config.num_cycles, config.cycle_epochs):
        yield Wanted("cycle_epochs", "num_cycles or cycle_epochs, not both")
    for name, value in config.optimizer_args.items():
        if name not in OPTIMIZERS[config.optimizer].args:
            said = known_key(name, OPTIMIZERS[config.optimizer].args)
            yield Wanted("optimizer_args", f"{said} of {config.optimizer} instead of {name}")
        elif (form := _argument_form(config.optimizer, name, value)) is not None:
            yield Wanted("optimizer_args", f"{form} as {name}")
    if config.quantize is not None and config.dora:
        yield Wanted("dora", "false on a quantised base")


def check_rate(config: TrainConfig) -> Wanted | None:
    """What is expected where the learning rate is one of another kind of optimizer, so that nothing is learned or
    everything destroyed; None where it can be meant."""
    usual = OPTIMIZERS[config.optimizer]
    key = "learning_rate" if config.learning_rate is not None else "learning_rate_scale"
    rate, self_tuning = config.effective_learning_rate, config.optimizer in SELF_TUNING
    if config.relative_step or config.optimizer_args.get("scale_parameter") is True:
        return None
    fix = "leave learning_rate out to take that; learning_rate_scale multiplies each optimizer's usual rate"
    if self_tuning and rate * config.d_coef < _TOO_LITTLE:
        why = f"it finds its own step size and multiplies it by the rate, so with {rate:g} it learns nothing; {fix}"
        return Wanted(key, f"a rate of about 1 with {config.optimizer}", why)
    if not self_tuning and rate >= _TOO_MUCH:
        why = f"{rate:g} ruins the LoRA; {fix}"
        return Wanted(key, f"a rate of about {usual.learning_rate:g} with {config.optimizer}", why)
    return None


def notices(config: TrainConfig) -> Iterator[str]:
    """One sentence for each setting that takes no effect, or another one than its number says."""
    off = "takes no effect"
    if config.alpha == 0:
        yield f"alpha: 0 means rank, so alpha is {config.rank}"
    given = config.model_fields_set
    has_reg = config.reg_data is not None or Path(config.data, "reg").is_dir()
    for key, needs, active in (
        ("text_encoder_lr", "train_text_encoder is false", config.train_text_encoder),
        ("conv_alpha", "conv_rank is not set", config.conv_rank is not None),
        ("d_coef", "the optimizer is neither Prodigy nor DAdaptAdam", config.optimizer in SELF_TUNING),
        ("num_cycles", "the scheduler is not cosine_with_restarts", config.lr_scheduler == "cosine_with_restarts"),
        ("cycle_epochs", "the scheduler is not cosine_with_restarts", config.lr_scheduler == "cosine_with_restarts"),
        ("keep_tokens", "shuffle_caption is false", config.shuffle_caption),
        ("bucket_step", "enable_bucket is false", config.enable_bucket),
        ("min_bucket_resolution", "enable_bucket is false", config.enable_bucket),
        ("max_bucket_resolution", "enable_bucket is false", config.enable_bucket),
        ("prior_loss_weight", "there are no regularisation images (reg_data, or a folder reg in data)", has_reg),
        ("learning_rate", "relative-step Adafactor sets its own rate", not config.relative_step),
        ("learning_rate_scale", "relative-step Adafactor sets its own rate", not config.relative_step),
        ("text_encoder_lr", "relative-step Adafactor sets its own rate", not config.relative_step),
        ("min_snr_gamma", "sd3 is trained by flow matching", config.family != "sd3"),
        ("debiased_estimation_loss", "sd3 is trained by flow matching", config.family != "sd3"),
        ("noise_offset_random_strength", "noise_offset is 0", config.noise_offset > 0),
    ):
        default = type(config).model_fields[key].default
        if key in given and getattr(config, key) != default and not active:
            yield f"{key}: {getattr(config, key)} {off}: {needs}"
    if config.enable_bucket:
        smallest, largest = bounds_on_grid(
            config.min_bucket_resolution, config.max_bucket_resolution, config.bucket_step
        )
        for key, bound in (("min_bucket_resolution", smallest), ("max_bucket_resolution", largest)):
            if getattr(config, key) != bound:
                yield f"{key}: {getattr(config, key)} is taken as {bound}, a multiple of bucket_step, as by sd-scripts"
    if (wrong := check_rate(config)) is not None:
        yield f"{wrong.key}: {getattr(config, wrong.key):g} will not work: it takes {wrong.expected}; {wrong.why}"
    if config.lr_scheduler == "cosine_with_restarts" and config.effective_num_cycles <= 1:
        few = "" if config.num_cycles or config.cycle_epochs else ", and num_cycles is 1 where it is left out"
        yield f"cosine_with_restarts with one cycle is cosine{few}"


def cautions(config: TrainConfig) -> Iterator[str]:
    """One sentence for each setting that does what it says, with a consequence elsewhere that nobody would look for."""
    if config.dora:
        yield (
            "dora: A1111 and ComfyUI scale DoRA by other norms than it is trained with and draw other images without "
            "saying so: leave it out for a LoRA to be used there, or make it plain with `trainer.deliver --plain-lora`"
        )
    if config.debiased_estimation_loss and config.min_snr_gamma is not None:
        yield (
            "debiased_estimation_loss: its weights are multiplied with those of min_snr_gamma, as by sd-scripts: both "
            "make clear images count less, so use one of them"
        )


def _argument_form(optimizer: str, name: str, value: object) -> str | None:
    """What an optimizer's argument has to be, when it is something else."""
    if name in _FLAGS:
        return None if isinstance(value, bool) else "true or false"
    if name == "betas":
        pair = isinstance(value, list | tuple) and len(value) == 2 and all(_number(v) and 0 <= v < 1 for v in value)
        return None if pair else "two numbers from 0 to below 1, as [0.9, 0.99]"
    if name == "eps" and optimizer == "Adafactor":
        pair = isinstance(value, list | tuple) and len(value) == 2 and all(_number(v) and v >= 0 for v in value)
        return None if pair else "two numbers, 0 or more, as [1e-30, 1e-3]"
    if name in ("beta1", "beta3") and value is None:
        return None
    if name in ("beta1", "beta3"):
        return None if _number(value) and 0 <= value < 1 else "a number from 0 to below 1"
    if name in _ABOVE_NOTHING:
        return None if _number(value) and value > 0 else "a number above 0"
    if name in _NOTHING_OR_MORE:
        return None if _number(value) and value >= 0 else "a number, 0 or more"
    return None if _number(value) else "a number"


def _number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

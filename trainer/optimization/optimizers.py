"""Optimizers by name: usual learning rates, builders, evaluation mode and effective learning rates.

Importing this module loads no torch; a builder imports its library when it is called.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError, TrainerError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

ParamGroups = list[dict[str, Any]]
"""Parameter groups as torch takes them: [{"params": [...], "lr": …}, …]."""


@dataclass(frozen=True)
class OptimizerKind:
    """What is known about an optimizer before it is built.

    learning_rate, text_encoder_lr: usual rates of the denoiser's and the text encoder's adapters.
    weight_decay: usual decoupled weight decay.
    max_grad_norm: usual clipping norm (0: none).
    args: names allowed in `optimizer_args`.
    build: (groups, weight_decay, keywords) -> optimizer; group["lr"] is set by the caller.
    """

    learning_rate: float
    text_encoder_lr: float
    weight_decay: float
    max_grad_norm: float
    args: frozenset[str]
    build: Callable[[ParamGroups, float, dict[str, Any]], Optimizer]


@dataclass(frozen=True)
class OptimizerSettings:
    """How adapters are moved by their gradients; `build_optimizer` acts on it, and the run that clips."""

    optimizer: str = "AdamW"
    """A name of `OPTIMIZERS`."""
    learning_rate: float = 1e-4
    """Peak rate of the denoiser's adapters, above 0."""
    text_encoder_lr: float = 5e-5
    """Peak rate of the text encoders' adapters, 0 or more."""
    weight_decay: float | None = None
    """Decoupled weight decay, 0 or more; None takes the optimizer's usual one."""
    relative_step: bool = False
    """Adafactor sets its own rate, max(1e-3, RMS(p)) × min(1e-2, 1/√t); the rates here are then ignored."""
    d_coef: float = 1.0
    """Prodigy's coefficient; for DAdaptAdam it multiplies the rate, which is what its authors scale."""
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of the optimizer's class."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 never."""


def build_optimizer(settings: OptimizerSettings, groups: ParamGroups, *, warmup_steps: int = 0) -> Optimizer:
    """The optimizer over `groups` (each with its own "lr").

    Args:
        warmup_steps: of the schedule; only AdamWScheduleFree has a warm-up of its own.

    Raises:
        ConfigError: `optimizer_args` that the class does not take.
        TrainerError: the library is missing or cannot run here; the message names the alternative.
    """
    name, kind = settings.optimizer, OPTIMIZERS[settings.optimizer]
    keywords: dict[str, Any] = dict(settings.optimizer_args)
    groups = [dict(group) for group in groups]
    if name == "Adafactor":
        keywords.update(relative_step=settings.relative_step)
        if settings.relative_step:
            groups = [{key: value for key, value in group.items() if key != "lr"} for group in groups]
        else:
            keywords.setdefault("scale_parameter", False)
    elif name == "Prodigy":
        keywords.update(d_coef=settings.d_coef)
    elif name == "DAdaptAdam":
        groups = [{**group, "lr": group["lr"] * settings.d_coef} for group in groups]
    elif name == "AdamWScheduleFree":
        keywords.update(warmup_steps=warmup_steps)
    weight_decay = kind.weight_decay if settings.weight_decay is None else settings.weight_decay
    try:
        return kind.build(groups, weight_decay, keywords)
    except (TypeError, ValueError, AssertionError) as error:
        if not settings.optimizer_args:
            raise
        given = dict(settings.optimizer_args)
        raise ConfigError(None, "optimizer_args", given, f"what {name} takes ({error})") from error


@contextlib.contextmanager
def evaluation_mode(optimizer: Optimizer) -> Iterator[None]:
    """Within, the parameters are those to sample, score and save: schedule-free averages instead of iterates.

    The training iterates come back bit for bit (they are set aside, not computed back).
    """
    if not is_schedule_free(optimizer):
        yield
        return
    import torch

    params = [p for group in optimizer.param_groups for p in group["params"]]
    iterates = [p.detach().clone() for p in params]
    with torch.no_grad():
        optimizer.eval()
        try:
            yield
        finally:
            for p, iterate in zip(params, iterates, strict=True):
                p.copy_(iterate)
            for group in optimizer.param_groups:
                group["train_mode"] = True


def is_schedule_free(optimizer: Optimizer) -> bool:
    """Whether the optimizer trains on iterates other than the weights to be used."""
    return all("train_mode" in group for group in optimizer.param_groups)


def effective_learning_rate(optimizer: Optimizer, group: int = 0) -> float | Tensor:
    """The step size of a parameter group's last step, comparable between optimizers.

    d · lr for D-Adaptation and Prodigy; for Adafactor with `scale_parameter` (always under relative steps) the mean
    over the group's parameters of rate · max(ε₂, RMS(p)), Shazeer & Stern 2018, as a 0-d tensor on the device; lr ×
    warm-up for schedule-free AdamW; lr for all others. Never waits for the device.
    """
    settings = optimizer.param_groups[group]
    if "d" in settings:
        return float(settings["d"]) * float(settings["lr"])
    if "relative_step" in settings and (settings["relative_step"] or settings["scale_parameter"]):
        return _adafactor_rate(settings, [optimizer.state[p] for p in settings["params"] if optimizer.state.get(p)])
    if "train_mode" in settings and settings["warmup_steps"] > 0:
        return float(settings["lr"]) * min(1.0, settings.get("step", 0) / settings["warmup_steps"])
    return float(settings["lr"])


def _adafactor_rate(settings: Mapping[str, Any], states: list[Any]) -> float | Tensor:
    import torch

    if not states:
        return 0.0
    rate, step = settings["lr"], states[0]["step"]
    if settings["relative_step"]:
        rate = min(1e-6 * step if settings["warmup_init"] else 1e-2, 1.0 / math.sqrt(step))
    if not settings["scale_parameter"]:
        return float(rate)
    return rate * torch.stack([state["RMS"] for state in states]).clamp(min=settings["eps"][1]).mean()


def _adamw(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    from torch.optim import AdamW

    # one kernel a tensor; on a CPU torch's own choice is a dozen operations for each of hundreds of tensors
    fused = not {"foreach", "fused"} & set(keywords)
    return AdamW(groups, weight_decay=weight_decay, **keywords, **({"fused": True} if fused else {}))


def _adafactor(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    from transformers.optimization import Adafactor

    return Adafactor(groups, weight_decay=weight_decay, **keywords)


def _dadapt_adam(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    from pytorch_optimizer import DAdaptAdam

    return DAdaptAdam(groups, weight_decay=weight_decay, **{"weight_decouple": True, **keywords})


def _prodigy(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    from pytorch_optimizer import Prodigy

    # safeguard_warmup stays off: with it the estimate of d idles for about fifty steps
    return Prodigy(groups, weight_decay=weight_decay, **keywords)


def _lion(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    from pytorch_optimizer import Lion

    return Lion(groups, weight_decay=weight_decay, **keywords)


def _schedule_free(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    from pytorch_optimizer import ScheduleFreeAdamW

    return ScheduleFreeAdamW(groups, weight_decay=weight_decay, **keywords)


def _adamw_8bit(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    return _bitsandbytes("AdamW8bit", "AdamW").AdamW8bit(groups, weight_decay=weight_decay, **keywords)


def _lion_8bit(groups: ParamGroups, weight_decay: float, keywords: dict[str, Any]) -> Optimizer:
    return _bitsandbytes("Lion8bit", "Lion").Lion8bit(groups, weight_decay=weight_decay, **keywords)


def _bitsandbytes(name: str, alternative: str) -> Any:
    """bitsandbytes.optim, after one 8-bit step on a scrap of memory has shown that it runs on this machine."""
    global _BITSANDBYTES
    if _BITSANDBYTES is None:
        try:
            _BITSANDBYTES = _import_bitsandbytes()
        except Exception as error:
            raise TrainerError(
                f"optimizer: {name} needs bitsandbytes, which does not run here ({error}); use {alternative} instead"
            ) from error
    return _BITSANDBYTES


def _import_bitsandbytes() -> Any:
    import bitsandbytes.optim
    import torch

    scrap = torch.nn.Parameter(torch.zeros(4096))
    scrap.grad = torch.ones_like(scrap)
    bitsandbytes.optim.AdamW8bit([scrap], lr=1e-3).step()
    if not bool((scrap < 0).all()):
        raise RuntimeError("an 8-bit step on the CPU changed nothing")
    return bitsandbytes.optim


_BITSANDBYTES: Any = None

_8BIT_ARGS = frozenset({"betas", "eps", "min_8bit_size", "is_paged"})
_ADAFACTOR_ARGS = frozenset({"eps", "clip_threshold", "decay_rate", "beta1", "scale_parameter", "warmup_init"})
_DADAPT_ARGS = frozenset(
    {"betas", "d0", "growth_rate", "weight_decouple", "fixed_decay", "bias_correction", "eps", "foreach"}
)

OPTIMIZERS: dict[str, OptimizerKind] = {
    "AdamW": OptimizerKind(1e-4, 5e-5, 0.01, 1.0, frozenset({"betas", "eps", "amsgrad", "foreach", "fused"}), _adamw),
    "AdamW8bit": OptimizerKind(1e-4, 5e-5, 0.01, 1.0, _8BIT_ARGS, _adamw_8bit),
    # clips its own updates (clip_threshold)
    "Adafactor": OptimizerKind(2e-4, 1e-4, 0.0, 0.0, _ADAFACTOR_ARGS, _adafactor),
    "DAdaptAdam": OptimizerKind(1.0, 1.0, 0.01, 1.0, _DADAPT_ARGS, _dadapt_adam),
    "Prodigy": OptimizerKind(1.0, 1.0, 0.01, 1.0, _DADAPT_ARGS | {"beta3", "safeguard_warmup"}, _prodigy),
    "Lion": OptimizerKind(
        2e-5, 1e-5, 0.05, 1.0, frozenset({"betas", "weight_decouple", "fixed_decay", "foreach"}), _lion
    ),
    "Lion8bit": OptimizerKind(2e-5, 1e-5, 0.05, 1.0, frozenset({"betas", "min_8bit_size", "is_paged"}), _lion_8bit),
    "AdamWScheduleFree": OptimizerKind(
        2e-4,
        1e-4,
        0.01,
        1.0,
        frozenset({"betas", "r", "weight_lr_power", "decoupling_c", "ams_bound", "eps", "foreach"}),
        _schedule_free,
    ),
}
"""Usual rates: kohya's and the authors' recommendations for LoRA (see docs on optimizers)."""

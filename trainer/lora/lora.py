"""LoRA weights as values, and adapters in peft's layers: kohya's modules, initial values and scaling."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.streams import stream

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.families.family import Base

Site = tuple[str, str]
"""(component, module path): ("denoiser", "down_blocks.0.attentions.0.proj_in"), ("text_encoder_0", …)."""

ADAPTER = "default"


@dataclass(frozen=True)
class AdapterSettings:
    """Which modules get adapters, and of what form; `create_adapters` acts on it."""

    rank: int
    """Of linear layers and 1×1 convolutions, 1 or more."""
    alpha: float
    """Scale is alpha ÷ rank; above 0."""
    targets: str = "kohya"
    """"kohya": every linear and 1×1 convolution of the transformer blocks; "attention": its projections only."""
    conv_rank: int | None = None
    """Rank of adapters on 3×3 convolutions, 1 or more; None leaves them alone."""
    conv_alpha: float | None = None
    """Alpha of those, above 0; None without conv_rank."""
    dora: bool = False
    """Weight-decomposed LoRA."""
    rslora: bool = False
    """Scale is alpha ÷ √rank."""

    def __post_init__(self) -> None:
        assert (self.conv_rank is None) == (self.conv_alpha is None), "conv_rank and conv_alpha go together"


@dataclass(frozen=True)
class LoraModule:
    """One module's LoRA: ΔW = alpha ÷ rank · up @ down.

    down: [rank, in] or, for convolutions, [rank, in, kh, kw].
    up: [out, rank] or [out, rank, 1, 1].
    magnitude: DoRA's [out], or None.
    by_input: whether the magnitude is [in] instead, as OneTrainer and older LyCORIS train it unless told otherwise.
    """

    down: Tensor
    up: Tensor
    alpha: float
    magnitude: Tensor | None = None
    by_input: bool = False

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    def magnitude_shape(self, ndim: int) -> tuple[int, ...]:
        """The magnitude beside a weight of `ndim` dimensions: [out, 1, …], or [1, in, …] by input."""
        return (1, -1, *[1] * (ndim - 2)) if self.by_input else (-1, 1, *[1] * (ndim - 2))

    @property
    def finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        parts = (self.down, self.up, self.magnitude)
        return all(bool(part.isfinite().all()) for part in parts if part is not None)


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA apart from any model: its modules by (component, module path), and the family they belong to."""

    modules: Mapping[Site, LoraModule]
    family: str


@dataclass(frozen=True)
class Adapters:
    """One run's trainable adapters: peft layers beside the base, never inside its module tree.

    layers: peft's `LoraLayer` of each site; its base layer shares the base's weights.
    """

    layers: Mapping[Site, Any]
    family: str
    rslora: bool
    alone: str | None
    """Why these adapters cannot share a pack; None if they can."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(name, parameter) in a fixed order: sites as the family lists them; down, up, magnitude."""
        for (component, path), layer in self.layers.items():
            yield f"{component}.{path}.down", layer.lora_A[ADAPTER].weight
            yield f"{component}.{path}.up", layer.lora_B[ADAPTER].weight
            if ADAPTER in layer.lora_magnitude_vector:
                yield f"{component}.{path}.magnitude", layer.lora_magnitude_vector[ADAPTER].weight

    def parameters(self, component: str = "") -> list[nn.Parameter]:
        """The parameters of components whose names begin with `component` ("denoiser", "text_encoder")."""
        return [parameter for name, parameter in self.named_parameters() if name.startswith(component)]

    def weights(self) -> LoraWeights:
        """A copy of the present weights on the CPU. rsLoRA's scale is written as an alpha that readers understand."""
        modules = {}
        for site, layer in self.layers.items():
            rank, alpha = layer.r[ADAPTER], float(layer.lora_alpha[ADAPTER])
            magnitude = layer.lora_magnitude_vector[ADAPTER].weight if layer.lora_magnitude_vector else None
            modules[site] = LoraModule(
                down=_copy(layer.lora_A[ADAPTER].weight),
                up=_copy(layer.lora_B[ADAPTER].weight),
                alpha=alpha_in_file(alpha, rank, rslora=self.rslora),
                magnitude=None if magnitude is None else _copy(magnitude),
            )
        return LoraWeights(modules, self.family)


def alpha_in_file(alpha: float, rank: int, *, rslora: bool) -> float:
    """kohya's alpha: readers divide by the rank, rsLoRA by its root."""
    return alpha * math.sqrt(rank) if rslora else alpha


def create_adapters(
    base: Base, settings: AdapterSettings, *, train_text_encoder: bool = False, seed: int = 0
) -> Adapters:
    """Fresh adapters on every module that kohya adapts: down kaiming-uniform(a=√5), up zero, scale alpha ÷ rank.

    Args:
        train_text_encoder: put them on the text encoders as well.
        seed: initial values come from this seed's own stream, module by module.

    Raises:
        ModelError: a target is neither linear nor a convolution.
    """
    import torch
    from peft import LoraConfig

    rank, alpha = settings.rank, settings.alpha
    config = LoraConfig(r=rank, lora_alpha=int(alpha), use_dora=settings.dora, use_rslora=settings.rslora)
    components = ("denoiser", *(base.text_components if train_text_encoder else ()))
    layers: dict[Site, Any] = {}
    with torch.random.fork_rng(devices=[]):  # peft draws initial values too; they are replaced
        for component in components:
            for path in base.family.lora_targets(base, component, settings.targets, settings.conv_rank is not None):
                module = base.component(component).get_submodule(path)
                site_rank, site_alpha = rank, alpha
                if _is_spatial(module) and settings.conv_rank is not None and settings.conv_alpha is not None:
                    site_rank, site_alpha = settings.conv_rank, settings.conv_alpha
                layers[component, path] = _peft_layer(module, config, site_rank, site_alpha, (seed, component, path))
    dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
    for layer in layers.values():
        for container in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
            container.to(base.device, dtype)
    alone = None
    if settings.dora:
        alone = "DoRA"
    elif settings.conv_rank is not None:
        alone = "convolutions (conv_rank)"
    return Adapters(layers, base.family.name, settings.rslora, alone)


def _peft_layer(module: nn.Module, config: Any, rank: int, alpha: float, stream_name: tuple[int, str, str]) -> Any:
    from peft.tuners.lora.layer import Conv2d, Linear
    from torch import nn

    if isinstance(module, nn.Linear):
        kind: Any = Linear
    elif isinstance(module, nn.Conv2d):
        kind = Conv2d
    else:
        raise ModelError(f"{stream_name[2]}: a LoRA cannot be put on a {type(module).__name__}")
    # a shallow copy shares the weights, but not the forward that packed.py replaces on the original
    layer = kind(copy.copy(module), ADAPTER, config=config, r=rank, lora_alpha=alpha)
    seed, component, path = stream_name
    down = layer.lora_A[ADAPTER].weight
    if not down.is_meta:
        start = nn.init.kaiming_uniform_(
            down.detach().cpu(), a=math.sqrt(5), generator=stream(seed, "init", component, path)
        )
        down.data.copy_(start)
    return layer


def _is_spatial(module: nn.Module) -> bool:
    kernel = getattr(module, "kernel_size", (1, 1))
    return tuple(kernel) != (1, 1)


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to("cpu", copy=True).contiguous()

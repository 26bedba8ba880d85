"""The packed forward: K LoRAs on one frozen base, each on its own rows of a run-major batch [K·B, …].

While a `PackedLayers` is active, the adapted modules of the base answer with the base's output plus each run's own
low-rank term; outside, and for everything else (merging, sampling, evaluation), the base is itself: its module tree,
names and weights are never touched, only the `forward` of adapted modules is shadowed for the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.errors import ModelError
from trainer.lora.lora import ADAPTER, Adapters, LoraModule, LoraWeights, Site
from trainer.lora.merge import delta, norms
from trainer.packing.lora_autograd import LoraLinear, LoraPointwise

if TYPE_CHECKING:
    from trainer.families.family import Base


class PackedLayers:
    """The adapters of K runs, stacked for one pass.

    Each run owns contiguous parameters in peft's own shapes. Where a run's slice of a stack is contiguous too, the
    parameter *is* that slice; otherwise (an up matrix of less than the largest rank) it is copied in by `refresh`.

    Args:
        base: the frozen base.
        members: one entry for each slot of the batch; None is an empty slot, whose rows get the base's output.
        max_rank: rank that the stacks are padded to; None takes the largest among the members. With `max_rank` and the
            number of slots fixed, a run's result does not depend on who else is in the pack.

    Raises:
        ModelError: several members, and one of them cannot share a pack.
    """

    def __init__(self, base: Base, members: Sequence[Adapters | None], *, max_rank: int | None = None) -> None:
        self.width = len(members)
        self._sites: list[PackedSite] = []
        self._forwards: dict[nn.Module, Any] = {}
        self._plain_parameters: list[nn.Parameter] = []
        present = [member for member in members if member is not None]
        if self.width > 1:
            for member in present:
                if member.alone is not None:
                    raise ModelError(f"{member.alone} cannot share a pack yet; train such a run alone")
        rank = max((layer.r[ADAPTER] for member in present for layer in member.layers.values()), default=1)
        rank = max(rank, max_rank or 0)
        for site in dict.fromkeys(site for member in present for site in member.layers):
            module = base.component(site[0]).get_submodule(site[1])
            layers = [None if member is None else member.layers.get(site) for member in members]
            if self.width == 1 and present[0].alone is not None:
                layer = present[0].layers[site]
                self._forwards[module] = layer  # peft's own forward: DoRA, convolutions
                self._plain_parameters += [p for p in layer.parameters() if p.requires_grad]
                continue
            packed = PackedSite.of_layers(module, layers, rank)
            self._sites.append(packed)
            self._forwards[module] = packed
        self._gradients = self._lay_out_gradients()

    def refresh(self) -> None:
        """Brings the stacks up to date with the runs' parameters; needed after each optimizer step."""
        targets = [view for site in self._sites for view, _ in site.copied]
        if targets:
            with torch.no_grad():
                torch._foreach_copy_(targets, [parameter for site in self._sites for _, parameter in site.copied])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within, adapted modules answer with base + LoRA; backward passes belong inside, too."""
        with _shadowed(self._forwards):
            yield

    def collect_gradients(self) -> None:
        """Hands each run's parameters their gradients (views of the stacks' where these are contiguous)."""
        for site in self._sites:
            site.collect_gradients()

    def clear_gradients(self) -> None:
        """Sets all gradients to zero, those of modules with peft's own forward to None."""
        for gradients in self._gradients:
            gradients.zero_()
        for site in self._sites:
            site.reach.reached = False
        for parameter in self._plain_parameters:
            parameter.grad = None

    @property
    def row_of_gradients(self) -> Tensor | None:
        """All gradients of a run that is alone, one after the other [n], where they lie so; else None."""
        alone = self.width == 1 and len(self._gradients) == 1 and not self._plain_parameters
        return self._gradients[0] if alone and all(site.reach.reached and site.whole for site in self._sites) else None

    def _lay_out_gradients(self) -> list[Tensor]:
        """One tensor of zeros for each dtype and device, whose parts are the gradients of the stacks."""
        stacks: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for site in self._sites:
            stacks.setdefault((site.down.dtype, site.down.device), []).extend((site.down, site.up))
        rows = []
        for (dtype, device), members in stacks.items():
            rows.append(torch.zeros(sum(stack.numel() for stack in members), dtype=dtype, device=device))
            parts = rows[-1].split([stack.numel() for stack in members])
            for stack, part in zip(members, parts, strict=True):
                stack.grad = part.view(stack.shape)
        return rows


@contextmanager
def applied(base: Base, loras: Sequence[LoraWeights | None], *, strength: float = 1.0) -> Iterator[None]:
    """Within, the base answers with the LoRAs' terms added: LoRA i on rows [i·B, (i+1)·B) of a batch of len(loras)·B.

    For bases whose weights cannot carry a merge exactly (bf16, quantised). None leaves its rows to the base.

    Raises:
        ModelError: a LoRA of another family, or one that cannot be applied (a DoRA on a quantised base; several LoRAs
            with convolutions).
    """
    forwards: dict[nn.Module, Callable[..., Tensor]] = {}
    for lora in loras:
        if lora is not None and lora.family != base.family.name:
            raise ModelError(f"a LoRA for {lora.family} cannot be applied to a {base.family.name} base")
    for site in dict.fromkeys(site for lora in loras if lora is not None for site in lora.modules):
        module = base.component(site[0]).get_submodule(site[1])
        forwards[module] = PackedSite.of_weights(module, site, loras, base, strength)
    with torch.no_grad(), _shadowed(forwards):
        yield


@contextmanager
def _shadowed(forwards: Mapping[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    for module, forward in forwards.items():
        if "forward" in module.__dict__:
            raise RuntimeError("another pack is active on this base")
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)


class _Reach:
    """Whether a backward pass has come by since gradients were cleared."""

    def __init__(self) -> None:
        self.reached = False

    def note(self, _: Tensor) -> None:
        self.reached = True


class PackedSite:
    """One adapted module: stacks down [K, rank, in] and up [K, out, rank], and how they join the module's forward."""

    def __init__(
        self,
        module: nn.Module,
        down: Tensor,
        up: Tensor,
        scales: Sequence[float],
        gains: _Gains | None = None,
        strength: float = 1.0,
    ) -> None:
        self.module, self.down, self.up = module, down, up
        self.copied: list[tuple[Tensor, Tensor]] = []
        self.reach = _Reach()
        self._handed_over = False
        self._owners: list[tuple[nn.Parameter, nn.Parameter, int, int]] = []  # down, up, slot, rank
        self.scale: float | Tensor = scales[0]
        if len(set(scales)) > 1:
            self.scale = torch.tensor(scales, device=down.device, dtype=down.dtype).view(-1, 1, 1)
        self.gains, self.strength = gains, strength
        self._plain_weight = type(module) in (nn.Linear, nn.Conv2d)
        self._linear = isinstance(module, nn.Linear)
        self._spatial = down.ndim > 3

    @classmethod
    def of_layers(cls, module: nn.Module, layers: Sequence[Any | None], rank: int) -> PackedSite:
        """The stacks of peft layers; from now on their parameters are slices of them where these are contiguous."""
        some = next(layer for layer in layers if layer is not None)
        weight = some.lora_A[ADAPTER].weight
        width, columns, rows = len(layers), weight.shape[1], some.lora_B[ADAPTER].weight.shape[0]
        down = torch.zeros(width, rank, columns, device=weight.device, dtype=weight.dtype)
        up = torch.zeros(width, rows, rank, device=weight.device, dtype=weight.dtype)
        scales = [0.0 if layer is None else float(layer.scaling[ADAPTER]) for layer in layers]
        site = cls(module, down, up, scales)
        for slot, layer in enumerate(layers):
            if layer is None:
                continue
            own = layer.r[ADAPTER]
            for parameter, view in (
                (layer.lora_A[ADAPTER].weight, down[slot, :own]),
                (layer.lora_B[ADAPTER].weight, up[slot, :, :own]),
            ):
                view.copy_(parameter.detach().view(view.shape))
                if view.is_contiguous():
                    parameter.data = view.view(parameter.shape)
                else:
                    site.copied.append((view, parameter.detach().view(view.shape)))
            site._owners.append((layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, slot, own))
        for stack in (down, up):
            stack.requires_grad_()
            # not a method of the site: stack → hook → site → stack would never be freed
            stack.register_post_accumulate_grad_hook(site.reach.note)
        return site

    @property
    def whole(self) -> bool:
        """Whether one run's parameters are all of the stacks."""
        return not self.copied and len(self._owners) == self.down.shape[0] == 1

    @classmethod
    def of_weights(
        cls, module: nn.Module, site: Site, loras: Sequence[LoraWeights | None], base: Base, strength: float
    ) -> PackedSite:
        """The stacks of saved weights, for looking, not for training."""
        parts = [None if lora is None else lora.modules.get(site) for lora in loras]
        some = next(part for part in parts if part is not None)
        rank = max(part.rank for part in parts if part is not None)
        gains = _gains(module, site, parts, base)
        # a DoRA's strengths go along the line from base to full, a LoRA's into its scale
        inside, outside = (strength, 1.0) if gains is None else (1.0, strength)
        scales = [0.0 if part is None else inside * part.alpha / part.rank for part in parts]
        dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
        if some.down.ndim == 4 and tuple(some.down.shape[2:]) != (1, 1):
            if len(loras) > 1:
                raise ModelError(f"{site[1]}: several LoRAs with convolutions cannot be applied at once")
            down, up = some.down.to(base.device, dtype), some.up.to(base.device, dtype)
            return cls(module, down, up, scales, gains, outside)
        down = torch.zeros(len(parts), rank, some.down.shape[1], device=base.device, dtype=dtype)
        up = torch.zeros(len(parts), some.up.shape[0], rank, device=base.device, dtype=dtype)
        for slot, part in enumerate(parts):
            if part is not None:
                down[slot, : part.rank] = part.down.flatten(1)
                up[slot, :, : part.rank] = part.up.flatten(1)
        return cls(module, down, up, scales, gains, outside)

    def collect_gradients(self) -> None:
        """Gives the owners views of the stacks' gradients, once; what must be contiguous is copied each time."""
        grad_down, grad_up = self.down.grad, self.up.grad
        assert grad_down is not None
        assert grad_up is not None
        reached = self.reach.reached
        for down, up, slot, rank in self._owners:
            if self._handed_over != reached:
                # not on the path to the loss: SDXL reads its first text encoder before the last layer
                down.grad = grad_down[slot, :rank].view(down.shape) if reached else None
                up.grad = grad_up[slot].view(up.shape) if reached and rank == grad_up.shape[2] else None
            if reached and rank < grad_up.shape[2]:
                # fused and 8-bit optimizers read gradients in memory order
                up.grad = grad_up[slot, :, :rank].contiguous().view(up.shape)
        self._handed_over = reached

    def add_gradients(self, down: tuple[Tensor, Tensor], up: tuple[Tensor, Tensor]) -> None:
        """Adds products of matrices, [K, …] or of the one run there is, to the gradients of the stacks."""
        self.reach.reached = True
        for stack, (left, right) in ((self.down, down), (self.up, up)):
            gradient = stack.grad if left.ndim == 3 else stack.grad[0]
            if gradient.dtype != left.dtype:
                gradient += left @ right
            elif left.ndim == 3:
                gradient.baddbmm_(left, right)
            else:
                gradient.addmm_(left, right)

    def __call__(self, x: Tensor) -> Tensor:
        module: Any = self.module
        if self.gains is not None:
            return self._with_gains(x, self.gains)
        if not self._spatial and self._plain_weight and not torch.is_autocast_enabled(x.device.type):
            run = LoraLinear if self._linear else LoraPointwise
            return run.apply(x, module.weight, module.bias, self.down, self.up, self)
        output = type(module).forward(module, x)
        return output + self._term(x, output)

    def _with_gains(self, x: Tensor, gains: _Gains) -> Tensor:
        """A DoRA: b + by output · (W + ΔW) (by input · x), at a strength between the base and that."""
        module: Any = self.module
        scaled = x if gains.by_input is None else x * self._each(gains.by_input, x)
        base = type(module).forward(module, scaled)
        plain, each = base, self._each(gains.by_output, base)
        if module.bias is not None:
            plain = base - module.bias.view(-1, *[1] * (0 if self._linear else x.ndim - 2)).to(base.dtype)
        change = (each - 1) * plain + each * self._term(scaled, base)
        if gains.by_input is None or self.strength == 1.0:
            return base + self.strength * change
        output = type(module).forward(module, x)
        return output + self.strength * (base - output + change)

    def _each(self, gains: Tensor, like: Tensor) -> Tensor:
        """Gains [K, features] for rows of the shape of `like`."""
        each = gains.to(like.dtype).repeat_interleave(like.shape[0] // len(gains), 0)
        return each.view(len(each), *(1,) * (like.ndim - 2), -1) if self._linear else each.view(*each.shape, 1, 1)

    def _term(self, x: Tensor, output: Tensor) -> Tensor:
        """The low-rank term alone, in the shape and dtype of `output`, in plain operations: for convolutions, quantised
        bases and under autocast."""
        module: Any = self.module
        if self._spatial:
            term = F.conv2d(x, self.down.to(x.dtype), None, module.stride, module.padding)
            return self.scale * F.conv2d(term, self.up.to(x.dtype))
        return self._product(x.to(output.dtype)).view(output.shape)

    def _product(self, x: Tensor) -> Tensor:
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        scale = self.scale
        if self._linear:
            grouped = x.reshape(down.shape[0], -1, x.shape[-1])
            return torch.bmm(torch.bmm(grouped, down.mT).mul_(scale), up.mT)
        grouped = x.reshape(down.shape[0], -1, *x.shape[1:]).flatten(3)  # [K, B, C, H·W]
        scale = scale[..., None] if isinstance(scale, Tensor) else scale
        return up[:, None] @ (down[:, None] @ grouped).mul_(scale)


@dataclass(frozen=True)
class _Gains:
    """Magnitude ÷ norm of W + ΔW of each DoRA of a batch, fp32; 1 for others. by_input: None where none is by input."""

    by_output: Tensor  # [K, out]
    by_input: Tensor | None  # [K, in]


def _gains(module: nn.Module, site: Site, parts: Sequence[LoraModule | None], base: Base) -> _Gains | None:
    """None where there is no DoRA."""
    doras = [part for part in parts if part is not None and part.magnitude is not None]
    if not doras:
        return None
    weight: Any = module.weight
    if type(module) not in (nn.Linear, nn.Conv2d) or not weight.is_floating_point():
        raise ModelError(f"{site[1]}: a DoRA cannot be applied to a quantised base")
    plain = weight.detach().float()
    into, out = (torch.ones(len(parts), plain.shape[axis], device=base.device) for axis in (1, 0))
    for slot, part in enumerate(parts):
        if part is not None and part.magnitude is not None:
            full = plain + delta(part, tuple(plain.shape)).to(plain)
            gains = into if part.by_input else out
            gains[slot].copy_(part.magnitude.flatten().to(plain) / norms(full, by_input=part.by_input))
    return _Gains(out, into if any(part.by_input for part in doras) else None)

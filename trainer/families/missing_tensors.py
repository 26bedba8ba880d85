"""Whether what was loaded is all there: every tensor of the architecture from the file, of its shape, finite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ModelError
from trainer.families.layout import title

if TYPE_CHECKING:
    from torch import nn

# what published text encoders hold besides: tables that are computed anew, and the other half of a CLIP or T5
_BESIDES = re.compile(
    r"(text_model\.)?(embeddings\.position_ids|position_ids|logit_scale|text_projection\..*|vision_model\..*|"
    r"visual_projection\..*|decoder\..*|lm_head\..*)"
)


def check_tensors(
    source: str | Path, part: str, model: nn.Module, missing: Iterable[str], unused: Iterable[str]
) -> list[str]:
    """What is to be said about tensors of the file that nothing asked for: one line, or none.

    Args:
        missing: names of the architecture that the file did not fill.
        unused: names in the file that the architecture does not have.

    Raises:
        ModelError: something is missing; or what is unused belongs to further layers of the same kind, so that the
            configuration is not this file's.
    """
    names = list(model.state_dict())
    lacking, over = set(missing), sorted(unused)
    missing = [name for name in names if name in lacking] + sorted(lacking.difference(names))
    if missing:
        instead = f"; its file has {len(over)} of other names, {_some(over)}" if over else ""
        raise ModelError(
            f"{title(source, part)} lacks {len(missing)} of its {len(names)} tensors: {_some(missing)}{instead}"
        )
    if part.startswith("text_encoder"):
        over = [name for name in over if not _BESIDES.fullmatch(name)]
    kinds = {_kind(name) for name in names}
    if more := [name for name in over if _kind(name) in kinds]:
        raise ModelError(
            f"{title(source, part)} has {len(more)} tensors more than its config.json has layers for: {_some(more)}"
        )
    return [f"{part}: not used of its file: {_some(over)} ({len(over)} in all)"] if over else []


def check_shapes(source: str | Path, part: str, differing: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raises ModelError when a load met tensors (name, shape in the file, shape asked for) of another shape."""
    for name, found, wanted in sorted(differing)[:1]:
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        shapes = f"{name} has the shape {list(found)}, its configuration asks for {list(wanted)}"
        raise ModelError(f"{title(source, part)}: {shapes}{more}")


def check_finite(source: str | Path, part: str, model: nn.Module) -> None:
    """Raises ModelError when a weight is not a finite number. One pass over all weights, without a copy."""
    import torch

    broken: list[str] = []
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = torch.aminmax(tensor)  # NaN wins over all numbers in both
        if low.isfinite() and high.isfinite():
            continue
        if not broken:
            kind = "NaN" if low.isnan() else "infinite values"
            half = tensor.dtype == torch.float16 and kind != "NaN"
            hint = " (in fp16: bf16 and fp32 hold larger ones)" if half else ""
        broken.append(name)
    if broken:
        raise ModelError(f"{title(source, part)} has {kind} in {len(broken)} of its tensors: {_some(broken)}{hint}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")


def _kind(name: str) -> str:
    return re.sub(r"\d+", "#", name.removeprefix("text_model."))

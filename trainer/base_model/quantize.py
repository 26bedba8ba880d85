"""A frozen denoiser in four or eight bits through bitsandbytes, for cards that cannot hold it otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import ModelError, mistake

if TYPE_CHECKING:
    import torch
    from torch import nn

_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.", "transformer_blocks.")


def quantize_linears(module: nn.Module, kind: str, dtype: torch.dtype, device: torch.device) -> int:
    """Replace the linear layers inside the denoiser's blocks by bitsandbytes layers on `device`; returns how many.

    Embeddings, the first and the last layers and all convolutions keep `dtype`: they are few and sensitive. "nf4" is
    QLoRA's data type (Dettmers et al., 2023), "int8" LLM.int8() (Dettmers et al., 2022). Each layer is quantised on its
    way to `device`: eight-bit weights that were quantised on the CPU leave their scales behind when they move on.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ModelError(
            f"quantize: {kind} needs the package bitsandbytes; leave quantize out to do without"
        ) from error

    if kind not in ("nf4", "int8"):
        raise ModelError(mistake(None, "quantize", kind, "nf4 or int8"))
    from torch import nn as torch_nn

    found = [
        path for path, layer in module.named_modules() if type(layer) is torch_nn.Linear and path.startswith(_BLOCKS)
    ]
    for path in found:
        layer = module.get_submodule(path)
        bias = layer.bias is not None
        if kind == "nf4":
            new = bitsandbytes.nn.Linear4bit(
                layer.in_features, layer.out_features, bias=bias, compute_dtype=dtype, quant_type="nf4"
            )
            new.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
        else:
            new = bitsandbytes.nn.Linear8bitLt(
                layer.in_features, layer.out_features, bias=bias, has_fp16_weights=False, threshold=6.0
            )
            new.weight = bitsandbytes.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
        if bias:
            new.bias = torch_nn.Parameter(layer.bias.data, requires_grad=False)
        module.set_submodule(path, new.to(device))
    return len(found)

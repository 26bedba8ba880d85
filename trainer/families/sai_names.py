"""Names of a U-Net's layers after the original (SAI) block numbers, and back: SD 1.x, 2.x and SDXL."""

from __future__ import annotations

import re

from trainer.families import names

_LAYERS = 3  # of input or output blocks per level: two residual blocks and a sampler, or three
_RESIDUAL = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
_RESIDUAL_BACK = {value: key for key, value in _RESIDUAL.items()}
_ENDS = {  # before and behind the blocks
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding.linear_1": "time_embed_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "add_embedding.linear_2": "label_emb_0_2",
}
_ENDS_BACK = {value: key for key, value in _ENDS.items()}


def to_sai(path: str) -> str:
    """`down_blocks.1.attentions.0.proj_in` → `input_blocks_4_1_proj_in`, as SDXL has its blocks."""
    if path in _ENDS:
        return _ENDS[path]
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(attentions|resnets)\.(\d+)\.(.+)", path):
        side, level, kind, layer, rest = found.groups()
        number = int(level) * _LAYERS + int(layer) + (1 if side == "down" else 0)
        block = f"{'input' if side == 'down' else 'output'}_blocks_{number}_{1 if kind == 'attentions' else 0}"
        return f"{block}_{names.flatten(rest) if kind == 'attentions' else _RESIDUAL[rest]}"
    if found := re.fullmatch(r"mid_block\.(attentions|resnets)\.(\d+)\.(.+)", path):
        kind, layer, rest = found.groups()
        if kind == "attentions":
            return f"middle_block_1_{names.flatten(rest)}"
        return f"middle_block_{2 * int(layer)}_{_RESIDUAL[rest]}"
    if found := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv", path):
        return f"input_blocks_{_LAYERS * (int(found.group(1)) + 1)}_0_op"
    if found := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv", path):
        return f"output_blocks_{_LAYERS * int(found.group(1)) + 2}_2_conv"
    return names.flatten(path)


def unet_path(name: str) -> str | None:
    """The path of a name after either numbering, the original's or diffusers'; None for one that no U-Net has."""
    return _from_sai(name) or names.unflatten(name, names.UNET_STARTS)


def _from_sai(name: str) -> str | None:
    if name in _ENDS_BACK:
        return _ENDS_BACK[name]
    if found := re.fullmatch(r"input_blocks_(\d+)_0_op", name):
        return f"down_blocks.{int(found.group(1)) // _LAYERS - 1}.downsamplers.0.conv"
    if found := re.fullmatch(r"output_blocks_(\d+)_[12]_conv", name):  # 1 where the level has no attention
        return f"up_blocks.{int(found.group(1)) // _LAYERS}.upsamplers.0.conv"
    if found := re.fullmatch(r"(input|output)_blocks_(\d+)_([01])_(.+)", name):
        side, number, part, rest = found.groups()
        level, layer = divmod(int(number) - (1 if side == "input" else 0), _LAYERS)
        block = f"{'down' if side == 'input' else 'up'}_blocks.{level}.{'attentions' if part == '1' else 'resnets'}"
        inner = names.unflatten(rest) if part == "1" else _RESIDUAL_BACK.get(rest)
        return None if inner is None else f"{block}.{layer}.{inner}"
    if found := re.fullmatch(r"middle_block_([012])_(.+)", name):
        part, rest = found.groups()
        if part == "1":
            inner = names.unflatten(rest)
            return None if inner is None else f"mid_block.attentions.0.{inner}"
        inner = _RESIDUAL_BACK.get(rest)
        return None if inner is None else f"mid_block.resnets.{int(part) // 2}.{inner}"
    return None

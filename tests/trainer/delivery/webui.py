"""How a WebUI with sd-webui-lora-block-weight applies `lbw=`, written from its rules apart from `trainer.delivery`.

A1111 renames each layer to the original (CompVis) name; the extension then looks for block names in that (`BLOCKS`,
`ratiodealer`), after a list of 12, 17 or 20 weights was spread over all 26 blocks with 0 for those it does not name.
"""

import re

_IN, _OUT = range(12), range(12)
ALL = ["BASE", *(f"IN{i:02d}" for i in _IN), "M00", *(f"OUT{i:02d}" for i in _OUT)]
LISTS = {
    26: ALL,
    17: [
        name for name in ALL if name not in ("IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02")
    ],
    12: ["BASE", "IN04", "IN05", "IN07", "IN08", "M00", "OUT00", "OUT01", "OUT02", "OUT03", "OUT04", "OUT05"],
    20: ["BASE", *(f"IN{i:02d}" for i in range(9)), "M00", *(f"OUT{i:02d}" for i in range(9))],
}
_MARKS = {
    **{f"diffusion_model_input_blocks_{i}_": f"IN{i:02d}" for i in _IN},
    "diffusion_model_middle_block_": "M00",
    **{f"diffusion_model_output_blocks_{i}_": f"OUT{i:02d}" for i in _OUT},
    "encoder": "BASE",
    "embedders": "BASE",
    "transformer_resblocks": "BASE",
}


def original_name(layer: str) -> str:
    """A1111's name for a layer of a LoRA (`lora_unet_…`, `lora_te_…`), as far as the block's number goes."""
    if found := re.match(r"lora_unet_down_blocks_(\d+)_(?:attentions|resnets)_(\d+)_(.+)", layer):
        return f"diffusion_model_input_blocks_{1 + 3 * int(found[1]) + int(found[2])}_x_{found[3]}"
    if found := re.match(r"lora_unet_up_blocks_(\d+)_(?:attentions|resnets)_(\d+)_(.+)", layer):
        return f"diffusion_model_output_blocks_{3 * int(found[1]) + int(found[2])}_x_{found[3]}"
    if found := re.match(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", layer):
        return f"diffusion_model_input_blocks_{3 + 3 * int(found[1])}_0_op"
    if found := re.match(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", layer):
        return f"diffusion_model_output_blocks_{2 + 3 * int(found[1])}_x_conv"
    if layer == "lora_unet_conv_in":
        return "diffusion_model_input_blocks_0_0"
    if layer.startswith("lora_unet_mid_block_"):
        return layer.replace("lora_unet_mid_block_", "diffusion_model_middle_block_")
    if layer.startswith("lora_unet_"):  # already the original one
        return layer.replace("lora_unet_", "diffusion_model_")
    if layer.startswith("lora_te2_"):
        return layer.replace("lora_te2_text_model_encoder_layers_", "1_model_transformer_resblocks_")
    return re.sub(r"lora_te1?_", "transformer_", layer)


def ratio(layer: str, lbw: str) -> float:
    """What the weights of `lbw=` multiply a layer's change with."""
    given = [float(part) for part in lbw.split(",")]
    weights = dict.fromkeys(ALL, 0.0) | dict(zip(LISTS[len(given)], given, strict=True))
    name, found = original_name(layer), 1.0
    for mark, block in _MARKS.items():
        if mark in name:
            found = weights[block]
    return found

"""A base as one state dict in the original (LDM / SGM) layout: the inverse of diffusers' single-file loader."""

import torch
from torch import Tensor

from trainer.families.family import Base

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def to_original_format(base: Base) -> dict[str, Tensor]:
    """Keys as in `v1-5-pruned.safetensors` or `sd_xl_base_1.0.safetensors`."""
    tensors = {
        f"model.diffusion_model.{_unet_key(key, base)}": value for key, value in base.denoiser.state_dict().items()
    }
    levels = len(base.vae.config.block_out_channels)
    tensors |= {f"first_stage_model.{_vae_key(key, levels)}": value for key, value in base.vae.state_dict().items()}
    first = "cond_stage_model" if len(base.text_encoders) == 1 else "conditioner.embedders.0"
    for key, value in base.text_encoders[0].state_dict().items():
        tensors[f"{first}.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    if len(base.text_encoders) == 2:
        tensors |= _open_clip(base.text_encoders[1].state_dict())
    return {key: value.clone().contiguous() for key, value in tensors.items()}


def _unet_key(key: str, base: Base) -> str:
    layers = base.denoiser.config.layers_per_block + 1
    parts = key.split(".")
    if parts[0] in ("down_blocks", "up_blocks"):
        side = "input_blocks" if parts[0] == "down_blocks" else "output_blocks"
        level, kind, layer, rest = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
        number = level * layers + layer + (1 if side == "input_blocks" else 0)
        if kind == "downsamplers":
            return f"{side}.{(level + 1) * layers}.0.op.{parts[-1]}"
        if kind == "upsamplers":
            block = base.denoiser.up_blocks[level]
            place = 2 if getattr(block, "attentions", None) else 1
            return f"{side}.{level * layers + layers - 1}.{place}.conv.{parts[-1]}"
        return f"{side}.{number}.{'1.' + rest if kind == 'attentions' else '0.' + _residual(rest)}"
    if parts[0] == "mid_block":
        rest = ".".join(parts[3:])
        if parts[1] == "attentions":
            return f"middle_block.1.{rest}"
        return f"middle_block.{2 * int(parts[2])}.{_residual(rest)}"
    outer, leaf = key.rsplit(".", 1)
    return f"{_OUTER[outer]}.{leaf}"


def _residual(rest: str) -> str:
    name, leaf = rest.rsplit(".", 1)
    return f"{_RESIDUAL[name]}.{leaf}"


def _vae_key(key: str, levels: int) -> str:
    side = key.split(".")[0]
    for level in range(levels):
        key = key.replace(f"encoder.down_blocks.{level}.resnets", f"encoder.down.{level}.block")
        key = key.replace(f"encoder.down_blocks.{level}.downsamplers.0", f"encoder.down.{level}.downsample")
        key = key.replace(f"decoder.up_blocks.{level}.resnets", f"decoder.up.{levels - 1 - level}.block")
        key = key.replace(f"decoder.up_blocks.{level}.upsamplers.0", f"decoder.up.{levels - 1 - level}.upsample")
    for index in range(2):
        key = key.replace(f"{side}.mid_block.resnets.{index}", f"{side}.mid.block_{index + 1}")
    key = key.replace(f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1")
    if ".attn_1." in key:
        for ours, theirs in (
            ("group_norm", "norm"),
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "proj_out"),
        ):
            key = key.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def _open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "conditioner.embedders.1.model."
    tensors = {
        prefix + "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        prefix + "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        prefix + "ln_final.weight": state["text_model.final_layer_norm.weight"],
        prefix + "ln_final.bias": state["text_model.final_layer_norm.bias"],
        prefix + "text_projection": state["text_projection.weight"].T,
    }
    renamed = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    layers = 1 + max(int(key.split(".")[3]) for key in state if ".layers." in key)
    for layer in range(layers):
        source = f"text_model.encoder.layers.{layer}."
        block = f"{prefix}transformer.resblocks.{layer}."
        for leaf in ("weight", "bias"):
            parts = [state[f"{source}self_attn.{name}_proj.{leaf}"] for name in "qkv"]
            tensors[f"{block}attn.in_proj_{leaf}"] = torch.cat(parts)
            tensors[f"{block}attn.out_proj.{leaf}"] = state[f"{source}self_attn.out_proj.{leaf}"]
            for ours, theirs in renamed.items():
                tensors[f"{block}{theirs}.{leaf}"] = state[f"{source}{ours}.{leaf}"]
    return tensors

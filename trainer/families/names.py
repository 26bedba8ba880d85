"""kohya's flat module names and back: dots become underscores, which only a list of the known words can undo."""

from __future__ import annotations

import re

# fmt: off
_WORDS = (
    "down_blocks", "up_blocks", "mid_block", "attentions", "resnets", "transformer_blocks", "downsamplers",
    "upsamplers", "attn1", "attn2", "attn", "to_q", "to_k", "to_v", "to_out", "to_add_out", "add_q_proj",
    "add_k_proj", "add_v_proj", "ff", "ff_context", "net", "proj", "proj_in", "proj_out", "conv", "conv1",
    "conv2", "conv_shortcut", "time_emb_proj", "text_model", "encoder", "layers", "self_attn", "q_proj",
    "k_proj", "v_proj", "out_proj", "mlp", "fc1", "fc2", "text_projection", "conv_in", "conv_out", "time_embedding",
    "add_embedding", "linear", "linear_1", "linear_2", "pos_embed", "context_embedder", "time_text_embed",
    "timestep_embedder", "text_embedder", "norm1", "norm1_context", "norm_out",
)
# fmt: on
UNET_STARTS = ("down_blocks", "up_blocks", "mid_block", "conv_in", "conv_out", "time_embedding", "add_embedding")
"""First words of the paths in a U-Net, as diffusers names them."""
_TOKEN = re.compile("(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r"|\d+)(?:_|$)")


def flatten(path: str) -> str:
    """`down_blocks.0.attentions.1.proj_in` → `down_blocks_0_attentions_1_proj_in`."""
    return path.replace(".", "_")


def unflatten(name: str, starts: tuple[str, ...] = ("",)) -> str | None:
    """`down_blocks_0_attentions_1_proj_in` → `down_blocks.0.attentions.1.proj_in`; None when a word is not known, or
    the first one is none of `starts`."""
    if not name.startswith(starts):
        return None
    words, position = [], 0
    while position < len(name):
        token = _TOKEN.match(name, position)
        if token is None:
            return None
        words.append(token.group(1))
        position = token.end()
    return ".".join(words)


def text_name(prefix: str, path: str) -> str:
    """Name of a module in a CLIP text encoder; `text_model` is always part of kohya's name, not always of the path. The
    projection lies beside it."""
    beside = path.startswith("text_model.") or path == "text_projection"
    return prefix + flatten(path if beside else f"text_model.{path}")

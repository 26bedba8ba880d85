"""SDXL's U-Net in the original numbering of blocks, as sgm and kohya name it."""

import pytest

from trainer.families.sai_names import to_sai, unet_path

# counted by hand in sgm's openaimodel.py, with SDXL's three levels and attention in the second and third
PAIRS = (
    ("conv_in", "input_blocks_0_0"),
    ("conv_out", "out_2"),
    ("time_embedding.linear_1", "time_embed_0"),
    ("time_embedding.linear_2", "time_embed_2"),
    ("add_embedding.linear_1", "label_emb_0_0"),
    ("add_embedding.linear_2", "label_emb_0_2"),
    ("down_blocks.0.resnets.0.conv1", "input_blocks_1_0_in_layers_2"),
    ("down_blocks.0.resnets.1.conv2", "input_blocks_2_0_out_layers_3"),
    ("down_blocks.0.downsamplers.0.conv", "input_blocks_3_0_op"),
    ("down_blocks.1.resnets.0.conv_shortcut", "input_blocks_4_0_skip_connection"),
    ("down_blocks.1.attentions.0.proj_in", "input_blocks_4_1_proj_in"),
    ("down_blocks.1.attentions.1.proj_out", "input_blocks_5_1_proj_out"),
    ("down_blocks.1.downsamplers.0.conv", "input_blocks_6_0_op"),
    ("down_blocks.2.resnets.0.time_emb_proj", "input_blocks_7_0_emb_layers_1"),
    (
        "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
        "input_blocks_8_1_transformer_blocks_9_attn2_to_out_0",
    ),
    ("mid_block.resnets.0.conv1", "middle_block_0_in_layers_2"),
    ("mid_block.attentions.0.proj_in", "middle_block_1_proj_in"),
    ("mid_block.resnets.1.conv2", "middle_block_2_out_layers_3"),
    ("up_blocks.0.resnets.0.conv1", "output_blocks_0_0_in_layers_2"),
    (
        "up_blocks.0.attentions.2.transformer_blocks.0.ff.net.0.proj",
        "output_blocks_2_1_transformer_blocks_0_ff_net_0_proj",
    ),
    ("up_blocks.0.upsamplers.0.conv", "output_blocks_2_2_conv"),
    ("up_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q", "output_blocks_3_1_transformer_blocks_1_attn1_to_q"),
    ("up_blocks.1.upsamplers.0.conv", "output_blocks_5_2_conv"),
    ("up_blocks.2.resnets.2.conv_shortcut", "output_blocks_8_0_skip_connection"),
)


@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_each_part_has_its_original_name_and_comes_back_from_it(path: str, name: str) -> None:
    assert to_sai(path) == name
    assert unet_path(name) == path
    assert unet_path(path.replace(".", "_")) == path, "diffusers' own numbering is read, too"


def test_an_upsampler_of_a_level_without_attention_is_its_blocks_second_part() -> None:
    assert unet_path("output_blocks_2_1_conv") == "up_blocks.0.upsamplers.0.conv"


@pytest.mark.parametrize(
    "name",
    [
        "input_blocks_4_0_wrong",
        "middle_block_0_wrong",
        "middle_block_3_in_layers_2",
        "input_blocks_4_2_proj_in",
        "other",
        "",
    ],
)
def test_a_name_of_no_part_gives_none(name: str) -> None:
    assert unet_path(name) is None

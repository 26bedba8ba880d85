"""LoRA files for other bases, and whole models, told by their keys alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainer.errors import ModelError
from trainer.lora.architectures import check_lora, families_of, family_of
from trainer.lora.key_styles import kohya_key

DOWN = ".lora_down.weight"
# as the code of sd-scripts 48d368f, ai-toolkit 27a03a9, musubi-tuner 30c658c and SimpleTuner bc8e6ab names them
OTHERS = [
    ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "FLUX"),  # sd-scripts
    ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "FLUX"),  # ai-toolkit, SimpleTuner
    ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", "SD3 in its original layout"),  # sd-scripts
    ("diffusion_model.joint_blocks.0.context_block.attn.qkv.lora_A.weight", "SD3 in its original layout"),  # OneTrainer
    ("lora_unet_blocks_0_cross_attn_k.lora_down.weight", "Wan"),  # musubi-tuner
    ("diffusion_model.blocks.0.self_attn.q.lora_A.weight", "Wan"),
    ("lora_unet_transformer_blocks_0_img_mlp_net_0_proj.lora_down.weight", "Qwen-Image"),  # musubi-tuner
    ("diffusion_model.transformer_blocks.0.img_mod.1.lora_A.weight", "Qwen-Image"),  # ai-toolkit
    ("transformer.transformer_blocks.38.attn.to_q.lora_A.weight", "Qwen-Image, or another base"),  # SimpleTuner
    ("diffusion_model.transformer_blocks.59.attn.to_out.0.lora_A.weight", "Qwen-Image, or another base"),
    ("diffusion_model.layers.0.attention.to_q.lora_A.weight", "Lumina or Z-Image"),  # ai-toolkit
    ("lora_unet_layers_0_feed_forward_w1.lora_down.weight", "Lumina or Z-Image"),  # musubi-tuner
    ("lora_unet_context_refiner_0_attention_qkv.lora_down.weight", "Lumina or Z-Image"),  # sd-scripts
    ("transformer.noise_refiner.0.attn.to_q.lora_A.weight", "Lumina or Z-Image"),  # SimpleTuner
    ("transformer.layers.25.attn.to_out.0.lora_A.weight", "Lumina or Z-Image"),
    ("lora_unet_blocks_0_self_attn_q_proj.lora_down.weight", "Anima"),  # sd-scripts
    ("transformer.core.transformer_blocks.0.attn1.to_q.lora_A.weight", "Anima"),  # SimpleTuner
    ("transformer.blocks.0.attn1.to_q.lora_A.weight", "Wan"),  # SimpleTuner
    ("transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", "PixArt, Sana, LTX-Video, Cosmos"),  # SimpleTuner
    ("transformer.context_embedder.token_refiner.refiner_blocks.0.attn.to_q.lora_A.weight", "HunyuanVideo"),
    ("transformer.text_fusion.layerwise_blocks.0.attn.to_q.lora_A.weight", "Krea 2"),
    ("transformer.layers.0.self_attn.add_q_proj.lora_A.weight", "none has any of its 1 tensors"),
    ("lora_unet_something_new_0.lora_down.weight", "none has any of its 1 tensors"),
]


@pytest.mark.parametrize(("key", "kind"), OTHERS)
def test_a_lora_for_another_base_is_told_by_name(key: str, kind: str) -> None:
    with pytest.raises(
        ModelError, match=r"it\.safetensors: expected a LoRA for SD 1\.x, SDXL or SD3, got one for"
    ) as e:
        check_lora("it.safetensors", [key])
    assert kind in str(e.value)
    assert key in str(e.value)


@pytest.mark.parametrize(
    "key",
    [
        "transformer.transformer_blocks.37.attn.to_q.lora_A.weight",
        "transformer.transformer_blocks.0.attn2.to_out.0.lora_A.weight",
        "diffusion_model.transformer_blocks.0.attn.to_q.lora_A.weight",  # SimpleTuner's `lora_format: comfyui`
        "transformer.context_embedder.lora_A.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "lora_unet_time_embedding_linear_1.lora_down.weight",
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
    ],
)
def test_a_lora_for_a_base_of_ours_is_none_for_another(key: str) -> None:
    check_lora("it.safetensors", [key])
    name = (kohya_key(key) or "").partition(".")[0]
    assert (family_of([name]) == "sd3") == key.startswith(("transformer.", "diffusion_model.transformer"))


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.input_blocks.1.1.proj_in.weight",
        "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
        "double_blocks.0.img_attn.qkv.weight",
        "down_blocks.0.attentions.0.proj_in.weight",
        "layers.0.adaLN_modulation.0.bias",  # Z-Image
        "blocks.0.attn1.norm_k.weight",  # Wan
    ],
)
def test_a_whole_model_is_told_from_a_lora(key: str) -> None:
    with pytest.raises(ModelError, match=r"expected a LoRA .*, got a whole model \(.*, for one\)"):
        check_lora("it.safetensors", [key])


@pytest.mark.parametrize(
    ("names", "possible", "chosen"),
    [
        (["lora_transformer_transformer_blocks_0_attn_to_q"], {"sd3"}, "sd3"),
        (["lora_te2_text_model_encoder_layers_0_mlp_fc1"], {"sdxl"}, "sdxl"),
        (["lora_unet_input_blocks_7_1_transformer_blocks_4_attn1_to_q"], {"sdxl"}, "sdxl"),
        (["lora_unet_input_blocks_4_1_proj_in", "lora_unet_input_blocks_1_1_proj_in"], {"sd15"}, "sd15"),
        (["lora_unet_output_blocks_11_1_proj_in"], {"sd15"}, "sd15"),
        (["lora_unet_output_blocks_8_0_in_layers_2"], {"sd15", "sdxl"}, "sdxl"),
        (["lora_unet_down_blocks_0_attentions_0_proj_in"], {"sd15"}, "sd15"),
        (["lora_unet_down_blocks_1_attentions_0_proj_in"], {"sd15", "sdxl"}, "sd15"),
        (["lora_te_text_model_encoder_layers_0_mlp_fc1"], {"sd15"}, "sd15"),
    ],
)
def test_the_families_that_have_all_layers(names: list[str], possible: set[str], chosen: str) -> None:
    assert families_of(names) == possible
    assert family_of(names) == chosen


def test_the_command_tells_it_before_torch_is_loaded(tmp_path: Path) -> None:
    save_file({OTHERS[0][0]: np.zeros((2, 2), np.float32)}, tmp_path / "it.safetensors")
    code = "import sys; from trainer.deliver import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "it.safetensors"), "--clean"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "it.safetensors: expected a LoRA for SD 1.x, SDXL or SD3, got one for FLUX" in done.stderr
    assert not (tmp_path / "it-delivered.safetensors").exists()

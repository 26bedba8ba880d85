"""Names of layers in LoRA files, and which layers of an encoder have one."""

from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.base_model.load import load_base
from trainer.families import clip, names, sd3


@pytest.mark.parametrize(
    ("name", "starts", "path"),
    [
        ("down_blocks_0_attentions_1_proj_in", ("",), "down_blocks.0.attentions.1.proj_in"),
        ("to_out_0", ("",), "to_out.0"),
        ("ff_context_net_0_proj", ("ff",), "ff_context.net.0.proj"),
        ("to_out_0", ("down_blocks", "to_"), "to_out.0"),
        ("to_out_0", ("down_blocks",), None),
        ("to_out_x", ("",), None),
        ("to_outer", ("",), None),
        ("", ("",), ""),
    ],
)
def test_a_flat_name_is_undone_by_its_words(name: str, starts: tuple[str, ...], path: str | None) -> None:
    assert names.unflatten(name, starts) == path
    assert path is None or names.flatten(path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("encoder.layers.3.mlp.fc1", "p_text_model_encoder_layers_3_mlp_fc1"),
        ("text_model.encoder.layers.3.mlp.fc1", "p_text_model_encoder_layers_3_mlp_fc1"),
        ("text_projection", "p_text_projection"),
    ],
)
def test_kohyas_names_of_text_layers_begin_with_the_text_model(path: str, name: str) -> None:
    assert names.text_name("p_", path) == name


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict({name: nn.Linear(2, 2) for name in (*clip.ATTENTION, "other")})
        self.mlp = nn.ModuleDict({name: nn.Linear(2, 2) for name in clip.MLP})


def test_the_projections_of_an_encoders_layers_are_covered_in_their_order() -> None:
    encoder = nn.ModuleDict({"layers": nn.ModuleList([_Layer(), _Layer()]), "q_proj": nn.Linear(2, 2)})
    attention = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    every = [*attention, "mlp.fc1", "mlp.fc2"]
    for targets, wanted in (("attention", attention), ("kohya", every)):
        paths = [f"layers.{number}.{path}" for number in range(2) for path in wanted]
        assert clip.linears(encoder, targets) == paths
        inner = nn.ModuleDict({"text_model": nn.ModuleDict({"encoder": encoder})})
        assert clip.linears(inner, targets) == [f"text_model.encoder.{path}" for path in paths]


def test_a_wrapped_layer_counts_once_as_the_layer_in_it() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Conv2d(1, 1, 1)
            self.lora_down = nn.Linear(1, 1)

    root = nn.ModuleDict({"one": Wrapper(), "norm": nn.LayerNorm(2), "two": nn.Linear(1, 1)})
    found = dict(clip.layers(root))
    assert list(found) == ["one", "two"]
    assert found["one"] is root["one"].base_layer
    assert found["two"] is root["two"]


def test_prompts_longer_than_the_encoder_reads_are_counted(tiny_sd15: Path) -> None:
    base = load_base(tiny_sd15)
    tokenizer, encoder = base.tokenizers[0], base.text_encoders[0]
    most = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    word = " a"
    one = len(tokenizer(word * 2).input_ids) - len(tokenizer(word).input_ids)
    fits = (most - len(tokenizer("").input_ids)) // one
    lengths = (0, fits, fits + 1, fits + 20)
    assert clip.count_long_prompts(base, [word * length for length in lengths]) == 2
    encoder.config.max_position_embeddings -= one
    assert clip.count_long_prompts(base, [word * fits]) == 1
    tokenizer.model_max_length = 1
    assert clip.count_long_prompts(base, [""]) == 1


def test_of_sd3_the_joint_blocks_are_covered_and_its_third_encoder_never(tiny_sd3: Path) -> None:
    base = load_base(tiny_sd3)
    attention = sd3.lora_targets(base, "denoiser", "attention", False)
    every = sd3.lora_targets(base, "denoiser", "kohya", False)
    joint = [path for path, _ in clip.layers(base.denoiser) if path.startswith("transformer_blocks.")]
    assert attention == [path for path in joint if ".attn" in path and "norm" not in path]
    assert every == [path for path in joint if "norm" not in path]
    assert len(every) > len(attention) > 0
    for component in ("text_encoder_0", "text_encoder_1"):
        for targets in ("kohya", "attention"):
            found = sd3.lora_targets(base, component, targets, False)
            assert found == clip.linears(base.component(component), targets)
            assert found
    assert sd3.lora_targets(base, "text_encoder_2", "kohya", False) == []
    assert sd3.kohya_name("text_encoder_1", "text_projection") == "lora_te2_text_projection"


def test_sd3s_samplers_keep_the_bases_shift(tiny_sd3: Path) -> None:
    base = load_base(tiny_sd3)
    base.noise_scheduler.register_to_config(shift=2.5)
    for name, stochastic in (("ddim", False), ("euler_a", True)):
        config = sd3.sampler(base, name).config
        assert (config.shift, config.stochastic_sampling) == (2.5, stochastic)
    for name in ("dpmpp_2m", "unipc"):
        config = sd3.sampler(base, name).config
        assert (config.flow_shift, config.solver_order) == (2.5, 2)
        assert (config.use_flow_sigmas, config.prediction_type) == (True, "flow_prediction")
    assert sd3.sampler(base, "dpmpp_2m").config.algorithm_type == "dpmsolver++"
    assert torch.equal(sd3.loss_weight(base, torch.tensor([1.0, 9.0]), 5.0), torch.ones(2))

"""Families: each agrees with diffusers' own pipeline, and covers kohya's modules under kohya's names."""

import copy
import dataclasses

import pytest
import torch

from benchmarks.parity.ours import full_size_base
from tests.messages import refusal
from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.families.family import Base


@pytest.fixture(scope="module")
def bases(tiny_sd15, tiny_sdxl, tiny_sd3) -> dict[str, Base]:
    return {path.name.removeprefix("tiny-"): load_base(path) for path in (tiny_sd15, tiny_sdxl, tiny_sd3)}


@pytest.mark.parametrize(
    ("family", "parameters"),
    [("sd15", (859_520_964, 83_653_863, 123_060_480)), ("sdxl", (2_567_463_684, 83_653_863, 123_060_480, 694_659_840))],
)
def test_the_shipped_configs_are_the_published_architectures(family: str, parameters: tuple[int, ...]) -> None:
    base = full_size_base(family)
    modules = [base.denoiser, base.vae, *base.text_encoders]
    assert tuple(sum(p.numel() for p in module.parameters()) for module in modules) == parameters


@pytest.mark.parametrize(("family", "counts"), [("sd15", (192, 72)), ("sdxl", (722, 72, 192))])
def test_lora_covers_kohyas_modules_at_full_size(family: str, counts: tuple[int, ...]) -> None:
    base = full_size_base(family)
    components = ("denoiser", *base.text_components)
    found = {component: base.family.lora_targets(base, component, "kohya", False) for component in components}
    assert tuple(len(paths) for paths in found.values()) == counts
    names = [base.family.kohya_name(component, path) for component, paths in found.items() for path in paths]
    assert len(set(names)) == sum(counts)
    for component, paths in found.items():
        for path in paths:
            assert base.family.module_path(base.family.kohya_name(component, path)) == (component, path)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_convolution_names_come_back_too(family: str) -> None:
    base = full_size_base(family)
    paths = base.family.lora_targets(base, "denoiser", "kohya", True)
    assert any(path.endswith("downsamplers.0.conv") for path in paths)
    names = [base.family.kohya_name("denoiser", path) for path in paths]
    assert [base.family.module_path(name) for name in names] == [("denoiser", path) for path in paths]


@pytest.mark.parametrize(
    ("family", "component", "path", "name"),
    [
        ("sd15", "denoiser", "mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in"),
        (
            "sd15",
            "denoiser",
            "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj",
        ),
        (
            "sd15",
            "text_encoder_0",
            "encoder.layers.0.self_attn.q_proj",
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
        ),
        (
            "sdxl",
            "denoiser",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        ),
        (
            "sdxl",
            "denoiser",
            "up_blocks.1.attentions.2.proj_out",
            "lora_unet_output_blocks_5_1_proj_out",
        ),
        ("sdxl", "denoiser", "mid_block.resnets.1.conv1", "lora_unet_middle_block_2_in_layers_2"),
        ("sdxl", "denoiser", "down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"),
        ("sdxl", "denoiser", "up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_2_conv"),
        (
            "sdxl",
            "text_encoder_1",
            "text_model.encoder.layers.31.mlp.fc1",
            "lora_te2_text_model_encoder_layers_31_mlp_fc1",
        ),
    ],
)
def test_names_are_kohyas(family: str, component: str, path: str, name: str) -> None:
    assert FAMILIES[family].kohya_name(component, path) == name


def test_attention_targets_are_the_projections_only(bases) -> None:
    base = bases["sd15"]
    paths = base.family.lora_targets(base, "denoiser", "attention", False)
    assert {path.rsplit(".", 2)[-1] if not path.endswith("out.0") else "to_out.0" for path in paths} == {
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
    }


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_prompts_are_encoded_as_the_pipeline_does(name: str, bases) -> None:
    base = bases[name]
    pipeline = base.family.pipeline(base, "ddim")
    prompts = ["a photo of sks toy", "snow"]
    with torch.no_grad():
        ours = base.family.encode_prompts(base, prompts)
        if name == "sd15":
            theirs, _ = pipeline.encode_prompt(prompts, "cpu", 1, False)
        elif name == "sdxl":
            theirs, _, pooled, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        else:
            theirs, _, pooled, _ = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
    torch.testing.assert_close(ours["prompt_embeds"], theirs)
    if name != "sd15":
        torch.testing.assert_close(ours["pooled_prompt_embeds"], pooled)


def test_clip_skip_counts_as_kohya_does(bases) -> None:
    base = bases["sd15"]
    short = copy.deepcopy(base.text_encoders[0])
    short.encoder.layers = short.encoder.layers[:-1]  # an encoder that never had its last layer
    with torch.no_grad():
        ours = base.family.encode_prompts(base, ["a toy"], clip_skip=2)["prompt_embeds"]
        shorter = dataclasses.replace(base, text_encoders=[short])
        theirs = base.family.encode_prompts(shorter, ["a toy"])["prompt_embeds"]
        last = base.family.encode_prompts(base, ["a toy"], clip_skip=1)["prompt_embeds"]
    torch.testing.assert_close(ours, theirs)
    assert (ours - last).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_latents_go_through_the_vae_and_back_in_the_denoisers_scale(name: str, bases) -> None:
    base = bases[name]
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = base.family.encode_images(base, pixels)
    with torch.no_grad():
        posterior = base.vae.encode(pixels).latent_dist
        shift = getattr(base.vae.config, "shift_factor", None) or 0.0
        drawn = (posterior.sample(torch.Generator().manual_seed(1)) - shift) * base.vae.config.scaling_factor
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(mean + std * noise, drawn)
        torch.testing.assert_close(
            base.family.decode_latents(base, mean), base.vae.decode(posterior.mean).sample, atol=1e-5, rtol=1e-5
        )


def test_noise_and_targets_are_diffusers_own(tiny_sd15, tiny_sd15_v) -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([0, 500, 999])
    for path in (tiny_sd15, tiny_sd15_v):
        base = load_base(path)
        scheduler, family = base.noise_scheduler, base.family
        torch.testing.assert_close(
            family.add_noise(base, latents, noise, timesteps), scheduler.add_noise(latents, noise, timesteps)
        )
        velocity = scheduler.config.prediction_type == "v_prediction"
        expected = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
        torch.testing.assert_close(family.target(base, latents, noise, timesteps), expected)


def test_zero_terminal_snr_is_honoured(tiny_sd15_v) -> None:
    base = load_base(tiny_sd15_v)
    assert base.noise_scheduler.alphas_cumprod[-1] < 1e-6
    assert base.family.loss_weight(base, torch.tensor([999, 10]), 5.0).isfinite().all()
    assert base.family.sampler(base, "dpmpp_2m").config.rescale_betas_zero_snr


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_a_sampler_that_there_is_not_is_refused_with_the_nearest_name(name: str, request) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    with pytest.raises(ModelError, match=refusal("scheduler", "dmp", "dpmpp_2m")):
        base.family.sampler(base, "dmp")


def test_min_snr_weights_follow_the_paper(tiny_sd15, tiny_sd15_v) -> None:
    timesteps = torch.tensor([1, 300, 900])
    for path, plus in ((tiny_sd15, 0.0), (tiny_sd15_v, 1.0)):
        base = load_base(path)
        alphas = base.noise_scheduler.alphas_cumprod[timesteps].double()
        snr = alphas / (1 - alphas)
        expected = torch.minimum(snr, torch.tensor(5.0)) / (snr + plus)
        found = base.family.loss_weight(base, timesteps, 5.0).double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert base.family.loss_weight(base, timesteps, None).tolist() == [1, 1, 1]


def test_debiased_weights_are_those_of_sd_scripts(tiny_sd15, tiny_sd15_v) -> None:
    timesteps = torch.tensor([0, 1, 300, 900])
    for path in (tiny_sd15, tiny_sd15_v):
        base = load_base(path)
        alphas = base.noise_scheduler.alphas_cumprod[timesteps].double()
        snr = (alphas / (1 - alphas)).clamp(max=1000)
        velocity = base.noise_scheduler.config.prediction_type == "v_prediction"
        expected = 1 / (snr + 1) if velocity else snr**-0.5
        found = base.family.loss_weight(base, timesteps, None, debiased_estimation=True).double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        both = base.family.loss_weight(base, timesteps, 5.0, debiased_estimation=True).double()
        torch.testing.assert_close(both, expected * base.family.loss_weight(base, timesteps, 5.0), rtol=1e-4, atol=1e-6)


def test_a_debiased_loss_weighs_an_error_of_the_image_as_the_error_of_the_noise_that_it_is(tiny_sd15) -> None:
    base, timesteps = load_base(tiny_sd15), torch.arange(0, 1000, 50)
    alphas = base.noise_scheduler.alphas_cumprod[timesteps]
    for gamma in (None, 5.0):
        of_noise = base.family.loss_weight(base, timesteps, gamma, debiased_estimation=True)
        base.noise_scheduler.register_to_config(prediction_type="sample")
        of_image = base.family.loss_weight(base, timesteps, gamma, debiased_estimation=True)
        base.noise_scheduler.register_to_config(prediction_type="epsilon")
        torch.testing.assert_close(of_image, of_noise * alphas / (1 - alphas), rtol=1e-4, atol=1e-6)


def test_a_debiased_loss_is_finite_where_nothing_but_noise_is_seen(tiny_sd15_v) -> None:
    base, last = load_base(tiny_sd15_v), torch.tensor([999])
    weights = {}
    for kind in ("v_prediction", "epsilon", "sample"):
        base.noise_scheduler.register_to_config(prediction_type=kind)
        base.noise_scheduler.alphas_cumprod[-1] = 0.0
        weights[kind] = base.family.loss_weight(base, last, None, debiased_estimation=True).item()
    assert weights == {"v_prediction": 1.0, "epsilon": 0.0, "sample": 0.0}


def test_flow_matching_follows_the_straight_path(bases) -> None:
    base = bases["sd3"]
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 16, 8, 8, generator=generator)
    timesteps = torch.tensor([250.0, 1000.0])
    noisy = base.family.add_noise(base, latents, noise, timesteps)
    torch.testing.assert_close(noisy[0], 0.75 * latents[0] + 0.25 * noise[0])
    torch.testing.assert_close(noisy[1], noise[1])
    # one Euler step of the true velocity from noise lands on the image
    torch.testing.assert_close(noisy[1] - base.family.target(base, latents, noise, timesteps)[1], latents[1])


@pytest.mark.parametrize("name", ["sd15", "sd3"])
def test_fixed_timesteps_are_quantiles_of_the_training_distribution(name: str, bases) -> None:
    base = bases[name]
    drawn = base.family.sample_timesteps(base, 40_000, torch.Generator().manual_seed(0)).double()
    fixed = base.family.fixed_timesteps(base, 8).double()
    expected = torch.quantile(drawn, (torch.arange(8, dtype=torch.float64) + 0.5) / 8)
    torch.testing.assert_close(fixed, expected, atol=8.0, rtol=0)

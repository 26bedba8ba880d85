"""Merging: the effect of the adapters, and not a bit of it left afterwards."""

import pytest
import torch

from tests.trainer.lora.made_loras import random_lora
from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.lora.merge import check_fits, merged
from trainer.packing.packed_layers import applied


def all_weights(base) -> dict[str, torch.Tensor]:
    modules = {"denoiser": base.denoiser, **{name: base.component(name) for name in base.text_components}}
    return {f"{m}.{key}": value.clone() for m, module in modules.items() for key, value in module.state_dict().items()}


def predict(base, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    channels = base.vae.config.latent_channels
    with torch.no_grad():
        conditioning = base.family.encode_prompts(base, ["a photo of sks toy", "snow"])
        conditioning |= base.family.size_conditioning(base, (64, 64), (0, 0), (64, 64), 2)
        noisy = torch.randn(2, channels, 16, 16, generator=generator)
        return base.family.predict(base, noisy, torch.tensor([100, 800]), conditioning)


def test_a_lora_for_an_encoder_that_the_base_does_not_have_is_refused(tiny_sd15, tiny_sdxl) -> None:
    second = {site: one for site, one in random_lora(load_base(tiny_sdxl)).modules.items() if site[0][-1] == "1"}
    assert second
    with pytest.raises(ModelError, match=r"text_encoder_1, which .* does not have"):
        check_fits(load_base(tiny_sd15), LoraWeights(second, "sd15"))


@pytest.mark.parametrize(("name", "strength"), [("sd15", 1.0), ("sd15", 0.35), ("sdxl", 0.35), ("sd3", 0.35)])
def test_merged_and_adapter_outputs_agree(name: str, strength: float, request) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    lora = random_lora(base, alpha=1.0)
    plain = predict(base)
    with merged(base, lora, strength):
        inside = predict(base)
    with applied(base, [lora], strength=strength):
        beside = predict(base)
    torch.testing.assert_close(inside, beside, rtol=1e-4, atol=1e-5)
    assert (inside - plain).abs().mean() > 1e-2
    torch.testing.assert_close(predict(base), plain, rtol=0, atol=0)


def test_merging_is_pefts_merge(tiny_sd15) -> None:
    """peft's own layers, merged by peft, give the same weights; convolutions and DoRA included."""
    from tests.trainer.packs import create_adapters

    for options in ({"conv_rank": 2, "conv_alpha": 1.0}, {"dora": True}):
        base = load_base(tiny_sd15)
        adapters = create_adapters(base, rank=4, alpha=2.0, **options)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in adapters.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        lora = adapters.weights()
        with merged(base, lora):
            ours = {site: base.component(site[0]).get_submodule(site[1]).weight.clone() for site in lora.modules}
        for site, layer in adapters.layers.items():
            theirs = layer.get_base_layer().weight + layer.get_delta_weight("default")
            if options.get("dora"):
                magnitude = layer.lora_magnitude_vector["default"].weight.flatten()
                theirs = theirs * (magnitude / theirs.flatten(1).norm(dim=1)).view(-1, *[1] * (theirs.ndim - 1))
            torch.testing.assert_close(ours[site], theirs.detach(), rtol=1e-5, atol=1e-6)


def test_many_merges_leave_no_trace(tiny_sd15) -> None:
    base = load_base(tiny_sd15)
    lora = random_lora(base)
    before = all_weights(base)
    for turn in range(20):
        with merged(base, lora, strength=0.1 + 0.085 * turn):
            pass
    after = all_weights(base)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_weights_come_back_after_an_error(tiny_sd15) -> None:
    base = load_base(tiny_sd15)
    before = all_weights(base)

    def fail_inside() -> None:
        with merged(base, random_lora(base)):
            assert any(not torch.equal(before[key], value) for key, value in all_weights(base).items())
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail_inside()
    assert all(torch.equal(before[key], value) for key, value in all_weights(base).items())


def test_what_does_not_fit_is_said_in_one_line(tiny_sd15, tiny_sdxl) -> None:
    base, other = load_base(tiny_sd15), load_base(tiny_sdxl)
    cases = [
        (random_lora(other), "this is an sd15 base, the LoRA is for sdxl"),
        (
            LoraWeights({("denoiser", "no.such"): LoraModule(torch.zeros(1, 1), torch.zeros(1, 1), 1.0)}, "sd15"),
            "no.such",
        ),
        (
            LoraWeights(
                {("denoiser", "conv_in"): LoraModule(torch.zeros(1, 7, 1, 1), torch.zeros(32, 1, 1, 1), 1.0)}, "sd15"
            ),
            "7 → 32",
        ),
    ]
    for lora, reason in cases:
        with pytest.raises(ModelError, match=reason), merged(base, lora):
            pass


def test_bf16_weights_are_refused(tiny_sd15) -> None:
    base = load_base(tiny_sd15, precision="bf16")
    with pytest.raises(ModelError, match="fp32 weights only"), merged(base, random_lora(load_base(tiny_sd15))):
        pass

"""Block weights: which layer belongs to which block, and that a merged file draws what a WebUI's `lbw=` draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.parity.ours import full_size_base
from tests.messages import refusal
from tests.tiny import make_sd15, make_sdxl
from tests.trainer.delivery.webui import LISTS, ratio
from tests.trainer.lora.made_loras import random_lora
from trainer.base_model.load import load_base
from trainer.delivery.blocks import (
    EVERY,
    SD15,
    SDXL,
    SDXL_EVERY,
    block_list,
    block_of,
    blocks_in,
    changed,
    lbw,
    read_weights,
    weighted,
)
from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.inference.sample import sample
from trainer.lora.kohya_file import load_lora, save_lora
from trainer.lora.lora import LoraModule, LoraWeights

FAMILIES = {"sd15": make_sd15, "sdxl": make_sdxl}
LOADED = ".lora_A.merged"
PROMPTS, SEEDS = ["a photo of sks toy on the beach", "red toy in snow"], [3, 4]


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(str(FAMILIES[request.param](tmp_path_factory.mktemp(request.param))))


def draw(base: Base, lora: LoraWeights, strength: float = 1.0) -> np.ndarray:
    return sample(base, lora, PROMPTS, SEEDS, size=(32, 32), steps=3, strength=strength)


def applied_by_a_webui(base: Base, lora: LoraWeights, text: str) -> LoraWeights:
    """Each layer's `up` times its block's weight, as the extension does it."""
    modules = {
        site: replace(module, up=module.up * ratio(base.family.kohya_name(*site), text))
        for site, module in lora.modules.items()
    }
    return LoraWeights(modules, lora.family)


def test_the_lists_are_those_of_the_extension() -> None:
    assert {len(names): list(names) for names in (SD15, SDXL, EVERY, SDXL_EVERY)} == LISTS


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_layer_of_a_real_u_net_and_its_encoders_is_in_the_block_that_the_extension_puts_it_in(
    family: str,
) -> None:
    base = full_size_base(family)
    distinct = ",".join(f"{1 + number / 100:.2f}" for number in range(26))
    number_of = {f"{1 + number / 100:.2f}": name for number, name in enumerate(EVERY)}
    attention = set()
    for component in ("denoiser", *base.text_components):
        for path in base.family.lora_targets(base, component, "kohya", True):
            layer = base.family.kohya_name(component, path)
            assert block_of((component, path)) == number_of[f"{ratio(layer, distinct):.2f}"], layer
        attention |= {block_of((component, path)) for path in base.family.lora_targets(base, component, "kohya", False)}
    assert attention == set(SD15 if family == "sd15" else SDXL)


def test_the_merged_file_draws_what_the_lbw_string_draws_from_the_whole_one(base: Base, tmp_path: Path) -> None:
    whole = random_lora(base, conv=True)
    weights = {"BASE": 0.5, "IN01": 0.0, "IN04": 0.3, "IN05": 1.2, "M00": -0.5, "OUT01": 0.0, "OUT04": 0.7}
    text = lbw(weights, whole)
    file = save_lora(tmp_path / "merged.safetensors", weighted(whole, weights), dtype=torch.float32)
    merged = draw(base, load_lora(file, family=base.family.name))
    there = draw(base, applied_by_a_webui(base, whole, text))
    assert np.abs(merged.astype(int) - there.astype(int)).max() <= 1
    assert np.abs(merged.astype(int) - draw(base, whole).astype(int)).mean() > 2


def test_the_merged_file_in_diffusers_draws_the_same_at_the_stated_strength(base: Base, tmp_path: Path) -> None:
    whole = random_lora(base)
    merged = weighted(whole, {"IN04": 0.5, "M00": 0.0}, unet=0.8, text_encoder=0.6)
    save_lora(tmp_path / "merged.safetensors", merged, dtype=torch.float32)
    pipeline = base.family.pipeline(base, "ddim")
    pipeline.set_progress_bar_config(disable=True)
    ours = sample(base, merged, PROMPTS, SEEDS, size=(32, 32), steps=3, guidance=2.0, scheduler="ddim", strength=0.7)
    pipeline.load_lora_weights(str(tmp_path / "merged.safetensors"), adapter_name="merged")
    pipeline.set_adapters(["merged"], [0.7])
    models = [getattr(pipeline, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
    loaded = [name for model in models if model for name, _ in model.named_modules() if name.endswith(LOADED)]
    assert len(loaded) == len(merged.modules)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    theirs = pipeline(
        PROMPTS,
        negative_prompt=[""] * 2,
        num_inference_steps=3,
        guidance_scale=2.0,
        width=32,
        height=32,
        generator=generators,
        output_type="np",
    ).images
    pipeline.unload_lora_weights()
    assert np.abs(ours / 255 - theirs).max() < 0.02


def test_a_list_is_as_short_as_the_lora_allows(base: Base) -> None:
    assert len(block_list(LoraWeights({}, "sdxl"))) == 12
    assert len(block_list(LoraWeights({}, "sd15"))) == 17
    whole = random_lora(base, conv=True)
    assert "IN00" not in read_weights("1" + ",1" * (len(block_list(whole)) - 1), whole) or len(block_list(whole)) > 17
    with pytest.raises(ModelError, match="sd3"):
        block_list(LoraWeights({}, "sd3"))


def test_weights_are_read_as_they_are_written(base: Base) -> None:
    whole = random_lora(base)
    weights = {"M00": 0.25, "OUT01": 0.0}
    read = read_weights(lbw(weights, whole), whole)
    assert {block: read[block] for block in weights} == weights
    with pytest.raises(ModelError, match=refusal("--blocks", "2 (1,0)", "BASE first")):
        read_weights("1,0", whole)
    with pytest.raises(ModelError, match=r"--blocks: IN0.: expected a number"):
        read_weights(lbw(weights, whole).replace("1,1", "1,x", 1), whole)


@pytest.mark.parametrize(
    ("weight", "good"), [("4", True), ("-4", True), ("4.01", False), ("-4.01", False), ("nan", False), ("", False)]
)
def test_weights_lie_from_minus_4_to_4(weight: str, good: bool) -> None:
    lora = LoraWeights({}, "sd15")
    text = ",".join([weight, *["1"] * 16])
    if good:
        assert read_weights(text, lora)["BASE"] == float(weight)
        return
    with pytest.raises(ModelError, match=refusal("--blocks: BASE", weight or "nothing", "from -4 to 4")):
        read_weights(text, lora)


@pytest.mark.parametrize(
    ("family", "count", "named"),
    [("sd15", 17, SD15), ("sd15", 26, EVERY), ("sdxl", 12, SDXL), ("sdxl", 20, SDXL_EVERY), ("sdxl", 26, EVERY),
     ("sd3", 26, EVERY)],
)  # fmt: skip
def test_each_list_names_its_blocks_and_the_others_weigh_nothing(
    family: str, count: int, named: tuple[str, ...]
) -> None:
    numbers = [round(0.1 * (place + 1), 1) for place in range(count)]
    read = read_weights(" , ".join(map(str, numbers)), LoraWeights({}, family))
    assert read == dict.fromkeys(EVERY, 0.0) | dict(zip(named, numbers, strict=True))


@pytest.mark.parametrize(("family", "counts"), [("sd15", "17 or 26"), ("sdxl", "12 or 20 or 26"), ("sd3", "26")])
def test_another_number_of_weights_is_refused_and_shown_short(family: str, counts: str) -> None:
    text = ",".join(["1"] * 31)  # 61 characters
    expected = f"{counts} weights for {family}"
    with pytest.raises(ModelError, match=refusal("--blocks", f"31 ({text[:57]}…)", expected)):
        read_weights(text, LoraWeights({}, family))
    with pytest.raises(ModelError, match=refusal("--blocks", f"30 ({text[:59]})", expected)):
        read_weights(text[:59], LoraWeights({}, family))


def layer(path: str) -> LoraWeights:
    return LoraWeights({("denoiser", path): LoraModule(torch.ones(2, 4), torch.ones(4, 2), 2.0)}, "sd15")


@pytest.mark.parametrize(
    ("path", "length"),
    [("mid_block.attentions.0.proj_in", 17), ("conv_in", 26), ("down_blocks.0.downsamplers.0.conv", 26)],
)
def test_blocks_of_a_lora_are_listed_in_the_order_of_the_u_net(path: str, length: int) -> None:
    lora = layer(path)
    text = replace(
        lora, modules={**lora.modules, ("text_encoder_0", "encoder.layers.0.mlp.fc1"): lora.modules["denoiser", path]}
    )
    assert len(block_list(lora)) == length
    assert blocks_in(text) == ("BASE", block_of(("denoiser", path)))
    assert lbw({"M00": 0.12345}, lora).count(",") == length - 1
    assert "0.1235" in lbw({"M00": 0.12345}, lora)


@pytest.mark.parametrize("path", ["time_embedding.linear_1", "conv_out", "down_blocks.0.other.0.conv"])
def test_layers_outside_the_blocks_are_not_weighted(path: str) -> None:
    assert block_of(("denoiser", path)) is None
    assert block_of(("text_encoder_0", "text_projection")) is None
    lora = layer(path)
    assert weighted(lora, dict.fromkeys(EVERY, 0.0)).modules == lora.modules


def test_blocks_whose_weight_was_changed_are_named_in_order() -> None:
    assert changed({"M00": 0.5, "IN01": 0.0, "BASE": 1.0}, ("BASE", "IN01", "IN02", "M00")) == ("IN01", "M00")


def test_a_dora_layer_is_kept_or_left_out_and_never_weakened() -> None:
    layer = LoraModule(torch.ones(2, 4), torch.ones(4, 2), 2.0, torch.ones(4))
    site = ("denoiser", "mid_block.attentions.0.proj_in")
    plain = ("denoiser", "down_blocks.1.attentions.0.proj_in")
    lora = LoraWeights({site: layer, plain: replace(layer, magnitude=None)}, "sd15")
    assert weighted(lora, {"M00": 0.0}).modules.keys() == {plain}
    assert weighted(lora, {"IN04": 0.5}).modules[site] is layer
    with pytest.raises(ModelError, match="M00: expected weights of 0 or 1 for DoRA"):
        weighted(lora, {"M00": 0.5})
    with pytest.raises(ModelError, match="nothing would be left"):
        weighted(lora, {}, unet=0)

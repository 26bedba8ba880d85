"""Adapters start as kohya's do, from the run's own seed, and are written with an alpha that readers understand."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.parity.ours import full_size_base
from tests.trainer.packs import create_adapters
from trainer.base_model.load import load_base
from trainer.families.family import Base
from trainer.lora.lora import ADAPTER


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


def test_down_is_kaiming_uniform_and_up_is_zero(base: Base) -> None:
    adapters = create_adapters(base, rank=32, alpha=8.0)
    drawn = []
    for layer in adapters.layers.values():
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        bound = 1 / math.sqrt(down.shape[1])  # √(6 / ((1 + 5) · fan_in))
        assert float(down.detach().abs().max()) <= bound
        drawn.append(down.detach().flatten() / bound)
        assert not bool(up.any())
        assert layer.scaling[ADAPTER] == 0.25
    uniform = torch.cat(drawn)
    assert float(uniform.mean()) == pytest.approx(0, abs=0.01)
    assert float(uniform.var()) == pytest.approx(1 / 3, rel=0.02)


def test_start_values_come_from_the_seed_module_by_module(base: Base) -> None:
    state = torch.random.get_rng_state()
    all_of_them = create_adapters(base, rank=4, alpha=4.0, seed=3)
    some = create_adapters(base, rank=4, alpha=4.0, seed=3, targets="attention")
    other = create_adapters(base, rank=4, alpha=4.0, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert set(some.layers) < set(all_of_them.layers)
    for site, layer in some.layers.items():
        assert torch.equal(layer.lora_A[ADAPTER].weight, all_of_them.layers[site].lora_A[ADAPTER].weight)
        assert not torch.equal(layer.lora_A[ADAPTER].weight, other.layers[site].lora_A[ADAPTER].weight)


def test_pointwise_convolutions_keep_pefts_shapes(base: Base) -> None:
    adapters = create_adapters(base, rank=3, alpha=3.0)
    layer = adapters.layers["denoiser", "mid_block.attentions.0.proj_in"]
    assert layer.lora_A[ADAPTER].weight.shape == (3, 64, 1, 1)
    assert layer.lora_B[ADAPTER].weight.shape == (64, 3, 1, 1)


def test_convolutions_have_their_own_rank_and_alpha(base: Base) -> None:
    adapters = create_adapters(base, rank=8, alpha=4.0, conv_rank=2, conv_alpha=1.0)
    ranks = {(layer.r[ADAPTER], layer.scaling[ADAPTER]) for layer in adapters.layers.values()}
    assert ranks == {(8, 0.5), (2, 0.5)}
    conv = adapters.layers["denoiser", "mid_block.resnets.0.conv1"]
    assert conv.lora_A[ADAPTER].weight.shape == (2, 64, 3, 3)
    assert adapters.alone is not None


def test_the_alpha_written_gives_readers_the_scale_trained_with(base: Base) -> None:
    for rslora in (False, True):
        adapters = create_adapters(base, rank=16, alpha=8.0, rslora=rslora)
        site, layer = next(iter(adapters.layers.items()))
        module = adapters.weights().modules[site]
        assert module.alpha / module.rank == pytest.approx(layer.scaling[ADAPTER])
        assert layer.scaling[ADAPTER] == pytest.approx(8 / 4 if rslora else 8 / 16)


def test_weights_are_copies(base: Base) -> None:
    adapters = create_adapters(base, rank=2, alpha=2.0, train_text_encoder=True)
    weights = adapters.weights()
    for parameter in adapters.parameters():
        parameter.data.fill_(7.0)
    assert all(not bool(module.up.any()) for module in weights.modules.values())
    assert {component for component, _ in weights.modules} == {"denoiser", "text_encoder_0"}


@pytest.mark.parametrize(("family", "millions"), [("sd15", 6.8), ("sdxl", 42.6)])
def test_sizes_at_rank_16_on_the_real_architectures(family: str, millions: float) -> None:
    adapters = create_adapters(full_size_base(family), rank=16, alpha=16.0)
    assert sum(p.numel() for p in adapters.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)

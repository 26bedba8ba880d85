"""The stacks of a pack: gradients, what is freed, and saved LoRAs beside the base."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.lora.made_loras import with_magnitudes_by_input
from tests.trainer.packing.plain_peft import base_in, new_pack
from tests.trainer.packs import create_adapters, join
from trainer.data.dataset import Dataset, scan_dataset
from trainer.errors import ModelError
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.lora.merge import merged
from trainer.packing.packed_layers import PackedLayers, PackedSite, applied


@pytest.fixture(scope="module")
def dataset(tiny_photos: Path) -> Dataset:
    return scan_dataset(tiny_photos)


def test_a_trained_dora_merged_answers_as_it_did_in_training(tiny_sd15: Path, dataset: Dataset, tmp_path: Path) -> None:
    base = base_in(tiny_sd15, torch.float32)
    pack = new_pack(base, dataset)
    run = join(pack, run_dir=tmp_path, rank=3, epochs=3, learning_rate=1e-2, dora=True)
    pack.train_epoch()
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([10, 500]), torch.randn(2, 32, 32))
    with torch.no_grad():
        with PackedLayers(base, [run.adapters]).active():
            trained = base.denoiser(*inputs).sample
        with merged(base, run.lora_weights()):
            torch.testing.assert_close(base.denoiser(*inputs).sample, trained, atol=1e-5, rtol=1e-4)
        assert float((base.denoiser(*inputs).sample - trained).abs().max()) > 1e-2


def test_dora_starts_as_the_base(tiny_sd15: Path) -> None:
    base = base_in(tiny_sd15, torch.float32)
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([10, 500]), torch.randn(2, 32, 32))
    layers = PackedLayers(base, [create_adapters(base, rank=4, alpha=4.0, dora=True)])
    with torch.no_grad():
        before = base.denoiser(*inputs).sample
        with layers.active():
            torch.testing.assert_close(base.denoiser(*inputs).sample, before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("by_input", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("conv_rank", [None, 2])
def test_a_dora_applied_beside_the_base_answers_like_the_merged_one(
    tiny_sd15: Path, strength: float, conv_rank: int | None, by_input: bool
) -> None:
    base = base_in(tiny_sd15, torch.float32)
    loras = []
    for dora, seed in ((True, 1), (False, 2)):
        adapters = create_adapters(
            base, rank=3, alpha=1.5, dora=dora, seed=seed, train_text_encoder=True, conv_rank=conv_rank
        )
        for parameter in adapters.parameters():
            change = 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            parameter.data += change * parameter.detach().abs().mean().clamp(min=0.5)
        loras.append(adapters.weights())
    if by_input:
        loras = [with_magnitudes_by_input(base, loras[0]), loras[0]]
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(2, 4, 16, 16, generator=generator), torch.tensor([10, 500]))
    embeds = torch.randn(2, 32, 32, generator=generator)
    with torch.no_grad():
        plain, answers = base.denoiser(*inputs, embeds).sample, []
        for lora in loras:
            with merged(base, lora, strength):
                answers.append(base.denoiser(*inputs, embeds).sample)
        with applied(base, [loras[0]], strength=strength):
            alone = base.denoiser(*inputs, embeds).sample
        torch.testing.assert_close(alone - plain, answers[0] - plain, atol=2e-5, rtol=1e-3)
        assert float((answers[0] - plain).abs().max()) > 1e-2
        if conv_rank is None:  # in company: a DoRA, the base, and a plain LoRA or a DoRA of the other kind
            rows = [part.repeat(3, *[1] * (part.ndim - 1)) for part in (*inputs, embeds)]
            with applied(base, [loras[0], None, loras[1]], strength=strength):
                together = base.denoiser(*rows).sample.chunk(3)
            for found, expected in zip(together, (answers[0], plain, answers[1]), strict=True):
                torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-3)


def test_a_run_that_left_leaves_nothing_behind(tiny_sd15: Path, dataset: Dataset, tmp_path: Path) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float32), dataset, batch_size=16)
    stays = join(pack, run_dir=tmp_path / "stays", rank=2, epochs=9)
    held: list[weakref.ref[Any]] = []
    for number in range(2):
        run = join(pack, run_dir=tmp_path / str(number), rank=2, epochs=9)
        pack.train_epoch()
        assert pack._layers is not None
        held += [weakref.ref(run), weakref.ref(pack._layers), weakref.ref(pack._layers._sites[0])]
        pack.leave(run)
        del run
    pack.train_epoch()
    gc.collect()
    assert [reference() for reference in held] == [None] * 6
    assert stays.epoch == 3


def test_gradients_of_passes_add_up_until_they_are_cleared(tiny_sd15: Path) -> None:
    base = base_in(tiny_sd15, torch.float64)
    base.denoiser.requires_grad_(False)
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([10, 500]), torch.randn(2, 32, 32))
    inputs = (inputs[0].double(), inputs[1], inputs[2].double())
    members = [create_adapters(base, rank=rank, alpha=4.0, seed=rank) for rank in (4, 3)]

    def gradients(layers: PackedLayers, passes: int) -> list[torch.Tensor]:
        layers.clear_gradients()
        with layers.active():
            for _ in range(passes):
                base.denoiser(*inputs).sample.square().sum().backward()
        layers.collect_gradients()
        found = [p.grad for member in members[: layers.width] for _, p in member.named_parameters()]
        assert all(gradient is not None for gradient in found)
        return [gradient.clone() for gradient in found if gradient is not None]

    for width in (1, 2):
        layers = PackedLayers(base, members[:width])
        once = gradients(layers, 1)
        assert any(bool(gradient.any()) for gradient in once)
        for first, second, again in zip(once, gradients(layers, 2), gradients(layers, 1), strict=True):
            torch.testing.assert_close(second, 2 * first)
            assert torch.equal(again, first)
        row = layers.row_of_gradients
        assert (row is not None) == (width == 1)
        if row is not None:
            assert torch.equal(row, torch.cat([gradient.flatten() for gradient in gradients(layers, 1)]))
    layers.clear_gradients()
    layers.collect_gradients()
    assert all(p.grad is None for member in members for _, p in member.named_parameters())


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_saved_weights_applied_beside_the_base_answer_like_each_lora_merged_in_fp32(
    tiny_sd15: Path, dtype: torch.dtype, share: float
) -> None:
    base, exact = base_in(tiny_sd15, dtype), base_in(tiny_sd15, torch.float32)
    loras = []
    for rank, seed in ((2, 1), (5, 2)):
        adapters = create_adapters(base, rank=rank, alpha=1.0, train_text_encoder=True, seed=seed)
        for parameter in adapters.parameters():
            parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(seed))
        loras.append(adapters.weights())
    generator = torch.Generator().manual_seed(0)
    noisy, embeds = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 32, 32, generator=generator)
    timesteps = torch.tensor([10, 500])
    with applied(base, [loras[0], None, loras[1]], strength=0.7):
        rows = (noisy.repeat(3, 1, 1, 1).to(dtype), timesteps.repeat(3), embeds.repeat(3, 1, 1).to(dtype))
        found = base.denoiser(*rows).sample.float().chunk(3)
    pristine = {name: value.clone() for name, value in exact.denoiser.state_dict().items()}
    with torch.no_grad():
        plain = exact.denoiser(noisy, timesteps, embeds).sample
        for lora, answer in ((loras[0], found[0]), (loras[1], found[2])):
            for (component, path), module in lora.modules.items():
                if component == "denoiser":
                    weight = exact.denoiser.get_submodule(path).weight
                    change = 0.7 * module.alpha / module.rank * module.up.flatten(1) @ module.down.flatten(1)
                    weight += change.view(weight.shape)
            effect = exact.denoiser(noisy, timesteps, embeds).sample - plain
            exact.denoiser.load_state_dict(pristine)
            assert float((answer - plain - effect).norm() / effect.norm()) < share
    assert float((found[1] - plain).norm() / plain.norm()) < share


LINEAR, POINTWISE = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.proj_in"
SPATIAL = "mid_block.resnets.0.conv1"


@pytest.mark.parametrize("path", [LINEAR, POINTWISE])
@pytest.mark.parametrize("ranks", [(3,), (3, 2), (None, 3)])
def test_a_layer_answers_with_each_run_s_own_term_in_one_node_and_under_autocast_in_its_precision(
    tiny_sd15: Path, path: str, ranks: tuple[int | None, ...]
) -> None:
    base = base_in(tiny_sd15, torch.float32)
    base.denoiser.requires_grad_(False)
    members = [None if rank is None else create_adapters(base, rank=rank, alpha=2.0) for rank in ranks]
    generator = torch.Generator().manual_seed(0)
    for member in members:
        for parameter in [] if member is None else member.parameters():
            parameter.data.normal_(std=0.3, generator=generator)
    layer = base.denoiser.get_submodule(path)
    features = layer.weight.shape[1]
    shape = (2 * len(ranks), 5, features) if path == LINEAR else (2 * len(ranks), features, 4, 3)
    x = torch.randn(shape, generator=generator)
    expected = []
    for rows, member in zip(x.double().chunk(len(ranks)), members, strict=True):
        weight = layer.weight.flatten(1).double()
        if member is not None:
            module = member.weights().modules["denoiser", path]
            weight = weight + 2.0 / module.rank * module.up.flatten(1).double() @ module.down.flatten(1).double()
        answer = rows @ weight.T if path == LINEAR else torch.einsum("oi,bihw->bohw", weight, rows)
        bias = 0.0 if layer.bias is None else layer.bias.double()
        expected.append(answer + (bias if path == LINEAR else torch.as_tensor(bias).view(-1, 1, 1)))
    layers = PackedLayers(base, members)
    with layers.active():
        found = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = layer(x)
    torch.testing.assert_close(found.double(), torch.cat(expected), rtol=1e-5, atol=1e-5)
    assert type(found.grad_fn).__name__ == ("LoraLinearBackward" if path == LINEAR else "LoraPointwiseBackward")
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), torch.cat(expected), rtol=5e-2, atol=5e-2)


def one_layer(rank: int, path: str, shape: tuple[int, ...], family: str = "sd15", dora: bool = False) -> LoraWeights:
    down, up = torch.ones(rank, *shape[1:]), torch.ones(shape[0], rank, *[1] * (len(shape) - 2))
    module = LoraModule(down, up, 1.0, torch.ones(shape[0]) if dora else None)
    return LoraWeights({("denoiser", path): module}, family)


def test_what_cannot_be_applied_beside_the_base_is_refused_and_the_base_stays_itself(tiny_sd15: Path) -> None:
    base = base_in(tiny_sd15, torch.float32)
    conv, linear = (tuple(base.denoiser.get_submodule(path).weight.shape) for path in (SPATIAL, LINEAR))
    spatial = one_layer(2, SPATIAL, conv)
    with (
        pytest.raises(ModelError, match="a LoRA for sdxl cannot be applied to a sd15 base"),
        applied(base, [None, one_layer(2, LINEAR, linear, "sdxl")]),
    ):
        pass
    with (
        pytest.raises(ModelError, match=rf"{SPATIAL}: several LoRAs with convolutions"),
        applied(base, [spatial, spatial]),
    ):
        pass
    dora = one_layer(2, LINEAR, linear, dora=True)
    layer = base.denoiser.get_submodule(LINEAR)
    whole = layer.weight
    layer.weight = torch.nn.Parameter(torch.ones(linear, dtype=torch.int8), requires_grad=False)
    with (
        pytest.raises(ModelError, match=rf"{LINEAR}: a DoRA cannot be applied to a quantised base"),
        applied(base, [dora]),
    ):
        pass
    layer.weight = whole
    layer.__class__ = type("Linear4bit", (torch.nn.Linear,), {})
    with pytest.raises(ModelError, match="quantised base"), applied(base, [dora]):
        pass
    assert not any("forward" in module.__dict__ for module in base.denoiser.modules())


def test_one_pack_at_a_time_acts_on_a_base_and_an_error_within_leaves_it_as_it_was(tiny_sd15: Path) -> None:
    base = base_in(tiny_sd15, torch.float32)
    layers = PackedLayers(base, [create_adapters(base, rank=2)])
    layer = base.denoiser.get_submodule(LINEAR)
    other = PackedLayers(base, [create_adapters(base, rank=2)])
    with pytest.raises(RuntimeError, match="another pack is active"), layers.active(), other.active():
        pass
    with layers.active():
        assert "forward" in layer.__dict__
    assert not any("forward" in module.__dict__ for module in base.denoiser.modules())
    with pytest.raises(ModelError, match="DoRA cannot share a pack"):
        PackedLayers(base, [None, create_adapters(base, rank=2, dora=True)])


def test_weights_that_changed_show_after_a_refresh_and_lie_in_one_piece(tiny_sd15: Path) -> None:
    """Beside a larger rank an up matrix is no part of the stack: it is copied in."""
    base = base_in(tiny_sd15, torch.float32)
    members = [create_adapters(base, rank=rank, alpha=4.0, targets="attention", seed=rank) for rank in (2, 4)]
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([10, 500]))
    embeds = torch.randn(2, 7, 32, generator=generator)

    def answers(layers: PackedLayers) -> torch.Tensor:
        with torch.no_grad(), layers.active():
            return base.denoiser(*inputs, embeds).sample

    together = PackedLayers(base, members)
    assert all(parameter.is_contiguous() for member in members for parameter in member.parameters())
    with torch.no_grad():
        for member in members:
            for parameter in member.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    together.refresh()
    found = answers(together)
    for row, member in enumerate(members):
        with torch.no_grad(), PackedLayers(base, [member]).active():
            alone = base.denoiser(inputs[0][row : row + 1], inputs[1][row : row + 1], embeds[row : row + 1]).sample
        torch.testing.assert_close(found[row : row + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alone", [False, True])
def test_products_are_added_to_the_gradients_in_whatever_precision(dtype: torch.dtype, alone: bool) -> None:
    count = 1 if alone else 2
    down, up = torch.zeros(count, 2, 3), torch.zeros(count, 4, 2)
    down.grad, up.grad = torch.ones_like(down), torch.ones_like(up)
    site = PackedSite(torch.nn.Linear(3, 4), down, up, [1.0] * count)
    left, right = torch.arange(2.0 * count).view(count, 2, 1), torch.arange(1.0, 4.0).expand(count, 1, 3)
    high, wide = torch.ones(count, 4, 1), torch.arange(2.0).expand(count, 1, 2)
    given = [part.to(dtype) for part in (left, right, high, wide)]
    if alone:
        given = [part[0] for part in given]
    site.add_gradients((given[0], given[1]), (given[2], given[3]))
    torch.testing.assert_close(down.grad, 1 + left @ right)
    torch.testing.assert_close(up.grad, 1 + high @ wide)
    assert site.reach.reached

"""A DoRA made plain: other programs draw with it what was trained, as near as its rank allows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.trainer.delivery.other_programs import READERS, as_trained, as_trained_by_input, in_a1111, in_comfyui
from tests.trainer.lora.made_loras import with_magnitudes_by_input
from trainer.base_model.load import load_base
from trainer.deliver import main
from trainer.delivery.gate import look, read_file
from trainer.delivery.plain_lora import plain_lora
from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.lora.kohya_file import load_lora, read_metadata, save_lora
from trainer.lora.lora import AdapterSettings, LoraWeights, create_adapters
from trainer.lora.merge import merged

ALPHA = 3.0
METADATA = {
    "ss_network_module": "lycoris.kohya",
    "ss_network_args": json.dumps({"algo": "lora", "dora_wd": "True", "wd_on_output": "True", "conv_dim": "2"}),
    "ss_network_dim": "2",
    "ss_network_alpha": str(ALPHA),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_sd15(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(str(folder))


@pytest.fixture(scope="module")
def dora(base: Base) -> LoraWeights:
    """Of every kind of layer, 3×3 convolutions among them, with magnitudes a tenth off the base's norms."""
    settings = AdapterSettings(rank=2, alpha=ALPHA, conv_rank=2, conv_alpha=ALPHA, dora=True)
    fresh = create_adapters(base, settings, seed=0).weights()
    generator = torch.Generator().manual_seed(1)
    modules = {}
    for site, module in fresh.modules.items():
        assert module.magnitude is not None
        up = 0.1 * torch.randn(module.up.shape, generator=generator)
        factor = 1 + 0.1 * torch.randn(module.magnitude.shape, generator=generator)
        modules[site] = replace(module, up=up, magnitude=module.magnitude * factor)
    return LoraWeights(modules, "sd15")


def layers(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        name, end = key.split(".", 1)
        found.setdefault(name, {})[end] = tensor.float()
    return found


def weights(base: Base, lora: LoraWeights) -> dict[str, torch.Tensor]:
    return {
        base.family.kohya_name(component, path): base.component(component).get_submodule(path).weight.detach()
        for component, path in lora.modules
    }


def errors(path: Path, trained: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> dict[str, float]:
    """‖drawn with − trained‖ ÷ ‖trained − base‖ over all layers, in each program."""
    read = layers(path)
    changed = sum(float((trained[name] - base[name]).square().sum()) for name in base)
    return {
        program: (
            sum(float((reader(read[name], base[name]) - trained[name]).square().sum()) for name in base) / changed
        )
        ** 0.5
        for program, reader in READERS.items()
    }


def test_other_programs_draw_other_images_from_the_dora_and_the_same_ones_from_the_plain_lora(
    base: Base, dora: LoraWeights, tmp_path: Path
) -> None:
    file = save_lora(tmp_path / "dora.safetensors", dora, dtype=torch.float32)
    own = weights(base, dora)
    trained = {name: as_trained(layer, own[name]) for name, layer in layers(file).items()}
    assert min(errors(file, trained, own).values()) > 0.1

    whole = plain_lora(dora, base, 10_000)
    file = save_lora(tmp_path / "whole.safetensors", whole.lora, dtype=torch.float32)
    assert whole.loss < 1e-5
    assert max(errors(file, trained, own).values()) < 1e-4

    cut = plain_lora(dora, base, 6)
    file = save_lora(tmp_path / "cut.safetensors", cut.lora, dtype=torch.float32)
    for error in errors(file, trained, own).values():
        assert error == pytest.approx(cut.loss, rel=1e-3), "every program is off by what is said"


def test_a_dora_by_input_is_drawn_as_onetrainer_trained_it_and_made_plain_for_programs_that_ignore_it(
    base: Base, dora: LoraWeights, tmp_path: Path
) -> None:
    theirs = with_magnitudes_by_input(base, dora)
    file = save_lora(tmp_path / "dora.safetensors", theirs, dtype=torch.float32)
    own, read = weights(base, theirs), layers(file)
    trained = {name: as_trained_by_input(layer, own[name]) for name, layer in read.items()}
    for name, layer in read.items():
        assert layer["dora_scale"].shape == (1, own[name].shape[1], *[1] * (own[name].ndim - 2))
        for reader in (in_a1111, in_comfyui):
            torch.testing.assert_close(reader(layer, own[name]), trained[name], rtol=1e-4, atol=1e-6)
    again = load_lora(file)
    for strength in (1.0, 0.4):
        with merged(base, again, strength):
            drawn = {name: weight.clone() for name, weight in weights(base, again).items()}
        for name, weight in own.items():
            torch.testing.assert_close(drawn[name], torch.lerp(weight, trained[name], strength), rtol=1e-4, atol=1e-6)
    notes = [finding.line for finding in look(read_file(file), None) if "DoRA" in finding.line]
    assert len(notes) == 1
    assert "A1111 and ComfyUI draw it as it was trained, sd-scripts and diffusers ignore it" in notes[0]

    plain = save_lora(tmp_path / "plain.safetensors", plain_lora(again, base, 10_000).lora, dtype=torch.float32)
    assert max(errors(plain, trained, own).values()) < 1e-4


def test_magnitudes_of_another_number_than_the_layer_has_features_are_refused(
    base: Base, dora: LoraWeights, tmp_path: Path
) -> None:
    tensors = load_file(save_lora(tmp_path / "dora.safetensors", with_magnitudes_by_input(base, dora)))
    key = next(key for key in tensors if key.endswith("to_k.dora_scale"))
    save_file(tensors | {key: torch.ones(1, 7)}, tmp_path / "other.safetensors")
    features = tensors[key].shape[1]
    with pytest.raises(ModelError, match=rf"other\.safetensors: lora_.*: expected {features} DoRA magnitudes, got 7"):
        load_lora(tmp_path / "other.safetensors")


def test_no_lora_of_its_rank_is_nearer_and_what_each_rank_loses_is_said(base: Base, dora: LoraWeights) -> None:
    plain = plain_lora(dora, base)
    assert (plain.rank, plain.layers) == (8, len(dora.modules))
    lost, changed = np.zeros(33), 0.0
    for (component, path), module in dora.modules.items():
        weight = base.component(component).get_submodule(path).weight.detach()
        assert module.magnitude is not None
        scale = torch.tensor(module.alpha)
        tensors = {"lora_up.weight": module.up, "lora_down.weight": module.down, "alpha": scale}
        change = as_trained(tensors | {"dora_scale": module.magnitude}, weight) - weight
        values = np.linalg.svd(change.flatten(1).double().numpy(), compute_uv=False)
        lost += [(values[rank:] ** 2).sum() for rank in range(33)]
        changed += (values**2).sum()
    for rank in (1, 8, 32):
        assert plain.curve.losses[rank] == pytest.approx((lost[rank] / changed) ** 0.5, rel=1e-3, abs=1e-6)
    assert all(module.alpha == ALPHA and module.magnitude is None for module in plain.lora.modules.values())


def test_layers_that_are_no_dora_stay_and_a_file_without_any_is_refused(base: Base, dora: LoraWeights) -> None:
    first, *others = dora.modules
    mixed = {site: replace(dora.modules[site], magnitude=None) for site in others} | {first: dora.modules[first]}
    plain = plain_lora(LoraWeights(mixed, "sd15"), base, 4)
    assert plain.lora.modules[first].rank == 4
    assert all(plain.lora.modules[site] is mixed[site] for site in others)
    with pytest.raises(ModelError, match="--plain-lora: expected a DoRA"):
        plain_lora(LoraWeights({site: mixed[site] for site in others}, "sd15"), base)


def test_the_command_says_the_loss_and_writes_what_it_says(
    folder: Path, dora: LoraWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, to = save_lora(tmp_path / "dog.safetensors", dora, METADATA), tmp_path / "plain.safetensors"
    arguments = [str(file), "--plain-lora", "--rank", "6", "--to", str(to)]
    assert main(arguments) == 2
    assert "--plain-lora: expected --base" in capsys.readouterr().err
    assert not to.exists()

    assert main([*arguments, "--base", str(folder)]) == 0
    said = capsys.readouterr().out
    metadata = read_metadata(to)
    loss = json.loads(metadata["onset.delivery"])["plain_lora"]["loss"]
    assert "layers are DoRA" in said.split("written")[0]
    assert "layers are DoRA" not in said.split("written")[1]
    assert f"{100 * loss:.2g} % of their change is lost" in said
    assert not any("dora" in key for key in load_file(to))
    assert metadata["ss_network_module"] == "networks.lora"
    assert json.loads(metadata["ss_network_args"]) == {"conv_dim": "6"}
    assert metadata["ss_network_dim"] == "6"


def test_a_dora_that_stays_one_is_still_called_one(dora: LoraWeights, tmp_path: Path) -> None:
    file, to = save_lora(tmp_path / "dog.safetensors", dora, METADATA), tmp_path / "clean.safetensors"
    main([str(file), "--clean", "--to", str(to)])
    metadata = read_metadata(to)
    assert metadata["ss_network_module"] == METADATA["ss_network_module"]
    assert json.loads(metadata["ss_network_args"]) == json.loads(METADATA["ss_network_args"])

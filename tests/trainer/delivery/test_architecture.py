"""The layers that a configuration promises are those of the model that is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from trainer.base_model.load import load_base
from trainer.delivery.architecture import architecture_of, usual_architecture
from trainer.errors import ModelError


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_the_layers_of_a_folder_are_those_of_its_base(family: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{family}")
    base, found = load_base(folder), architecture_of(folder)
    assert (found.name, found.family) == (str(folder), family)
    expected = {
        (component, path): tuple(layer.weight.shape)
        for component in ("denoiser", *base.text_components)
        for path, layer in base.component(component).named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    }
    assert found.layers == expected
    assert {component for component, _ in expected} == {"denoiser", *base.text_components}


def test_usual_layouts_are_those_of_the_released_models() -> None:
    sd15, sdxl = usual_architecture("sd15"), usual_architecture("sdxl")
    assert sd15 is not None
    assert sdxl is not None
    assert (sd15.name, sd15.family) == ("a usual sd15 base", "sd15")
    assert sd15.layers["denoiser", "down_blocks.0.attentions.0.proj_in"] == (320, 320, 1, 1)
    assert sd15.layers["denoiser", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"] == (1280, 768)
    assert sdxl.layers["denoiser", "mid_block.attentions.0.transformer_blocks.9.attn2.to_k"] == (1280, 2048)
    q = "text_model.encoder.layers.31.self_attn.q_proj"
    assert sdxl.layers["text_encoder_1", q] == (1280, 1280)
    assert {component for component, _ in sd15.layers} == {"denoiser", "text_encoder_0"}
    assert {component for component, _ in sdxl.layers} == {"denoiser", "text_encoder_0", "text_encoder_1"}
    assert usual_architecture("sd3") is None


@pytest.mark.parametrize(("part", "library"), [("text_encoder", "transformers"), ("unet", "diffusers")])
def test_a_class_that_its_library_does_not_have_is_refused(
    tiny_sd15: Path, tmp_path: Path, part: str, library: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_sd15, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index[part] = [library, "NoSuchModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=rf"{part}: expected a class of .*, got {library}\.NoSuchModel"):
        architecture_of(folder)

"""What a base says of itself is what every trainer is told: which script, and what it predicts."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from search.export import export
from search.exports.base import about_base
from tests.search.base_predictions import traits
from tests.search.finished_studies import PLANS, make_study
from trainer.families.prediction import BaseTraits


def test_the_base_says_which_script_and_which_parameterisation(tmp_path, tiny_photos, tiny_sdxl, tiny_sd15_v):
    xl = make_study(tmp_path / "xl", tiny_sdxl, tiny_photos, PLANS[:1])
    export(xl, tmp_path / "xl-out")
    assert "sdxl_train_network.py" in (tmp_path / "xl-out" / "sd-scripts" / "train.sh").read_text()
    assert json.loads((tmp_path / "xl-out" / "kohya_ss.json").read_text())["sdxl"] is True
    v = make_study(tmp_path / "v", tiny_sd15_v, tiny_photos, PLANS[:1])
    export(v, tmp_path / "v-out")
    config = tomllib.loads((tmp_path / "v-out" / "sd-scripts" / "config.toml").read_text())
    assert config["v_parameterization"] is True
    assert config["zero_terminal_snr"] is True
    gui = json.loads((tmp_path / "v-out" / "kohya_ss.json").read_text())
    assert gui["v_parameterization"] is True
    assert "--zero_terminal_snr" in gui["additional_parameters"]


def test_a_single_file_says_by_its_marks_what_it_predicts(tmp_path, tiny_photos):
    import torch
    from safetensors.torch import save_file

    base = tmp_path / "noob.safetensors"
    names = ("conditioner.embedders.1.model.ln_final.weight", "v_pred", "ztsnr")
    save_file({name: torch.zeros(1) for name in names}, base)
    folder = make_study(tmp_path, base, tiny_photos, PLANS[:1])
    done = export(folder, tmp_path / "out")
    config = tomllib.loads((tmp_path / "out" / "sd-scripts" / "config.toml").read_text())
    assert config["v_parameterization"] is True
    assert config["zero_terminal_snr"] is True
    assert not [notice for notice in done.notices if "sd-scripts cannot load" in notice]


@pytest.mark.parametrize(
    ("base", "widths", "said"),
    [
        (traits("sd3"), None, ["text encoders as files", "not a diffusers folder"]),
        (replace(traits("sd3"), single_file=True), None, ["text encoders as files"]),
        (replace(traits(), prediction_type="sample"), None, ["because it predicts sample"]),
        (replace(traits(), single_file=True), None, []),
        (traits(velocity=True), [320, 640, 1280, 1280], ["text_encoder: its weights have the names of transformers 5"]),
        (traits(), [32, 64], ["has the widths [32, 64], that of Stable Diffusion has [320, 640, 1280, 1280]"]),
        (traits("sdxl"), [320, 640, 1280], ["text_encoder: its weights have the names of transformers 5"]),
        (traits("sdxl"), [320, 640, 1280, 1280], ["that of SDXL has [320, 640, 1280]"]),
    ],
)
def test_why_the_other_tools_may_not_take_a_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: BaseTraits, widths: list[int] | None, said: list[str]
) -> None:
    monkeypatch.setattr("search.exports.base.encoders_of_transformers_5", lambda folder: ["text_encoder"])
    if widths is not None:
        (tmp_path / "unet").mkdir()
        (tmp_path / "unet" / "config.json").write_text(json.dumps({"block_out_channels": widths}))
        (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    found = about_base(str(tmp_path), base)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))

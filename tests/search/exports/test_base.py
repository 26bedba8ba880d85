"""What a base says of itself is what every trainer is told: which script, and what it predicts."""

import json
import tomllib

from search.export import export
from tests.search.finished_studies import PLANS, make_study


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

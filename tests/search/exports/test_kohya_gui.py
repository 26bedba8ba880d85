"""The GUI's JSON: every field that changes training, values of 0 by extra arguments, photos by a dataset file.

The reference is what the GUI does on the way to sd-scripts (kohya_gui/lora_gui.py, train_model): values that are "",
False or 0 are dropped, extra arguments go to the command line, where they win.
"""

import argparse
import json
from pathlib import Path

import pytest

from search.errors import SearchError
from search.exports import kohya_gui
from search.exports.kohya_gui import absolute, to_kohya_gui
from search.exports.option_check import GUI_OPTIONS_FILE
from search.exports.sdscripts import to_sdscripts
from search.exports.ship_epoch import Ending
from tests import tiny
from tests.search.base_predictions import traits
from tests.search.exports.each_setting import assert_a_setting_changes_what_it_should_and_nothing_else
from trainer.config.config import parse_train_config
from trainer.data.dataset import scan_dataset


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shelf with `.caption` files and regularisation images in `reg`."""
    root = tiny.make_photos(tmp_path_factory.mktemp("data") / "photos", count=4, repeats=3)
    for text in (root / "3_sks toy").glob("*.txt"):
        text.rename(text.with_suffix(".caption"))
    reg = tiny.make_photos(root.parent / "more", count=2, repeats=1) / "1_sks toy"
    (root / "reg").mkdir()
    reg.rename(root / "reg" / "1_toy")
    return root


def _exported(photos: Path, ending: Ending | None = None, family: str = "sd15", **changes):
    config = parse_train_config({"base": "base", "data": str(photos), "resolution": 64, "epochs": 20, **changes})
    return config, to_sdscripts(
        config, scan_dataset(photos), traits=traits(family), folder=photos.parent / "out", name="toy", ending=ending
    )


def _gui(photos: Path, total_steps: int = 200, family: str = "sd15", ending: Ending | None = None, **changes) -> dict:
    config, out = _exported(photos, ending, family, **changes)
    folder = photos.parent / "out"
    return to_kohya_gui(
        config, out, family=family, folder=folder, dataset_file=folder / "gui.toml", total_steps=total_steps
    )


def _reaches_sdscripts(gui: dict, *names: str) -> argparse.Namespace:
    """What sd-scripts is told of some options of its own: the form's values that the GUI does not drop, then the
    command line."""
    form = {name: gui[name] for name in names if gui.get(name) not in ("", False, None)}
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", type=float, default=None)
    found, _ = parser.parse_known_args(gui["additional_parameters"].split(), argparse.Namespace(**form))
    return found


def test_every_field_that_changes_training_is_written(photos):
    table = json.loads(GUI_OPTIONS_FILE.read_text())
    gui = _gui(photos)
    assert gui.keys() == table["fields"].keys()
    assert not gui.keys() & set(table["left to the user"])
    assert all(value is not None for value in gui.values()), "the GUI keeps its own value where a file says null"
    for field, neutral in (
        ("loss_type", "l2"), ("network_dropout", 0), ("rank_dropout", 0), ("module_dropout", 0), ("min_timestep", 0),
        ("scale_weight_norms", 0), ("ip_noise_gamma", 0), ("max_train_steps", 0), ("bucket_no_upscale", False),
        ("caption_dropout_every_n_epochs", 0), ("network_weights", ""), ("resume", ""), ("masked_loss", False),
    ):  # fmt: skip
        assert gui[field] == neutral


def test_the_photos_come_from_a_dataset_file_with_all_of_them(photos):
    gui = _gui(photos)
    assert gui["dataset_config"] == str((photos.parent / "out" / "gui.toml").resolve())
    assert gui["train_data_dir"] == gui["reg_data_dir"] == ""
    _, out = _exported(photos)
    subsets = absolute(out.dataset, photos.parent / "out")["datasets"][0]["subsets"]
    found = {Path(subset["image_dir"]).name: subset for subset in subsets}
    assert all(Path(subset["image_dir"]).is_absolute() and Path(subset["image_dir"]).is_dir() for subset in subsets)
    assert found["3_sks toy"]["caption_extension"] == ".caption"
    assert found["1_toy"]["is_reg"] is True


def test_zeros_reach_sdscripts(photos):
    changes = {"optimizer": "Adafactor", "learning_rate": 3e-4, "prior_loss_weight": 0.0, "seed": 0}
    told = _reaches_sdscripts(_gui(photos, **changes), "max_grad_norm", "prior_loss_weight", "seed")
    assert (told.max_grad_norm, told.prior_loss_weight, told.seed) == (0, 0, 0)
    assert _reaches_sdscripts(_gui(photos, seed=7), "max_grad_norm", "seed").seed == 7


def test_numbers_beyond_the_forms_sliders_reach_sdscripts(photos):
    gui = _gui(photos, optimizer="Prodigy", learning_rate=2.0, rank=768, alpha=768.0)
    assert (gui["learning_rate"], gui["unet_lr"], gui["network_dim"]) == (1, 1, 512)
    told = _reaches_sdscripts(gui, "learning_rate", "unet_lr", "network_dim")
    assert (told.learning_rate, told.unet_lr, told.network_dim) == (2, 2, 768)


def test_a_run_that_ends_before_its_horizon_ends_there_in_the_gui(photos):
    gui = _gui(photos, ending=Ending(8, steps_per_epoch=11), lr_scheduler="cosine")
    assert gui["epoch"] == gui["max_train_epochs"] == 8
    assert gui["lr_scheduler_type"].endswith(".get_cosine_schedule_with_warmup")
    assert gui["lr_scheduler_args"].split() == ["num_warmup_steps=0", "num_training_steps=220"]


def test_the_family_chooses_the_script(photos):
    for family, boxes in (("sd15", (False, False)), ("sdxl", (True, False)), ("sd3", (False, True))):
        gui = _gui(photos, family=family)
        assert (gui["sdxl"], gui["sd3_checkbox"]) == boxes
        assert ("--no_half_vae" in gui["additional_parameters"]) == (family != "sdxl"), "SDXL has a box for it"


def test_the_gui_gets_one_string_of_arguments_that_splits_back(photos):
    gui = _gui(photos, optimizer_args={"betas": [0.9, 0.99]})
    _, out = _exported(photos, optimizer_args={"betas": [0.9, 0.99]})
    assert gui["optimizer_args"].split() == out.config["optimizer_args"]


def test_a_seed_of_zero_reaches_the_guis_command_line(photos):
    assert "--seed=0" in _gui(photos, seed=0)["additional_parameters"].split()
    gui = _gui(photos, seed=7)
    assert gui["seed"] == 7
    assert "seed" not in gui["additional_parameters"]


def test_the_guis_warmup_is_in_percent_of_all_steps(photos):
    gui = _gui(photos, total_steps=200, lr_scheduler="constant_with_warmup", warmup_steps=10)
    assert gui["lr_warmup"] == 5
    assert "--lr_warmup_steps=10" in gui["additional_parameters"].split(), "exact, where percent are rounded"
    assert _gui(photos)["lr_warmup"] == 0


def test_the_guis_cycles_are_never_left_blank_and_unset_is_zero(photos):
    gui = _gui(photos)
    assert gui["lr_scheduler_num_cycles"] == 1
    assert gui["min_snr_gamma"] == 0
    assert gui["text_encoder_lr"] == 0, "0 there means: train the U-Net only"
    assert gui["max_resolution"] == "64,64"
    assert gui["LoRA_type"] == "Standard"
    assert _gui(photos, conv_rank=4)["LoRA_type"] == "Kohya LoCon"
    assert _gui(photos, min_snr_gamma=5.0)["min_snr_gamma"] == 5.0


def test_noise_and_weights_are_written_whether_on_or_off(photos):
    asked = {"noise_offset": 0.05, "noise_offset_random_strength": True, "ip_noise_gamma": 0.1}
    asked |= {"debiased_estimation_loss": True}
    on, off = _gui(photos, **asked), _gui(photos)
    assert {key: on[key] for key in asked} == asked
    assert not any(off[key] for key in asked)
    assert on["noise_offset_type"] == "Original", "the offset is not passed on with any other"


def test_a_setting_changes_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    assert_a_setting_changes_what_it_should_and_nothing_else(tmp_path, "kohya_ss GUI")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda fields: fields.pop("seed"), "seed: expected a field that the GUI has"),
        (
            lambda fields: fields["mixed_precision"].update(choices=["no way"]),
            "mixed_precision: expected one of no way",
        ),
    ],
)
def test_what_the_gui_does_not_know_is_not_written(
    photos: Path, tmp_path: Path, monkeypatch, change, told: str
) -> None:
    known = json.loads(GUI_OPTIONS_FILE.read_text())
    change(known["fields"])
    (tmp_path / "options.json").write_text(json.dumps(known))
    monkeypatch.setattr(kohya_gui, "GUI_OPTIONS_FILE", tmp_path / "options.json")
    config, made = _exported(photos)
    with pytest.raises(SearchError, match=f"kohya_ss.json: {told}"):
        to_kohya_gui(config, made, family="sd15", folder=tmp_path, dataset_file=tmp_path / "gui.toml", total_steps=40)

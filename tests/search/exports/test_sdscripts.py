"""The same run in sd-scripts' and the kohya_ss GUI's words, with every trap of theirs stepped around.

The reference is the way those tools read what we write: TOML by tomllib, optimizer_args by `ast.literal_eval` into the
optimizer's own class, the GUI's fields by the rules in its source.
"""

import argparse
import ast
import json
import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from search.errors import SearchError
from search.exports.base import about_base
from search.exports.option_check import OPTIONS_FILE, check_sdscripts
from search.exports.sdscripts import to_sdscripts
from search.exports.ship_epoch import Ending
from search.exports.toml import toml
from tests import tiny
from tests.search.base_predictions import traits
from tests.search.exports.each_setting import assert_a_setting_changes_what_it_should_and_nothing_else
from trainer.config.config import TrainConfig, parse_train_config
from trainer.data.dataset import scan_dataset


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shelves with other repeats, one of them with `.caption` files, and regularisation images."""
    root = tmp_path_factory.mktemp("data") / "photos"
    tiny.make_photos(root, count=4, repeats=3)
    tiny.make_photos(root, count=2, repeats=1)
    for text in (root / "1_sks toy").glob("*.txt"):
        text.rename(text.with_suffix(".caption"))
    reg = tiny.make_photos(root.parent / "more", count=2, repeats=1) / "1_sks toy"
    (root / "reg").mkdir()
    reg.rename(root / "reg" / "1_toy")
    return root


def _config(photos: Path, **changes) -> TrainConfig:
    return parse_train_config({"base": "base", "data": str(photos), "resolution": 64, "epochs": 20, **changes})


def _exported(photos: Path, family: str = "sd15", ending: Ending | None = None, **changes):
    config = _config(photos, **changes)
    dataset = scan_dataset(photos)
    return config, to_sdscripts(config, dataset, traits=traits(family), folder=Path("/out"), name="toy", ending=ending)


def _parsed(args: list[str]) -> dict:
    """sd-scripts' own way: split at `=`, then a Python literal."""
    pairs = [arg.split("=") for arg in args]
    return {key: ast.literal_eval(value) for key, value in pairs}


def _arguments(values: dict) -> argparse.Namespace:
    """sd-scripts' parser: the keys of the file are its namespace, and all of them have to be options."""
    parser = argparse.ArgumentParser()
    for name in json.loads(OPTIONS_FILE.read_text())["config"]:
        parser.add_argument(f"--{name}", default=None)
    known = set(vars(parser.parse_args([])))
    assert set(values) <= known
    return parser.parse_args([], namespace=argparse.Namespace(**values))


OPTIMIZERS = [
    {"optimizer": "AdamW", "learning_rate_scale": 2.0, "optimizer_args": {"betas": [0.9, 0.99]}},
    {"optimizer": "AdamW8bit"},
    {"optimizer": "Adafactor", "learning_rate": 3e-4},
    {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"},
    {"optimizer": "DAdaptAdam", "d_coef": 0.5},
    {"optimizer": "Prodigy", "d_coef": 2.0, "optimizer_args": {"bias_correction": True}},
    {"optimizer": "Lion", "weight_decay": 0.1},
    {"optimizer": "Lion8bit"},
    {"optimizer": "AdamWScheduleFree", "warmup_steps": 10},
]


@pytest.mark.parametrize(
    "changes", OPTIMIZERS, ids=lambda c: f"{c['optimizer']}{'-rel' if 'relative_step' in c else ''}"
)
def test_every_optimizer_comes_back_from_toml_as_options_that_exist(photos, changes):
    config, out = _exported(photos, **changes)
    back = tomllib.loads(toml(out.config, comment="one\ntwo"))
    assert back == dict(out.config)
    arguments = _arguments(back)
    assert arguments.optimizer_type.lower() == config.optimizer.lower()
    assert _parsed(arguments.optimizer_args)["weight_decay"] == config.effective_weight_decay
    assert arguments.learning_rate > 0, "sd-scripts leaves out adapters with a rate of 0"
    assert arguments.network_alpha == config.effective_alpha
    assert tomllib.loads(toml(out.dataset)) == dict(out.dataset)


@pytest.mark.parametrize("relative", [False, True])
def test_adafactors_arguments_build_the_real_class_both_ways(photos, relative):
    import torch
    from transformers.optimization import Adafactor

    changes = {"relative_step": True, "lr_scheduler": "adafactor"} if relative else {"learning_rate": 3e-4}
    _, out = _exported(photos, optimizer="Adafactor", **changes)
    keywords = _parsed(out.config["optimizer_args"])
    optimizer = Adafactor([torch.nn.Parameter(torch.zeros(2))], lr=None if relative else 3e-4, **keywords)
    assert optimizer.defaults["relative_step"] is relative
    assert optimizer.defaults["scale_parameter"] is relative
    assert out.config["lr_scheduler"] == ("adafactor" if relative else "constant")
    assert out.config["max_grad_norm"] == 0
    assert out.config["lr_warmup_steps"] == 0
    if not relative:
        assert out.config["unet_lr"] == 3e-4


def test_adamws_arguments_build_the_real_class(photos):
    import torch

    _, out = _exported(photos, **OPTIMIZERS[0])
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **_parsed(out.config["optimizer_args"]))
    assert optimizer.defaults["betas"] == (0.9, 0.99)
    assert out.config["learning_rate"] == pytest.approx(2e-4)


@pytest.mark.parametrize(
    ("optimizer", "argument"), [("DAdaptAdam", "foreach"), ("Prodigy", "fixed_decay"), ("Lion", "weight_decouple")]
)
def test_arguments_that_its_class_does_not_know_are_left_out(photos, optimizer, argument):
    _, out = _exported(photos, optimizer=optimizer, optimizer_args={argument: True})
    assert argument not in _parsed(out.config["optimizer_args"])


def test_schedule_free_warms_up_in_the_optimizer(photos):
    _, out = _exported(photos, **OPTIMIZERS[8])
    assert _parsed(out.config["optimizer_args"])["warmup_steps"] == 10
    assert out.config["lr_warmup_steps"] == 0
    assert out.config["lr_scheduler"] == "constant"


def test_cycles_are_always_given_and_whole(photos):
    _, out = _exported(photos, lr_scheduler="cosine_with_restarts", cycle_epochs=5)
    assert out.config["lr_scheduler_num_cycles"] == 4
    assert not out.notices
    _, out = _exported(photos, lr_scheduler="cosine_with_restarts", cycle_epochs=6)
    assert out.config["lr_scheduler_num_cycles"] == 4
    assert [notice.split(":")[0] for notice in out.notices] == ["cycle_epochs"]


def test_rank_stabilised_scale_is_kept_by_another_alpha(photos):
    config, out = _exported(photos, rank=16, alpha=4.0, rslora=True)
    assert out.config["network_alpha"] / 16 == pytest.approx(config.effective_alpha / 4)  # alpha ÷ √rank
    assert any("rslora" in notice for notice in out.notices)


def test_what_sdscripts_cannot_do_is_said(photos):
    _, out = _exported(photos, targets="attention", dora=True)
    assert [n.split(":")[0] for n in out.notices] == ["targets", "dora", "dora"]


@pytest.mark.parametrize(
    ("family", "script"),
    [("sd15", "train_network.py"), ("sdxl", "sdxl_train_network.py"), ("sd3", "sd3_train_network.py")],
)
def test_each_family_has_its_script(photos, family, script):
    _, out = _exported(photos, family=family, clip_skip=2, min_snr_gamma=5.0)
    assert out.script == script
    assert out.config.get("clip_skip") == (2 if family == "sd15" else None)
    assert out.config.get("min_snr_gamma") == (None if family == "sd3" else 5.0)
    assert out.config["no_half_vae"] is True, "our VAE stays in fp32"


def test_noise_and_weights_have_sd_scripts_names(photos):
    asked = {"noise_offset": 0.05, "ip_noise_gamma": 0.1}
    flags = {"noise_offset_random_strength": True, "debiased_estimation_loss": True}
    _, out = _exported(photos, **asked, **flags)
    assert {key: out.config[key] for key in asked | flags} == asked | flags
    assert not out.notices
    _, plain = _exported(photos, noise_offset_random_strength=True)
    assert not (asked | flags).keys() & plain.config.keys()
    _, sd3 = _exported(photos, family="sd3", **asked, **flags)
    assert "debiased_estimation_loss" not in sd3.config
    assert {notice.split(":")[0] for notice in sd3.notices} >= asked.keys(), "sd-scripts ignores them for SD3"


def test_the_photos_keep_repeats_roles_words_and_caption_files(photos):
    config, out = _exported(photos, flip=True, shuffle_caption=True, keep_tokens=1, caption_dropout=0.1)
    back = tomllib.loads(toml(out.dataset))
    assert back["general"] == {
        "caption_extension": ".txt", "shuffle_caption": True, "keep_tokens": 1, "flip_aug": True,
        "caption_dropout_rate": 0.1,
    }  # fmt: skip
    subsets = {Path(s["image_dir"]).name: s for s in back["datasets"][0]["subsets"]}
    assert {name: s["num_repeats"] for name, s in subsets.items()} == {"3_sks toy": 3, "1_sks toy": 1, "1_toy": 1}
    assert subsets["3_sks toy"]["class_tokens"] == "sks toy"
    assert "caption_extension" not in subsets["3_sks toy"]
    assert subsets["1_sks toy"]["caption_extension"] == ".caption"
    assert subsets["1_toy"]["is_reg"] is True
    assert out.config["prior_loss_weight"] == config.prior_loss_weight
    assert back["datasets"][0]["resolution"] == 64


def test_a_rectangle_and_its_buckets_keep_their_sides(photos):
    _, out = _exported(photos, resolution=[64, 128], enable_bucket=True, bucket_step=64, min_bucket_resolution=64)
    one = tomllib.loads(toml(out.dataset))["datasets"][0]
    assert one["resolution"] == [64, 128]
    assert (one["min_bucket_reso"], one["max_bucket_reso"], one["bucket_reso_steps"]) == (64, 1024, 64)
    assert one["bucket_no_upscale"] is False
    assert not out.notices


@pytest.mark.parametrize(("family", "least"), [("sd15", 64), ("sdxl", 32), ("sd3", 32)])
def test_buckets_that_sdscripts_refuses_are_written_as_it_takes_them_and_this_is_said(photos, family, least):
    _, out = _exported(
        photos, family, resolution=512, enable_bucket=True, bucket_step=8, min_bucket_resolution=264,
        max_bucket_resolution=1000,
    )  # fmt: skip
    one = tomllib.loads(toml(out.dataset))["datasets"][0]
    assert one["bucket_reso_steps"] == least
    assert one["min_bucket_reso"] == 256
    assert one["max_bucket_reso"] == -(-1000 // least) * least
    (said,) = [notice for notice in out.notices if notice.startswith("bucket_step: 8")]
    assert f"multiples of {least}" in said


def test_an_option_that_sdscripts_does_not_know_is_an_error(photos):
    from dataclasses import replace

    _, out = _exported(photos)
    for wrong, said in (
        (
            replace(out, config={**out.config, "learning_rte": 1e-4}),
            "learning_rte: expected an option",
        ),
        (replace(out, config={**out.config, "seed": "0"}), "seed: expected an int, as sd-scripts reads it, got .0."),
        (replace(out, config={**out.config, "lr_scheduler": "warm"}), "lr_scheduler: expected one of"),
        (replace(out, dataset={**out.dataset, "general": {"captions": ".txt"}}), "captions: expected an option"),
    ):
        with pytest.raises(SearchError, match=said):
            check_sdscripts(wrong.config, wrong.dataset)


def test_awkward_paths_survive_toml():
    values = {"path": 'C:\\photos\\"new" ü 写真\t', "numbers": [1, 2], "rate": 1e-05, "on": True, "t": {"a": "b"}}
    assert tomllib.loads(toml(values)) == values


HORIZON = {"num_warmup_steps": 3, "num_training_steps": 20 * 11}
COURSES = [
    ({"lr_scheduler": "linear"}, "get_linear_schedule_with_warmup", {}),
    ({"lr_scheduler": "cosine"}, "get_cosine_schedule_with_warmup", {}),
    (
        {"lr_scheduler": "cosine_with_restarts", "num_cycles": 4},
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        {"num_cycles": 4},
    ),
    ({"lr_scheduler": "polynomial"}, "get_polynomial_decay_schedule_with_warmup", {}),
]


@pytest.mark.parametrize(("course", "function", "more"), COURSES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_run_that_ends_at_the_epoch_to_ship_keeps_the_schedule_of_its_horizon(photos, course, function, more):
    import torch

    from trainer.optimization.schedules import ScheduleSettings, build_schedule

    _, out = _exported(photos, ending=Ending(8, steps_per_epoch=11), warmup_steps=3, **course)
    assert out.config["max_train_epochs"] == 8
    assert out.config["lr_warmup_steps"] == 0, "sd-scripts refuses a warm-up beside lr_scheduler_type"
    assert out.config["lr_scheduler_type"] == f"diffusers.optimization.{function}"
    arguments = _parsed(out.config["lr_scheduler_args"])
    assert arguments == HORIZON | more

    def rates(make) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler, seen = make(optimizer), []
        for _ in range(8 * 11):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    import diffusers.optimization

    theirs = rates(lambda optimizer: getattr(diffusers.optimization, function)(optimizer, **arguments))
    ours = rates(
        lambda optimizer: build_schedule(
            optimizer,
            ScheduleSettings(course["lr_scheduler"], more.get("num_cycles", 1), warmup_steps=3),
            total_steps=220,
        )
    )
    assert theirs == pytest.approx(ours, abs=1e-6)


def test_a_flat_schedule_needs_no_horizon(photos):
    _, out = _exported(photos, ending=Ending(8, steps_per_epoch=11))
    assert out.config["max_train_epochs"] == 8
    assert "lr_scheduler_type" not in out.config


def test_going_on_trains_the_horizon_and_saves_the_epoch_to_ship(photos):
    _, out = _exported(
        photos, ending=Ending(9, go_on=True, steps_per_epoch=11), lr_scheduler="cosine", save_every_n_epochs=2
    )
    assert out.config["max_train_epochs"] == 20
    assert 9 % out.config["save_every_n_epochs"] == 0
    assert "lr_scheduler_type" not in out.config


def test_epochs_of_a_number_of_steps_are_told_in_steps(photos):
    _, out = _exported(
        photos,
        ending=Ending(9, go_on=True, steps_per_epoch=7, steps_per_pass=11),
        steps_per_epoch=7,
        save_every_n_epochs=2,
    )
    told = {key: out.config[key] for key in ("max_train_steps", "save_every_n_steps")}
    assert told == {"max_train_steps": 140, "save_every_n_steps": 7}
    assert "max_train_epochs" not in out.config
    assert "save_every_n_epochs" not in out.config


def test_paths_are_as_seen_from_the_folder_of_the_files(photos, tmp_path):
    from dataclasses import asdict

    config = _config(photos, base=str(tmp_path / "models" / "base.safetensors"))
    folder = tmp_path / "out" / "sd-scripts"
    out = to_sdscripts(config, scan_dataset(photos), traits=traits(), folder=folder, name="toy")
    assert out.config["pretrained_model_name_or_path"] == "../../models/base.safetensors"
    for subset in out.dataset["datasets"][0]["subsets"]:
        assert (folder / subset["image_dir"]).resolve().is_dir()
    assert str(tmp_path) not in str(asdict(out))


def test_weights_under_zero_terminal_snr_are_said(photos):
    config = _config(photos, min_snr_gamma=5.0, debiased_estimation_loss=True)
    there = {"folder": Path("/o"), "name": "n"}
    out = to_sdscripts(config, scan_dataset(photos), traits=traits(velocity=True, zero_terminal=True), **there)
    assert [notice.split(":")[0] for notice in out.notices] == ["min_snr_gamma", "debiased_estimation_loss"]
    assert not to_sdscripts(config, scan_dataset(photos), traits=traits(velocity=True), **there).notices


def test_a_text_encoder_that_sd_scripts_would_fill_at_random_is_told(tmp_path: Path) -> None:
    """Its transformers looks for names with `text_model.`; the present one writes them without."""
    base = tiny.make_sd15(tmp_path / "base")
    settings = json.loads((base / "unet" / "config.json").read_text())
    settings["block_out_channels"] = [320, 640, 1280, 1280]
    (base / "unet" / "config.json").write_text(json.dumps(settings))
    file = base / "text_encoder" / "model.safetensors"
    weights = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}

    save_file(weights, file, {"format": "pt"})
    (said,) = about_base(str(base), traits("sd15"))
    assert said.startswith("text_encoder: ")
    assert "text_model." in said
    save_file({f"text_model.{name}": tensor for name, tensor in weights.items()}, file, {"format": "pt"})
    assert about_base(str(base), traits("sd15")) == []


def test_a_setting_changes_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    assert_a_setting_changes_what_it_should_and_nothing_else(tmp_path, "sd-scripts")

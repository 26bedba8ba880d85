"""What is exported for sd-scripts and the kohya_ss GUI is read again as the run that it was."""

import json
from pathlib import Path

import pytest

from search.exports.kohya_gui import absolute, to_kohya_gui
from search.exports.sdscripts import to_sdscripts
from search.exports.toml import toml
from tests import tiny
from tests.search.base_predictions import traits
from trainer.config.config import TrainConfig, parse_train_config
from trainer.data.dataset import scan_dataset
from trainer.errors import ConfigError
from trainer.production.production_config import load_production

RUNS = {
    "plain": {"rank": 8, "alpha": 4.0},
    "buckets and regularisation": {"enable_bucket": True, "min_snr_gamma": 5.0, "noise_offset": 0.05, "flip": True},
    "restarts": {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3, "warmup_steps": 4},
    "LoCon": {"conv_rank": 4, "conv_alpha": 2.0, "train_text_encoder": True, "shuffle_caption": True},
    "Prodigy": {"optimizer": "Prodigy", "d_coef": 2.0, "optimizer_args": {"bias_correction": True}},
    "Adafactor": {
        "optimizer": "Adafactor",
        "relative_step": True,
        "lr_scheduler": "adafactor",
        "train_text_encoder": True,
    },
    "8 bit": {"optimizer": "AdamW8bit", "precision": "bf16", "batch_size": 2, "gradient_checkpointing": True},
    "schedule-free": {"optimizer": "AdamWScheduleFree", "warmup_steps": 10},
}
SAME = (
    *("rank", "effective_alpha", "conv_rank", "effective_conv_alpha", "optimizer", "effective_learning_rate"),
    *("effective_weight_decay", "effective_max_grad_norm", "lr_scheduler", "effective_num_cycles", "warmup_steps"),
    *("epochs", "save_every_n_epochs", "seed", "size", "batch_size", "enable_bucket", "flip", "shuffle_caption"),
    *("min_snr_gamma", "noise_offset", "precision", "gradient_checkpointing", "train_text_encoder", "d_coef"),
    *("relative_step", "optimizer_args", "gradient_accumulation_steps", "base", "data", "prior_loss_weight"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny.make_photos(tmp_path_factory.mktemp("data") / "photos", count=4, repeats=3)
    (root / "reg").mkdir()
    (tiny.make_photos(root.parent / "more", count=2, repeats=1) / "1_sks toy").rename(root / "reg" / "1_toy")
    return root


def same(config: TrainConfig, read: TrainConfig) -> None:
    assert {name: getattr(read, name) for name in SAME} == {name: getattr(config, name) for name in SAME}
    own_rate = config.train_text_encoder and not config.relative_step
    assert read.text_encoder_lr == (config.effective_text_encoder_lr if own_rate else None)


@pytest.mark.parametrize("run", RUNS)
def test_an_export_is_read_again_as_the_same_run(photos: Path, tmp_path: Path, run: str) -> None:
    (tmp_path / "base").mkdir()
    written = {"base": str(tmp_path / "base"), "data": str(photos), "resolution": 256, "epochs": 20, "seed": 7}
    config = parse_train_config(written | RUNS[run])
    exported = to_sdscripts(config, scan_dataset(photos), traits=traits("sd15"), folder=tmp_path, name="toy")
    (tmp_path / "config.toml").write_text(toml(exported.config))
    (tmp_path / "dataset.toml").write_text(toml(exported.dataset))
    said: list[str] = []
    read, output = load_production(tmp_path / "config.toml", tell=said.append)
    same(config, read)
    assert (output.name, said) == ("toy", [])

    dataset_file = tmp_path / "absolute.toml"
    dataset_file.write_text(toml(absolute(exported.dataset, tmp_path)))
    gui = to_kohya_gui(config, exported, family="sd15", folder=tmp_path, dataset_file=dataset_file, total_steps=20 * 12)
    (tmp_path / "gui.json").write_text(json.dumps(gui))
    same(config, load_production(tmp_path / "gui.json", tell=said.append)[0])
    assert said == []


def kohya(folder: Path, photos: Path, **more: object) -> Path:
    values = {"pretrained_model_name_or_path": "org/base", "train_data_dir": str(photos), **more}
    (folder / "kohya.toml").write_text(toml(values))
    return folder / "kohya.toml"


def test_steps_become_epochs_and_what_is_left_out_is_as_in_sd_scripts(photos: Path, tmp_path: Path) -> None:
    said: list[str] = []
    path = kohya(tmp_path, photos, max_train_steps=120, network_dropout=0.1, resolution="64,64", of_tomorrow=1)
    config, _ = load_production(path, tell=said.append)
    assert (config.rank, config.alpha, config.learning_rate) == (4, 1, 2e-6)
    assert (config.epochs, config.save_every_n_epochs) == (5, 5), "24 steps: 12 photos, and as many that regularise"
    assert [line for line in said if "120 are 5 epochs of 24 steps" in line]
    assert [line for line in said if "not taken over" in line and "network_dropout, of_tomorrow" in line]
    assert [line for line in said if "as in sd-scripts: network_dim: 4, network_alpha: 1" in line]


@pytest.mark.parametrize(
    ("length", "asked", "steps", "checkpoints"),
    [
        (10, 120, 120, [*range(10, 121, 10)]),
        (50, 120, 120, [50, 100, 120]),
        (48, 120, 120, [48, 96, 120]),
        (500, 120, 120, [120]),
        (97, 120, 194, [97, 194]),  # ends of both kinds would take epochs of a single step
    ],
)
def test_checkpoints_lie_at_their_steps_within_a_pass(
    photos: Path, tmp_path: Path, length: int, asked: int, steps: int, checkpoints: list[int]
) -> None:
    said: list[str] = []
    path = kohya(tmp_path, photos, max_train_steps=asked, save_every_n_steps=length, lr_warmup_steps=9)
    config, _ = load_production(path, tell=said.append)
    each, every = config.steps_per_epoch or 24, config.save_every_n_epochs
    assert config.epochs * each == steps
    assert sorted({*range(each * every, steps + 1, each * every), steps}) == checkpoints
    (told,) = [line for line in said if f"save_every_n_steps: {length}" in line]
    assert ("instead of 120" in told) == (steps != 120)


@pytest.mark.parametrize(
    ("key", "value"),
    [("network_module", "lycoris.kohya"), ("optimizer_type", "Sophia"), ("optimizer_args", ["oops"])],
)
def test_what_cannot_be_trained_is_refused_by_its_name(photos: Path, tmp_path: Path, key: str, value: object) -> None:
    ours = {"optimizer_type": "optimizer"}.get(key, key)
    with pytest.raises(ConfigError, match=f"kohya.toml: {ours}: expected"):
        load_production(kohya(tmp_path, photos, max_train_epochs=3, **{key: value}))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.toml", "x = ["), ("b.json", "[1]"), ("c.json", "{"), ("d.toml", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            load_production(tmp_path / name)
    with pytest.raises(ConfigError, match="can be read"):
        load_production(tmp_path / "none.toml")

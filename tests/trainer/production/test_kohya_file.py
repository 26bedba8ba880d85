"""A run of sd-scripts or the kohya_ss GUI, key by key, in the words of a train.yaml."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.messages import refusal
from trainer.errors import ConfigError
from trainer.production.kohya_file import MOST_BYTES, KohyaRun, read_kohya_file

BARE = {"pretrained_model_name_or_path": "org/base", "train_data_dir": "photos", "max_train_epochs": 6}
THEIR_DEFAULTS = {"rank": 4, "alpha": 1, "optimizer": "AdamW", "learning_rate": 2e-6, "text_encoder_lr": 2e-6}
PLAIN = {
    "base": "org/base",
    "data": "photos",
    "resolution": 512,
    "train_text_encoder": True,
    "epochs": 6,
    "save_every_n_epochs": 6,
    **THEIR_DEFAULTS,
}


def _shelf(folder: Path, name: str, photos: int) -> Path:
    shelf = folder / name
    shelf.mkdir(parents=True)
    for number in range(photos):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(shelf / f"{number}.png")
    return shelf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photos, each twice: ten steps a pass over them."""
    _shelf(tmp_path / "photos", "2_sks dog", 5)
    return tmp_path


def _read(folder: Path, ending: str = ".toml", **changes: Any) -> KohyaRun:
    values = {key: value for key, value in (BARE | changes).items() if value is not None}
    path = folder / f"run{ending}"
    if ending == ".json":
        path.write_text(json.dumps(values))
    else:
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return read_kohya_file(path)


def _changed(folder: Path, ending: str = ".toml", **changes: Any) -> dict[str, Any]:
    """What differs from the plain run; None where a setting is gone."""
    found = _read(folder, ending, **changes).values
    return {key: found.get(key) for key in {**PLAIN, **found} if found.get(key) != PLAIN.get(key)}


def test_a_bare_file_is_trained_with_the_defaults_of_sd_scripts(folder: Path) -> None:
    found = _read(folder)
    assert found.values == PLAIN
    left_out = "network_dim: 4, network_alpha: 1, learning_rate: 2e-06"
    assert found.notes == (f"run.toml: left out there, so as in sd-scripts: {left_out}",)
    assert _read(folder, network_dim=8, network_alpha=4, unet_lr=1e-4).notes == ()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"network_dim": 16, "network_alpha": 8.5}, {"rank": 16, "alpha": 8.5}),
        ({"seed": 7, "gradient_accumulation_steps": 2}, {"seed": 7, "gradient_accumulation_steps": 2}),
        ({"seed": 0, "keep_tokens": 0, "min_snr_gamma": 0, "noise_offset": 0.0, "ip_noise_gamma": 0}, {}),
        ({"keep_tokens": 2, "min_snr_gamma": 5}, {"keep_tokens": 2, "min_snr_gamma": 5}),
        ({"max_grad_norm": 0, "prior_loss_weight": 0.0}, {"max_grad_norm": 0, "prior_loss_weight": 0.0}),
        ({"train_batch_size": 3, "flip_aug": True}, {"batch_size": 3, "flip": True}),
        ({"caption_dropout_rate": 0.1}, {"caption_dropout": 0.1}),
        (
            {"min_bucket_reso": 128, "max_bucket_reso": 768},
            {"min_bucket_resolution": 128, "max_bucket_resolution": 768},
        ),
        ({"bucket_reso_steps": 32}, {"bucket_step": 32}),
        ({"mixed_precision": "bf16"}, {"precision": "bf16"}),
        ({"mixed_precision": False}, {"precision": "no"}),
        ({"lr_scheduler": ""}, {}),
        ({"resolution": "768"}, {"resolution": 768}),
        ({"resolution": "768,512"}, {"resolution": [768, 512]}),
        ({"max_resolution": "640x640"}, {"resolution": 640}),
        ({"resolution": [256, 256]}, {"resolution": 256}),
        ({"clip_skip": 1}, {}),
        ({"clip_skip": 2}, {"clip_skip": 2}),
        ({"output_name": "toy"}, {"output": {"name": "toy"}}),
        ({"save_every_n_epochs": 2}, {"save_every_n_epochs": 2}),
        ({"network_args": ["conv_dim=4", "conv_alpha=2"]}, {"conv_rank": 4, "conv_alpha": 2}),
        ({"network_args": "conv_dim=4"}, {"conv_rank": 4}),
        ({"network_args": ["conv_alpha=2"]}, {}),
        ({"LoRA_type": "Standard", "conv_dim": 4, "conv_alpha": 2}, {}),
        ({"LoRA_type": "Kohya LoCon", "conv_dim": 4, "conv_alpha": 2}, {"conv_rank": 4, "conv_alpha": 2}),
        # rates
        ({"learning_rate": 1e-4}, {"learning_rate": 1e-4, "text_encoder_lr": 1e-4}),
        ({"unet_lr": 1e-4}, {"learning_rate": 1e-4}),
        (
            {"learning_rate": 1e-3, "unet_lr": 1e-4, "text_encoder_lr": 1e-5},
            {"learning_rate": 1e-4, "text_encoder_lr": 1e-5},
        ),
        ({"text_encoder_lr": [1e-5, 2e-5]}, {"text_encoder_lr": 1e-5}),
        ({"text_encoder_lr": []}, {}),
        ({"text_encoder_lr": 0}, {"train_text_encoder": False, "text_encoder_lr": None}),
        ({"network_train_unet_only": True}, {"train_text_encoder": False, "text_encoder_lr": None}),
        # optimizers
        ({"optimizer_type": "Lion"}, {"optimizer": "Lion"}),
        ({"optimizer": "Lion"}, {"optimizer": "Lion"}),
        ({"optimizer_args": ["weight_decay=0.1", "eps=1e-6"]}, {"weight_decay": 0.1, "optimizer_args": {"eps": 1e-6}}),
        (
            {"optimizer_args": "betas=(0.9,0.95) foreach=cautious"},
            {"optimizer_args": {"betas": [0.9, 0.95], "foreach": "cautious"}},
        ),
        (
            {"optimizer_type": "Prodigy", "optimizer_args": ["decouple=True", "d_coef=2", "use_bias_correction=True"]},
            {"optimizer": "Prodigy", "d_coef": 2, "optimizer_args": {"bias_correction": True}},
        ),
        (
            {"optimizer_type": "Prodigy", "optimizer_args": ["decouple=False"]},
            {"optimizer": "Prodigy", "optimizer_args": {"weight_decouple": False}},
        ),
        ({"optimizer_args": ["decouple=True"]}, {"optimizer_args": {"weight_decouple": True}}),
        (
            {"optimizer_type": "Adafactor"},
            {
                "optimizer": "Adafactor",
                "relative_step": True,
                "lr_scheduler": "adafactor",
                "learning_rate": None,
                "text_encoder_lr": None,
            },
        ),
        (
            {
                "optimizer_type": "Adafactor",
                "optimizer_args": ["relative_step=False", "scale_parameter=False", "warmup_init=False"],
            },
            {"optimizer": "Adafactor", "relative_step": False},
        ),
        (
            {"optimizer_type": "Adafactor", "optimizer_args": ["relative_step=False", "scale_parameter=True"]},
            {"optimizer": "Adafactor", "relative_step": False, "optimizer_args": {"scale_parameter": True}},
        ),
        (
            {"optimizer_type": "AdamWScheduleFree", "optimizer_args": ["warmup_steps=10"]},
            {"optimizer": "AdamWScheduleFree", "warmup_steps": 10},
        ),
        ({"optimizer_args": ["warmup_steps=10"]}, {"optimizer_args": {"warmup_steps": 10}}),
        # schedules: a pass is ten steps
        ({"lr_scheduler": "cosine_with_restarts"}, {"lr_scheduler": "cosine_with_restarts", "num_cycles": 1}),
        (
            {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3},
            {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3},
        ),
        ({"lr_scheduler": "cosine", "lr_scheduler_num_cycles": 3}, {"lr_scheduler": "cosine"}),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 5}, {"lr_scheduler": "cosine", "warmup_steps": 5}),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 1}, {"lr_scheduler": "cosine", "warmup_steps": 1}),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 5.0}, {"lr_scheduler": "cosine", "warmup_steps": 5}),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 0.1}, {"lr_scheduler": "cosine", "warmup_steps": 6}),
        ({"lr_scheduler": "cosine", "lr_warmup": 25}, {"lr_scheduler": "cosine", "warmup_steps": 15}),
        (
            {"lr_scheduler": "cosine", "lr_warmup": 25, "train_batch_size": 3, "gradient_accumulation_steps": 2},
            {"lr_scheduler": "cosine", "warmup_steps": 3, "batch_size": 3, "gradient_accumulation_steps": 2},
        ),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 5}, {"lr_scheduler": "constant"}),
        ({"lr_warmup_steps": 5}, {}),
    ],
)
def test_each_key_means_this_setting(folder: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert _changed(folder, **theirs) == ours


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        # ten steps a pass over the photos
        ({"max_train_steps": 45}, (5, 5, None), "max_train_steps: 45 are 5 epochs of 10 steps"),
        ({"max_train_steps": 40}, (4, 4, None), "max_train_steps: 40 are 4 epochs of 10 steps"),
        ({"max_train_steps": 3}, (1, 1, None), "max_train_steps: 3 are 1 epochs of 10 steps"),
        ({"max_train_steps": 40, "train_batch_size": 4}, (14, 14, None), "40 are 14 epochs of 3 steps"),
        ({"max_train_epochs": 6, "save_every_n_steps": 20}, (3 * 2, 2, None), "20: a checkpoint every 2 epochs"),
        ({"max_train_steps": 60, "save_every_n_steps": 15}, (4, 1, 15), "the run is 4 epochs of 15 steps here"),
        (
            {"max_train_steps": 60, "save_every_n_steps": 25},
            (12, 5, 5),
            "12 epochs of 5 steps here (steps_per_epoch), with a checkpoint at every 5th",
        ),
        (
            {"max_train_steps": 61, "save_every_n_steps": 25},
            (3, 1, 25),
            "3 epochs of 25 steps here (steps_per_epoch), 75 steps instead of 61",
        ),
        ({"max_train_steps": 65, "save_every_n_steps": 100}, (1, 1, 65), "100: the run is 1 epochs of 65 steps"),
        ({"max_train_steps": 61, "save_every_n_steps": 20}, (61, 20, 1), "61 epochs of 1 steps"),
        (
            {"max_train_steps": 64, "save_every_n_steps": 21},
            (4, 1, 21),
            "4 epochs of 21 steps here (steps_per_epoch), 84 steps instead of 64",
        ),
    ],
)
def test_steps_are_told_in_epochs(folder: Path, theirs: dict[str, Any], ours: tuple[int, ...], said: str) -> None:
    found = _read(folder, **{"max_train_epochs": None, "network_dim": 4, "network_alpha": 1, "unet_lr": 1e-4} | theirs)
    names = ("epochs", "save_every_n_epochs", "steps_per_epoch")
    assert tuple(found.values.get(name) for name in names) == ours
    (note,) = found.notes
    assert said in note
    assert note.startswith("run.toml: ")


def test_regularisation_images_double_the_steps_of_an_epoch(folder: Path) -> None:
    _shelf(folder / "reg", "1_dog", 2)
    found = _read(folder, max_train_epochs=None, max_train_steps=40, reg_data_dir="reg").values
    assert (found["reg_data"], found["epochs"]) == ("reg", 2)


def test_what_the_gui_writes_beside_its_steps_counts_where_they_are_none(folder: Path) -> None:
    gui = {"max_train_epochs": None, "LoRA_type": "Standard"}
    assert _read(folder, ".json", **gui, max_train_steps=0, epoch=3).values["epochs"] == 3
    assert _read(folder, ".json", **gui, epoch=3).values["epochs"] == 3
    assert _read(folder, ".json", **gui, max_train_steps=50, epoch=3).values["epochs"] == 3
    assert _read(folder, ".toml", max_train_epochs=None, max_train_steps=50, epoch=3).values["epochs"] == 5
    assert (
        _read(folder, ".json", some_button=True, **gui, epoch=1).notes == _read(folder, ".json", **gui, epoch=1).notes
    )


def test_what_has_no_match_here_is_named_unless_it_changes_nothing(folder: Path) -> None:
    said = {"network_dim": 4, "network_alpha": 1, "learning_rate": 1e-4}
    quiet = {"masked_loss": False, "network_dropout": 0, "output_dir": "out", "max_timestep": 1000, "vae": ""}
    assert _read(folder, **said, **quiet).notes == ()
    (note,) = _read(folder, **said, masked_loss=True, max_timestep=900, unheard_of=1).notes
    assert note.endswith("nothing like it here: max_timestep, masked_loss, unheard_of")


def test_sections_of_a_toml_file_are_for_the_eye(folder: Path) -> None:
    path = folder / "run.toml"
    path.write_text(
        'max_train_epochs = 6\n[model]\npretrained_model_name_or_path = "org/base"\n[data]\ntrain_data_dir = "photos"\n'
    )
    assert read_kohya_file(path).values == PLAIN


def test_a_folder_is_looked_for_beside_the_file_then_in_the_working_folder(folder, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    _shelf(elsewhere / "photos", "1_a", 1)
    _shelf(elsewhere / "others", "1_a", 1)
    monkeypatch.chdir(elsewhere)
    found = _read(folder, reg_data_dir="others", pretrained_model_name_or_path="nowhere").values
    assert (found["base"], found["data"], found["reg_data"]) == ("nowhere", "photos", str(elsewhere / "others"))


def _dataset(folder: Path, text: str) -> dict[str, Any]:
    (folder / "data.toml").write_text(text)
    return _read(folder, train_data_dir=None, dataset_config="data.toml").values


def test_a_dataset_file_says_how_photos_are_fed(folder: Path) -> None:
    found = _dataset(
        folder,
        '[general]\nshuffle_caption = true\nkeep_tokens = 1\n[[datasets]]\nresolution = 768\nbatch_size = 2\n'
        'keep_tokens = 2\n[[datasets.subsets]]\nimage_dir = "photos/2_sks dog"\nnum_repeats = 2\n'
        '[[datasets.subsets]]\nis_reg = true\nimage_dir = "kept/1_dog"\n',
    )  # fmt: skip
    fed = {"shuffle_caption": True, "keep_tokens": 2, "resolution": 768, "batch_size": 2}
    assert found == PLAIN | fed | {"data": str(folder / "photos"), "reg_data": str(folder / "kept")}
    inside = '[[datasets.subsets]]\nimage_dir = "photos/2_a"\nnum_repeats = 2\n'
    beside = '[[datasets.subsets]]\nis_reg = true\nimage_dir = "photos/reg/1_a"\n'
    assert _dataset(folder, f"[[datasets]]\n{inside}{beside}") == PLAIN | {"data": str(folder / "photos")}
    (folder / "data.toml").write_text(f"[[datasets]]\nnum_repeats = 2\n{inside.replace('num_repeats = 2', '')}")
    whole = _read(folder, train_data_dir=None, dataset_config=str(folder / "data.toml")).values
    assert whole == PLAIN | {"data": str(folder / "photos")}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[[datasets]]\n[[datasets]]\n", "datasets: expected one dataset"),
        ("", "datasets.subsets: expected folders in one folder"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "a/dogs"\n', r"subsets\[0\].image_dir: .*1_sks dog"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "a/2_d"\nnum_repeats = 3\n', r"subsets\[0\].*3_sks dog"),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "a/1_d"\n[[datasets.subsets]]\nimage_dir = "b/1_d"\n',
            "datasets.subsets: expected folders in one folder",
        ),
    ],
)
def test_a_dataset_that_a_run_cannot_have_is_refused(folder: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"data.toml: .*{key}"):
        _dataset(folder, text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained_model_name_or_path": None}, "pretrained_model_name_or_path: expected the base model"),
        ({"train_data_dir": None}, "train_data_dir: expected the folder of photos"),
        ({"network_module": "lycoris.kohya"}, refusal("network_module", "lycoris.kohya")),
        ({"LoRA_type": "LyCORIS/LoHa"}, refusal("LoRA_type", "LyCORIS/LoHa", "Standard or Kohya LoCon")),
        ({"network_args": ["conv_dim"]}, refusal("network_args", "conv_dim")),
        ({"optimizer_args": "weight_decay"}, refusal("optimizer_args", "weight_decay")),
        ({"train_data_dir": "gone", "max_train_epochs": None}, "max_train_steps: expected max_train_epochs"),
    ],
)
def test_a_run_that_is_not_trained_here_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _read(folder, **changes)


@pytest.mark.parametrize("module", ["networks.lora", "networks.lora_sd3", ""])
def test_modules_of_a_plain_lora_are_taken(folder: Path, module: str) -> None:
    assert _changed(folder, network_module=module) == {}


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for name, content, said in (
        ("list.json", b"[1]", "expected a JSON file"),
        ("broken.json", b"{", "a mistake"),
        ("broken.toml", b"a = ", "expected a TOML file"),
        ("latin.toml", b'a = "\xe9"', "a mistake"),
        ("deep.json", b"[" * 100_000, "a mistake"),
        ("large.json", b" " * (MOST_BYTES + 1), r"at most 1 MiB, got 1,048,577 bytes"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            read_kohya_file(tmp_path / name)
    with pytest.raises(ConfigError, match="that can be read"):
        read_kohya_file(tmp_path / "none.toml")


def test_a_file_of_the_largest_size_with_a_mark_is_read(folder: Path) -> None:
    text = b"\xef\xbb\xbf" + json.dumps(BARE).encode()
    (folder / "run.json").write_bytes(text + b" " * (MOST_BYTES - len(text)))
    assert read_kohya_file(folder / "run.json").values == PLAIN

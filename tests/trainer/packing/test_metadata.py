"""What a LoRA file says about the training that it comes from, in kohya's keys."""

import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.packing.run_metadata import metadata
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset, Photo
from trainer.families.family import Base
from trainer.packing.metadata import describe_dataset, describe_subsets


def test_the_datasets_are_listed_by_their_folders_own_names(tiny_sd15, tiny_photos) -> None:
    found = metadata(load_base(tiny_sd15), tiny_photos, flip=True)
    (dataset,) = json.loads(found["ss_datasets"])
    assert dataset["resolution"] == [64, 64]
    assert dataset["num_train_images"] == 16
    assert dataset["tag_frequency"] == json.loads(found["ss_tag_frequency"])
    (subset,) = dataset["subsets"]
    assert subset["image_dir"] == "2_sks toy"
    assert (subset["num_repeats"], subset["img_count"]) == (2, 8)
    assert (subset["class_tokens"], subset["is_reg"], subset["flip_aug"]) == ("sks toy", False, True)
    assert not [key for key, value in found.items() if str(tiny_photos.parent) in value], "no path of this machine"
    assert not [key for key in found if key.endswith("sd_model_hash")], "a folder has no hash of a file"


def test_a_single_file_base_is_named_by_its_hashes(tiny_sd15, tiny_photos, tmp_path) -> None:
    """The reference is sd-scripts' model_hash and calculate_sha256, written down anew."""
    base = load_base(tiny_sd15)
    content = random.Random(0).randbytes(0x120000)
    (tmp_path / "base.safetensors").write_bytes(content)
    base.source = str(tmp_path / "base.safetensors")
    found = metadata(base, tiny_photos)
    assert found["ss_new_sd_model_hash"] == hashlib.sha256(content).hexdigest()
    assert found["ss_sd_model_hash"] == hashlib.sha256(content[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    assert found["ss_sd_model_name"] == "base.safetensors"


def test_sdxl_and_convolutions_say_so(tiny_sdxl, tiny_photos) -> None:
    base = load_base(tiny_sdxl)
    found = metadata(base, tiny_photos, conv_rank=2, conv_alpha=1.0, train_text_encoder=True)
    assert found["ss_base_model_version"] == "sdxl_base_v1-0"
    assert found["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert json.loads(found["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "1.0"}
    assert found["ss_text_encoder_lr"] == "5e-05"


def test_noise_and_weights_are_told_in_sd_scripts_keys(tiny_sd15, tiny_photos) -> None:
    base = load_base(tiny_sd15)
    keys = ("ss_noise_offset", "ss_noise_offset_random_strength", "ss_ip_noise_gamma", "ss_debiased_estimation")
    plain = metadata(base, tiny_photos)
    assert [plain[key] for key in keys] == ["None", "False", "None", "False"]
    settings = {"noise_offset": 0.05, "noise_offset_random_strength": True, "ip_noise_gamma": 0.1}
    found = metadata(base, tiny_photos, debiased_estimation_loss=True, **settings)
    assert [found[key] for key in keys] == ["0.05", "True", "0.1", "True"]


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


def test_a_plain_run_is_told_whole(base: Base, tiny_sd15: Path, tiny_photos: Path) -> None:
    before = time.time()
    found = metadata(base, tiny_photos)
    assert before <= float(found.pop("ss_training_finished_at")) <= time.time()
    assert found.pop("ss_session_id").isdigit()
    for key in ("ss_datasets", "ss_tag_frequency", "ss_bucket_info", "ss_dataset_dirs", "ss_reg_dataset_dirs"):
        json.loads(found.pop(key))
    assert found == {
        "ss_training_started_at": "1700000000.0",
        "ss_output_name": "toy",
        "ss_sd_model_name": tiny_sd15.name,
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_clip_skip": "None",
        "ss_max_token_length": "None",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_network_dropout": "None",
        "ss_network_args": "{}",
        "ss_learning_rate": "0.0001",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "None",
        "ss_optimizer": "AdamW",
        "ss_lr_scheduler": "constant",
        "ss_lr_warmup_steps": "0",
        "ss_max_grad_norm": "1.0",
        "ss_epoch": "3",
        "ss_num_epochs": "10",
        "ss_steps": "24",
        "ss_max_train_steps": "80",
        "ss_seed": "7",
        "ss_mixed_precision": "no",
        "ss_gradient_checkpointing": "False",
        "ss_gradient_accumulation_steps": "1",
        "ss_min_snr_gamma": "None",
        "ss_debiased_estimation": "False",
        "ss_noise_offset": "None",
        "ss_noise_offset_random_strength": "False",
        "ss_ip_noise_gamma": "None",
        "ss_prior_loss_weight": "1.0",
        "ss_caption_dropout_rate": "0.0",
        "ss_shuffle_caption": "False",
        "ss_keep_tokens": "0",
        "ss_flip_aug": "False",
        "ss_color_aug": "False",
        "ss_random_crop": "False",
        "ss_cache_latents": "True",
        "ss_zero_terminal_snr": "False",
        "ss_resolution": "(64, 64)",
        "ss_batch_size_per_device": "2",
        "ss_total_batch_size": "2",
        "ss_enable_bucket": "False",
        "ss_num_batches_per_epoch": "8",
        "ss_num_train_images": "16",
        "ss_num_reg_images": "0",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "toy",
        "modelspec.resolution": "64x64",
        "modelspec.date": "2023-11-14T22:13:20",
        "modelspec.prediction_type": "epsilon",
    }


DORA = {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"}
CHANGES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"output_name": "dog"}, {"ss_output_name": "dog", "modelspec.title": "dog"}),
    ({"epoch": 1, "steps": 8}, {"ss_epoch": "1", "ss_steps": "8"}),
    ({"steps_per_epoch": 5, "epochs": 4}, {"ss_num_epochs": "4", "ss_max_train_steps": "20"}),
    ({"processes": 3, "batches": 7}, {"ss_total_batch_size": "6", "ss_num_batches_per_epoch": "7"}),
    ({"gradient_accumulation_steps": 4}, {"ss_gradient_accumulation_steps": "4", "ss_total_batch_size": "8"}),
    ({"gradient_checkpointing": True}, {"ss_gradient_checkpointing": "True"}),
    (
        {"rank": 9, "rslora": True},
        {"ss_network_dim": "9", "ss_network_alpha": "6.0", "ss_network_args": {"rs_lora": "True"}},
    ),
    ({"conv_rank": 4, "conv_alpha": 3.0}, {"ss_network_args": {"conv_dim": "4", "conv_alpha": "3.0"}}),
    (
        {"conv_rank": 4, "conv_alpha": 3.0, "rslora": True},
        {"ss_network_alpha": "4.0", "ss_network_args": {"conv_dim": "4", "conv_alpha": "6.0", "rs_lora": "True"}},
    ),
    ({"dora": True}, {"ss_network_module": "lycoris.kohya", "ss_network_args": DORA}),
    ({"learning_rate": 0.5}, {"ss_learning_rate": "0.5", "ss_unet_lr": "0.5"}),
    ({"train_text_encoder": True, "text_encoder_lr": 0.25}, {"ss_text_encoder_lr": "0.25"}),
    ({"text_encoder_lr": 0.25}, {}),
    (
        {"optimizer": "Adafactor", "relative_step": True, "train_text_encoder": True, "text_encoder_lr": 0.25},
        {"ss_optimizer": "Adafactor", "ss_learning_rate": "None", "ss_unet_lr": "None"},
    ),
    ({"lr_scheduler": "cosine", "warmup_steps": 3}, {"ss_lr_scheduler": "cosine", "ss_lr_warmup_steps": "3"}),
    ({"max_grad_norm": 0.25, "min_snr_gamma": 5.0}, {"ss_max_grad_norm": "0.25", "ss_min_snr_gamma": "5.0"}),
    ({"prior_loss_weight": 0.5}, {"ss_prior_loss_weight": "0.5"}),
    ({"caption_dropout": 0.1, "seed": 8}, {"ss_caption_dropout_rate": "0.1", "ss_seed": "8"}),
    ({"shuffle_caption": True, "keep_tokens": 2}, {"ss_shuffle_caption": "True", "ss_keep_tokens": "2"}),
    ({"flip": True}, {"ss_flip_aug": "True"}),
    ({"clip_skip": 1}, {"ss_clip_skip": "1"}),
    ({"clip_skip": 2}, {"ss_clip_skip": "2", "modelspec.encoder_layer": "2"}),
    ({"resolution": (96, 64)}, {"ss_resolution": "(96, 64)", "modelspec.resolution": "96x64"}),
    ({"batch_size": 3}, {"ss_batch_size_per_device": "3", "ss_total_batch_size": "3"}),
    ({"enable_bucket": True}, {"ss_enable_bucket": "True"}),
    ({"metadata": {"onset.trial": "4", "ss_seed": "no"}}, {"onset.trial": "4", "ss_seed": "no"}),
]


@pytest.mark.parametrize(("changes", "expected"), CHANGES, ids=lambda value: "-".join(value))
def test_each_setting_changes_its_own_keys_and_no_other(
    base: Base, tiny_photos: Path, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    aside = {"ss_training_finished_at", "ss_datasets", "ss_session_id"}
    plain, found = metadata(base, tiny_photos), metadata(base, tiny_photos, **changes)
    changed = {key: found.get(key) for key in (plain | found).keys() - aside if plain.get(key) != found.get(key)}
    if "ss_network_args" in changed:
        changed["ss_network_args"] = json.loads(found["ss_network_args"])
    assert changed == expected


def test_a_session_has_the_same_number_again_and_another_run_another(base: Base, tiny_photos: Path) -> None:
    runs = [{}, {}, {"output_name": "dog"}, {"seed": 8}]
    numbers = [int(metadata(base, tiny_photos, **run)["ss_session_id"]) for run in runs]
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3
    assert all(2**20 < number < 2**31 for number in numbers), "kohya draws 31 bits"


def test_bases_of_other_kinds_are_told(base: Base, tiny_sd15_v: Path, tiny_sdxl: Path, tiny_photos: Path) -> None:
    keys = ("ss_v2", "ss_base_model_version", "ss_zero_terminal_snr", "modelspec.architecture",
            "modelspec.prediction_type", "modelspec.implementation")  # fmt: skip
    velocity = load_base(tiny_sd15_v)
    velocity.variant = "v2"
    told = [metadata(one, tiny_photos) for one in (velocity, load_base(tiny_sdxl))]
    sai = "https://github.com/Stability-AI/generative-models"
    assert [[one[key] for key in keys] for one in told] == [
        ["True", "sd_v2", "True", "stable-diffusion-v2-512/lora", "v", "diffusers"],
        ["False", "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", "epsilon", sai],
    ]


def photo(path: str, caption: str, repeats: int, size: tuple[int, int], **named: Any) -> Photo:
    words = {"trigger": "sks", "class_word": "dog", "is_reg": False} | named
    return Photo(Path(path), caption, repeats, words["trigger"], words["class_word"], words["is_reg"], path, *size)


TWO_FOLDERS = Dataset(
    Path("/p"),
    (
        photo("/p/3_sks dog/a.png", "Sks, dog , snow", 3, (200, 100)),
        photo("/p/3_sks dog/b.png", "sks, ,snow", 3, (100, 100)),
        photo("/p/1_sks/c.png", "sks", 1, (100, 100), class_word=None),
        photo("/p/reg/2_dog/d.png", "dog", 2, (100, 100), trigger=None, is_reg=True),
        photo("/p/reg/2_dog/e.png", "dog", 2, (100, 100), trigger=None, is_reg=True),
    ),
)


def test_images_are_counted_with_repeats_and_tags_without() -> None:
    sizes = [(160, 64), (64, 64), (64, 64), (64, 64), (64, 64)]
    assert describe_dataset(TWO_FOLDERS, sizes) == {
        "ss_num_train_images": 7,
        "ss_num_reg_images": 7,  # twice each, then once more, until they are as many
        "ss_dataset_dirs": {"3_sks dog": {"n_repeats": 3, "img_count": 2}, "1_sks": {"n_repeats": 1, "img_count": 1}},
        "ss_reg_dataset_dirs": {"2_dog": {"n_repeats": 2, "img_count": 2}},
        "ss_tag_frequency": {"3_sks dog": {"sks": 2, "dog": 1, "snow": 2}, "1_sks": {"sks": 1}, "2_dog": {"dog": 2}},
        "ss_bucket_info": {
            "buckets": {"0": {"resolution": [64, 64], "count": 11}, "1": {"resolution": [160, 64], "count": 3}},
            "mean_img_ar_error": 0.5 * 3 / 14,
        },
    }


def test_folders_are_listed_with_their_words_and_roles() -> None:
    found = describe_subsets(TWO_FOLDERS, flip_aug=True, shuffle_caption=True, keep_tokens=2)
    augmented = {"flip_aug": True, "shuffle_caption": True, "keep_tokens": 2, "color_aug": False, "random_crop": False}
    assert found == [
        {
            "image_dir": name,
            "img_count": count,
            "num_repeats": repeats,
            "class_tokens": words,
            "is_reg": reg,
            **augmented,
        }
        for name, count, repeats, words, reg in (
            ("3_sks dog", 2, 3, "sks dog", False),
            ("1_sks", 1, 1, "sks", False),
            ("2_dog", 2, 2, "dog", True),
        )
    ]

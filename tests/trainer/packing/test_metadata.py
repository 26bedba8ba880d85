"""What a LoRA file says about the training that it comes from, in kohya's keys."""

import hashlib
import json
import random

from tests.trainer.packing.run_metadata import metadata
from trainer.base_model.load import load_base


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

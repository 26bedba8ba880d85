"""What of a file's metadata is private, wrong or of the photos, and what is left of it when that is taken out."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from trainer.delivery.metadata_look import (
    cleaned,
    look_at_family,
    look_at_hashes,
    look_at_privacy,
    look_at_rank,
    names_of,
    recomputed,
    without_photos,
)
from trainer.lora.lora import LoraModule, LoraWeights

ANNA = "/home/anna/models/base.safetensors"
TAGS = json.dumps({"20_anna dog": {"anna": 3, "dog": 2}})


@pytest.mark.parametrize(
    ("metadata", "kinds"),
    [
        ({"ss_sd_model_name": ANNA}, [("path", ANNA)]),
        ({"ss_output_name": "anna's dog"}, []),  # nobody says that this is a name
        ({"ss_sd_model_name": ANNA, "ss_output_name": "anna's dog"}, [("path", ANNA), ("name", "anna")]),
        ({"ss_output_name": "hf_abcdefghijklmnopqrstuvwxyz"}, [("key", "hf_a…")]),
        ({"a": "from anna@example.org and bob@example.org"}, [("mail address", "anna@example.org and 1 more")]),
        (
            {"a": "anna@example.org in /srv/data/photos"},
            [("path", "/srv/data/photos"), ("mail address", "anna@example.org")],
        ),
        ({"a": json.dumps([{"b": ["/srv/x/y", 3, None, {"/srv/x/z": 1}]}])}, [("path", "/srv/x/y and 1 more")]),
        ({"a": "[/srv/x/y"}, [("path", "/srv/x/y")]),  # no JSON, a text
        ({"a": "{}"}, []),
    ],
)
def test_each_private_thing_is_told_with_its_kind_and_key(
    metadata: dict[str, str], kinds: list[tuple[str, str]]
) -> None:
    found = list(look_at_privacy(metadata))
    assert not any(one.passes for one in found)
    assert all(one.do == "run again with --clean" for one in found)
    told = list(metadata)
    for one, (kind, text) in zip(found, kinds, strict=True):
        assert one.what.startswith(f"metadata tells a private {kind} (")
        assert one.what.endswith(f": {text})")
        assert any(f"({key}: " in one.what for key in told)


def test_tags_may_be_like_a_name(tmp_path: Path) -> None:
    found = list(look_at_privacy({"ss_sd_model_name": ANNA, "ss_tag_frequency": TAGS}))
    assert [(one.passes, "ss_tag_frequency" in one.what) for one in found] == [(False, False), (True, True)]
    assert cleaned({"ss_sd_model_name": ANNA, "ss_tag_frequency": TAGS})["ss_tag_frequency"] == TAGS


@pytest.mark.parametrize(
    "key", ["ss_training_comment", "modelspec.author", "modelspec.description", "modelspec.usage_hint"]
)
def test_a_text_of_a_person_is_shown(key: str) -> None:
    ((passes, do, what),) = [(one.passes, one.do, one.what) for one in look_at_privacy({key: f" {'x' * 90} "})]
    assert (passes, do) == (True, "read it, it is passed on")
    assert f"({key}: {'x' * 80})" in what
    assert list(look_at_privacy({key: "  "})) == []


def test_what_tells_of_photos_is_named() -> None:
    keys = ["ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_datasets"]
    (one,) = look_at_privacy(dict.fromkeys(keys, '{"x": 1}') | {"ss_bucket_info": '{"x": 1}'})
    assert one.passes
    assert "--no-photos" in one.do
    assert "(ss_tag_frequency, ss_dataset_dirs, ss_reg_dataset_dirs and 1 more)" in one.what
    for nothing in ("{}", "", "[]"):
        assert list(look_at_privacy(dict.fromkeys(keys, nothing))) == []
    assert without_photos({**dict.fromkeys(keys, "x"), "ss_bucket_info": "x", "ss_seed": "1"}) == {"ss_seed": "1"}


TENSORS = {"a.lora_down.weight": torch.arange(6.0), "a.lora_up.weight": torch.ones(3)}


def content_after_header(content: bytes) -> bytes:
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_hashes_are_those_of_the_weights_as_kohya_lays_them_out(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(TENSORS, {"ss_seed": "1", "other": "x"}))
    right = hashlib.sha256(content_after_header(path.read_bytes())).hexdigest()
    assert recomputed(TENSORS, {"ss_seed": "1", "other": "x"}) == {
        "sshs_model_hash": right
    }  # too short for the old one
    assert list(look_at_hashes(TENSORS, {"sshs_model_hash": right, "modelspec.hash_sha256": f"0x{right}"}, path)) == []
    assert list(look_at_hashes(TENSORS, {"sshs_model_hash": right, "modelspec.hash_sha256": right}, path)) == []
    (one,) = look_at_hashes(TENSORS, {}, path)
    assert (one.passes, one.do) == (True, "--repair writes them")
    (one,) = look_at_hashes(TENSORS, {"sshs_model_hash": "1" * 64}, path)
    assert (one.passes, one.do) == (False, "run again with --repair")
    assert f"it says {'1' * 16}…, the weights have {right[:16]}" in one.what
    nothing = hashlib.sha256(b"").hexdigest()
    found = list(look_at_hashes(TENSORS, {"sshs_model_hash": right, "sshs_legacy_hash": nothing[:8]}, path))
    assert [one.passes for one in found] == [False]
    assert f"sshs_legacy_hash is not that of the weights: it says {nothing[:8]}… (a hash of nothing)" in found[0].what
    assert "the weights have none" in found[0].what
    (one,) = look_at_hashes(TENSORS, {"sshs_model_hash": right, "modelspec.hash_sha256": "0x12"}, path)
    assert (one.passes, one.what) == (False, "modelspec.hash_sha256 is not that of the weights")
    assert len(list(look_at_hashes(TENSORS, {"sshs_model_hash": ""}, path))) == 1


def test_hashes_of_the_file_as_it_lies_there_are_right_too(tmp_path: Path) -> None:
    """Another tool may lay the tensors out in another order."""
    path = tmp_path / "a.safetensors"
    header = {
        "a.lora_up.weight": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        "a.lora_down.weight": {"dtype": "F32", "shape": [6], "data_offsets": [12, 36]},
    }
    text = json.dumps(header).encode()
    data = b"".join(TENSORS[name].numpy().tobytes() for name in header)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    own = hashlib.sha256(data).hexdigest()
    assert recomputed(TENSORS, {})["sshs_model_hash"] != own
    assert list(look_at_hashes(TENSORS, {"sshs_model_hash": own, "modelspec.hash_sha256": own}, path)) == []


def test_a_long_file_has_the_old_hash_too() -> None:
    """sd-scripts: eight digits of that of 64 KiB at 1 MiB of the file with kohya's keys alone."""
    tensors = {"a.lora_down.weight": torch.arange(300_000.0)}
    content = save(tensors, {"ss_seed": "1"})
    old = hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    assert recomputed(tensors, {"ss_seed": "1", "modelspec.title": "x"})["sshs_legacy_hash"] == old


@pytest.mark.parametrize(
    ("key", "text", "family"),
    [
        ("ss_base_model_version", "sd_v1", "sd15"),
        ("ss_base_model_version", "sd_v2_v", "sd15"),
        ("ss_base_model_version", "sd_1.5", "sd15"),
        ("ss_base_model_version", "sd_2.1", "sd15"),
        ("ss_base_model_version", "sd1.5", "sd15"),
        ("ss_base_model_version", "sd2", "sd15"),
        ("ss_base_model_version", "sdxl_base_v1-0", "sdxl"),
        ("ss_base_model_version", "sd_3", "sd3"),
        ("ss_base_model_version", "sd3-m", "sd3"),
        ("ss_base_model_version", "flux1", None),
        ("modelspec.architecture", "stable-diffusion-v1/lora", "sd15"),
        ("modelspec.architecture", "stable-diffusion-v2-768-v/lora", "sd15"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora", "sdxl"),
        ("modelspec.architecture", "stable-diffusion-3-medium/lora", None),
        ("modelspec.architecture", "sdxl", "sdxl"),
        ("modelspec.architecture", "flux-1-dev/lora", None),
    ],
)
def test_the_family_that_metadata_name_is_held_against_the_layers(key: str, text: str, family: str | None) -> None:
    for own in ("sd15", "sdxl", "sd3"):
        found = list(look_at_family(own, {key: text}))
        if own == family:
            assert found == []
        elif family is not None:
            assert [one.what for one in found] == [f"{key} says {text}, its layers are those of {own}"]
            assert not found[0].passes


def test_a_base_of_a_family_not_known_here_is_a_fault_and_nothing_said_is_noted() -> None:
    (one,) = look_at_family("sd15", {"ss_base_model_version": "flux1"})
    assert not one.passes
    (one,) = look_at_family("sd15", {})
    assert (one.passes, one.do) == (True, "--repair writes it")
    both = {"ss_base_model_version": "sdxl_base_v1-0", "modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}
    assert len(list(look_at_family("sd15", both))) == 2


def test_a_rank_that_no_layer_has_is_told() -> None:
    def lora(*ranks: int) -> LoraWeights:
        modules = {("denoiser", str(rank)): LoraModule(torch.ones(rank, 3), torch.ones(3, rank), 1.0) for rank in ranks}
        return LoraWeights(modules, "sd15")

    for text in ("2", "4", "", "Dynamic", "-1"):
        assert list(look_at_rank(lora(4, 2), {"ss_network_dim": text})) == []
    assert list(look_at_rank(lora(4), {})) == []
    (one,) = look_at_rank(lora(8, 4, 2), {"ss_network_dim": "3"})
    assert (one.passes, one.do) == (True, "--repair mends it")
    assert one.what == "ss_network_dim says 3, the layers have rank 2, 4, 8"


def test_private_texts_are_taken_out_wherever_they_stand() -> None:
    nested = {"a": ["by anna", {"/home/anna/x": "/home/anna/20_sks dog"}], "n": [1, None, True]}
    metadata = {"one": ANNA, "two": json.dumps(nested), "three": "by Anna", "four": '{"a":  1}', "five": "{anna"}
    assert names_of(metadata) == {"anna"}
    found = cleaned(metadata)
    assert json.loads(found.pop("two")) == {"a": ["by …", {"…/x": "…/20_sks dog"}], "n": [1, None, True]}
    assert found == {"one": "…/base.safetensors", "three": "by …", "four": '{"a":  1}', "five": "{…"}

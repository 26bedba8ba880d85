"""Each edit changes what it says, of the weights and of the metadata, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.messages import refusal
from tests.trainer.delivery.test_gate import ALPHA, DOWN, IN, IN_SITE, MID, MID_SITE, TEXT, TEXT_SITE, UP, written
from trainer.delivery.edits import DONE, Edits, Written, prompt, with_one_alpha, write_edited
from trainer.delivery.gate import read_file
from trainer.errors import ModelError
from trainer.lora.kohya_file import load_lora, read_metadata, read_tensors
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.lora.merge import delta

OWN = {"ss_base_model_version": "sd_v1", "ss_network_dim": "2", "ss_network_alpha": "1.0"}
HASHES = {"sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"}


def edited(path: Path, **edits: Any) -> tuple[Written, dict[str, str], LoraWeights]:
    """What was written, its metadata but for hashes, and its LoRA."""
    made = write_edited(read_file(path), Edits(**edits), path.with_name("new.safetensors"))
    metadata = {key: value for key, value in read_metadata(made.path).items() if key not in HASHES}
    return made, metadata, load_lora(made.path)


def changes(lora: LoraWeights) -> dict[tuple[str, str], Tensor]:
    return {site: delta(m, (m.up.shape[0], *m.down.shape[1:])) for site, m in lora.modules.items()}


def with_ranks(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """MID is of rank 1, of the 2 that it is written with; numbers of TEXT are of rank 2."""
    generator = torch.Generator().manual_seed(0)
    for name in (IN, TEXT):
        for end in (DOWN, UP):
            tensors[name + end] = torch.randn(tensors[name + end].shape, generator=generator).half()


@pytest.mark.parametrize(
    ("edits", "anything"),
    [
        ({}, False),
        ({"loss": 0.5, "per_layer": True}, False),
        *(({name: value}, True) for name, value in [
            ("clean", True), ("drop_photos", True), ("repair", True), ("plain_lora", True), ("rank", 2),
            ("rank", "auto"), ("unet", 0.5), ("text_encoder", 0.5), ("blocks", "1"), ("dtype", "fp16"),
        ]),
    ],
)  # fmt: skip
def test_whether_there_is_anything_to_do(edits: dict[str, Any], anything: bool) -> None:
    assert Edits(**edits).any is anything


def test_without_edits_a_file_says_and_acts_the_same(tmp_path: Path) -> None:
    path = written(tmp_path)
    made, metadata, lora = edited(path)
    assert (made.path, made.said) == (tmp_path / "new.safetensors", ())
    assert metadata == OWN
    for site, change in changes(load_lora(path)).items():
        assert torch.equal(changes(lora)[site], change)


def test_strengths_and_blocks_are_told_and_act(tmp_path: Path) -> None:
    path = written(tmp_path)
    blocks = ",".join(["1"] * 3 + ["0.5"] + ["1"] * 3 + ["0"] + ["1"] * 9)  # IN04 half, M00 none
    made, metadata, lora = edited(path, unet=0.5, text_encoder=-2.0, blocks=blocks)
    old, new = changes(load_lora(path)), changes(lora)
    assert new.keys() == {IN_SITE, TEXT_SITE}
    torch.testing.assert_close(new[IN_SITE], 0.25 * old[IN_SITE])
    torch.testing.assert_close(new[TEXT_SITE], -2 * old[TEXT_SITE])
    own_hash = read_metadata(path)["sshs_model_hash"]
    done = {"from": own_hash, "unet": 0.5, "text_encoder": -2.0, "blocks": blocks}
    assert json.loads(metadata.pop(DONE)) == done
    assert metadata == OWN
    assert next(line for line in made.said if "U-Net" in line).endswith("at 0.5 of their strength")
    assert next(line for line in made.said if "text encoder" in line).endswith("at -2 of their strength")
    assert f"blocks are weighted {blocks}" in made.said
    assert any(line.startswith("1 of 3 layers had weight 0") for line in made.said)
    assert made.said[-1] == f"the same from the old file: <lora:dog:-2:0.5:lbw={blocks}>"
    assert len(made.said) == 5


@pytest.mark.parametrize(
    ("edits", "text"),
    [
        ({}, "<lora:dog:1>"),
        ({"unet": 0.5, "text_encoder": 0.5}, "<lora:dog:0.5>"),
        ({"unet": 0.5}, "<lora:dog:1:0.5>"),
        ({"text_encoder": 0.0}, "<lora:dog:0:1>"),
        ({"blocks": "1," * 16 + "0.25"}, f"<lora:dog:1:lbw={'1,' * 16}0.25>"),
    ],
)
def test_a_prompt_that_draws_the_same(edits: dict[str, Any], text: str) -> None:
    assert prompt("dog", LoraWeights({}, "sd15"), Edits(**edits)) == text


@pytest.mark.parametrize("edits", [{"unet": 0.5}, {"text_encoder": 0.5}, {"blocks": "1," * 16 + "1"}])
def test_each_strength_alone_is_told_alone(tmp_path: Path, edits: dict[str, Any]) -> None:
    made, metadata, _ = edited(written(tmp_path), **edits)
    assert len(made.said) == 2
    told = {"from", "unet", "text_encoder"} | ({"blocks"} & edits.keys())
    assert json.loads(metadata[DONE]).keys() == told


def test_a_lower_rank_is_told_with_what_it_loses(tmp_path: Path) -> None:
    path = written(tmp_path, with_ranks)
    old = load_lora(path)
    made, metadata, lora = edited(path, rank=1)
    lost = whole = 0.0
    for site, change in changes(old).items():
        values = torch.linalg.svdvals(change.flatten(1).double())
        lost, whole = lost + float(values[1:].square().sum()), whole + float(values.square().sum())
        assert lora.modules[site].rank == 1
    done = json.loads(metadata.pop(DONE))
    assert done.pop("rank_loss") == pytest.approx((lost / whole) ** 0.5, abs=2e-6)
    assert done == {"from": read_metadata(path)["sshs_model_hash"], "rank": 1}
    assert metadata == {**OWN, "ss_network_dim": "1"}
    assert made.said[:2] == ("rank   2 loses 0 %", f"rank   1 loses {100 * (lost / whole) ** 0.5:.2g} %")
    assert made.said[2] == f"rank 1 instead of 2: {100 * (lost / whole) ** 0.5:.2g} % of the change is lost"


def test_a_rank_that_would_lose_too_much_stays(tmp_path: Path) -> None:
    for edits in ({"rank": "auto"}, {"rank": 2}, {"rank": 3}):
        made, metadata, lora = edited(written(tmp_path, with_ranks), **edits)
        assert "rank 2 stays: a lower one loses more than 0.1 %" in made.said
        assert metadata == OWN
        assert {module.rank for module in lora.modules.values()} == {2}
        made.path.unlink()


def test_the_smallest_rank_for_all_or_for_each_layer(tmp_path: Path) -> None:
    path = written(tmp_path, with_ranks)
    _, metadata, lora = edited(path, rank="auto", loss=0.9)
    assert ({module.rank for module in lora.modules.values()}, metadata["ss_network_dim"]) == ({1}, "1")
    path.with_name("new.safetensors").unlink()
    made, metadata, lora = edited(path, rank="auto", per_layer=True)
    assert {site: module.rank for site, module in lora.modules.items()} == {MID_SITE: 1, IN_SITE: 2, TEXT_SITE: 2}
    assert metadata["ss_network_dim"] == "Dynamic"
    assert json.loads(metadata[DONE])["rank"] == "Dynamic"
    assert made.said[-1] == "each layer keeps what it needs: rank 1 to 2, 2 mostly"


def test_repair_writes_what_readers_look_for_and_keeps_the_effect(tmp_path: Path) -> None:
    def broken(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata.clear()
        metadata["modelspec.architecture"] = "stable-diffusion-xl-v1-base/lora"
        tensors[MID + ALPHA] = torch.tensor(4.0)
        tensors["x.y"] = torch.ones(1)

    path = written(tmp_path, broken)
    made, metadata, lora = edited(path, repair=True)
    assert metadata == {
        "ss_base_model_version": "sd_v1",
        "ss_network_dim": "2",
        "ss_network_alpha": "1.0",
        "ss_network_module": "networks.lora",
        "modelspec.architecture": "stable-diffusion-v1/lora",
    }
    for site, change in changes(read_file(path).lora or LoraWeights({}, "")).items():
        torch.testing.assert_close(changes(lora)[site], change)
        assert lora.modules[site].alpha == 1.0
    assert made.said == (
        "alphas, family and rank stand in the file",
        "1 tensors that are no part of a LoRA are left out",
    )
    assert "x.y" not in read_tensors(made.path)[0]


@pytest.mark.parametrize(
    ("before", "after"), [("sd_v2", "sd_v2"), ("sdxl_base_v1-0", "sd_v1"), ("sd_1.5", "sd_v1"), ("", "sd_v1")]
)
def test_repair_keeps_the_version_of_a_base_with_the_same_layers(tmp_path: Path, before: str, after: str) -> None:
    path = written(tmp_path, lambda _, metadata: metadata.update(ss_base_model_version=before, ss_network_module="my"))
    _, metadata, _ = edited(path, repair=True)
    assert (metadata["ss_base_model_version"], metadata["ss_network_module"]) == (after, "my")


def test_private_texts_and_photos_are_left_out_when_asked_for(tmp_path: Path) -> None:
    private = {"ss_sd_model_name": "/home/anna/b.safetensors", "ss_output_name": "of anna", "ss_dataset_dirs": "{}"}

    def told(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata |= private | {"lora_adapter_metadata": "{}"}

    path = written(tmp_path, told)
    for edits, left in (
        ({}, private),
        ({"drop_photos": True}, {key: private[key] for key in ("ss_sd_model_name", "ss_output_name")}),
        ({"clean": True}, {**private, "ss_sd_model_name": "…/b.safetensors", "ss_output_name": "of …"}),
    ):
        made, metadata, _ = edited(path, **edits)
        assert metadata == OWN | left
        assert [line for line in made.said if "private" in line] == (
            ["private texts are taken out of 2 keys of the metadata"] if "clean" in edits else []
        )
        assert any("photos are taken out" in line for line in made.said) is ("drop_photos" in edits)
        made.path.unlink()


@pytest.mark.parametrize(
    ("dtype", "edits", "expected"),
    [
        (torch.float16, {}, torch.float16),
        (torch.bfloat16, {}, torch.bfloat16),
        (torch.float32, {}, torch.float32),
        (torch.float64, {}, torch.float16),  # which nobody reads
        (torch.float32, {"dtype": "fp16"}, torch.float16),
        (torch.float16, {"dtype": "bf16"}, torch.bfloat16),
        (torch.float16, {"dtype": "fp32"}, torch.float32),
    ],
)
def test_weights_keep_the_type_that_most_have_or_get_the_one_asked_for(
    tmp_path: Path, dtype: torch.dtype, edits: dict[str, Any], expected: torch.dtype
) -> None:
    def typed(tensors: dict[str, Tensor], _: dict[str, str]) -> None:
        for key in tensors:
            tensors[key] = tensors[key].to(dtype if key != MID + DOWN else torch.float16)

    made, _, _ = edited(written(tmp_path, typed), **edits)
    assert {tensor.dtype for tensor in read_tensors(made.path)[0].values()} == {expected}


def test_the_alpha_that_most_layers_have_stands_in_all(tmp_path: Path) -> None:
    ones = LoraModule(torch.ones(2, 4), torch.ones(4, 2), 3.0)
    lora = LoraWeights(
        {("denoiser", str(place)): replace(ones, alpha=a) for place, a in enumerate((1.0, 3.0, 3.0))}, "sd15"
    )
    same = with_one_alpha(lora)
    assert {module.alpha for module in same.modules.values()} == {3.0}
    for site, change in changes(lora).items():
        torch.testing.assert_close(changes(same)[site], change)
    assert same.modules["denoiser", "1"] is lora.modules["denoiser", "1"]


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(ModelError, match="--plain-lora: expected --base"):
        edited(path, plain_lora=True)
    with pytest.raises(ModelError, match=refusal("--rank", "auto", "a number with --plain-lora")):
        write_edited(read_file(path), Edits(plain_lora=True, rank="auto"), path.with_name("new.safetensors"), base="b")
    with pytest.raises(ModelError, match=refusal("--to", str(path), "no file has yet")):
        write_edited(read_file(path), Edits(clean=True), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

"""A study file that weights the blocks of a finished LoRA: what it may say, what is searched, and in which order."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from search.errors import StudyError
from search.record.handed_on import HandedOn
from search.study.delivery import TRIALS, Delivery, DeliverySection, delivery_of, groups_of
from search.study.input_digests import PhotoMark
from search.study.settings import ScoreSection
from search.study.study import Study, load_study
from search.study.study_file import StudyFile
from tests.messages import refusal
from trainer.delivery.blocks import SD15, SDXL

DEMO = Path(__file__).parents[3] / "studies" / "demo"
LAYERS = {
    "IN04": "lora_unet_down_blocks_1_attentions_0_proj_in",
    "M00": "lora_unet_mid_block_attentions_0_proj_in",
    "OUT01": "lora_unet_up_blocks_0_attentions_1_proj_in",
    "BASE": "lora_te_text_model_encoder_layers_0_mlp_fc1",
}


def lora(path: Path, *blocks: str, dora: bool = False) -> Path:
    tensors = {}
    for block in blocks:
        tensors |= {f"{LAYERS[block]}.lora_down.weight": torch.ones(4, 8)}
        tensors |= {f"{LAYERS[block]}.lora_up.weight": torch.ones(8, 4)}
        if dora:
            tensors |= {f"{LAYERS[block]}.dora_scale": torch.ones(8, 1)}
    save_file(tensors, path)
    return path


def study_of(folder: Path, delivery: dict[str, Any] | None = None, **values: Any) -> Study:
    said = {
        "study": "mine",
        "base": str(DEMO / "base"),
        "data": str(DEMO / "photos"),
        "train": {"resolution": 64},
        "score": {"encoder": str(DEMO / "clip")},
        "delivery": {"lora": "dog.safetensors", **(delivery or {})},
        **values,
    }
    (folder / "delivery.yaml").write_text(yaml.safe_dump(said))
    return load_study(folder / "delivery.yaml")


def test_what_is_searched_are_the_blocks_that_the_file_has(tmp_path: Path) -> None:
    lora(tmp_path / "dog.safetensors", "M00", "IN04", "BASE")
    study = study_of(tmp_path)
    assert isinstance(study.kind, Delivery)
    assert [entry.parameter for entry in study.space.entries] == ["BASE", "IN04", "M00"]
    assert (study.budget.trials, study.stop.prune, study.score.holdout) == (TRIALS, False, 0)
    assert study.finished_run is not None
    assert study.finished_run.is_one_file
    assert study.finished_run.settings == "dog.safetensors, rank 4"
    assert study.config({"IN04": 0.5}).epochs == 1
    assert study.kind.weights({"BASE": 1.0, "IN04": 0.5, "M00": 0.0}) == {"BASE": 1.0, "IN04": 0.5, "M00": 0.0}
    assert study_of(tmp_path, budget={"trials": 7}).budget.trials == 7


def test_the_lora_as_it_is_comes_first_then_parts_left_out_then_the_whole_turned_down(tmp_path: Path) -> None:
    lora(tmp_path / "dog.safetensors", "BASE", "IN04", "M00", "OUT01")
    first = study_of(tmp_path).sampler.start_with
    assert [tuple(weights.values()) for weights in first] == [
        (1, 1, 1, 1),
        (0, 1, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 0, 1),
        (1, 1, 1, 0),
        (1, 0, 0, 1),
        (0, 0, 0, 1),
        (0.75, 0.75, 0.75, 0.75),
        (0.5, 0.5, 0.5, 0.5),
    ]
    assert len(study_of(tmp_path, budget={"trials": 2}).sampler.start_with) == 2
    lora(tmp_path / "dog.safetensors", "M00")
    assert study_of(tmp_path).sampler.start_with == [{"M00": 1.0}, {"M00": 0.75}, {"M00": 0.5}]
    whole = study_of(tmp_path, {"step": 1}).sampler.start_with
    assert {0.75, 0.5}.isdisjoint(weight for weights in whole for weight in weights.values())


@pytest.mark.parametrize(("blocks", "number"), [(SD15, 8), (SDXL, 6)])
def test_blocks_of_a_level_of_the_u_net_go_together_where_there_are_many(blocks: tuple[str, ...], number: int) -> None:
    groups = groups_of(blocks, "auto")
    assert len(groups) == number
    assert [block for group in groups.values() for block in group] == list(blocks)
    assert list(groups)[1] in ("IN01-02", "IN04-05")
    assert len(groups_of(blocks, "each")) == len(blocks)


def test_dora_is_only_kept_or_left_out(tmp_path: Path) -> None:
    lora(tmp_path / "dog.safetensors", "IN04", "M00", dora=True)
    study = study_of(tmp_path)
    assert isinstance(study.kind, Delivery)
    assert study.kind.step == 1
    assert any("DoRA" in notice for notice in study.notices)


@pytest.mark.parametrize(
    ("delivery", "values", "key", "words"),
    [
        ({"lora": "cat.safetensors"}, {}, "delivery.lora", "no such file"),
        ({"lora": None}, {}, "delivery.lora", "a study that hands one on"),
        ({"step": 0.3}, {}, "delivery.step", "a part of 1"),
        ({"blocks": "some"}, {}, "delivery.blocks", "each"),
        ({"held_out": ["none.png"]}, {}, "delivery.held_out", "photo in data"),
        ({}, {"search": {"rank": {"values": [4]}}}, "search", "delivery"),
        ({}, {"score": {"encoder": str(DEMO / "clip"), "holdout": 4}}, "score.holdout", "delivery.held_out"),
        ({}, {"checkpoints": {"folder": ".", "held_out": "none"}}, "delivery", "checkpoints"),
        ({}, {"budget": 4}, "budget", ""),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, delivery: dict[str, Any], values: dict[str, Any], key: str, words: str
) -> None:
    lora(tmp_path / "dog.safetensors", "IN04")
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, delivery, **values)
    assert any(key in line and words in line for line in caught.value.problems), caught.value.problems


def test_a_lora_whose_blocks_no_webui_weights_is_refused(tmp_path: Path) -> None:
    name = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {f"{name}.lora_A.weight": torch.ones(4, 8), f"{name}.lora_B.weight": torch.ones(8, 4)}
    save_file(tensors, tmp_path / "dog.safetensors")
    with pytest.raises(StudyError, match=refusal("delivery.lora", "dog.safetensors", "SD 1.x or SDXL")):
        study_of(tmp_path)


def test_another_file_of_the_name_makes_it_another_study(tmp_path: Path) -> None:
    lora(tmp_path / "dog.safetensors", "IN04", "M00")
    before = study_of(tmp_path).digest
    assert study_of(tmp_path).digest == before
    tensors = {f"{LAYERS['IN04']}.lora_down.weight": torch.zeros(4, 8)}
    save_file(tensors | {f"{LAYERS['IN04']}.lora_up.weight": torch.ones(8, 4)}, tmp_path / "dog.safetensors")
    assert study_of(tmp_path).digest != before


def test_what_another_study_ships_is_taken_where_no_file_is_named(tmp_path: Path) -> None:
    file = lora(tmp_path / "shipped.safetensors", "IN04", "M00")
    source, section = StudyFile(tmp_path / "delivery.yaml"), DeliverySection()
    photos = [PhotoMark(f"{n}.png", "", "", 1, False) for n in range(3)]
    taken = delivery_of(source, section, ScoreSection(), photos, HandedOn("before", 8, lora=str(file)))
    assert (taken.lora, list(taken.groups)) == (str(file), ["IN04", "M00"])
    assert delivery_of(source, section, ScoreSection(), photos, HandedOn("before", 1, to_come=True)).groups
    with pytest.raises(StudyError, match="before kept no LoRA"):
        delivery_of(source, section, ScoreSection(), photos, HandedOn("before", 8))


def test_settings_of_trainings_in_a_file_that_is_extended_are_passed_over(tmp_path: Path) -> None:
    lora(tmp_path / "dog.safetensors", "IN04", "M00")
    common = {"train": {"resolution": 64, "batch_size": 2, "rank": 8}, "score": {"holdout": 4}}
    (tmp_path / "common.yaml").write_text(yaml.safe_dump(common))
    study = study_of(tmp_path, extends="common.yaml", train={"precision": "fp32"})
    assert (study.score.holdout, study.config({}).resolution) == (0, 64)
    with pytest.raises(StudyError, match=r"train\.rank"):
        study_of(tmp_path, extends="common.yaml", train={"rank": 4})

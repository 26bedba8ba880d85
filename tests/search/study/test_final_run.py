"""The section `final`: how far the run that ships is trained, what it takes, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.errors import StudyError
from search.record.handed_on import HandedOn
from search.record.json_files import write_json
from search.study.study import load_study
from tests.messages import refusal
from trainer.config.config import parse_train_config

TRAIN = {"resolution": 64, "save_every_n_epochs": 2, "rank": 4}


@pytest.fixture
def write_final(write_study):
    def write(final: Any, train: dict[str, Any] | None = None, **more: Any) -> Path:
        drop = [key for key in ("search", "budget") if key not in more]
        return write_study(drop=drop, final=final, train=TRAIN | (train or {}), **more)

    return write


@pytest.mark.parametrize(
    ("final", "train", "epochs"),
    [
        ({"epoch": 20}, {}, 25),
        ({"epoch": 21}, {}, 27),  # 26.25, upwards
        ({"epoch": 20, "past": 1.1}, {}, 22),  # 22.000000000000004 is 22
        ({"epoch": 20, "past": 1}, {}, 20),
        ({"epoch": 20}, {"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 20}, 40),
        ({"epoch": 16}, {"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 20}, 20),
        ({"epoch": 20}, {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3}, 27),
        ({"epoch": 20}, {"lr_scheduler": "cosine_with_restarts", "num_cycles": 2}, 26),
        ({"epoch": 20}, {"lr_scheduler": "cosine_with_restarts", "num_cycles": 1}, 25),
    ],
)
def test_it_trains_past_the_epoch_found_in_whole_cycles(write_final, final, train, epochs) -> None:
    study = load_study(write_final(final, train))
    assert study.config({}).epochs == epochs
    assert study.kind.final.epoch == final["epoch"]
    cycles = train.get("cycle_epochs", train.get("num_cycles", 1)) > 1
    told = f"epochs: {epochs}: epoch {final['epoch']} × {final.get('past', 1.25):g}" + " in whole cycles" * cycles
    assert told in study.notices
    assert (study.stop.onset, study.stop.prune) == (False, False)
    assert study.budget.trials == 1


@pytest.mark.parametrize(
    ("final", "more", "key"),
    [
        ({}, {}, "final.epoch"),
        ({"epoch": 0}, {}, "final.epoch"),
        ({"epoch": 3, "past": 0.9}, {}, "final.past"),
        ({"epoch": 3, "take": ["rnk"]}, {}, "final.take[0]"),
        ({"epoch": 3, "take": ["epochs"]}, {}, "final.take[0]"),
        ({"epoch": 3, "take": ["alpha"]}, {}, "final.take[0]"),  # from nowhere
        ({"epoch": 3, "take": ["rank"]}, {}, "train.rank"),
        ({"epoch": 3}, {"train": {"epochs": 5}}, "train.epochs"),
        ({"epoch": 3}, {"search": {"alpha": {"values": [1, 2]}}}, "search"),
        ({"epoch": 3}, {"budget": {"trials": 3}}, "budget"),
        ({"epoch": 3}, {"stop": {"onset": True}}, "stop"),
        ({"epoch": 3}, {"delivery": {"lora": "dog.safetensors"}}, "delivery"),
        ({"epoch": 3}, {"checkpoints": {"folder": ".", "held_out": "none"}}, "checkpoints"),
        ({"epoch": 3}, {"score": {"encoder": "clip", "holdout": 0}}, "score.holdout"),
        ({"epcoh": 3}, {}, "final.epcoh"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(write_final, final, more, key) -> None:
    with pytest.raises(StudyError, match=refusal(key, "", "").removesuffix("'?")):
        load_study(write_final(final, **more))


def test_it_takes_settings_and_the_epoch_of_the_study_before(write_final, tmp_path: Path) -> None:
    (tmp_path / "border.yaml").write_text("study: border\n")
    config = parse_train_config(
        {"base": "b", "data": "d", "alpha": 3.0, "optimizer": "Lion", "resolution": (64, 64), "epochs": 80}
    )
    found = {"study": "border", "headline": "Ship epoch 8.", "decision": {"ship": True, "trial": 0, "epoch": 8}}
    write_json(tmp_path / "runs/border/verdict.json", {**found, "config": config.model_dump(mode="json")})
    more = {"from": "border.yaml"}
    study = load_study(write_final({"take": ["alpha", "optimizer"]}, **more), runs=tmp_path / "runs")
    trained = study.config({})
    assert (trained.alpha, trained.optimizer, trained.epochs) == (3.0, "Lion", 10)
    assert study.notices[:2] == ("epochs: 10, from border: epoch 8 × 1.25", "from border: alpha 3.0, optimizer Lion")
    assert study.kind.final.study == "border"
    assert isinstance(study.handed_on, HandedOn)


def test_an_epoch_found_in_epochs_of_another_length_is_refused(write_final, tmp_path: Path) -> None:
    (tmp_path / "border.yaml").write_text("study: border\n")
    config = parse_train_config({"base": "b", "data": "d", "resolution": (64, 64), "epochs": 80, "steps_per_epoch": 6})
    found = {"study": "border", "headline": "Ship epoch 8.", "decision": {"ship": True, "trial": 0, "epoch": 8}}
    write_json(tmp_path / "runs/border/verdict.json", {**found, "config": config.model_dump(mode="json")})
    for train in ({}, {"steps_per_epoch": 12}):
        with pytest.raises(StudyError, match=r"train.steps_per_epoch: expected 6, as in border, whose epoch 8"):
            load_study(write_final({}, train, **{"from": "border.yaml"}), runs=tmp_path / "runs")
    same = write_final({}, {"steps_per_epoch": 6}, **{"from": "border.yaml"})
    assert load_study(same, runs=tmp_path / "runs").config({}).epochs == 10


def test_the_epoch_found_is_part_of_what_the_study_means(write_final) -> None:
    one, other = (load_study(write_final({"epoch": epoch, "past": past})) for epoch, past in ((20, 1.25), (25, 1.0)))
    assert one.config({}).epochs == other.config({}).epochs
    assert one.digest != other.digest
    values = yaml.safe_load(one.file.read_text())
    assert "final" in values


def test_an_epoch_of_a_finished_run_counts_passes(write_final, tmp_path: Path) -> None:
    (tmp_path / "border.yaml").write_text("study: border\n")
    found = {"study": "border", "headline": "Ship epoch 8.", "decision": {"ship": True, "trial": 0, "epoch": 8}}
    write_json(tmp_path / "runs/border/verdict.json", {**found, "finished_run": {"files": {"8": "a"}, "unit": "epoch"}})
    study = load_study(write_final({}, **{"from": "border.yaml"}), runs=tmp_path / "runs")
    assert study.config({}).epochs == 10
    with pytest.raises(StudyError, match=r"train.steps_per_epoch: expected nothing, as in border"):
        load_study(write_final({}, {"steps_per_epoch": 12}, **{"from": "border.yaml"}), runs=tmp_path / "runs")
    with pytest.raises(StudyError, match=r"final.take\[0\]: expected a study under `from` that has trained"):
        load_study(write_final({"take": ["alpha"]}, **{"from": "border.yaml"}), runs=tmp_path / "runs")

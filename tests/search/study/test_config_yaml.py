"""What a training file says of what the run leaves behind."""

from pathlib import Path

import yaml

from search.study.config_yaml import relative, train_yaml
from trainer.config.config import parse_train_config


def test_a_training_file_draws_what_it_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    config = parse_train_config({"base": "org/base", "data": "photos", "epochs": 20})
    asked, plain = (
        yaml.safe_load(train_yaml(config, folder=tmp_path, name="toy", epoch=8, prompts=prompts))["output"]
        for prompts in (["toy on grass"], [])
    )
    assert asked == {"name": "toy", "ship_epoch": 8, "stop_at_ship_epoch": True, "sample_prompts": ["toy on grass"]}
    assert plain == {key: value for key, value in asked.items() if key != "sample_prompts"}


def sections(text: str) -> dict[str, list[str]]:
    """The file's lines by the heading above them."""
    found: dict[str, list[str]] = {}
    for part in text.rstrip().split("\n\n"):
        title, *lines = part.split("\n")
        found[title] = lines
    return found


def test_a_training_file_says_what_was_set_group_by_group(tmp_path: Path) -> None:
    config = parse_train_config(
        {"base": "org/base", "data": str(tmp_path / "photos"), "epochs": 20, "optimizer": "Lion", "rank": 8,
         "learning_rate_scale": 2.0, "train_text_encoder": True, "lr_scheduler": "cosine", "alpha_ratio": 0.5}
    )  # fmt: skip
    told = train_yaml(config, folder=tmp_path / "runs" / "best", name="toy", epoch=8, about="From a study.")
    rates = f"learning rate {config.effective_learning_rate:g}, text encoder {config.effective_text_encoder_lr:g}"
    assert sections(told) == {
        "# From a study.": ["# Run it with: python -m trainer.run train.yaml"],
        "# the base and the photos": ["base: org/base", "data: ../../photos", "resolution: 512", "batch_size: 1"],
        "# the LoRA": ["rank: 8", "alpha_ratio: 0.5", "train_text_encoder: true"],
        "# how it learns": ["optimizer: Lion", f"learning_rate_scale: 2.0  # of Lion's usual rate: {rates}",
                            "lr_scheduler: cosine"],
        "# how long, and the rest": ["epochs: 20", "save_every_n_epochs: 1", "seed: 0", "precision: fp32"],
        "# what the run leaves behind": [
            "output:", "  name: toy", "  ship_epoch: 8",
            "  stop_at_ship_epoch: true  # false: train on to epoch 20 to compare; it still ends with epoch 8's LoRA",
        ],
        f"# in force: alpha 4, {rates}": [],
    }  # fmt: skip


def test_where_a_run_ends_is_said_as_far_as_it_is_not_its_last_epoch(tmp_path: Path) -> None:
    config = parse_train_config({"base": "org/base", "data": "photos", "epochs": 20})

    def output(epoch: int | None, *, go_on: bool = False) -> dict:
        return yaml.safe_load(train_yaml(config, folder=tmp_path, name="toy", epoch=epoch, go_on=go_on))["output"]

    assert output(None) == {"name": "toy"}
    assert output(20) == {"name": "toy", "ship_epoch": 20}
    assert output(19) == {"name": "toy", "ship_epoch": 19, "stop_at_ship_epoch": True}
    assert output(19, go_on=True) == {"name": "toy", "ship_epoch": 19, "stop_at_ship_epoch": False}


def test_what_is_in_force_stands_at_the_end(tmp_path: Path) -> None:
    def last(**given: object) -> str:
        config = parse_train_config({"base": "org/base", "data": "photos", **given})
        return train_yaml(config, folder=tmp_path, name="toy").rstrip().split("\n")[-1]

    assert last() == "# in force: alpha 16, learning rate 0.0001"
    adafactor = {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"}
    assert last(**adafactor) == "# in force: alpha 16, Adafactor sets the learning rate"


def test_a_path_on_another_drive_stays(tmp_path: Path, monkeypatch) -> None:
    def elsewhere(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("search.study.config_yaml.os.path.relpath", elsewhere)
    assert relative(str(tmp_path / "base"), tmp_path) == str(tmp_path / "base")


def test_paths_are_seen_from_the_file_and_hub_ids_stay(tmp_path: Path) -> None:
    assert relative("org/base", tmp_path) == "org/base"
    assert relative(str(tmp_path / "a" / "b"), tmp_path / "c") == "../a/b"
    config = parse_train_config({"base": str(tmp_path / "base"), "data": "photos", "reg_data": str(tmp_path / "reg")})
    told = yaml.safe_load(train_yaml(config, folder=tmp_path / "best", name="toy"))
    assert (told["base"], told["data"], told["reg_data"]) == ("../base", "photos", "../reg")

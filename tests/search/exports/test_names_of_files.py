"""What other trainers call the file of the epoch to ship, and what a training file says of it."""

from pathlib import Path

import yaml

from search.exports.ship_epoch import saved_as
from search.study.config_yaml import train_yaml
from trainer.config.config import parse_train_config

PLAIN = {"base": "org/base", "data": "photos", "epochs": 20}


def test_sd_scripts_counts_epochs_and_steps_where_an_epoch_is_no_pass_over_the_photos() -> None:
    assert saved_as(parse_train_config(PLAIN), "toy", 8) == "toy-000008.safetensors"
    assert saved_as(parse_train_config({**PLAIN, "steps_per_epoch": 25}), "toy", 8) == "toy-step00000200.safetensors"


def test_a_training_file_draws_what_it_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    config = parse_train_config(PLAIN)
    asked, plain = (
        yaml.safe_load(train_yaml(config, folder=tmp_path, name="toy", epoch=8, prompts=prompts))["output"]
        for prompts in (["toy on grass"], [])
    )
    assert asked == {"name": "toy", "ship_epoch": 8, "stop_at_ship_epoch": True, "sample_prompts": ["toy on grass"]}
    assert plain == {key: value for key, value in asked.items() if key != "sample_prompts"}

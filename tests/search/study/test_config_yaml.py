"""What a training file says of what the run leaves behind."""

from pathlib import Path

import yaml

from search.study.config_yaml import train_yaml
from trainer.config.config import parse_train_config


def test_a_training_file_draws_what_it_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    config = parse_train_config({"base": "org/base", "data": "photos", "epochs": 20})
    asked, plain = (
        yaml.safe_load(train_yaml(config, folder=tmp_path, name="toy", epoch=8, prompts=prompts))["output"]
        for prompts in (["toy on grass"], [])
    )
    assert asked == {"name": "toy", "ship_epoch": 8, "stop_at_ship_epoch": True, "sample_prompts": ["toy on grass"]}
    assert plain == {key: value for key, value in asked.items() if key != "sample_prompts"}

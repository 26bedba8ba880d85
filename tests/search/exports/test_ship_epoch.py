"""What other trainers call the file of the epoch to ship."""

from search.exports.ship_epoch import saved_as
from trainer.config.config import parse_train_config

PLAIN = {"base": "org/base", "data": "photos", "epochs": 20}


def test_sd_scripts_counts_epochs_and_steps_where_an_epoch_is_no_pass_over_the_photos() -> None:
    assert saved_as(parse_train_config(PLAIN), "toy", 8) == "toy-000008.safetensors"
    assert saved_as(parse_train_config({**PLAIN, "steps_per_epoch": 25}), "toy", 8) == "toy-step00000200.safetensors"

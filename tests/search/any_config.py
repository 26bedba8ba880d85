"""A config for tests to which it does not matter what is trained."""

from trainer.config.config import parse_train_config

CONFIG = parse_train_config({"base": "base", "data": "photos"})

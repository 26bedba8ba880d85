"""A config that was kept is read as it was, whatever it was allowed then."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.config.config import TrainConfig
from trainer.config.recorded import RecordedConfig, recorded_config

OWN = {"base": "b", "data": "d"}


def test_ranges_and_rules_of_today_are_not_held_against_it() -> None:
    read = recorded_config({**OWN, "rank": 5000, "alpha": 2.0, "alpha_ratio": 0.5, "of_another_version": 1})
    assert isinstance(read, TrainConfig)
    assert (read.rank, read.alpha, read.alpha_ratio) == (5000, 2.0, 0.5)
    assert (read.epochs, read.optimizer_args) == (10, {})
    assert read.model_fields_set == {*OWN, "rank", "alpha", "alpha_ratio"}
    for wrong in ({"base": "b"}, {**OWN, "rank": "many"}):
        with pytest.raises(ValueError, match=r"data|rank"):
            recorded_config(wrong)


def test_a_field_of_that_type_takes_a_config_or_a_mapping() -> None:
    adapter = TypeAdapter(RecordedConfig)
    config = TrainConfig(**OWN, rank=8)
    assert adapter.validate_python(config) is config
    assert adapter.validate_python(config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError, match="a config is a mapping"):
        adapter.validate_python("rank: 8")

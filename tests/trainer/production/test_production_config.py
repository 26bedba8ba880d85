"""train.yaml with its output section: all that is wrong is told at once, and what another trainer's file lost."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.errors import ConfigError
from trainer.production.production_config import Output, load_production

RIGHT = {"base": "org/base", "epochs": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path


def _write(folder: Path, **changes: Any) -> Path:
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({**RIGHT, "data": "photos", **changes}))
    return path


def _keys(folder: Path, **changes: Any) -> list[str | None]:
    with pytest.raises(ConfigError) as refused:
        load_production(_write(folder, **changes))
    return sorted(str(error.key) for error in refused.value.all)


def test_paths_are_relative_to_the_file_and_the_lora_has_its_name(folder: Path) -> None:
    (folder / "reg").mkdir()
    config, output = load_production(_write(folder, reg_data="reg"))
    assert (config.base, config.data, config.reg_data) == ("org/base", str(folder / "photos"), str(folder / "reg"))
    assert output == Output(name="toy")
    assert load_production(_write(folder, output={"name": "mine", "ship_epoch": 5}))[1] == Output(
        name="mine", ship_epoch=5
    )


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    assert _keys(folder, data="gone", rank=0, output={"sample_steps": 0, "sampel": 1}) == [
        "data",
        "output.sampel",
        "output.sample_steps",
        "rank",
    ]
    assert _keys(folder, sample_prompts=["a"], rank=0) == ["rank", "sample_prompts"]
    assert _keys(folder, output=[1]) == ["output"]
    assert _keys(folder, output={"ship_epoch": 6}) == ["output.ship_epoch"]
    assert _keys(folder, output={"name": "a/b", "ship_epoch": 0}) == ["output.name", "output.ship_epoch"]


@pytest.mark.parametrize("key", ["study", "search", "flow"])
def test_a_study_is_sent_to_its_command(folder: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"it has {key}; run it with: python -m search\.run"):
        load_production(_write(folder, **{key: {}}))


@pytest.mark.parametrize(
    ("ship", "stops", "last"), [(None, True, 9), (None, False, 9), (4, True, 4), (4, False, 9)]
)  # fmt: skip
def test_training_ends_at_the_epoch_to_ship_unless_it_goes_on(ship: int | None, stops: bool, last: int) -> None:
    assert Output(ship_epoch=ship, stop_at_ship_epoch=stops).last_epoch(9) == last


def test_what_another_trainers_file_lost_is_told_line_by_line(folder: Path) -> None:
    path = folder / "theirs.json"
    theirs = {"pretrained_model_name_or_path": "org/base", "train_data_dir": "photos", "max_train_epochs": 3}
    path.write_text(json.dumps(theirs | {"masked_loss": True}))
    told: list[str] = []
    config, output = load_production(path, tell=told.append)
    assert (config.epochs, config.rank, config.data, output.name) == (3, 4, str(folder / "photos"), "theirs")
    assert [line.partition(", ")[0] for line in told] == [
        "theirs.json: not taken over",
        "theirs.json: left out there",
    ]
    load_production(path)


@pytest.mark.parametrize(
    ("key", "lowest", "highest"),
    [("sample_steps", 1, 1000), ("sample_guidance", 0, 100), ("sample_seed", 0, 2**63 - 1), ("ship_epoch", 1, 100_000),
     ("sample_every_n_epochs", 1, 100_000)],
)  # fmt: skip
def test_numbers_have_a_least_and_a_most(folder: Path, key: str, lowest: int, highest: int) -> None:
    for value in (lowest, highest):
        assert getattr(load_production(_write(folder, epochs=100_000, output={key: value}))[1], key) == value
    for value in (lowest - 1, highest + 1):
        assert _keys(folder, epochs=100_000, output={key: value}) == [f"output.{key}"]

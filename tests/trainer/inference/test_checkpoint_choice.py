"""Which LoRA files are meant by files, folders and epochs."""

from pathlib import Path

import pytest

from tests.messages import refusal
from trainer.errors import ConfigError, ModelError
from trainer.inference.checkpoint_choice import MOST, Chosen, base_of, chosen


def _trained(folder: Path, *epochs: int) -> Path:
    for epoch in epochs:
        (folder / "checkpoints" / f"{epoch:04d}").mkdir(parents=True)
        (folder / "checkpoints" / f"{epoch:04d}" / "lora.safetensors").write_bytes(b"")
    return folder


def _named(folder: Path, *epochs: int) -> list[Chosen]:
    of = {epoch: folder / "checkpoints" / f"{epoch:04d}" / "lora.safetensors" for epoch in epochs}
    return [Chosen(path, f"epoch {epoch}") for epoch, path in of.items()]


def test_of_a_folder_all_or_eight_spread_over_it_from_the_first_to_the_last(tmp_path: Path) -> None:
    few = _trained(tmp_path / "few", *range(1, MOST + 1))
    assert list(chosen([few])) == _named(few, *range(1, MOST + 1))
    many = _trained(tmp_path / "many", *range(10, 160, 10))
    # of 15 the places 0, 2, 4, … 14
    assert list(chosen([many])) == _named(many, 10, 30, 50, 70, 90, 110, 130, 150)
    nine = _trained(tmp_path / "nine", *range(1, 10))
    assert len(chosen([nine])) == MOST
    assert chosen([nine])[0].name == "epoch 1"
    assert chosen([nine])[-1].name == "epoch 9"


def test_epochs_are_taken_in_their_order_once_each_and_only_if_they_are_there(tmp_path: Path) -> None:
    folder = _trained(tmp_path / "a", 1, 2, 5)
    assert list(chosen([folder], [5, 1, 5])) == _named(folder, 5, 1)
    with pytest.raises(ConfigError, match=refusal("--epochs", 3)) as refused:
        chosen([folder], [1, 3])
    assert "it has epochs 1, 2, 5" in str(refused.value)
    (folder / "checkpoints" / "0002" / "lora.safetensors").unlink()
    assert list(chosen([folder])) == _named(folder, 1, 5)


def test_several_folders_are_told_apart_and_files_go_by_their_name(tmp_path: Path) -> None:
    one, other = _trained(tmp_path / "0012", 1), _trained(tmp_path / "mine", 2)
    file = tmp_path / "toy.safetensors"
    file.write_bytes(b"")
    assert [(each.name, each.of) for each in chosen([file, one, other])] == [
        ("toy", ""),
        ("epoch 1", "trial 12"),
        ("epoch 2", "mine"),
    ]
    assert [(each.name, each.of) for each in chosen([one, file])] == [("epoch 1", ""), ("toy", "")]
    with pytest.raises(ModelError, match=r"gone\.safetensors: no such file"):
        chosen([file, tmp_path / "gone.safetensors"])


def test_the_base_is_what_all_trials_say_it_is(tmp_path: Path) -> None:
    said = {"a": "base: one\n", "b": "base: one\n", "c": "base: two\n", "d": "rank: 4\n", "e": "base: [one]\n"}
    for name, text in said.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    (tmp_path / "f").mkdir()
    for names, base in (
        ("a", "one"),
        ("ab", "one"),
        ("ac", None),
        ("d", None),
        ("f", None),
        ("adef", "one"),
        ("", None),
    ):
        assert base_of([tmp_path / name for name in names]) == base

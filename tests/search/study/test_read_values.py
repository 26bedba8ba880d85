"""What stands at the top of a study file, value by value: each mistake is a line, and reading goes on."""

import re
from pathlib import Path
from typing import Any

import pytest

from search.study.read_values import read_section, read_settings, read_source, read_text
from search.study.settings import KeepSection, ScoreSection
from search.study.study_file import StudyFile
from tests.messages import refusal


def file_in(folder: Path, **values: Any) -> StudyFile:
    return StudyFile(folder / "s.yaml", values)


@pytest.mark.parametrize(("value", "text"), [("a", "a"), ("", ""), (3, None), (None, None), (["a"], None)])
def test_a_text_has_to_be_there(tmp_path: Path, value: Any, text: str | None) -> None:
    problems: list[str] = []
    assert read_text(file_in(tmp_path, study=value), "study", "a name", problems) == text
    assert len(problems) == (text is None)
    if problems:
        assert problems[0].startswith(f"{tmp_path / 's.yaml'}: study: expected a name, got ")


@pytest.mark.parametrize(
    ("values", "settings", "got"),
    [({}, {}, None), ({"train": None}, {}, None), ({"train": {}}, {}, None),
     ({"train": {"rank": 4}}, {"rank": 4}, None),
     ({"train": [1]}, {}, "[1]"), ({"train": "x"}, {}, "x"), ({"train": 0}, {}, "0")],
)  # fmt: skip
def test_settings_are_a_section_or_left_out(
    tmp_path: Path, values: dict[str, Any], settings: dict[str, Any], got: str | None
) -> None:
    problems: list[str] = []
    found = read_settings(file_in(tmp_path, **values), "train", problems)
    assert found == settings
    assert found is not values.get("train"), "it may be changed"
    assert len(problems) == (got is not None)
    if got is not None:
        assert re.search(refusal("train", got, "a section of settings"), problems[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("photos", "reg", "models/whole", "models/empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models/whole/model_index.json").touch()
    (tmp_path / "models/sd.safetensors").touch()
    (tmp_path / "models/sd.ckpt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("base", "models/whole", "models/whole"),
        ("base", "models/sd.safetensors", "models/sd.safetensors"),
        ("base", "somebody/on-the-hub", None),
        ("data", "photos", "photos"),
        ("reg_data", "reg", "reg"),
    ],
)
def test_a_path_is_seen_from_the_file_and_a_name_of_the_hub_stays(
    folder: Path, key: str, value: str, found: str | None
) -> None:
    problems: list[str] = []
    read = read_source(file_in(folder, **{key: value}), key, problems)
    assert problems == []
    assert read == (value if found is None else str((folder / found).resolve()))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("base", None, "the base model's path or hub id"),
        ("data", None, "the training folder"),
        ("reg_data", 3, "a folder"),
        ("data", "fotos", "a path that exists"),
        ("reg_data", "none", "a path that exists"),
        ("base", "models/whle", "a path that exists (did you mean whole?)"),
        ("base", "models/empty", "a diffusers folder or a .safetensors"),
        ("base", "models/sd.ckpt", "a .safetensors file"),
    ],
)
def test_what_is_no_source_is_named(folder: Path, key: str, value: Any, expected: str) -> None:
    problems: list[str] = []
    read_source(file_in(folder, **{key: value}), key, problems)
    assert len(problems) == 1
    assert f": {key}: expected " in problems[0]
    assert expected in problems[0]
    assert ("holds empty, whole" in problems[0]) is (value == "models/whle")


def test_regularisation_images_may_be_left_out(folder: Path) -> None:
    problems: list[str] = []
    assert read_source(file_in(folder), "reg_data", problems) is None
    assert read_source(file_in(folder, reg_data=None), "reg_data", problems) is None
    assert problems == []


def test_each_mistake_in_a_section_is_named_with_its_place(tmp_path: Path) -> None:
    problems: list[str] = []
    file = file_in(tmp_path)
    assert read_section(file, "keep", KeepSection, None, problems) == KeepSection()
    assert read_section(file, "keep", KeepSection, {"states": True}, problems) == KeepSection(states=True)
    assert problems == []
    value = {"probe": {"sedes": 2, "steps": 0}, "holdout": "x", "seeed": 1}
    assert isinstance(read_section(file, "score", ScoreSection, value, problems), ScoreSection), "it goes on"
    told = sorted(line.partition("s.yaml: ")[2] for line in problems)
    for line, (key, words) in zip(
        told,
        [("score.holdout", "a whole number"), ("score.probe.sedes", "seeds"), ("score.probe.steps", "at least 1"),
         ("score.seeed", "seed")],
        strict=True,
    ):  # fmt: skip
        assert line.startswith(f"{key}: expected ")
        assert words in line

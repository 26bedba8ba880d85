"""What stands at the top of a study file, read value by value: every mistake becomes a line, and reading goes on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from search.errors import problem, unknown_problem
from search.study.study_file import StudyFile
from trainer.config.pydantic_messages import in_words
from trainer.config.sources import resolve_source
from trainer.errors import ConfigError, nearest

Model = TypeVar("Model", bound=BaseModel)
_SOURCES = {"base": "the base model's path or hub id", "data": "the training folder", "reg_data": "a folder"}


def read_text(file: StudyFile, key: str, what: str, problems: list[str]) -> str | None:
    """The text under `key`, which has to be there; `what` says what it should be."""
    value = file.values.get(key)
    if not isinstance(value, str):
        problems.append(problem(file, key, value, what))
        return None
    return value


def read_source(file: StudyFile, key: str, problems: list[str]) -> str | None:
    """The absolute path (or hub id) under `base`, `data` or `reg_data`."""
    if key == "reg_data" and file.values.get(key) is None:
        return None
    value = read_text(file, key, _SOURCES[key], problems)
    if value is None:
        return None
    try:
        found = resolve_source(file.file_of(key), key, value)
    except ConfigError as error:
        problems.append(str(error))
        return None
    beside_it = file.file_of(key).parent / value
    if key == "base" and not Path(found).exists() and beside_it.parent.is_dir():
        # `demo/bsae` looks like a hub id, but its folder is here: a misspelt file, not a download
        there = sorted(p.name for p in beside_it.parent.iterdir() if p.is_dir())
        expected = f"a path that exists{nearest(Path(value).name, there)}"
        problems.append(problem(file, key, value, expected, f"{Path(value).parent} holds {', '.join(there)}"))
        return None
    if key == "base" and Path(found).is_dir() and not (Path(found) / "model_index.json").is_file():
        expected = "a diffusers folder or a .safetensors"
        problems.append(problem(file, key, value, expected, "model_index.json is missing"))
    if key == "base" and Path(found).is_file() and Path(found).suffix != ".safetensors":
        problems.append(problem(file, key, value, "a .safetensors file", "others, such as .ckpt, can run code"))
    return found


def read_settings(file: StudyFile, key: str, problems: list[str]) -> dict[str, Any]:
    """The settings under `key`, each as it stands there."""
    value = file.values.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(problem(file, key, value, "a section of settings, one `key: value` a line"))
        return {}
    return dict(value)


def read_section(file: StudyFile, key: str, model: type[Model], value: Any, problems: list[str]) -> Model:
    """The section under `key`; with mistakes, one that is not checked."""
    try:
        return model() if value is None else model.model_validate(value)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            where = ".".join([key, *map(str, one["loc"])])
            if one["type"] == "extra_forbidden":
                problems.append(unknown_problem(file, where, _keys_beside(model, one["loc"])))
                continue
            given = None if one["type"] == "missing" else one["input"]
            problems.append(problem(file, where, given, in_words(one)))
        return model.model_construct()


def _keys_beside(model: type[BaseModel], place: Sequence[Any]) -> Iterable[str]:
    for part in place[:-1]:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)  # of a section: a model
        model = inner
    return model.model_fields

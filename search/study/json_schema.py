"""The JSON Schema of a study file, for editors: they complete names and mark mistakes while one writes."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from search.study.kinds import KINDS
from search.study.server import STORAGE
from search.study.study import KEYS, NOT_SEARCHED, SECTIONS, TOP_LEVEL_ONLY
from trainer.config.config import TrainConfig

TOP = {
    "study": "Name of the study and of its folder under `runs/`. Required.",
    "extends": "Another study file, whose settings count where this one says nothing ([how](study-file.md#extends)).",
    "from": "A study file whose study has run in the same runs folder and hands its result on ([how](flow.md)).",
    "base": "As in a training file. Required.",
    "data": "As in a training file. Required.",
    "reg_data": "As in a training file.",
    "seed": "As in a training file; the sampler uses it, too.",
    "storage": "The address of a PostgreSQL database to keep the trials in, such as "
    "`postgresql+psycopg://me@host/name`; the environment variable `ONSET_STORAGE` says it for all new studies. "
    "Default: a file of the study's own, `runs/<study>/study.db`.",
    "train": "Fields of a training file that are the same for all trials.",
    **{kind.key: kind.about for kind in KINDS},
    "search": "Fields of a training file that differ between trials, each with an entry as below.",
}
"""What stands at the top of a study file."""
ENTRY = {
    "values": "A list to choose from: `{values: [4, 8, 16]}`.",
    "value": "One value, for use with `when`: `{value: 2, when: {lr_scheduler: cosine_with_restarts}}`.",
    "min": "The smallest number of a range: `{min: 1, max: 8}`.",
    "max": "The largest number of a range.",
    "log": "true draws by factors: 1 to 2 is as likely as 2 to 4. Default: false.",
    "step": "The distance between the numbers of a range. Default: any number in the range.",
    "when": "The entry counts only where another searched field has this value, or one of these: "
    "`when: {lr_scheduler: [cosine, linear]}`.",
}
"""How a searched field is chosen."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HOW = (
    "Save it beside your study files: python -m search.run --schema > study.schema.json. Then begin each of them "
    "with this line: # yaml-language-server: $schema=study.schema.json"
)
_FLOW = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "minLength": 1},
    "description": "Study files that run one after the other.",
}
_TRAIN = "#/$defs/train."
_Schema = dict[str, Any]


def study_schema() -> _Schema:
    """What a study file may hold, as a JSON Schema (draft 2020-12). Settings that do not go together, and files that
    are not there, are found by `search.run` alone."""
    shared: _Schema = {}
    fields = _properties(TrainConfig, shared)
    train = {name: _shared(name, one, shared) for name, one in fields.items() if name not in TOP_LEVEL_ONLY}
    searched = {name: _entries(one) for name, one in train.items() if name not in NOT_SEARCHED}
    known: _Schema = {
        "study": {"type": "string", "minLength": 1},
        "extends": {"type": "string", "minLength": 1},
        "from": {"type": ["string", "null"]},
        STORAGE: {"type": ["string", "null"], "minLength": 1},
        **{name: _or_nothing(fields[name]) for name in TOP_LEVEL_ONLY},
        "train": _section(train),
        "search": _section(searched),
        **{name: _of_model(model, shared) for name, model in SECTIONS.items()},
        **{kind.key: _of_model(kind, shared) for kind in KINDS},
    }
    study: _Schema = {
        "additionalProperties": False,
        "properties": {key: _described(known.get(key, {}), TOP.get(key, "")) for key in KEYS},
    }
    return {
        "$schema": _DIALECT,
        "title": "Onset: a study file, or a flow file",
        "$comment": _HOW,
        "type": "object",
        "if": {"required": ["flow"]},
        "then": {"additionalProperties": False, "properties": {"flow": _FLOW}},
        "else": study,  # nothing is required: a file that others extend need not be whole
        "$defs": shared,
    }


def _properties(model: type[BaseModel], shared: _Schema) -> _Schema:
    """A model's fields; the sections in it are added to `shared`. Every section may be left empty."""
    schema = model.model_json_schema()
    for name, inner in schema.get("$defs", {}).items():
        shared[name] = _described(_section(inner["properties"]), inner.get("description", ""))
    return {name: _or_number_as_text(one) for name, one in schema["properties"].items()}


def _of_model(model: type[BaseModel], shared: _Schema) -> _Schema:
    properties = _properties(model, shared)
    if "held_out" in properties:
        outside, inside = _apart(properties["held_out"])
        properties["held_out"] = {**outside, "anyOf": [{"const": "none"}, inside]}
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return _section(properties, model.__doc__ or "", required)


def _section(properties: Mapping[str, Any], meaning: str = "", required: list[str] | None = None) -> _Schema:
    schema: _Schema = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {name: _or_nothing(one) for name, one in properties.items()},
    }
    return _described(schema | ({"required": required} if required else {}), meaning)


def _shared(name: str, field: _Schema, shared: _Schema) -> _Schema:
    """A field that `train` and `search` both have, to be written once."""
    outside, shared[f"train.{name}"] = _apart(field)
    return {**outside, "$ref": f"{_TRAIN}{name}"}


def _entries(field: _Schema) -> _Schema:
    """One entry under `search`, or a list of them with different conditions."""
    value = {"$ref": field["$ref"]}
    conditions = {"type": "object", "description": ENTRY["when"]}
    keys = {
        "values": {"type": "array", "minItems": 1, "items": value},
        "value": value,
        "min": {"type": ["number", "string"]},
        "max": {"type": ["number", "string"]},
        "log": {"type": "boolean"},
        "step": {"type": ["number", "string"]},
        "when": conditions,
    }
    entry = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: _described(one, ENTRY[key]) for key, one in keys.items()},
        "oneOf": [{"required": ["values"]}, {"required": ["value"]}, {"required": ["min", "max"]}],
    }
    return _described(
        {"anyOf": [entry, {"type": "array", "minItems": 1, "items": entry}]}, field.get("description", "")
    )


def _or_nothing(field: _Schema) -> _Schema:
    """The field, or null: what another file says, or the default."""
    if field.get("type") == ["object", "null"] or not field.get("$ref", _TRAIN).startswith(_TRAIN):
        return field  # a section
    outside, inside = _apart(field)
    choices = inside["anyOf"] if set(inside) == {"anyOf"} else [inside]
    return {**outside, "anyOf": [*choices, *([] if {"type": "null"} in choices else [{"type": "null"}])]}


def _apart(field: _Schema) -> tuple[_Schema, _Schema]:
    """What is said about a field, and what it may hold."""
    about = {key: value for key, value in field.items() if key in ("description", "title", "default")}
    return about, {key: value for key, value in field.items() if key not in about}


def _or_number_as_text(field: _Schema) -> _Schema:
    """YAML takes 1e-4 for text, and so do some editors; it is read as the number it is."""
    if field.get("type") == "number":
        outside, limits = _apart(field)
        return {**outside, "anyOf": [limits, _NUMBER_AS_TEXT]}
    if any(one.get("type") == "number" for one in field.get("anyOf", ())):
        return {**field, "anyOf": [*field["anyOf"], _NUMBER_AS_TEXT]}
    return field


_NUMBER_AS_TEXT = {"type": "string", "pattern": r"^[+-]?[0-9.]+[eE][+-]?[0-9]+$"}


def _described(schema: _Schema, meaning: str) -> _Schema:
    said = " ".join(meaning.split()).split(" ([", 1)[0]
    return {**schema, "description": said} if said else schema

"""A TrainConfig that was kept in a file after it was trained with: read as it was, not judged anew.

What a run was trained with stays true whatever later versions allow, so no range and no rule is held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PlainValidator, create_model

from trainer.config.config import TrainConfig


def recorded_config(values: Mapping[str, Any]) -> TrainConfig:
    """The config that `TrainConfig.model_dump(mode="json")` became.

    Names that this version does not know are left out; settings that are newer than the file have their defaults.

    Raises:
        ValueError: a value is of a type that its setting never had, or `base` or `data` is missing.
    """
    read = _of_any_version()(**values)
    return TrainConfig.model_construct(_fields_set=read.model_fields_set, **vars(read))


def _recorded(value: Any) -> TrainConfig:
    if isinstance(value, TrainConfig):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a config is a mapping")
    return recorded_config(value)


RecordedConfig = Annotated[TrainConfig, PlainValidator(_recorded)]
"""The type of a dataclass's field that pydantic reads with `recorded_config`."""


@cache
def _of_any_version() -> type[BaseModel]:
    """The fields of TrainConfig by their types alone. Made once: it takes milliseconds."""
    kinds = get_type_hints(TrainConfig)
    fields: dict[str, Any] = {
        name: (kinds[name], ... if field.is_required() else field.get_default(call_default_factory=True))
        for name, field in TrainConfig.model_fields.items()
    }
    return create_model("Recorded", __config__=ConfigDict(extra="ignore"), **fields)

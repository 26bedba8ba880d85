"""train.yaml of a production run: a TrainConfig, and an `output` section for what is made of it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainer.config.config import TrainConfig, parse_train_config
from trainer.config.pydantic_messages import in_words
from trainer.config.sources import resolve_source, why_no_file_name
from trainer.config.yaml_file import read_yaml
from trainer.errors import ConfigError, Plain, refuse, unknown
from trainer.production.kohya_file import ENDINGS, read_kohya_file

_OF_SEARCH = frozenset({"study", "search", "flow"})
"""Keys at the top of a study file or a flow file: people mix the commands up."""
Prompt = Annotated[str, Field(max_length=2000)]


class Output(BaseModel):
    """How a production run goes, and what it leaves behind besides its checkpoints. May change between one start and
    the next."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    name: str | None = None
    """Name of the LoRA file, without folders, and what WebUIs show; None takes the YAML file's name."""
    ship_epoch: int | None = Field(None, ge=1, le=100_000)
    """Epoch whose LoRA the run ends with, under `name`; None is the last one. The schedule follows `epochs` as ever."""
    stop_at_ship_epoch: bool = True
    """End training at ship_epoch; false goes on to `epochs`, to compare, and still ends with ship_epoch's LoRA."""
    sample_prompts: tuple[Prompt, ...] = Field((), max_length=1000)
    """Prompts drawn at each checkpoint; none, no samples."""
    sample_every_n_epochs: int | None = Field(None, ge=1, le=100_000)
    """Epochs between samples; None is save_every_n_epochs."""
    sample_seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the first prompt's noise; the next prompts count on from it."""
    sample_steps: int = Field(20, ge=1, le=1000)
    """Sampler steps."""
    sample_guidance: float = Field(6.0, ge=0, le=100)
    """Classifier-free guidance scale."""
    sample_scheduler: Literal["dpmpp_2m", "unipc", "ddim", "euler_a"] = "dpmpp_2m"
    """Sampler."""
    sample_negative: str = Field("", max_length=2000)
    """Negative prompt."""
    deterministic: bool = True
    """On an NVIDIA GPU, only operations that give the same numbers each time; false lets it take faster ones."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and (why := why_no_file_name(value)) is not None:
            raise ValueError(why)
        return value

    def last_epoch(self, epochs: int) -> int:
        """The epoch at which training ends, of `epochs` that the schedule is laid out for."""
        return self.ship_epoch if self.ship_epoch is not None and self.stop_at_ship_epoch else epochs


def load_production(path: str | Path, *, tell: Callable[[str], None] = lambda note: None) -> tuple[TrainConfig, Output]:
    """Read a train.yaml, with or without an `output` section, or a run of sd-scripts or the kohya_ss GUI. Paths in it
    are relative to the file's folder.

    Args:
        tell: is called with a sentence for each thing of another trainer's file that was not taken over as it is.

    Raises:
        ConfigError: the file is missing, not YAML, or a setting is wrong.
    """
    path = Path(path)
    if path.suffix.lower() in ENDINGS:
        found = read_kohya_file(path)
        values = dict(found.values)
        for note in found.notes:
            tell(note)
    else:
        values = read_yaml(path)
    if of_search := _OF_SEARCH & values.keys():
        why = f"it has {', '.join(sorted(of_search))}; run it with: python -m search.run {path}"
        raise ConfigError(path, "", Plain("the file of a study or a flow"), "the file of one training", why)
    section = values.pop("output", None)
    errors: list[ConfigError] = []
    for key in ("base", "data", "reg_data"):
        if isinstance(values.get(key), str):
            try:
                values[key] = resolve_source(path, key, values[key])
            except ConfigError as error:
                errors += error.all
    for key in [key for key in values if key in Output.model_fields]:
        expected = f"this setting in the section output (output.{key})"
        errors.append(ConfigError(path, key, values.pop(key), expected))
    config, output = None, None
    try:
        config = parse_train_config(values, file=path)
    except ConfigError as error:
        errors += error.all
    try:
        output = _parse_output({} if section is None else section, path)
    except ConfigError as error:
        errors += error.all
    if config and output and output.ship_epoch is not None and output.ship_epoch > config.epochs:
        errors.append(ConfigError(path, "output.ship_epoch", output.ship_epoch, f"at most epochs ({config.epochs})"))
    refuse(errors)
    assert config is not None
    assert output is not None
    return config, output.model_copy(update={"name": output.name or path.stem})


def _parse_output(section: object, path: Path) -> Output:
    if not isinstance(section, Mapping):
        raise ConfigError(path, "output", section, "a section of settings, one `key: value` a line")
    known = Output.model_fields
    strange = [key for key in section if key not in known]
    errors = [unknown(path, f"output.{key}", known) for key in strange]
    output = None
    try:
        output = Output(**{key: value for key, value in section.items() if key not in strange})
    except ValidationError as error:
        firsts = {str(each["loc"][0]): each for each in reversed(error.errors())}
        errors += [_explained(key, firsts[key], section, path) for key in known if key in firsts]
    refuse(errors)
    assert output is not None
    return output


def _explained(key: str, error: Any, section: Mapping[Any, Any], path: Path) -> ConfigError:
    described = (Output.model_fields[key].description or "").removesuffix(".")
    why = "" if key == "name" else described[:1].lower() + described[1:]
    return ConfigError(path, f"output.{key}", section.get(key), in_words(error), why)

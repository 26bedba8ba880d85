"""What can go wrong in `trainer`: one root, each error saying what a person has to change."""

from pathlib import Path


class TrainerError(Exception):
    """Root of every error that `trainer` raises on purpose; its text is one line for the user."""


class ConfigError(TrainerError):
    """A setting is unknown, of the wrong type or impossible.

    Args:
        file: the YAML file, or None when the config was built in code.
        key: dotted name of the setting.
        value: what was given.
        allowed: what would have been right, in words.
    """

    def __init__(self, file: str | Path | None, key: str, value: object, allowed: str) -> None:
        self.file, self.key, self.value, self.allowed = file, key, value, allowed
        where = f"{file}: " if file is not None else ""
        super().__init__(f"{where}{key}: {value!r} is not allowed: {allowed}")


class DataError(TrainerError):
    """A training folder, image or caption cannot be used."""


class ModelError(TrainerError):
    """A base model or a LoRA file cannot be loaded, or is of another family."""

"""Files that people pass on (the report, the verdict) say nothing of where a project lies on its maker's disk."""

from pathlib import PurePosixPath, PureWindowsPath

from trainer.config.config import TrainConfig
from trainer.delivery.private_text import without_private_paths

__all__ = ["shareable", "without_private_paths"]


def shareable(config: TrainConfig) -> TrainConfig:
    """A config whose absolute paths are shortened to their last part; hub ids and relative paths stay."""
    short = {name: _short(value) for name, value in config if isinstance(value, str)}
    words = {name: _short(value) for name, value in config.optimizer_args.items() if isinstance(value, str)}
    return config.model_copy(update={**short, "optimizer_args": config.optimizer_args | words})


def _short(value: str) -> str:
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(value)
        if path.is_absolute() or value.startswith("~"):
            return f"…/{path.name}"
    return value

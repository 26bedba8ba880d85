"""A TrainConfig as the YAML that `python -m trainer.run` reads: what was set, grouped, with the epoch to ship."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from search.study.comment_lines import comment_lines
from trainer.config.config import TrainConfig

GROUPS: dict[str, tuple[str, ...]] = {
    "the base and the photos": (
        "base", "family", "data", "reg_data", "trigger", "class_word", "resolution", "enable_bucket", "bucket_step",
        "min_bucket_resolution", "max_bucket_resolution", "batch_size", "gradient_accumulation_steps", "flip",
        "shuffle_caption", "keep_tokens", "caption_dropout", "clip_skip",
    ),
    "the LoRA": (
        "rank", "alpha", "alpha_ratio", "targets", "conv_rank", "conv_alpha", "dora", "rslora", "train_text_encoder",
    ),
    "how it learns": (
        "optimizer", "learning_rate", "learning_rate_scale", "text_encoder_lr", "relative_step", "d_coef",
        "weight_decay", "optimizer_args", "max_grad_norm", "lr_scheduler", "num_cycles", "cycle_epochs", "warmup_steps",
    ),
    "how long, and the rest": (),
}  # fmt: skip
_ALWAYS = ("base", "data", "resolution", "batch_size", "rank", "optimizer", "lr_scheduler", "epochs",
           "save_every_n_epochs", "seed", "precision")  # fmt: skip


def train_yaml(
    config: TrainConfig,
    *,
    folder: Path,
    name: str,
    epoch: int | None = None,
    go_on: bool = False,
    about: str = "",
    prompts: Sequence[str] = (),
) -> str:
    """The YAML text; reading it back from `folder` with `load_production` gives `config` again.

    Args:
        config: the run; it keeps its full horizon, because a shorter schedule would be another schedule.
        folder: where the file will lie; paths are written relative to it.
        name: of the LoRA that the run ends with.
        epoch: whose LoRA that is; None is the last one.
        go_on: train to the horizon all the same, to compare.
        about: where it comes from and what to know, for the comment at the top.
        prompts: drawn at every checkpoint.
    """
    lines = comment_lines(about)
    lines.append("# Run it with: python -m trainer.run train.yaml")
    grouped = {name for names in GROUPS.values() for name in names}
    for title, names in GROUPS.items():
        names = names or tuple(n for n in TrainConfig.model_fields if n not in grouped)
        values = {n: _plain(getattr(config, n)) for n in names if _said(config, n)}
        values |= {n: relative(values[n], folder) for n in ("base", "data", "reg_data") if values.get(n)}
        if values:
            lines += ["", f"# {title}"]
            lines += _with_rate(_dumped(values), config)
    lines += ["", "# what the run leaves behind", "output:"]
    output: dict[str, Any] = {"name": name}
    if epoch is not None:
        output["ship_epoch"] = epoch
        if epoch < config.epochs:
            output["stop_at_ship_epoch"] = not go_on
    if prompts:
        output["sample_prompts"] = list(prompts)
    for line in _dumped(output).splitlines():
        if line.startswith("stop_at_ship_epoch:"):
            line += f"  # false: train on to epoch {config.epochs} to compare; it still ends with epoch {epoch}'s LoRA"
        lines.append(f"  {line}")
    lines += ["", f"# in force: alpha {config.effective_alpha:g}" + _rate(config)]
    return "\n".join(lines) + "\n"


def relative(path: str, folder: Path) -> str:
    """A path as seen from `folder`; a hub id unchanged, and a path on another drive stays absolute."""
    if not Path(path).is_absolute():
        return path
    try:
        return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path


def _with_rate(text: str, config: TrainConfig) -> list[str]:
    """The lines of a group, the rate that the scale stands for beside it."""
    return [
        f"{line}  # of {config.optimizer}'s usual rate: {_rate(config).removeprefix(', ')}"
        if line.startswith("learning_rate_scale:")
        else line
        for line in text.splitlines()
    ]


def _dumped(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000).rstrip()


def _said(config: TrainConfig, name: str) -> bool:
    return name in _ALWAYS or getattr(config, name) != TrainConfig.model_fields[name].get_default(
        call_default_factory=True
    )


def _rate(config: TrainConfig) -> str:
    if config.relative_step:
        return ", Adafactor sets the learning rate"
    rate = f", learning rate {config.effective_learning_rate:g}"
    return rate + (f", text encoder {config.effective_text_encoder_lr:g}" if config.train_text_encoder else "")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""A TrainConfig as the YAML that `python -m trainer.run` reads: what was set, grouped, with the epoch to look at."""

from collections.abc import Sequence
from typing import Any

import yaml

from search.space import FLAT_SCHEDULERS
from trainer.config import TrainConfig

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
    config: TrainConfig, *, epoch: int | None = None, about: str = "", name: str = "", prompts: Sequence[str] = ()
) -> str:
    """The YAML text; reading it back with `load_train_config` gives `config` again.

    Args:
        config: the run; it keeps its full horizon, because a shorter schedule would be another schedule.
        epoch: the checkpoint to ship, said in a comment.
        about: where it comes from, one line for the comment at the top.
        name, prompts: offered, as comments, for `output`: what to call the LoRA and what to draw on the way.
    """
    lines = [f"# {line}" for line in about.splitlines()]
    lines.append("# Run it with: python -m trainer.run train.yaml")
    if epoch is not None:
        lines.append(f"# The epoch to ship is {epoch}: checkpoints/{epoch:04d} of the run.")
        if config.lr_scheduler in FLAT_SCHEDULERS:
            lines.append("# The learning rate does not depend on epochs: training may end there.")
        else:
            lines.append(f"# Keep epochs at {config.epochs}: the learning rate follows it, so a shorter run is")
            lines.append("# not this one stopped early.")
    grouped = {name for names in GROUPS.values() for name in names}
    for title, names in GROUPS.items():
        names = names or tuple(n for n in TrainConfig.model_fields if n not in grouped)
        values = {n: _plain(getattr(config, n)) for n in names if _said(config, n)}
        if values:
            lines += ["", f"# {title}"]
            lines.append(_dumped(values))
    if name:
        output = {"output": {"name": name, **({"sample_prompts": list(prompts)} if prompts else {})}}
        lines += ["", "# take the # away to name the LoRA and to see samples on the way"]
        lines += [f"# {line}" for line in _dumped(output).splitlines()]
    lines.append("")
    lines.append(f"# in force: alpha {config.effective_alpha:g}" + _rate(config))
    return "\n".join(lines) + "\n"


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

"""A training's settings in a line, and the learning rate in force."""

from collections.abc import Mapping
from typing import Any

from trainer.optimization.optimizers import OPTIMIZERS


def settings(config: Mapping[str, Any]) -> str:
    """A config in one line: optimizer, learning rate, schedule, rank and alpha, what is trained."""
    parts = [str(config.get("optimizer", "?"))]
    if config.get("relative_step"):
        parts.append("sets its own learning rate")
    else:
        parts.append(f"learning rate {learning_rate(config):.2g}")
    if config.get("optimizer") in ("Prodigy", "DAdaptAdam") and config.get("d_coef", 1.0) != 1.0:
        parts.append(f"d_coef {config['d_coef']:.3g}")
    schedule = str(config.get("lr_scheduler", "?"))
    if schedule == "cosine_with_restarts":
        if config.get("cycle_epochs"):
            schedule += f" every {config['cycle_epochs']} epochs"
        elif config.get("num_cycles"):
            schedule += f", {_cycles(int(config['num_cycles']))}"
    parts.append(schedule)
    parts.append(f"rank {config.get('rank', '?')}")
    if config.get("alpha_ratio") is not None:
        parts.append(f"alpha {config['alpha_ratio'] * config.get('rank', 1):.3g}")
    else:
        parts.append(f"alpha {config.get('alpha') or config.get('rank', '?'):.3g}")
    if config.get("targets") == "attention":
        parts.append("attention only")
    for name, words in (("dora", "DoRA"), ("rslora", "rank-stabilised"), ("train_text_encoder", "text encoder too")):
        if config.get(name):
            parts.append(words)
    return ", ".join(parts)


def learning_rate(config: Mapping[str, Any]) -> float:
    """Peak learning rate of the denoiser's adapters (without meaning under relative_step)."""
    if config.get("learning_rate") is not None:
        return float(config["learning_rate"])
    usual = OPTIMIZERS[str(config.get("optimizer", "AdamW"))].learning_rate
    return usual * float(config.get("learning_rate_scale") or 1.0)


def _cycles(number: int) -> str:
    return f"{number} cycle" + ("" if number == 1 else "s")

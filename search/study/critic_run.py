"""How a study's critic is trained (`score.critic`): by settings of its own, and by those that all trials share."""

from collections.abc import Collection
from math import ceil

from trainer.config.config import TrainConfig, parse_train_config

_BUCKETS = ("enable_bucket", "bucket_step", "min_bucket_resolution", "max_bucket_resolution")
SHARED = (
    "base", "family", "data", "reg_data", "resolution", "batch_size", "gradient_accumulation_steps", *_BUCKETS,
    "flip", "trigger", "class_word", "clip_skip", "precision", "gradient_checkpointing", "quantize", "seed",
)  # fmt: skip
"""Of the study's own training: what the base, the photos and the device need."""
OWN = {"rank": 8, "alpha": 8, "optimizer": "Prodigy", "lr_scheduler": "cosine"}
"""How it is trained. Prodigy finds its rate on any base."""
PARTS = 4
"""Checkpoints of its training, from which a killed one goes on."""


def critic_config(config: TrainConfig, steps: int, searched: Collection[str] = ()) -> TrainConfig:
    """How the critic of a study is trained, whose trials are trained like `config`.

    Args:
        steps: of the optimizer; rounded up to a whole number of checkpoints.
        searched: fields in which trials differ: they count as their defaults, so that the critic is the same one
            whichever trial is asked, and when a range becomes wider.
    """
    own = {*searched, *_BUCKETS} if not {*_BUCKETS}.isdisjoint(searched) else {*searched}
    shared = {name: getattr(config, name) for name in SHARED if name not in own}
    return parse_train_config(
        {
            **{name: value for name, value in shared.items() if value is not None}, **OWN,
            "epochs": PARTS, "steps_per_epoch": ceil(steps / PARTS), "save_every_n_epochs": 1,
        }
    )  # fmt: skip

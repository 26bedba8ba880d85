"""What the names of columns in other people's tables say: losses, validations, averages, items."""

from __future__ import annotations

import re
from collections.abc import Iterable

from metrics.trajectory.readings import CHANNELS

LOSS_CHANNELS = tuple(name for name in CHANNELS if name.endswith("_loss"))  # the held-out loss first

# Words of names, as `words_of` cuts them; the surest validation and the best average come first.
VALIDATION = ("heldout", "holdout", "held", "val", "valid", "validate", "validation", "eval", "evaluation", "test")
UNSURE = len(VALIDATION)
AVERAGES = ("epoch average", "average", "avg", "mean", "epoch")
TRAINING = re.compile(  # what trainers call the loss that they train on, as `words_of` cuts it
    r"\b(train|training)\b|^(un)?smooth(ed)? loss(?!.*\bval)|^(loss )?av[rg] loss$"
    r"|^loss (current|average|avg|epoch average|epoch|loss|log step|step|ema|running|moving|smooth)$"
    r"|^(current|step|batch|running|moving|ema|micro|log step) loss$|^loss (unet|text encoder|te|transformer|dit)$"
)
BESIDE_TRAINING = re.compile(  # what is logged beside it and beside no validation
    r"\b(lr|learning rate|(grad|gradient) norm|samples per second|steps per second|it s|tokens per second)\b"
)
NO_LOSS = re.compile(  # statistics of a loss, and what else has "loss" in its name
    r"\b(std|stdev|stddev|stderr|sem|err|error|var|variance|min|minimum|max|maximum|best|lowest|acc|accuracy"
    r"|divergence|scale|weight|count|time|runtime|type)\b|\b(low|high|lower|upper)$"
)
IMAGE_FILE = re.compile(r"(?:^|(?<=loss)|(?<=/))(?:(?!loss)[^/])*\.(?:png|jpe?g|webp|bmp|avif)\b")


def listed(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def words_of(name: str) -> str:
    """A name's words in lower case, without wandb's run: cut at signs and spaces, in camelCase and around digits.

    Whole words, because "retrieval" is no "val" and "latest" no "test"; only "loss" is found in "valloss", too.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run_and_metric(name)[1])
    return " ".join(re.findall(r"loss|\d+|(?:(?!loss)[^\W\d_])+", apart.lower()))


def run_and_metric(name: str) -> tuple[str, str]:
    """wandb heads columns "RUN - METRIC"; "" where no run is named. ("Validation - Loss" is a spreadsheet's.)"""
    run, _, metric = name.rpartition(" - ")
    named = "loss" in metric.lower() and run.strip().lower() not in {*VALIDATION, "train", "training"}
    return (run, metric) if named else ("", name)


def is_loss(name: str) -> bool:
    return "loss" in words_of(name) and not NO_LOSS.search(words_of(name))


def is_channel(name: str) -> bool:
    """Whether it names one of our own loss channels."""
    return words_of(name).replace(" ", "_") in LOSS_CHANNELS


def rank_of(name: str) -> int:
    """0 for the surest validation; UNSURE and more where none is named: channels of new contexts come last."""
    words = words_of(name)
    found = [rank for rank, word in enumerate(VALIDATION) if word in words.split() and not TRAINING.search(words)]
    channel = words.replace(" ", "_")
    return found[0] if found else UNSURE + (LOSS_CHANNELS.index(channel) if channel in LOSS_CHANNELS else 0)


def stem_of(name: str) -> str:
    """A name's words with "#" for what tells items of one loss apart: numbers, single letters, files of images."""
    words = words_of(IMAGE_FILE.sub(" 0 ", name.lower()))
    return re.sub(r"\b(\d+|\w)\b( (\d+|\w)\b)*", "#", words)

"""What the names of columns in other people's tables say: losses, validations, averages, items."""

from __future__ import annotations

import re
from collections.abc import Iterable

from metrics.trajectory.readings import CHANNELS

LOSS_CHANNELS = tuple(name for name in CHANNELS if name.endswith("_loss"))  # the held-out loss first

# Words of names, as `words_of` cuts them; the surest validation and the best average come first.
VALIDATION = (
    *("heldout", "holdout", "held", "val", "valid", "validate", "validation", "eval", "evaluation", "unseen", "test"),
)
UNSURE = len(VALIDATION)
AVERAGES = ("epoch average", "average", "avg", "mean", "pooled", "epoch")
_IN_TRAINING = re.compile(r"^(?!.*\bvalidation step\b).*\b(train|training|tr)\b")
"""Says "of the training" beside any other word; OneTrainer's `validation_step/` goes on with a name of the user's."""
_TRAINERS_WORDS = frozenset(  # of which trainers make the names of the loss that they train on
    (
        *("loss", "current", "average", "avg", "avr", "mean", "epoch", "step", "steps", "log", "ema"),
        *("running", "moving", "smooth", "smoothed", "unsmoothed", "batch", "micro", "simple", "total", "raw"),
        *("weighted", "unweighted", "mse", "mae", "l", "huber", "diffusion", "denoising", "reconstruction"),
        *("noise", "prior", "instance", "class", "preservation", "normal", "base", "gen", "rep", "video"),
        *("img", "unet", "text", "encoder", "te", "transformer", "dit"),
    )
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
    """The first four names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    shown = [str(name) for name in names]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def words_of(name: str) -> str:
    """A name's words in lower case, without wandb's run: cut at signs and spaces, in camelCase and around digits.

    Whole words, because "retrieval" is no "val" and "latest" no "test"; only "loss" is found in "valloss", too.

    >>> words_of("myRun - valLoss/epoch_2")
    'val loss epoch 2'
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run_and_metric(name)[1])
    return " ".join(re.findall(r"loss|\d+|(?:(?!loss)[^\W\d_])+", apart.lower()))


def run_and_metric(name: str) -> tuple[str, str]:
    """wandb heads columns "RUN - METRIC"; "" where no run is named. ("Validation - Loss" is a spreadsheet's.)

    >>> run_and_metric("late-snow-7 - val/loss")
    ('late-snow-7', 'val/loss')
    """
    run, _, metric = name.rpartition(" - ")
    named = "loss" in metric.lower() and run.strip().lower() not in {*VALIDATION, "train", "training"}
    return (run, metric) if named else ("", name)


def is_loss(name: str) -> bool:
    """Whether it is a loss, not a statistic or a setting of one.

    >>> is_loss("validation_loss"), is_loss("loss_scale"), is_loss("lr")
    (True, False, False)
    """
    return "loss" in words_of(name) and not NO_LOSS.search(words_of(name))


def losses_among(columns: Iterable[object]) -> list[str]:
    """Those that are losses. What is named as a validation alone is one, too, where no loss says that it is of one.

    >>> losses_among(["step", "test/val", "loss/train"]), losses_among(["val", "val_loss"])
    (['loss/train', 'test/val'], ['val_loss'])
    """
    names = [str(name) for name in columns]
    losses = [name for name in names if is_loss(name)]
    if any(map(is_validation, losses)):
        return losses
    return losses + [name for name in names if (words := words_of(name).split()) and set(words) <= set(VALIDATION)]


def is_training(name: str) -> bool:
    """Whether it is what trainers call the loss that they train on.

    >>> is_training("loss/average"), is_training("loss/validation")
    (True, False)
    """
    words = words_of(name)
    if _IN_TRAINING.search(words):
        return True
    return "loss" in words.split() and set(re.sub(r"\d+", "", words).split()) <= _TRAINERS_WORDS


def is_validation(name: str) -> bool:
    """Whether it says that it is a loss of what is not trained on.

    >>> is_validation("val_loss"), is_validation("train_loss"), is_validation("heldout_loss")
    (True, False, True)
    """
    return rank_of(name) < UNSURE or is_channel(name)


def is_channel(name: str) -> bool:
    """Whether it names one of our own loss channels."""
    return words_of(name).replace(" ", "_") in LOSS_CHANNELS


def rank_of(name: str) -> int:
    """0 for the surest validation; UNSURE and more where none is named: channels of new contexts come last."""
    words = words_of(name)
    found = [rank for rank, word in enumerate(VALIDATION) if word in words.split() and not is_training(name)]
    channel = words.replace(" ", "_")
    return found[0] if found else UNSURE + (LOSS_CHANNELS.index(channel) if channel in LOSS_CHANNELS else 0)


def stem_of(name: str) -> str:
    """A name's words with "#" for what tells items of one loss apart: numbers, single letters, files of images.

    >>> stem_of("val_loss/photo_12.png") == stem_of("val_loss/photo_13.png")
    True
    """
    words = words_of(IMAGE_FILE.sub(" 0 ", name.lower()))
    return re.sub(r"\b(\d+|\w)\b( (\d+|\w)\b)*", "#", words)

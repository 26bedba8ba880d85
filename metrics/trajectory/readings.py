"""The numbers of one checkpoint, each with its spread, and what every channel means."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

WEIGHTED = ("copying", "colour", "composition", "diversity", "consistency")
"""What takes from the score; each can be weighted."""

DIVERSITY_FLOOR = "diversity_floor"
"""Name of the items that hold what `diversity` has to fall below before it counts: a quarter of what photos show."""

OWN_SCORE = "onset_score"
"""Name of the channel that holds the score as we make it, where an objective of somebody's own makes another."""


@dataclass(frozen=True)
class Reading:
    """One number with its 90 % interval, in the channel's own units."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Readings:
    """All readings of one checkpoint. Epoch 0 is the base without LoRA.

    Attributes:
        epoch: epochs trained, 0 for the base.
        effort: effective sum of learning rates over the optimiser steps so far (0 for the base); the x axis on
            which trials of one optimizer are comparable.
        channels: name (a key of `CHANNELS`) to reading; a channel that could not be measured is absent.
        items: name to the per-item numbers behind the reading, `[items, ...]` float64, in the same order at every
            checkpoint, so that every comparison between checkpoints is paired.
        score: quality in [0, 1], or any number that an objective of somebody's own makes of the channels.
    """

    epoch: int
    effort: float
    channels: Mapping[str, Reading]
    items: Mapping[str, np.ndarray] = field(default_factory=dict)
    score: float = float("nan")


@dataclass(frozen=True)
class Channel:
    """What a channel says. `worse` is +1 when larger is worse, -1 when smaller is worse, 0 when neither is.

    `part_of` names the channel that a finer reading explains; parts inform people and the score, they decide no onset.
    """

    label: str
    worse: int
    says: str
    part_of: str | None = None


CHANNELS: dict[str, Channel] = {
    "heldout_loss": Channel("held-out loss, ln ratio to the base", +1, "generalisation inside the set's contexts"),
    "context_loss": Channel("loss in held-out contexts, ln ratio to the base", +1, "photos of contexts not trained on"),
    "shifted_loss": Channel("loss on moved subjects, ln ratio to the base", +1, "the subject anywhere else"),
    "fidelity": Channel("fidelity (0 base, 1 as alike as the photos)", -1, "learned the subject"),
    "prompt": Channel("prompt obedience, change against the base", -1, "still obeys"),
    "copying": Channel("copying (AUC, 0.5 = as near as photos are to each other)", +1, "reproduces the photos"),
    "colour": Channel("colour drift, z against half-splits of the photos", +1, "burnt, drifted or scattered"),
    "composition": Channel("composition drift, z against half-splits of the photos", +1, "framing stiff or copied"),
    "diversity": Channel("diversity over seeds, ratio to the base", -1, "all alike"),
    "own_photo": Channel(
        "nearness to the own photo, ln ratio to the base: trained minus held-out captions",
        +1,
        "training photos come back",
    ),
    OWN_SCORE: Channel("Onset's own score, 0 to 1, where another one counts", -1, "quality, for comparison"),
    "clip_image": Channel("CLIP similarity to the photos", 0, "raw similarity, for comparison"),
    "clip_text": Channel("CLIP similarity to the prompt", 0, "raw similarity, for comparison"),
    "fidelity_novel": Channel("fidelity in new contexts", -1, "the subject anywhere else", "fidelity"),
    "fidelity_weak": Channel("fidelity, weaker half of the images in new contexts", -1, "always there", "fidelity"),
    "recognised": Channel("share of images that show the subject", -1, "the subject is there", "fidelity"),
    "heldout_high": Channel("held-out loss at high noise", +1, "pose and background", "heldout_loss"),
    "heldout_mid": Channel("held-out loss at middle noise", +1, "shapes", "heldout_loss"),
    "heldout_low": Channel("held-out loss at low noise", +1, "texture and detail", "heldout_loss"),
    "context_high": Channel("loss in held-out contexts at high noise", +1, "pose and background", "context_loss"),
    "context_mid": Channel("loss in held-out contexts at middle noise", +1, "shapes", "context_loss"),
    "context_low": Channel("loss in held-out contexts at low noise", +1, "texture and detail", "context_loss"),
    "shifted_high": Channel("loss on moved subjects at high noise", +1, "pose and background", "shifted_loss"),
    "shifted_mid": Channel("loss on moved subjects at middle noise", +1, "shapes", "shifted_loss"),
    "shifted_low": Channel("loss on moved subjects at low noise", +1, "texture and detail", "shifted_loss"),
    "prompt_change": Channel("image-text cosine, change against the base", -1, "still obeys", "prompt"),
    "own_caption": Channel("own photo found: trained minus held-out captions", +1, "memorised photos", "copying"),
    "own_pull": Channel("pull of the own photo: trained minus held-out captions", +1, "memorised photos", "copying"),
    "burn": Channel("burn beyond photos and base, in standard deviations of the photos", +1, "colours burn", "colour"),
    "scatter": Channel("scatter of colour between images, ratio to the photos", +1, "colours scatter", "colour"),
    "framing": Channel("framing drift: place, size, shape; z against half-splits", +1, "framing is off", "composition"),
    "layout_copying": Channel("layout copying (AUC, 0.5 = as near as photos)", +1, "layouts are copied", "composition"),
    "collapse": Channel("spread of layout over seeds, ratio to the base", -1, "framing is stiff", "composition"),
}

"""What other weights of a LoRA's blocks win and cost, on the same prompts and seeds: one number to search by, and
paired differences of two looks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from metrics.channels.bootstrap import reading_of_items
from metrics.channels.similarity import concept_axis, fidelity
from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.encoders import Images
from metrics.checkpoint.recognition import recognised
from metrics.checkpoint.score import excesses
from metrics.trajectory.readings import CHANNELS, Reading, Readings

SUBJECT = "subject"
"""The likeness of the subject alone, in new contexts: see `with_subject`."""
LEAK = "background"
"""How far images of new contexts have gone towards the photos' own background: see `with_subject`."""
LIKENESS = (SUBJECT, "fidelity", "fidelity_novel")
HARMS = (LEAK, "prompt", "copying", "shifted_loss", "context_loss")
"""What decides whether weights are better: leakage and copying. Colour and layout against the photos do not: weights
that take a background away move images away from photos that all have it."""
WORTH_TELLING = {LEAK: 0.03, "prompt": 0.02, "copying": 0.03, "shifted_loss": 0.005, "context_loss": 0.005}
"""Changes that are smaller neither win nor cost anything, however sure they are."""
APART = 0.2
"""How far apart two directions have to be, from 0 (each reads as much of the other's change as of its own) to 1 (each
reads its own alone)."""
FREE, STEEP = 0.02, 0.1
"""Share of the likeness that may be lost at no cost. Each further share of `STEEP` divides the worth by e."""
KEPT = 0.05
"""Share of the likeness that weights which win may seem to lose."""


@dataclass(frozen=True)
class SubjectAxes:
    """Two directions among the features of images, `[D]` each. `fidelity` goes towards the photos, and so towards a
    background that they all have, too: weights that turn that background down would seem to lose the subject.

    Each reads about 1 of its own change and 0 of the other one's, as directions of a dual basis do: else an image that
    shows the photos' background would seem less, or more, alike by that. Where the two can hardly be told apart, each
    is as `concept_axis` gives it.

    Attributes:
        subject: from the base's images of new contexts to the subject before other backgrounds.
        background: from the subject before other backgrounds to the photos.
    """

    subject: np.ndarray
    background: np.ndarray


def subject_axes(calibration: Calibration, moved: Images) -> SubjectAxes | None:
    """Both directions.

    Args:
        moved: subjects that were cut out of the photos and put before other backgrounds.

    Returns:
        None without an encoder, with fewer than three of them or of the photos, or without new contexts.
    """
    encoder = calibration.identity_encoder or calibration.encoder
    new, photos = _new(calibration), calibration.photos.identity[calibration.kept]
    if encoder is None or min(len(moved), len(photos)) < 3 or not new.any():
        return None
    elsewhere, base = encoder.images(moved), calibration.base.identity[new]
    axes = np.stack([concept_axis(elsewhere, base), concept_axis(photos, elsewhere)])
    middle = elsewhere.mean(axis=0, dtype=np.float64)
    changes = np.stack([middle - base.mean(axis=0), photos.mean(axis=0) - middle])
    return SubjectAxes(*_dual(axes, changes))


def _dual(axes: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Directions `[2, D]` like `axes`, of which each reads nothing of the other's change; `axes` themselves where the
    two changes can hardly be told apart by them.

    Args:
        axes, changes: `[2, D]` each.
    """
    read = axes @ changes.T
    own, other = read[0, 0] * read[1, 1], read[0, 1] * read[1, 0]
    if own <= 0 or own - other < APART * own:
        return axes
    # scaled, so that each still reads as much of its own change as before
    return np.diag(np.diag(read)) @ np.linalg.solve(read, axes)


def with_subject(calibration: Calibration, readings: Readings, images: Images, axes: SubjectAxes | None) -> Readings:
    """The readings with two channels of new contexts: `subject` (0 as the base, 1 as alike as the moved subjects and
    recognised) and `background` (0 as the base, 1 as in the photos)."""
    encoder = calibration.identity_encoder or calibration.encoder
    if axes is None or encoder is None:
        return readings
    new = _new(calibration)
    prompts = calibration.labels.prompt_numbers[new]
    seen = encoder.images([image for image, there in zip(images, new, strict=True) if there])
    channels, items = dict(readings.channels), dict(readings.items)
    base = calibration.base.identity[new]
    items |= {SUBJECT: fidelity(seen, base, axes.subject), LEAK: fidelity(seen, base, axes.background)}
    if len(calibration.subject):  # else spoiled subjects would count as well, and some for more than the photos' own
        items[SUBJECT] = np.minimum(items[SUBJECT], 1) * recognised(calibration.subject, seen)
    channels |= {name: reading_of_items(items[name], groups=prompts) for name in (SUBJECT, LEAK)}
    return replace(readings, channels=channels, items=items)


def _new(calibration: Calibration) -> np.ndarray:
    return np.array(calibration.labels.sets) == "C"


def likeness(channels: Mapping[str, Reading]) -> float | None:
    """How alike the images are to the subject: `subject` where it was read, else the mean of `fidelity` in the set's
    own and in new contexts; None where no encoder says."""
    values = [channels[name].value for name in _told(channels)]
    return float(np.mean(values)) if values else None


def _told(channels: Mapping[str, object]) -> tuple[str, ...]:
    return (SUBJECT,) if SUBJECT in channels else tuple(name for name in LIKENESS if name in channels)


def worth(calibration: Calibration, readings: Readings, before: float | None) -> float:
    """What weights are searched by, 0 to 1: exp(-harm) as far as the likeness stays. The harm is what is lost of the
    base's obedience, the background that shows, what is copied, and by how much losses lie above the base's. It has no
    end, so that a search sees which of two bad sets is the better one.

    Args:
        before: `likeness` of the LoRA as it is.
    """
    channels = readings.channels
    harms = [-better(name, channels[name]).value for name in HARMS if name in channels and name != "copying"]
    copied = excesses(calibration, channels).get("copying", 0.0)
    return exp(-sum(max(0.0, harm) for harm in harms) - copied) * _as_alike(likeness(channels), before)


def lost(now: float | None, before: float | None) -> float:
    """Share of the likeness `before` that is lost, below 0 where there is more. More than 1, as alike as the subject
    itself, is nothing to lose. 0 where nothing is known."""
    return 0.0 if now is None or before is None or before <= 0 else 1 - now / min(before, 1.0)


def _as_alike(now: float | None, before: float | None) -> float:
    return exp(-max(0.0, lost(now, before) - FREE) / STEEP)


def better(name: str, difference: Reading) -> Reading:
    """A channel's difference turned so that more is better."""
    if name != LEAK and CHANNELS[name].worse <= 0:
        return difference
    return Reading(-difference.value, -difference.high, -difference.low)


def difference(calibration: Calibration, name: str, before: Readings, after: Readings, level: float) -> Reading | None:
    """after - before of one channel, paired: Student's interval of the mean over prompts (losses: over photos).

    Args:
        level: probability inside the interval.

    Returns:
        None where the channel was not measured, not alike in both, or on a single prompt.
    """
    first, second = before.items.get(name), after.items.get(name)
    if first is None or second is None or first.shape != second.shape:
        return None
    items = (second - first).reshape(len(first), -1).mean(axis=1)
    _, groups = np.unique(_groups(calibration, name, before, len(items)), return_inverse=True)
    return _interval(np.bincount(groups, items) / np.bincount(groups), level)


def likeness_difference(calibration: Calibration, before: Readings, after: Readings, level: float) -> Reading | None:
    """The same for `likeness`."""
    labels = calibration.labels
    there = _told({name: None for name in LIKENESS if name in before.items and name in after.items})
    changes: dict[int, list[float]] = {}
    for name in there:
        rows = labels.from_set if name == "fidelity" else _new(calibration)
        for prompt, change in zip(labels.prompt_numbers[rows], after.items[name] - before.items[name], strict=True):
            changes.setdefault(int(prompt), []).append(float(change))
    return _interval(np.array([np.mean(each) for each in changes.values()]), level) if changes else None


def _groups(calibration: Calibration, name: str, readings: Readings, count: int) -> np.ndarray:
    labels, prompts = calibration.labels, calibration.labels.prompt_numbers
    if f"{name}_photo" in readings.items:
        return readings.items[f"{name}_photo"]
    for rows in (labels.contexts if name == "prompt" else labels.from_set, _new(calibration)):
        if not name.endswith("_loss") and int(rows.sum()) == count:
            return prompts[rows]
    return np.arange(count)


def _interval(means: np.ndarray, level: float) -> Reading | None:
    """The mean of groups' means with Student's interval: a bootstrap of so few prompts would be far too sure."""
    from scipy.stats import t

    if len(means) < 2:
        return None
    half = float(t.ppf((1 + level) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return Reading(float(means.mean()), float(means.mean()) - half, float(means.mean()) + half)

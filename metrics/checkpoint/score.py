"""A checkpoint's images and losses against a calibration: all channels with their items, and the score."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from metrics.channels.bootstrap import reading_of_items, resampling_weights
from metrics.channels.colour import burn, drift, scatter
from metrics.channels.composition import collapse, framing_drift, layout_drift
from metrics.channels.copying import copying, copying_null, own_caption_gap, own_photo_pull
from metrics.channels.diversity import diversity, photo_vendi_excess, vendi_by_prompt
from metrics.channels.losses import log_ratios, noise_bands
from metrics.channels.obedience import obedience, prompt_changes
from metrics.channels.own_photo import LEAST_CAPTIONS, nearness_gained
from metrics.channels.similarity import fidelity, mean_cosines
from metrics.checkpoint.calibration import Calibration, ProbeLabels, calibrate
from metrics.checkpoint.encoders import Images
from metrics.checkpoint.image_descriptors import Traits, measure
from metrics.checkpoint.recognition import CRITIC_WIDTH, recognised, share_of
from metrics.errors import MetricsError
from metrics.trajectory.readings import DIVERSITY_FLOOR, Reading, Readings

__all__ = ["Calibration", "ProbeLabels", "calibrate", "read_checkpoint", "score_of"]

# One subject varies less than its class: images of one prompt that vary as much as these shares of the base's count
# half for settled, and rise fast below. All constants of the score were chosen on CHOOSING concepts (docs/log.md).
SETTLED, SETTLED_WIDTH, SETTLED_POWER = 0.8, 0.2, 0.35
OBEYED, OBEYED_WIDTH = -0.2, 0.3  # `prompt` that counts half, and how fast it rises
CRITIC_OBEYED, CRITIC_OBEYED_WIDTH = 0.0, 0.2  # the same where a critic sees the subject
BURNT_POWER = 0.3
TAKEN = 0.95  # of the score by the worst excess, so that a better image is a better score always
LOSSES = {"heldout": "heldout_loss", "context": "context_loss", "shifted": "shifted_loss"}


def read_checkpoint(
    calibration: Calibration,
    *,
    epoch: int,
    effort: float,
    images: Images,
    losses: Mapping[str, np.ndarray] | None = None,
    gains: np.ndarray | None = None,
    unseen: bool = True,
) -> Readings:
    """Readings of one checkpoint; a channel that cannot be measured is absent.

    Items: losses `[N, levels, draws]` (and `shifted_loss_photo [M]`, whose composites they are); per-image channels
    `[n']` over the images they are judged on (`burn` of the feature that is farthest off at this checkpoint);
    `diversity` and `collapse` one per prompt (`DIVERSITY_FLOOR`: below it diversity counts); `own_photo` one per
    trained photo and `own_photo_held_out` one per held-out one, of those whose captions are drawn. The mean of the
    items is the value, save for `own_caption`, whose items are hits and whose value is a difference of their means, and
    `own_photo`, whose value is the mean of trained photos minus that of held-out ones.

    Args:
        images: the probe drawn by this checkpoint, uint8 `[n, H, W, 3]` or a list, one per label.
        losses: as `base_losses` of `calibrate`.
        gains: `[n]`, by how much a critic's denoising loss of each image lies below the base's. An image shows the
            subject (`recognised`) as far as both encoder and critic see it there.
        unseen: whether what drew the images has not seen the held-out photos; if it has, nothing compares captions of
            the two kinds.

    Raises:
        MetricsError: another number of images or shape of losses than in the calibration.
    """
    if len(images) != len(calibration.labels):
        raise MetricsError(
            f"checkpoint of epoch {epoch}: {len(images)} images, the probe has {len(calibration.labels)}"
        )
    channels: dict[str, Reading] = {}
    items: dict[str, np.ndarray] = {}
    _read_losses(calibration, losses or {}, channels, items)
    traits = measure(images, calibration.encoder, calibration.identity_encoder)
    _read_similarity(calibration, traits, channels, items)
    _read_recognised(calibration, traits, gains, channels, items)
    if unseen:
        _read_own_photos(calibration, traits, channels, items)
    _read_prompts(calibration, traits, channels, items)
    _read_colour(calibration, traits, channels, items)
    _read_composition(calibration, traits, channels, items)
    return Readings(epoch, effort, channels, items, score_of(calibration, channels))


def _read_losses(
    calibration: Calibration,
    losses: Mapping[str, np.ndarray],
    channels: dict[str, Reading],
    items: dict[str, np.ndarray],
) -> None:
    for name, channel in LOSSES.items():
        if name not in losses:
            continue
        if name not in calibration.base_losses:
            raise MetricsError(f"losses: {name!r} were not measured on the base")
        ratios = log_ratios(losses[name], calibration.base_losses[name])
        if not np.isfinite(ratios).all():
            continue  # a LoRA that has blown up; its images say so
        owners = calibration.shifted_photo if name == "shifted" and len(calibration.shifted_photo) else None
        items[channel] = ratios
        channels[channel] = reading_of_items(ratios, groups=owners)
        if owners is not None:
            items[f"{channel}_photo"] = owners
        for band, values in noise_bands(ratios).items():
            channels[f"{name}_{band}"] = reading_of_items(values, groups=owners)


def _read_similarity(
    calibration: Calibration, traits: Traits, channels: dict[str, Reading], items: dict[str, np.ndarray]
) -> None:
    labels, prompts = calibration.labels, calibration.labels.prompt_numbers
    own = labels.from_set
    photos = calibration.photos.rows(calibration.kept)
    if traits.features.shape[1]:
        items["clip_image"] = mean_cosines(traits.features[own], photos.features)
        channels["clip_image"] = reading_of_items(items["clip_image"], groups=prompts[own])
        items["diversity"] = diversity(traits.features, calibration.base.features, prompts)
        if len(items["diversity"]):
            channels["diversity"] = reading_of_items(items["diversity"])
            items[DIVERSITY_FLOOR] = np.array([_diversity_floor(calibration)])
        else:
            del items["diversity"]
    identity = bool(traits.identity.shape[1])
    if identity:
        items["fidelity"] = fidelity(traits.identity[own], calibration.base.identity[own], calibration.axis)
        channels["fidelity"] = reading_of_items(items["fidelity"], groups=prompts[own])
        novel = np.array(labels.sets) == "C"
        if novel.any():
            items["fidelity_novel"] = fidelity(
                traits.identity[novel], calibration.base.identity[novel], calibration.axis
            )
            channels["fidelity_novel"] = reading_of_items(items["fidelity_novel"], groups=prompts[novel])
            channels["fidelity_weak"] = _weaker_half(items["fidelity_novel"], prompts[novel])
    if len(photos) >= 3:
        seen, known = (traits.identity, photos.identity) if identity else (traits.layouts, photos.layouts)
        items["copying"] = copying(seen[own], known, remove_duplicates=False)
        channels["copying"] = reading_of_items(items["copying"], groups=prompts[own])


def _read_recognised(
    calibration: Calibration,
    traits: Traits,
    gains: np.ndarray | None,
    channels: dict[str, Reading],
    items: dict[str, np.ndarray],
) -> None:
    """The share of images that show the subject: in which each judge that there is sees it, encoder and critic."""
    seen = []
    if traits.identity.shape[1] and len(calibration.subject):
        seen.append(recognised(calibration.subject, traits.identity))
    if gains is not None and calibration.critic > 0:
        seen.append(share_of(gains / calibration.critic, CRITIC_WIDTH))
    if not seen:
        return
    items["recognised"] = np.prod(seen, axis=0)
    channels["recognised"] = reading_of_items(items["recognised"], groups=calibration.labels.prompt_numbers)


def _read_own_photos(
    calibration: Calibration, traits: Traits, channels: dict[str, Reading], items: dict[str, np.ndarray]
) -> None:
    """What sets captions of trained photos apart from captions of held-out ones."""
    labels, prompts = calibration.labels, calibration.labels.prompt_numbers
    photo = np.array(labels.photo)
    drawn = np.unique(photo[photo >= 0])
    if calibration.photos.pixels.shape[1]:
        pixels, trained = calibration.photos.pixels, calibration.trained
        both = nearness_gained(traits.pixels, calibration.base.pixels, pixels, photo, trained)
        if min(map(len, both)) >= LEAST_CAPTIONS:
            items["own_photo"], items["own_photo_held_out"] = both
            channels["own_photo"] = _difference(*map(reading_of_items, both))
    if traits.identity.shape[1] and min(calibration.trained[drawn].sum(), (~calibration.trained[drawn]).sum()) >= 2:
        known = calibration.photos.identity
        gap, hits = own_caption_gap(traits.identity, known, photo, calibration.trained)
        channels["own_caption"] = Reading(gap, *_gap_interval(hits, photo, calibration.trained))
        items["own_caption"] = hits[photo >= 0]
        items["own_pull"] = own_photo_pull(
            traits.identity, calibration.base.identity, known, photo, calibration.trained
        )
        channels["own_pull"] = reading_of_items(items["own_pull"], groups=prompts)


def _weaker_half(items: np.ndarray, prompts: np.ndarray) -> Reading:
    """The mean of the lower half of the items (the middle one counts); whole prompts are resampled for its spread."""

    def mean_below(values: np.ndarray) -> float:
        return float(np.sort(values)[: (len(values) + 1) // 2].mean())

    groups = [items[prompts == prompt] for prompt in np.unique(prompts)]
    draws = resampling_weights(len(groups), 200).astype(int)
    means = [
        mean_below(np.concatenate([groups[row] for row in np.repeat(np.arange(len(groups)), draw)])) for draw in draws
    ]
    low, high = np.quantile(means, [0.05, 0.95])
    return Reading(mean_below(items), float(low), float(high))


def _gap_interval(hits: np.ndarray, photo: np.ndarray, trained: np.ndarray) -> tuple[float, float]:
    """90 % interval of the own-caption gap: photos are resampled within each kind."""
    parts = []
    for kind in (True, False):
        rows = (photo >= 0) & (trained[np.maximum(photo, 0)] == kind)
        parts.append(reading_of_items(hits[rows], groups=photo[rows]))
    found = _difference(*parts)
    return found.low, found.high


def _difference(first: Reading, second: Reading) -> Reading:
    """Of two readings that are independent of each other."""
    value = first.value - second.value
    down = np.hypot(first.value - first.low, second.high - second.value)
    up = np.hypot(first.high - first.value, second.value - second.low)
    return Reading(value, float(value - down), float(value + up))


def _read_prompts(
    calibration: Calibration, traits: Traits, channels: dict[str, Reading], items: dict[str, np.ndarray]
) -> None:
    if not calibration.texts.shape[1]:
        return
    labels, texts = calibration.labels, calibration.texts
    items["clip_text"] = (traits.features.astype(np.float64) * texts).sum(axis=1)
    channels["clip_text"] = reading_of_items(items["clip_text"], groups=labels.prompt_numbers)
    rows = labels.contexts
    features, base = traits.features[rows], calibration.base.features[rows]
    prompts = labels.prompt_numbers[rows]
    items["prompt_change"] = prompt_changes(features, base, texts[rows])
    channels["prompt_change"] = reading_of_items(items["prompt_change"], groups=prompts)
    contexts = [text for text, used in zip(labels.neutral, rows, strict=True) if used]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(contexts))}
    if len(numbers) < 2:
        return
    context = np.array([numbers[text] for text in contexts])
    distinct = texts[rows][[contexts.index(text) for text in numbers]]
    items["prompt"] = obedience(features, base, distinct, context)
    channels["prompt"] = reading_of_items(items["prompt"], groups=prompts)


def _read_colour(
    calibration: Calibration, traits: Traits, channels: dict[str, Reading], items: dict[str, np.ndarray]
) -> None:
    own, prompts = calibration.labels.from_set, calibration.labels.prompt_numbers
    photos = calibration.photos.rows(calibration.kept)
    outside = burn(traits.burn, calibration.base.burn, photos.burn)
    worst = int(outside.mean(axis=0).argmax())
    items["burn"] = outside[:, worst]
    channels["burn"] = reading_of_items(items["burn"], groups=prompts)
    if np.isfinite(calibration.colour_null[0]):
        _, items["colour"] = drift(traits.colour_cdfs[own], photos.colour_cdfs, calibration.colour_null)
        channels["colour"] = reading_of_items(items["colour"], groups=prompts[own])
    if len(photos) >= 2 and own.sum() >= 2:
        items["scatter"] = scatter(traits.colour_means[own], photos.colour_means)
        channels["scatter"] = reading_of_items(items["scatter"], groups=prompts[own])


def _read_composition(
    calibration: Calibration, traits: Traits, channels: dict[str, Reading], items: dict[str, np.ndarray]
) -> None:
    own, prompts = calibration.labels.from_set, calibration.labels.prompt_numbers
    photos = calibration.photos.rows(calibration.kept)
    if np.isfinite(calibration.layout_null) and own.sum() >= 3:
        _, items["composition"] = layout_drift(traits.layouts[own], photos.layouts, calibration.layout_null)
        channels["composition"] = reading_of_items(items["composition"], groups=prompts[own])
        _, items["framing"] = framing_drift(traits.framings[own], photos.framings, calibration.framing_null)
        channels["framing"] = reading_of_items(items["framing"], groups=prompts[own])
    if len(photos) >= 3:
        items["layout_copying"] = copying(traits.layouts[own], photos.layouts, remove_duplicates=False)
        channels["layout_copying"] = reading_of_items(items["layout_copying"], groups=prompts[own])
    ratios = collapse(traits.layouts, calibration.base.layouts, prompts)
    if len(ratios):
        items["collapse"] = ratios
        channels["collapse"] = reading_of_items(ratios)


def score_of(calibration: Calibration, channels: Mapping[str, Reading]) -> float:
    """Quality in [0, 1]: a product of what makes an image right, continuous everywhere.

    - the share of images that show the subject: `recognised`, or without moved subjects the mean of `fidelity` and
      `fidelity_weak`, as far as the probe has them, as such a share;
    - settled: 1 / (1 + exp((`diversity` - SETTLED) / SETTLED_WIDTH)), to the power of SETTLED_POWER times the weight of
      `consistency`; 1 where a critic sees the subject, which this stands in for, unless that weight is given;
    - obeyed: 1 / (1 + exp((OBEYED - `prompt`) / OBEYED_WIDTH)), beyond the base, too; with a critic CRITIC_OBEYED and
      CRITIC_OBEYED_WIDTH;
    - `burn` beyond 1, to the power of -BURNT_POWER times the weight of `colour`;
    - 1 - TAKEN times the worst of `excesses`.

    Without a text encoder nothing is said of prompts, without any encoder there is no score (NaN).
    """
    return score_within(limits_of(calibration, channels), {name: found.value for name, found in channels.items()})


@dataclass(frozen=True)
class Limits:
    """What a score holds channels against, the same at every checkpoint of a study.

    Attributes:
        copying: an AUC up to which copying is chance. colour: a z up to which colours drift as the base's do.
        diversity: the ratio to the base below which images are all alike.
        weights: channel to its weight, 1 where absent.
        critic: whether a critic says which images show the subject.
    """

    copying: float
    colour: float
    diversity: float
    weights: Mapping[str, float]
    critic: bool = False


def limits_of(calibration: Calibration, channels: Collection[str]) -> Limits:
    """The limits that these channels need; the others are NaN."""
    num_photos, num_own = int(calibration.kept.sum()), int(calibration.labels.from_set.sum())
    return Limits(
        copying=min(0.5 + 1.645 * copying_null(num_own, num_photos), 0.95),
        colour=max(3.0, _base_drift(calibration)) if "colour" in channels else float("nan"),
        diversity=_diversity_floor(calibration) if "diversity" in channels else float("nan"),
        weights=calibration.weights,
        critic=calibration.critic > 0,
    )


def score_within(limits: Limits, values: Mapping[str, float]) -> float:
    """`score_of` of channels' values."""
    from scipy.special import expit

    alike = [values[name] for name in ("fidelity", "fidelity_weak") if name in values]
    if "recognised" in values:
        score = values["recognised"]
    elif alike:
        score = float(share_of(float(np.mean(alike))))
    else:
        return float("nan")
    if "diversity" in values:
        settled = float(expit((SETTLED - values["diversity"]) / SETTLED_WIDTH))
        score *= settled ** (SETTLED_POWER * limits.weights.get("consistency", 0.0 if limits.critic else 1.0))
    if "prompt" in values:
        half, width = (CRITIC_OBEYED, CRITIC_OBEYED_WIDTH) if limits.critic else (OBEYED, OBEYED_WIDTH)
        score *= float(expit((values["prompt"] - half) / width))
    if "burn" in values:
        score *= max(1.0, values["burn"]) ** (-BURNT_POWER * limits.weights.get("colour", 1.0))
    return float(score) * (1 - TAKEN * max(_excesses(limits, values).values(), default=0.0))


def excesses(calibration: Calibration, channels: Mapping[str, Reading]) -> dict[str, float]:
    """How far copying, colour, composition and diversity lie beyond their nulls: each in [0, 1], 0 within.

    An AUC counts from the upper 95 % of its null to 1; a colour z beyond 3, or beyond the base's own drift where that
    is larger, by the share it exceeds it; a ratio below its floor by the share that is missing. Each is multiplied by
    its weight.
    """
    return _excesses(limits_of(calibration, channels), {name: found.value for name, found in channels.items()})


def _excesses(limits: Limits, values: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    if "copying" in values:
        found["copying"] = _share_above(values["copying"], limits.copying)
    colour = []
    if "colour" in values:
        colour.append(_beyond(values["colour"], limits.colour))
    if "scatter" in values:
        colour.append(_beyond(values["scatter"], 2.0))
    found["colour"] = max(colour, default=0.0)
    layout = []
    if "layout_copying" in values:
        layout.append(_share_above(values["layout_copying"], limits.copying))
    if "collapse" in values:
        layout.append(_missing(values["collapse"], 0.25))
    found["composition"] = max(layout, default=0.0)
    if "diversity" in values:
        found["diversity"] = _missing(values["diversity"], limits.diversity)
    return {name: float(np.clip(value * limits.weights.get(name, 1.0), 0, 1)) for name, value in found.items()}


def _base_drift(calibration: Calibration) -> float:
    own = calibration.labels.from_set
    photos = calibration.photos.rows(calibration.kept)
    return drift(calibration.base.colour_cdfs[own], photos.colour_cdfs, calibration.colour_null)[0]


def _diversity_floor(calibration: Calibration) -> float:
    """A quarter of what the photos would read, at most of the base's: one subject is less diverse than its class."""
    prompts = calibration.labels.prompt_numbers
    base = float((vendi_by_prompt(calibration.base.features, prompts) - 1).mean())
    size = int(np.bincount(prompts).max())
    return 0.25 * min(1.0, photo_vendi_excess(calibration.photos.features[calibration.kept], size) / max(base, 1e-6))


def _share_above(value: float, ceiling: float) -> float:
    return max(0.0, (value - ceiling) / (1 - ceiling))


def _beyond(value: float, limit: float) -> float:
    return 1 - limit / value if value > limit else 0.0


def _missing(value: float, floor: float) -> float:
    return max(0.0, 1 - value / floor) if floor > 0 else 0.0

"""Subject masks for cutting photos out: the user's own, a segmentation model by name, attention maps, or saliency."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics.errors import MetricsError, mistake, nearest
from metrics.subjects.background_removers import PREFIX, remover_masks
from metrics.subjects.saliency import CommonSaliency, common_saliency

SMALLEST, LARGEST = 0.01, 0.75
"""Shares of a photo outside of which a mask is no subject that could be moved."""
EVERYTHING = 0.98
"""Share of a photo from which on a given mask says nothing (an opaque alpha channel, rounded corners)."""
SPECK = 0.01
"""Pieces of given masks below this share of the largest are no part of the subject."""
AGREE = 0.5
"""Overlap (intersection over union) of two masks of a photo from which on they show the same subject."""
SHARED, FEWEST = 0.03, 6
"""Below so much in common, in at least so many photos, salient subjects are not one subject (docs/log.md)."""
ALIKE = 0.3
"""As a whole, on a scale from unrelated pictures (0) to the same (1): from here on photos show one subject, whatever
its colours. Real subjects lie at 0.41 and more, sets of unlike photos below 0.17 (docs/log.md)."""
_TOO_SMALL_OR_LARGE = f"less than {100 * SMALLEST:.0f} % or more than {100 * LARGEST:.0f} % of the picture"


@dataclass(frozen=True)
class SubjectMasks:
    """One soft mask per photo.

    Attributes:
        masks: float32 `[H, W]` in [0, 1], of the photo's size.
        sources: for each photo `given`, `segmentation`, `attention` or `saliency`.
        usable: for each photo, whether there is a subject to cut out.
        notes: what a person should be told, one sentence each.
        style: whether nothing is cut out because the photos teach a style: it was said, or they share no subject.
    """

    masks: tuple[np.ndarray, ...]
    sources: tuple[str, ...]
    usable: tuple[bool, ...]
    notes: tuple[str, ...] = ()
    style: bool = False

    @property
    def reason(self) -> str | None:
        """Why nothing can be cut out at all (a style, for example), or None."""
        if self.style and "none" in self.sources:
            return "a style, as masks: none says: the loss of moved subjects is not measured"
        if self.style:
            return (
                "what stands out in one photo is not what stands out in the others, as in a set that teaches a style: "
                "the loss of moved subjects is not measured; if there is a subject, give masks (alpha channel or a "
                "mask folder) or say masks: saliency or masks: attention"
            )
        if sum(self.usable) * 2 >= len(self.usable) and any(self.usable):
            return None
        unusable = [source for source, usable in zip(self.sources, self.usable, strict=True) if not usable]
        many = f"{len(unusable)} of {len(self.usable)} photos"
        if unusable.count("given") * 2 > len(unusable):
            return (
                f"the masks of {many} cover {_TOO_SMALL_OR_LARGE}, so there is nothing to move: the loss of moved "
                "subjects is not measured"
            )
        return (
            f"no subject stands out in {many}, as in a set that teaches a style: the loss of moved subjects is not "
            "measured; give masks (alpha channel or a mask folder) if there is a subject"
        )


def subject_masks(
    photos: Sequence[np.ndarray],
    *,
    source: str = "auto",
    given: Sequence[np.ndarray | None] | None = None,
    attention: Sequence[np.ndarray] | None = None,
    segmenter: str | None = None,
    class_word: str | None = None,
    device: str = "cpu",
    in_common: Callable[[], float] | None = None,
    hints: Sequence[np.ndarray] | None = None,
) -> SubjectMasks:
    """Masks for all photos, each from the best source there is.

    Args:
        photos: uint8 `[H, W, 3]`, sizes may differ.
        source: `auto` (given, then segmentation if a model is named, attention, saliency; where only the last two are
            left and the photos share no subject, it is a style and not cut out), or one of `given` (`alpha` is the
            same), `segmentation`, `attention`, `saliency`, `none` (a style: nothing is cut out).
        given: the user's mask per photo (alpha channel or mask folder), `[H, W]` in [0, 1] or 0…255; None where there
            is none.
        attention: maps of the class word, `[h, w]` of any size, from the base's cross-attention: they say what the
            subject is, the photos' colours where it ends.
        segmenter: a transformers model name or folder, of which CLIPSeg-like ones are asked for `class_word`; or a
            background remover, `rembg:isnet-general-use`.
        in_common: says how alike the photos are as a whole (`metrics.checkpoint.unrelated.in_common`); asked where
            colours show no common subject, since a style is neither.
        hints: maps of where photos show the same (`metrics.subjects.common_places`), which saliency starts from.

    Raises:
        MetricsError: unknown source, the asked source is not there, or a mask's size fits no photo.
    """
    source = _asked(source, segmenter=segmenter, attention=attention)
    if source == "none":
        empty = tuple(np.zeros(photo.shape[:2], np.float32) for photo in photos)
        return SubjectMasks(empty, ("none",) * len(photos), (False,) * len(photos), style=True)
    segmented: Sequence[np.ndarray | None] = [None] * len(photos)
    named: Sequence[bool] = [True] * len(photos)
    if segmenter is not None and source in ("auto", "segmentation"):
        segmented, named = segmentation_masks(photos, segmenter, class_word=class_word, device=device)
    salient = common_saliency(photos, hints=hints) if source in ("auto", "saliency") else None
    attended = common_saliency(photos, attention) if source in ("auto", "attention") and attention is not None else None

    masks, sources = [], []
    for index, photo in enumerate(photos):
        size, segment = photo.shape[:2], segmented[index]
        own = None if given is None else _given(given[index], photo, index)
        if own is not None and source in ("auto", "given"):
            mask, kind = _without_specks(own), "given"
        elif segment is not None:
            mask, kind = _without_specks(segment), "segmentation"
        elif attended is not None:
            mask, kind = _drawn(attended.maps[index], size), "attention"
        elif salient is not None:
            mask, kind = _drawn(salient.maps[index], size), "saliency"
        else:
            mask, kind = np.zeros(size, np.float32), "none"
        masks.append(mask)
        sources.append(kind)
    shared = [each.shared for each in (salient, attended) if each is not None]
    unlike = bool(shared) and max(shared) < SHARED and len(photos) >= FEWEST
    unlike = unlike and source == "auto" and set(sources) <= {"saliency", "attention"}
    if unlike and (in_common is None or in_common() < ALIKE):
        return SubjectMasks(tuple(masks), tuple(sources), (False,) * len(photos), style=True)
    usable = tuple(SMALLEST <= float((mask > 0.5).mean()) <= LARGEST for mask in masks)
    unnamed = sum(kind == "segmentation" and not known for kind, known in zip(sources, named, strict=True))
    elsewhere = 0 if salient is None else _elsewhere(masks, sources, salient)
    notes = _notes(source, sources, usable, unnamed, elsewhere, segmenter, class_word, hints is not None)
    return SubjectMasks(tuple(masks), tuple(sources), usable, tuple(notes))


def _asked(source: str, *, segmenter: str | None, attention: Sequence[np.ndarray] | None) -> str:
    """The source that is meant, where it is known and there."""
    kinds = ("auto", "alpha", "segmentation", "attention", "saliency", "none")
    if source not in (*kinds, "given"):
        raise mistake("masks", source, f"one of {', '.join(kinds)}{nearest(source, kinds)}")
    if source == "segmentation" and segmenter is None:
        raise mistake("segmenter", None, "a model's name under masks: segmentation")
    if source == "attention" and attention is None:
        raise mistake("attention", None, "attention maps under masks: attention")
    return "given" if source == "alpha" else source


def _given(mask: np.ndarray | None, photo: np.ndarray, index: int) -> np.ndarray | None:
    """The user's mask. An alpha channel that is opaque everywhere is none; one that is black says: no subject here."""
    if mask is None:
        return None
    array = np.asarray(mask, np.float32)
    if array.shape != photo.shape[:2]:
        raise MetricsError(f"masks: mask {index} is {array.shape}, its photo {photo.shape[:2]}")
    shares = array / np.float32(255) if array.max() > 1 else array
    return None if (shares > 0.5).mean() > EVERYTHING else shares


def _elsewhere(masks: Sequence[np.ndarray], sources: Sequence[str], salient: CommonSaliency) -> int:
    """In how many photos attention shows another subject than saliency: 0 unless in most of those it was asked for."""
    at = [row for row, kind in enumerate(sources) if kind == "attention"]
    apart = sum(_overlap(masks[row], _drawn(salient.maps[row], masks[row].shape)) < AGREE for row in at)
    return apart if 2 * apart > len(at) else 0


def _notes(
    source: str,
    sources: Sequence[str],
    usable: Sequence[bool],
    unnamed: int,
    elsewhere: int,
    segmenter: str | None,
    class_word: str | None,
    hinted: bool,
) -> list[str]:
    """What a person should be told."""
    count, missing, any_usable, notes = len(sources), sources.count("none"), any(usable), []
    if missing:
        notes.append(f"{missing} of {count} photos have no {source} mask and are not moved")
    unfit = usable.count(False) - missing
    if unfit and any_usable:
        notes.append(f"{unfit} of {count} photos are not moved: their masks cover {_TOO_SMALL_OR_LARGE}")
    if unnamed and class_word:
        notes.append(
            f"{unnamed} of {count} photos have no segment that {segmenter} calls {class_word!r}: what touches "
            "the border least is moved; look at the sheet of composites"
        )
    if (by := sources.count("segmentation")) and any_usable:
        notes.append(f"subjects of {by} of {count} photos were cut out by {segmenter}")
    if elsewhere and any_usable:
        notes.append(
            f"where the base looks for {class_word!r} is not what stands out in {elsewhere} of {count} photos: "
            "look at the sheet of composites, and give masks (alpha channel or a mask folder) if subjects are cut "
            "wrongly"
        )
    if "saliency" in sources and any_usable:
        by_what = "saliency and what the encoder sees in all photos" if hinted else "saliency"
        notes.append(
            f"subjects were found by {by_what}, which is crude: look at the sheet of composites, "
            "and give masks (alpha channel or a mask folder) if it errs"
        )
    return notes


def segmentation_masks(
    photos: Sequence[np.ndarray], model: str, *, class_word: str | None = None, device: str = "cpu"
) -> tuple[list[np.ndarray], list[bool]]:
    """Masks from a segmentation model of transformers or rembg: float32 `[H, W]` in [0, 1] for each photo.

    rembg's models (`rembg:isnet-general-use`) take what stands in front, whatever it is. Models that take a text
    (CLIPSeg) are asked for `class_word`; of the others (semantic, instance, panoptic) the segments whose label shares a
    word with it are kept, and without such a segment the one that touches the border least.

    Args:
        model: hub name or folder, or `rembg:` and the name of a model of rembg.

    Returns:
        The masks, and for each photo whether a segment has such a label.

    Raises:
        MetricsError: the model cannot be loaded or is no segmentation model.
    """
    if model.startswith(PREFIX):
        return remover_masks(photos, model), [True] * len(photos)
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(model)
        if config.model_type == "clipseg":
            return _clipseg_masks(photos, model, class_word or "the main subject", device), [True] * len(photos)
        return _labelled_masks(photos, model, class_word, device)
    except Exception as error:  # the hub, the config parser and the pipeline each raise their own
        reason = " ".join(str(error).split())[:200]
        raise mistake("segmenter", model, "a segmentation model that can be used", reason) from error


def _drawn(belief: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The main pieces of a map that is above 0.5 on the subject, of the photo's size."""
    return _cleaned(belief > 0.5, belief, size)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    one, other = first > 0.5, second > 0.5
    return float((one & other).sum() / max((one | other).sum(), 1))


def _split(score: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Score map `[h, w]` in [0, 1] to the mask of its main pieces, soft at the edge, of the photo's size."""
    from skimage.filters import threshold_otsu

    if score.max() - score.min() < 1e-3:
        return np.zeros(size, np.float32)
    return _cleaned(score > threshold_otsu(score), score, size)


def _cleaned(inside: np.ndarray, score: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The main piece of `inside [h, w]` and large ones near it, without holes and hairs, of the photo's size."""
    from scipy import ndimage

    inside = ndimage.binary_fill_holes(ndimage.binary_opening(inside, iterations=1))
    pieces, count = ndimage.label(inside)
    if not count:
        return np.zeros(size, np.float32)
    numbers = np.arange(1, count + 1)
    border = np.bincount(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]), minlength=count + 1)[1:]
    # a strip of sky lies along the border, a subject that is cut off has most of its outline inside
    weight = ndimage.sum_labels(score, pieces, numbers) * np.exp(-border / np.sqrt(np.bincount(pieces.ravel())[1:]))
    away = ndimage.minimum(ndimage.distance_transform_edt(pieces != numbers[weight.argmax()]), pieces, numbers)
    kept = np.isin(pieces, numbers[(weight >= 0.2 * weight.max()) & (away <= 0.1 * max(inside.shape))])
    return _resized(ndimage.gaussian_filter(kept.astype(np.float32), 0.7), size)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Background removers leave specks, which would count as the subject's outermost parts."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask > 0.5, structure=np.ones((3, 3)))
    if count < 2:
        return mask
    areas = np.bincount(pieces.ravel())
    small = areas < SPECK * areas[1:].max()
    return np.where(small[pieces] & (pieces > 0), 0, mask).astype(np.float32)


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(mask, np.float32))
    resized = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32).clip(0, 1)


def _clipseg_masks(photos: Sequence[np.ndarray], model: str, text: str, device: str) -> list[np.ndarray]:
    import torch
    from PIL import Image
    from transformers import AutoProcessor, CLIPSegForImageSegmentation

    processor: Any = AutoProcessor.from_pretrained(model)
    network: Any = CLIPSegForImageSegmentation.from_pretrained(model).eval().to(device)
    masks = []
    for photo in photos:
        inputs = processor(text=[text], images=[Image.fromarray(photo)], return_tensors="pt", padding=True).to(device)
        with torch.inference_mode():
            logits = network(**inputs).logits
        score = torch.sigmoid(logits.float()).cpu().numpy()
        masks.append(_split(score.reshape(score.shape[-2:]), photo.shape[:2]))
    return masks


def _labelled_masks(
    photos: Sequence[np.ndarray], model: str, class_word: str | None, device: str
) -> tuple[list[np.ndarray], list[bool]]:
    from PIL import Image
    from transformers import pipeline

    segment: Any = pipeline("image-segmentation", model=model, device=device)
    wanted = set((class_word or "").lower().split())
    masks, known = [], []
    for photo in photos:
        segments = [
            (str(part["label"]), np.asarray(part["mask"], np.float32) / 255) for part in segment(Image.fromarray(photo))
        ]
        mask, is_named = _of_segments(segments, wanted, photo.shape[:2])
        masks.append(mask)
        known.append(is_named)
    return masks, known


def _of_segments(
    segments: Sequence[tuple[str, np.ndarray]], wanted: set[str], size: tuple[int, int]
) -> tuple[np.ndarray, bool]:
    """The mask of the segments whose label has a word that is wanted, and whether there is one."""
    named = [mask for label, mask in segments if wanted & set(label.lower().replace(",", " ").split())]
    chosen = named or sorted((mask for _, mask in segments), key=_border_share)[:1]
    return np.max(chosen, axis=0) if chosen else np.zeros(size, np.float32), bool(named)


def _border_share(mask: np.ndarray) -> float:
    """How much of the border a mask covers, less how much of the whole: small for what stands inside the picture."""
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return float(edge.mean() - mask.mean()) if mask.mean() > SMALLEST else 1.0

"""What photos and captions tell by themselves, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metrics.captions.contradictions import Contradiction, Ranks, caption_ranks, contradictions, missing
from metrics.captions.tags import TagTable, tag_table
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.image_descriptors import measure
from metrics.checkpoint.unrelated import unrelated
from metrics.photo_set.casts import casts, without_cast
from metrics.photo_set.cutouts import subject_cutouts
from metrics.photo_set.exposure import light, overexposed, underexposed
from metrics.photo_set.repeats import effective_number, repeated
from metrics.photo_set.sharpness import blurred, edge_width
from metrics.photo_set.unlike import aloof, other_colours, other_subject, unlikeness, unrelated_photo
from search.probe.prompts import neutral_text
from search.record.data_check import Action, DataCheck, Evidence, Finding, Kind

ENLARGED = 1.1
"""Times that a photo may be enlarged to its bucket before it is called small."""
_LEAST_CAPTIONS = 6  # different ones: with fewer a rank says little
_SURE = 0.9  # of the captions that say a tag of a group: so many images must show it before one is proposed elsewhere
_ORDER: tuple[Kind, ...] = (
    "other_subject",
    "repeated",
    "blurred",
    "overexposed",
    "underexposed",
    "small",
    "other_colours",
    "wrong_tag",
    "missing_tag",
    "wrong_caption",
)


@dataclass(frozen=True)
class CheckedPhotos:
    """Photos as they are trained on.

    Attributes:
        files: as they are called in findings.
        images: uint8 `[H, W, 3]`, all cut to one size.
        sizes, buckets: (width, height) in pixels of the file and of its bucket.
        captions: one each, as written.
    """

    files: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    sizes: tuple[tuple[int, int], ...]
    buckets: tuple[tuple[int, int], ...]
    captions: tuple[str, ...]
    trigger: str = ""
    class_word: str = ""

    @property
    def tags(self) -> TagTable:
        """Their captions taken apart."""
        return tag_table(self.captions, self.trigger, self.class_word)


def check_photos(
    study: str, photos: CheckedPhotos, encoder: Encoder, identity: Encoder | None = None, *, dataset: str = ""
) -> DataCheck:
    """All that photos and captions tell by themselves; nothing is trained or drawn.

    Args:
        study: its name. dataset: digest of photos and captions.
        encoder: for features, and for texts where it has them.
        identity: for features of photos and of cut-out subjects, in place of `encoder`.
    """
    seen = (identity or encoder).images(photos.images)
    table = photos.tags
    families = repeated(photos.images)
    found = [*_repeats(photos, families), *_small(photos)]
    small = {file for finding in found if finding.kind == "small" for file in finding.photos}
    found += [one for one in (*_sharpness(photos), *_exposure(photos)) if not small.intersection(one.photos)]
    spoiled = {file for finding in found if finding.kind != "repeated" for file in finding.photos}
    unlike = _unlike(photos, table, seen, identity or encoder)
    found += [one for one in unlike if not spoiled.intersection(one.photos)]
    unlooked, ranks = list[str](), None
    if not encoder.has_texts:
        unlooked.append("Captions were not compared with their images: the encoder knows no texts (score.encoder).")
    else:
        ranks = _ranks(photos, encoder)
        found += _captions(photos, table, encoder, ranks)
        if ranks is None or not ranks.told:
            unlooked.append(_why_no_ranks(ranks))
    if not table.tags:
        unlooked.append("Tags were not looked at: the captions are sentences, not tags between commas.")
    found = sorted(found, key=lambda finding: _ORDER.index(finding.kind))
    return DataCheck(
        study=study,
        dataset=dataset,
        photos=len(photos.files),
        different=effective_number(seen, families),
        rank=None if ranks is None else float(ranks.ranks.mean()),
        chance=None if ranks is None else ranks.chance,
        findings=tuple(_with_captions([*found, *_silent_tags(photos, table)], photos, table)),
        unlooked=tuple(unlooked),
    )


def _repeats(photos: CheckedPhotos, families: Iterable[Sequence[int]]) -> Iterator[Finding]:
    for family in families:
        largest = sorted(family, key=lambda row: (-photos.sizes[row][0] * photos.sizes[row][1], row))
        evidence = Evidence("photos that are one photo", float(len(family)))
        yield Finding("repeated", "keep_one", tuple(photos.files[row] for row in largest), evidence=(evidence,))


def _small(photos: CheckedPhotos) -> Iterator[Finding]:
    for file, size, bucket in zip(photos.files, photos.sizes, photos.buckets, strict=True):
        factor = max(bucket[0] / size[0], bucket[1] / size[1])
        if factor > ENLARGED:
            sizes = f"times that its {size[0]}×{size[1]} pixels are enlarged to {bucket[0]}×{bucket[1]}"
            yield Finding("small", "replace", (file,), evidence=(Evidence(sizes, factor),))


def _sharpness(photos: CheckedPhotos) -> Iterator[Finding]:
    widths = np.array([edge_width(image) for image in photos.images])
    usual = float(np.nanmedian(widths)) if np.isfinite(widths).any() else None
    for row in np.flatnonzero(blurred(widths)):
        evidence = Evidence("width of its sharpest edges in pixels", float(widths[row]), usual=usual)
        yield Finding("blurred", "replace", (photos.files[row],), evidence=(evidence,))


def _exposure(photos: CheckedPhotos) -> Iterator[Finding]:
    found = light(photos.images)
    shades: tuple[tuple[Kind, np.ndarray, np.ndarray, str], ...] = (
        ("overexposed", overexposed(found), 100 * found.lost, "% of its pixels have lost their lights"),
        ("underexposed", underexposed(found), found.highlights, "lightness of its highlights (L*, 0 to 100)"),
    )
    for kind, which, values, name in shades:
        for row in np.flatnonzero(which):
            evidence = Evidence(name, float(values[row]), usual=float(np.median(values)))
            yield Finding(kind, "replace", (photos.files[row],), evidence=(evidence,))


def _unlike(photos: CheckedPhotos, table: TagTable, seen: np.ndarray, encoder: Encoder) -> Iterator[Finding]:
    traits = measure(photos.images, None)
    subjects = encoder.images(subject_cutouts(photos.images))
    unlike_is = unrelated(encoder)
    found = unlikeness(seen, subjects, traits.colour_cdfs, traits.layouts, table.says, unlike_is)
    subject, surely = other_subject(found), unrelated_photo(found.apart, found.alone)
    for row in np.flatnonzero(surely):  # a filter makes a photo unlike the others, too
        others = [image for other, image in enumerate(photos.images) if other != row]
        plain = seen.copy()
        plain[row] = encoder.images([without_cast(photos.images[row], others)], cache=False)[0]
        surely[row] = unrelated_photo(*aloof(plain, table.says, unlike_is))[row]
    subject |= surely
    cast = casts(photos.images, table.says)
    own_tag = table.says[:, table.says.sum(axis=0) == 1].any(axis=1)  # it may say why
    under_cast = cast.found & ~own_tag
    colours = other_colours(found) | under_cast
    for row in np.flatnonzero(subject | colours):
        views = [("the photo as a whole", found.features), ("its subject, cut out", found.subject)]
        views = views if subject[row] else [("its colours", found.colours), views[0]]
        evidence = tuple(
            Evidence(f"{name}: how far from the others, in spreads", float(values[row]), usual=0.0)
            for name, values in views
        )
        if not subject[row] and under_cast[row]:
            name = "how far all its colours lie to one side, in CIELAB units"
            evidence = (Evidence(name, float(cast.least[row]), usual=0.0),)
        if surely[row]:
            name = "how far from all others (0: as they are from each other, 1: as from unrelated photos)"
            evidence = (Evidence(name, float(found.apart[row]), usual=float(np.median(found.apart))), *evidence)
        kind: Kind = "other_subject" if subject[row] else "other_colours"
        yield Finding(kind, "replace", (photos.files[row],), evidence=evidence)


def _ranks(photos: CheckedPhotos, encoder: Encoder) -> Ranks | None:
    said = [neutral_text(caption, photos.trigger, photos.class_word) for caption in photos.captions]
    different = list(dict.fromkeys(said))
    if len(different) < _LEAST_CAPTIONS:
        return None
    own = [different.index(text) for text in said]
    return caption_ranks(encoder.images(photos.images), encoder.texts(different), own)


def _why_no_ranks(ranks: Ranks | None) -> str:
    if ranks is None:
        return "Whole captions were not ranked: fewer than six of them differ."
    return (
        f"Whole captions were not judged: their own images rank {ranks.ranks.mean():.1f} of {ranks.count} in the mean, "
        f"chance {ranks.chance:.1f}, so the encoder does not know what they say. A larger score.encoder may."
    )


def _captions(photos: CheckedPhotos, table: TagTable, encoder: Encoder, ranks: Ranks | None) -> Iterator[Finding]:
    features, told = encoder.images(photos.images), set[int]()
    for group in table.groups:
        said, fits = table.said(group), _fits(photos, table, group, features, encoder)
        for each in contradictions(fits, features, said):
            told.add(each.photo)
            yield _tag_finding("wrong_tag", photos, table, group, each, ranks)
        for each in missing(fits, said):
            if each.text >= _SURE:
                told.add(each.photo)
                yield _tag_finding("missing_tag", photos, table, group, each, ranks)
    for row in np.flatnonzero(ranks.worse_than_chance).tolist() if ranks is not None else ():
        if row not in told:
            yield Finding("wrong_caption", "retag", (photos.files[row],), evidence=_rank(ranks, row))


def _tag_finding(
    kind: Kind, photos: CheckedPhotos, table: TagTable, group: Sequence[int], each: Contradiction, ranks: Ranks | None
) -> Finding:
    evidence = {
        f"way from “{table.tags[group[each.said]]}” (0) to “{table.tags[group[each.shown]]}” (1), by its caption": (
            each.text
        ),
        "the same way, by likeness to the other photos": each.image,
    }
    if kind == "missing_tag":
        evidence = {"share of the other captions with such a tag whose image shows it": each.text}
    rows = tuple(Evidence(name, value) for name, value in evidence.items() if np.isfinite(value))
    return Finding(
        kind,
        "retag",
        (photos.files[each.photo],),
        tag="" if each.said < 0 else table.tags[group[each.said]],
        shown=table.tags[group[each.shown]],
        evidence=(*rows, *(_rank(ranks, each.photo) if ranks is not None and ranks.told else ())),
    )


def _rank(ranks: Ranks | None, row: int) -> tuple[Evidence, ...]:
    if ranks is None:
        return ()
    name = f"rank of its caption for its own image, of {ranks.count}"
    return (Evidence(name, float(ranks.ranks[row]), usual=ranks.chance, usual_is="chance"),)


def _fits(
    photos: CheckedPhotos, table: TagTable, group: Sequence[int], features: np.ndarray, encoder: Encoder
) -> np.ndarray:
    """Cosine of each image to its caption with each tag of the group in its place: `[N, K]`."""
    rows = range(len(photos.files))
    texts = [
        neutral_text(table.with_tag(row, group, tag), photos.trigger, photos.class_word)
        for row in rows
        for tag in group
    ]
    said = encoder.texts(texts).reshape(len(rows), len(group), -1)
    return np.einsum("nd,nkd->nk", features.astype(np.float64), said.astype(np.float64))


def _silent_tags(photos: CheckedPhotos, table: TagTable) -> Iterator[Finding]:
    """Tags that say nothing here; those in a single caption only where the caption has others of their group's kind."""
    for tag in table.everywhere:
        evidence = (Evidence("captions that say it", float(table.counts[tag])),)
        yield Finding("tag_everywhere", "reword", photos.files, tag=table.tags[tag], evidence=evidence)
    for tag in table.once:
        file = photos.files[int(table.says[:, tag].argmax())]
        evidence = (Evidence("captions that say it", 1.0, usual=float(len(photos.files)), usual_is="photos"),)
        yield Finding("tag_once", "know", (file,), tag=table.tags[tag], evidence=evidence)


def _with_captions(findings: Iterable[Finding], photos: CheckedPhotos, table: TagTable) -> Iterator[Finding]:
    """The findings with the captions that they propose: those of a photo with all that is proposed for it."""
    findings = list(findings)
    rows = {file: row for row, file in enumerate(photos.files)}
    captions = list(photos.captions)
    columns = {tag: column for column, tag in enumerate(table.tags)}
    retagged: tuple[Action, ...] = ("retag", "reword")
    changing = [f for f in findings if f.action in retagged and (f.shown or f.kind == "tag_everywhere")]
    for finding in changing:
        for file in finding.photos:
            now = replace(table, captions=tuple(captions))
            if finding.kind == "tag_everywhere":
                captions[rows[file]] = now.without(rows[file], columns[finding.tag])
            else:
                group = next(group for group in table.groups if columns[finding.shown] in group)
                captions[rows[file]] = now.with_tag(rows[file], group, columns[finding.shown])
    for finding in findings:
        proposed = tuple(captions[rows[file]] for file in finding.photos) if finding in changing else ()
        yield replace(finding, proposed=proposed)

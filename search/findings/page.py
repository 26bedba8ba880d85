"""`data_check.html`: what to change, with pictures, on one page that opens offline and reads on a phone."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.findings.sentences import PARTS, Told, effect, facts, figure, headline, short_names, told
from search.record.data_check import DATA_CHECK_PAGE, DataCheck, Finding, TagEffect
from search.record.json_files import write_bytes
from search.record.page_template import page_template

_SIDE = 320  # pixels of the longer side of a photo on the page
_MOST_PHOTOS = 8  # of one finding
_QUALITY = 82


@dataclass(frozen=True)
class _Photo:
    """`caption` and `proposed` are "" where they are not told."""

    file: str
    source: str
    caption: str
    proposed: str


@dataclass(frozen=True)
class _Card:
    told: Told
    photos: Sequence[_Photo]
    more: int
    figures: Sequence[str]
    serious: bool


@dataclass(frozen=True)
class _Part:
    title: str
    cards: Sequence[_Card]


@dataclass(frozen=True)
class _TagRow:
    """A tag's effects; `pair`: a drawing without the tag and one with it, as data URLs, or none."""

    tag: str
    said: str
    verdict: str
    lora: str
    base: str
    pair: Sequence[str]


def write_page(
    folder: Path,
    check: DataCheck,
    images: Mapping[str, np.ndarray],
    captions: Mapping[str, str],
    pairs: Mapping[str, np.ndarray] | None = None,
    *,
    study_file: str,
) -> Path:
    """Writes `data_check.html` (`templates/data_check.html`, filled in) into a study's folder; returns its path.

    Args:
        images, captions: uint8 `[H, W, 3]` and the caption of each photo, by the name that findings use.
        pairs: of each tag a drawing without it beside one with it, uint8 `[H, 2·W, 3]`.
        study_file: the name by which a command knows the study.
    """
    album = functools.cache(lambda file: _data_url(images[file]))
    names = short_names(list(images))
    parts = [
        _Part(title, [_card(finding, album, captions, names) for finding in check.findings if finding.kind in kinds])
        for title, kinds in PARTS
    ]
    text = page_template("search.findings", "data_check.html").render(
        title=f"{check.study}: {headline(check)}",
        study=check.study,
        study_file=study_file,
        heading=headline(check),
        facts=facts(check),
        parts=[part for part in parts if part.cards],
        tags=[_tag_row(tag, (pairs or {}).get(tag.tag)) for tag in check.tags],
        unlooked=check.unlooked,
        proposed=len(check.captions),
        trained=check.trained,
    )
    path = folder / DATA_CHECK_PAGE
    write_bytes(path, text.encode())
    return path


def _card(
    finding: Finding, album: Callable[[str], str], captions: Mapping[str, str], names: Mapping[str, str]
) -> _Card:
    shown = () if finding.kind == "tag_everywhere" else finding.photos[:_MOST_PHOTOS]
    about_words = finding.action == "retag" or finding.kind in ("tag_once", "never_fitted")
    proposed = dict(zip(finding.photos, finding.proposed, strict=True)) if finding.proposed else {}
    photos = [
        _Photo(
            names[file],
            album(file),
            captions[file] if about_words else "",
            proposed.get(file, "") if finding.action == "retag" else "",
        )
        for file in shown
    ]
    more = len(finding.photos) - len(shown) if shown else 0
    return _Card(told(finding, names), photos, more, [figure(each) for each in finding.evidence], finding.needs_change)


def _tag_row(tag: TagEffect, pair: np.ndarray | None) -> _TagRow:
    def between(value: float, low: float, high: float) -> str:
        return f"{value:.2f} ({low:.2f} to {high:.2f})"

    return _TagRow(
        tag.tag,
        effect(tag),
        tag.verdict,
        between(tag.effect, tag.low, tag.high),
        between(tag.base, tag.base_low, tag.base_high),
        () if pair is None else [_data_url(half) for half in np.split(pair, 2, axis=1)],
    )


def _data_url(image: np.ndarray, side: int = _SIDE) -> str:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()

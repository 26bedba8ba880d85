"""The photos of a study as the data check looks at them, and the captions that it proposes, written elsewhere."""

from __future__ import annotations

from pathlib import Path

from search.errors import SearchError
from search.findings.before_training import CheckedPhotos
from search.record.data_check import DataCheck
from search.record.json_files import write_bytes
from search.study.input_digests import photo_marks
from search.study.study import Study
from trainer.data.buckets import assign_buckets
from trainer.data.dataset import load_pixels, scan_dataset
from trainer.files import shown


def photos_of(study: Study) -> CheckedPhotos:
    """The study's photos, regularisation images left out, cut to its resolution.

    Raises:
        DataError: a photo or a caption that cannot be read.
    """
    config = study.config(next(study.space.combinations()))
    dataset = scan_dataset(study.data, reg_data=study.reg_data, trigger=config.trigger, class_word=config.class_word)
    photos = [photo for photo in dataset.photos if not photo.is_reg]
    marks = photo_marks(photos, study.data, study.reg_data)
    buckets = assign_buckets(
        photos,
        resolution=config.size,
        enable_bucket=config.enable_bucket,
        step=config.bucket_step,
        smallest=config.min_bucket_resolution,
        largest=config.max_bucket_resolution,
    )
    return CheckedPhotos(
        files=tuple(shown(mark.file) for mark in marks),
        images=tuple(load_pixels(photo, config.size) for photo in photos),
        sizes=tuple((photo.width, photo.height) for photo in photos),
        buckets=tuple(buckets),
        captions=tuple(photo.caption for photo in photos),
        trigger=photos[0].trigger or "",
        class_word=photos[0].class_word or "",
    )


def write_captions(check: DataCheck, data: Path, to: Path) -> list[Path]:
    """Write the proposed captions into another folder, laid out as the photos' own; returns the files.

    Raises:
        SearchError: `to` is the photos' folder, lies in it or around it, or a file of that name is there: nothing is
            written over.
    """
    inside, outside = to.resolve(), data.resolve()
    if inside == outside or inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise SearchError(f"--write-captions: {to}: expected a folder apart from the photos, which stay as they are")
    own = {shown(name): name for file in data.rglob("*") for name in [file.relative_to(data)]}
    files = {
        to / own.get(photo, Path(photo)).with_suffix(".txt"): caption
        for photo, caption in sorted(check.captions.items())
    }
    there = [file for file in files if file.exists()]
    if there:
        raise SearchError(f"--write-captions: {there[0]}: expected no such file, because nothing is written over")
    for file, caption in files.items():
        write_bytes(file, f"{caption}\n".encode())
    return list(files)

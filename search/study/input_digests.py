"""What a study was begun with, file by file: photos, captions, masks, base and encoders.

`inputs.json` is kept once the workers have accepted all of it, so that a later sitting can say what has changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from trainer.errors import shown

if TYPE_CHECKING:
    from search.record.record import StudyFolder
    from search.study.study import Study
    from trainer.data.dataset import Photo

_MOST_NAMED = 6


@dataclass(frozen=True)
class PhotoMark:
    """What a study knows a photo by.

    Attributes:
        file: where it lies in `data` (or `reg_data`), with slashes.
        image: digest of the file.
        reg: a regularisation image.
    """

    file: str
    image: str
    caption: str
    repeats: int
    reg: bool


@dataclass(frozen=True)
class Inputs:
    """Attributes:
    photos: all of them.
    masks: a photo's file to the digest of its mask, where masks are a folder.
    base: the base's fingerprint.
    encoders: "encoder" and "identity_encoder" to their fingerprint, where they are folders.
    """

    photos: tuple[PhotoMark, ...] = ()
    masks: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / "inputs.json"

    @classmethod
    def load(cls, folder: StudyFolder) -> Inputs | None:
        """None where there is none, or none that can be read: what has changed is then told less exactly."""
        try:
            return TypeAdapter(cls).validate_json(cls.file(folder).read_bytes())
        except (OSError, ValidationError):
            return None


def keep_inputs(study: Study, folder: StudyFolder) -> None:
    """Note what the workers have loaded and accepted; what was noted before stays."""
    from search.record.json_files import write_json

    if Inputs.load(folder) is None:
        found = Inputs(study.photos, study.masks_of, fingerprint_of_base(study, folder), fingerprints(study, folder))
        write_json(Inputs.file(folder), asdict(found))


def fingerprint_of_base(study: Study, folder: StudyFolder) -> str:
    """The base as it lies there now. Raises ModelError when it is not there, or not whole."""
    from trainer.base_model.fingerprint import fingerprint_base

    return fingerprint_base(study.base, remember=folder.cache)


def fingerprints(study: Study, folder: StudyFolder) -> dict[str, str]:
    """Of the encoders that are folders."""
    from trainer.base_model.fingerprint import fingerprint_folder

    specs = {"encoder": study.encoder, "identity_encoder": study.identity_encoder}
    folders = {key: Path(spec) for key, spec in specs.items() if spec is not None and Path(spec).is_dir()}
    return {key: fingerprint_folder(path, remember=folder.cache) for key, path in folders.items()}


def photo_marks(photos: Sequence[Photo], data: str, reg_data: str | None) -> tuple[PhotoMark, ...]:
    """The photos as `Inputs` keeps them."""
    roots = [Path(data), *([Path(reg_data)] if reg_data else [])]

    def place(photo: Photo) -> str:
        root = next((root for root in roots if photo.path.is_relative_to(root)), photo.path.parent)
        return photo.path.relative_to(root).as_posix()

    return tuple(PhotoMark(place(p), p.digest, p.caption, p.repeats, p.is_reg) for p in photos)


def changed_photos(before: Sequence[PhotoMark], now: Sequence[PhotoMark], data: str) -> str:
    """What became of the photos in `data`, by name, in one line: "1_dog/03.txt (the caption was 'a' and is 'b')"."""
    return _listed(_photo_changes(before, now, Path(data)))


def changed_masks(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What became of the masks, by the photo's name, in one line."""
    states = {
        name: "removed" if name not in now else "added" if name not in before else "another mask"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    }
    return _listed(f"{name} ({state})" for name, state in states.items())


def _photo_changes(before: Sequence[PhotoMark], now: Sequence[PhotoMark], data: Path) -> Iterator[str]:
    old, new = ({(mark.reg, mark.file): mark for mark in marks} for marks in (before, now))
    lost = [mark for key, mark in old.items() if key not in new]
    for key, mark in new.items():
        was = old.get(key)
        if was is None:
            same = next((one for one in lost if one.image == mark.image), None)
            if same is None:
                yield f"{mark.file} (added)"
                continue
            lost.remove(same)
            if (same.caption, same.repeats) == (mark.caption, mark.repeats):
                continue  # moved or renamed, which changes nothing
            yield f"{same.file} (now {mark.file}{_said(same, mark)})"
        elif was.image != mark.image:
            yield f"{mark.file} (another image{_said(was, mark)})"
        elif said := _said(was, mark):
            name = _caption_file(data, mark.file) if was.caption != mark.caption else mark.file
            yield f"{name} ({said.removeprefix(', ')})"
    for mark in lost:
        yield f"{mark.file} (removed)"


def _caption_file(data: Path, photo: str) -> str:
    """The file that a photo's caption stands in; the photo itself, where its folder's name is the caption."""
    names = [str(PurePosixPath(photo).with_suffix(suffix)) for suffix in (".txt", ".caption")]
    return next((name for name in names if (data / name).is_file()), photo)


def _said(was: PhotoMark, mark: PhotoMark) -> str:
    said = f", the caption was {shown(was.caption)} and is {shown(mark.caption)}" if was.caption != mark.caption else ""
    return said + (f", {was.repeats} repeats are {mark.repeats}" if was.repeats != mark.repeats else "")


def _listed(changes: Iterable[str]) -> str:
    found = list(changes)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more

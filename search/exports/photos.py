"""Where sd-scripts reads photos and captions differently from our trainer, and a copy that both read the same.

The rules are those of sd-scripts' `library/train_util.py` (glob_images, load_image, DreamBoothDataset.read_caption).
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import StudyError
from trainer.data.images import opened
from trainer.errors import mistake

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset, Photo

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_READ = frozenset((*_ENDINGS, *(ending.upper() for ending in _ENDINGS)))
_ORIENTATION = 0x0112
_LINE_END = re.compile(r"\r\n|\r|\n")

TURNED = "ignores the EXIF rotation, so these photos lie on their side"
SEE_THROUGH = "drops transparency and trains on what lies beneath it"
OTHER_MODE = "clips 16-bit images instead of scaling them to 8 bits"
SKIPPED = "leaves these photos out, because it does not read files with this ending"
HEIC_INSIDE = "stops at these files: they are HEIC inside, whatever their ending says"
TOO_LARGE = "stops at these photos: they have more pixels than it opens"
EMPTY = "stops at these photos: their caption file is empty"
OTHER_CAPTION = "reads another caption than we do"
MARKED = "keeps an invisible character (byte-order mark) at the start of the caption"
OTHER_ENDING = "reads no caption: it takes either .txt or .caption files in one folder"
EXTRA = "also trains on these files, which we leave out"

_PIXELS = (TURNED, SEE_THROUGH, OTHER_MODE, SKIPPED, HEIC_INSIDE)
"""What a copy as PNG mends."""
_MOST_PIXELS = 2 * 89_478_485  # Pillow's guard, which sd-scripts leaves as it is


@dataclass(frozen=True)
class Difference:
    """One way in which sd-scripts reads a set differently.

    Attributes:
        what: which one, as a constant here says it: a sentence without its subject, sd-scripts.
        files: those concerned, in the set's order.
    """

    what: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        names = ", ".join(path.name for path in self.files[:3])
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return f"sd-scripts {self.what} ({len(self.files)}: {names}{more})"


def caption_ending(photos: Sequence["Photo"]) -> str:
    """The one ending of captions that sd-scripts is to read in a folder: that of most of its photos."""
    own = [caption_file(photo) for photo in photos]
    count = sum(file.suffix == ".caption" for file in own if file is not None)
    return ".caption" if count * 2 > sum(file is not None for file in own) else ".txt"


def differences(dataset: "Dataset") -> tuple[Difference, ...]:
    """What sd-scripts reads differently in this set; nothing when it reads the same."""
    found: dict[str, list[Path]] = {}
    for photos in by_folder(dataset):
        ending = caption_ending(photos)
        for photo in photos:
            for what in _differences(photo, ending):
                found.setdefault(what, []).append(photo.path)
        ours = {photo.path.name for photo in photos}
        for path in sorted(photos[0].path.parent.iterdir()):
            if path.suffix in _READ and path.name not in ours and not path.name.startswith("."):
                found.setdefault(EXTRA, []).append(path)
    return tuple(Difference(what, tuple(files)) for what, files in found.items())


def prepare(dataset: "Dataset", to: Path) -> Path:
    """Writes the set into `to` so that our trainer and sd-scripts read the same pixels and captions.

    Photos that both read alike are copied as they are; others become upright RGB PNGs, transparency laid over white.
    Each gets a one-line UTF-8 `.txt`. Folders keep their repeats and names; regularisation images go to `to/reg`.

    Raises:
        StudyError: `to` is a folder with something in it.
        DataError: a photo cannot be read.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StudyError([mistake(None, "--prepare-photos", str(to), "a new or an empty folder")])
    for photos in by_folder(dataset):
        shelf = to / ("reg" if photos[0].is_reg else "") / _shelf_name(photos[0])
        shelf.mkdir(parents=True, exist_ok=True)
        taken: set[str] = set()
        for photo in photos:
            alike = not set(_differences(photo, ".txt")) & set(_PIXELS)
            suffix = photo.path.suffix if alike else ".png"
            stem = photo.path.stem
            while stem in taken:
                stem += f"_{photo.path.suffix[1:]}"
            taken.add(stem)
            target = shelf / f"{stem}{suffix}"
            if alike:
                shutil.copyfile(photo.path, target)
            else:
                _save_png(photo, target)
            target.with_suffix(".txt").write_text(f"{photo.caption}\n", encoding="utf-8", newline="\n")
    return to


def by_folder(dataset: "Dataset") -> list[list["Photo"]]:
    """The photos of each folder, regularisation images apart, in the set's order."""
    folders: dict[tuple[Path, bool], list[Photo]] = {}
    for photo in dataset.photos:
        folders.setdefault((photo.path.parent, photo.is_reg), []).append(photo)
    return list(folders.values())


def _differences(photo: "Photo", ending: str) -> list[str]:
    if photo.path.suffix not in _READ:
        return [SKIPPED]
    found = []
    with opened(photo.path) as image:
        if image.format == "HEIF":
            return [HEIC_INSIDE]
        if image.width * image.height > _MOST_PIXELS:
            found.append(TOO_LARGE)
        if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
            found.append(TURNED)
        if _hides_something(image):
            found.append(SEE_THROUGH)
        elif image.mode[0] in "IF":  # 16 bits and floats are clipped there
            found.append(OTHER_MODE)
    caption = _caption_difference(photo, ending)
    return found + ([caption] if caption else [])


def _hides_something(image: Any) -> bool:
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return False
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return low < 255


def caption_file(photo: "Photo") -> Path | None:
    """The file that a photo's caption stands in; None where it has the words of its folder's name."""
    files = (photo.path.with_suffix(suffix) for suffix in (".txt", ".caption"))
    return next((file for file in files if file.is_file()), None)


def _caption_difference(photo: "Photo", ending: str) -> str | None:
    own = caption_file(photo)
    theirs = photo.path.with_suffix(ending)
    if own is None:
        return None  # both take the words of the folder's name
    if not theirs.is_file():
        return OTHER_ENDING
    content = theirs.read_bytes()
    if not content:
        return EMPTY
    try:
        first = _LINE_END.split(content.decode("utf-8"), maxsplit=1)[0].strip()
    except UnicodeDecodeError:
        return f"stops at these photos: their {theirs.suffix} file is not UTF-8"
    if first == photo.caption:
        return None
    return MARKED if first.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").strip() == photo.caption else OTHER_CAPTION


def _shelf_name(photo: "Photo") -> str:
    name = photo.path.parent.name
    number, _, rest = name.partition("_")
    if number.isdigit() and rest:
        return name
    words = " ".join(word for word in (photo.trigger, photo.class_word) if word)
    return f"{photo.repeats}_{words or 'photos'}"


def _save_png(photo: "Photo", target: Path) -> None:
    from PIL import Image

    from trainer.data.dataset import load_pixels

    Image.fromarray(load_pixels(photo)).save(target, format="PNG")

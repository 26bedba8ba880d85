"""Pictures of a report: inside the page until it is large enough, then beside it."""

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from search.record.record import StudyFolder

_MOST_BYTES = 12_000_000  # of pictures inside; those beyond are linked, so that a report of any study still opens


@dataclass(frozen=True)
class Picture:
    """`source` is a data URL where it is `inside` the page, else a link to the file beside it; None when damaged."""

    alt: str
    source: str | None
    inside: bool = True


class Album:
    """Pictures as data URLs until the page is large enough, then as links to the files beside it."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder, self.spent = folder, 0

    @property
    def full(self) -> bool:
        """Whether pictures are only linked from now on, and need not be looked at for it."""
        return self.spent >= _MOST_BYTES

    def picture(self, path: Path, alt: str) -> Picture | None:
        """None where there is no such file."""
        return next(iter(self.pictures({path: alt})), None)

    def pictures(self, alts: Mapping[Path, str]) -> list[Picture]:
        """Those that are there, made smaller side by side."""
        there = [path for path in alts if path.is_file()]
        with ThreadPoolExecutor() as pool:
            small = [None] * len(there) if self.full else list(pool.map(_small, there))
        return [self._shown(path, alts[path], url) for path, url in zip(there, small, strict=True)]

    def _shown(self, path: Path, alt: str, url: str | None) -> Picture:
        linked = Picture(alt, path.relative_to(self.folder.path).as_posix(), inside=False)
        if self.full:
            return linked
        if url is None:
            return Picture(path.name, None)
        self.spent += len(url)
        return linked if self.full else Picture(alt, url)


def _small(path: Path) -> str | None:
    """A picture's data URL; None when it is damaged."""
    try:
        return data_url(_webp(path))
    except (OSError, SyntaxError, ValueError):
        return None


def _webp(path: Path) -> bytes:
    """A picture smaller than its PNG, at most 1,800 pixels wide."""
    picture = Image.open(path).convert("RGB")
    if picture.width > 1800:
        picture = picture.resize((1800, round(1800 * picture.height / picture.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=84, method=2)
    return out.getvalue()


def data_url(data: bytes) -> str:
    """What an `<img>` of these bytes of WebP has for its source."""
    return "data:image/webp;base64," + base64.b64encode(data).decode()

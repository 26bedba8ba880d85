"""The probe's files: whether they are as they were written, without loading torch, and what outlives the cache."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search.record.json_files import write_bytes
from search.record.probe_description import PROBE_FILE, is_sealed
from search.record.record import StudyFolder
from trainer.checkpoint import lora_file_damage

_ARRAYS = ("arrays.npz", "calibration.npz", "base_readings.npz")
_PICTURES = ("base.png",)
PROBE_FILES = (PROBE_FILE, *_ARRAYS, *_PICTURES)
"""Without each of them there is no probe."""
CRITIC_FILE = "critic.safetensors"
"""Of a study with a critic, too."""


def mend_probe(folder: StudyFolder) -> list[str]:
    """Let a damaged probe be built again (it follows from the study's settings); says so in a line."""
    home = folder.cache / "probe"
    if not (home / PROBE_FILE).is_file():
        return []
    names = (*PROBE_FILES, CRITIC_FILE) if (home / CRITIC_FILE).exists() else PROBE_FILES
    damaged = [name for name in names if not is_whole(home / name)]
    if not damaged:
        return []
    (home / PROBE_FILE).unlink()  # a probe without it does not exist
    return [f"{home / damaged[0]} is damaged or missing: the probe is built again from the study's settings"]


@contextmanager
def building(folder: Path, home: Path) -> Iterator[Path]:
    """A folder to build a probe in, beside the cache: whoever deletes that meanwhile costs nothing but the copy there.

    Args:
        folder: the study's.
        home: where the probe's files go at the end, `probe.json` last: a probe without it does not exist.
    """
    aside = folder / ".probe.part"  # swept away where a kill leaves it
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        with suppress(FileNotFoundError, FileExistsError):  # the cache was deleted that very moment
            home.mkdir(parents=True, exist_ok=True)
            (home / PROBE_FILE).unlink(missing_ok=True)
            for path in sorted(aside.iterdir(), key=lambda path: path.name == PROBE_FILE):
                shutil.move(path, home / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def keep_probe_file(home: Path, folder: Path) -> None:
    """Keep `probe.json` in the study's folder, too: what its pictures show is needed when the cache is deleted."""
    kept = folder / PROBE_FILE
    content = (home / PROBE_FILE).read_bytes()
    if not kept.is_file() or kept.read_bytes() != content:
        write_bytes(kept, content)


def is_whole(path: Path) -> bool:
    """Whether a file of the probe is as it was written, as far as it says."""
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as arrays:
                return arrays.testzip() is None
        if path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as picture:
                picture.load()
            return True
        if path.suffix == ".safetensors":
            return lora_file_damage(path) is None
        return is_sealed(path)
    except Exception:  # zipfile, PIL and JSON each raise kinds of their own on damaged files
        return False

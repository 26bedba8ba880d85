"""The packs of the onset benchmark as files: an .npz each while they are computed, one archive of all that is kept.

The archive is a .tar.xz of the .npz files, uncompressed within it; written once a release by
`python -m benchmarks.onset --keep`. The same packs give the same bytes.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

KEPT = Path(__file__).parent / "onset-packs.tar.xz"
_PAIRS_OF_BYTES = {"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}  # most numbers are float16


def read_packs(place: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Name and arrays of every pack in a folder of .npz files or in an archive, by name."""
    if place.is_dir():
        for path in sorted(place.glob("*.npz")):
            yield path.stem, _arrays(path.read_bytes())
    elif place.is_file():
        yield from ((Path(name).stem, _arrays(data)) for name, data in _members(place))


def keep(folder: Path, archive: Path = KEPT) -> int:
    """Writes all packs of a folder into the archive, whole or not at all; returns how many."""
    aside = archive.with_name(f".{archive.name}.{os.getpid()}")
    names = sorted(folder.glob("*.npz"))
    with lzma.open(aside, "wb", filters=[_PAIRS_OF_BYTES]) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for path in names:
            plain = io.BytesIO()
            np.savez(plain, allow_pickle=False, **_arrays(path.read_bytes()))
            entry = tarfile.TarInfo(path.name)  # no time and no owner
            entry.size = plain.tell()
            plain.seek(0)
            tar.addfile(entry, plain)
    aside.replace(archive)
    return len(names)


def unpack(folder: Path, archive: Path = KEPT) -> None:
    """Lays the kept packs into a folder; packs that are there stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in _members(archive):
        if not (folder / name).exists():
            aside = folder / f".{name}.{os.getpid()}"
            aside.write_bytes(data)
            aside.replace(folder / name)


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive, "r:xz") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                yield Path(member.name).name, file.read()


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data)) as file:
        return {name: file[name] for name in file.files}

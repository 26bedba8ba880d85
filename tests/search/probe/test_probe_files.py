"""The probe's files: whole or built again, and what of them outlives the cache."""

import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.probe.probe_files import PROBE_FILES, building, keep_probe_file, mend_probe
from search.record.record import StudyFolder


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    found = StudyFolder(tmp_path / "toy")
    home = found.cache / "probe"
    home.mkdir(parents=True)
    for name in PROBE_FILES:
        if name.endswith(".npz"):
            np.savez(home / name, values=np.arange(100.0))
        elif name.endswith(".png"):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(home / name)
        else:
            (home / name).write_text('{"prompts": ["a photo"]}')
    return found


def test_a_whole_probe_stays(folder: StudyFolder) -> None:
    assert mend_probe(folder) == []
    assert {path.name for path in (folder.cache / "probe").iterdir()} == set(PROBE_FILES)


@pytest.mark.parametrize("name", [name for name in PROBE_FILES if name != "probe.json"])
@pytest.mark.parametrize("how", ["lost", "cut"])
def test_a_damaged_one_is_built_again_and_said_so_once(folder: StudyFolder, name: str, how: str) -> None:
    file = folder.cache / "probe" / name
    if how == "lost":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40])
    (said,) = mend_probe(folder)
    assert said.startswith(f"{file} is damaged or missing")
    assert not (file.parent / "probe.json").exists()
    assert mend_probe(folder) == []


def test_a_byte_that_has_turned_is_noticed(folder: StudyFolder) -> None:
    file = folder.cache / "probe" / "arrays.npz"
    with zipfile.ZipFile(file) as arrays:
        at = arrays.infolist()[0].header_offset + 200
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    assert len(mend_probe(folder)) == 1


def test_a_probe_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    home = tmp_path / "cache" / "probe"
    home.mkdir(parents=True)
    (home / "probe.json").write_text("old")
    (tmp_path / ".probe.part").mkdir()
    (tmp_path / ".probe.part" / "left.npz").touch()
    moved: list[list[str]] = []
    with building(tmp_path, home) as aside:
        assert list(aside.iterdir()) == [], "nothing of a build that was killed"
        for name in ("probe.json", "arrays.npz", "zzz.png"):
            (aside / name).write_text("new")
        moved.append(sorted(path.name for path in home.iterdir()))
    assert moved == [["probe.json"]]
    assert {path.name: path.read_text() for path in home.iterdir()} == dict.fromkeys(
        ("probe.json", "arrays.npz", "zzz.png"), "new"
    )
    assert not (tmp_path / ".probe.part").exists()
    with suppress(InterruptedError), building(tmp_path, home) as aside:
        (aside / "arrays.npz").write_text("half")
        raise InterruptedError
    assert (home / "arrays.npz").read_text() == "new"
    assert not (tmp_path / ".probe.part").exists()


def test_probe_json_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("shutil.move", lambda source, target: order.append(target.name))
    with building(tmp_path, tmp_path / "probe") as aside:
        for name in ("zzz.png", "probe.json", "arrays.npz"):
            (aside / name).touch()
    assert order[-1] == "probe.json"
    assert sorted(order) == ["arrays.npz", "probe.json", "zzz.png"]


def test_what_pictures_show_is_kept_beside_the_cache(folder: StudyFolder) -> None:
    home, kept = folder.cache / "probe", folder.path / "probe.json"
    keep_probe_file(home, folder.path)
    assert kept.read_bytes() == (home / "probe.json").read_bytes()
    written = kept.stat().st_ino
    keep_probe_file(home, folder.path)
    assert kept.stat().st_ino == written, "it is not written again"
    (home / "probe.json").write_text("another")
    keep_probe_file(home, folder.path)
    assert kept.read_text() == "another"

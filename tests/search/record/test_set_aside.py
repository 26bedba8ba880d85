"""What is damaged leaves the way under a name that says so, and nothing else does."""

from pathlib import Path

import pytest

from search.record.record import StudyFolder
from search.record.set_aside import free_name, right_kinds, set_aside


def tree(home: Path) -> set[str]:
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def test_each_takes_the_next_free_name(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for name in ("a.json.damaged", "a.json.damaged-2", "a.json.damaged-3"):
        file.write_text(name)
        assert set_aside(file) == tmp_path / name
        assert (tmp_path / name).read_text() == name
    assert free_name(file) == tmp_path / "a.json.damaged-4"
    assert set_aside(file) == tmp_path / "a.json.damaged-4"
    assert not (tmp_path / "a.json.damaged-4").exists(), "nothing was there"
    (tmp_path / "a.json.damaged-4").symlink_to("nowhere")
    assert free_name(file) == tmp_path / "a.json.damaged-5"
    file.symlink_to("nowhere")
    assert set_aside(file).is_symlink()


OF_A_TRIAL = ["record.json", "config.yaml", "trajectory.csv", "items.npz", "sheet.png", "onset.png", "behaviour.png"]
OF_A_STUDY = ["study.yaml", "verdict.json", "report.html", "study.json", "workers.log", "clock.json", "handed_on.json"]
FILES = [*OF_A_STUDY, "inputs.json", "probe.json", *(f"trials/0003/{name}" for name in OF_A_TRIAL)]
IN_A_TRIAL = ["readings", "checkpoints", "samples", "twin", "average"]
IN_A_STUDY = ["artifacts", "best", ".workers", "cache", "cache/probe", "cache/latents", "cache/features"]
FOLDERS = [*IN_A_STUDY, *(f"trials/0003/{name}" for name in IN_A_TRIAL)]


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, "trials"])
def test_a_file_where_a_folder_has_to_be_or_the_other_way_round(tmp_path: Path, name: str) -> None:
    folder = StudyFolder(tmp_path)
    if name != "trials":
        folder.trial(3).mkdir(parents=True)
    place = tmp_path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    inside = name
    if name in FILES:
        place.mkdir()
        (place / "x").touch()
        inside = f"{name}.damaged/x"
    else:
        place.touch()
        inside = f"{name}.damaged"
    (said,) = right_kinds(folder)
    needed = "file" if name in FILES else "folder"
    assert said.startswith(f"{place}: a {needed} is needed here")
    assert said.endswith(f"{place.name}.damaged")
    assert tree(tmp_path) == {inside}
    assert right_kinds(folder) == []


def test_what_is_as_it_has_to_be_stays(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in FOLDERS:
        (tmp_path / name).mkdir(parents=True)
    (folder.trial(3) / "checkpoints" / "0002").mkdir()
    (folder.trial(3) / "readings" / ".0002.part").mkdir()
    before = tree(tmp_path)
    assert right_kinds(folder) == []
    assert tree(tmp_path) == before == set(FILES)


@pytest.mark.parametrize(
    ("inner", "kept"),
    [
        ("trials/0003/readings/0002.npz", "trials/0003/0002.npz.damaged"),
        ("trials/0003/samples/0002.png", "trials/0003/0002.png.damaged"),
        ("trials/0003/checkpoints/0002/lora.safetensors", "trials/0003/lora.safetensors.damaged"),
        ("cache/probe/arrays.npz", "cache/arrays.npz.damaged"),
    ],
)
def test_a_folder_among_files_is_moved_out_of_their_folder(tmp_path: Path, inner: str, kept: str) -> None:
    (tmp_path / inner).mkdir(parents=True)
    (tmp_path / inner / "x").touch()
    (said,) = right_kinds(StudyFolder(tmp_path))
    assert said == f"{tmp_path / inner}: a file is needed here; what was there is now {tmp_path / kept}"
    assert tree(tmp_path) == {f"{kept}/x"}

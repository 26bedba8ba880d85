"""Damaged files leave the way and are kept, under a name that says so."""

from collections.abc import Iterable
from pathlib import Path

from search.record.final_run import AVERAGE, TWIN
from search.record.record import StudyFolder


def set_aside(path: Path) -> Path:
    """Rename a file or folder, if it is there, to `name.damaged`, or the next such name that is free; returns it."""
    kept = free_name(path)
    if path.exists() or path.is_symlink():
        path.rename(kept)
    return kept


def free_name(path: Path) -> Path:
    """The name under which a damaged file or folder is kept."""
    kept, count = path.with_name(f"{path.name}.damaged"), 1
    while kept.exists() or kept.is_symlink():
        count += 1
        kept = path.with_name(f"{path.name}.damaged-{count}")
    return kept


def right_kinds(folder: StudyFolder) -> list[str]:
    """Set aside what is no folder where one has to be, or a folder where a file has to be; nothing is loaded for it."""
    cache = folder.cache
    folders = [folder.path / "artifacts", folder.best_folder, folder.path / "trials", folder.path / ".workers"]
    folders += [cache, cache / "probe", cache / "latents", cache / "features"]
    folders += [folder.trial(number) for number in folder.folders()]
    folders += [
        folder.trial(number) / name
        for number in folder.folders()
        for name in ("readings", "checkpoints", "samples", TWIN, AVERAGE)
    ]
    files = [
        folder.study_file,
        folder.verdict_file,
        folder.report,
        folder.path / "study.json",
        folder.path / "workers.log",
    ]
    files += [folder.path / name for name in ("clock.json", "handed_on.json", "inputs.json", "probe.json")]
    names = ("record.json", "config.yaml", "trajectory.csv", "items.npz", "sheet.png", "onset.png", "behaviour.png")
    files += [folder.trial(number) / name for number in folder.folders() for name in names]
    return _folders_where_files_are(folders, files) + _folders_among_files(folder)


def _folders_among_files(folder: StudyFolder) -> list[str]:
    """Move folders out of the places that hold nothing but files, whose names are counted on."""
    homes = [folder.trial(number) for number in folder.folders()]
    places = [(place, home) for home in homes for place in (home / "readings", home / "samples")]
    places += [(checkpoint, home) for home in homes for checkpoint in home.glob("checkpoints/[0-9]*")]
    notes = []
    for place, home in [*places, (folder.cache / "probe", folder.cache)]:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                kept = free_name(home / path.name)
                path.rename(kept)
                notes.append(f"{path}: a file is needed here; what was there is now {kept}")
    return notes


def _folders_where_files_are(folders: Iterable[Path], files: Iterable[Path]) -> list[str]:
    """Set aside what is no folder among `folders`, and what is no file among `files`; says so in a line each."""
    notes = []
    for paths, wrong, needed in ((folders, _is_no_folder, "folder"), (files, _is_no_file, "file")):
        for path in paths:
            if wrong(path):
                notes.append(f"{path}: a {needed} is needed here; what was there is now {set_aside(path).name}")
    return notes


def _is_no_folder(path: Path) -> bool:
    return (path.exists() or path.is_symlink()) and not path.is_dir()


def _is_no_file(path: Path) -> bool:
    return (path.exists() or path.is_symlink()) and not path.is_file()

"""What disks, sync tools and people do to a study's folder between two sittings, one function for each kind.

The folder holds two trials: 0 has ended, 1 is under way with a few checkpoints behind it.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from search.record.record import StudyFolder

Plant = Callable[[StudyFolder], object]
Change = Callable[[Path], None]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def text(path: Path) -> None:
    path.write_text("<html>Sign in to your cloud</html>")


def as_file(path: Path) -> None:
    delete(path)
    path.write_text("no folder")


def as_folder(path: Path) -> None:
    delete(path)
    path.mkdir()


def _file(change: Change, *parts: str) -> Plant:
    return lambda folder: change(folder.path.joinpath(*parts))


def _each(change: Change, pattern: str) -> Plant:
    def plant(folder: StudyFolder) -> None:
        found = [path for path in folder.path.glob(pattern) if path.is_file()]
        assert found, pattern
        for path in found:
            change(path)

    return plant


def _newest(change: Change, where: str, name: str = "") -> Plant:
    """Of the trial under way."""

    def plant(folder: StudyFolder) -> None:
        newest = max(p for p in (folder.trial(1) / where).iterdir() if p.name[:4].isdigit())
        change(newest / name if name else newest)

    return plant


def _kinds(label: str, changes: tuple[Change, ...], *parts: str) -> dict[str, Plant]:
    return {f"{label} {change.__name__}": _file(change, *parts) for change in changes}


def _newest_kinds(label: str, changes: tuple[Change, ...], where: str, name: str = "") -> dict[str, Plant]:
    return {f"{label} {change.__name__}": _newest(change, where, name) for change in changes}


def _changed_value(folder: StudyFolder) -> None:
    path = folder.trial(0) / "record.json"
    values = json.loads(path.read_text())
    values["value"] += 0.25
    path.write_text(json.dumps(values))


def _changed_score(folder: StudyFolder) -> None:
    path = folder.trial(0) / "trajectory.csv"
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    cells[-1] = "0.987"
    path.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")


def _without_trial(folder: StudyFolder) -> None:
    """An older copy of the database comes back: the second trial is not in it, the first one still runs."""
    with sqlite3.connect(folder.database) as database:
        database.execute("DELETE FROM trials WHERE number = 1")
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 0")
        database.execute("DELETE FROM trial_values")
    database.close()


def _tables_gone(folder: StudyFolder) -> None:
    with sqlite3.connect(folder.database) as database:
        database.execute("DROP TABLE trials")
    database.close()


def _index_gone(folder: StudyFolder) -> None:
    """One that nothing reads, so that the database opens as if it were whole."""
    with sqlite3.connect(folder.database) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        index = "sqlite_autoindex_study_user_attributes_1"
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (index,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with folder.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


def _empty_checkpoint(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _states(folder: StudyFolder) -> None:
    for path in folder.trial(1).glob("checkpoints/*/state.*"):
        path.unlink()


def _without_its_log(plant: Plant) -> Plant:
    """SQLite would heal the damage from its write-ahead log, where the last writer was killed."""

    def planted(folder: StudyFolder) -> None:
        for end in ("-wal", "-shm"):
            folder.database.with_name(folder.database.name + end).unlink(missing_ok=True)
        plant(folder)

    return planted


def _database_gone(folder: StudyFolder) -> None:
    for path in folder.path.glob("study.db*"):
        path.unlink()


def _database_and_record_gone(folder: StudyFolder) -> None:
    _database_gone(folder)
    empty(folder.trial(0) / "record.json")


ENDED: dict[str, Plant] = {
    **_kinds("record", (truncate, empty, delete, text, as_folder), "trials/0000/record.json"),
    "record with another value": _changed_value,
    **_kinds("folder", (delete, as_file), "trials/0000"),
    **_kinds("trajectory", (truncate, empty, delete, text), "trials/0000/trajectory.csv"),
    "trajectory with another score": _changed_score,
    **_kinds("items", (truncate, flip, empty, delete, as_folder), "trials/0000/items.npz"),
    "LoRA of the shipped epoch truncate": _each(truncate, "trials/0000/checkpoints/*/lora.safetensors"),
    "LoRA of the shipped epoch flip": _each(flip, "trials/0000/checkpoints/*/lora.safetensors"),
    **_kinds("sample", (truncate, flip, empty), "trials/0000/samples/0001.png"),
    **_kinds("base sample", (truncate, as_folder), "trials/0000/samples/0000.png"),
    **_kinds("sheet", (truncate, flip), "trials/0000/sheet.png"),
}
"""Of the trial that has ended."""

RUNNING: dict[str, Plant] = {
    **_newest_kinds("state.json", (truncate, flip, delete, as_folder), "checkpoints", "state.json"),
    **_newest_kinds("state.safetensors", (truncate, flip, delete), "checkpoints", "state.safetensors"),
    "every state delete": _states,
    **_newest_kinds("newest LoRA", (truncate, flip, delete), "checkpoints", "lora.safetensors"),
    "newest checkpoint empty": _newest(_empty_checkpoint, "checkpoints"),
    **_newest_kinds("newest readings", (truncate, flip, empty, delete, as_folder), "readings"),
    **_kinds("first readings", (truncate, flip), "trials/0001/readings/0001.npz"),
    **_kinds("base readings", (truncate, delete), "trials/0001/readings/0000.npz"),
    **_kinds("running record", (empty,), "trials/0001/record.json"),
    **_kinds("config", (delete,), "trials/0001/config.yaml"),
    **_kinds("running folder", (delete,), "trials/0001"),
    **_kinds("readings", (as_file,), "trials/0001/readings"),
}
"""Of the trial under way."""

_DATABASE = _kinds("database", (truncate, empty, text, as_folder), "study.db")
STUDY: dict[str, Plant] = {
    **{name: _without_its_log(plant) for name, plant in _DATABASE.items()},
    "database deleted": _database_gone,
    "database deleted and a record emptied": _database_and_record_gone,
    "database of an earlier day": _without_trial,
    "a table dropped": _tables_gone,
    "an index overwritten": _index_gone,
    **_kinds("study.json", (empty, delete, text), "study.json"),
    "study.json {}": lambda folder: (folder.path / "study.json").write_text("{}"),
    **_kinds("study.yaml", (delete, as_folder), "study.yaml"),
    **_kinds("artifacts", (as_file, delete), "artifacts"),
    **_kinds("workers.log", (as_folder,), "workers.log"),
}
"""Of the study as a whole."""

CACHE: dict[str, Plant] = {
    **_kinds("probe.json", (truncate, flip, empty, delete), "cache/probe/probe.json"),
    "probe.json {}": lambda folder: (folder.cache / "probe" / "probe.json").write_text("{}"),
    **_kinds("calibration", (truncate, flip, delete, as_folder), "cache/probe/calibration.npz"),
    **_kinds("arrays", (truncate, flip, delete), "cache/probe/arrays.npz"),
    **_kinds("the base's readings", (truncate, flip, delete), "cache/probe/base_readings.npz"),
    **_kinds("the base's pictures", (truncate, flip), "cache/probe/base.png"),
    **_kinds("cache", (delete, as_file), "cache"),
    "latents truncate": _each(truncate, "cache/latents/*/*"),
    "latents flip": _each(flip, "cache/latents/*/*"),
    "features truncate": _each(truncate, "cache/features/*/*/*"),
    "features flip": _each(flip, "cache/features/*/*/*"),
}
"""Of what is computed once."""

FINISHED: dict[str, Plant] = {
    **_kinds("best", (delete, as_file), "best"),
    **_kinds("verdict", (text, empty, delete), "verdict.json"),
    **_kinds("report", (delete,), "report.html"),
}
"""Of a study that has ended: planted after its verdict."""

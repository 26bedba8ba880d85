"""What a study is once it has ended: what it must be whoever was killed, and what must not be made a second time."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from search.record.record import StudyFolder
from tests.search.crash_points import outcome

_OF_THE_CLOCK = {"timings", "memory", "seconds", "gpu_hours", "wall_seconds", "took", "epoch_seconds", "look_seconds"}
"""Names of what a clock or the memory of a process says."""

Made = dict[str, tuple[int, int]]


def numbers(folder: StudyFolder) -> dict[str, Any]:
    """All that a study leaves: in Optuna, records, trajectories, verdict, the LoRA to ship, names and sizes of files;
    without what a clock says."""
    found: dict[str, Any] = _without(outcome(folder))
    for name in ("train", "sample", "score", "save"):
        found["verdict"]["cost"].pop(name, None)
    there = (path for path in found["files"] if not path.startswith((".workers/", "error.log")))
    found["files"] = {path: found["files"][path] if path.endswith(".csv") else 0 for path in there}
    found["lora"] = [_weights(path) for path in sorted(folder.best_folder.glob("*.safetensors"))]
    loras = sorted(folder.path.glob("trials/*/checkpoints/*/lora.safetensors"))
    found["weights"] = {str(path.relative_to(folder.path)): _weights(path) for path in loras}
    return found


def _weights(path: Path) -> dict[str, str]:
    """A digest of each tensor's bytes; the header says when it was trained."""
    return {name: sha256(array.tobytes()).hexdigest() for name, array in sorted(load_file(path).items())}


def made(folder: Path) -> Made:
    """Checkpoints and readings that are there, each by its inode and the time at which it was written."""
    found: Made = {}
    for pattern in ("trials/*/checkpoints/[0-9]*/lora.safetensors", "trials/*/readings/[0-9]*.npz"):
        for path in folder.glob(pattern):
            try:
                about = path.stat()
            except FileNotFoundError:  # tidied at this moment
                continue
            found[str(path.relative_to(folder))] = (about.st_ino, about.st_mtime_ns)
    return found


def made_twice(before: Made, now: Made) -> list[str]:
    """What was there and has been made again since."""
    return sorted(path for path, about in now.items() if before.get(path, about) != about)


def moment(folder: StudyFolder, trials: int) -> str:
    """Where in a study's course we are."""
    ended = sum(1 for path in folder.path.glob("trials/[0-9]*/trajectory.csv"))
    if ended >= trials:
        return "finals and verdict"
    begun = next(folder.path.glob("trials/[0-9]*/readings/[0-9]*.npz"), None)
    return "trials" if ended or begun is not None else "before the first checkpoint"


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if key not in _OF_THE_CLOCK}
    return [_without(one) for one in value] if isinstance(value, list) else value

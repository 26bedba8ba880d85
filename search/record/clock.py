"""Time that a study has taken over all its sittings; a kill loses a few seconds of it."""

import time

from search.record.json_files import read_json, write_json
from search.record.record import StudyFolder

_EVERY_SECONDS = 5.0


class Clock:
    """Runs from now on, on top of what earlier sittings of the study noted in `clock.json`."""

    def __init__(self, folder: StudyFolder) -> None:
        self._path = folder.path / "clock.json"
        self._began = time.monotonic() - noted_seconds(folder)
        self._noted = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time taken so far, earlier sittings included."""
        return time.monotonic() - self._began

    def tick(self) -> None:
        """Note the time now and then; to be called often."""
        if time.monotonic() - self._noted >= _EVERY_SECONDS:
            self.note()

    def note(self) -> None:
        """Note the time now."""
        self._noted = time.monotonic()
        if not self._path.parent.is_dir():  # moved while it ran
            return
        write_json(self._path, {"seconds": round(self.seconds, 1)})


def noted_seconds(folder: StudyFolder) -> float:
    """Seconds that earlier sittings noted; 0 when nobody did, or nobody can read it any more."""
    for name in ("clock.json", "study.json"):  # studies begun with 0.1 have it in the latter
        try:
            return max(0.0, float(read_json(folder.path / name)["seconds"]))
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return 0.0

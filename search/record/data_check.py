"""What a data check says to the flow that it is part of: whether photos or captions should change first."""

from dataclasses import dataclass, fields
from pathlib import Path

from search.record.json_files import checked, read_json
from search.record.record import StudyFolder

FILE = "data_check.json"


@dataclass(frozen=True)
class _Checked:
    needs_changes: bool = False
    page: str = FILE


def why_to_stop(folder: StudyFolder) -> Path | None:
    """The page that says which photos or captions should change; None where none should, or nothing was checked."""
    try:
        found = checked(_Checked, {f.name for f in fields(_Checked)}, read_json(folder.path / FILE))
    except (OSError, ValueError):
        return None
    return folder.path / found.page if found.needs_changes else None

"""The time of a study over all its sittings."""

import json
import shutil
from pathlib import Path

import pytest

from search.record.clock import Clock, noted_seconds
from search.record.record import StudyFolder


def test_a_sitting_goes_on_where_the_one_before_was_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    folder, file = StudyFolder(tmp_path), tmp_path / "clock.json"
    clock = Clock(folder)
    now[0] += 4.9
    clock.tick()
    assert not file.exists(), "every five seconds"
    now[0] += 0.1
    clock.tick()
    assert (clock.seconds, noted_seconds(folder)) == (5.0, 5.0)
    now[0] += 4.0
    clock.tick()
    assert noted_seconds(folder) == 5.0
    clock.note()
    assert noted_seconds(folder) == 9.0
    now[0] = 7.0  # another start of the machine
    again = Clock(folder)
    now[0] += 2.06
    assert again.seconds == pytest.approx(11.06)
    again.note()
    assert json.loads(file.read_text()) == {"seconds": 11.1}
    shutil.rmtree(tmp_path)
    again.note()
    assert not tmp_path.exists(), "moved while it ran"


@pytest.mark.parametrize(
    ("clock", "study", "seconds"),
    [
        ('{"seconds": 3}', '{"seconds": 8}', 3.0),
        ("{", '{"seconds": 8}', 8.0),
        ("{}", '{"seconds": 8}', 8.0),
        ('{"seconds": null}', "[]", 0.0),
        (None, '{"seconds": 8}', 8.0),
        ('{"seconds": -3}', None, 0.0),
        (None, None, 0.0),
    ],
)
def test_what_cannot_be_read_is_looked_for_where_it_was_kept_before(tmp_path: Path, clock, study, seconds) -> None:
    for name, text in (("clock.json", clock), ("study.json", study)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert noted_seconds(StudyFolder(tmp_path)) == seconds

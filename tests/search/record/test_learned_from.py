"""What a study's sampler learned from is kept with it, where it learned from others."""

from pathlib import Path

from search.record.learned_from import Example, LearnedFrom
from search.record.record import StudyFolder


def test_it_is_read_as_it_was_kept_and_nothing_is_kept_of_nobody(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    LearnedFrom().save(folder)
    assert list(tmp_path.iterdir()) == []
    assert LearnedFrom.load(folder) is None
    found = LearnedFrom(("earlier",), (Example({"rank": 8, "optimizer": "AdamW"}, 0.5),))
    found.save(folder)
    assert LearnedFrom.load(folder) == found
    LearnedFrom.file(folder).write_text("{")
    assert LearnedFrom.load(folder) is None

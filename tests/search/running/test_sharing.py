"""How many trials share passes follows from the study file."""

from pathlib import Path
from typing import Any

import pytest

from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running.pack_measure import settled
from search.running.sharing import Sharing, known, sharing_of
from search.study.study import Study, load_study

SPAN = {"min": 0.0, "max": 0.2}


@pytest.mark.parametrize(
    ("changes", "asked", "expected"),
    [
        ({}, 1, Sharing()),
        ({}, 4, Sharing(4, 4, 8)),
        ({"budget": {"trials": 6}, "workers": {"count": 2}}, 8, Sharing(3, 3, 8)),
        ({"search": {"rank": {"min": 2, "max": 32}}}, 4, Sharing(4, 4, 32)),
        ({"search": {"batch_size": {"values": [1, 2]}, "noise_offset": SPAN}}, 4, Sharing(4, 2, 16)),
        ({"search": {"batch_size": {"values": [1, 2, 4]}, "noise_offset": SPAN}}, 4, Sharing(alone=("batch_size",))),
        ({"search": {"caption_dropout": SPAN}}, 8, Sharing(alone=("caption_dropout",))),
        ({"search": {"dora": {"value": True}, "noise_offset": SPAN}}, 4, Sharing(alone=("dora",))),
        ({"search": {"dora": {"values": [True, False]}, "noise_offset": SPAN}}, 4, Sharing(4, 4, 16)),
    ],
)
def test_as_many_as_asked_for_where_they_can(write_study, changes: dict[str, Any], asked: int, expected) -> None:
    study = load_study(write_study(**{"budget": {"trials": 40}, **changes}))
    found = sharing_of(study, asked)
    assert found == expected
    assert not isinstance(found.max_rank, float)
    assert bool(expected.notes) == bool(expected.alone)


def test_what_was_found_counts_for_what_was_asked(write_study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert PackWidth.load(folder, "auto") is None
    PackWidth("auto", 4, 2).save(folder)
    assert PackWidth.load(folder, "auto") == PackWidth("auto", 4, 2)
    assert PackWidth.load(folder, 4) is None
    study = load_study(write_study(budget={"trials": 40}, workers={"pack": "auto"}))
    nothing_to_measure: Any = None
    assert settled(study, folder, nothing_to_measure) == sharing_of(study, 4)
    PackWidth.file(folder).write_text("half")
    assert PackWidth.load(folder, "auto") is None


def test_a_study_of_few_trials_needs_no_measuring_and_keeps_to_that(write_study, tmp_path: Path) -> None:
    def study(trials: int, pack: int | str = "auto") -> Study:
        return load_study(write_study(budget={"trials": trials}, workers={"pack": pack, "count": 2}))

    folder = StudyFolder(tmp_path)
    assert known(study(40), folder) is None
    assert known(study(40, 4), folder) == sharing_of(study(40), 4)
    assert known(study(15), folder) == Sharing()  # no place would see four trials in turn, were there two on a worker
    assert known(study(40), folder) == Sharing()  # its first trials were trained by themselves
    PackWidth.file(folder).unlink()
    assert known(study(16), folder) is None

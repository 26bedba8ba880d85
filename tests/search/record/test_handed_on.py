"""What one study hands on to the next, and what a record says by its twins and by what it has taken."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metrics.onset.onset import find_onset
from search.record.added_prompts import AddedPrompts
from search.record.handed_on import HandedOn, result_of
from search.record.json_files import write_json
from search.record.record import StudyFolder, TrialRecord
from search.record.taken_run import TakenRun
from search.record.twins import Twins, trainings
from tests.search.any_config import CONFIG
from tests.search.finished_studies import Plan, planted

ONSET = find_onset(planted(Plan({}, turn=18), 40, 0))
RECORD = TrialRecord(0, "complete", CONFIG, {}, 40, 40, epoch_shipped=18, score=0.5)
VERDICT = {"study": "dog", "headline": "Ship it", "decision": {"ship": True, "trial": 0, "epoch": 8},
           "config": CONFIG.model_dump(mode="json"), "files": {"LoRA": "best/dog.safetensors"},
           "trials": {"0": "complete"}}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ("dog", 8, 0, "Ship it", "best/dog.safetensors", CONFIG)),
        ({"files": {}}, ("dog", 8, 0, "Ship it", "", CONFIG)),
        ({"config": {}}, ("dog", 8, 0, "Ship it", "best/dog.safetensors", None)),
        ({"finished_run": {"files": {8: "a"}, "unit": "epoch"}},
         ("dog", 8, 0, "Ship it", "best/dog.safetensors", None)),
        ({"finished_run": {"files": {8: "a"}, "unit": "step"}}, "it counts steps"),
        ({"decision": {"ship": False, "trial": 0, "epoch": 8}}, "its verdict is: Ship it"),
        ({"decision": {"ship": True, "epoch": 8}}, "its verdict is: Ship it"),
        ({"decision": {"ship": True, "trial": 0}}, "its verdict is: Ship it"),
        ({"trials": {"0": "pruned"}}, "it has gone on"),
        ({"trials": {}}, "it has gone on"),
        ({"headline": None}, "it has no verdict yet"),
    ],
)  # fmt: skip
def test_what_ships_is_handed_on_or_why_nothing_is(tmp_path: Path, changes: dict[str, Any], found: Any) -> None:
    folder = StudyFolder(tmp_path)
    assert result_of(folder) == "it has no verdict yet"
    RECORD.save(folder.trial(0))
    write_json(folder.verdict_file, VERDICT | changes)
    said = result_of(folder)
    if isinstance(found, str):
        assert isinstance(said, str)
        assert said.startswith(found)
        return
    *rest, lora, config = found
    assert isinstance(said, HandedOn)
    assert said == HandedOn(*rest, lora and str(tmp_path.resolve() / lora), said.config)
    assert (said.config is None) == (config is None)
    assert said.to_come is False


def test_twins_count_where_they_were_trained_as_the_trial_is() -> None:
    moved = Twins(3, 40, 18, onset=replace(ONSET, best=12), score=0.4, own_score=0.3)
    assert (moved.shipped, moved.moved) == (12, True)
    found = RECORD.with_twins(moved)
    assert (found.epoch_shipped, found.score, found.own_score, found.onset) == (12, 0.4, 0.3, moved.onset)
    stays = RECORD.with_twins(replace(moved, onset=replace(ONSET, best=18)))
    assert (stays.epoch_shipped, stays.score, stays.own_score) == (18, 0.5, None)
    unread = RECORD.with_twins(replace(moved, onset=None))
    assert (unread.epoch_shipped, unread.onset, unread.twins) == (18, None, replace(moved, onset=None))
    assert not replace(moved, onset=None).moved
    for other in (replace(RECORD, epochs_trained=38), replace(RECORD, state="pruned")):
        assert other.with_twins(moved) is other
    assert RECORD.with_twins(None) is RECORD
    assert [trainings(count) for count in range(4)] == [0, 0, 1, 2]


def test_a_record_says_what_it_has_not_trained() -> None:
    config = CONFIG.model_copy(update={"save_every_n_epochs": 2})
    taken = TakenRun("dog", 3, looked=8, trained=6, epoch_seconds=10.0, look_seconds=1.0)
    record = replace(RECORD, config=config, taken=taken)
    assert (record.saved_epochs, record.saved_seconds) == (6, 64.0)


def test_prompts_that_are_added_twice_are_added_once(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    one = AddedPrompts().joined_by(["{trigger} {class}, snow"], ("sks", "dog"))
    assert one == AddedPrompts(("{trigger} {class}, snow",), ("sks dog, snow",))
    two = one.joined_by(["{trigger} {class}, snow", "a {class}"], ("sks", "dog"))
    assert two == AddedPrompts((*one.templates, "a {class}"), ("sks dog, snow", "a dog"))
    two.save(folder)
    assert AddedPrompts.load(folder) == two
    AddedPrompts.file(folder).write_text("[]")
    assert AddedPrompts.load(folder) == AddedPrompts()

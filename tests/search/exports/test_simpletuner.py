"""What SimpleTuner is told of a run, setting by setting."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.errors import SearchError
from search.exports.option_tables import OptionTable
from search.exports.simpletuner import for_simpletuner
from tests.search.base_predictions import traits
from tests.search.exports.each_setting import assert_a_setting_changes_what_it_should_and_nothing_else
from tests.search.exports.exported import make_run


def test_a_setting_changes_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    assert_a_setting_changes_what_it_should_and_nothing_else(tmp_path, "SimpleTuner")


def test_every_name_of_both_files_is_held_against_its_own_list(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(OptionTable, "check", lambda table, section, values: seen.append((section, len(values))))
    made = for_simpletuner(make_run(photos), Path("/out"))
    backends = json.loads(made.files["multidatabackend.json"])
    assert seen == [
        ("config", len(json.loads(made.files["config.json"]))),
        *(("backend", len(each)) for each in backends),
    ]


def test_a_base_that_predicts_what_it_cannot_train_is_refused(photos: Path) -> None:
    base = replace(traits(), prediction_type="sample")
    with pytest.raises(SearchError, match="predicts sample"):
        for_simpletuner(make_run(photos, base), Path("/out"))

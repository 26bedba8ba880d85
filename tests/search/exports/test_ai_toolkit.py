"""What ai-toolkit is told of a run, setting by setting."""

from dataclasses import replace
from pathlib import Path

import pytest

from search.errors import SearchError
from search.exports.ai_toolkit import for_ai_toolkit
from tests.search.base_predictions import traits
from tests.search.exports.each_setting import assert_a_setting_changes_what_it_should_and_nothing_else
from tests.search.exports.exported import make_run


def test_a_setting_changes_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    assert_a_setting_changes_what_it_should_and_nothing_else(tmp_path, "ai-toolkit")


def test_a_base_that_predicts_what_it_cannot_train_is_refused(photos: Path) -> None:
    base = replace(traits(), prediction_type="sample")
    with pytest.raises(SearchError, match="predicts sample"):
        for_ai_toolkit(make_run(photos, base), Path("/out"))

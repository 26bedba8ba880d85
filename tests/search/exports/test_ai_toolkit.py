"""What ai-toolkit is told of a run, setting by setting."""

from pathlib import Path

from tests.search.exports.each_setting import assert_a_setting_changes_what_it_should_and_nothing_else


def test_a_setting_changes_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    assert_a_setting_changes_what_it_should_and_nothing_else(tmp_path, "ai-toolkit")

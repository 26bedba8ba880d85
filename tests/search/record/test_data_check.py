"""What a data check found, as it is kept and read: by this version, an earlier and a later one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.errors import DamagedError, VersionError
from search.record.data_check import DataCheck, Evidence, Finding, TagEffect, why_to_stop
from search.record.record import StudyFolder

TAG = TagEffect("snow", 1.0, 0.9, 1.1, 2.0, 1.9, 2.1, 3.0, 2.9, 3.1, chance=0.5, verdict="lost")


def test_a_data_check_counts_once_drawings_were_looked_at_and_its_page_is_there(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert DataCheck.of(folder) is None
    check = DataCheck("dog", "digest", 8, 7.5, findings=(Finding("blurred", "replace", ("a.png",)),), trained=True)
    assert check.save(tmp_path) == tmp_path / "data_check.json"
    assert DataCheck.of(folder) is None, "its page is gone"
    (tmp_path / check.page).touch()
    assert DataCheck.of(folder) == check
    replace(check, trained=False).save(tmp_path)
    assert DataCheck.of(folder) is None
    needs = {action: Finding("blurred", action).needs_change for action in ("replace", "keep_one", "retag", "know")}
    assert needs == {"replace": True, "keep_one": True, "retag": True, "know": False}


@pytest.fixture
def check() -> DataCheck:
    findings = (
        Finding("blurred", "replace", ("a.png",), evidence=(Evidence("width", 3.0, usual=1.0),)),
        Finding("wrong_tag", "retag", ("a.png", "b.png"), tag="snow", shown="beach", proposed=("one", "two")),
        Finding("tag_everywhere", "reword", ("a.png",), tag="photo", proposed=("last",)),
    )
    return DataCheck("dog", "digest", 8, 7.5, 1.5, 4.5, findings, (TAG,), ("Nobody read it.",))


def test_it_is_read_as_it_was_written_in_the_first_form(check: DataCheck, tmp_path: Path) -> None:
    check.save(tmp_path)
    kept = json.loads((tmp_path / "data_check.json").read_text())
    assert (kept["version"], kept["needs_changes"], kept["page"]) == (1, True, "data_check.html")
    assert DataCheck.load(tmp_path) == check
    assert check.captions == {"a.png": "last", "b.png": "two"}, "of several for one photo the last"


@pytest.mark.parametrize(("version", "error"), [(None, None), (1, None), (2, VersionError), ("new", DamagedError)])
def test_a_later_form_is_refused_and_a_file_without_one_is_of_the_first(
    check: DataCheck, tmp_path: Path, version: object, error: type[Exception] | None
) -> None:
    kept = json.loads(check.save(tmp_path).read_text())
    kept = {key: value for key, value in kept.items() if key != "version"}
    (tmp_path / "data_check.json").write_text(json.dumps(kept | ({} if version is None else {"version": version})))
    if error is None:
        assert DataCheck.load(tmp_path) == check
    else:
        with pytest.raises(error, match=r"data_check\.json"):
            DataCheck.load(tmp_path)


@pytest.mark.parametrize("content", [None, "[]", "{", '{"study": 3}'])
def test_what_is_no_data_check_is_damaged_and_stops_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "data_check.json").write_text(content)
    with pytest.raises(DamagedError, match="damaged or missing"):
        DataCheck.load(tmp_path)
    assert DataCheck.of(StudyFolder(tmp_path)) is None
    assert why_to_stop(StudyFolder(tmp_path)) is None


def test_a_flow_is_stopped_where_something_has_to_change_and_sent_to_the_page(check: DataCheck, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert why_to_stop(folder) is None
    check.save(tmp_path)
    assert why_to_stop(folder) == tmp_path / "data_check.html"
    replace(check, page="other.html").save(tmp_path)
    assert why_to_stop(folder) == tmp_path / "other.html"
    advice = replace(check, findings=check.findings[2:])
    assert not advice.needs_changes
    advice.save(tmp_path)
    assert why_to_stop(folder) is None

"""Files of a checkpoint that a trial takes from another one."""

from pathlib import Path

import pytest

from search.running.same_runs import _linked


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_linked_where_it_can_be_and_copied_elsewhere(tmp_path: Path, monkeypatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    (tmp_path / "one").write_text("weights")
    _linked(str(tmp_path / "one"), str(tmp_path / "two"))
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["weights"] * 2
    assert (tmp_path / "two").samefile(tmp_path / "one") == links

"""A data check through the command line: photos alone, then with a short training."""

import shutil
from pathlib import Path

import pytest

from search import data_check, run
from search.findings.sentences import headline
from search.record.data_check import DataCheck
from search.verdict.verdict import Verdict

DEMO = Path(__file__).parents[2] / "studies" / "demo"
STUDY = """
study: small
base: {demo}/base
data: photos
train: {{resolution: 64, batch_size: 1, optimizer: AdamW, epochs: 2, rank: 4, alpha: 4, save_every_n_epochs: 1}}
data_check: {{seeds: 1, captions: 3, tags: 4}}
score:
  encoder: {demo}/clip
  holdout: 0
  probe: {{seeds: 1, steps: 2, trained: 1, heldout: 0, contexts: ["{{trigger}} {{class}}, snow"]}}
  losses: {{levels: 2, draws: 1}}
  shifted: {{composites: 0}}
workers: {{count: 1, threads: 1}}
"""


@pytest.fixture
def study(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    shelf = shutil.copytree(DEMO / "photos" / "1_zor toy", tmp_path / "photos" / "1_zor toy")
    for file in sorted(shelf.iterdir())[16:]:
        file.unlink()
    path = tmp_path / "small.yaml"
    path.write_text(STUDY.format(demo=DEMO), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_training_adds_what_tags_do_in_drawings_and_ends_with_the_page(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*") if path.is_file()}
    assert data_check.main([str(study)]) == 0
    alone = DataCheck.load(tmp_path / "runs" / "small")
    assert not alone.trained
    assert run.main([str(study)]) == 0
    trained = DataCheck.load(tmp_path / "runs" / "small")
    assert trained.trained
    assert len(trained.tags) == 4
    assert [f for f in trained.findings if f.kind == "repeated"] == [f for f in alone.findings if f.kind == "repeated"]
    assert "What each tag does in drawings" in (tmp_path / "runs" / "small" / "data_check.html").read_text()
    assert {path: path.read_bytes() for path in before} == before
    assert Verdict.load(tmp_path / "runs" / "small" / "verdict.json").said.headline == f"{headline(trained)}."
    assert '<a href="data_check.html">' in (tmp_path / "runs" / "small" / "report.html").read_text()


def test_the_command_looks_photos_over_tells_it_and_writes_what_it_proposes(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shelf = tmp_path / "photos" / "1_zor toy"
    one, *_ = sorted(shelf.glob("*.png"))
    shutil.copy(one, shelf / "again.png")
    shutil.copy(one.with_suffix(".txt"), shelf / "again.txt")
    (shelf / "clip.mp4").write_bytes(b"a video")
    before = {path: path.read_bytes() for path in shelf.iterdir()}
    assert data_check.main([str(study), "--write-captions", "better"]) == 0
    found = DataCheck.load(tmp_path / "runs" / "small")
    assert [set(each.photos) for each in found.findings if each.kind == "repeated"] == [
        {f"{shelf.name}/{one.name}", f"{shelf.name}/again.png"}
    ]
    said = " ".join(capsys.readouterr().out.split())
    assert "again.png" in said
    assert "note: " in said
    assert ".mp4 is a video and not read" in said
    captions = list((tmp_path / "better").rglob("*.txt"))
    assert f"{len(captions)} captions written to better" in said
    assert "again.png" in (tmp_path / "runs" / "small" / "data_check.html").read_text()
    assert {path: path.read_bytes() for path in shelf.iterdir()} == before


def test_a_data_check_searches_nothing(study, capsys):
    study.write_text(study.read_text() + "search: {rank: {values: [4, 8]}}\n", encoding="utf-8")
    assert data_check.main([str(study)]) == 2
    assert "search" in capsys.readouterr().err

"""`--set KEY=VALUE`: settings of the command line go before the file's, and are told as such."""

import re
from pathlib import Path

import pytest
import yaml

from search import run
from search.errors import StudyError
from search.study.study import load_study
from tests.messages import refusal


def test_they_go_before_the_file_and_are_read_as_it_is(write_study) -> None:
    file = write_study(train={"rank": 4, "epochs": 8}, search={"optimizer": {"values": ["AdamW", "Lion"]}})
    settings = ["train.rank=8", "budget.trials=3", "search.optimizer={values: [AdamW]}", "train.learning_rate=1e-3"]
    study = load_study(file, settings)
    assert study.train["rank"] == 8
    assert study.train["epochs"] == 8
    assert study.budget.trials == 3
    assert study.config({"optimizer": "AdamW"}).learning_rate == 1e-3
    assert [entry.values for entry in study.space.entries] == [("AdamW",)]
    same = yaml.safe_load(file.read_text())
    same["train"] |= {"rank": 8, "learning_rate": "1e-3"}
    same["search"]["optimizer"] = {"values": ["AdamW"]}
    same["budget"]["trials"] = 3
    file.write_text(yaml.safe_dump(same))
    assert load_study(file).digest == study.digest


def test_null_takes_out_what_the_file_says(write_study) -> None:
    file = write_study(train={"rank": 4})
    assert load_study(file, ["train.rank=null"]).config({}).rank != 4


@pytest.mark.parametrize(
    ("setting", "key", "given"),
    [
        ("train.rnk=8", "train.rnk", "rnk"),
        ("budget.trials=0", "budget.trials", 0),
        ("budget.trials", "", "budget.trials"),
        ("=3", "", "=3"),
        ("budget..trials=3", "", "budget..trials=3"),
        ("train.rank=[4", "train.rank", "[4"),
        ("train.rank=!!python/object:os.system", "train.rank", "!!python/object:os.system"),
        ("study=other", "study", "other"),
    ],
)
def test_a_wrong_one_is_told_as_one_of_the_command_line(write_study, setting, key, given, tmp_path, capsys) -> None:
    file = write_study()
    assert run.main([str(file), "--runs", str(tmp_path / "runs"), "--set", setting]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --set: ")
    assert said.count("\n") == 1
    if key:
        assert key in said
    assert re.search(refusal(key, given, ""), said) if key else given in said
    assert not (tmp_path / "runs").exists()


def test_the_kept_copy_has_them_and_paths_are_seen_from_the_working_folder(
    write_study, tmp_path: Path, monkeypatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    file = write_study()
    data = yaml.safe_load(file.read_text())["data"]
    (here / "photos").symlink_to((file.parent / data).resolve())
    monkeypatch.chdir(here)
    study = load_study(file, ["data=photos", "budget.trials=7"])
    assert Path(study.data).resolve() == (here / "photos").resolve()
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(study.source.kept())
    assert load_study(copy).budget.trials == 7
    assert load_study(copy).digest == study.digest
    with pytest.raises(StudyError, match="data"):
        load_study(file, ["data=nowhere"])

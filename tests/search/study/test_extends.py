"""A study file that extends another: merged key by key, each mistake told with the file in which it stands."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.errors import StudyError
from search.study.study import load_study
from search.study.study_file import read_study_file
from tests.messages import refusal


def write(path: Path, **values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_ours_goes_before_theirs_and_null_takes_out(tmp_path: Path) -> None:
    write(
        tmp_path / "a.yaml",
        study="theirs",
        seed=3,
        train={"rank": 4, "alpha": 2, "optimizer_args": {"eps": 1e-8}},
        search={"epochs": {"values": [4, 8], "when": {"lr_scheduler": "cosine"}}},
    )
    write(tmp_path / "b.yaml", extends="a.yaml", train={"rank": 8, "optimizer_args": {"betas": [0.9, 0.99]}})
    path = write(tmp_path / "c.yaml", extends="b.yaml", train={"alpha": None}, search={"epochs": {"min": 4, "max": 8}})
    file = read_study_file(path)
    assert file.values == {
        "extends": "b.yaml",
        "seed": 3,
        "train": {"rank": 8, "optimizer_args": {"eps": 1e-8, "betas": [0.9, 0.99]}},
        "search": {"epochs": {"min": 4, "max": 8}},  # an entry is one: {values, min} would be none
    }
    assert file.file_of("train.rank[0]").name == "b.yaml"
    assert file.file_of("search.epochs[1].max").name == "c.yaml"
    assert file.file_of("seed[0]").name == "a.yaml"
    where = {key: file.file_of(key).name for key in ("seed", "train.rank", "train", "search.epochs.max", "train.alpha")}
    assert where == {
        "seed": "a.yaml",
        "train.rank": "b.yaml",
        "train": "b.yaml",
        "search.epochs.max": "c.yaml",
        "train.alpha": "b.yaml",
    }


def test_an_extended_study_is_the_study_written_in_one_file(write_study, tmp_path: Path) -> None:
    whole = write_study()
    values = yaml.safe_load(whole.read_text())
    common = {key: values.pop(key) for key in ("base", "data", "train")}
    write(tmp_path / "common.yaml", **common)
    split = load_study(write(tmp_path / "split.yaml", extends="common.yaml", **values))
    elsewhere = write(tmp_path / "other" / "split.yaml", extends=str(tmp_path / "common.yaml"), **values)
    assert read_study_file(elsewhere).values["base"] == common["base"]
    assert (split.digest, split.probe_digest, split.name) == (
        load_study(whole).digest,
        load_study(whole).probe_digest,
        load_study(whole).name,
    )


def test_paths_are_relative_to_the_file_in_which_they_stand(write_study, tmp_path: Path) -> None:
    values = yaml.safe_load(write_study().read_text())
    write(tmp_path / "common.yaml", base=values.pop("base"), data=values.pop("data"), score=values.pop("score"))
    path = write(tmp_path / "mine" / "deep" / "s.yaml", extends="../../common.yaml", **values)
    study, whole = load_study(path), load_study(write_study())
    assert (study.base, study.data, study.encoder) == (whole.base, whole.data, whole.encoder)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"train": {"rnk": 3}}, "train.rnk"),
        ({"train": {"rank": "big"}}, "train.rank"),
        ({"base": "./nowhere"}, "base"),
        ({"score": {"probe": {"sedes": 3}}}, "score.probe.sedes"),
        ({"score": {"shifted": {"masks": "atuo"}}}, "score.shifted.masks"),
        ({"search": {"rank": {"vales": [1]}}}, "search.rank.vales"),
        ({"budgt": {"trials": 3}}, "budgt"),
    ],
)
def test_a_mistake_is_told_with_the_file_in_which_it_stands(write_study, tmp_path: Path, change: Any, key: str) -> None:
    values = yaml.safe_load(write_study().read_text())
    for name in change:
        values.pop(name, None)
    values.pop("search", None)
    common = write(tmp_path / "common.yaml", **change)
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path / "s.yaml", extends="common.yaml", **values))
    assert [line for line in caught.value.problems if line.startswith(f"{common}: {key}: ")], caught.value.problems


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "a.yaml", extends="b.yaml")
    b = write(tmp_path / "b.yaml", extends="sub/../a.yaml")
    with pytest.raises(StudyError, match=refusal("extends", "sub/../a.yaml", "circle", b)):
        load_study(tmp_path / "a.yaml")
    own = write(tmp_path / "own.yaml", extends="own.yaml")
    with pytest.raises(StudyError, match=r"own\.yaml → own\.yaml"):
        load_study(own)


def test_what_is_kept_repeats_a_path_that_no_disk_can_hold(tmp_path: Path) -> None:
    write(tmp_path / "common.yaml", base="x" * 5000)
    path = write(tmp_path / "mine" / "s.yaml", extends="../common.yaml", study="s")
    assert yaml.safe_load(read_study_file(path).kept())["base"] == "x" * 5000


@pytest.mark.parametrize("named", ["nowhere.yaml", "", 7, ["a.yaml"], "a\0b.yaml", "x" * 5000])
def test_what_cannot_be_extended_is_refused_in_one_line(tmp_path: Path, named: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        f"study: x\nextends: {yaml.safe_dump(named, default_flow_style=True, width=10**6).split(chr(10))[0]}\n"
    )
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]
    expected = "a file that is there" if isinstance(named, str) and named else "the name of another study file"
    assert f"extends: expected {expected}" in caught.value.problems[0] or "\0" in str(named)  # YAML has none


def test_a_damaged_file_that_is_extended_is_told_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("base: [")
    with pytest.raises(StudyError, match=r"common\.yaml: line"):
        load_study(write(tmp_path / "s.yaml", study="x", extends="common.yaml"))


def test_the_kept_copy_needs_no_other_file(write_study, tmp_path: Path) -> None:
    values = yaml.safe_load(write_study().read_text())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / values.pop("base")).rename(tmp_path / "elsewhere" / "base")
    common = write(tmp_path / "elsewhere" / "common.yaml", base="base", train=values.pop("train"))
    path = write(tmp_path / "s.yaml", extends="elsewhere/common.yaml", **values)
    study, kept = load_study(path), tmp_path / "kept.yaml"
    kept.write_bytes(study.source.kept())
    common.unlink()
    again = load_study(kept)
    assert (again.name, again.base, again.train) == (study.name, study.base, study.train)
    assert again.written["base"] == "elsewhere/base"


def test_a_file_that_extends_nothing_is_kept_as_it_is(write_study) -> None:
    path = write_study()
    path.write_text("# mine\n" + path.read_text())
    assert read_study_file(path).kept() == path.read_bytes()


def test_a_file_that_is_not_there_is_told_with_the_one_that_names_it(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", study="a", extends="b.yaml")
    write(tmp_path / "b.yaml", extends="none.yaml")
    with pytest.raises(StudyError) as caught:
        read_study_file(first)
    (line,) = caught.value.problems
    assert line.startswith(f"{tmp_path / 'b.yaml'}: extends: expected a file that is there")
    assert "none.yaml" in line


@pytest.mark.parametrize(("files", "allowed"), [(10, True), (11, False)])
def test_ten_files_may_extend_each_other(tmp_path: Path, files: int, allowed: bool) -> None:
    for number in range(files):
        more = {"extends": f"{number + 1}.yaml"} if number + 1 < files else {}
        write(tmp_path / f"{number}.yaml", **{f"k{number}": number}, **more)
    if allowed:
        found = read_study_file(tmp_path / "0.yaml")
        said = {key: value for key, value in found.values.items() if key != "extends"}
        assert said == {f"k{number}": number for number in range(files)}
        assert found.extended == tuple(tmp_path / f"{number}.yaml" for number in range(1, files))
    else:
        with pytest.raises(StudyError, match="at most 10 files"):
            read_study_file(tmp_path / "0.yaml")

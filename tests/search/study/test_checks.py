"""What is held against what is there: each check says its line where something is wrong, and nothing elsewhere."""

import re
from pathlib import Path
from typing import Any

import pytest

from search.errors import StudyError
from search.study.checks import (
    beside,
    check_finalists,
    check_objective,
    check_sampler,
    check_score,
    check_track,
    check_workers,
    is_folder,
    scan,
)
from search.study.settings import FinalistsSection, SamplerSection, ScoreSection, TrackSection, WorkersSection
from search.study.space import Entry, Space
from search.study.study_file import StudyFile
from tests.messages import refusal

RANKS = Entry("rank", "rank", values=(4, 8))
RATE = Entry("learning_rate_scale", "learning_rate_scale", low=0.5, high=2.0)


def file_in(folder: Path, **values: Any) -> StudyFile:
    """A study file that says this itself."""
    return StudyFile(folder / "s.yaml", values, dict.fromkeys(values, folder / "s.yaml"))


def assert_told(lines: list[str], *expected: tuple[str, Any, str]) -> None:
    """Exactly these: key, what was given, and words of what is expected."""
    assert len(lines) == len(expected), lines
    for line, (key, got, words) in zip(lines, expected, strict=True):
        assert re.search(refusal(key, got, words), line), line
        assert "s.yaml: " in line


@pytest.mark.parametrize(
    ("given", "entries", "told"),
    [
        ({"name": "tpe"}, (RANKS, RATE), []),
        ({"name": "grid"}, (RANKS,), []),
        ({"name": "grid"}, (RANKS, RATE), [("sampler.name", "grid", "at most 4096 configurations")]),
        ({"name": "random"}, (RANKS, RATE), []),
        ({"start_with": [{"rank": 4}, {"rank": 8}]}, (RANKS,), []),
        ({"start_with": [{"rank": 4}, {"rank": 5}, {"alpha": 2}]}, (RANKS,),
         [("sampler.start_with[1].rank", 5, "values that are searched"),
          ("sampler.start_with[2].alpha", 2, "a field that is searched (rank)")]),
        ({"learn_from": ["one", "two"]}, (RANKS,), []),
        ({"learn_from": ["one"], "name": "random"}, (RANKS,), [("sampler.learn_from", ["one"], "nothing")]),
        ({"learn_from": ["one", "a/b"]}, (RANKS,), [("sampler.learn_from[1]", "a/b", "")]),
    ],
)  # fmt: skip
def test_a_sampler_fits_what_is_searched(
    tmp_path: Path, given: dict[str, Any], entries: tuple[Entry, ...], told: list[tuple[str, Any, str]]
) -> None:
    assert_told(check_sampler(file_in(tmp_path), SamplerSection(**given), Space(entries)), *told)


def test_a_sampler_that_is_not_installed_is_told_with_how_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = StudyFile(Path("s.yaml"))
    (line,) = check_sampler(file, SamplerSection(name="cmaes"), Space((RANKS,)))
    assert line.startswith("s.yaml: sampler.name: expected a sampler that is installed, got 'cmaes': pip install")
    assert check_sampler(file, SamplerSection(name="tpe"), Space((RANKS,))) == []
    for name, how in (("tensorboard", "'.[tables]'"), ("wandb", "wandb")):
        (line,) = check_track(file, TrackSection(log_with=name))
        assert line.startswith("s.yaml: track.log_with: expected a tracker that is installed")
        assert line.endswith(how)
    assert check_track(file, TrackSection()) == []


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ({"kind": "ray", "ray": {"gpus": 1}}, []),
        ({"kind": "local", "ray": {"gpus": 1}}, [("workers.ray.gpus", 1, "nothing")]),
        ({"kind": "ray", "ray": {"gpus": 1}, "slurm": {"cpus": 2, "hours": 3}},
         [("workers.slurm.cpus", 2, "nothing"), ("workers.slurm.hours", 3, "nothing")]),
        ({"kind": "slurm", "ray": None}, []),
        ({"kind": "slurm", "device": "cuda:1"}, [("workers.device", "cuda:1", "auto, cpu or cuda")]),
        ({"kind": "slurm", "device": "cuda"}, []),
        ({"device": "cuda:1"}, []),
    ],
)  # fmt: skip
def test_settings_of_another_place_are_refused(
    tmp_path: Path, workers: dict[str, Any], told: list[tuple[str, Any, str]]
) -> None:
    section = WorkersSection.model_validate({key: value for key, value in workers.items() if value is not None})
    lines = check_workers(file_in(tmp_path, workers=workers), section)
    assert_told(lines, *told)
    assert check_workers(file_in(tmp_path), WorkersSection()) == []


SEGMENTER = "a model's name with masks: segmentation"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, []),
        ({"weights": {"copying": 1.0, "copies": 2.0, "prompt": 1.0}},
         [("score.weights.copies", "copies", "copying"), ("score.weights.prompt", "prompt", "")]),
        ({"shifted": {"masks": "salience"}}, [("score.shifted.masks", "salience", "(did you mean saliency?)")]),
        ({"shifted": {"masks": "mine"}}, []),
        ({"shifted": {"masks": "segmentation"}}, [("score.shifted.segmenter", "nothing", SEGMENTER)]),
        ({"shifted": {"masks": "segmentation", "segmenter": "net"}}, []),
        ({"shifted": {"segmenter": "net"}}, []),
        ({"shifted": {"segmenter": "  "}}, [("score.shifted.segmenter", "  ", SEGMENTER)]),
        ({"probe": {"contexts": ["a {trigger} {class}", "a {dog}", " ", "a\nb"]}},
         [("score.probe.contexts[1]", "a {dog}", "text with only {trigger}, {class} in braces"),
          ("score.probe.contexts[2]", " ", "words in one line"),
          ("score.probe.contexts[3]", "a\\nb", "words in one line")]),
        ({"shifted": {"caption": "{trigger}, {context}, {position}, {size}"}}, []),
        ({"shifted": {"caption": "{trigger}, {place}"}},
         [("score.shifted.caption", "{trigger}, {place}", "{context}, {position}, {size}")]),
        ({"shifted": {"contexts": ["a beach\n", "a {trigger}", " ", "a\nb"]}},
         [("score.shifted.contexts[1]", "a {trigger}", "without braces"),
          ("score.shifted.contexts[2]", " ", "in one line"), ("score.shifted.contexts[3]", "a\\nb", "in one line")]),
        ({"encoder": "ViT-B-33/openai"}, [("score.encoder", "ViT-B-33/openai", "ViT-B-32")]),
        ({"identity_encoder": "timm:"}, [("score.identity_encoder", "timm:", "timm:NAME")]),
        ({"encoder": "clip", "identity_encoder": "mine"},
         [("score.identity_encoder", "mine", "a folder that holds open_clip_config.json")]),
    ],
)  # fmt: skip
def test_a_score_says_what_can_be_measured(
    tmp_path: Path, given: dict[str, Any], told: list[tuple[str, Any, str]]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "open_clip_config.json").write_text("{}")
    assert_told(check_score(file_in(tmp_path), ScoreSection.model_validate(given)), *told)


def test_only_a_search_has_finalists_and_an_objective(tmp_path: Path) -> None:
    said = file_in(tmp_path, finalists={}, score={"objective": "m:f"})
    own = StudyFile(said.path, said.values, {"finalists.trials": said.path, "score.objective": said.path})
    extended = StudyFile(
        said.path, said.values, {"finalists.trials": Path("o.yaml"), "score.objective": Path("o.yaml")}
    )
    finalists, score = FinalistsSection(contexts=["a {dog}"]), ScoreSection(objective="m:f")
    assert_told(check_finalists(own, finalists, False), ("finalists", "a section", "nothing"))
    assert_told(check_objective(own, score, False), ("score.objective", "m:f", "nothing"))
    assert check_objective(own, score, True) == check_objective(extended, score, False) == []
    assert check_objective(own, ScoreSection(), False) == []
    for file, searches in ((own, True), (file_in(tmp_path), False), (file_in(tmp_path), True)):
        assert_told(check_finalists(file, finalists, searches), ("finalists.contexts[0]", "a {dog}", "{trigger}"))
    assert len(check_finalists(extended, finalists, False)) == 1
    assert check_finalists(own, FinalistsSection(), True) == []


@pytest.mark.parametrize(
    ("folder", "fits"), [("there", True), ("new/place", True), ("file", False), ("a" * 5000, False)]
)
def test_logs_go_to_a_folder_or_to_a_new_one(tmp_path: Path, folder: str, fits: bool) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    lines = check_track(file_in(tmp_path), TrackSection(logging_dir=folder))
    assert (lines == []) is fits
    assert fits or lines[0].startswith(f"{tmp_path / 's.yaml'}: track.logging_dir: expected a folder")


def test_a_folder_beside_the_file_in_which_it_stands_becomes_an_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "other" / "clip").mkdir(parents=True)
    file = StudyFile(tmp_path / "s.yaml", {}, {"score.encoder": tmp_path / "other" / "o.yaml"})
    assert beside(file, "score.encoder", "clip") == str((tmp_path / "other" / "clip").resolve())
    assert beside(file, "base", "clip") == "clip"
    assert beside(file, "score.encoder", "none") == "none"
    for value in ("", "\0", "a" * 5000):
        assert not is_folder(tmp_path, value)


def captions(folder: Path, *said: str) -> Path:
    """So many photos, with captions."""
    from tests.tiny import make_photos

    make_photos(folder)
    photos = sorted(folder.rglob("*.png"))
    for number, photo in enumerate(photos):
        if number >= len(said):
            photo.unlink()
            photo.with_suffix(".txt").unlink(missing_ok=True)
        else:
            photo.with_suffix(".txt").write_text(said[number])
    return folder


SAID = ("sks, beach", "sks, beach", "sks, snow", "sks, night", "sks, red", "sks, blue")


@pytest.mark.parametrize(
    ("said", "score", "twins", "told"),
    [
        (SAID, {"holdout": 4}, 0, None),
        (SAID, {"holdout": 5}, 0, ("score.holdout", 5, "at most 4")),
        (SAID, {"holdout": 2, "holdout_contexts": ["beach"]}, 0, None),
        (SAID, {"holdout": 3, "holdout_contexts": ["beach"]}, 0, ("score.holdout", 3, "at most 2")),
        (SAID, {"holdout": 0, "holdout_contexts": ["snow"]}, 0, ("score.holdout_contexts", "snow", "two photos")),
        (SAID, {"holdout": 0, "holdout_contexts": ["snow", "red"]}, 0, None),
        (SAID, {"holdout": 0, "holdout_contexts": ["beach", "none", " "]}, 0,
         ("score.holdout_contexts[1]", "none", "words that captions say")),
        (SAID, {"holdout": 0, "holdout_contexts": ["sks"]}, 0, ("score.holdout_contexts", "sks", "leave two photos")),
        (SAID, {"holdout": 4}, 2, None),
        (SAID, {"holdout": 4}, 3, ("finalists.twins", 3, "at most 2, so that each leaves one out")),
        (SAID[:2], {"holdout": 0}, 0, None),
        (SAID[:2], {"holdout": 1}, 0, ("score.holdout", 1, "at most 0")),
        (SAID[:1], {"holdout": 0}, 0, ("data", "photos", "two photos or more")),
    ],
)  # fmt: skip
def test_enough_photos_are_left_to_train_on(
    tmp_path: Path, said: tuple[str, ...], score: dict[str, Any], twins: int, told: tuple[str, Any, str] | None
) -> None:
    data = captions(tmp_path / "photos", *said)
    section = ScoreSection.model_validate(score)
    if told is None:
        seen = scan(file_in(tmp_path), str(data), None, section, twins)
        assert len(seen.photos) == len(said)
        assert (seen.mask_files, seen.masks_of) == (None, {})
        assert seen.subject == ("sks", "toy")
        return
    with pytest.raises(StudyError) as caught:
        scan(file_in(tmp_path), str(data), None, section, twins)
    line = caught.value.problems[0]
    assert f": {told[0]}: expected " in line
    assert told[2] in line
    assert str(told[1]) in line

"""Likeness against obedience: who is on the front, what is said of it, and the picture of it."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image

from metrics.trajectory.readings import Reading
from metrics.trajectory.trajectory import Trajectory
from search.record.curve import Curve
from search.record.record import StudyFolder, TrialRecord
from search.verdict.artifacts import open_store, publish_verdict
from search.verdict.attributes import study_attributes
from search.verdict.decision import decide
from search.verdict.front import FRONT_PICTURE, Place, front_of, front_sentences, non_dominated
from search.verdict.report import write_report
from search.verdict.verdict import Verdict, finish, make_verdict


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_comparing_each_with_each_finds(seed: int) -> None:
    rng = random.Random(seed)
    points = [(rng.randrange(12), rng.randrange(12)) for _ in range(rng.randrange(1, 60))]  # with many that are equal
    beaten = {row for row, (x, y) in enumerate(points) for a, b in points if a >= x and b >= y and (a, b) != (x, y)}
    assert non_dominated(points) == [row for row in range(len(points)) if row not in beaten]


def test_it_is_optunas(tmp_path: Path) -> None:
    rng = random.Random(7)
    points = [(rng.random(), rng.random()) for _ in range(40)]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "maximize"])
    study.add_trials([optuna.trial.create_trial(values=list(point)) for point in points])
    assert non_dominated(points) == sorted(trial.number for trial in study.best_trials)


def placed(points: list[tuple[float, float]]) -> list[Place]:
    return [Place(number, 10 + number, *point) for number, point in enumerate(points)]


def said(points: list[tuple[float, float]], winner: int) -> str:
    verdict = replace(Verdict("toy"), front=front_of(placed(points), winner))
    return " ".join(front_sentences(verdict))


def test_its_words_name_both_ends_and_where_the_winner_stands() -> None:
    points = [(0.9, -0.4), (0.5, 0.1), (0.7, -0.2), (0.4, -0.3)]
    on = said(points, 2)
    assert "3 of the 4 trials" in on
    assert "trial 0 (epoch 10) is most alike (likeness 0.90, obedience -0.40)" in on
    assert "trial 1 (epoch 11) obeys prompts most (likeness 0.50, obedience +0.10)" in on
    assert "The winner, trial 2 (epoch 12; likeness 0.70, obedience -0.20), is on the front." in on
    off = said(points, 3)
    assert "The winner, trial 3 (epoch 13; likeness 0.40, obedience -0.30), is not on the front: trial 2 is as" in off
    most_alike = said(points, 0)
    assert "trial 0 (the winner, epoch 10) is most alike" in most_alike
    assert most_alike.count("trial 0") == most_alike.count("winner") == 1, "it is told once"
    assert "trial 1 (the winner, epoch 11) obeys prompts most" in said(points, 1)
    alone = said([(0.9, 0.4), (0.5, 0.1)], 0)
    assert alone == (
        "Of the 2 trials that ship something, trial 0 (the winner, epoch 10) is most alike and obeys prompts most "
        "(likeness 0.90, obedience +0.40)."
    )
    assert "trial 0 is as alike or more" in said([(0.9, 0.4), (0.5, 0.1)], 1)
    assert said([(0.9, 0.4)], 0) == ""
    assert said(points, 9) == ""


@pytest.fixture
def folder(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A finished study whose images also obey: the better a trial scores, the less."""
    shutil.copytree(finished_study.path, tmp_path / "runs" / "toy", ignore=shutil.ignore_patterns("artifacts"))
    folder = StudyFolder(tmp_path / "runs" / "toy")
    for record in folder.records():
        if record.state != "failed":
            obeys(folder, record)
    return folder


def obeys(folder: StudyFolder, record: TrialRecord) -> None:
    value = 0.2 - (record.score or 0.0)
    rows = folder.trajectory(record.number).readings
    prompt = {"prompt": Reading(value, value, value)}
    Trajectory(tuple(replace(r, channels={**r.channels, **prompt}) for r in rows)).save(folder.trial(record.number))


def test_every_trial_that_ships_is_there_as_the_search_read_it(folder: StudyFolder) -> None:
    front = make_verdict(folder).front
    ships = [record for record in folder.records() if decide(record).ships]
    assert front is not None
    assert (front.trials, front.winner.trial, front.winner.epoch) == (len(ships), 2, decide(ships[1]).shipped)
    rows = {row.epoch: row for row in folder.trajectory(2).readings}
    assert front.winner.likeness == rows[front.winner.epoch].channels["fidelity"].value
    assert [place.likeness for place in front.places] == sorted((p.likeness for p in front.places), reverse=True)
    assert [place.obedience for place in front.places] == sorted(place.obedience for place in front.places)
    curve = Curve.load(folder.trial(2))
    assert curve is not None
    np.testing.assert_array_equal(curve.also["fidelity"], folder.trajectory(2).values("fidelity")[:, 0])
    assert curve.at(3) == {}


def test_report_dashboard_and_terminal_show_one_picture_and_say_the_same(folder: StudyFolder) -> None:
    published: list[Verdict] = []
    verdict = finish(folder, publish=published.append)
    (sentence,) = front_sentences(verdict)
    assert sentence in verdict.said.why
    assert verdict.files["likeness and obedience"] == FRONT_PICTURE
    page = folder.report.read_text(encoding="utf-8")
    assert page.count(sentence) == 1, "among the words of the verdict; the picture has it, too"
    assert "Likeness against obedience of every trial that ships" in page
    with Image.open(folder.path / FRONT_PICTURE) as picture:
        assert picture.width > 1200
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert (0x3C, 0x7D, 0x4B) in colours, "the winner's star"
    assert Verdict.load(folder.verdict_file).front == verdict.front
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{folder.database}")
    store = open_store(folder)
    publish_verdict(study, folder, verdict, store)
    assert study.user_attrs["front"] == [place.trial for place in verdict.front.places]
    entry = next(v for v in study._storage.get_study_system_attrs(study._study_id).values() if FRONT_PICTURE in str(v))
    assert "image/png" in str(entry)


def test_a_study_that_reads_no_obedience_says_nothing(folder: StudyFolder) -> None:
    for record in folder.records():
        if record.state != "failed":
            rows = folder.trajectory(record.number).readings
            bare = [replace(r, channels={n: v for n, v in r.channels.items() if n != "prompt"}) for r in rows]
            Trajectory(tuple(bare)).save(folder.trial(record.number))
    verdict = make_verdict(folder)
    assert (verdict.front, front_sentences(verdict), study_attributes(verdict)["front"]) == (None, [], [])
    assert "Likeness against obedience" not in write_report(folder, verdict).read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", range(20))
def test_who_beats_the_winner_is_the_least_of_those_that_are_better_in_one_and_as_good_in_the_other(seed: int) -> None:
    rng = random.Random(seed)
    places = placed([(rng.randrange(5) / 4, rng.randrange(5) / 4) for _ in range(12)])  # with many ties
    for own in places:
        front = front_of(places, own.trial)
        assert front is not None
        better = [
            p for p in front.places
            if p.likeness >= own.likeness and p.obedience >= own.obedience
            and (p.likeness > own.likeness or p.obedience > own.obedience)
        ]  # fmt: skip
        least = min(better, key=lambda p: (p.likeness + p.obedience, p.trial), default=None)
        assert front.beaten_by == (None if least is None else least.trial)
        assert (front.winner, front.trials) == (own, 12)
        assert (front.beaten_by is None) is (own in front.places)

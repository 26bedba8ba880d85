"""A vote on finalists: when there is one, what becomes of votes that were given, and when it is opened anew."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from PIL import Image

from search.record.finalists import Finalist, Finalists
from search.record.record import StudyFolder
from search.record.votes import Votes
from search.verdict import ballot
from search.verdict.artifacts import open_store
from search.verdict.ballot import ballot_name, count_votes, open_ballot

DRAWN = tuple(Finalist(number, 10 + number, 0.5, 0.5 - number / 10, 0.4, 0.6, best=0.3) for number in range(3))
THREE = Finalists({}, DRAWN, images=4, prompts=2)
TWO = replace(THREE, drawn=THREE.drawn[:2])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A study with a database; pictures of its finalists, whatever they are of."""
    made = StudyFolder(tmp_path / "toy")
    made.path.mkdir()
    optuna.create_study(study_name="toy", storage=url_of(made))

    def draw(of: StudyFolder, one: Finalist) -> Path | None:
        path = of.path / f"{one.trial}.png"
        Image.new("RGB", (8, 8), (one.trial, 0, 0)).save(path)
        return None if (of.path / f"none-{one.trial}").exists() else path

    monkeypatch.setattr(ballot, "_draw", draw)
    return made


def url_of(folder: StudyFolder) -> str:
    return f"sqlite:///{folder.database}"


def opened(folder: StudyFolder, found: Finalists | None) -> dict[int, int]:
    """Opens the vote; trial to its number in it, of those that are put to it."""
    open_ballot(url_of(folder), folder, found, open_store(folder))
    names = optuna.get_all_study_names(url_of(folder))
    if ballot_name("toy") not in names:
        return {}
    study = optuna.load_study(study_name=ballot_name("toy"), storage=url_of(folder))
    return {trial.user_attrs["trial"]: trial._trial_id for trial in study.trials}


def click(folder: StudyFolder, better: int, worse: int) -> None:
    """Somebody finds one better."""
    from optuna_dashboard.preferential import load_study

    sampler = optuna.samplers.RandomSampler()
    study = load_study(study_name=ballot_name("toy"), storage=url_of(folder), sampler=sampler)
    places = {trial.user_attrs["trial"]: trial for trial in study.trials}
    study.report_preference(places[better], places[worse])


def test_two_finalists_with_images_are_put_to_the_vote(folder: StudyFolder) -> None:
    assert opened(folder, None) == {}
    assert opened(folder, replace(THREE, drawn=THREE.drawn[:1])) == {}
    (folder.path / "none-1").touch()
    assert opened(folder, TWO) == {}
    (folder.path / "none-1").unlink()
    assert opened(folder, TWO).keys() == {0, 1}
    assert optuna.load_study(study_name="toy-votes", storage=url_of(folder)).user_attrs["open"] is True


def test_the_same_vote_stays_and_another_one_keeps_what_was_given(folder: StudyFolder) -> None:
    first = opened(folder, THREE)
    assert opened(folder, THREE) == first, "nobody's page is closed under their hands"
    click(folder, 1, 0)
    click(folder, 2, 1)
    second = opened(folder, TWO)
    assert second.keys() == {0, 1}
    given = (((1, 11), (0, 10)), ((2, 12), (1, 11)))
    assert Votes.load(folder).preferences == given, "they were counted before it was closed"
    assert count_votes(url_of(folder), folder) is False, "those who are still there have theirs"
    click(folder, 0, 1)
    assert count_votes(url_of(folder), folder) is True
    assert Votes.load(folder).preferences == (((0, 10), (1, 11)), *given)
    assert opened(folder, THREE).keys() == {0, 1, 2}
    assert count_votes(url_of(folder), folder) is False


def test_a_vote_that_was_never_open_is_opened_and_not_counted(folder: StudyFolder) -> None:
    assert count_votes(url_of(folder), folder) is False
    optuna.create_study(study_name="toy-votes", storage=url_of(folder))
    assert count_votes(url_of(folder), folder) is False
    assert opened(folder, TWO).keys() == {0, 1}
    assert Votes.load(folder) == Votes()

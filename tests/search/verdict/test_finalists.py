"""What was drawn again is told alike everywhere: terminal, report, sheet, status, Optuna's attributes and exports."""

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from PIL import Image

from search import export, status
from search.dashboard import serve
from search.record.events import DrawAgain
from search.record.finalists import FINALISTS_SHEET, STRENGTHS_SHEET, Finalist, Finalists, FreshLook, StrengthsShown
from search.record.record import StudyFolder, TrialRecord, write_samples
from search.record.votes import Votes
from search.recovery.study_json import check_name
from search.verdict.artifacts import open_store, publish_verdict
from search.verdict.ballot import count_votes, open_ballot, vote_sentences
from search.verdict.decision import Decision
from search.verdict.finalists import draw_sheet, finalist_sentences, shows_strengths
from search.verdict.ranking import best_trials, contenders
from search.verdict.report import write_report
from search.verdict.verdict import Verdict, finish, make_verdict
from tests.search.one_process import draw_again
from tests.serving import serving
from trainer.config.config import parse_train_config
from trainer.inference.sample_files import write_figure


@pytest.fixture(scope="module")
def drawn(finished_study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study whose three best trials were drawn again, with its verdict."""
    folder = StudyFolder(tmp_path_factory.mktemp("drawn") / "toy")
    shutil.copytree(finished_study.path, folder.path)
    epochs = {n: TrialRecord.load(folder.trial(n)).epoch_shipped or 0 for n in best_trials(folder.records(), 3)}
    for number, epoch in ((None, 0), *epochs.items()):
        draw_again(folder, DrawAgain(number, epoch))
    first, second, third = epochs
    rows = (
        Finalist(second, epochs[second], 0.69, 0.512, 0.45, 0.58, best=0.7),
        Finalist(third, epochs[third], 0.59, 0.505, 0.41, 0.57, best=0.3, behind=0.7),
        Finalist(first, epochs[first], 0.8, 0.3, 0.25, 0.35, best=0.0, behind=1.0),
    )
    Finalists({"trials": 3, "seeds": None}, rows, images=4, prompts=2, repeated=1, seconds=7.0).save(folder)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{folder.database}")
    store = open_store(folder)
    finish(folder, publish=lambda verdict: publish_verdict(study, folder, verdict, store))
    return folder


def test_the_verdict_gives_the_fresh_score_and_what_it_rests_on(drawn: StudyFolder, capsys) -> None:
    verdict = Verdict.load(drawn.verdict_file)
    winner = verdict.finalists.drawn[0]
    assert (verdict.trial, verdict.epoch, verdict.score) == (winner.trial, winner.epoch, 0.512)
    assert verdict.ties == (verdict.finalists.drawn[1].trial,)
    said = " ".join(verdict.said.sure)
    assert "4 images of 2 prompts, 1 of them as in the search" in said
    assert (
        f"Trial {winner.trial} scores 0.512 there (90 % interval 0.450 to 0.580); in the search it was 0.690." in said
    )
    assert "the best of them in 70 of 100 cases" in said
    assert f"Trial {verdict.ties[0]} is about as good: the fresh images do not tell the two apart." in said
    assert any("Drawing the finalists again took 7" in each for each in verdict.said.took)
    assert status.main([str(drawn.path), "--all"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    headline = f"Ship epoch {winner.epoch} of trial {winner.trial} (score 0.512 on fresh images)."
    assert headline in shown
    assert "0.450 to 0.580" in shown
    assert status.main([str(drawn.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["verdict"]
    assert (found["score"], found["as_good"]) == (0.512, list(verdict.ties))
    assert found["fresh_scores"][str(winner.trial)] == 0.512
    assert headline in (drawn.best_folder / "train.yaml").read_text().replace("\n# ", " ")


def test_report_sheet_and_dashboard_show_them(drawn: StudyFolder) -> None:
    page = drawn.report.read_text()
    table = page[page.index('class="finalists"') :].partition("</table>")[0]
    assert table.count("<tr") == 4
    assert table.index("0.512") < table.index("0.505") < table.index("0.300")
    assert table.count("about as good") == table.count("surely worse") == 1
    assert "on fresh images" in page[: page.index("<h3>")]
    with Image.open(drawn.path / FINALISTS_SHEET) as sheet:
        assert sheet.width > 4 * 96
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 50
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{drawn.database}")
    assert study.user_attrs["score"] == 0.512
    assert "on fresh images" in study.user_attrs["verdict"]
    names = [meta.filename for meta in get_all_artifact_meta(study, storage=study._storage)]
    assert FINALISTS_SHEET in names


def test_an_export_says_it_of_the_epoch_that_was_drawn_and_of_no_other(
    drawn: StudyFolder, tmp_path: Path, capsys
) -> None:
    assert export.main([str(drawn.path), "--to", str(tmp_path / "shipped")]) == 0
    said = "On fresh seeds and prompts it scores 0.512 (90 % interval 0.450 to 0.580); in the search it was 0.690."
    assert said in " ".join(capsys.readouterr().out.split())
    assert export.main([str(drawn.path), "--to", str(tmp_path / "own"), "--trial", "0"]) == 0
    assert "On fresh seeds" not in capsys.readouterr().out


def test_a_sheet_without_its_pictures_is_not_promised(drawn: StudyFolder, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "toy")
    shutil.copytree(drawn.path, folder.path, ignore=shutil.ignore_patterns("trials", "artifacts"))
    FreshLook.picture(folder, None, 0).unlink()
    found = Finalists.load(folder)
    assert found is not None
    assert not draw_sheet(folder, found)


@pytest.mark.parametrize(("prompts", "shown"), [(2, 2), (13, 12)], ids=["all prompts", "as many as there is room for"])
def test_the_sheet_shows_the_first_two_seeds_of_each_prompt(tmp_path: Path, prompts: int, shown: int) -> None:
    """Each image has a colour of its own: red says the trial, green the prompt, blue the seed."""
    folder, seeds = StudyFolder(tmp_path / "toy"), 3
    for red, trial in enumerate((None, 7, 8)):
        rows = [(60 * (red + 1), 10 * (row + 1), 50 * (seed + 1)) for row in range(prompts) for seed in range(seeds)]
        images = np.stack([np.full((96, 96, 3), colour, np.uint8) for colour in rows])
        names = [f"prompt {row}" for row in range(prompts) for _ in range(seeds)]
        picture = FreshLook.picture(folder, trial, 0 if trial is None else 4)
        write_samples(picture, images, seeds, prompts=names, seeds=[1, 2, 3] * prompts)
    # of trial 9 there is no picture
    drawn_again = tuple(Finalist(trial, 4, 0.5, 0.5, 0.4, 0.6, best=0.3) for trial in (8, 7, 9))
    assert draw_sheet(folder, Finalists({}, drawn_again))
    with Image.open(folder.path / FINALISTS_SHEET) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    packed = pixels @ (1 << np.array([16, 8, 0]))  # a number for each colour: counted in a moment
    colours, counts = np.unique(packed, return_counts=True)
    areas = {tuple(int(colour).to_bytes(3)) for colour in colours[counts == 96 * 96]}
    assert areas == {
        (60 * red, 10 * (row + 1), 50 * seed) for red in (1, 2, 3) for row in range(shown) for seed in (1, 2)
    }

    def corner(*colour: int) -> tuple[int, int]:
        down, across = np.nonzero(packed == int.from_bytes(colour))
        return int(down[0]), int(across[0])

    assert corner(60, 10, 50)[1] < corner(180, 10, 50)[1] < corner(120, 10, 50)[1], "the base, then the best first"
    assert corner(60, 10, 50)[0] < corner(60, 10, 100)[0] < corner(60, 20, 50)[0]


def test_what_may_be_drawn_again_is_kept_until_then(drawn: StudyFolder) -> None:
    records = list(drawn.records())
    assert set(best_trials(records, 5)) <= contenders(records, 5)
    assert len(best_trials(records, 5)) == 5 > len(best_trials(records, 2)) == 2


@pytest.fixture
def voted(drawn: StudyFolder, tmp_path: Path) -> tuple[StudyFolder, str, Finalists]:
    """A copy of the study, its finalists put to the vote: (folder, URL of its storage, finalists)."""
    folder = StudyFolder(tmp_path / "toy")
    shutil.copytree(drawn.path, folder.path)
    found = Finalists.load(folder)
    assert found is not None
    url = f"sqlite:///{folder.database}"
    open_ballot(url, folder, found, open_store(folder))
    return folder, url, found


def ballot(url: str) -> optuna.Study:
    return optuna.load_study(study_name="toy-votes", storage=url)


def test_a_vote_in_the_dashboard_is_kept_and_the_report_says_whether_the_score_agrees(voted) -> None:
    folder, url, found = voted
    assert "without seeing their scores" not in folder.report.read_text()
    places = {trial.user_attrs["trial"]: trial.number for trial in ballot(url).trials}
    first, second, third = (one.trial for one in found.drawn)
    with served(folder) as address:
        studies = asked(f"{address}/api/studies")["study_summaries"]
        vote = next(each["study_id"] for each in studies if each["study_name"] == "toy-votes")
        page = asked(f"{address}/api/studies/{vote}")
        assert page["is_preferential"]
        assert page["feedback_component_type"] == {"output_type": "artifact", "artifact_key": "images"}
        for worst, others in ((first, (second, third)), (third, (second,))):
            clicked = {"mode": "ChooseWorst", "clicked": places[worst], "candidates": [places[n] for n in others]}
            asked(f"{address}/api/studies/{vote}/preference", clicked)
    report = " ".join(folder.report.read_text().split())
    assert "In 1 of 3 comparisons they find the one better that has the higher score." in report
    assert f"They put trial {second} first, the verdict trial {first}." in report
    assert len(Votes.load(folder).preferences) == 3


def test_images_are_shown_without_number_or_score(voted) -> None:
    folder, url, found = voted
    trials = ballot(url).trials
    assert sorted(trial.user_attrs["trial"] for trial in trials) == sorted(one.trial for one in found.drawn)
    for trial in trials:
        with open_store(folder).open_reader(trial.user_attrs["images"]) as file, Image.open(file) as picture:
            assert picture.width > 2 * 96
            text = " ".join(str(value) for value in picture.info.values())
        assert str(trial.user_attrs["epoch"]) not in text.replace("fresh prompt, number", "")


def test_votes_stay_when_others_are_put_to_the_vote_and_when_the_database_is_lost(voted) -> None:
    folder, url, found = voted
    first, second, third = found.drawn
    vote = ((second.trial, second.epoch), (first.trial, first.epoch))
    Votes((vote,)).save(folder)
    optuna.delete_study(study_name="toy-votes", storage=url)
    open_ballot(url, folder, found, open_store(folder))
    assert not count_votes(url, folder), "the storage says what the folder says"
    for drawn, pairs in (((first, third), 0), ((first, second), 1)):
        now = replace(found, drawn=drawn)
        open_ballot(url, folder, now, open_store(folder))
        assert len(ballot(url).trials) == 2
        assert Votes.load(folder).preferences == (vote,)
        assert len(vote_sentences(now, Votes.load(folder))) == 2 * pairs
    open_ballot(url, folder, replace(found, drawn=(first,)), open_store(folder))
    assert len(ballot(url).trials) == 2, "one alone is not voted on"


@pytest.mark.parametrize("began", [True, False])
def test_a_vote_that_was_cut_off_while_it_was_opened_is_opened_anew(voted, began: bool) -> None:
    folder, url, found = voted
    first, second, _ = found.drawn
    vote = ((second.trial, second.epoch), (first.trial, first.epoch))
    if began:
        ballot(url).set_user_attr("open", False)
    else:  # it is no vote yet
        name = ballot(url).study_name
        optuna.delete_study(study_name=name, storage=url)
        optuna.create_study(study_name=name, storage=url)
        assert not count_votes(url, folder)
    Votes((vote,)).save(folder)
    open_ballot(url, folder, found, open_store(folder))
    assert not count_votes(url, folder)
    assert Votes.load(folder).preferences == (vote,)
    assert ballot(url).user_attrs["open"]


def test_the_study_goes_on_and_is_rebuilt_beside_its_vote(voted) -> None:
    folder, _, _ = voted
    check_name(folder, "toy", folder.study_file)
    assert make_verdict(folder).trial == Verdict.load(folder.verdict_file).trial


@contextlib.contextmanager
def served(folder: StudyFolder) -> Iterator[str]:
    server = serve(folder)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def asked(url: str, content: dict | None = None) -> dict:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"{}")


@pytest.mark.parametrize("count", [1, 2])
def test_how_often_it_would_be_the_best_is_told_as_soon_as_there_is_another(count: int) -> None:
    rows = (Finalist(0, 8, 0.69, 0.51, 0.45, 0.58, best=0.7), Finalist(1, 8, 0.6, 0.5, 0.4, 0.57, best=0.3, behind=0.7))
    drawn = Finalists({"trials": 2, "seeds": None}, rows[:count], images=4, prompts=2, repeated=0, seconds=7.0)
    decision = Decision("ship", 0, 8, 0.69, 4, "images", last=12)
    config = parse_train_config({"base": "b", "data": "d"})
    said = " ".join(finalist_sentences(Verdict("x", decision, config, finalists=drawn, epochs=12)))
    assert ("in 70 of 100 cases" in said) == (count == 2)
    assert "Trial 0 scores 0.510 there" in said


def test_strengths_are_promised_of_what_ships_alone(drawn: StudyFolder) -> None:
    verdict = make_verdict(drawn)
    write_figure(drawn.path / STRENGTHS_SHEET, Image.new("RGB", (8, 8)))
    assert not shows_strengths(drawn, verdict)
    StrengthsShown(verdict.trial, verdict.epoch + 1, "asked").save(drawn)
    assert not shows_strengths(drawn, verdict)
    StrengthsShown(verdict.trial, verdict.epoch, "asked").save(drawn)
    assert shows_strengths(drawn, verdict)


@pytest.mark.parametrize("shown", [False, True])
def test_the_report_shows_each_picture_that_the_verdict_promises_and_no_other(
    drawn: StudyFolder, tmp_path: Path, shown: bool
) -> None:
    folder = StudyFolder(tmp_path / "toy")
    shutil.copytree(drawn.path, folder.path)
    write_figure(folder.path / STRENGTHS_SHEET, Image.new("RGB", (8, 8)))
    verdict = Verdict.load(folder.verdict_file)
    with_it, without = {**verdict.files, "strengths": STRENGTHS_SHEET}, dict(verdict.files)
    without.pop("strengths", None)
    verdict = replace(verdict, files=with_it if shown else without, finalists=verdict.finalists if shown else None)
    page = write_report(folder, verdict).read_text()
    told = [f'alt="{alt}' in page for alt in ("The finalists on fresh seeds", "What ships at other strengths")]
    assert told == [shown, shown]

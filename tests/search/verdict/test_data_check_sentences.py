"""A data check's verdict is about photos and captions; its short training is told as the test that it is."""

from dataclasses import replace
from pathlib import Path

import pytest

from search.record.data_check import DATA_CHECK_PAGE, DataCheck, Finding
from search.record.record import StudyFolder
from search.verdict.sentences import headline
from search.verdict.verdict import Verdict, make_verdict
from tests.search.finished_studies import PLANS, Plan, make_study

BLURRED = Finding("blurred", "replace", ("2_toy/a.png",))
EVERYWHERE = Finding("tag_everywhere", "know", tag="large")


def checked(folder: Path, *findings: Finding, plan: Plan = PLANS[0]) -> Verdict:
    study: StudyFolder = make_study(folder, folder / "base", folder / "photos", (plan,))
    (study.path / DATA_CHECK_PAGE).write_text("<p>photos</p>")
    DataCheck("toy", "", 8, 7.5, findings=findings, trained=True, unlooked=("No subject was found.",)).save(study.path)
    return make_verdict(study)


def test_it_says_first_what_to_change(tmp_path: Path) -> None:
    verdict = checked(tmp_path, BLURRED, EVERYWHERE)
    assert headline(verdict) == "Replace 1 photo, then go on."
    (do,) = verdict.said.do
    assert do.startswith("a.png is out of focus or shaken.")
    why = " ".join(verdict.said.why)
    assert why.startswith("“large” stands in every caption")
    assert f"images show the subject from epoch {verdict.decision.learned} on" in why
    test, unlooked = verdict.said.sure
    assert f"Its best checkpoint is epoch {verdict.epoch} (score {verdict.score:.3f})" in test
    assert unlooked == "No subject was found."


def test_with_nothing_to_change_it_says_to_go_on(tmp_path: Path) -> None:
    verdict = checked(tmp_path, EVERYWHERE, plan=replace(PLANS[0], likeness=0.0, quality=0.0))
    assert headline(verdict) == "These photos and captions can be trained on."
    assert verdict.said.do == ("Leave photos and captions as they are, and go on with a longer training.",)
    assert "hardly show the subject" in verdict.said.why[-1]
    assert "no checkpoint to use" in verdict.said.sure[0]


@pytest.mark.parametrize("many", [8, 11])
def test_of_many_findings_the_page_tells_the_rest(many: int, tmp_path: Path) -> None:
    findings = [Finding("small", "replace", (f"{number}.png",)) for number in range(many)]
    do = checked(tmp_path, *findings).said.do
    assert len(do) == min(many, 9)
    assert (do[-1] == "3 more: see data_check.html.") is (many == 11)

"""A real search by a function of the user's own: in worker processes, over finals and verdict, and with its faults."""

from pathlib import Path

import pytest
import yaml

from metrics.trajectory.readings import OWN_SCORE
from search.record.record import StudyFolder
from search.verdict.verdict import Verdict
from tests.search.recovery.real_studies import real_values, run_here

TASTE = """
def losses(readings):
    return 100 - 1000 * readings["heldout_loss"]


def picky(readings):
    if readings["heldout_loss"] != 0:
        raise ValueError("not to my\\ntaste")
    return 0.0
"""


@pytest.mark.slow
def test_a_search_by_ones_own_score_trains_what_another_has_trained_not_again(tmp_path: Path) -> None:
    values = real_values()
    (tmp_path / "taste.py").write_text(TASTE)

    def run(name: str, objective: str | None, ends: int = 0) -> tuple[StudyFolder, str]:
        asked = {**values, "study": name, "score": {**values["score"], "objective": objective}}
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(asked))
        code, said = run_here(file, tmp_path / "runs")
        assert code == ends, said
        return StudyFolder(tmp_path / "runs" / name), said

    plain, _ = run("plain", None)
    by_losses, _ = run("by_losses", "taste:losses")
    first = Verdict.load(by_losses.verdict_file)
    assert first.cost.saved_epochs == 5 * 2
    for number in (0, 1):
        before, now = plain.trajectory(number), by_losses.trajectory(number)
        assert now.scores.tolist() == (100 - 1000 * before.values("heldout_loss")[:, 0]).tolist()
        assert now.own_scores.tolist() == before.scores.tolist()
    assert first.finalists is not None
    assert [one.own is not None for one in first.finalists.drawn] == [True, True]
    winner = first.finalists.of(first.trial)
    assert winner is not None
    assert winner.score == winner.searched == max(record.score or 0 for record in by_losses.records())
    picky, said = run("picky", "taste:picky", ends=1)
    assert [record.state for record in picky.records()] == ["failed", "failed"]
    why = "score.objective: taste:picky raised ValueError: not to my taste"
    assert [record.error for record in picky.records()] == [why, why]
    assert why in said
    assert OWN_SCORE not in plain.trajectory(0).channels

"""The average of a final run's best checkpoints, as it is kept, and when it is better."""

from pathlib import Path

import pytest

from search.record.final_run import Average, FinalRun


@pytest.mark.parametrize(("score", "better"), [(0.5, False), (0.54, False), (0.55, False), (0.56, True), (0.4, False)])
def test_an_average_is_better_by_more_than_the_noise(score: float, better: bool) -> None:
    assert Average((6, 8), score, best=0.5, noise=0.05).better is better


def test_it_comes_back_with_its_lora_and_images_beside_it(tmp_path: Path) -> None:
    assert Average.load(tmp_path) is None
    found = Average((6, 8, 10), 0.6, 0.5, 0.01, 0.02)
    found.save(tmp_path)
    assert Average.load(tmp_path) == found
    assert {Average.lora(tmp_path).parent, Average.samples(tmp_path).parent} == {tmp_path / "average"}
    (tmp_path / "average" / "average.json").write_text("{}")
    assert Average.load(tmp_path) is None
    assert Average((6, 8), 0.6, 0.5, 0.01).lost == 0.0
    assert FinalRun(8) == FinalRun(8, "", None)

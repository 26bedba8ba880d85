"""What block weights win and cost, as it is kept; and what one says that looked at nothing."""

from pathlib import Path

from search.record.judgement import Change, Judgement


def test_it_comes_back_as_it_was_judged(tmp_path: Path) -> None:
    assert Judgement.load(tmp_path) is None
    change = Change(0.6, 0.2, 0.4, 0.3, 0.5)
    found = Judgement(
        3, {"IN04": 0.5}, {"IN04": 0.5}, "1,0.5", change, {"background": change}, wins=("background",), plain=0.8,
        plain_values={"background": 0.5}, images=8, prompts=4, level=0.97, among=(3, 5),
    )  # fmt: skip
    found.save(tmp_path)
    assert Judgement.load(tmp_path) == found
    assert found.turns_down
    (tmp_path / "judgement.json").write_text("[]")
    assert Judgement.load(tmp_path) is None


def test_one_that_looked_at_nothing_has_no_images_and_changes_nothing() -> None:
    silent = Judgement(0, why_not="those of the LoRA as it is did best")
    assert not silent.turns_down
    assert (silent.images, silent.prompts, silent.level, silent.plain, silent.likeness) == (0, 0, 0.9, None, None)
    assert (silent.weights, silent.changes, silent.wins, silent.costs, silent.among, silent.lbw) == (
        {},
        {},
        (),
        (),
        (),
        "",
    )

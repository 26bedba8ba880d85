"""A trial that has ended, put right: its record by what Optuna was told, its curve by its readings."""

from dataclasses import replace

import pytest

from search.record.events import Checkpointed
from search.record.record import TrialRecord
from search.record.twins import Twins
from search.recovery.trials import mend_trial
from search.tuning.ledger import SHIPPED, TRAINED
from tests.search.recovery.planted_trials import NUMBER, PARAMS, checkpoint, cut, files, make_trial
from trainer.checkpoint import LORA_FILE


@pytest.mark.parametrize(
    ("ends", "change", "row_change", "kept", "rebuilt"),
    [
        ("complete", {}, {}, False, False),
        ("complete", {"value": 0.25}, {}, False, True),
        ("complete", {"value": None}, {}, False, True),
        ("complete", {"value": 0.25, "stopped": "told"}, {}, False, False),
        ("complete", {"params": {**PARAMS, "rank": 8}}, {}, False, True),
        ("complete", {"params": {"rank": 4}}, {}, False, True),
        ("complete", {"state": "running"}, {}, False, True),
        ("complete", {"state": "running"}, {}, True, False),
        ("complete", {"state": "pruned"}, {}, False, True),
        ("pruned", {"value": 0.25}, {}, False, False),
        ("pruned", {"params": {**PARAMS, "rank": 8}}, {}, False, True),
        ("failed", {"value": 0.25}, {}, False, False),
        ("failed", {"params": {"rank": 8}}, {"params": {}}, False, False),
    ],
)
def test_a_record_that_says_other_than_optuna_was_told_is_rebuilt(
    study, folder, ends: str, change, row_change, kept: bool, rebuilt: bool
) -> None:
    record, row = make_trial(study, folder, NUMBER, state=ends, trained=6, kept=kept)
    replace(record, **change).save(folder.trial(NUMBER))
    if row_change:
        row.params, row.distributions = {}, {}
    said = mend_trial(study, folder, row)
    kept_as = "rebuilt from Optuna (what was there: record.json.damaged)"
    assert said == ([f"trial 1: record.json is damaged or missing: {kept_as}"] if rebuilt else [])
    now = TrialRecord.load(folder.trial(NUMBER))
    assert (now.state, dict(now.params), now.value) == (
        (record.state, dict(record.params), record.value)
        if rebuilt
        else tuple(getattr(replace(record, **change), name) for name in ("state", "params", "value"))
    )


@pytest.mark.parametrize("damage", ["torn", "empty", "missing"])
@pytest.mark.parametrize(("state", "trained"), [("complete", 8), ("pruned", 4), ("pruned", 8), ("failed", 4)])
def test_a_record_comes_back_as_the_coordinator_wrote_it(study, folder, damage: str, state: str, trained: int) -> None:
    record, row = make_trial(study, folder, NUMBER, state=state, trained=trained)
    path = folder.trial(NUMBER) / "record.json"
    path.unlink() if damage == "missing" else path.write_text("" if damage == "empty" else "{torn")
    kept = " (what was there: record.json.damaged)" if damage == "torn" else ""
    said = f"trial 1: record.json is damaged or missing: rebuilt from Optuna{kept}"
    assert mend_trial(study, folder, row) == [said]
    error = "its record was lost; what Optuna knows of it is here" if state == "failed" else None
    assert TrialRecord.load(folder.trial(NUMBER)) == replace(record, timings={}, memory={}, error=error)
    assert path.with_name("record.json.damaged").is_file() == (damage == "torn")
    assert mend_trial(study, folder, row) == []


def test_a_row_that_says_little_is_rebuilt_with_what_follows_from_its_scores(study, folder) -> None:
    record, row = make_trial(study, folder, 0, trained=6, stopped="onset")
    (folder.trial(0) / "record.json").unlink()
    for name in (TRAINED, SHIPPED, "startup", "began"):
        del row.user_attrs[name]
    mend_trial(study, folder, row)
    now = TrialRecord.load(folder.trial(0))
    assert (now.epochs_trained, now.stopped, now.startup, now.began) == (6, "onset", False, None)
    assert (now.epoch_shipped, now.value, now.score) == (None, row.value, row.value)
    row.user_attrs["processed"] = 8
    (folder.trial(0) / "record.json").unlink()
    mend_trial(study, folder, row)
    assert (TrialRecord.load(folder.trial(0)).epochs_trained, TrialRecord.load(folder.trial(0)).stopped) == (
        8,
        "horizon",
    )
    assert record.startup


def test_the_epoch_to_ship_is_the_one_that_optuna_was_told(study, folder) -> None:
    record, row = make_trial(study, folder, NUMBER)
    (folder.trial(NUMBER) / "record.json").unlink()
    row.user_attrs[SHIPPED] = 4
    mend_trial(study, folder, row)
    now = TrialRecord.load(folder.trial(NUMBER))
    assert record.onset is not None
    assert record.epoch_shipped != 4
    assert (now.epoch_shipped, now.onset) == (4, replace(record.onset, best=4))


def test_values_that_do_not_fit_what_is_searched_leave_a_record_as_it_is(study, folder) -> None:
    _, row = make_trial(study, folder, NUMBER)
    path = folder.trial(NUMBER) / "record.json"
    path.write_text("{torn")
    row.params, row.distributions = {}, {}
    said = "trial 1: Optuna's values do not fit what the study searches: it is left as it is"
    assert mend_trial(study, folder, row) == [said]
    assert path.read_text() == "{torn"


def test_a_folder_that_is_gone_leaves_a_record_that_says_so(study, folder) -> None:
    record, row = make_trial(study, folder, NUMBER)
    folder.trial(NUMBER).rename(folder.path / "elsewhere")
    (said,) = mend_trial(study, folder, row)
    assert said.startswith("trial 1: its folder is gone.")
    bare = replace(record, timings={}, memory={}, onset=None, lost="its folder")
    assert TrialRecord.load(folder.trial(NUMBER)) == bare
    assert mend_trial(study, folder, row) == []


CURVE_LOST = "its curve is lost, its score is not"
ASIDE = f"trajectory.csv is damaged (set aside as trajectory.csv.damaged): {CURVE_LOST}"
ITEMS_ASIDE = "its curve is there, the numbers of single images are not"


@pytest.mark.parametrize(
    ("damage", "said", "lost", "there"),
    [
        ("curve missing", f"trajectory.csv is missing: {CURVE_LOST}", "trajectory.csv", {"items.npz"}),
        ("curve torn", ASIDE, "trajectory.csv", {"items.npz", "trajectory.csv.damaged"}),
        ("curve torn, items missing", ASIDE, "trajectory.csv", {"trajectory.csv.damaged"}),
        ("other scores", ASIDE, "trajectory.csv", {"items.npz", "trajectory.csv.damaged"}),
        ("too few scores", ASIDE, "trajectory.csv", {"items.npz", "trajectory.csv.damaged"}),
        (
            "items torn",
            f"items.npz is damaged (set aside as items.npz.damaged): {ITEMS_ASIDE}",
            "items.npz",
            {"items.npz.damaged", "trajectory.csv"},
        ),
        ("items missing", f"items.npz is missing: {ITEMS_ASIDE}", "items.npz", {"trajectory.csv"}),
    ],
)
@pytest.mark.parametrize("known", ["", "its LoRA", "trajectory.csv", "its LoRA, items.npz"])
def test_what_of_a_curve_is_lost_is_said_and_marked(
    study, folder, damage: str, said: str, lost: str, there: set[str], known: str
) -> None:
    record, row = make_trial(study, folder, NUMBER)
    replace(record, lost=known).save(folder.trial(NUMBER))
    home = folder.trial(NUMBER)
    curve, items = home / "trajectory.csv", home / "items.npz"
    if damage.startswith("curve torn"):
        curve.write_text("torn")
    elif damage == "curve missing":
        curve.unlink()
    elif damage == "too few scores":
        row.intermediate_values[7] = 0.5
    elif damage == "other scores":
        row.intermediate_values[4] += 1e-6
    elif damage == "items torn":
        cut(items)
    if "items missing" in damage:
        items.unlink()
    silent = (damage == "curve missing" and known == "trajectory.csv") or (
        damage == "items missing" and "items.npz" in known
    )
    assert mend_trial(study, folder, row) == ([] if silent else [f"trial 1: {said}"])
    marked = list(dict.fromkeys([*(known.split(", ") if known else []), lost]))
    assert TrialRecord.load(home) == replace(record, lost=", ".join(marked))
    assert {p.name for p in home.iterdir() if p.is_file()} == {*there, "record.json"}


def test_scores_that_differ_by_rounding_are_the_same(study, folder) -> None:
    _, row = make_trial(study, folder, NUMBER)
    row.intermediate_values[4] *= 1 + 1e-11
    assert mend_trial(study, folder, row) == []


@pytest.mark.parametrize("known", ["", "trajectory.csv", "items.npz", "its LoRA, trajectory.csv"])
@pytest.mark.parametrize("damage", ["curve missing", "curve torn"])
def test_a_curve_is_written_again_from_the_readings(study, folder, damage: str, known: str) -> None:
    record, row = make_trial(study, folder, NUMBER, kept=True)
    replace(record, lost=known).save(folder.trial(NUMBER))
    curve = folder.trial(NUMBER) / "trajectory.csv"
    before = curve.read_bytes()
    curve.unlink() if damage == "curve missing" else curve.write_text("torn")
    said = mend_trial(study, folder, row)
    assert said[-1] == "trial 1: trajectory.csv is damaged or missing: written again from the readings"
    assert curve.read_bytes() == before
    assert TrialRecord.load(folder.trial(NUMBER)).lost == ("its LoRA" if "LoRA" in known else "")
    assert mend_trial(study, folder, row) == []


def test_a_curve_with_a_gap_in_its_readings_is_not_written_again(study, folder) -> None:
    record, row = make_trial(study, folder, NUMBER, kept=True)
    home = folder.trial(NUMBER)
    (home / "trajectory.csv").unlink()
    Checkpointed.file(home, 4).unlink()
    assert mend_trial(study, folder, row) == []
    assert TrialRecord.load(home) == replace(record, lost="trajectory.csv")
    assert not (home / "trajectory.csv").exists()


@pytest.mark.parametrize("known", ["", "items.npz"])
def test_the_lora_to_ship_is_set_aside_where_it_is_damaged(study, folder, known: str) -> None:
    record, row = make_trial(study, folder, NUMBER)
    replace(record, lost=known).save(folder.trial(NUMBER))
    shipped = record.epoch_shipped
    assert shipped is not None
    for epoch in (2, shipped):
        checkpoint(folder, epoch, state=False)
    before = files(folder)
    assert mend_trial(study, folder, row) == []
    assert files(folder) == before
    cut(folder.checkpoint(NUMBER, 2) / LORA_FILE)  # nobody ships it
    cut(folder.checkpoint(NUMBER, shipped) / LORA_FILE)
    why = f"{LORA_FILE} is damaged"
    assert mend_trial(study, folder, row) == [
        f"trial 1: the LoRA of epoch {shipped}, the one to ship, is damaged ({why}): set aside as {LORA_FILE}.damaged"
    ]
    assert TrialRecord.load(folder.trial(NUMBER)).lost == (f"{known}, " if known else "") + "its LoRA"
    assert (folder.checkpoint(NUMBER, 2) / LORA_FILE).is_file()
    assert not (folder.checkpoint(NUMBER, shipped) / LORA_FILE).exists()


def test_a_record_stays_as_the_search_left_it_and_what_ships_is_by_its_twins(study, folder) -> None:
    record, row = make_trial(study, folder, NUMBER)
    home, searched = folder.trial(NUMBER), record.epoch_shipped
    assert record.onset is not None
    assert searched is not None
    twins = Twins(2, record.epochs_trained, searched, onset=replace(record.onset, best=2), score=0.25)
    twins.save(home)
    (home / "items.npz").unlink()
    for epoch in (2, searched):
        cut(checkpoint(folder, epoch, state=False) / LORA_FILE)
    _, said = mend_trial(study, folder, row)
    assert said.startswith("trial 1: the LoRA of epoch 2, the one to ship, is damaged")
    assert (folder.checkpoint(NUMBER, searched) / LORA_FILE).is_file()
    lost = replace(record, lost="items.npz, its LoRA")
    assert TrialRecord.load(home, searched=True) == lost
    assert TrialRecord.load(home) == lost.with_twins(twins)

"""The probe's description: written and read in one form, read from files of earlier versions, refused when damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from search.record.probe_description import PROBE_FILE, ProbeDescription, is_sealed
from search.record.record import StudyFolder

WHOLE = ProbeDescription(
    study="d1ge57", calibration=5, prompts=("a sks toy", "a sks toy in snow"), sets=("A", "C"), photo=(3, -1),
    seeds=(11, 12), size=(64, 96), steps=20, guidance=7.5, scheduler="euler", negative="blurry", clip_skip=None,
    precision="bf16", trained=("3.png",), heldout=("1.png",), context=("2.png", "4.png"), photos=("x", "y", "z", "w"),
    trained_rows=(0,), heldout_rows=(1,), context_rows=(2, 3), shifted_captions=("toy, small",), notices=("look",),
    labels={"prompts": ("a sks toy",), "photo": (3,)},
)  # fmt: skip


def test_it_comes_back_as_it_was_written_and_the_seal_notices_a_change(tmp_path: Path) -> None:
    path = tmp_path / PROBE_FILE
    WHOLE.save(path)
    assert ProbeDescription.load(path) == WHOLE
    assert is_sealed(path)
    kept = json.loads(path.read_text())
    assert (kept["size"], kept["sets"], kept["seeds"]) == ([64, 96], ["A", "C"], [11, 12])
    path.write_text(json.dumps({**kept, "seeds": [11, 13]}))
    assert not is_sealed(path)


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / PROBE_FILE
    ProbeDescription(prompts=("a",), seeds=(np.int64(7),), photo=(np.int64(-1),)).save(path)
    assert ProbeDescription.load(path).seeds == (7,)
    assert is_sealed(path)


def test_a_file_of_an_earlier_version_says_less_and_names_what_is_gone(tmp_path: Path) -> None:
    path = tmp_path / PROBE_FILE
    path.write_text(json.dumps({"prompts": ["a"], "seeds": [1], "trained": ["a.png"], "gone": {"x": 1}}))
    about = ProbeDescription.load(path)
    assert about == ProbeDescription(prompts=("a",), seeds=(1,), trained=("a.png",))
    assert (about.held_out, about.first_new_context, about.with_added(("b",)).sets) == (0, 0, ())
    assert is_sealed(path)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"prompts": "a", "seeds": [1]}', '{"prompts": ["a"], "seeds": ["x"]}', "{"]
)
def test_what_describes_no_probe_is_refused(tmp_path: Path, content: str) -> None:
    folder = StudyFolder(tmp_path)
    (tmp_path / PROBE_FILE).write_text(content)
    with pytest.raises(ValueError, match="ProbeDescription"):
        folder.probe()


def test_it_is_as_it_was_written_whatever_the_order_of_its_keys_and_not_once_a_value_has_changed(
    tmp_path: Path,
) -> None:
    path = tmp_path / PROBE_FILE
    WHOLE.save(path)
    plain = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict(reversed(plain.items()))))
    assert is_sealed(path)
    path.write_text(json.dumps({**plain, "seeds": [seed + 1 for seed in plain["seeds"]]}))
    assert not is_sealed(path)


def test_what_is_asked_of_it_by_the_verdict_and_the_pictures() -> None:
    assert WHOLE.held_out == 3
    assert WHOLE.first_new_context == 1
    added = WHOLE.with_added(("a sks toy at night",))
    assert (added.prompts[-1], added.sets) == ("a sks toy at night", ("A", "C", "C"))

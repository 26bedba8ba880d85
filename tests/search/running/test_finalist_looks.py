"""What a worker does for a finalist: drawn once, kept with its picture, told; with faults told as its own."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from search.record.events import Doing, DrawAgain, DrawnAgain, Failed
from search.record.finalists import FreshLook
from search.record.record import StudyFolder, TrialRecord
from search.running import finalist_looks
from search.running.finalist_looks import FinalistLooks
from tests.search.any_config import CONFIG
from tests.search.finished_studies import make_lora
from trainer.checkpoint import LORA_FILE
from trainer.errors import TrainerError

IMAGES = np.full((4, 32, 32, 3), 90, np.uint8)


class Fresh:
    """Stands where the probe of fresh prompts does; notes what is drawn."""

    asked = "these prompts"

    def __init__(self) -> None:
        labels = SimpleNamespace(prompts=("a", "a", "b", "b"), seeds=(1, 2, 1, 2))
        self.prompts = SimpleNamespace(labels=labels, num_seeds=2)
        self.drawn: list[tuple[int, int, Any]] = []

    def look(self, lora: Any, epoch: int, say: Any, searched: Any) -> tuple[FreshLook, np.ndarray]:
        say("drawing afresh")
        self.drawn.append((0 if lora is None else len(lora.modules), epoch, searched))
        score = 0.1 if lora is None else 0.6
        return FreshLook(self.asked, Readings(epoch, 0.0, {}, {}, score), np.array([score]), 4, 2, 0, 2.0), IMAGES


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_sd15: Path) -> Any:
    """The looks of a study with trial 1, which has a LoRA at epoch 8; what is said; what is drawn."""
    folder, fresh, said = StudyFolder(tmp_path / "toy"), Fresh(), list[Any]()
    (folder.checkpoint(1, 8)).mkdir(parents=True)
    make_lora(folder.checkpoint(1, 8) / LORA_FILE, tiny_sd15)
    TrialRecord(1, "complete", CONFIG, {}, 8, 8).save(folder.trial(1))
    probe = SimpleNamespace(base=SimpleNamespace(family=SimpleNamespace(name="sd15")), objective=None)

    def say(what: str, number: int | None = None, epoch: float = 0) -> None:
        said.append(Doing(what, number, epoch))

    line = SimpleNamespace(send=said.append, say=say)
    study: Any = SimpleNamespace(name="toy")
    monkeypatch.setattr(
        finalist_looks, "open_fresh_probe", lambda *given: fresh if given == (study, folder, probe) else None
    )
    passes: Any = SimpleNamespace(width=None)
    return SimpleNamespace(
        of=FinalistLooks(study, folder, probe, line, passes), folder=folder, fresh=fresh, said=said, probe=probe
    )


def told(looks: Any) -> list[Any]:
    return [message for message in looks.said if not isinstance(message, Doing)]


def test_a_finalist_and_the_base_are_drawn_kept_with_their_pictures_and_told(looks: Any) -> None:
    asked = [DrawAgain(None, 0), DrawAgain(1, 8)]
    assert looks.of.see_to(asked, lambda: None)
    (base, no_lora), (first, _) = ((each[1], each[0]) for each in looks.fresh.drawn)
    assert (base, no_lora, first) == (0, 0, 8)
    assert looks.fresh.drawn[1][0] > 0
    assert told(looks) == [DrawnAgain(None, 0), DrawnAgain(1, 8)]
    assert [each for each in looks.said if isinstance(each, Doing)] == [
        Doing("drawing the base again", None, 0), Doing("drawing afresh", None, 0), Doing("drawing afresh", 1, 8),
    ]  # fmt: skip
    for number, epoch, score in ((None, 0, 0.1), (1, 8, 0.6)):
        kept = FreshLook.load(FreshLook.file(looks.folder, number, epoch))
        assert kept is not None
        assert (kept.readings.score, kept.seconds, kept.asked) == (score, 2.0, "these prompts")
        assert FreshLook.picture(looks.folder, number, epoch).is_file()


@pytest.mark.parametrize(("gone", "again"), [("nothing", 1), ("look", 2), ("picture", 2), ("prompts", 2)])
def test_it_is_drawn_again_only_where_something_of_it_is_gone_or_other_prompts_are_asked(
    looks: Any, gone: str, again: int
) -> None:
    asked = DrawAgain(1, 8)
    looks.of.see_to([asked], lambda: None)
    if gone == "look":
        FreshLook.file(looks.folder, 1, 8).unlink()
    elif gone == "picture":
        FreshLook.picture(looks.folder, 1, 8).unlink()
    elif gone == "prompts":
        looks.fresh.asked = "others"
    looks.of.see_to([asked], lambda: None)
    assert len(looks.fresh.drawn) == again
    assert told(looks) == [DrawnAgain(1, 8)] * 2


def test_a_lora_that_is_gone_is_that_trials_fault_and_the_others_are_drawn(looks: Any) -> None:
    shutil.rmtree(looks.folder.checkpoint(1, 8))
    assert not looks.of.see_to([DrawAgain(1, 8), DrawAgain(None, 0)], lambda: None)
    failed, drawn = told(looks)
    assert isinstance(failed, Failed)
    assert (failed.number, failed.epoch, failed.again, failed.machine, failed.twin) == (1, 8, False, False, None)
    assert drawn == DrawnAgain(None, 0)


def test_what_went_wrong_in_training_is_told_and_not_drawn(looks: Any, monkeypatch) -> None:
    from search.running.machine_faults import Fault

    second, twin = DrawAgain(1, 8, retrained=True), DrawAgain(1, 8, twins=3, place=2)
    trained: list[Any] = []

    def train(asked: Any, ready: Any, hear: Any) -> dict[Any, Any]:
        trained.append(list(asked))
        return {each: Fault("it blew up", again=False) for each in asked}

    monkeypatch.setattr(looks.of._side, "train", train)
    assert not looks.of.see_to([second, twin, DrawAgain(1, 8)], lambda: None)
    assert trained == [[second], [twin]]
    failed = [(each.number, each.error, each.twin) for each in told(looks)[:2]]
    assert failed == [(1, "it blew up", None), (1, "it blew up", 2)]
    assert told(looks)[2] == DrawnAgain(1, 8)


def test_a_second_training_is_the_trials_settings_under_the_next_seed_and_goes_when_it_is_drawn(looks: Any) -> None:
    asked = DrawAgain(1, 8, retrained=True, place=2)
    ready = looks.of._ready(asked)
    assert ready is not None
    assert ready.config == CONFIG.model_copy(update={"seed": CONFIG.seed + 1})
    assert (ready.until, ready.place, ready.photos) == (8, 2, None)
    assert ready.folder == FreshLook.file(looks.folder, 1, 8, retrained=True).parent / "training"
    assert Doing("training again", 1, 8) in looks.said
    last = CONFIG.model_copy(update={"seed": 2**63 - 1})
    TrialRecord(1, "complete", last, {}, 8, 8).save(looks.folder.trial(1))
    assert looks.of._ready(asked).config.seed == 0, "a seed is below 2^63"
    shutil.copytree(looks.folder.checkpoint(1, 8), ready.folder / "checkpoints" / "0008")
    looks.of._side.seconds[asked] = 30.0
    looks.of._look(asked)
    kept = FreshLook.load(FreshLook.file(looks.folder, 1, 8, retrained=True))
    assert kept is not None
    assert kept.seconds == 32.0
    assert not ready.folder.exists()
    assert looks.of._ready(asked) is None
    assert FreshLook.load(FreshLook.file(looks.folder, 1, 8)) is None, "the first training's is another"


@pytest.mark.parametrize(
    ("place", "parts", "part"), [(0, 0, None), (0, 3, slice(0, None, 3)), (2, 3, slice(2, None, 3))]
)
def test_of_strengths_a_worker_draws_its_columns_or_the_picture(
    looks: Any, monkeypatch, place: int, parts: int, part: slice | None
) -> None:
    shown: list[Any] = []

    def show(study: Any, folder: Any, fresh: Any, trial: int, epoch: int, say: Any, part: slice | None) -> None:
        shown.append((trial, epoch, part))

    monkeypatch.setattr(finalist_looks, "show_strengths", show)
    assert looks.of.see_to([DrawAgain(1, 8, strengths=True, place=place, parts=parts)], lambda: None)
    assert shown == [(1, 8, part)]
    assert looks.fresh.drawn == []
    assert told(looks) == [DrawnAgain(1, 8)]


def test_an_objective_is_given_what_the_search_read_of_that_epoch(looks: Any) -> None:
    looks.probe.objective = "mine"

    def read(epoch: int) -> Readings:
        value = epoch / 10
        return Readings(epoch, 0.0, {"fidelity": Reading(value, 0.0, 1.0), "prompt": Reading(0.5, 0.0, 1.0)}, {}, 0.5)

    Trajectory(tuple(map(read, (0, 4, 8)))).save(looks.folder.trial(1))
    looks.of.see_to([DrawAgain(1, 8)], lambda: None)
    assert looks.fresh.drawn[0][2] == {"fidelity": 0.8, "prompt": 0.5}
    assert looks.of._searched(1, 6) == {}
    looks.of.see_to([DrawAgain(None, 0)], lambda: None)
    assert looks.fresh.drawn[1][2] is None


def test_a_fault_in_a_look_is_told_with_its_words(looks: Any, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise TrainerError("no such base")

    monkeypatch.setattr(looks.fresh, "look", fails)
    assert not looks.of.see_to([DrawAgain(None, 0)], lambda: None)
    assert told(looks) == [Failed(None, 0, "no such base", again=False)]

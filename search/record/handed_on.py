"""What a finished study hands on to the next one (`from:`), kept with the study that takes it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from search.record.finished_run import FinishedRun
from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder
from trainer.config.recorded import RecordedConfig

FILE = "handed_on.json"


@dataclass(frozen=True)
class HandedOn:
    """Attributes:
    study: whose result it is.
    epoch: the epoch to ship.
    trial: of which trial.
    headline: the verdict in a line.
    lora: the LoRA to ship, an absolute path; "" where it was not kept.
    config: what it was trained with; None where nobody knows (a finished run), or in a flow that has not come so far.
    to_come: in a flow, that study has not run yet: everything else stands in for what it will find.
    """

    study: str
    epoch: int
    trial: int = 0
    headline: str = ""
    lora: str = ""
    config: RecordedConfig | None = None
    to_come: bool = False

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / FILE

    def save(self, folder: StudyFolder) -> None:
        """Keep it with the study that takes it: another sitting goes on with the same."""
        config = None if self.config is None else self.config.model_dump(mode="json")
        write_json(self.file(folder), {**asdict(self), "config": config})

    @classmethod
    def load(cls, folder: StudyFolder) -> "HandedOn | None":
        """What a study has taken; None where it has not begun, or the file cannot be read."""
        return read_if_whole(cls, cls.file(folder))


@dataclass(frozen=True)
class _Decided:
    ship: bool = False
    trial: int | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class _Found:
    """The part of `verdict.json` that is handed on."""

    study: str
    headline: str
    decision: _Decided = field(default_factory=_Decided)
    config: Annotated[RecordedConfig | None, BeforeValidator(lambda value: value or None)] = None
    files: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, str] = field(default_factory=dict)
    finished_run: FinishedRun | None = None


def result_of(folder: StudyFolder) -> HandedOn | str:
    """What a study has found, or why there is nothing to hand on, in a few words."""
    found = read_if_whole(_Found, folder.path / "verdict.json")
    if found is None:
        return "it has no verdict yet"
    if dict(found.trials) != {str(record.number): record.state for record in folder.records()}:
        return "it has gone on since its last verdict"
    decision, run = found.decision, found.finished_run
    if not decision.ship or decision.epoch is None or decision.trial is None:
        return f"its verdict is: {found.headline}"
    if run is not None and run.unit != "epoch":
        return "it counts steps, and an epoch is needed (checkpoints.steps_per_epoch)"
    lora = found.files.get("LoRA")
    return HandedOn(
        study=found.study,
        epoch=decision.epoch,
        trial=decision.trial,
        headline=found.headline,
        lora="" if lora is None else str((folder.path / lora).resolve()),
        config=found.config if run is None else None,
    )

"""What a trial's record says when the trial is placed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import Trial

from search.record.record import TrialRecord, write_config
from search.study.study import Study
from search.tuning.ledger import BEGAN, STARTUP
from search.tuning.tally import SLOT


def first_record(study: Study, trial: Trial, params: Mapping[str, Any], versions: Mapping[str, str]) -> TrialRecord:
    """The record of a trial that Optuna and its slot know, with nothing trained yet."""
    config = study.config(params)
    return TrialRecord(
        number=trial.number,
        state="running",
        config=config,
        params=params,
        epochs=config.epochs,
        startup=trial.user_attrs[STARTUP],
        versions=versions,
        seeds={"train": config.seed, "probe": study.score.seed},
        dataset=study.dataset,
        slot=trial.user_attrs[SLOT],
        began=trial.user_attrs[BEGAN],
        finished_run=study.finished_run,
        final=study.kind.final,
        objective="" if study.objective is None else study.objective.name,
    )


def write_first(record: TrialRecord, folder: Path) -> None:
    """What a trial's folder holds before anything is trained."""
    if record.finished_run is None:  # nobody knows what that was trained with
        write_config(folder, record.config.model_dump(mode="json", exclude_defaults=True))
    record.save(folder)

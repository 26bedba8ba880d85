"""Runs a study to its verdict, or goes on where it stopped.

python -m search.run studies/demo.yaml
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.about import About, check_continues
from search.command import study_command
from search.continuing import check_sources, continued, forget, has_trained
from search.errors import BusyError, SearchError
from search.lock import holder, locked, workers_alive
from search.probe_files import mend_probe
from search.record import StudyFolder, write_bytes
from search.set_aside import right_kinds
from search.study import Study, load_study
from trainer.arguments import folder_to_write
from trainer.command import Command, end

_GRACE_SECONDS = 30.0
_EXAMPLE = """example:
  python -m search.run studies/demo.yaml     run the demo study; again: goes on, or says that it is finished
  python -m search.status studies/demo.yaml  how far it is, without running anything

exit codes: 0 done, 1 failed while working, 2 the input is wrong, 130 interrupted (what is finished is kept)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    kept = "\ninterrupted; everything finished so far is kept: the same command goes on"
    command = study_command("search.run", interrupted=kept)
    return command.run(lambda: _main(argv, command))


def _main(argv: Sequence[str] | None, command: Command) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m search.run",
        description="Run a study: search LoRA settings, find where each begins to overfit, end with a verdict.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="the study file")
    parser.add_argument(
        "--runs", type=folder_to_write, default=Path("runs"), metavar="DIR", help="where studies leave files"
    )
    arguments = parser.parse_args(argv)
    study = load_study(arguments.study)
    folder = StudyFolder(arguments.runs / study.name)
    command.folder = folder.path
    check_continues(study, folder)
    going = continued(study, folder)
    study = going.study
    for note in going.notes:
        print(f"note: {note}")
    if _finished(study, folder) and not going.anew:
        print(f"study {study.name} is finished: {study.budget.trials} trials. A larger budget.trials goes on with it.")
        show(folder)
        return 0
    for notice in study.notices:
        print(f"note: {notice}")
    _run(study, folder, anew=going.anew)
    show(folder)
    return 0


def _run(study: Study, folder: StudyFolder, *, anew: bool = False) -> None:
    with contextlib.ExitStack() as stack:
        lock = folder.path / ".coordinator.lock"
        if not stack.enter_context(locked(lock)):
            who = holder(lock)
            raise BusyError(f"{folder.path}: another process{f' ({who})' if who else ''} is running this study")
        if alive := workers_alive(folder.path, wait_seconds=_GRACE_SECONDS):
            raise BusyError(
                f"{folder.path}: workers of an earlier run are still alive ({', '.join(alive)}): "
                "wait until they have ended, or end them yourself; then run the same command again"
            )
        if anew and not has_trained(folder):
            print("note: nothing has been trained with the earlier settings: the study begins anew with these")
            forget(folder)
        check_sources(study, folder)
        study.added.save(folder)
        began = time.monotonic() - _spent(folder)
        write_bytes(folder.study_file, study.file.read_bytes())
        _note_spent(study, folder, began)
        _work(study, folder, began)


def _work(study: Study, folder: StudyFolder, began: float) -> None:
    from search.eta import planned_epochs
    from search.live import Board
    from search.workers import Team, resident
    from trainer.config import TrainConfig

    count = study.workers.count
    team = Team(resident, (study, folder), count, preload=("search.worker",), hung_after=study.workers.hung_after)
    seconds = None if study.budget.hours is None else study.budget.hours * 3600 - (time.monotonic() - began)
    horizon = planned_epochs(study.space, study.train.get("epochs", TrainConfig.model_fields["epochs"].default))
    board = Board(study.name, study.budget.trials, count, horizon=horizon, seconds=seconds)
    for note in (*right_kinds(folder), *mend_probe(folder)):
        print(f"note: {note}")
    team.start()  # torch is imported there while Optuna is imported here
    try:
        from search.recovery import recover

        for note in recover(study, folder):
            print(f"note: {note}", flush=True)
        from search.artifacts import open_store, publish_verdict, upload_trial
        from search.coordinator import Coordinator
        from search.tidy import tidy_trial
        from search.verdict import finish

        store = open_store(folder)

        def keep(trial: Any, record: Any) -> None:
            upload_trial(trial, folder.trial(record.number), store)
            _note_spent(study, folder, began)

        with board.shown():
            coordinator = Coordinator(
                study, folder, team, board, spent_seconds=time.monotonic() - began, before_tell=keep
            )
            coordinator.run()
            team.close()
        for record in folder.records():
            tidy_trial(folder.trial(record.number), record, study.keep)
        verdict = finish(folder, wall_seconds=time.monotonic() - began)
        publish_verdict(coordinator.optuna_study, folder, verdict, store)
        for record in folder.records():
            tidy_trial(folder.trial(record.number), record, study.keep, final=True)
    finally:
        team.close()
        _note_spent(study, folder, began)


def _finished(study: Study, folder: StudyFolder) -> bool:
    from search.verdict import known_verdict

    verdict = known_verdict(folder)
    if verdict is None or not all((folder.path / path).exists() for path in verdict.files.values()):
        return False
    ended = [record for record in folder.records() if record.state != "running"]
    return len(ended) >= study.budget.trials


def _spent(folder: StudyFolder) -> float:
    about = About.load(folder)
    return about.seconds if about is not None else 0.0


def _note_spent(study: Study, folder: StudyFolder, began: float) -> None:
    if not folder.path.is_dir():  # moved while it ran
        return
    About(study.name, study.digest, study.meaning, round(time.monotonic() - began, 1)).save(folder)


def show(folder: StudyFolder) -> None:
    """Print a finished study's verdict. Raises SearchError where no trial came to anything."""
    from rich.console import Console

    from search.verdict import Verdict, render

    Console().print(render(Verdict.load(folder.verdict_file), folder.path))
    records = list(folder.records())
    if records and all(record.state == "failed" for record in records):
        raise SearchError(f"every trial failed, the last one with: {records[-1].error}")


if __name__ == "__main__":
    end(main)

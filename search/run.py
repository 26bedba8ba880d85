"""Runs a study to its verdict, or goes on where it stopped.

python -m search.run studies/demo.yaml
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from search.command import add_study, study_command
from search.errors import BusyError, StudyError
from search.probe.probe_files import mend_probe
from search.record.clock import Clock
from search.record.data_check import why_to_stop
from search.record.in_place import in_place
from search.record.json_files import write_bytes
from search.record.learned_from import NOBODY, LearnedFrom
from search.record.lock import holder, locked, workers_alive
from search.record.record import StudyFolder
from search.record.set_aside import right_kinds
from search.recovery.continuing import (
    Continued,
    check_scored_alike,
    check_sources,
    continued,
    forget,
    has_trained,
    put_aside,
)
from search.recovery.study_json import About, check_continues
from search.running.budget import why_finished
from search.running.placing import place_of, runs_folder_of
from search.running.workers import Team
from search.study.flow_file import Flow, read_flow
from search.study.server import check_same_place, check_server
from search.study.space_values import size as size_of
from search.study.study import Study, load_study
from search.tuning.choice_check import check_choices
from search.tuning.database import storage_url
from search.verdict.best_folder import restore_best
from search.verdict.disk_cleanup import sweep_study
from trainer.arguments import Arguments
from trainer.command import WRONG_INPUT, Command, end
from trainer.errors import Plain, mistake

if TYPE_CHECKING:
    from search.tuning.ledger import Ledger
    from search.verdict.verdict import Verdict

_GRACE_SECONDS = 30.0
_NEEDED = ("metrics.onset.plot", "optuna_dashboard")  # by the verdict; two seconds that nobody has to wait for
_EXAMPLE = """example:
  python -m search.run studies/demo.yaml         run the demo study; again: goes on, or says that it is finished
  python -m search.run studies/flow/flow.yaml    run the studies of a flow, one after the other
  python -m search.run studies/demo.yaml --set budget.trials=20 --set workers.count=1
  python -m search.status studies/demo.yaml      how far it is, without running anything

exit codes: 0 done, 1 failed while working, 2 the input is wrong, 130 interrupted (what is finished is kept)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    kept = "\ninterrupted; everything finished so far is kept: the same command goes on"
    command = study_command("search.run", interrupted=kept)
    return command.run(lambda: _main(argv, command))


def _main(argv: Sequence[str] | None, command: Command) -> int:
    arguments = command_line().parse_args(argv)
    flow = read_flow(arguments.study)
    if flow is not None:
        if arguments.dry_run:
            raise StudyError([mistake(None, "--dry-run", Plain("a flow file"), "a study file with it")])
        return _run_flow(flow, arguments.runs, command, arguments.set, go_on=arguments.go_on)
    if arguments.go_on:
        raise StudyError([mistake(None, "--go-on", Plain("a study file"), "a flow file with it")])
    if arguments.dry_run:
        _measure(arguments.study, arguments.runs, arguments.set)
        return 0
    _run_study(arguments.study, arguments.runs, command, arguments.set)
    return 0


def _measure(file: Path, runs: Path, settings: Sequence[str]) -> None:
    study = load_study(file, settings, runs=runs)
    check_choices(study)
    for notice in study.notices:
        print(f"note: {notice}")
    from search.running.bill import measure

    folder = StudyFolder(runs / study.name)
    check_sources(study, folder)
    bill = measure(study, folder)
    for notice in bill.notices:
        print(f"note: {notice}")
    print("\n".join(bill.lines()))
    print("No trial was trained. What was computed of the photos is kept for the study.")


def _run_flow(flow: Flow, runs: Path, command: Command, settings: Sequence[str], *, go_on: bool) -> int:
    """Each study of a flow in turn; those that are finished return at once, so a flow needs no state of its own."""
    for place, step in enumerate(flow.steps):  # all mistakes before anything is trained
        load_study(step.file, settings, runs=runs, to_come=[before.study for before in flow.steps[:place]])
    for place, step in enumerate(flow.steps):
        print(f"\n{flow.path.name}, step {place + 1} of {len(flow.steps)}: {step.file.name}", flush=True)
        later = flow.steps[place + 1 :]
        _run_study(step.file, runs, command, settings, brief=bool(later))
        if later and not go_on and not StudyFolder(runs / later[0].study).has_checkpoints:
            page = why_to_stop(StudyFolder(runs / step.study))
            if page is not None:
                print(
                    f"stopped: photos or captions should change first: {page} says which and why. Change them, or add "
                    "--go-on to go on with them as they are"
                )
                return WRONG_INPUT
    return 0


def _run_study(file: Path, runs: Path, command: Command, settings: Sequence[str], *, brief: bool = False) -> None:
    """`brief`: of a study that was finished before only the verdict's first line is shown."""
    study = load_study(file, settings, runs=runs)
    folder = runs_folder_of(study, StudyFolder(runs / study.name))
    storage_url(folder.database)  # refused before anything is written
    command.folder = folder.path
    study = replace(study, server=check_same_place(study.server, folder))
    if study.server is not None:
        check_server(study.server)
    check_choices(study)
    check_continues(study, folder)
    going = continued(study, folder)
    study = going.study
    for note in going.notes:
        print(f"note: {note}")
    ended = None if going.anew or going.grown or going.other_photos else why_finished(study, folder)
    if ended is not None:
        more = "" if size_of(study.space) == 1 else f": {ended}. To go on with it, raise the budget"
        print(f"study {study.name} is finished{more}.")
        _show(folder, brief=brief)
        return
    if not (going.anew or going.grown or going.other_photos):
        check_scored_alike(study, folder)
    learns, told = _learned(study, folder)
    study = replace(study, learned=learns)
    for notice in (*study.notices, *told):
        print(f"note: {notice}")
    _run(study, folder, going)
    _show(folder)


def _show(folder: StudyFolder, *, brief: bool = False) -> None:
    from search.verdict.terminal import show  # not before: what a verdict needs is slow to load

    show(folder, brief=brief)


def _learned(study: Study, folder: StudyFolder) -> tuple[LearnedFrom, tuple[str, ...]]:
    """What the sampler learns from; Optuna is not loaded where that is nothing."""
    if not study.sampler.learn_from:
        return NOBODY, ()
    from search.tuning.learned import learned

    return learned(study, folder)


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.run",
        description="Run a study: try LoRA settings, find where each begins to overfit, and say which epoch to ship.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study(parser, to_run=True)
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="with a flow: go on although the data check asks for other photos or captions",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting that goes before the file's, such as budget.trials=40; may be given several times",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train a few steps and look at one checkpoint, and say what the study would take: time, memory, disk",
    )
    parser.add_argument(
        "--schema", nargs=0, action=_PrintSchema, help="print the JSON Schema of a study file, for your editor, and end"
    )
    return parser


class _PrintSchema(argparse.Action):
    """Needs no study file, as --help needs none."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from search.study.json_schema import study_schema

        print(json.dumps(study_schema(), indent=2, ensure_ascii=False))
        parser.exit()


def _run(study: Study, folder: StudyFolder, going: Continued) -> None:
    at_once = min(study.workers.count, study.trials)  # each worker loads the base
    study = replace(study, workers=study.workers.model_copy(update={"count": at_once}))
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(place_of(study))
        lock = folder.path / ".coordinator.lock"
        if not stack.enter_context(locked(lock)):
            who = holder(lock)
            raise BusyError(f"{folder.path}: another process{f' ({who})' if who else ''} is running this study")
        stack.enter_context(in_place(folder.path))
        if alive := workers_alive(folder.path, wait_seconds=_GRACE_SECONDS):
            raise BusyError(
                f"{folder.path}: workers of an earlier run are still alive ({', '.join(alive)}): "
                "wait until they have ended, or end them yourself; then run the same command again"
            )
        ledger = None if study.server is None else stack.enter_context(_on_server(study, folder))
        for note in right_kinds(folder):  # before anything of the study's is written
            print(f"note: {note}")
        if going.other_photos:
            aside = put_aside(folder)
            if ledger is not None:
                ledger.begin_anew(keep_as=f"{study.name} {aside.name}")
            print(f"note: photos or captions have changed: begun anew; what was found before is in {aside}")
        if going.anew and not has_trained(folder):
            print("note: nothing has been trained with the earlier settings: the study begins anew with these")
            forget(folder)
            if ledger is not None:
                ledger.begin_anew()
        check_sources(study, folder)
        if going.grown:
            forget(folder, probe=False)
            if ledger is not None:
                ledger.begin_anew()
        study.added.save(folder)
        study.learned.save(folder)
        if study.handed_on is not None:
            study.handed_on.save(folder)
        clock = Clock(folder)
        clock.note()
        restore_best(folder)
        write_bytes(folder.study_file, study.source.kept())
        About(study.name, study.digest, study.meaning).save(folder)
        work(study, folder, place.team(study, folder), clock, ledger)


def _on_server(study: Study, folder: StudyFolder) -> "contextlib.closing[Ledger]":
    """Its trials, for this coordinator alone; before anything of it is written or loaded."""
    from search.tuning.ledger import Ledger

    return contextlib.closing(Ledger.of(study, folder, say=partial(print, flush=True), leased=True))


def work(study: Study, folder: StudyFolder, team: Team, clock: Clock, ledger: "Ledger | None" = None) -> None:
    """From wherever the study is to its verdict; its folder is there. `ledger`: of a study on a server."""
    with in_place(folder.path):
        _work(study, folder, team, clock, ledger)


def _work(study: Study, folder: StudyFolder, team: Team, clock: Clock, on_server: "Ledger | None") -> None:
    from search.running.eta import planned_epochs
    from search.running.finals_cost import FinalsCost
    from search.running.progress import Board
    from search.running.sharing import known
    from trainer.config.config import TrainConfig

    sharing = known(study, folder)
    board = Board(
        study.name,
        study.trials,
        team.count * (1 if sharing is None else sharing.places),
        horizons=planned_epochs(study.space, study.train.get("epochs", TrainConfig.model_fields["epochs"].default)),
        seconds=None if study.budget.hours is None else study.budget.hours * 3600 - clock.seconds,
        spent_seconds=clock.seconds,
        prunes=study.stop.prune,
        stops=study.stop.onset,
        finals=FinalsCost.of(study),
    )
    for note in (*mend_probe(folder), *(() if sharing is None else sharing.notes)):
        print(f"note: {note}")
    team.start()  # torch is imported there while Optuna is imported here
    sweep_study(folder)
    try:
        from search.recovery.study_folder import recover

        for note in recover(study, folder, on_server):
            print(f"note: {note}", flush=True)
        from search.running.coordinator import Coordinator
        from search.running.drawing import Drawing
        from search.running.finalists import draw_finalists
        from search.running.tracking import tracked
        from search.study.delivery import Delivery
        from search.tuning.ledger import Ledger
        from search.verdict.artifacts import open_store, publish_verdict, tell_twins, upload_trial
        from search.verdict.ballot import open_ballot
        from search.verdict.verdict import Verdict, finish

        store = open_store(folder)
        with contextlib.closing(on_server or Ledger.of(study, folder, say=board.note, leased=True)) as ledger:
            with board.shown():
                coordinator = Coordinator(
                    study,
                    folder,
                    team,
                    board,
                    clock=clock,
                    places=None if sharing is None else sharing.places,
                    ledger=ledger,
                    before_tell=tracked(study, folder, board, partial(upload_trial, store=store)),
                )
                coordinator.run()
                still_ours, begun = coordinator.check_place, coordinator.ahead.at_work
                draw_finalists(Drawing(study, folder, team, board, clock, still_ours, begun, needed=_NEEDED))
                team.close()
            ledger.in_place()  # still ours
            clock.note()

            def publish(verdict: Verdict) -> None:
                tell_twins(ledger, folder, store)
                publish_verdict(ledger.study, folder, verdict, store)
                open_ballot(ledger.url, folder, verdict.finalists, store)

            if isinstance(study.kind, Delivery) and any(record.score is not None for record in folder.records()):
                _deliver(study, folder, clock, publish)
            else:
                finish(folder, wall_seconds=clock.seconds, storage=ledger.url, keep=study.keep, publish=publish)
    finally:
        team.close()
        if not isinstance(sys.exception(), BusyError):  # the study is another one's now
            with contextlib.suppress(OSError):  # a full disk must not hide why the study ends
                clock.note()


def _deliver(study: Study, folder: StudyFolder, clock: Clock, publish: Callable[["Verdict"], None]) -> None:
    """Judge the block weights that were found, and write what goes with that."""
    from search.running.judging import judge
    from search.verdict.delivery_verdict import finish_delivery

    judgement = judge(study, folder, say=lambda what: print(f"note: {what}", flush=True))
    clock.tick()
    finish_delivery(folder, judgement, base=study.base, wall_seconds=clock.seconds, keep=study.keep, publish=publish)


if __name__ == "__main__":
    end(main)

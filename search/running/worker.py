"""One resident worker process: base and encoder stay loaded for the whole study; trials come and go, several at
once where they share passes.

A checkpoint is saved, drawn, scored and told; training goes on while the coordinator decides, a little ahead of it.
"""

import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

import torch

from metrics.errors import MetricsError
from search.findings.look import DataLook
from search.probe.probe import Probe, open_probe
from search.record.events import (
    DrawAgain,
    Failed,
    GoOn,
    Note,
    Prepared,
    Quit,
    StopTrial,
    TrialSpec,
    Unprepared,
)
from search.record.final_run import TWIN
from search.record.in_place import in_place
from search.record.lock import OTHERS_SECONDS, locked, worker_lock
from search.record.record import StudyFolder
from search.record.taken_run import RunMark
from search.record.trial_progress import measured_in_a_row
from search.running.block_weights import BlockLooks
from search.running.coordinator_line import HUNG_UP, Ended, Line
from search.running.final_run import align
from search.running.finalist_looks import FinalistLooks
from search.running.finished_run import RunLooks, check_run
from search.running.looks import Looks
from search.running.machine_faults import Fault, fault_in, machine_fault, seen_fault
from search.running.measuring import Measuring
from search.running.pack_measure import settled
from search.running.same_runs import SameRuns, common_of
from search.running.shared_passes import SharedPasses, sharers
from search.running.trial_at_work import TrialAtWork, rewind
from search.running.with_parent import die_with_parent
from search.running.worker_process import cores, load_models, write_to
from search.study.data_check import DataCheck
from search.study.delivery import Delivery
from search.study.finished_run import CheckpointFiles
from search.study.input_digests import keep_inputs
from search.study.objective import ObjectiveError
from search.study.study import Study
from search.verdict.disk_cleanup import drop_after
from trainer.devices import has_no_exact_form, repeat_nearly
from trainer.errors import TrainerError
from trainer.lora.lora import LoraWeights
from trainer.packing.builder import run_settings, shares_a_pack
from trainer.packing.pack import Pack


def main(connection: Connection, slot: int, study: Study, folder: StudyFolder) -> None:
    """Serve one slot until told to quit, or until the coordinator is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the coordinator, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked while processes are started
    threading.Thread(target=die_with_parent, daemon=True).start()
    try:
        write_to(folder.workers_log)
    except FileNotFoundError:  # the study's folder was moved while this process began; the coordinator says so
        return
    with in_place(folder.path), locked(worker_lock(folder.path, slot), wait_seconds=OTHERS_SECONDS) as alone:
        if not alone:
            connection.send(Unprepared("the worker before this one is still alive", wrong_input=False))
            return
        try:
            worker = _loaded(connection, slot, study, folder)
        except (TrainerError, MetricsError, ObjectiveError) as error:
            connection.send(Unprepared(str(error), wrong_input=True))
            return
        except Exception as error:
            traceback.print_exc()
            text = machine_fault(error) or f"{type(error).__name__}: {error}"
            connection.send(Unprepared(text, wrong_input=False))
            return
        try:
            worker.serve()
        except HUNG_UP:
            return


def _loaded(connection: Connection, slot: int, study: Study, folder: StudyFolder) -> "_Worker":
    """A worker whose numbers are the same each time, as far as all that loads and measures can be."""
    try:
        return _Worker(connection, slot, study, folder)
    except RuntimeError as error:
        if not has_no_exact_form(error):
            raise
        traceback.print_exc()
        return _Worker(connection, slot, study, folder, inexact=repeat_nearly(error))


class _Worker:
    """What stays loaded, and the trials at hand. `inexact`: why its numbers need not be the same each time."""

    def __init__(
        self, connection: Connection, slot: int, study: Study, folder: StudyFolder, inexact: str | None = None
    ) -> None:
        began = time.perf_counter()
        self._line, self._study, self._folder = Line(connection), study, folder
        # whoever builds the probe has the cores to itself: the other workers wait for it
        torch.set_num_threads(cores())
        models = load_models(study, folder, slot, exactly=inexact is None, say=self._line.say)
        base, encoder, identity = models.base, models.encoder, models.identity
        checked = None
        if study.finished_run is not None:
            self._line.say("reading the checkpoints")
            checked = check_run(study.finished_run, base)  # all of it, before anything is drawn
        self._line.say("building the probe")
        self._probe: Probe = open_probe(study, base, folder.cache, encoder, identity, self._line.say)
        self._looks = _looks(study, folder, self._probe, checked)
        if slot == 0:
            keep_inputs(study, folder)  # all of it has been accepted
        torch.set_num_threads(study.workers.threads_of_each(cores()))
        data = None
        if isinstance(study.kind, DataCheck):
            data = DataLook(study, folder, self._probe, encoder, identity)
        self._measuring = Measuring(study, folder, self._probe, data, self._line)
        sharing = settled(study, folder, self._probe, self._line.say)
        self._passes = SharedPasses(self._probe, sharing, study.workers.pack, folder)
        self._same = SameRuns(study, folder, common_of(study, folder, self._probe))
        self._finalists = FinalistLooks(study, folder, self._probe, self._line, self._passes)
        self._again: list[DrawAgain] = []
        self._new: list[TrialSpec] = []
        self._trials: dict[int, TrialAtWork] = {}
        self._failed = False
        self._line.show_life(base)
        notices = self._probe.told if slot == 0 else ()
        notices += () if inexact is None else (inexact,)
        self._line.send(Prepared(time.perf_counter() - began, notices, sharing.places))

    def serve(self) -> None:
        """Train what comes, until told to quit."""
        try:
            while True:
                self._hear(block=not self._trials and not self._new and not self._again)
                self._turn()
                if self._failed:
                    torch.cuda.empty_cache()  # now that nothing holds the failed trial any more
                self._failed = False
        except Ended:
            return

    def _turn(self) -> None:
        """New trials begin, checkpoints that are due are seen to, and whoever need not wait goes on by an epoch."""
        while self._new:
            self._begin(self._new.pop(0))
        if self._again:
            asked, self._again = self._again, []
            self._failed |= not self._finalists.see_to(asked, self._hear)
        moved = False
        for trial in list(self._trials.values()):
            if self._trials.get(trial.number) is trial:  # else it was stopped meanwhile
                moved |= self._see_to(trial)
                self._hear()
        going = [trial for trial in self._trials.values() if trial.seats and not trial.rests]
        if going:
            for pack, fault in self._train(going):
                self._untangle(pack, fault)
        elif self._trials and not moved and not self._new:
            for trial in self._trials.values():
                if trial.seats:
                    self._line.say("waiting", trial.number, trial.run.epoch)
            self._hear(block=True)

    def _hear(self, *, block: bool = False) -> None:
        """Take what the coordinator has said; a trial that is stopped leaves at once. Raises Ended at the end."""
        self._line.alive()
        for message in self._line.heard(block=block):
            if isinstance(message, TrialSpec):
                self._new.append(message)
            elif isinstance(message, DrawAgain):
                self._again.append(message)
            elif isinstance(message, GoOn) and message.number in self._trials:
                trial = self._trials[message.number]
                trial.decided = max(trial.decided, message.epoch)
            elif isinstance(message, StopTrial):
                self._new = [spec for spec in self._new if spec.number != message.number]
                self._let_go(message.number)
                drop_after(self._folder.trial(message.number), message.epoch)
            elif isinstance(message, Quit):
                raise Ended

    def _begin(self, spec: TrialSpec) -> None:
        """Take a trial up where its folder says."""
        for other in list(self._trials.values()):
            if other.spec.place == spec.place:  # the coordinator has given it up
                self._let_go(other.number)
        trial = self._trials[spec.number] = TrialAtWork(spec)
        with self._answering_for(trial):
            if self._looks is None:
                rewind(spec)
            self._measuring.base(spec)
            if self._looks is not None:
                return
            self._seat(trial)
            looked = self._from_the_same_run(trial)
            for line in (line for _, run in trial.seats for line in run.passed_over):
                self._line.send(Note(spec.number, line))
            for epoch in measured_in_a_row(spec.folder, spec.config):  # measured before, not decided on
                if spec.processed < epoch and (epoch < trial.run.epoch or epoch <= looked):
                    self._measuring.tell(trial, epoch)

    def _from_the_same_run(self, trial: TrialAtWork) -> int:
        """What a trial that is the same run has measured is this one's; returns the last epoch of that, 0 without."""
        spec = trial.spec
        if not self._same.looks:
            return 0
        mark = self._same.mark(spec.config, trial.seats[0][0].steps_per_epoch, self._passes.shape)
        if not RunMark.file(spec.folder).is_file():
            mark.save(spec.folder)
        taken = self._same.take(spec, mark)
        if taken is None:
            return 0
        if trial.run.epoch < taken.trained:
            trial.leave()
            self._seat(trial)
        if not spec.processed:
            self._line.send(Note(spec.number, taken.sentence))
        return taken.looked

    def _seat(self, trial: TrialAtWork) -> None:
        """Its run joins a pack. A final run trains on all photos, its twin without those held out; where the two
        cannot share a pack they take turns."""
        spec, join = trial.spec, self._passes.join
        config, settings = spec.config, run_settings(spec.config, output_name=self._study.name)
        trial.looked = -1
        if self._study.kind.final is None:
            trial.seats = [join(config, settings, spec.folder, place=spec.place, apart=trial.apart)]
            return
        align(spec.folder)
        apart = not shares_a_pack(config) or config.enable_bucket
        trial.seats = [join(config, settings, spec.folder, place=0, photos=self._probe.everything)]
        trial.seats.append(join(config, settings, spec.folder / TWIN, place=0, apart=apart))

    def _see_to(self, trial: TrialAtWork) -> bool:
        """The checkpoint that is due, if one is; whether there was."""
        with self._answering_for(trial):
            if self._looks is not None:
                return self._look(trial, self._looks)
            if trial.run.due and trial.looked != trial.run.epoch:
                trial.looked = trial.run.epoch
                self._checkpoint(trial)
                if trial.apart:  # it was not to blame
                    trial.leave()
                    trial.apart = False
                    self._seat(trial)
                return True
        return False

    def _checkpoint(self, trial: TrialAtWork) -> None:
        self._measuring.checkpoint(trial)

    def _look(self, trial: TrialAtWork, looks: Looks) -> bool:
        """Look at the next finished file, as at a checkpoint that was trained here; whether there was one."""
        spec, epoch = trial.spec, next((count for count in looks.counts if count > trial.told), None)
        if epoch is None:
            return False
        began = time.perf_counter()
        if not looks.begin(spec, epoch):
            spent = {"train": 0.0, "save": time.perf_counter() - began}
            self._measuring.measured(spec, epoch, partial(looks.look, spec, epoch), spent)
            looks.keep(spec, epoch)
        self._measuring.tell(trial, epoch)
        return True

    def _train(self, trials: list[TrialAtWork]) -> list[tuple[Pack, Fault]]:
        """One epoch of these trials, those in one pack together; returns packs that failed."""
        failed = []
        for trial in trials:
            self._line.say("training", trial.number, trial.run.epoch)
        for pack, members in sharers(trials).items():
            runs = [run for _, run in members if run in pack.runs]
            if not runs:
                continue
            began = time.perf_counter()
            fault = fault_in(partial(pack.train_epoch, lambda _: self._hear(), runs=runs))
            if fault is not None:
                failed.append((pack, fault))
                continue
            each = (time.perf_counter() - began) / len(members)
            for trial, run in members:
                trial.trained += each
                if run.failed is not None and run in pack.runs:
                    self._fail(trial, Fault(run.failed, again=False))
        return failed

    def _untangle(self, pack: Pack, fault: Fault) -> None:
        """A pass has failed: whose fault is it? Too little memory for all is nobody's: they go on in narrower packs.
        Else each is trained by itself up to its next checkpoint, so that whoever fails again does so alone."""
        self._passes.drop(pack)
        those = [trial for trial in self._trials.values() if any(one is pack for one, _ in trial.seats)]
        if fault.machine or (len(those) == 1 and not (fault.memory and (self._passes.width or 1) > 1)):
            for trial in those:
                self._fail(trial, fault)
            return
        if fault.memory:
            self._passes.narrow()
            those = [trial for trial in self._trials.values() if trial.seats]
            width = self._passes.width
            notice = f"{fault.text}; it goes on from its last checkpoint with at most {width} trials at a time"
        else:
            notice = f"{fault.text}; up to its next checkpoint it is trained by itself"
        for trial in those:
            trial.leave()
            trial.apart = trial.apart or not fault.memory
            self._line.send(Note(trial.number, notice))
        torch.cuda.empty_cache()
        for trial in those:
            with self._answering_for(trial):
                self._seat(trial)

    @contextlib.contextmanager
    def _answering_for(self, trial: TrialAtWork) -> Iterator[None]:
        """What goes wrong within is this trial's."""
        fault = None
        try:
            yield
        except (Ended, *HUNG_UP):
            raise
        except Exception as error:
            fault = seen_fault(error)
            if self._looks is not None and not fault.again:
                fault = replace(fault, machine=True)  # its only trial: it goes on once the files are there again
        if fault is not None:
            self._fail(trial, fault)

    def _fail(self, trial: TrialAtWork, fault: Fault) -> None:
        """Give a trial up and say so; the coordinator may send it again."""
        if self._trials.get(trial.number) is not trial:
            return
        self._let_go(trial.number)
        self._line.send(Failed(trial.number, trial.due, fault.text, again=fault.again, machine=fault.machine))
        self._failed = True

    def _let_go(self, number: int) -> None:
        trial = self._trials.pop(number, None)
        if trial is not None:
            trial.leave()


def _looks(study: Study, folder: StudyFolder, probe: Probe, checked: Mapping[int, LoraWeights] | None) -> Looks | None:
    """What is looked at instead of trained; None where the study trains. `checked`: from `check_run`."""
    match study.kind:
        case CheckpointFiles():
            return RunLooks(study, study.kind, folder, probe, checked)
        case Delivery():
            return BlockLooks(study.kind, probe, folder.cache / "probe", (checked or {}).get(1))
    return None

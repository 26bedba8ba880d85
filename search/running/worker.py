"""One resident worker process: base and encoder stay loaded for the whole study; trials come and go.

A checkpoint is saved, drawn, scored and told; training goes on while the coordinator decides, a little ahead of it.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from metrics.errors import MetricsError
from search.findings.look import DataLook
from search.probe.probe import Probe, open_probe, write_base_samples, write_probe_samples
from search.record.events import (
    Alive,
    Checkpointed,
    Doing,
    Failed,
    GoOn,
    Note,
    Prepared,
    Quit,
    StopTrial,
    TrialSpec,
    Unprepared,
    save_readings,
)
from search.record.final_run import TWIN
from search.record.in_place import in_place
from search.record.lock import locked, worker_lock
from search.record.record import StudyFolder
from search.running.block_weights import BlockLooks
from search.running.final_run import align, make_average
from search.running.finished_run import RunLooks, check_run
from search.running.looks import Look, Looks
from search.running.machine_faults import device_is_lost, machine_fault, out_of_memory
from search.running.worker_process import die_with_parent, load_models, memory, write_to
from search.study.data_check import DataCheck
from search.study.delivery import Delivery
from search.study.finished_run import CheckpointFiles
from search.study.input_digests import keep_inputs
from search.study.study import Study
from search.verdict.disk_cleanup import delete, drop_after
from trainer.checkpoint import checkpoint_path, checkpoints, lora_damage, state_damage
from trainer.devices import has_no_exact_form, repeat_nearly
from trainer.errors import TrainerError
from trainer.families import Base
from trainer.lora.lora import LoraWeights
from trainer.packing.builder import pack_settings, run_settings, shares_a_pack
from trainer.packing.pack import Pack
from trainer.packing.settings import PackSettings
from trainer.packing.training_run import Run

AHEAD = 2
"""Checkpoints that a trial may be trained beyond the last one decided on."""


_LIFE_EVERY_SECONDS = 1.0
_IDLE_SECONDS = 10.0


class _Stopped(Exception):
    """The coordinator ended the trial."""


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
    with in_place(folder.path), locked(worker_lock(folder.path, slot), wait_seconds=60.0) as alone:
        if not alone:
            connection.send(Unprepared("the worker before this one is still alive", wrong_input=False))
            return
        try:
            worker = _loaded(connection, slot, study, folder)
        except (TrainerError, MetricsError) as error:
            connection.send(Unprepared(str(error), wrong_input=True))
            return
        except Exception as error:
            traceback.print_exc()
            text = machine_fault(error) or f"{type(error).__name__}: {error}"
            connection.send(Unprepared(text, wrong_input=False))
            return
        try:
            worker.serve()
        except (EOFError, BrokenPipeError, ConnectionResetError):
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
    """What stays loaded, and the trial at hand. `inexact`: why its numbers need not be the same each time."""

    def __init__(
        self, connection: Connection, slot: int, study: Study, folder: StudyFolder, inexact: str | None = None
    ) -> None:
        began = time.perf_counter()
        self._connection, self._study, self._folder = connection, study, folder
        cores = os.cpu_count() or 1
        # whoever builds the probe has the cores to itself: the other workers wait for it
        torch.set_num_threads(cores)
        models = load_models(study, folder, slot, exactly=inexact is None, say=self._say)
        base, encoder, identity = models.base, models.encoder, models.identity
        checked = None
        if study.finished_run is not None:
            self._say("reading the checkpoints")
            checked = check_run(study.finished_run, base)  # all of it, before anything is drawn
        self._say("building the probe")
        self._probe: Probe = open_probe(study, base, folder.cache, encoder, identity)
        self._looks = _looks(study, folder, self._probe, checked)
        if slot == 0:
            keep_inputs(study, folder)  # all of it has been accepted
        torch.set_num_threads(study.workers.threads or max(1, cores // study.workers.count))
        self._data = None
        if isinstance(study.kind, DataCheck):
            self._data = DataLook(study, folder, self._probe, encoder, identity)
        self._packs: dict[PackSettings, Pack] = {}
        self._decided = 0
        self._alive_at = 0.0
        self._show_life(base)
        notices = (*(f"the base: {notice}" for notice in base.notices), *self._probe.notices) if slot == 0 else ()
        notices += () if inexact is None else (inexact,)
        self._connection.send(Prepared(time.perf_counter() - began, notices))

    def serve(self) -> None:
        """Train what comes."""
        while True:
            message = self._receive()
            if isinstance(message, Quit):
                return
            if isinstance(message, StopTrial):
                drop_after(self._folder.trial(message.number), message.epoch)
            while isinstance(message, TrialSpec):
                message = self._train(message)
            if isinstance(message, Quit):
                return

    def _train(self, spec: TrialSpec) -> Any:
        """Train one trial; returns the message that ended it, when that one needs an answer."""
        trial = _Trial(spec)
        self._decided = spec.processed
        try:
            if self._looks is not None:
                self._look(trial, self._looks)
            self._run(trial)
        except _Stopped as stopped:
            (message,) = stopped.args
            if isinstance(message, StopTrial):
                drop_after(spec.folder, message.epoch)
                return None
            return message
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            known = isinstance(error, TrainerError | MetricsError)
            if not known:
                traceback.print_exc()
            if device_is_lost(error):
                os._exit(1)  # the next process has a device that works, or the coordinator gives up
            self._packs.clear()  # whatever state the pack was left in
            text = str(error) if known else out_of_memory(error) or f"{type(error).__name__}: {error}"
            if has_no_exact_form(error):  # then nearly the same numbers, rather than none
                text = repeat_nearly(error)
            fault = machine_fault(error)
            if self._looks is not None and known:
                fault = str(error)  # its only trial: it goes on once the files are there again
            self._connection.send(
                Failed(spec.number, trial.due, fault or text, again=not known, machine=fault is not None)
            )
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # now that the error holds nothing of it any more
        return None

    def _run(self, trial: "_Trial") -> None:
        spec, began = trial.spec, time.perf_counter()
        _rewind(spec)
        self._base_checkpoint(spec)
        packs, run, twin = self._joined(spec)
        runs = [one for one in (run, twin) if one is not None]
        for line in (line for one in runs for line in one.passed_over):
            self._connection.send(Note(spec.number, line))
        try:
            for epoch in Checkpointed.epochs(spec.folder):  # measured before a restart, not decided on
                if spec.processed < epoch < run.epoch:
                    self._tell(trial, Checkpointed.load(spec.folder, spec.number, epoch))
            trained = time.perf_counter() - began
            while True:
                if run.due:
                    self._checkpoint(trial, run, trained, twin)
                    trained = 0.0
                self._wait_for_decision(trial, run)
                began = time.perf_counter()
                self._say("training", spec.number, run.epoch)
                for pack in packs:
                    pack.train_epoch(on_step=lambda _: self._listen(trial, block=False))
                trained += time.perf_counter() - began
                for one in runs:
                    if one.failed is not None:
                        raise TrainerError(one.failed)
        finally:
            for pack in packs:
                for one in [one for one in runs if one in pack.runs]:
                    pack.leave(one)

    def _joined(self, spec: TrialSpec) -> tuple[list[Pack], Run, Run | None]:
        """(packs, run, its twin): a final run trains on all photos, its twin without those held out; where two runs
        cannot share a pack they take turns."""
        pack, settings = self._pack(spec), run_settings(spec.config, output_name=self._study.name)
        if self._study.kind.final is None:
            return [pack], pack.join(settings, run_dir=spec.folder), None
        align(spec.folder)
        others = pack
        if not shares_a_pack(spec.config) or spec.config.enable_bucket:
            probe = self._probe
            others = Pack(probe.base, probe.trained, pack_settings(spec.config), cache=probe.cache)
        run = pack.join(settings, run_dir=spec.folder, photos=self._probe.everything)
        twin = others.join(settings, run_dir=spec.folder / TWIN)
        return list(dict.fromkeys([pack, others])), run, twin

    def _look(self, trial: "_Trial", looks: Looks) -> None:
        """Look at finished files, one after the other, as at checkpoints that were trained here."""
        spec = trial.spec
        self._base_checkpoint(spec)
        for epoch in looks.counts:
            if epoch <= trial.told:
                continue
            began = time.perf_counter()
            if not looks.begin(spec, epoch):
                look = partial(looks.look, spec, epoch)
                self._measured(spec, epoch, look, {"train": 0.0, "save": time.perf_counter() - began})
                looks.keep(spec, epoch)
            self._tell(trial, Checkpointed.load(spec.folder, spec.number, epoch))
            self._listen(trial, block=False)
        while True:
            self._listen(trial, block=True)

    def _base_checkpoint(self, spec: TrialSpec) -> None:
        """Epoch 0 of a trial: the base as the probe saw it."""
        if not Checkpointed.file(spec.folder, 0).is_file():
            write_base_samples(self._folder.samples_file(spec.number, 0), self._probe)
            save_readings(Checkpointed.file(spec.folder, 0), self._probe.base_readings)

    def _checkpoint(self, trial: "_Trial", run: Run, trained: float, twin: Run | None = None) -> None:
        """Save, draw, score, keep, tell; the twin first, whose losses count."""
        spec, epoch = trial.spec, run.epoch
        _check_there(spec.folder)
        began = time.perf_counter()
        for one in [run] if twin is None else [twin, run]:
            kept = checkpoint_path(one.run_dir / "checkpoints", epoch)
            if lora_damage(kept) is not None or state_damage(kept) is not None:  # or not there at all
                one.save()
        if epoch <= trial.told:
            return
        if not Checkpointed.file(spec.folder, epoch).is_file():
            spent = {"train": trained, "save": time.perf_counter() - began}
            other = None if twin is None else twin.lora_weights()
            look = partial(self._probe.read, run.lora_weights(), epoch=epoch, effort=run.effort, twin=other)
            look = look if self._data is None else partial(self._data.look, look, run, spec)
            self._measured(spec, epoch, look, spent)
        if twin is not None and run.finished:  # before the end is told: then the trial ends
            say, keep = partial(self._say, number=spec.number, epoch=epoch), self._study.keep.samples
            make_average(spec, self._probe, self._study.score.ship, keep_samples=keep, say=say)
        self._tell(trial, Checkpointed.load(spec.folder, spec.number, epoch))

    def _measured(self, spec: TrialSpec, epoch: int, look: Callable[..., Look], spent: dict[str, float]) -> None:
        """Draw, score, keep; `spent`: seconds before that."""
        readings, images, seconds = look(say=lambda what: self._say(what, spec.number, epoch))
        began = time.perf_counter()
        _check_there(spec.folder)
        if self._study.keep.samples:
            write_probe_samples(self._folder.samples_file(spec.number, epoch), self._probe, images)
        spent["save"] += time.perf_counter() - began
        event = Checkpointed(spec.number, epoch, readings, {**spent, **seconds}, memory(self._probe.base.device))
        event.save(spec.folder)

    def _tell(self, trial: "_Trial", event: Checkpointed) -> None:
        self._connection.send(event)
        trial.told = event.epoch

    def _wait_for_decision(self, trial: "_Trial", run: Run) -> None:
        """Listen; wait where the horizon is reached or training is too far ahead of the decisions."""
        far = AHEAD * trial.spec.config.save_every_n_epochs
        self._listen(trial, block=False)
        while run.finished or trial.told - self._decided > far:
            self._say("waiting", trial.spec.number, run.epoch)
            self._listen(trial, block=True)

    def _listen(self, trial: "_Trial", *, block: bool) -> None:
        """Take what the coordinator has said; raises _Stopped when the trial is not to go on."""
        self._alive()
        while block or self._connection.poll():
            block = False
            message = self._receive()
            if isinstance(message, GoOn) and message.number == trial.spec.number:
                self._decided = max(self._decided, message.epoch)
            elif isinstance(message, StopTrial) and message.number != trial.spec.number:
                drop_after(self._folder.trial(message.number), message.epoch)
            elif isinstance(message, StopTrial | Quit | TrialSpec):
                raise _Stopped(message)

    def _receive(self) -> Any:
        """The coordinator's next message; says now and then that this worker is only waiting."""
        while not self._connection.poll(_IDLE_SECONDS):
            self._connection.send(Alive())
        return self._connection.recv()

    def _alive(self) -> None:
        now = time.monotonic()
        if now - self._alive_at > _LIFE_EVERY_SECONDS:
            self._alive_at = now
            self._connection.send(Alive())

    def _show_life(self, base: Base) -> None:
        """Let each pass through the base be a sign of life: images are drawn and losses read with it."""
        for model in (base.denoiser, base.vae.encoder, base.vae.decoder, *base.text_encoders):
            model.register_forward_hook(lambda *_: self._alive())

    def _pack(self, spec: TrialSpec) -> Pack:
        settings = pack_settings(spec.config)
        if settings not in self._packs:
            self._packs[settings] = Pack(self._probe.base, self._probe.trained, settings, cache=self._probe.cache)
        return self._packs[settings]

    def _say(self, what: str, number: int | None = None, epoch: float = 0) -> None:
        self._connection.send(Doing(what, number, epoch))


def _looks(study: Study, folder: StudyFolder, probe: Probe, checked: Mapping[int, LoraWeights] | None) -> Looks | None:
    """What is looked at instead of trained; None where the study trains. `checked`: from `check_run`."""
    match study.kind:
        case CheckpointFiles():
            return RunLooks(study, study.kind, folder, probe, checked)
        case Delivery():
            return BlockLooks(study.kind, probe, folder.cache / "probe", (checked or {}).get(1))
    return None


class _Trial:
    """Where a trial is. `told`: the last epoch whose checkpoint was told to the coordinator."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec, self.told = spec, spec.processed

    @property
    def due(self) -> int:
        step = self.spec.config.save_every_n_epochs
        return min(self.told // step * step + step, self.spec.config.epochs)


def _rewind(spec: TrialSpec) -> None:
    """Drop checkpoints behind one whose readings are missing, so that it is trained and measured again."""
    step, measured = spec.config.save_every_n_epochs, set(Checkpointed.epochs(spec.folder))
    for path in checkpoints(spec.folder / "checkpoints"):
        epoch = int(path.name)
        between = range(spec.processed // step * step + step, epoch, step)
        if not measured.issuperset(between):
            delete(path)


def _check_there(folder: Path) -> None:
    """Writing into a folder that has moved would make half of it again, where it was."""
    if not folder.is_dir():
        raise TrainerError(f"{folder} is gone: moved or deleted while it was trained in")

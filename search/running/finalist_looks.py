"""A worker's part of the finals: draws a checkpoint with fresh seeds and prompts, and keeps what it reads; before that
trains it a second time, where the study asks for it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from search.probe.fresh_probe import FreshProbe, open_fresh_probe
from search.probe.probe import Probe
from search.record.events import DrawAgain, DrawnAgain, Failed
from search.record.finalists import FreshLook
from search.record.record import StudyFolder, TrialRecord, write_samples
from search.running.coordinator_line import HUNG_UP, Ended, Line
from search.running.machine_faults import Fault, seen_fault
from search.running.shared_passes import SharedPasses
from search.running.strength_look import show_strengths
from search.study.study import Study
from search.verdict.disk_cleanup import delete
from trainer.checkpoint import LORA_FILE, checkpoint_path, lora_damage
from trainer.lora.kohya_file import load_lora
from trainer.packing.builder import run_settings
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run

_SEEDS = 2**63


class FinalistLooks:
    """What is done for each finalist. `line`: told what is being done, and of each that is done. `passes`: in which
    second trainings sit."""

    def __init__(self, study: Study, folder: StudyFolder, probe: Probe, line: Line, passes: SharedPasses) -> None:
        self._study, self._folder, self._probe, self._line, self._passes = study, folder, probe, line, passes
        self._opened: FreshProbe | None = None
        self._seconds: dict[DrawAgain, float] = {}  # of training

    def see_to(self, asked: Sequence[DrawAgain], hear: Callable[[], None]) -> bool:
        """Draw, score, keep, tell; whether all of it went well. Those to be trained a second time are trained side by
        side first, where trials share passes.

        Args:
            hear: called between two steps.
        """
        faults: dict[DrawAgain, Fault] = {}
        training = [each for each in asked if each.retrained]
        together = len(training) if self._passes.width is not None else 1
        for start in range(0, len(training), max(1, together)):
            faults |= self._retrained(training[start : start + together], hear)
        for each in asked:
            fault = faults.get(each) or _fault_in(partial(self._look, each))
            if fault is not None:
                faults[each] = fault
                self._line.send(Failed(each.number, each.epoch, fault.text, again=fault.again, machine=fault.machine))
        return not faults

    def _look(self, asked: DrawAgain) -> None:
        """Draw, score, keep, tell; what was drawn from the same prompts before is only told."""
        say = partial(self._line.say, number=asked.number, epoch=asked.epoch)
        fresh, place = self._fresh(say), (asked.number, asked.epoch)
        if asked.strengths and asked.number is not None:
            show_strengths(self._study, self._folder, fresh, asked.number, asked.epoch, say)
        elif not self._is_kept(asked):
            lora = searched = None
            if asked.number is not None:
                searched = self._searched(asked.number, asked.epoch)
                path = self._folder.checkpoint(asked.number, asked.epoch)
                path = checkpoint_path(self._training(asked) / "checkpoints", asked.epoch) if asked.retrained else path
                lora = load_lora(path / LORA_FILE, family=self._probe.base.family.name)
            found, images = fresh.look(lora, asked.epoch, say, searched)
            found = replace(found, seconds=found.seconds + self._seconds.pop(asked, 0.0))
            labels, file = fresh.prompts.labels, FreshLook.file(self._folder, *place, retrained=asked.retrained)
            picture = FreshLook.picture(self._folder, *place, retrained=asked.retrained)
            write_samples(picture, images, fresh.prompts.num_seeds, prompts=labels.prompts, seeds=labels.seeds)
            found.save(file)  # last: with it the look is there
        if asked.retrained:
            delete(self._training(asked))
        self._line.send(DrawnAgain(*place))

    def _fresh(self, say: Callable[[str], None]) -> FreshProbe:
        if self._opened is None:
            say("drawing the base again")
            self._opened = open_fresh_probe(self._study, self._folder, self._probe)
        return self._opened

    def _is_kept(self, asked: DrawAgain) -> bool:
        place = (asked.number, asked.epoch)
        kept = FreshLook.load(FreshLook.file(self._folder, *place, retrained=asked.retrained))
        picture = FreshLook.picture(self._folder, *place, retrained=asked.retrained)
        return kept is not None and kept.asked == self._fresh(self._line.say).asked and picture.is_file()

    def _training(self, asked: DrawAgain) -> Path:
        """The folder of a second training while it lasts."""
        return FreshLook.file(self._folder, asked.number, asked.epoch, retrained=True).parent / "training"

    def _retrained(self, asked: Sequence[DrawAgain], hear: Callable[[], None]) -> Mapping[DrawAgain, Fault]:
        """Train each of these up to its epoch, from its newest checkpoint on; returns what went wrong, and for whom."""
        seats: dict[DrawAgain, tuple[Pack, Run]] = {}
        faults: dict[DrawAgain, Fault] = {}

        def train() -> None:
            for each in asked:
                if not self._is_kept(each):
                    seats[each] = self._seat(each)
            while seats:
                for each, (pack, run) in list(seats.items()):
                    if run.failed is not None:
                        faults[each] = Fault(run.failed, again=False)
                    elif run.due and lora_damage(checkpoint_path(run.run_dir / "checkpoints", run.epoch)) is not None:
                        run.save()
                    if run.failed is not None or run.epoch >= each.epoch:
                        del seats[each]
                        pack.leave(run)
                for pack in {id(pack): pack for pack, _ in seats.values()}.values():
                    runs = [run for one, run in seats.values() if one is pack]
                    pack.train_epoch(lambda _: hear(), runs=runs)

        began = time.perf_counter()
        fault = _fault_in(train)
        self._seconds |= dict.fromkeys(asked, (time.perf_counter() - began) / len(asked))
        if fault is not None:  # whose it is, is not known
            for pack, run in seats.values():
                if run in pack.runs:
                    pack.leave(run)
                self._passes.drop(pack)
            faults |= dict.fromkeys(seats, fault)
            if fault.memory and (self._passes.width or 1) > 1:
                self._passes.narrow()
        return faults

    def _seat(self, asked: DrawAgain) -> tuple[Pack, Run]:
        assert asked.number is not None
        self._line.say("training again", asked.number, asked.epoch)
        config = TrialRecord.load(self._folder.trial(asked.number)).config
        config = config.model_copy(update={"seed": (config.seed + 1) % _SEEDS})
        settings = run_settings(config, output_name=self._study.name)
        return self._passes.join(config, settings, self._training(asked), place=asked.place)

    def _searched(self, number: int, epoch: int) -> dict[str, float] | None:
        """What the search read of a checkpoint; None where only our own score is made, which needs nothing of it."""
        if self._probe.objective is None:
            return None
        rows = (row for row in self._folder.trajectory(number).readings if row.epoch == epoch)
        return {name: reading.value for row in rows for name, reading in row.channels.items()}


def _fault_in(work: Callable[[], None]) -> Fault | None:
    """What goes wrong in it, if anything does."""
    try:
        work()
    except (Ended, *HUNG_UP):
        raise
    except Exception as error:
        return seen_fault(error)
    return None

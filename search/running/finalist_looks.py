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
from search.running.coordinator_line import Line
from search.running.machine_faults import Fault, fault_in
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
            fault = faults.get(each) or fault_in(partial(self._look, each))
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
                lora = load_lora(self._checkpoint(asked) / LORA_FILE, family=self._probe.base.family.name)
            found, images = fresh.look(lora, asked.epoch, say, searched)
            found = replace(found, seconds=found.seconds + self._seconds.pop(asked, 0.0))
            labels, (file, picture) = fresh.prompts.labels, self._files(asked)
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
        file, picture = self._files(asked)
        kept = FreshLook.load(file)
        return kept is not None and kept.asked == self._fresh(self._line.say).asked and picture.is_file()

    def _files(self, asked: DrawAgain) -> tuple[Path, Path]:
        """What is read, and the images."""
        place, retrained = (asked.number, asked.epoch), asked.retrained
        return (
            FreshLook.file(self._folder, *place, retrained=retrained),
            FreshLook.picture(self._folder, *place, retrained=retrained),
        )

    def _checkpoint(self, asked: DrawAgain) -> Path:
        """What is drawn: the search's, or that of the second training."""
        assert asked.number is not None
        if asked.retrained:
            return checkpoint_path(self._training(asked) / "checkpoints", asked.epoch)
        return self._folder.checkpoint(asked.number, asked.epoch)

    def _training(self, asked: DrawAgain) -> Path:
        """The folder of a second training while it lasts."""
        return self._files(asked)[0].parent / "training"

    def _retrained(self, asked: Sequence[DrawAgain], hear: Callable[[], None]) -> Mapping[DrawAgain, Fault]:
        """Train each of these up to its epoch, from its newest checkpoint on; returns what went wrong, and for whom."""
        left = list(asked)
        seats: dict[DrawAgain, tuple[Pack, Run]] = {}
        faults: dict[DrawAgain, Fault] = {}
        began = time.perf_counter()
        fault = fault_in(partial(self._train, left, seats, faults, hear))
        self._seconds |= dict.fromkeys(asked, (time.perf_counter() - began) / len(asked))
        if fault is not None:  # whose it is, is not known
            for pack, run in seats.values():
                if run in pack.runs:
                    pack.leave(run)
                self._passes.drop(pack)
            faults |= dict.fromkeys(left, fault)
            if fault.memory and (self._passes.width or 1) > 1:
                self._passes.narrow()
        return faults

    def _train(
        self,
        left: list[DrawAgain],
        seats: dict[DrawAgain, tuple[Pack, Run]],
        faults: dict[DrawAgain, Fault],
        hear: Callable[[], None],
    ) -> None:
        """`left`: those that are not done yet; `seats`: of these, those that sit. `faults`: of those that blew up."""
        left[:] = [each for each in left if not self._is_kept(each)]
        for each in left:
            seats[each] = self._seat(each)
        while seats:
            for each, (pack, run) in list(seats.items()):
                if run.failed is not None:
                    faults[each] = Fault(run.failed, again=False)
                elif run.due and lora_damage(checkpoint_path(run.run_dir / "checkpoints", run.epoch)) is not None:
                    run.save()
                if run.failed is not None or run.epoch >= each.epoch:
                    del seats[each]
                    left.remove(each)
                    pack.leave(run)
            for pack in dict.fromkeys(pack for pack, _ in seats.values()):
                pack.train_epoch(lambda _: hear(), runs=[run for one, run in seats.values() if one is pack])

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

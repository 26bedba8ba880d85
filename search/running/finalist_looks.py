"""A worker's part of the finals: draws a checkpoint with fresh seeds and prompts, and keeps what it reads; before that
trains it a second time, where the study asks for it. The winner's twins are trained from here, too."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from search.probe.fresh_probe import FreshProbe, open_fresh_probe
from search.probe.probe import Probe
from search.record.events import DrawAgain, DrawnAgain, Failed
from search.record.finalists import FreshLook
from search.record.record import StudyFolder, TrialRecord, write_samples
from search.running.coordinator_line import Line
from search.running.machine_faults import fault_in
from search.running.shared_passes import SharedPasses
from search.running.side_by_side import SideBySide, Training
from search.running.strength_look import show_strengths
from search.running.twin_trainings import TwinTrainings
from search.study.study import Study
from search.verdict.disk_cleanup import delete
from trainer.checkpoint import LORA_FILE, checkpoint_path
from trainer.lora.kohya_file import load_lora

_SEEDS = 2**63


class FinalistLooks:
    """What is done for each finalist. `line`: told what is being done, and of each that is done. `passes`: in which
    second trainings and twins sit."""

    def __init__(self, study: Study, folder: StudyFolder, probe: Probe, line: Line, passes: SharedPasses) -> None:
        self._study, self._folder, self._probe, self._line = study, folder, probe, line
        self._opened: FreshProbe | None = None
        self._side = SideBySide(passes, study.name)
        self._twins = TwinTrainings(folder, probe, line, self._side)

    def see_to(self, asked: Sequence[DrawAgain], hear: Callable[[], None]) -> bool:
        """Draw, score, keep, tell; whether all of it went well. What is to be trained is trained side by side first,
        where trials share passes.

        Args:
            hear: called between two steps.
        """
        faults = dict(self._side.train([each for each in asked if each.retrained], self._ready, hear))
        faults |= self._twins.train([each for each in asked if each.twins], hear)
        for each in asked:
            look = self._twins.keep if each.twins else self._look
            fault = faults.get(each) or fault_in(partial(look, each))
            if fault is not None:
                faults[each] = fault
                why: dict[str, Any] = {"again": fault.again, "machine": fault.machine, "twin": each.twin}
                self._line.send(Failed(each.number, each.epoch, fault.text, **why))
        return not faults

    def _look(self, asked: DrawAgain) -> None:
        """Draw, score, keep, tell; what was drawn from the same prompts before is only told."""
        say = partial(self._line.say, number=asked.number, epoch=asked.epoch)
        fresh, place = self._fresh(say), (asked.number, asked.epoch)
        if asked.strengths and asked.number is not None:
            part = slice(asked.place, None, asked.parts) if asked.parts else None
            show_strengths(self._study, self._folder, fresh, asked.number, asked.epoch, say, part)
        elif not self._is_kept(asked):
            lora = searched = None
            if asked.number is not None:
                searched = self._searched(asked.number, asked.epoch)
                lora = load_lora(self._checkpoint(asked) / LORA_FILE, family=self._probe.base.family.name)
            found, images = fresh.look(lora, asked.epoch, say, searched)
            found = replace(found, seconds=found.seconds + self._side.seconds.pop(asked, 0.0))
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

    def _ready(self, asked: DrawAgain) -> Training | None:
        """The second training of a finalist; None where it was drawn before."""
        if self._is_kept(asked):
            return None
        assert asked.number is not None
        self._line.say("training again", asked.number, asked.epoch)
        config = TrialRecord.load(self._folder.trial(asked.number)).config
        config = config.model_copy(update={"seed": (config.seed + 1) % _SEEDS})
        return Training(config, asked.epoch, self._training(asked), asked.place)

    def _searched(self, number: int, epoch: int) -> dict[str, float] | None:
        """What the search read of a checkpoint; None where only our own score is made, which needs nothing of it."""
        if self._probe.objective is None:
            return None
        rows = (row for row in self._folder.trajectory(number).readings if row.epoch == epoch)
        return {name: reading.value for row in rows for name, reading in row.channels.items()}

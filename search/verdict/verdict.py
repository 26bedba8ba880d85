"""What a study found, in numbers (`verdict.json`) and in plain words: the best config, the epoch to ship, where
overfitting begins, what it cost and where the files are.

`finish(folder)` is called when the last trial is recorded; `make_verdict(folder)` only looks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from search.errors import DamagedError
from search.record.curve import Curve
from search.record.data_check import DATA_CHECK_PAGE, DataCheck
from search.record.final_run import FinalRun
from search.record.finalists import FINALISTS_SHEET, STRENGTHS_SHEET, Finalists
from search.record.finished_run import FinishedRun, short_name
from search.record.json_files import checked, read_json, write_json
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.study.server import Kept
from search.study.settings import KeepSection
from search.verdict.all_photos import same_point
from search.verdict.cost import Cost, cost_of
from search.verdict.data_check_sentences import say_check
from search.verdict.decision import Decision, decide, lora_to_ship
from search.verdict.finalists import draw_sheet, shows_strengths, standing, ties_of
from search.verdict.front import FRONT_PICTURE, Front, front_of, places_of
from search.verdict.plateau import Peak, jitter, peak, plateau
from search.verdict.private_paths import shareable, without_private_paths
from search.verdict.said import Said
from search.verdict.sentences import headline, say
from search.verdict.winner import as_drawn, by_twins, ranked_trials
from trainer.config.recorded import RecordedConfig


@dataclass(frozen=True)
class Verdict:
    """What a study found.

    Attributes:
        study: the study's name.
        decision: what to do, and what is known of the winner: the one that everything else tells.
        config: what the winner was trained with, paths outside the project shortened to their last part; None under
            "nothing".
        params: the searched ones.
        epochs: its horizon; `epochs_trained`: how far it went.
        plateau: first and last checkpoint around the epoch to ship that score no worse than it by more than `noise`.
        peak: where its score is highest, whatever its losses say.
        noise: the score's jitter between neighbouring checkpoints, one standard deviation, in the score's own units;
            trials closer are ties.
        ties: numbers of the other trials that are as good within the noise, or that fresh images do not tell apart.
        photos: (trained on, held out).
        lora_bytes: size of the LoRA to ship; None when there is none or its checkpoint was not kept.
        cost: what it took.
        files: what to the path of it, relative to the study's folder.
        said: all that in plain words.
        final: where the study is the run that ships; None where it is not.
        finished_run: what was looked at instead of trained; None where trials were trained.
        finalists: what the best trials read on fresh images, where they were drawn again: then the score of the
            decision is the one there.
        twins: what the winner's twins say, where there were some.
        front: likeness against obedience of the trials that ship something, as the search read them; None where there
            is nothing to compare.
        trials: number to state of every trial that it was made of; with others, another verdict is due.
    """

    study: str
    decision: Decision = field(default_factory=lambda: Decision("nothing"))
    config: Annotated[RecordedConfig | None, BeforeValidator(lambda value: value or None)] = None  # {} in the file
    params: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    epochs_trained: int | None = None
    plateau: tuple[int, int] | None = None
    peak: Peak | None = None
    noise: float = 0.0
    ties: tuple[int, ...] = ()
    photos: tuple[int, int] | None = None
    lora_bytes: int | None = None
    cost: Cost = field(default_factory=Cost)
    files: Mapping[str, str] = field(default_factory=dict)
    said: Said = field(default_factory=Said)
    trials: Mapping[str, str] = field(default_factory=dict)
    finished_run: FinishedRun | None = None
    final: FinalRun | None = None
    finalists: Finalists | None = None
    front: Front | None = None
    twins: Twins | None = None

    @property
    def is_one_run(self) -> bool:
        """Whether it is about one run, with nothing to choose among: nobody asks for a trial's number then."""
        alone = self.trial is not None and self.cost.trials == 1 and not self.params
        return self.finished_run is not None or self.final is not None or alone

    @property
    def trial(self) -> int | None:
        """Number of the best trial; None when no trial has a score."""
        return self.decision.trial

    @property
    def epoch(self) -> int | None:
        """The epoch that the decision is about; to ship only where `decision.ships`."""
        return self.decision.epoch

    @property
    def score(self) -> float | None:
        """The score at that epoch."""
        return self.decision.score

    @property
    def scored_afresh(self) -> bool:
        """Whether that score is of fresh images."""
        if self.finalists is None or self.twins is None or not self.twins.moved:
            return self.finalists is not None
        one = self.finalists.of(self.trial)
        return one is not None and one.epoch == self.twins.shipped

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every sentence, in the order in which they are read."""
        return tuple(sentence for _, part in self.said.parts for sentence in part)

    @property
    def on_all_photos(self) -> tuple[int, int] | None:
        """First and last epoch of a run on all photos between which the same point lies; None when nothing ships."""
        trained, held = self.photos or (0, 0)
        shipped = self.decision.shipped
        return (
            None
            if shipped is None or not trained or self.finished_run is not None or self.final is not None
            else same_point(shipped, trained, held)
        )

    def save(self, path: Path) -> None:
        """Write `verdict.json`."""
        config = {} if self.config is None else self.config.model_dump(mode="json")
        plain = {**asdict(self), "config": config, "decision": self.decision.as_json()}
        write_json(path, {"headline": headline(self), **plain})

    @classmethod
    def load(cls, path: Path) -> "Verdict":
        """Read `verdict.json`; names that this version does not know are left out. A file of a version that kept no
        decision is drawn anew from the study's records.

        Raises:
            DamagedError: it is not there, or not a verdict.
        """
        try:
            read = read_json(path)
            if isinstance(read, dict) and "status" in read and "decision" not in read:
                return replace(make_verdict(StudyFolder(path.parent)), files=read.get("files", {}))
            return checked(cls, read)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: damaged: python -m search.run writes it again") from error


def known_verdict(folder: StudyFolder) -> Verdict | None:
    """The verdict that a study left; None where there is none yet, or it is damaged (search.run writes it again)."""
    try:
        return Verdict.load(folder.verdict_file)
    except DamagedError:
        return None


def finish(
    folder: StudyFolder | Path,
    *,
    wall_seconds: float | None = None,
    storage: str | None = None,
    keep: KeepSection | None = None,
    publish: Callable[[Verdict], object] = lambda verdict: None,
) -> Verdict:
    """Draws the verdict and writes everything that goes with it: `best/`, sheets, `report.html`, `verdict.json`.

    Args:
        folder: the study's folder.
        wall_seconds: time on the clock, when the caller measured it.
        storage: URL of the Optuna storage for parameter importances; None takes `study.db`.
        keep: what stays of the trials now that all have ended; None leaves them as they are.
        publish: called with the verdict before `verdict.json` is written.
    """
    from search.verdict.best_files import write_best
    from search.verdict.disk_cleanup import tidy_study
    from search.verdict.front_picture import draw_front
    from search.verdict.report import write_report

    folder = folder if isinstance(folder, StudyFolder) else StudyFolder(Path(folder))
    verdict = make_verdict(folder, wall_seconds=wall_seconds)
    verdict = write_best(folder, verdict)
    if verdict.finalists is not None and draw_sheet(folder, verdict.finalists):
        verdict = replace(verdict, files={**verdict.files, "finalists": FINALISTS_SHEET})
        if shows_strengths(folder, verdict):
            verdict = replace(verdict, files={**verdict.files, "strengths": STRENGTHS_SHEET})
    if verdict.front is not None:
        draw_front(folder, verdict)
        verdict = replace(verdict, files={**verdict.files, "likeness and obedience": FRONT_PICTURE})
    if keep is not None:
        said = verdict.said
        verdict = replace(verdict, said=replace(said, took=(*said.took, *tidy_study(folder, keep, verdict))))
    write_report(folder, verdict, storage=storage)
    publish(verdict)
    verdict.save(folder.verdict_file)  # last: a study with a verdict has everything that goes with it
    return verdict


def belongs(verdict: Verdict, records: Sequence[TrialRecord]) -> bool:
    """Whether a verdict was made of these trials, all of them ended as they have now."""
    return dict(verdict.trials) == _states(records) and all(record.state != "running" for record in records)


def make_verdict(folder: StudyFolder, *, wall_seconds: float | None = None) -> Verdict:
    """Looks at the trials' records and trajectories and decides; writes nothing."""
    records = list(folder.records())
    cost = cost_of(records, wall_seconds)
    ranked, finalists, curves, noise = _ranked(folder)
    files = {"trials": "trials"} | ({} if Kept.load(folder) else {"database": folder.database.name})
    if (folder.path / DATA_CHECK_PAGE).is_file():
        files = {"data check": DATA_CHECK_PAGE, **files}
    verdict = Verdict(study=folder.path.name, cost=cost, files=files, photos=_photos(folder))
    if ranked:
        winner, finalists = by_twins(folder, ranked[0], finalists)
        ties = [record.number for record in ranked[1:]] if finalists is None else ties_of(finalists, winner.number)
        decision = decide(winner)
        lora = lora_to_ship(folder, decision)
        verdict = replace(
            verdict,
            decision=decision,
            config=shareable(winner.config),
            finished_run=_shareable(winner.finished_run),
            final=winner.final,
            params=winner.params,
            epochs=winner.epochs,
            epochs_trained=winner.epochs_trained,
            plateau=plateau(curves[winner.number], decision.epoch, noise),
            peak=peak(curves[winner.number], noise),
            noise=noise,
            ties=tuple(sorted(ties)),
            finalists=finalists,
            twins=winner.twins,
            front=front_of(places_of(records, curves), winner.number) if decision.ships else None,
            lora_bytes=lora.stat().st_size if decision.ships and lora.is_file() else None,
        )
    errors = [without_private_paths(r.error) for r in records if r.state == "failed" and r.error]
    said, check = say(verdict, errors), DataCheck.of(folder)
    if check is not None and ranked:
        said = say_check(check, verdict, said)
    return replace(verdict, said=said, trials=_states(records))


def before_twins(folder: StudyFolder) -> Decision:
    """What is decided without the word of any twins: which trial wins, and whether it ships."""
    ranked = _ranked(folder)[0]
    return decide(ranked[0]) if ranked else Decision("nothing")


def _ranked(
    folder: StudyFolder,
) -> tuple[list[TrialRecord], Finalists | None, dict[int, Curve | None], float]:
    """The winner and those as good, without the word of twins, which make one trial no better than others; the
    finalists; curves by trial, and their noise."""
    records = list(folder.records(searched=True))
    curves = {record.number: Curve.load(folder.trial(record.number)) for record in records}
    own_scale = any(record.objective for record in records)
    noise = jitter([curve for curve in curves.values() if curve is not None], bounded=not own_scale)
    finalists = standing(folder, records)
    if finalists is None:
        return ranked_trials(records, curves, noise), None, curves, noise
    # what fresh images say is not rounded to the noise of the search
    return ranked_trials(as_drawn(records, finalists), curves, 0.0), finalists, curves, noise


def _shareable(run: FinishedRun | None) -> FinishedRun | None:
    """With the names of its files only."""
    return None if run is None else replace(run, files={n: short_name(file) for n, file in run.files.items()})


def _states(records: Sequence[TrialRecord]) -> dict[str, str]:
    return {str(record.number): record.state for record in records}


def _photos(folder: StudyFolder) -> tuple[int, int] | None:
    try:
        about = folder.probe()
    except (OSError, ValueError):
        return None
    return len(about.trained), about.held_out

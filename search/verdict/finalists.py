"""The finalists in a verdict: whether what was drawn again is of the trials that are there, their sentences and their
sheet."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metrics.images.sample_notes import Sheet, note_of
from metrics.onset.sentences import listed
from search.record.finalists import FINALISTS_SHEET, STRENGTHS_SHEET, Finalist, Finalists, FreshLook, StrengthsShown
from search.record.record import StudyFolder, TrialRecord
from search.verdict.quantities import duration
from search.verdict.ranking import best_trials

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_MOST_ROWS, _SEEDS = 24, 2


def standing(folder: StudyFolder, records: Sequence[TrialRecord]) -> Finalists | None:
    """What was found of the finalists, where they are still the best trials; a study that went on has others."""
    found = Finalists.load(folder)
    if found is None or not found.drawn:
        return None
    shipped = {record.number: record.epoch_shipped for record in records}
    same = found.numbers == set(best_trials(records, int(found.settings.get("trials", 0))))
    return found if same and all(shipped[one.trial] == one.epoch for one in found.drawn) else None


def at_twins_epoch(folder: StudyFolder, found: Finalists, trial: int, epoch: int) -> Finalists | None:
    """The same finalists with the winner as it was drawn at the epoch that ships by its twins; None where it was not
    drawn there."""
    moved = Finalists.load(folder, by_twins=True)
    if moved is None or moved.settings != found.settings:
        return None
    epochs = {one.trial: one.epoch for one in found.drawn} | {trial: epoch}
    return moved if {one.trial: one.epoch for one in moved.drawn} == epochs else None


def ties_of(found: Finalists, winner: int) -> list[int]:
    """Numbers of those that fresh images do not tell from the winner, the best first."""
    first = found.of(winner)
    little = found.learned_little
    others = [one for one in found.drawn if one.trial != winner and one.trial not in little and one.as_good]
    return [one.trial for one in others if first is None or not one.surely_above(first)]


def tie_sentences(verdict: "Verdict") -> list[str]:
    """Which trials are about as good as the winner, and why that one wins."""
    if not verdict.ties:
        return []
    many = len(verdict.ties) > 1
    others = listed([str(number) for number in verdict.ties])
    said = f"Trial{'s' * many} {others} {'are' if many else 'is'} about as good: "
    if verdict.finalists is not None:
        return [f"{said}the fresh images do not tell {'them' if many else 'the two'} apart."]
    said += f"the scores differ by less than their noise (±{verdict.noise:.3f})."
    if verdict.decision.objective:
        return [f"{said} The highest wins."]
    return [f"{said} Of equally good trials the smallest LoRA wins, then the one with the most good epochs."]


def finalist_sentences(verdict: "Verdict") -> list[str]:
    """What the fresh images say of the winner, and how sure they are."""
    found = verdict.finalists
    one = None if found is None else found.of(verdict.trial)
    if found is None or one is None:
        return []
    count = len(found.drawn)
    who = f"The best {count} trials were" if count > 1 else "The best trial was"
    again = f", {found.repeated} of them as in the search" if found.repeated else ""
    there = "there" if verdict.scored_afresh else f"at {verdict.decision.unit} {one.epoch}"
    said = [
        f"{who} drawn again at {'their epochs' if count > 1 else 'its epoch'} to ship, with fresh seeds: "
        f"{found.images} images of {found.prompts} prompts{again}. Trial {one.trial} scores {one.score:.3f} {there} "
        f"(90 % interval {one.low:.3f} to {one.high:.3f}); in the search it was {one.searched:.3f}."
    ]
    if found.retrained:
        who = "Each was" if count > 1 else "It was"
        both = "" if not one.trainings else " Trial {} has {:.3f} and {:.3f}.".format(one.trial, *one.trainings)
        said.append(
            f"{who} also trained a second time, under another seed, and drawn. The score is the mean of both.{both}"
        )
    if count > 1:
        also = " and other seeds of training" if found.retrained else ""
        said.append(
            f"With other prompts of this kind{also} it would be the best of them in {100 * one.best:.0f} of 100 cases."
        )
    said += _learned_little(found, one)
    if verdict.twins is not None and verdict.twins.moved and verdict.scored_afresh:
        said += _above(found, one)
    for what, reasons in (("drawn again", found.left_out), ("trained a second time", found.not_retrained)):
        for number, why in sorted(reasons.items()):
            said.append(f"Trial {number} was not {what}: {why.strip().splitlines()[-1]}.")
    return said


def _above(found: Finalists, winner: Finalist) -> list[str]:
    """Those that score more than the winner, which its twins moved to another epoch."""
    little = found.learned_little
    more = sorted(one.trial for one in found.drawn if one.score > winner.score and one.trial not in little)
    if not more:
        return []
    many = len(more) > 1
    others = f"Trial{'s' * many} {listed([str(trial) for trial in more])} score{'s' * (not many)} more on fresh images"
    return [f"{others}, but no twins say where {'they begin' if many else 'it begins'} to memorise the photos."]


def _learned_little(found: Finalists, winner: Finalist) -> list[str]:
    """Those that score more than the winner, and do not win since they have learned too little."""
    most = max(found.drawn, key=lambda one: one.learned or 0.0)
    return [
        f"Trial {one.trial} scores more there ({one.score:.3f}), but learned too little to win: its loss on held-out "
        f"photos {_moved(one)}, that of trial {most.trial} {_moved(most)}."
        for one in found.drawn
        if one.trial in found.learned_little - {winner.trial} and one.score > winner.score
    ]


def _moved(one: Finalist) -> str:
    """How its loss on held-out photos moved: `fell by 12 %`."""
    change = -100 * np.expm1(-(one.learned or 0.0))
    percent = f"{abs(change):.{0 if abs(change) >= 9.95 else 1}f} %"
    return f"{'rose' if change < 0 else 'fell'} by {percent}"


def finalist_cost(verdict: "Verdict") -> list[str]:
    """What drawing again took, and training again."""
    found = verdict.finalists
    if found is None:
        return []
    what = "Drawing the finalists again" + (" and training them a second time" if found.retrained else "")
    return [f"{what} took {duration(found.seconds)} more."]


def finalist_columns(verdict: "Verdict") -> tuple[str, ...]:
    """Heads of the columns of `finalist_rows`."""
    retrained = verdict.finalists is not None and verdict.finalists.retrained
    trainings = ("of each training",) if retrained else ()
    scores = ("score on fresh images", *trainings, "90 % interval", "in the search", "best of them in")
    return ("trial", "epoch", *scores, "")


def finalist_rows(verdict: "Verdict") -> list[tuple[bool, tuple[str, ...]]]:
    """(whether it is the one to ship, cells under `finalist_columns`) of each finalist, the best first."""
    found = verdict.finalists
    if found is None:
        return []
    rows: list[tuple[bool, tuple[str, ...]]] = []
    for one in found.drawn:
        wins = one.trial == verdict.trial
        cells = (
            str(one.trial),
            str(one.epoch),
            f"{one.score:.3f}",
            *([" and ".join(f"{score:.3f}" for score in one.trainings)] if found.retrained else []),
            f"{one.low:.3f} to {one.high:.3f}",
            f"{one.searched:.3f}",
            f"{100 * one.best:.0f} %",
            "" if wins else _beside_winner(verdict, found, one),
        )
        rows.append((wins, cells))
    return rows


def _beside_winner(verdict: "Verdict", found: Finalists, one: Finalist) -> str:
    """How another finalist stands beside the winner."""
    winner = found.of(verdict.trial)
    if one.trial in found.learned_little:
        return "learned too little"
    if winner is not None and one.surely_above(winner):
        return "surely better"
    return "about as good" if one.trial in verdict.ties else "surely worse"


def draw_sheet(folder: StudyFolder, found: Finalists) -> bool:
    """`finalists.png`: the base and each finalist side by side, on the first fresh seeds; whether it could be drawn."""
    from trainer.inference.picture_grid import Column, cell_width, picture_grid
    from trainer.inference.sample_files import write_figure

    base = images_of_look(folder, None, 0)
    kept = {one: images for one in found.drawn if (images := images_of_look(folder, one.trial, one.epoch)) is not None}
    if base is None or not kept:
        return False
    prompts, pictures = base
    rows = list(_rows(prompts))
    columns = [Column("base")]
    columns += [Column(f"trial {one.trial}", f"{one.score:.3f} at {one.epoch}") for one in kept]
    grid = picture_grid(
        [[look[row] for row in rows] for look in (pictures, *(images for _, images in kept.values()))],
        columns,
        [prompts[row] for row in rows],
        title=f"{folder.path.name}: the finalists",
        subtitle="seeds and prompts that the search never used",
        cell=cell_width(pictures.shape[2]),
    )
    write_figure(folder.path / FINALISTS_SHEET, grid)
    return True


def shows_strengths(folder: StudyFolder, verdict: "Verdict") -> bool:
    """Whether `strengths.png` is of what ships now."""
    shown = StrengthsShown.load(folder)
    if shown is None or not (folder.path / STRENGTHS_SHEET).is_file():
        return False
    return (shown.trial, shown.epoch) == (verdict.trial, verdict.epoch)


def _rows(prompts: Sequence[str]) -> Iterable[int]:
    """The first seeds of each prompt, as far as a sheet has room."""
    rows = [row for row, prompt in enumerate(prompts) if row - prompts.index(prompt) < _SEEDS]
    return rows[:_MOST_ROWS]


def images_of_look(folder: StudyFolder, trial: int | None, epoch: int) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Prompts and images `[n, H, W, 3]` of a look; None where its picture is not there, or damaged."""
    from PIL import Image

    path = FreshLook.picture(folder, trial, epoch)
    try:
        with Image.open(path) as picture:
            note, pixels = note_of(picture, path), np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        return None
    if not isinstance(note, Sheet) or not note.images:
        return None
    height, width = pixels.shape[0] // note.rows, pixels.shape[1] // note.columns
    images = pixels.reshape(note.rows, height, note.columns, width, 3).swapaxes(1, 2)
    return tuple(each.prompt for each in note.images), images.reshape(-1, height, width, 3)

"""The finals: the best trials are drawn again by the study's workers, with seeds and prompts that the search never
used, where the study asks for it trained a second time, and compared.

What was drawn is kept image by image, so that a study that is killed here goes on with what is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from metrics.trajectory.readings import OWN_SCORE
from search.record.curve import HELD_OUT, Curve
from search.record.events import DrawAgain
from search.record.finalists import BY_TWINS_FILE, Finalist, Finalists, FreshLook, learned_little
from search.record.record import StudyFolder
from search.record.twins import Twins
from search.running.drawing import Drawing
from search.running.twins import cross_fit
from search.study.study import Study
from search.verdict.best_files import without_twins
from search.verdict.ranking import best_trials
from trainer.checkpoint import lora_damage

_EPOCHS_SHOWN = 3
"""At most: the epoch to ship, the one before it and the one behind it."""
_LEAST_FREEDOM = 3
"""Degrees of freedom of Student's t, however few trials were trained twice: with one its tails would be endless."""


def draw_finalists(drawing: Drawing) -> Finalists | None:
    """Draw the best trials again; None where the study asks for none, or none ships. Kept as `finalists.json`. Then the
    winner's twins are trained, where the study asks for them, and what ships is shown at other strengths.

    Args:
        drawing: has the study's workers, with nothing else to do but what has begun.

    Raises:
        WorkerError: the workers cannot work.
    """
    study, folder, check_place = drawing.study, drawing.folder, drawing.check_place
    if not study.num_twins:
        check_place()
        without_twins(folder)
    found = _drawn_again(study, folder, drawing)
    if found is not None and not study.num_twins:
        _show_strengths(study, drawing, (found.drawn[0].trial, found.drawn[0].epoch) if found.drawn else None)
    if found is not None:
        found.save(folder)  # last: with it all is drawn
    if study.num_twins:
        fitted = cross_fit(study, folder, drawing)
        check_place()
        (folder.path / BY_TWINS_FILE).unlink(missing_ok=True)
        if found is not None and fitted is not None:
            number, told = fitted
            if told.moved:
                _draw_where_it_ships(study, folder, drawing, found, number, told)
            _show_strengths(study, drawing, (number, told.shipped))
    return found


def _draw_where_it_ships(
    study: Study, folder: StudyFolder, drawing: Drawing, found: Finalists, number: int, told: Twins
) -> None:
    """The winner, which ships at another epoch by its twins, is drawn again there as it was before, and compared anew
    with the others. Nothing where its LoRA is not there any more, or could not be drawn."""
    if lora_damage(folder.checkpoint(number, told.shipped)) is not None:
        return
    drawing.board.note(f"trial {number} is drawn again at epoch {told.shipped}, which ships by its twins")
    drawing.run([DrawAgain(number, told.shipped)])
    twice = study.finalists.retrain and number not in drawing.left_out and number not in drawing.not_retrained
    if twice:
        drawing.run([DrawAgain(number, told.shipped, retrained=True)])
    drawing.check_place()
    epochs = {one.trial: one.epoch for one in found.drawn} | {number: told.shipped}
    searched = {one.trial: one.searched for one in found.drawn} | {number: told.score or 0.0}
    not_retrained = {int(trial): why for trial, why in found.not_retrained.items()} | drawing.not_retrained
    now = compared(study, folder, searched, epochs, found.left_out, not_retrained, first=number)
    if number in drawing.left_out or now.of(number) is None:
        return
    looks = [_scored(folder, {number: told.shipped}, retrained=again) for again in {False, twice}]
    more = sum(look.seconds for each in looks for look in each.values())
    replace(now, seconds=found.seconds + more).save(folder, by_twins=True)


def _show_strengths(study: Study, drawing: Drawing, best: tuple[int, int] | None) -> None:
    """What ships, (trial, epoch), at other strengths, and on other bases: all workers draw columns of the picture."""
    if best is not None and (study.finalists.strengths or study.transfer_bases):
        columns = _EPOCHS_SHOWN * len(study.finalists.strengths) + len(study.transfer_bases)
        if (parts := min(drawing.team.count, columns)) > 1:
            drawing.run([DrawAgain(*best, strengths=True, place=part, parts=parts) for part in range(parts)])
        drawing.run([DrawAgain(*best, strengths=True)])
        drawing.check_place()


def _drawn_again(study: Study, folder: StudyFolder, drawing: Drawing) -> Finalists | None:
    """The best trials, drawn again and compared; None without any."""
    board, check_place = drawing.board, drawing.check_place
    records = {record.number: record for record in folder.records(searched=True)}
    asked = best_trials(records.values(), study.num_finalists)
    if not asked:
        return None
    epochs = {number: epoch for number in asked if (epoch := records[number].epoch_shipped) is not None}
    again = "the best trial is" if len(asked) == 1 else f"the best {len(asked)} trials are"
    board.note(f"{again} drawn again, with seeds and prompts that the search never used")
    drawing.run([DrawAgain(None, 0)])  # what all others are held against
    drawing.run([DrawAgain(number, epoch) for number, epoch in epochs.items()])
    if study.finalists.retrain:
        left = [number for number in asked if number not in drawing.left_out]
        board.note(f"{'it is' if len(left) == 1 else 'they are'} trained a second time, under another seed")
        drawing.run([DrawAgain(number, epochs[number], retrained=True, place=at) for at, number in enumerate(left)])
    check_place()
    scores = {number: records[number].score or 0.0 for number in asked}
    return compared(study, folder, scores, epochs, drawing.left_out, drawing.not_retrained)


def compared(
    study: Study,
    folder: StudyFolder,
    searched: Mapping[int, float],
    epochs: Mapping[int, int],
    left_out: Mapping[int, str],
    not_retrained: Mapping[int, str],
    first: int | None = None,
) -> Finalists:
    """What the fresh images say, with a picture of them.

    Args:
        searched: score in the search, by trial. epochs: to ship, by trial.
        left_out: those that could not be drawn again. not_retrained: nor trained a second time.
        first: the trial that wins, whatever the others score; None for the one that scores highest of those that have
            learned enough.
    """
    base = FreshLook.load(FreshLook.file(folder, None, 0))
    looks = _scored(folder, {number: epochs[number] for number in searched if number not in left_out})
    missing = dict.fromkeys(set(searched) - set(left_out) - set(looks), "its fresh images have no score")
    again: dict[int, FreshLook] = {}
    if study.finalists.retrain:
        twice = {number: epochs[number] for number in looks if number not in not_retrained}
        again = _scored(folder, twice, retrained=True)
    learned = (
        {} if study.objective is not None else {number: _learned(folder, number, epochs[number]) for number in looks}
    )
    drawn = _drawn(looks, again, searched, epochs, learned, first)
    one = next(iter(looks.values()), None)
    result = Finalists(
        settings=study.finalists.model_dump(mode="json"),
        drawn=drawn,
        left_out={**left_out, **missing},
        not_retrained=dict(not_retrained),
        images=0 if one is None else one.images,
        prompts=0 if one is None else one.prompts,
        repeated=0 if one is None else one.repeated,
        base=None if base is None else base.readings.score,
        seconds=sum(look.seconds for look in (*looks.values(), *again.values(), *([] if base is None else [base]))),
    )
    return result


def _scored(folder: StudyFolder, epochs: Mapping[int, int], *, retrained: bool = False) -> dict[int, FreshLook]:
    """The looks of these trials that are there and have a score."""
    found = {n: FreshLook.load(FreshLook.file(folder, n, epoch, retrained=retrained)) for n, epoch in epochs.items()}
    return {number: look for number, look in found.items() if look is not None and np.isfinite(look.readings.score)}


def _drawn(
    looks: Mapping[int, FreshLook],
    again: Mapping[int, FreshLook],
    searched: Mapping[int, float],
    epochs: Mapping[int, int],
    learned: Mapping[int, float | None],
    first: int | None,
) -> tuple[Finalist, ...]:
    """The best first, those that have learned too little last; of equal ones the one that the search put first.
    `again`: looks of second trainings. `first`: see `compared`."""
    trainings = {n: [each[n].readings.score for each in (looks, again) if n in each] for n in looks}
    score = {number: float(np.mean(each)) for number, each in trainings.items()}
    little = learned_little(learned)

    def place_of(number: int) -> tuple[bool, bool, float, float, int]:
        return number != first, number in little, -score[number], -searched[number], number

    order = sorted(looks, key=place_of)
    if not order:
        return ()
    draws = np.stack([_draws(looks[number], again.get(number)) for number in order])
    draws += luck_of_training(trainings, order, draws.shape[1])
    may_win = np.array([[number not in little] for number in order])
    best = np.where(may_win, draws, -np.inf).argmax(axis=0)
    made = []
    for place, number in enumerate(order):
        low, high = (float(value) for value in np.quantile(draws[place], (0.05, 0.95)))
        own = looks[number].readings.channels.get(OWN_SCORE)
        made.append(
            Finalist(
                trial=number,
                epoch=epochs[number],
                searched=searched[number],
                score=score[number],
                low=low,
                high=high,
                best=float((best == place).mean()),
                behind=float((draws[place] < draws[0]).mean()),
                own=None if own is None else own.value,
                trainings=tuple(trainings[number]) if number in again else (),
                learned=learned.get(number),
            )
        )
    return tuple(made)


def _learned(folder: StudyFolder, number: int, epoch: int) -> float | None:
    """By how much a trial's loss of held-out photos has fallen at an epoch; None where it was not read."""
    curve = Curve.load(folder.trial(number))
    above = None if curve is None else curve.at(epoch).get(HELD_OUT)
    return None if above is None else -above


def _draws(first: FreshLook, second: FreshLook | None) -> np.ndarray:
    """`[resamples]` scores with other prompts, the same ones for both trainings."""
    return first.draws.copy() if second is None else (first.draws + second.draws) / 2


def luck_of_training(trainings: Mapping[int, Sequence[float]], order: Sequence[int], count: int) -> np.ndarray:
    """`[trials, count]` what another seed of training could add to the score of each trial in `order`: the standard
    deviation between two trainings of one trial, from all that were trained twice, over the root of how many trainings
    of this one there are, times Student's t. Zeros where none was trained twice.

    Source: Student 1908, "The probable error of a mean", with the variance pooled over trials.
    """
    apart = [each[0] - each[1] for each in trainings.values() if len(each) > 1]
    if not apart:
        return np.zeros((len(order), count))
    deviation, freedom = np.sqrt(np.mean(np.square(apart)) / 2), max(len(apart), _LEAST_FREEDOM)
    luck = np.random.default_rng(len(order)).standard_t(freedom, size=(len(order), count))
    return luck * deviation / np.sqrt([[len(trainings[number])] for number in order])

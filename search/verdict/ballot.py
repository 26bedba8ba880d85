"""The vote on finalists: in optuna-dashboard people click away the worst of them, seeing their fresh images and neither
number nor score.

It is a study of its own in the same storage, `<study>-votes`, of the dashboard's preferential kind.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.onset.sentences import listed
from search.record.finalists import Finalist, Finalists, FreshLook
from search.record.record import StudyFolder
from search.record.votes import Shown, Votes
from search.verdict.artifacts import upload
from search.verdict.finalists import images_of_look

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore
    from optuna.storages import BaseStorage
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial
    from optuna_dashboard.preferential import PreferentialStudy

_IMAGES, _TRIAL, _EPOCH, _OPEN = "images", "trial", "epoch", "open"
_COLUMNS, _MOST_ROWS = 4, 8


def ballot_name(study: str) -> str:
    """What a study's vote is called in its storage."""
    return f"{study}-votes"


def open_ballot(url: str, folder: StudyFolder, found: Finalists | None, store: "ArtifactStore") -> None:
    """Puts the finalists to the vote, where there are two or more with images; a vote on others is closed.

    Votes that were given on finalists which are still there stay.

    Args:
        url: of the study's storage. store: for the images.
    """
    if found is None:
        return
    import optuna

    from search.tuning.optuna_storage import open_storage

    pictures = {one: picture for one in _shuffled(folder, found) if (picture := _draw(folder, one)) is not None}
    shown = list(pictures)
    if len(shown) < 2:
        return
    storage = open_storage(url)
    known = _known(storage, folder)
    _counted(storage, folder, known)
    if known is not None:
        if known.user_attrs.get(_OPEN):
            ballot = _opened(storage, folder, len(shown))
            if list(_places(ballot)) == [(one.trial, one.epoch) for one in shown]:
                return
        optuna.delete_study(study_name=known.study_name, storage=storage)
    ballot = _opened(storage, folder, len(shown))
    for one in shown:
        trial = ballot.ask()
        trial.set_user_attr(_TRIAL, one.trial)
        trial.set_user_attr(_EPOCH, one.epoch)
        trial.set_user_attr(_IMAGES, upload(trial, pictures[one], store, "images.png"))
    places = _places(ballot)
    for better, worse in Votes.load(folder).among(set(places)).preferences:
        ballot.report_preference(places[better], places[worse])
    ballot.set_user_attr(_OPEN, True)  # last: until then the folder knows more than it does


def count_votes(url: str, folder: StudyFolder) -> bool:
    """Keeps the votes that the storage holds in the study's folder; returns whether they are others than before."""
    from search.tuning.optuna_storage import open_storage

    storage = open_storage(url)
    return _counted(storage, folder, _known(storage, folder))


def _counted(storage: "BaseStorage", folder: StudyFolder, known: "FrozenStudy | None") -> bool:
    import optuna

    if known is None or not known.user_attrs.get(_OPEN):
        return False
    with _quiet():
        from optuna_dashboard.preferential import load_study

        ballot = load_study(study_name=known.study_name, storage=storage, sampler=optuna.samplers.RandomSampler())
    shown, before = {trial.number: shown for shown, trial in _places(ballot).items()}, Votes.load(folder)
    pairs = [(shown[better.number], shown[worse.number]) for better, worse in ballot.get_preferences()]
    elsewhere = set(before.preferences) - set(before.among(set(shown.values())).preferences)
    votes = Votes(tuple(sorted({*elsewhere, *pairs})))
    if votes == before:
        return False
    votes.save(folder)
    return True


def vote_sentences(found: Finalists | None, votes: Votes) -> list[str]:
    """Whether people and the score agree on the finalists; nothing where nobody has voted on them."""
    pairs = () if found is None else votes.among({(one.trial, one.epoch) for one in found.drawn}).preferences
    if found is None or not pairs:
        return []
    scores = {(one.trial, one.epoch): one.score for one in found.drawn}
    agree = sum(scores[better] > scores[worse] for better, worse in pairs)
    said = [
        f"People compared finalists without seeing their scores. In {agree} of {len(pairs)} comparisons they find the "
        "one better that has the higher score."
    ]
    beaten = {worse for _, worse in pairs}
    best = sorted(trial for trial, _ in {better for better, _ in pairs} - beaten)
    if best and found.drawn[0].trial not in best:
        many = len(best) > 1
        said.append(
            f"They put trial{'s' * many} {listed([str(trial) for trial in best])} first, the verdict trial "
            f"{found.drawn[0].trial}. `search.pick` records another choice than the verdict's."
        )
    elif best:
        said.append(f"They put trial {found.drawn[0].trial} first, as the verdict does.")
    return said


def _known(storage: "BaseStorage", folder: StudyFolder) -> "FrozenStudy | None":
    """The vote as it lies in the storage. Where it is not open, it was cut off, and may not even be a vote yet."""
    name = ballot_name(folder.path.name)
    return next((study for study in storage.get_all_studies() if study.study_name == name), None)


def _opened(storage: "BaseStorage", folder: StudyFolder, count: int) -> "PreferentialStudy":
    import optuna

    with _quiet():
        from optuna_dashboard import register_preference_feedback_component
        from optuna_dashboard.preferential import create_study

        ballot = create_study(
            n_generate=count,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
            study_name=ballot_name(folder.path.name),
            load_if_exists=True,
        )
        register_preference_feedback_component(ballot, "artifact", _IMAGES)
    return ballot


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that the dashboard's preferential studies are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _places(ballot: "PreferentialStudy") -> "dict[Shown, FrozenTrial]":
    """What is put to the vote, in order."""
    return {(trial.user_attrs[_TRIAL], trial.user_attrs[_EPOCH]): trial for trial in ballot.trials}


def _shuffled(folder: StudyFolder, found: Finalists) -> Sequence[Finalist]:
    """In an order that says nothing of their scores, the same each time."""

    def order(one: Finalist) -> bytes:
        return hashlib.sha256(f"{folder.path.name} {one.trial} {one.epoch}".encode()).digest()

    return sorted(found.drawn, key=order)


def _draw(folder: StudyFolder, one: Finalist) -> Path | None:
    """A picture of its fresh images, prompts down and seeds across, with neither number nor score; None where its
    images are not there."""
    from trainer.inference.picture_grid import Column, cell_width, picture_grid
    from trainer.inference.sample_files import write_figure

    look = images_of_look(folder, one.trial, one.epoch)
    if look is None:
        return None
    of_prompt: dict[str, list[np.ndarray]] = {}
    for prompt, image in zip(*look, strict=True):
        of_prompt.setdefault(prompt, []).append(image)
    rows = list(of_prompt.items())[:_MOST_ROWS]
    count = min(_COLUMNS, *(len(images) for _, images in rows))
    columns = [[images[place] for _, images in rows] for place in range(count)]
    cell = cell_width(look[1].shape[2])
    grid = picture_grid(
        columns, [Column(f"seed {place + 1}") for place in range(count)], [p for p, _ in rows], cell=cell
    )
    path = FreshLook.picture(folder, one.trial, one.epoch)
    path = path.with_name(f"{path.stem}-vote.png")
    write_figure(path, grid)
    return path

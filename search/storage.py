"""The Optuna study behind a study folder: opened by its one writer, the coordinator."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from search.database import BUSY_SECONDS, connect, storage_url
from search.pruner import PeerPruner
from search.sampler import sampler_for
from search.space import Space

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The Optuna storage behind a URL; waits where another program has locked a SQLite file."""
    engine: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=engine)


class Ledger:
    """One Optuna study in SQLite, written by one process.

    Args:
        path: the database; made if it is not there.
        name: the study's name in it.
        seed: of the sampler.
        startup_trials: trials drawn at random first.
    """

    def __init__(self, path: Path, name: str, *, seed: int, startup_trials: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        with connect(path) as database:
            database.execute("PRAGMA journal_mode=WAL")  # readers (status, dashboard) never block the writer
        storage = open_storage(storage_url(path))
        self.seed, self.startup_trials = seed, startup_trials
        self._reported: dict[int, set[int]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=sampler_for(seed, 0, "", startup_trials),
                pruner=PeerPruner(),
            )
            self.study.set_metric_names(["score"])

    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        return self.study.get_trials(deepcopy=False)

    @property
    def starting_up(self) -> bool:
        """Whether the next trial is drawn at random: too few have ended for the sampler to learn from."""
        ended = sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in self.trials())
        return ended < self.startup_trials

    def ask(self, space: Space, attributes: Mapping[str, Any]) -> tuple[Trial, dict[str, Any]]:
        """A new trial with its searched TrainConfig fields; `attributes` are stored first of all."""
        number = len(self.trials())
        self._reseed(number, "")
        trial = self.study.ask()
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        return trial, self._params(trial, space)

    def reattach(self, number: int, space: Space) -> tuple[Trial, dict[str, Any]]:
        """A trial that was running when its coordinator died, under its own number; what it had not yet been given
        is asked for as it would have been then."""
        self._reseed(number, "")
        frozen = self.trials()[number]
        self._reported[number] = set(frozen.intermediate_values)
        # The one use of a private name: Optuna has no public way to go on with a running trial.
        trial = Trial(self.study, frozen._trial_id)
        return trial, self._params(trial, space)

    def report(self, trial: Trial, epoch: int, score: float) -> None:
        """Report a checkpoint's score, once."""
        reported = self._reported.setdefault(trial.number, set())
        if epoch not in reported:
            reported.add(epoch)
            trial.report(score, epoch)

    def tell(self, trial: Trial, state: TrialState, value: float | None = None) -> float | None:
        """End a trial; returns the value that Optuna keeps."""
        return self.study.tell(trial, value if state == TrialState.COMPLETE else None, state=state).value

    def _params(self, trial: Trial, space: Space) -> dict[str, Any]:
        return space.suggest(trial, lambda parameter: self._reseed(trial.number, parameter))

    def _reseed(self, number: int, parameter: str) -> None:
        self.study.sampler = sampler_for(self.seed, number, parameter, self.startup_trials)

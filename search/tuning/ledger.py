"""The Optuna study behind a study folder: opened by its one writer, the coordinator.

Others may add trials to it: queued ones are taken up when they fit the study, the rest is left as it is.
"""

import logging
import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.engine import make_url

from search.errors import StudyError, problem
from search.study.settings import SamplerSection, StopSection
from search.study.space import Space
from search.study.space_values import misfit
from search.study.study import Study
from search.tuning.database import BUSY_SECONDS, check_database, connect, storage_url
from search.tuning.lease import Lease
from search.tuning.pruner import CYCLES, HORIZON, OWNER, SCHEDULE, PeerPruner, curve_of, is_peer
from search.tuning.pruner_by_name import pruner_for
from search.tuning.sampler import sampler_for
from search.tuning.tally import SLOT, STARTED_WITH, Tally, Tried, placed_here
from search.tuning.trials_in_memory import Mirror
from search.tuning.untried import draw, key_of, started_with, untried

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
PROCESSED, TRAINED, SHIPPED = "processed", "epochs_trained", "epoch_shipped"
"""User attributes: the epoch up to which a trial was decided on, how far it ran, the epoch to ship."""
BEGAN, STARTUP = "began", "startup"
"""User attributes of a trial that was placed: its slot's clock then, and whether it was drawn at random."""


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The Optuna storage behind a URL; waits where another program has locked a SQLite file.

    Raises:
        StudyError: another version of Optuna wrote it.
        sqlite3.DatabaseError: the URL is that of a file which is no SQLite database.
    """
    file = sqlite_file(url)
    if file is not None:
        check_database(file)
    engine: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if url.startswith("sqlite") else {}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=engine)
    except RuntimeError as error:  # Optuna's word for tables of another version
        if "storage upgrade" not in str(error) and "schema" not in str(error):
            raise
        raise StudyError([f"{url}: {_other_version(url, str(error))}"]) from error


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite storage; None where the URL is of something else.

    Raises:
        sqlalchemy.exc.ArgumentError: it is no URL of a database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(parsed.database.removeprefix("file:") if "uri" in parsed.query else parsed.database)


def _other_version(url: str, said: str) -> str:
    if "storage upgrade" in said:
        command = f"optuna storage upgrade --storage {shlex.quote(url)}"
        return f"written by an older Optuna; bring it up to date with: {command}"
    return f"written by a newer Optuna than {optuna.__version__}, which runs here: update it (pip install -U optuna)"


class Ledger:
    """One Optuna study in SQLite, written by one process.

    Args:
        path: the database; made if it is not there.
        name: the study's name in it.
        seed: of the sampler.
        startup_trials: trials drawn at random first.
        sampler, stop: what chooses settings, and what ends a trial early.
        say: told what a user should know of others' trials, once each.
        leased: take the study's lease before anything is written, and keep it until `close`.

    Raises:
        BusyError: another coordinator has the lease.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        seed: int,
        startup_trials: int,
        sampler: SamplerSection | None = None,
        stop: StopSection | None = None,
        say: Callable[[str], None] = lambda text: None,
        leased: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        with connect(path) as database:
            database.execute("PRAGMA journal_mode=WAL")  # readers (status, dashboard) never block the writer
        storage = open_storage(storage_url(path))
        self.path, self.name, self.seed, self.startup_trials = path, name, seed, startup_trials
        self.sampler = sampler or SamplerSection()
        self._say, self._named = say, set[int]()
        self._reported: dict[int, set[int]] = {}
        self._lease = Lease(storage, name) if leased else None
        if self._lease is not None:
            self._lease.take()
        self._mirror = Mirror(storage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study = optuna.create_study(
                storage=self._mirror,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=self._seeded(0, ""),
                pruner=pruner_for(stop or StopSection()),
            )
            self.study.set_metric_names(["score"])
        self._tally = Tally(name)
        pruner = self.study.pruner
        self._peers = pruner.peers() if isinstance(pruner, PeerPruner) else None
        self._look()

    @classmethod
    def of(
        cls, study: Study, path: Path, *, say: Callable[[str], None] = lambda text: None, leased: bool = False
    ) -> "Ledger":
        """The one of a study file, as it says."""
        startup = study.budget.startup
        return cls(
            path,
            study.name,
            seed=study.seed,
            startup_trials=startup,
            sampler=study.sampler,
            stop=study.stop,
            say=say,
            leased=leased,
        )

    def in_place(self) -> bool:
        """Whether the database is where it was; asked before anything is written.

        Raises:
            LostLeaseError: another coordinator has taken the study over.
        """
        if self._lease is not None:
            self._lease.check()
        return self.path.is_file()

    def close(self) -> None:
        """Give the lease back."""
        if self._lease is not None:
            self._lease.release()

    def trials(self) -> list[FrozenTrial]:
        """All trials by number, others' among them; those of others as they were when it was last asked."""
        return self.study.get_trials(deepcopy=False)

    def own(self) -> list[FrozenTrial]:
        """The trials that were placed here, running or ended."""
        return [trial for trial in self.trials() if self._is_own(trial)]

    def trial(self, number: int) -> FrozenTrial:
        """One trial as it is stored."""
        return self._mirror.get_trial(self._mirror.get_trial_id_from_study_id_trial_number(0, number))

    @property
    def tried(self) -> Tried:
        """How many trials were placed here, and with how many configurations."""
        return self._tally.tried

    @property
    def starting_up(self) -> bool:
        """Whether the next trial is drawn at random: too few have ended for the sampler to learn from."""
        return len(self._tally.ended) < self.startup_trials

    def ask(self, space: Space, slot: int, began: int) -> int:
        """Number of the next trial: one that somebody queued, else a new one; to be reattached.

        A new one is made and placed in one commit, with values of its own where the sampler would repeat a trial.
        """
        waiting = list(self.queued(space))
        placed = {OWNER: self.name, SLOT: slot, BEGAN: began, STARTUP: self.starting_up}
        for queued in waiting:
            if self._claim(queued, placed):
                return queued.number
        values = self._first_values(space)
        if values is not None:
            placed[STARTED_WITH] = key_of(values)
        else:
            values = untried(
                space,
                self.trials(),
                self._tally.configurations,
                sampler=self.sampler,
                seed=self.seed,
                startup_trials=self.startup_trials,
            )
        fixed = {} if values is None else {"fixed_params": values}  # as Optuna keeps those of a queued trial
        self.study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=placed, system_attrs=fixed))
        return next(
            t.number for t in reversed(self._look()) if t.state == TrialState.RUNNING and t.user_attrs == placed
        )

    def _first_values(self, space: Space) -> dict[str, Any] | None:
        """Of what the study starts with, the next that no trial was given yet."""
        return started_with(space, self.sampler.start_with, self._tally.given)

    def queued(self, space: Space) -> Iterator[FrozenTrial]:
        """Trials that somebody queued and that can be trained, by number; the others are named to the user."""
        self._look()
        for trial in map(self.trial, sorted(self._tally.waiting)):
            wrong = misfit(space, trial.system_attrs.get("fixed_params", {}))
            if wrong is None:
                yield trial
            else:
                self._name(trial, f"was queued with {wrong}: it is left in the queue")

    def reattach(self, number: int, space: Space) -> tuple[Trial, dict[str, Any]]:
        """A running trial under its own number; what it had not yet been given when its coordinator died is asked for
        as it would have been then.

        Raises:
            StudyError: a trial that somebody added has a parameter of the same name and another kind.
        """
        self._reseed(number, "")
        frozen = self.trial(number)
        self._reported[number] = set(frozen.intermediate_values)
        self._mirror.keep(frozen._trial_id)
        # Optuna has no public way to go on with a running trial
        trial = Trial(self.study, frozen._trial_id)
        asked: list[str] = []

        try:
            params = draw(trial, space, lambda parameter: self._reseed(number, parameter), asked)
            self._tally.see(self.trial(number))
            return trial, params
        except ValueError as error:
            clash = [t.number for t in self.trials() if asked[-1] in t.distributions and t.number != number]
            if not clash:
                raise
            expected = f"what another process added as trial {clash[0]}"
            raise StudyError(
                [problem(self.path, "search", asked[-1], expected, f"{error}; give this study another name")]
            ) from None

    def report(self, trial: Trial, epoch: int, score: float) -> None:
        """Report a checkpoint's score, once."""
        reported = self._reported.setdefault(trial.number, set())
        if epoch not in reported:
            trial.report(score, epoch)
            reported.add(epoch)
            if self._peers is not None and trial.number in self._peers:
                self._peers.reported(trial.number, epoch, score)
            else:
                self._compare(trial.number)

    def should_prune(self, trial: Trial) -> bool:
        """Whether the study's pruner would end a trial at its last report."""
        if self._peers is None:
            return trial.should_prune()
        return trial.number in self._peers and self._peers.behind(trial.number)

    def note(self, trial: Trial, **attributes: Any) -> None:
        """Set user attributes, each in a commit of its own and only where something changes."""
        known = self.trial(trial.number).user_attrs
        changed = {key: value for key, value in attributes.items() if key not in known or known[key] != value}
        for key, value in changed.items():
            trial.set_user_attr(key, value)
        if changed.keys() & {HORIZON, SCHEDULE, CYCLES}:
            self._compare(trial.number)

    def tell(self, trial: Trial, state: TrialState, value: float | None = None) -> float | None:
        """End a trial; returns the value that Optuna keeps.

        Raises:
            UpdateFinishedTrialError: another process has ended it otherwise.
        """
        self._mirror.reread(trial._trial_id)
        given = value if state == TrialState.COMPLETE else None
        told = self.study.tell(trial, given, state=state, skip_if_finished=True)
        self._seen(self.trial(trial.number))
        if told.state != state:
            raise UpdateFinishedTrialError(f"trial {trial.number} has been ended as {told.state.name}")
        return told.value

    def _claim(self, queued: FrozenTrial, placed: dict[str, Any]) -> bool:
        """Take a queued trial; False when somebody else was faster. Killed in between, it is still queued."""
        storage = self._mirror  # as Study.ask does it, which would also take what does not fit
        try:
            for key, value in placed.items():
                storage.set_trial_user_attr(queued._trial_id, key, value)
            return storage.set_trial_state_values(queued._trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False
        finally:
            self._seen(self.trial(queued.number))

    def _look(self) -> list[FrozenTrial]:
        """Take in what others have written since; returns the trials that are new or may have changed."""
        changed = self._mirror.look(self.study._study_id)
        for trial in changed:
            self._seen(trial)
            if trial.state == TrialState.RUNNING and not self._is_own(trial):
                self._name(trial, "is run by another process: it is left to that one")
        return changed

    def _seen(self, trial: FrozenTrial) -> None:
        """A trial may have changed otherwise than by a report of ours."""
        self._tally.see(trial)
        if self._peers is None:
            return
        if trial.state.is_finished():
            self._peers.ended(trial.number, failed=trial.state == TrialState.FAIL)
        if trial.number not in self._peers:
            self._compare(trial.number)

    def _compare(self, number: int) -> None:
        """Others are compared with this trial, if it is one of the study's, as it is stored."""
        trial = self.trial(number)
        if self._peers is not None and is_peer(trial, self.name) and {HORIZON, CYCLES} <= trial.user_attrs.keys():
            self._peers.see(number, curve_of(trial))

    def _is_own(self, trial: FrozenTrial) -> bool:
        return trial.state != TrialState.WAITING and placed_here(trial, self.name)

    def _name(self, trial: FrozenTrial, what: str) -> None:
        if trial.number not in self._named:
            self._named.add(trial.number)
            self._say(f"trial {trial.number} {what}")

    def _reseed(self, number: int, parameter: str) -> None:
        self.study.sampler = self._seeded(number, parameter)

    def _seeded(self, number: int, parameter: str) -> optuna.samplers.BaseSampler:
        return sampler_for(self.sampler, self.seed, number, parameter, self.startup_trials)

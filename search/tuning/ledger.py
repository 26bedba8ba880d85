"""The Optuna study behind a study folder: opened by its one writer, the coordinator.

Others may add trials to it: queued ones are taken up when they fit the study, the rest is left as it is.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.errors import StudyError, problem
from search.record.learned_from import Example
from search.record.record import StudyFolder
from search.study.server import Server
from search.study.settings import SamplerSection, StopSection
from search.study.space import Space
from search.study.space_values import misfit
from search.study.study import Study
from search.tuning.claim import claim
from search.tuning.database import connect, storage_url
from search.tuning.lease import Lease
from search.tuning.optuna_storage import open_storage
from search.tuning.patience import Patience
from search.tuning.pruner import CYCLES, HORIZON, OWNER, SCHEDULE, PeerPruner, curve_of, is_peer
from search.tuning.pruner_by_name import pruner_for
from search.tuning.sampler import sampler_for
from search.tuning.tally import SLOT, STARTED_WITH, Tally, Tried, placed_here
from search.tuning.trials_in_memory import Mirror
from search.tuning.untried import draw, key_of, started_with, untried

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
PROCESSED, TRAINED, SHIPPED = "processed", "epochs_trained", "epoch_shipped"
"""User attributes: the epoch up to which a trial was decided on, how far it ran, the epoch to ship."""
SEARCHED = "epoch_searched"
"""User attribute: the epoch to ship as the search found it, where another one ships by the trial's twins."""
BEGAN, STARTUP = "began", "startup"
"""User attributes of a trial that was placed: its slot's clock then, and whether it was drawn at random."""


class Ledger:
    """One Optuna study, written by one process.

    Args:
        where: the SQLite database, made if it is not there; or the server that the study is on.
        name: the study's name in it.
        seed: of the sampler.
        startup_trials: trials drawn at random first.
        sampler, stop: what chooses settings, and what ends a trial early.
        say: told what a user should know of others' trials, once each.
        folder: the study's, where it is on a server.
        leased: take the study's lease before anything is written, and keep it until `close`.

    Raises:
        BusyError: another coordinator has the lease.
        StudyError: the server has a study of this name that is not this folder's.
    """

    def __init__(
        self,
        where: Path | Server,
        name: str,
        *,
        seed: int,
        startup_trials: int,
        sampler: SamplerSection | None = None,
        examples: Sequence[Example] = (),
        stop: StopSection | None = None,
        say: Callable[[str], None] = lambda text: None,
        folder: StudyFolder | None = None,
        leased: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if isinstance(where, Path):
            where.parent.mkdir(parents=True, exist_ok=True)
            with connect(where) as database:
                database.execute("PRAGMA journal_mode=WAL")  # readers (status, dashboard) never block the writer
        self.url = storage_url(where) if isinstance(where, Path) else where.url
        storage = open_storage(self.url)
        self._where, self._folder = where, folder
        self.name, self.seed, self.startup_trials, self._pruner = name, seed, startup_trials, stop or StopSection()
        self.sampler, self.examples = sampler or SamplerSection(), examples
        self._say, self._named = say, set[int]()
        self._reported: dict[int, set[int]] = {}
        patience = Patience(None if isinstance(where, Path) else say)  # SQLite waits by itself
        self._lease = Lease(storage, name, patience) if leased else None
        if self._lease is not None:
            self._lease.take()
        try:
            self._open(storage, patience)
        except BaseException:
            self.close()
            raise

    def _open(self, storage: optuna.storages.RDBStorage, patience: Patience) -> None:
        self._mirror = Mirror(storage, patience)
        self._common = IntersectionSearchSpace(include_pruned=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study = optuna.create_study(
                storage=self._mirror,
                study_name=self.name,
                direction="maximize",
                load_if_exists=True,
                sampler=self._seeded(0, ""),
                pruner=pruner_for(self._pruner),
            )
            if isinstance(self._where, Server) and self._folder is not None:
                claim(self.study, self._where, self._folder, lambda: storage.get_all_trials(self.study._study_id))
            self.study.set_metric_names(["score"])
        self._tally = Tally(self.name)
        pruner = self.study.pruner
        self._peers = pruner.peers() if isinstance(pruner, PeerPruner) else None
        self._look()

    @classmethod
    def of(
        cls, study: Study, folder: StudyFolder, *, say: Callable[[str], None] = lambda text: None, leased: bool = False
    ) -> "Ledger":
        """The one of a study file, as it says."""
        startup = study.budget.startup
        return cls(
            study.server or folder.database,
            study.name,
            seed=study.seed,
            startup_trials=startup,
            sampler=study.sampler,
            examples=study.learned.examples,
            stop=study.stop,
            say=say,
            folder=folder,
            leased=leased,
        )

    def in_place(self) -> bool:
        """Whether the database, or the folder of a study on a server, is where it was; asked before files are written.

        Raises:
            LostLeaseError: another coordinator has taken the study over.
        """
        if self._lease is not None:
            self._lease.check()
        if isinstance(self._where, Path):
            return self._where.is_file()
        return self._folder is None or self._folder.path.is_dir()

    def begin_anew(self, *, keep_as: str | None = None) -> None:
        """Delete all trials. `keep_as`: the name under which a copy of the study stays in the storage."""
        backend, patience = self._mirror.backend, self._mirror.patience
        if keep_as is not None:
            optuna.copy_study(
                from_study_name=self.name, from_storage=backend, to_storage=backend, to_study_name=keep_as
            )
        self._mirror.delete_study(self.study._study_id)
        self._open(backend, patience)

    def as_stored(self) -> optuna.Study:
        """The study past what is kept in memory, under the same lease; `look` afterwards."""
        return optuna.load_study(study_name=self.name, storage=self._mirror.backend)

    def look(self) -> None:
        """Take in what others have written since."""
        self._look()

    def close(self) -> None:
        """Give the lease back."""
        if self._lease is not None:
            self._lease.release()

    @property
    def shown(self) -> str:
        """Where the study is kept, for people."""
        return self._where.shown if isinstance(self._where, Server) else str(self._where)

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
        return len(self.examples) + len(self._tally.ended) < self.startup_trials

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
                examples=self.examples,
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
                [problem(self.shown, "search", asked[-1], expected, f"{error}; give this study another name")]
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

    def amend(self, number: int, **attributes: Any) -> None:
        """Give a trial that has ended other user attributes, which Optuna itself does not; None takes one away."""
        known = self.trial(number).user_attrs
        changed = {key: value for key, value in attributes.items() if known.get(key) != value}
        if changed:
            self._mirror.amend(self.trial(number)._trial_id, changed)

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
        return sampler_for(self.sampler, self.seed, number, parameter, self.startup_trials, self._common)

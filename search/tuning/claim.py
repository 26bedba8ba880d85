"""Names of studies are unique on a server: which of them is this folder's."""

from collections.abc import Callable
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.record.record import StudyFolder
from search.study.server import Kept, Server

STUDY_ID = "onset_study"
"""User attribute of a study: what its folder's `storage.json` has, too."""


def claim(study: optuna.Study, server: Server, folder: StudyFolder, trials: Callable[[], list[FrozenTrial]]) -> None:
    """Note that a study is this folder's; it is new, or has been since its start.

    Args:
        trials: its trials on the server; somebody may have queued some before it began.

    Raises:
        StudyError: another folder's study, or one that somebody else made, has this name.
    """
    kept, known = Kept.load(folder), study.user_attrs.get(STUDY_ID)
    theirs = known is not None and (kept is None or known != kept.study_id)
    if theirs or (known is None and any(trial.state != TrialState.WAITING for trial in trials())):
        raise server.refused(
            f"one without a study named {study.study_name!r} of another folder",
            "give this study another name, or take another database",
        )
    now = Kept(uuid4().hex if kept is None else kept.study_id, server.shown)
    if now != kept:
        now.save(folder)  # first: else a kill would leave a study that is nobody's
    if known is None:
        study.set_user_attr(STUDY_ID, now.study_id)

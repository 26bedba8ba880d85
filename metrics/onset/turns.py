"""An onset as it is told and kept: where each kind of overfitting begins, and what speaks against it.

Nothing here computes, and nothing is loaded for it (no numpy): records of trials hold these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

TurnStatus = Literal["found", "beyond", "at_start", "unmeasured"]
CopyingStatus = Literal["seen", "later", "unseen", "unmeasured"]
OnsetStatus = Literal["found", "beyond", "at_start", "never_learned", "unmeasured"]
LearnedBy = Literal["images", "losses", "assumed", ""]
Ship = Literal["safe", "balanced", "likeness"]
DEFAULT_SHIP: Ship = "balanced"
"""Which epoch is shipped: as many images with everything right as at the safe one on CHOOSING concepts, and more on the
reported ones (docs/log.md)."""

BEHAVIOURS = ("prompt", "copying", "colour", "composition", "diversity")
"""Channels of generated images that may place an onset."""
MADE_UP, REAL = "shifted_loss", "context_loss"
"""The two witnesses of new contexts: subjects that were cut out and moved, and real photos of held-out contexts."""


@dataclass(frozen=True)
class Turn:
    """Where one kind of overfitting begins.

    Attributes:
        status: found; beyond the last checkpoint; at_start, at or before the first trained checkpoint; unmeasured.
        epoch: interpolated between checkpoints in log epoch; None unless found or at_start.
        low, high: its 90 % interval; a `high` of None means that it may lie beyond the last checkpoint.
        channels: the channels that say so.
    """

    status: TurnStatus
    epoch: float | None = None
    low: float | None = None
    high: float | None = None
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A checkpoint that somebody may want to ship.

    Attributes:
        epoch: of the checkpoint.
        low, high: the checkpoints between which it lies with 90 %; a `high` of None is beyond the last one.
    """

    epoch: int
    low: int
    high: int | None


@dataclass(frozen=True)
class Disagreement:
    """Moved subjects and real held-out contexts that surely went opposite ways over the same epochs.

    Attributes:
        since, until: the epochs between which they did; `until` is the last one that both were measured at.
        moved: ln ratio of `shifted_loss` to the base at `until`.
        real: the same of `context_loss`.
        moved_rises: whether it is the moved subjects that got worse.
    """

    since: int
    until: int
    moved: float
    real: float
    moved_rises: bool


@dataclass(frozen=True)
class Copying:
    """Whether training photos come back in drawings, as it is seen at one checkpoint.

    Attributes:
        status: "seen" at the epoch to ship; "later", after it only; "unseen"; "unmeasured".
        epoch: of the checkpoint that the numbers are of: the one to ship, under "later" the last one that shows it.
        nearer: how much nearer images of trained captions have come to their own photos than images of held-out
            captions have: difference of the ln of distances, 0 without copies. low, high: its 90 % interval. None
            where it was not measured.
    """

    status: CopyingStatus
    epoch: int | None = None
    nearer: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Onset:
    """The verdict on one trajectory.

    Attributes:
        status: of the earlier turn; never_learned when there was nothing to overfit.
        context: from here on the subject in contexts that the set does not show gets worse.
        memory: from here on even photos of the same shoot get worse.
        learned: first epoch with 90 % of the fidelity the run reaches before it overfits; None when it never learns.
        best: the epoch to ship.
        turned: channel to the epoch at which it turned, those that did.
        sentence: all this in plain words.
        learned_by: what says that the subject is learned: "images", "losses" alone, or "assumed"; "" when it is not.
        disagreement: where moved subjects contradict real photos of held-out contexts; then `context` rests on the
            real ones alone. None where they agree or one is missing.
        likeness: the highest `fidelity` of any trained checkpoint, whether before or after the onset; None where images
            were not judged.
        safe: the checkpoint up to which all that prompts ask for is still done; None when the subject is not learned.
        alike: the last checkpoint before the photos are memorised, where the subject is most alike; None where memory
            was not measured.
        ship: which of them `best` is; "balanced" lies between the two.
        copying: whether training photos come back in drawings of `best`, or later. It moves nothing else.
    """

    status: OnsetStatus
    context: Turn
    memory: Turn
    learned: int | None
    best: int
    turned: dict[str, float] = field(default_factory=dict)
    sentence: str = ""
    learned_by: LearnedBy = ""
    disagreement: Disagreement | None = None
    likeness: float | None = None
    safe: Choice | None = None
    alike: Choice | None = None
    ship: Ship = "safe"
    copying: Copying = Copying("unmeasured")

    @property
    def shipped(self) -> int | None:
        """`best`, or None where nothing was learned."""
        return None if self.status == "never_learned" else self.best

    @property
    def ignored(self) -> tuple[str, ...]:
        """Channels that place no onset here, because others are to be believed."""
        return () if self.disagreement is None else (MADE_UP,)

    @property
    def earlier(self) -> Turn:
        """The turn that comes first; when neither was found, the one that was measured."""
        found = earlier_of(self.context, self.memory)
        if found is not None:
            return found[1]
        return self.memory if self.context.status == "unmeasured" else self.context

    @property
    def epoch(self) -> float | None:
        return self.earlier.epoch

    @property
    def low(self) -> float | None:
        return self.earlier.low

    @property
    def high(self) -> float | None:
        return self.earlier.high


class Dated(Protocol):
    """Something that has an epoch, or None."""

    @property
    def epoch(self) -> float | None: ...


D = TypeVar("D", bound=Dated)


def earlier_of(context: D, memory: D) -> tuple[Literal["context", "memory"], D] | None:
    """Which of the two comes first, and that one; context on a tie, None where neither has an epoch.

    >>> earlier_of(Turn("found", 18.0), Turn("found", 12.5))[0]
    'memory'
    """
    if memory.epoch is not None and (context.epoch is None or memory.epoch < context.epoch):
        return "memory", memory
    return None if context.epoch is None else ("context", context)

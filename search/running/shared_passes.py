"""The packs of one worker: which trials share a pass through the base, and what is done when a shared pass fails."""

from collections.abc import Hashable
from pathlib import Path
from typing import Literal

from search.probe.probe import Probe
from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running.sharing import Sharing
from search.running.trial_at_work import TrialAtWork
from trainer.config.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.packing.builder import pack_settings, shares_a_pack
from trainer.packing.pack import Pack
from trainer.packing.settings import RunSettings
from trainer.packing.training_run import Run


class SharedPasses:
    """Runs with the same pack settings sit in one pack, at the seat that their trial's place says; further packs, of
    other settings or for those who find their seat taken, are trained in turn.

    Args:
        sharing: what the study file asks for.
        asked: `workers.pack`.
        folder: keeps the width once memory was too small for it, so that the study goes on with that.
    """

    def __init__(self, probe: Probe, sharing: Sharing, asked: int | Literal["auto"], folder: StudyFolder) -> None:
        self._probe, self._sharing, self._asked, self._folder = probe, sharing, asked, folder
        kept = PackWidth.load(folder, asked)
        self.width = sharing.width
        if self.width is not None and kept is not None:
            self.width = min(self.width, kept.width)
        self._packs: dict[Hashable, list[Pack]] = {}
        self._closed: set[Pack] = set()

    def join(
        self,
        config: TrainConfig,
        settings: RunSettings,
        run_dir: Path,
        *,
        place: int,
        apart: bool = False,
        photos: Dataset | None = None,
    ) -> tuple[Pack, Run]:
        """A run takes its seat.

        Args:
            place: its trial's.
            apart: in a pack of the same width where nobody else sits: it has the same numbers there.
            photos: other photos than the study's.

        Raises:
            TrainerError: as `Pack.join`.
        """
        wide = self.width is not None and shares_a_pack(config)
        seat = place % self.width if self.width is not None and wide else None
        pack = self._with_room(config, seat, empty=apart or (self.width is not None and not wide))
        run = pack.join(settings, run_dir=run_dir, photos=photos, seat=seat)
        if apart:
            self._closed.add(pack)
        return pack, run

    @property
    def shape(self) -> tuple[int | None, int | None]:
        """Width and rank of the packs, None where each trial is trained by itself."""
        return self.width, self._sharing.max_rank

    def drop(self, pack: Pack) -> None:
        """Forget a pack in which something went wrong; whoever sits there has to join again."""
        for packs in self._packs.values():
            if pack in packs:
                packs.remove(pack)
        self._closed.discard(pack)

    def narrow(self) -> None:
        """Half the width from now on, in every pack: memory is too small for more. All have to join again."""
        assert self.width is not None
        self.width = max(1, self.width // 2)
        PackWidth(self._asked, self._sharing.places, self.width).save(self._folder)
        self._packs, self._closed = {}, set()

    def _with_room(self, config: TrainConfig, seat: int | None, *, empty: bool) -> Pack:
        """A pack with this seat free (`empty`: all of them), a new one if need be."""
        width, rank = (None, None) if seat is None else (self.width, self._sharing.max_rank)
        key = (pack_settings(config), config.targets, width)
        packs = self._packs.setdefault(key, [])
        self._closed = {pack for pack in self._closed if pack.runs}
        packs[:] = [pack for pack in packs if pack.runs] or packs[:1]
        for pack in packs:
            if pack in self._closed or (empty and pack.runs):
                continue
            if seat is None or seat in pack.free_seats:
                return pack
        probe = self._probe
        packs.append(Pack(probe.base, probe.trained, key[0], cache=probe.cache, width=width, max_rank=rank))
        return packs[-1]


def sharers(trials: list[TrialAtWork]) -> dict[Pack, list[tuple[TrialAtWork, Run]]]:
    """Which runs of these trials sit in each of the packs, in the trials' order."""
    found: dict[Pack, list[tuple[TrialAtWork, Run]]] = {}
    for trial in trials:
        for pack, run in trial.seats:
            found.setdefault(pack, []).append((trial, run))
    return found

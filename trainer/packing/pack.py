"""The one training loop: K runs share each forward and backward pass of one frozen base; a production run is a pack
of one."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer import checkpoint
from trainer.data.cache import LatentCache
from trainer.errors import ModelError
from trainer.lora.lora import create_adapters
from trainer.packing.batches import Batch, Feed
from trainer.packing.cpu_tuning import keep_freed_memory, prepack_convolutions
from trainer.packing.distributed import Crew
from trainer.packing.loss import Examples, draw_examples, run_losses
from trainer.packing.metadata import build_metadata
from trainer.packing.packed_layers import PackedLayers
from trainer.packing.settings import LossSettings, PackSettings, RunSettings
from trainer.packing.training_run import Run

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset
    from trainer.families.family import Base


_Pass = tuple[Feed, int]
"""Whose photos, and which pass over them."""


class Pack:
    """Runs that share forward and backward passes. Everything given here is shared; a run's own is given to `join`.

    Args:
        base: frozen base, resident for as long as the pack lives; between steps it is exactly the base (on a CPU its
            small convolutions then answer single samples through oneDNN, which rounds differently).
        dataset: photos and captions.
        settings: what all runs share. Their seed is one, so they are paired.
        cache_dir: where latents and text embeddings are kept on disk; None keeps them in memory only.
        width, max_rank: fixed number of slots (empty ones are padded) and rank of the stacks, so that a run's result
            does not depend on its neighbours; None fits the pack to those who are in it.
        crew: the processes that share the batches of each epoch, every one with a pack like this; None is this alone.
    """

    def __init__(
        self,
        base: Base,
        dataset: Dataset,
        settings: PackSettings,
        *,
        cache_dir: Path | None = None,
        cache: LatentCache | None = None,
        width: int | None = None,
        max_rank: int | None = None,
        crew: Crew | None = None,
    ) -> None:
        for module in (base.denoiser, *base.text_encoders):
            module.requires_grad_(False)
        self.base, self.dataset, self.settings = base, dataset, settings
        self.width, self.max_rank = width, max_rank
        self.crew = crew or Crew(base.device)
        self._cache = cache or LatentCache(base, cache_dir)
        self.feed = Feed(base, dataset, self._cache, settings.feed)
        if base.device.type == "cpu":
            keep_freed_memory()
            prepack_convolutions(base.denoiser)
        else:
            encoded_once = not settings.feed.train_text_encoder and not settings.feed.shuffle_caption
            base.park(vae=True, text_encoders=encoded_once)
        order = self.feed.photo_pass(0)
        self.batches_per_pass = math.ceil(len(order) / self.crew.size)
        shapes = {(len(batch), self.feed.sizes[batch[0]]) for batch in order}
        self._alike = len(shapes) == 1 and self.batches_per_pass % settings.gradient_accumulation_steps == 0
        self._orders: dict[_Pass, Sequence[Sequence[int]]] = {}
        self.runs: list[Run] = []
        self._seats: dict[Run, int] = {}  # where the width is fixed
        self._slots: list[Run | None] = []
        self._layers: PackedLayers | None = None

    @property
    def steps_per_pass(self) -> int:
        """Optimizer steps of one pass over the photos: ⌈batches of this process ÷ accumulation⌉."""
        return math.ceil(self.batches_per_pass / self.settings.gradient_accumulation_steps)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch: those of a pass, or what the settings say. Passes follow each other without
        a gap, so that a step is the same one wherever epochs end."""
        return self.settings.steps_per_epoch or self.steps_per_pass

    @property
    def free_seats(self) -> list[int]:
        """Slots of a pack of fixed width that nobody has who trains on; none where the width is not fixed."""
        taken = {self._seats.get(run) for run in self.runs if not run.finished and run.failed is None}
        return [seat for seat in range(self.width or 0) if seat not in taken]

    def join(
        self,
        settings: RunSettings,
        *,
        run_dir: Path,
        start_from: Path | None = None,
        photos: Dataset | None = None,
        seat: int | None = None,
    ) -> Run:
        """A run that trains with the next epoch. It goes on exactly from the newest complete checkpoint under
        `run_dir`/checkpoints; if there is none, from the checkpoint `start_from`, else from epoch 0.

        Args:
            settings: what is its own.
            start_from: a checkpoint with state, of a run that shares this one's settings up to there.
            photos: other photos than the pack's. Its epochs have as many steps as the pack's all the same, so that runs
                are where the others are at equal steps; a pass over its photos may end within one.
            seat: its slot in a pack of fixed width, from 0; None takes the first one that is free.

        Raises:
            ModelError: the run cannot share this pack (DoRA, convolutions, other photos of several sizes), or the pack
                is full.
            TrainerError: its optimizer cannot run here, or the checkpoint is of other settings.
        """
        feed = self.settings.feed
        adapters = create_adapters(
            self.base, settings.adapter, train_text_encoder=feed.train_text_encoder, seed=feed.seed
        )
        own = photos is not None and feed.enable_bucket
        alone = adapters.alone or ("photos of its own, in buckets," if own else None)
        taken = self._check_room(alone, settings.adapter.rank, seat)
        mine = self.feed
        if photos is not None:
            pace = [len(batch) for batch in self.feed.photo_pass(0)]
            mine = Feed(self.base, photos, self._cache, feed, pace=pace)
        run = Run(
            feed=mine,
            run_dir=Path(run_dir),
            adapters=adapters,
            settings=settings,
            steps_per_epoch=self.steps_per_epoch,
            loss_scaling=self.base.dtype == torch.float16,
            describe=functools.partial(
                build_metadata,
                self.base,
                mine.dataset,
                mine.sizes,
                self.settings,
                settings,
                batches=self._batches_per_epoch,
                output_name=settings.output.output_name or Path(run_dir).name,
                steps_per_epoch=self.steps_per_epoch,
                processes=self.crew.size,
                started_at=time.time(),
            ),
        )
        found = checkpoint.newest_state(Path(run_dir) / "checkpoints", say=run.passed_over.append) or start_from
        if found is not None:
            run.resume(found)
        self.runs.append(run)
        if self.width is not None:
            self._seats[run] = taken
        return run

    def leave(self, run: Run) -> None:
        """Takes a run out, between epochs or, from `train_epoch`'s `on_step`, between steps; the others notice
        nothing. Its weights stay as they are."""
        self.runs.remove(run)
        self._seats.pop(run, None)
        run.forget_epoch()
        run.optimizer.zero_grad(set_to_none=True)
        if not self.runs:
            self._slots, self._layers = [], None

    def train_epoch(self, on_step: Callable[[Pack], None] | None = None, *, runs: Sequence[Run] | None = None) -> None:
        """Runs that are neither finished nor failed go forward one epoch together.

        Args:
            on_step: called after each optimizer step; it may call `leave`.
            runs: those of the pack that are trained, the others rest; None is all of them.
        """
        self._checkpoint_activations()
        asked = self.runs if runs is None else runs
        going = [run for run in asked if run.failed is None and not run.finished]
        for together in self._in_step(going):
            self._train_epoch([run for run in together if run in self.runs], on_step)

    def _train_epoch(self, runs: Sequence[Run], on_step: Callable[[Pack], None] | None) -> None:
        self._seat(runs)
        self._orders = {}
        for step in range(self.steps_per_epoch):
            if not self._seated:
                return
            self._step(step)
            if on_step is not None:
                on_step(self)
                if any(run not in self.runs for run in self._seated):
                    self._seat([run for run in self._seated if run in self.runs])
        for run in self._seated:
            run.finish_epoch()

    @property
    def _seated(self) -> list[Run]:
        return [run for run in self._slots if run is not None]

    @property
    def _batches_per_epoch(self) -> int:
        """Batches of this process, as metadata tell them."""
        steps = self.settings.steps_per_epoch
        return self.batches_per_pass if steps is None else steps * self.settings.gradient_accumulation_steps

    def _in_step(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Those who share passes: their batches have the same shapes all along. A place in the photos has the same
        shape in every pass, so only where epochs end within one, and batches are not all alike, some have to wait."""
        groups: dict[int, list[Run]] = {}
        for run in runs:
            place = 0 if self._alike else run.epoch * self.steps_per_epoch % self.steps_per_pass
            groups.setdefault(place, []).append(run)
        return list(groups.values()) or [[]]

    def _place(self, run: Run, step: int) -> tuple[int, range]:
        """Which pass over the photos a run is in at a step of its epoch, and the batches of that step."""
        number, at = divmod(run.epoch * self.steps_per_epoch + step, self.steps_per_pass)
        first = at * self.settings.gradient_accumulation_steps
        return number, range(first, min(first + self.settings.gradient_accumulation_steps, self.batches_per_pass))

    def _order(self, feed: Feed, number: int) -> Sequence[Sequence[int]]:
        if (feed, number) not in self._orders:
            self._orders[feed, number] = feed.photo_pass(number)
        return self._orders[feed, number]

    def _step(self, step: int) -> None:
        assert self._layers is not None
        layers, seated = self._layers, self._seated
        batches = range(len(self._place(seated[0], step)[1]))
        layers.refresh()
        layers.clear_gradients()
        with layers.active():
            for batch in batches:
                losses = self._losses(step, batch)
                total = torch.stack([run.scale(loss) for run, loss in zip(seated, losses, strict=True)]).sum()
                (total / len(batches)).backward()
                for run, loss in zip(seated, losses.detach(), strict=True):
                    run.note_loss(loss)
        layers.collect_gradients()
        for run in seated:
            self.crew.average_gradients(run.parameters)
        for run in seated:
            run.apply_step(layers.row_of_gradients)

    def _losses(self, step: int, nth: int) -> Tensor:
        """Each seated run's loss [K] on the `nth` batch of a step of its own epoch, with gradients."""
        examples: dict[tuple[_Pass, int, LossSettings], Examples] = {}
        batches: dict[tuple[_Pass, int], Batch] = {}
        rows, fed, drawn = [run if run is not None else self._seated[0] for run in self._slots], [], []
        for run in rows:
            number, those = self._place(run, step)
            batch = those[nth] * self.crew.size + self.crew.rank  # this process's share, numbered over all of them
            place = (run.feed, number), batch
            if place not in batches:
                order = self._order(run.feed, number)
                batches[place] = run.feed.batch(order[batch % len(order)], number, batch)
            photos = batches[place]
            key = (*place, run.settings.loss)
            if key not in examples:
                examples[key] = draw_examples(
                    self.base,
                    photos.mean,
                    photos.std,
                    photos.prior,
                    settings=run.settings.loss,
                    seed=self.settings.feed.seed,
                    epoch=number,
                    batch=batch,
                )
            fed.append(photos)
            drawn.append(examples[key])
        conditioning = _stack([photos.conditioning for photos in fed])
        if self.settings.feed.train_text_encoder:
            prompts = [caption for photos in fed for caption in photos.captions]
            conditioning |= self.base.family.encode_prompts(self.base, prompts, self.settings.feed.clip_skip)
        prediction = self.base.family.predict(
            self.base,
            torch.cat([part.noisy for part in drawn]),
            torch.cat([part.timesteps for part in drawn]),
            conditioning,
        )
        target, weight = torch.cat([part.target for part in drawn]), torch.cat([part.weight for part in drawn])
        losses = run_losses(prediction, target, weight, len(rows))
        if len(self._seated) == len(rows):
            return losses
        return losses[[slot for slot, run in enumerate(self._slots) if run is not None]]

    def _seat(self, runs: Sequence[Run]) -> None:
        """Gives runs their slots; with a fixed width a run has the same one for as long as it is there."""
        slots: list[Run | None] = list(runs)
        if self.width is not None:
            slots = [None] * self.width
            for run in runs:
                slots[self._seats[run]] = run
        if slots != self._slots or self._layers is None:
            for run in self.runs:
                run.optimizer.zero_grad(set_to_none=True)
            self._slots = slots
            members = [None if run is None else run.adapters for run in slots]
            self._layers = PackedLayers(self.base, members, max_rank=self.max_rank) if runs else None

    def _check_room(self, alone: str | None, rank: int, seat: int | None) -> int:
        """The slot of a run that joins; 0 where the width is not fixed."""
        others = [run for run in self.runs if not run.finished and run.failed is None]
        if others and (alone or others[0].adapters.alone):
            raise ModelError(f"{alone or others[0].adapters.alone} cannot share a pack yet; train such a run alone")
        if self.max_rank is not None and rank > self.max_rank:
            raise ModelError(f"rank {rank} is above the pack's max_rank {self.max_rank}")
        if self.width is None:
            return 0
        free = self.free_seats
        if not free:
            raise ModelError(f"the pack is full: its width is {self.width}")
        if seat is not None and seat not in free:
            raise ModelError(f"seat {seat} of the pack is not free")
        return free[0] if seat is None else seat

    def _checkpoint_activations(self) -> None:
        denoiser: Any = self.base.denoiser
        if self.settings.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
        elif getattr(denoiser, "is_gradient_checkpointing", False):
            denoiser.disable_gradient_checkpointing()


def _stack(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

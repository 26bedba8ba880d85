"""What a pack reads at each batch: latents and text embeddings that already lie on the device, in a fixed order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from trainer.data.buckets import assign_buckets, crop_corner, epoch_batches
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset
from trainer.packing.settings import FeedSettings
from trainer.streams import stream_seed

if TYPE_CHECKING:
    from trainer.families.family import Base


@dataclass(frozen=True)
class Batch:
    """One batch of photos.

    mean, std: posterior of the latents [B, C, h, w].
    prior: [B] bool, true for regularisation images.
    captions: B prompts.
    conditioning: what `family.predict` takes, B rows each; without the prompt's part where text encoders are trained.
    """

    mean: Tensor
    std: Tensor
    prior: Tensor
    captions: list[str]
    conditioning: dict[str, Tensor]


class Feed:
    """The batches of every pass over one dataset: the same for all runs, whoever asks, in whatever order.

    Args:
        pace: images in each batch of a pass; None: a pass takes each photo as often as it is repeated. With a pace,
            such passes follow each other without a gap, and one ends where that many batches do.

    sizes: the bucket (width, height) of each photo.
    """

    def __init__(
        self,
        base: Base,
        dataset: Dataset,
        cache: LatentCache,
        settings: FeedSettings,
        *,
        pace: Sequence[int] | None = None,
    ) -> None:
        self.base, self.dataset, self.settings, self._pace = base, dataset, settings, pace
        self.sizes = assign_buckets(
            dataset.photos,
            resolution=settings.resolution,
            enable_bucket=settings.enable_bucket,
            step=settings.bucket_step,
            smallest=settings.min_bucket_resolution,
            largest=settings.max_bucket_resolution,
        )
        dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
        mirrored = (False, True) if settings.flip else (False,)
        self._latents = [
            [tuple(part.to(dtype) for part in cache.latents(photo, size, flip=flip)) for flip in mirrored]
            for photo, size in zip(dataset.photos, self.sizes, strict=True)
        ]
        self._prior = torch.tensor([photo.is_reg for photo in dataset.photos], device=base.device)
        sized = [
            base.family.size_conditioning(
                base, (photo.width, photo.height), crop_corner(size, (photo.width, photo.height)), size, 1
            )
            for photo, size in zip(dataset.photos, self.sizes, strict=True)
        ]
        self._sized = {name: torch.cat([row[name] for row in sized]) for name in sized[0]}
        self._rows: dict[str, int] = {}
        self._embeds: dict[str, Tensor] = {}
        if not settings.train_text_encoder and not settings.shuffle_caption:
            captions = list(dict.fromkeys([photo.caption for photo in dataset.photos] + [""]))
            self._rows = {caption: row for row, caption in enumerate(captions)}
            self._embeds = cache.prompts(captions, settings.clip_skip)

    def photo_pass(self, number: int) -> list[list[int]]:
        """The batches of a pass, as indices into the dataset's photos."""
        if self._pace is None:
            return self._own_pass(number)
        if len(set(self.sizes)) > 1:  # a batch holds photos of one size, so it stays as it is
            return _stretch(self._own_pass, number * len(self._pace), len(self._pace))
        photos = _stretch(self._flat_pass, number * sum(self._pace), sum(self._pace))
        return [[photos.pop(0) for _ in range(count)] for count in self._pace]

    def _own_pass(self, number: int) -> list[list[int]]:
        settings = self.settings
        return epoch_batches(self.dataset, self.sizes, batch_size=settings.batch_size, seed=settings.seed, epoch=number)

    def _flat_pass(self, number: int) -> list[int]:
        return [index for batch in self._own_pass(number) for index in batch]

    def batch(self, indices: Sequence[int], epoch: int, batch: int) -> Batch:
        """Batch number `batch` of the pass `epoch`, whose photos are `indices`."""
        settings = self.settings
        draws = random.Random(stream_seed(settings.seed, "photos", epoch, batch))
        latents = [self._latents[index][draws.random() < 0.5 if settings.flip else 0] for index in indices]
        captions = [
            self._caption(self.dataset.photos[index].caption, epoch, batch, i) for i, index in enumerate(indices)
        ]
        rows = torch.tensor(indices).to(self.base.device, non_blocking=True)
        conditioning = {name: table[rows] for name, table in self._sized.items()}
        if self._embeds:
            chosen = torch.tensor([self._rows[caption] for caption in captions]).to(self.base.device, non_blocking=True)
            conditioning |= {name: table[chosen] for name, table in self._embeds.items()}
        elif not settings.train_text_encoder:
            with torch.no_grad():
                conditioning |= self.base.family.encode_prompts(self.base, captions, settings.clip_skip)
        return Batch(
            mean=torch.stack([mean for mean, _ in latents]),
            std=torch.stack([std for _, std in latents]),
            prior=self._prior[rows],
            captions=captions,
            conditioning=conditioning,
        )

    def _caption(self, caption: str, epoch: int, batch: int, place: int) -> str:
        settings = self.settings
        draws = random.Random(stream_seed(settings.seed, "captions", epoch, batch, place))
        if settings.caption_dropout and draws.random() < settings.caption_dropout:
            return ""
        if not settings.shuffle_caption:
            return caption
        tags = [tag.strip() for tag in caption.split(",")]
        head, tail = tags[: settings.keep_tokens], tags[settings.keep_tokens :]
        draws.shuffle(tail)
        return ", ".join(head + tail)


_Item = TypeVar("_Item")


def _stretch(one_pass: Callable[[int], list[_Item]], first: int, count: int) -> list[_Item]:
    """`count` items from number `first` on, of passes 0, 1, … that follow each other and are all of one length."""
    each = len(one_pass(0))
    passes = range(first // each, (first + count - 1) // each + 1)
    items = [item for number in passes for item in one_pass(number)]
    return items[first - passes.start * each :][:count]

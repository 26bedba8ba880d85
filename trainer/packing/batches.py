"""What a pack reads at each batch: latents and text embeddings that already lie on the device, in a fixed order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """The batches of every epoch of one dataset: the same for all runs, whoever asks, in whatever order.

    sizes: the bucket (width, height) of each photo.
    """

    def __init__(self, base: Base, dataset: Dataset, cache: LatentCache, settings: FeedSettings) -> None:
        self.base, self.dataset, self.settings = base, dataset, settings
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

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as indices into the dataset's photos."""
        settings = self.settings
        return epoch_batches(self.dataset, self.sizes, batch_size=settings.batch_size, seed=settings.seed, epoch=epoch)

    def batch(self, indices: Sequence[int], epoch: int, batch: int) -> Batch:
        """Batch number `batch` of `epoch`, whose photos are `indices`."""
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

"""Latents and text embeddings, computed once and kept by content: in memory, and on disk shared by all processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.dataset import Photo, load_pixels
from trainer.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.families.family import Base, Conditioning

_FORMAT = 2
_DIGEST = "sha256"
_SAMPLES_PER_TENSOR = 4096


class LatentCache:
    """Latents of photos and embeddings of prompts for one base.

    Files are named by what they hold (encoder weights, image content and size, or prompt), written aside and renamed:
    any number of processes may share `folder`, and deleting it costs time only. `folder=None` keeps to memory.
    Embeddings are those of the frozen text encoders: do not use them where those are trained.
    """

    def __init__(self, base: Base, folder: str | Path | None = None) -> None:
        self._base = base
        self._folder = None if folder is None else Path(folder)
        self._latents: dict[str, tuple[Tensor, Tensor]] = {}
        self._prompts: dict[str, Conditioning] = {}
        self._vae_digest: str | None = None
        self._text_digest: str | None = None

    def latents(self, photo: Photo, size: tuple[int, int], *, flip: bool = False) -> tuple[Tensor, Tensor]:
        """(mean, std) [C,h,w] float32 on the base's device, of the photo cut to `size` (width, height); mirrored first
        with `flip`. Raises DataError when the photo cannot be read any more."""
        import numpy as np
        import torch

        if self._vae_digest is None:
            self._vae_digest = fingerprint(self._base.vae)
        key = _key("latents", self._vae_digest, photo.digest, size, flip)
        if key not in self._latents:
            stored = self._read(key)
            if stored is None:
                pixels = load_pixels(photo, size)
                pixels = np.ascontiguousarray(pixels[:, ::-1]) if flip else pixels
                tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
                with self._base.at_hand(vae=True):
                    mean, std = self._base.family.encode_images(self._base, tensor)
                stored = {"mean": mean[0], "std": std[0]}
                self._write(key, stored)
            device = self._base.device
            self._latents[key] = (stored["mean"].to(device), stored["std"].to(device))
        return self._latents[key]

    def prompts(self, prompts: Sequence[str], clip_skip: int | None = None) -> Conditioning:
        """What `family.encode_prompts` returns, B = len(prompts) rows, without gradients; each prompt encoded once."""
        import torch

        if self._text_digest is None:
            total = "".join(fingerprint(encoder) for encoder in self._base.text_encoders)
            self._text_digest = hashlib.sha256(total.encode()).hexdigest()
        keys = [_key("prompt", self._text_digest, prompt, clip_skip, str(self._base.dtype)) for prompt in prompts]
        missing: dict[str, str] = {}
        for key, prompt in zip(keys, prompts, strict=True):
            if key in self._prompts:
                continue
            stored = self._read(key)
            if stored is None:
                missing[key] = prompt
            else:
                self._prompts[key] = {name: value.to(self._base.device) for name, value in stored.items()}
        if missing:
            self._encode(missing, clip_skip)
        rows = [self._prompts[key] for key in keys]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _encode(self, missing: dict[str, str], clip_skip: int | None) -> None:
        import torch

        with torch.no_grad(), self._base.at_hand(text_encoders=True):
            for key, prompt in missing.items():  # one by one: a row does not depend on what it was encoded with
                encoded = self._base.family.encode_prompts(self._base, [prompt], clip_skip)
                self._prompts[key] = {name: value[0].detach() for name, value in encoded.items()}
                self._write(key, self._prompts[key])

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> dict[str, Tensor] | None:
        from safetensors import SafetensorError, safe_open

        path = self._path(key)
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
                digest = (file.metadata() or {}).get(_DIGEST)
        except (SafetensorError, OSError):
            return None  # damaged or just deleted: compute it again and write it over
        return tensors if digest == _digest(tensors) else None

    def _write(self, key: str, tensors: dict[str, Tensor]) -> None:
        from safetensors.torch import save

        path = self._path(key)
        if path is None:
            return
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        content = save(kept, {_DIGEST: _digest(kept)})
        try:
            write_whole(path, lambda file: file.write(content), durable=False)
        except (FileNotFoundError, FileExistsError):  # the folder was deleted that very moment: it is a cache
            return
        except PermissionError:  # on Windows another process may be reading the same entry: it holds the same
            if not path.exists():
                raise


def _digest(tensors: dict[str, Tensor]) -> str:
    """Of the content, so that a flipped bit is no other latent."""
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def fingerprint(module: nn.Module) -> str:
    """Digest of a module's weights: names, shapes, types, and up to 4,096 values spread over each tensor."""
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        flat = tensor.detach().reshape(-1)
        step = max(1, flat.numel() // _SAMPLES_PER_TENSOR)
        total.update(flat[::step].contiguous().cpu().view(torch.uint8).numpy().tobytes())
    config = getattr(module, "config", None)
    scale = [getattr(config, name, None) for name in ("scaling_factor", "shift_factor", "hidden_act")]
    total.update(json.dumps(scale).encode())
    return total.hexdigest()


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()

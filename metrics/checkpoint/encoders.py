"""Images and texts to unit-norm features: any open_clip model, or an image encoder of timm; cached by content."""

import contextlib
import functools
import hashlib
import json
import logging
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from metrics.errors import MetricsError, mistake, nearest
from metrics.files import write_whole

_MOST_SAID = 300  # characters of what a library says
_PLACES_SIDE = 384  # pixels, for networks that take any size: places of 16 and 32 pixels

Images = Sequence[np.ndarray] | np.ndarray
"""uint8 RGB images `[H, W, 3]`, in a list where sizes differ or as one array `[N, H, W, 3]`."""


@dataclass(frozen=True)
class Encoder:
    """A resident feature extractor. Build one with `load_encoder`.

    Attributes:
        spec: what the user wrote.
        digest: 16 hex digits that name the weights and the preprocessing; equal digests give equal features.
        cache_dir: folder of the feature cache, or None.
        encode_places: what `places` asks, or None.
    """

    spec: str
    digest: str
    encode_images: Callable[[Images], np.ndarray]
    encode_texts: Callable[[Sequence[str]], np.ndarray] | None
    cache_dir: Path | None = None
    encode_places: Callable[[Images], list[np.ndarray]] | None = None

    def places(self, images: Images) -> list[np.ndarray] | None:
        """What it sees where, of N uint8 RGB images: its last two stages, float32 `[N, h, w, D]` each; None from
        encoders that do not tell (all but timm's). Images are stretched to a square for that."""
        return None if self.encode_places is None else self.encode_places(list(images))

    @property
    def has_texts(self) -> bool:
        """Whether `texts` works: false for the image-only encoders of timm."""
        return self.encode_texts is not None

    def images(self, images: Images, *, cache: bool = True) -> np.ndarray:
        """Features of N uint8 RGB images: float32 `[N, D]`, each row of norm 1.

        With `cache=False` nothing is looked up or kept, which is right for images that are seen once.
        """
        batch = list(images)
        for image in batch:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise MetricsError(f"image of shape {image.shape} and type {image.dtype}: RGB of uint8 is needed")
        if self.cache_dir is None or not cache:
            return self.encode_images(batch)
        keys = [_image_key(image) for image in batch]
        return _cached(
            self.cache_dir / self.digest, keys, lambda missing: self.encode_images([batch[i] for i in missing])
        )

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features of M texts: float32 `[M, D]`, each row of norm 1.

        Raises:
            MetricsError: the encoder knows images only.
        """
        if self.encode_texts is None:
            raise mistake("encoder", self.spec, "an open_clip model, to score prompts", "this one knows images only")
        if not len(texts):
            return np.zeros((0, 0), np.float32)
        unique = list(dict.fromkeys(texts))
        if self.cache_dir is None:
            features = self.encode_texts(unique)
        else:
            keys = [hashlib.sha256(b"text\0" + text.encode()).hexdigest() for text in unique]
            encode = self.encode_texts
            features = _cached(self.cache_dir / self.digest, keys, lambda missing: encode([unique[i] for i in missing]))
        rows = {text: row for row, text in enumerate(unique)}
        return features[[rows[text] for text in texts]]


def load_encoder(
    spec: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    batch_size: int = 32,
    cache_dir: str | Path | None = None,
) -> Encoder:
    """Load a feature extractor.

    Args:
        spec: `NAME/TAG` of open_clip (`ViT-L-14/openai`, `hf-hub:org/model`), a folder with open_clip_config.json and
            open_clip_model.safetensors; or, for images only, `timm:NAME` (pretrained), `timm:NAME@FILE.safetensors` or
            a folder of timm's with config.json and model.safetensors.
        precision: `fp32`, or `bf16` / `fp16` to run the network under autocast; features are float32 all the same.
        cache_dir: where features are kept, one small file per image, keyed by content; safe to delete, shared by
            processes.

    Raises:
        MetricsError: unknown name, unreadable folder, or weights that cannot be fetched.
    """
    if precision not in ("fp32", "bf16", "fp16"):
        raise mistake("precision", precision, "fp32, bf16 or fp16")
    try:
        with _patient_only_online():
            if spec.startswith("timm:"):
                parts = _load_timm(spec.removeprefix("timm:"), device)
            elif _is_timm_folder(Path(spec)):
                parts = _load_timm_folder(Path(spec), device)
            else:
                parts = _load_open_clip(spec, device)
    except MetricsError:
        raise
    except Exception as error:  # open_clip, timm and the hub raise whatever their downloads and parsers raise
        expected = "an encoder that can be loaded: at its first use over the network, or from a local folder"
        raise mistake("encoder", spec, expected, _why_not_loaded(error)) from error
    model, preprocess, tokenize = parts

    def forward_images(images: Images) -> np.ndarray:
        import torch
        from PIL import Image

        if not len(images):
            return np.zeros((0, 0), np.float32)
        rows = []
        for start in range(0, len(images), batch_size):
            pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images[start : start + batch_size]])
            rows.append(_run(model.encode_image if tokenize else model, pixels, device, precision))
        return np.concatenate(rows)

    def forward_texts(texts: Sequence[str]) -> np.ndarray:
        assert tokenize is not None
        rows = [
            _run(model.encode_text, tokenize(list(texts[start : start + batch_size])), device, precision)
            for start in range(0, len(texts), batch_size)
        ]
        return np.concatenate(rows)

    def forward_places(images: Images) -> list[np.ndarray]:
        stages = [_places(model, images[at : at + batch_size], device) for at in range(0, len(images), batch_size)]
        return [np.concatenate(stage) for stage in zip(*stages, strict=True)]

    return Encoder(
        spec=spec,
        digest=_weights_digest(model, repr(preprocess) + precision),
        encode_images=forward_images,
        encode_texts=forward_texts if tokenize else None,
        cache_dir=Path(cache_dir) if cache_dir is not None else None,
        encode_places=None if tokenize or not hasattr(model, "forward_intermediates") else forward_places,
    )


@contextlib.contextmanager
def _patient_only_online() -> Iterator[None]:
    """Without a network the hub answers from its cache at once instead of retrying for a minute, and logs nothing."""
    from huggingface_hub import constants

    before, disabled = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    if not before and not getproxies():
        try:
            socket.create_connection(_address_of(constants.ENDPOINT), timeout=5).close()
        except OSError:
            constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        constants.HF_HUB_OFFLINE = before


def _address_of(url: str) -> tuple[str, int]:
    """
    >>> _address_of("https://huggingface.co"), _address_of("http://mirror"), _address_of("http://mirror:8080/hub")
    (('huggingface.co', 443), ('mirror', 80), ('mirror', 8080))
    """
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)


def _why_not_loaded(error: BaseException) -> str:
    """What a library says, in a line; of a file that is neither here nor to be had, only that."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        asked = "is not asked, as HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "cannot be reached"
        return f"its weights are not in the hub's cache, and the hub {asked}"
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason if len(reason) <= _MOST_SAID else f"{reason[:_MOST_SAID]}…"


def _load_open_clip(spec: str, device: str) -> tuple[Any, Callable, Callable | None]:
    import open_clip

    name, pretrained = spec, None
    if Path(spec).is_dir():
        if not (Path(spec) / "open_clip_config.json").is_file():
            raise mistake("encoder", spec, "a folder with open_clip_config.json, or timm's config.json")
        if not any(Path(spec).glob("*.safetensors")) and not any(Path(spec).glob("*.bin")):
            raise mistake("encoder", spec, "a folder with open_clip_model.safetensors")
        name = f"local-dir:{Path(spec).resolve()}"
    elif not spec.startswith("hf-hub:"):
        name, _, pretrained = spec.partition("/")
        known = open_clip.list_models()
        if name not in known:
            raise mistake("encoder", spec, f"a folder, or an open_clip model{nearest(name, known)}")
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not pretrained or (pretrained not in tags and not Path(pretrained).is_file()):
            raise mistake("encoder", spec, f"{name}/TAG{nearest(pretrained, tags)}", f"TAG is one of {', '.join(tags)}")
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
    return model.eval().requires_grad_(False), preprocess, open_clip.get_tokenizer(name)


def _load_timm(spec: str, device: str) -> tuple[Any, Callable, Callable | None]:
    import timm

    name, _, weights = spec.partition("@")
    if not timm.is_model(name):
        raise mistake("encoder", f"timm:{spec}", f"a model of timm{nearest(name, timm.list_models())}")
    if weights and not Path(weights).is_file():
        raise mistake("encoder", f"timm:{spec}", "a file of weights that exists", f"{weights} does not")
    model = timm.create_model(name, pretrained=not weights, num_classes=0)
    if weights:
        from safetensors.torch import load_file

        missing = model.load_state_dict(load_file(weights), strict=False).missing_keys
        if missing:
            why = f"the file lacks {len(missing)} of them, such as {missing[0]}"
            raise mistake("encoder", f"timm:{spec}", "a file with all weights of the model", why)
    return _images_only(model, device)


def _is_timm_folder(folder: Path) -> bool:
    """As timm saves models to the hub; other libraries' config.json names no `architecture`."""
    try:
        named = "architecture" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return named and not (folder / "open_clip_config.json").is_file()


def _load_timm_folder(folder: Path, device: str) -> tuple[Any, Callable, Callable | None]:
    import timm

    if not (folder / "model.safetensors").is_file():
        raise mistake("encoder", str(folder), "a folder with model.safetensors")
    return _images_only(timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True, num_classes=0), device)


def _images_only(model: Any, device: str) -> tuple[Any, Callable, Callable | None]:
    import timm

    config = timm.data.resolve_model_data_config(model)
    preprocess = timm.data.create_transform(**config, is_training=False)
    return model.eval().requires_grad_(False).to(device), preprocess, None


def _places(model: Any, images: Images, device: str) -> list[np.ndarray]:
    """The last two stages of a model of timm: `[B, h, w, D]` each."""
    import timm
    import torch
    from PIL import Image

    config = timm.data.resolve_model_data_config(model)
    side = config["input_size"][-1] if hasattr(model, "patch_embed") else _PLACES_SIDE
    squares = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in images]
    pixels = torch.from_numpy(np.stack([np.asarray(square, np.float32) for square in squares]) / 255)
    mean, std = (torch.tensor(config[name], dtype=torch.float32) for name in ("mean", "std"))
    batch = ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous().to(device)
    with torch.inference_mode():
        stages = model.forward_intermediates(batch, indices=2, output_fmt="NCHW", intermediates_only=True)
    return [stage.float().permute(0, 2, 3, 1).cpu().numpy() for stage in stages]


def _run(forward: Callable, batch: Any, device: str, precision: str) -> np.ndarray:
    """One batch through the network, `[B, D]` float32 on the CPU, rows of norm 1."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, dtype=dtype, enabled=precision != "fp32"):
        features = forward(batch.to(device)).float()
    if not torch.isfinite(features).all():
        raise MetricsError("the encoder returned NaN or infinite features: try precision fp32")
    return torch.nn.functional.normalize(features, dim=-1).cpu().numpy()


def _weights_digest(model: Any, extra: str) -> str:
    """Hash of names, shapes and up to 64 evenly spaced values of every weight: tells models apart in milliseconds."""
    digest = hashlib.sha256(extra.encode())
    for name, weight in model.state_dict().items():
        flat = weight.detach().flatten()
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(flat[:: max(1, flat.numel() // 64)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _image_key(image: np.ndarray) -> str:
    header = f"image\0{image.shape}\0".encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()


def _cached(folder: Path, keys: list[str], compute: Callable[[list[int]], np.ndarray]) -> np.ndarray:
    """Rows by key from disk; the missing ones are computed in one call and kept."""
    rows: dict[int, np.ndarray] = {}
    for index, key in enumerate(keys):
        try:
            with np.load(folder / key[:2] / f"{key}.npz") as kept:
                rows[index] = kept["features"]  # checked by the zip's own sums
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):  # absent or damaged
            continue
    missing = [index for index in range(len(keys)) if index not in rows]
    if missing:
        for index, row in zip(missing, compute(missing), strict=True):
            rows[index] = row
            target = folder / keys[index][:2] / f"{keys[index]}.npz"
            # the folder may be deleted that very moment: it is a cache
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                write_whole(target, functools.partial(np.savez, features=row), durable=False)
    return np.stack([rows[index] for index in range(len(keys))]) if keys else np.zeros((0, 0), np.float32)

"""Read the parts of a base from a hub id, a diffusers folder or a single .safetensors file, offline where possible."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError

if TYPE_CHECKING:
    import torch

CONFIGS = Path(__file__).parent / "configs"


def is_single_file(source: str | Path) -> bool:
    return Path(source).is_file()


def read_index(source: str | Path) -> dict[str, Any]:
    """`model_index.json` of a diffusers folder or hub id. Raises ModelError when there is none."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "model_index.json").exists():
            raise ModelError(f"{source}: no model_index.json in this folder: a diffusers folder has one")
        return json.loads((folder / "model_index.json").read_text())
    if folder.suffix in (".safetensors", ".ckpt") or str(source).count("/") != 1:
        raise ModelError(f"{source}: no such file or folder, and it does not look like a hub id (owner/name)")
    from diffusers import DiffusionPipeline

    with _one_line(source):
        config = DiffusionPipeline.load_config(str(source))
        return dict(config[0] if isinstance(config, tuple) else config)


def read_keys(path: str | Path) -> frozenset[str]:
    """Tensor names of a .safetensors file, from its header alone. Raises ModelError when it is something else."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: single-file bases are read from .safetensors only (a .ckpt can run code)")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 100_000_000 else None
    except (struct.error, ValueError, UnicodeDecodeError):
        header = None
    if not isinstance(header, dict):
        raise ModelError(f"{path}: not a safetensors file, or cut short")
    header.pop("__metadata__", None)
    return frozenset(header)


def load_parts(source: str | Path, dtype: torch.dtype) -> dict[str, Any]:
    """Models, tokenizers and the scheduler of a diffusers folder or hub id, by their names in model_index.json.

    The VAE is loaded in fp32, the rest in `dtype`; safety checkers and image encoders are left out. Where a repository
    holds only fp16 files those are read.
    """
    import diffusers
    import torch
    import transformers

    wanted = ("unet", "transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    parts: dict[str, Any] = {}
    for name, entry in read_index(source).items():
        if not isinstance(entry, list) or entry[0] is None or not name.startswith(wanted):
            continue
        library = {"diffusers": diffusers, "transformers": transformers}.get(entry[0])
        part_class = getattr(library, entry[1], None)
        if part_class is None:
            raise ModelError(f"{source}: {name} is a {entry[0]}.{entry[1]}, which this program does not know")
        with _one_line(source), quiet():
            if name.startswith(("tokenizer", "scheduler")):
                parts[name] = part_class.from_pretrained(str(source), subfolder=name)
                continue
            settings = {"subfolder": name, "dtype": torch.float32 if name == "vae" else dtype}
            try:
                parts[name] = part_class.from_pretrained(str(source), **settings)
            except OSError as error:
                try:
                    parts[name] = part_class.from_pretrained(str(source), variant="fp16", **settings)
                except OSError:
                    raise error from None
    painter = "transformer" if "transformer" in parts else "unet"
    missing = [name for name in (painter, "vae", "text_encoder", "tokenizer", "scheduler") if name not in parts]
    if missing:
        raise ModelError(f"{source}: model_index.json names no {', '.join(missing)}")
    return parts


def load_single_file(path: str | Path, dtype: torch.dtype, *, pipeline: str, config: Path) -> dict[str, Any]:
    """The same from an original-format checkpoint, with component configs and tokenizers that need no network.

    `pipeline` is the diffusers class, `config` a folder of component configs. Checkpoints that carry the marker keys
    `v_pred` and `ztsnr` are taken for v prediction and zero terminal SNR.
    """
    import diffusers
    import torch

    index = json.loads((config / "model_index.json").read_text())
    tokenizers = {
        name: clip_tokenizer(pad_token="!" if name == "tokenizer_2" else "<|endoftext|>", folder=config / name)
        for name in index
        if name in ("tokenizer", "tokenizer_2")
    }
    local: dict[str, Any] = {"config": str(config), "local_files_only": True}
    with _one_line(path), quiet():
        vae = diffusers.AutoencoderKL.from_single_file(str(path), subfolder="vae", torch_dtype=torch.float32, **local)
        loaded = getattr(diffusers, pipeline).from_single_file(
            str(path), torch_dtype=dtype, vae=vae, **tokenizers, **local
        )
    parts = {name: part for name, part in loaded.components.items() if part is not None}
    keys = read_keys(path)
    if "v_pred" in keys:
        parts["scheduler"].register_to_config(prediction_type="v_prediction")
    if "ztsnr" in keys:
        parts["scheduler"].register_to_config(rescale_betas_zero_snr=True)
    return parts


def clip_tokenizer(*, pad_token: str = "<|endoftext|>", folder: Path | None = None) -> Any:
    """CLIP's tokenizer from the BPE vocabulary that open_clip carries, or from `folder` when it has one."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if folder is not None and folder.exists():
        return CLIPTokenizer.from_pretrained(str(folder))
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ModelError("a single-file base needs the package open_clip_torch for CLIP's vocabulary")
    lines = gzip.decompress((Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    merges = [tuple(line.split()) for line in lines.split("\n")[1 : 49152 - 256 - 2 + 1]]
    alphabet = list(bytes_to_unicode().values())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    vocab = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad_token, model_max_length=77)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block diffusers and transformers print no progress bars and no warnings."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.ERROR)
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


@contextlib.contextmanager
def _one_line(source: str | Path) -> Iterator[None]:
    """Turn whatever a loader raises about a bad file into one line that names the base."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # loaders raise anything from KeyError to RuntimeError
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) if lines else type(error).__name__
        raise ModelError(f"{source}: cannot be loaded: {reason[:300]}") from error

"""Read the parts of a base from a hub id, a diffusers folder or a single .safetensors file, offline where possible."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.families import sources

if TYPE_CHECKING:
    import torch


def load_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Models and tokenizers of a diffusers folder, by their names in model_index.json.

    The VAE is loaded in fp32, the rest in `dtype`. Where a folder holds only fp16 files those are read.
    """
    import diffusers
    import torch
    import transformers

    parts: dict[str, Any] = {}
    for name, part in sources.read_parts(folder).items():
        if name == "scheduler":
            continue
        library = {"diffusers": diffusers, "transformers": transformers}.get(part.library)
        part_class = getattr(library, part.class_name, None)
        if part_class is None:
            raise ModelError(
                f"{folder}: {name} is a {part.library}.{part.class_name}, which this program does not know"
            )
        with _one_line(folder), quiet():
            if not part.has_weights:
                parts[name] = part_class.from_pretrained(str(folder), subfolder=name)
                continue
            _, variant = sources.weight_files(part)
            parts[name] = part_class.from_pretrained(
                str(folder),
                subfolder=name,
                dtype=torch.float32 if name == "vae" else dtype,
                variant=variant,
                use_safetensors=True,
                local_files_only=True,
            )
    return parts


def load_single_file(path: Path, dtype: torch.dtype, *, pipeline: str, config: Path) -> dict[str, Any]:
    """The same from an original-format checkpoint, with component configs and tokenizers that need no network.

    `pipeline` is the diffusers class, `config` a folder of component configs.
    """
    import diffusers
    import torch

    index = sources.read_index(config)
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
    return {name: part for name, part in loaded.components.items() if part is not None}


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

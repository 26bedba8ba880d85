"""Where a base lies (a folder, a single file, or a hub id) and which of its files are read. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ModelError, Plain, mistake
from trainer.families.hub import fetch

CONFIGS = Path(__file__).parent / "configs"
"""Component configurations of the families that are read from single files, one folder each."""

_KINDS = ("unet", "transformer", "vae", "text_encoder", "tokenizer", "scheduler")
_PART = re.compile(rf"({'|'.join(_KINDS)})(_\d)?")
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|model)(\.fp16)?(-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(r"(diffusion_pytorch_model|model)\.safetensors\.index(\.fp16)?\.json")
_LARGEST, _MOST_LAYERS = 10_000_000, 1000  # numbers in a part's configuration

_TITLES = {
    "unet": "U-Net",
    "vae": "VAE",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "text_encoder_3": "third text encoder",
    "tokenizer_2": "second tokenizer",
    "tokenizer_3": "third tokenizer",
}


@dataclass(frozen=True)
class Part:
    """A part of a diffusers folder that model_index.json names: "unet", "vae", "text_encoder_2", "tokenizer"…"""

    name: str
    library: str
    class_name: str
    folder: Path

    @property
    def has_weights(self) -> bool:
        return not self.name.startswith(("tokenizer", "scheduler"))

    @property
    def config_file(self) -> Path:
        return self.folder / ("scheduler_config.json" if self.name == "scheduler" else "config.json")


@dataclass(frozen=True)
class Header:
    """What a .safetensors file says before its data: shapes by tensor name, and its metadata."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def locate(source: str | Path, *, weights: bool = True) -> Path:
    """The file or folder of a base on this machine.

    A hub id is looked up in the hub's cache; what is not there is downloaded: the files that `read_parts` and
    `weight_files` name, or without `weights` only the small ones (configurations and tokenizers).

    Raises:
        ModelError: there is nothing of this name, it is neither a file nor a folder, or the hub does not give it.
    """
    path = Path(source)
    try:
        if path.is_file() or path.is_dir():
            return path
        if path.exists():
            raise ModelError(f"{source}: neither a file nor a folder, but a device or a pipe")
        broken = path.is_symlink()
    except (OSError, ValueError) as error:
        raise ModelError(f"{source}: cannot be opened: {error}") from None
    if broken:
        raise ModelError(f"{source}: a link to {path.readlink()}, where nothing is")
    if path.suffix in (".safetensors", ".ckpt") or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(source)):
        raise ModelError(f"{source}: no such file or folder, and it does not look like a hub id (owner/name)")
    return fetch(str(source), lambda names: _needed(names, weights=weights), lambda folder: _whole(folder, weights))


def title(source: str | Path, part: str) -> str:
    """How a line about a part begins: "b: the base's second text encoder (text_encoder_2)"."""
    return (
        f"{source}: the base's {_TITLES.get(part, part)} ({part})"
        if part in _TITLES
        else f"{source}: the base's {part}"
    )


def is_single_file(source: str | Path) -> bool:
    return Path(source).is_file()


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a diffusers folder. Raises ModelError when there is none, or it is something else."""
    path = folder / "model_index.json"
    if not path.is_file():
        single = sorted(file.name for file in folder.glob("*.safetensors"))
        also = f"; for a single-file base name the file, such as {single[0]}" if single else ""
        raise ModelError(f"{folder}: no model_index.json in this folder: a diffusers folder has one{also}")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ModelError, which names the file, when it does not."""
    _check_kind(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ModelError(f"{path}: not JSON as other tools read it: save it as UTF-8 without a byte-order mark")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "it is empty" if not raw.strip() else " ".join(str(error).split())[:100]
        raise ModelError(f"{path}: not JSON: {reason}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not what is needed here: a JSON object, in braces, with names and values")
    return content


def read_parts(folder: Path, needed: Iterable[str] = (), *, complete: bool = True) -> dict[str, Part]:
    """The parts that model_index.json names, without safety checkers and image encoders.

    Args:
        needed: models that have to be among them.
        complete: whether each part has to have its folder, its configuration, and a tokenizer its vocabulary.

    Raises:
        ModelError: a model, the tokenizer of a text encoder, or the scheduler is missing, or a part is not complete.
    """
    found = {}
    for name, entry in read_index(folder).items():
        if not _PART.fullmatch(name) or entry in (None, [None, None]):
            continue
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)):
            raise ModelError(f"{folder / 'model_index.json'}: {name}: not a library and a class: {entry!r}")
        found[name] = Part(name, entry[0], entry[1], folder / name)
    wanted = dict.fromkeys([*needed, *found, "scheduler"])
    wanted |= {name.replace("text_encoder", "tokenizer"): None for name in wanted if name.startswith("text_encoder")}
    if missing := [name for name in wanted if name not in found]:
        raise ModelError(f"{folder}: model_index.json names no {', '.join(missing)}: the base is not whole")
    for part in found.values() if complete else ():
        if part.name.startswith("tokenizer"):
            _check_tokenizer(folder, part)
        elif part.folder.is_dir():
            _check_kinds(part.folder)
            _check_sizes(part.config_file, read_json(part.config_file))
        else:
            raise ModelError(f"{folder}: the folder {part.name} is missing, which model_index.json names")
    return found


def _check_kinds(folder: Path) -> None:
    """No pipe or device lies among a part's files: a library that opens one waits for ever."""
    for path in sorted(folder.iterdir()):
        _check_kind(path)


def _check_kind(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ModelError(f"{path}: neither a file nor a folder, but a device or a pipe")


def _check_sizes(file: Path, content: dict[str, Any]) -> None:
    """A configuration has no number that no model has: libraries would build such a model layer by layer."""
    left: list[tuple[str, Any]] = list(content.items())
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(key, inner) for inner in value]
        elif isinstance(value, int) and abs(value) > (most := _MOST_LAYERS if "layers" in key else _LARGEST):
            raise ModelError(mistake(file, key, Plain(str(value)[:20]), f"at most {most}"))


def _check_tokenizer(source: Path, part: Part) -> None:
    """Its vocabulary is there, and what says how captions are padded; transformers would go on without."""
    if part.folder.is_dir():
        _check_kinds(part.folder)
    names = {file.name for file in part.folder.iterdir()} if part.folder.is_dir() else set()
    lacking = [name for name in ("vocab.json", "merges.txt") if name not in names]
    if lacking and not names & {"tokenizer.json", "spiece.model"}:
        missing = f"{' and '.join(lacking)}, or tokenizer.json"
        raise ModelError(f"{title(source, part.name)} folder has no vocabulary ({missing})")
    if not names & {"tokenizer_config.json", "special_tokens_map.json"}:
        raise ModelError(f"{title(source, part.name)} folder has no tokenizer_config.json (how captions are padded)")
    for name in sorted(names):
        if name.endswith(".json"):
            content = read_json(part.folder / name)
            model = content.get("model")
            vocabulary = content if name == "vocab.json" else model.get("vocab") if isinstance(model, dict) else None
            if name in ("vocab.json", "tokenizer.json") and not vocabulary:
                raise ModelError(
                    f"{part.folder / name}: holds no vocabulary: the file is not a tokenizer's, or damaged"
                )


def weight_files(part: Part) -> tuple[tuple[Path, ...], str | None]:
    """The .safetensors files of a part and the variant ("fp16", or None for the plain one) that they are.

    Raises:
        ModelError: there are none, only ones that can run code, or fewer than their index names.
    """
    names = sorted(entry.name for entry in part.folder.iterdir())
    chosen = choose_weights(names, part.library)
    if not chosen:
        pickled = [name for name in names if name.endswith((".bin", ".ckpt", ".pt", ".pth"))]
        if pickled:
            raise ModelError(
                f"{part.folder}: only {', '.join(pickled)} here: weights are read from .safetensors only "
                f"(a {Path(pickled[0]).suffix} can run code)"
            )
        raise ModelError(f"{part.folder}: no weights here (a .safetensors file)")
    variant = "fp16" if ".fp16" in chosen[0] else None
    if not chosen[0].endswith(".json"):
        return (part.folder / chosen[0],), variant
    index = part.folder / chosen[0]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{index}: names no files (weight_map)")
    files = tuple(part.folder / name for name in sorted(set(shards.values())))
    lacking = [file.name for file in files if not file.is_file()]
    if lacking:
        raise ModelError(f"{part.folder}: {', '.join(lacking)} is missing, which {index.name} names")
    return files, variant


def check_files(path: Path, parts: Mapping[str, Part]) -> None:
    """Raises ModelError when a file of weights, which are not read, is missing, cut short or of another kind.

    Args:
        path: the base's file, or its folder, whose `parts` are looked at.
    """
    if path.is_file():
        read_header(path)
        return
    for part in parts.values():
        if part.has_weights:
            for file in weight_files(part)[0]:
                read_header(file)


def choose_weights(names: Iterable[str], library: str) -> tuple[str, ...]:
    """Of the names in a part's folder the one weight file that its library loads, or an index and its shards.

    The plain files come before the fp16 ones. Where one file and an index lie side by side, diffusers takes the index
    and transformers the file.
    """
    names = sorted(names)
    for fp16 in (False, True):
        weights = [name for name in names if (match := _WEIGHTS.fullmatch(name)) and bool(match[2]) == fp16]
        whole = [name for name in weights if "-of-" not in name]
        index = [name for name in names if (match := _INDEX.fullmatch(name)) and bool(match[2]) == fp16]
        if index and (library == "diffusers" or not whole):
            return (index[0], *(name for name in weights if "-of-" in name))
        if whole:
            return (whole[0],)
    return ()


def read_header(path: str | Path) -> Header:
    """Shapes and metadata of a .safetensors file; its weights are not read.

    Raises:
        ModelError: it is something else, is cut short, or its parts do not fill it.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: files are read in .safetensors only (others, such as .ckpt, can run code)")
    _check_kind(path)
    try:
        with safe_open(str(path), framework="np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return Header(shapes, dict(file.metadata() or {}))
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file, or cut short ({' '.join(str(error).split())})") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from None


def _needed(names: Iterable[str], *, weights: bool) -> list[str]:
    """Of all files of a hub repository those that a base is read from."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    chosen = [name for name in folders.get("", []) if name == "model_index.json"]
    for folder, files in folders.items():
        if not _PART.fullmatch(folder):
            continue
        small = [
            file for file in files if not file.endswith((".safetensors", ".bin", ".msgpack", ".onnx", ".onnx_data"))
        ]
        library = "transformers" if folder.startswith("text_encoder") else "diffusers"
        large = choose_weights(files, library) if weights else ()
        chosen += [f"{folder}/{file}" for file in sorted({*small, *large})]
    return chosen


def _whole(folder: Path, weights: bool) -> bool:
    """Whether a snapshot in the hub's cache has all files that are needed of it."""
    if not (folder / "model_index.json").is_file():
        return False
    try:
        for part in read_parts(folder).values():
            if weights and part.has_weights:
                weight_files(part)
    except ModelError:
        return False
    return True

"""What a LoRA file's metadata says that it should not, and what of it is wrong: hashes, family, rank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.delivery.finding import Finding, fault, note, some
from trainer.delivery.private_text import home_names, private_in, without_private
from trainer.families import FAMILIES
from trainer.lora.kohya_file import hashes

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.lora.lora import LoraWeights

OF_PHOTOS = ("ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_datasets", "ss_bucket_info")
"""What WebUIs show of the photos: names of folders, tags of captions, sizes."""
_OF_PEOPLE = ("ss_training_comment", "modelspec.author", "modelspec.description", "modelspec.usage_hint")
_VERSIONS = {
    "sd_v": "sd15",
    "sd_1": "sd15",
    "sd_2": "sd15",
    "sd1": "sd15",
    "sd2": "sd15",
    "sdxl": "sdxl",
    "sd_3": "sd3",
    "sd3": "sd3",
}
"""How ss_base_model_version begins, of sd-scripts and ai-toolkit, and modelspec.architecture of SimpleTuner."""
_EMPTY = hashlib.sha256(b"").hexdigest()


def look_at_privacy(metadata: Mapping[str, str]) -> Iterator[Finding]:
    """Private paths, names, mail addresses and keys, one finding for each value that has any."""
    names = names_of(metadata)
    for key, value in metadata.items():
        kinds: dict[str, list[str]] = {}
        for text in _texts(value):
            for one in private_in(text, () if key in OF_PHOTOS else names):
                kinds.setdefault(one.kind, []).append(one.text)
        for kind, texts in kinds.items():
            shown = f"{texts[0][:4]}…" if kind == "key" else texts[0]
            more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
            yield fault("run again with --clean", f"metadata tells a private {kind} ({key}: {shown}{more})")
    for key in _OF_PEOPLE:
        if text := metadata.get(key, "").strip():
            yield note("read it, it is passed on", f"metadata has a text of yours ({key}: {text[:80]})")
    if told := [key for key in OF_PHOTOS[:4] if metadata.get(key, "{}") not in ("{}", "", "[]")]:
        do = "leave them out with --no-photos if they should not be known"
        yield note(do, f"metadata names your photos' folders and tags ({some(told)})")


def look_at_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], content: Path) -> Iterator[Finding]:
    """Whether `sshs_model_hash`, `sshs_legacy_hash` and `modelspec.hash_sha256` are those of the weights."""
    right = recomputed(tensors, metadata)
    own = right | {"sshs_model_hash": _of_file(content)}
    known = {"sshs_model_hash", "sshs_legacy_hash"} & metadata.keys()
    for key in sorted(known):
        if metadata[key] not in (right.get(key), own.get(key)):
            nothing = " (a hash of nothing)" if _EMPTY.startswith(metadata[key] or "?") else ""
            got = f"{metadata[key][:16]}…{nothing}, the weights have {right.get(key, 'none')[:16]}"
            yield fault("run again with --repair", f"{key} is not that of the weights: it says {got}")
    told = metadata.get("modelspec.hash_sha256", "").removeprefix("0x")
    if told and told not in (right["sshs_model_hash"], own["sshs_model_hash"]):
        yield fault("run again with --repair", "modelspec.hash_sha256 is not that of the weights")
    if "sshs_model_hash" not in known:
        yield note("--repair writes them", "metadata has no hashes, by which WebUIs and sites tell files apart")


def look_at_family(lora_family: str, metadata: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the metadata names the family that the layers are of."""
    version, architecture = metadata.get("ss_base_model_version"), metadata.get("modelspec.architecture")
    named = {
        "ss_base_model_version": _version_of(version) if version else None,
        "modelspec.architecture": _family_of(architecture) if architecture else None,
    }
    for key, family in named.items():
        if family is not None and family != lora_family:
            what = f"{key} says {metadata[key]}, its layers are those of {lora_family}"
            yield fault("run again with --repair", what)
    if all(family is None for family in named.values()):
        yield note("--repair writes it", "metadata does not say which kind of base it is for (ss_base_model_version)")


def look_at_rank(lora: LoraWeights, metadata: Mapping[str, str]) -> Iterator[Finding]:
    """Whether `ss_network_dim` is the rank of some layer."""
    told = metadata.get("ss_network_dim", "")
    ranks = {module.rank for module in lora.modules.values()}
    if told.isdigit() and int(told) not in ranks:
        yield note("--repair mends it", f"ss_network_dim says {told}, the layers have rank {some(sorted(ranks))}")


def recomputed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """kohya's hashes of these weights: `sshs_legacy_hash` is absent where the file is too short for one."""
    from safetensors.torch import save

    own = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    return hashes(save(dict(tensors), own))


def names_of(metadata: Mapping[str, str]) -> frozenset[str]:
    """Names of people that home folders in the metadata give away."""
    return frozenset(name for value in metadata.values() for text in _texts(value) for name in home_names(text))


def cleaned(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata without private paths, names, mail addresses and keys; what photos' keys say of tags stays."""
    names = names_of(metadata)
    return {key: _rewritten(value, () if key in OF_PHOTOS else names) for key, value in metadata.items()}


def without_photos(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata without names of the photos' folders, tags and sizes."""
    return {key: value for key, value in metadata.items() if key not in OF_PHOTOS}


def _version_of(version: str) -> str:
    return next((family for start, family in _VERSIONS.items() if version.startswith(start)), version)


def _family_of(architecture: str) -> str:
    name = architecture.partition("/")[0]
    if name.startswith("stable-diffusion-v2"):
        return "sd15"
    return next((family.name for family in FAMILIES.values() if family.architecture == name), _version_of(name))


def _of_file(path: Path) -> str:
    """SHA-256 of everything after a file's header, as it lies there."""
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _texts(value: str) -> Iterator[str]:
    """Every text in a value, which may be JSON."""
    nested = _nested(value)
    yield from [value] if nested is None else _leaves(nested)


def _nested(value: str) -> Any:
    if value[:1] not in ("{", "["):
        return None
    try:
        return json.loads(value)
    except ValueError:
        return None


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value


def _rewritten(value: str, names: Collection[str]) -> str:
    """A value without what is private in its texts; one in which nothing changes stays the very text it was."""
    nested = _nested(value)
    if nested is None:
        return without_private(value, names)
    new = _mapped(nested, names)
    return value if new == nested else json.dumps(new)


def _mapped(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {without_private(str(key), names): _mapped(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, names) for inner in value]
    return without_private(value, names) if isinstance(value, str) else value

"""LoRA files as kohya's sd-scripts writes them, which WebUIs, ComfyUI and diffusers read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.files import write_whole
from trainer.lora.architectures import check_lora, family_of
from trainer.lora.key_styles import alphas, kohya_key
from trainer.lora.lora import LoraModule, LoraWeights, Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000


def save_lora(
    path: str | Path,
    lora: LoraWeights,
    metadata: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a LoRA: `NAME.lora_down.weight`, `.lora_up.weight`, 0-d `.alpha` (and `.dora_scale`) for each module.

    The hashes `sshs_model_hash`, `sshs_legacy_hash` and `modelspec.hash_sha256` are computed here, whatever `metadata`
    says. The file appears whole or not at all.

    Args:
        dtype: of the matrices; None is fp16. An alpha that the dtype cannot hold exactly is kept in fp32.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    tensors = state_dict(lora, dtype or torch.float16)
    kept = {key: value for key, value in (metadata or {}).items() if not key.startswith("sshs_")}
    own = {key: value for key, value in kept.items() if key.startswith("ss_")}
    kept |= hashes(save(tensors, own))
    if any(key.startswith("modelspec.") for key in kept):
        kept["modelspec.hash_sha256"] = "0x" + kept["sshs_model_hash"]
    content = save(tensors, kept)
    write_whole(path, lambda file: file.write(content))
    return path


def load_lora(path: str | Path, *, family: str | None = None) -> LoraWeights:
    """Read a LoRA, LoCon or DoRA with the keys of kohya, diffusers, PEFT or ComfyUI, in fp32 on the CPU.

    alpha absent or 0 means alpha = rank. The family is told by the names, unless given. A factorised convolution
    (`lora_mid`) is multiplied out.

    Raises:
        ModelError: not a LoRA file, names that the family does not have, a module that lacks a half.
    """
    tensors, metadata = read_tensors(path)
    check_lora(path, tensors)
    return lora_of(path, tensors, metadata, family=family)


def lora_of(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, family: str | None = None
) -> LoraWeights:
    """The LoRA that these tensors make, as `load_lora` reads it.

    Args:
        path: of the file they are from: settings may stand beside it.

    Raises:
        ModelError: names that the family does not have, a module that lacks a half.
    """
    import torch

    known = {key: kohya for key in tensors if (kohya := kohya_key(key)) is not None}
    names = list(dict.fromkeys(key.split(".", 1)[0] for key in known.values() if ".lora_down." in key))
    chosen = family or family_of(names)
    sites = {name: FAMILIES[chosen].module_path(name) for name in names}
    placed = [key for key, kohya in known.items() if sites.get(kohya.split(".", 1)[0]) is not None]
    if len(placed) < len(tensors):
        lost = next(key for key in tensors if key not in placed)
        raise ModelError(
            f"{path}: expected names that a {chosen} model has, got {len(tensors) - len(placed)} of {len(tensors)} "
            f"tensors with others ({lost}, for one)"
        )
    found = {known[key]: tensors[key] for key in placed}
    own = {key: int(tensors[key].shape[0]) for key in placed if known[key].endswith(".lora_down.weight")}
    beside = {known[key].split(".", 1)[0]: alpha for key, alpha in alphas(path, metadata, own).items()}
    # [1, in, …]; PEFT's own are by output in any shape
    by_input = {
        known[k].split(".")[0]
        for k in placed
        if k.endswith(".dora_scale") and 1 == len(tensors[k]) < tensors[k].numel()
    }
    modules: dict[Site, LoraModule] = {}
    for name, site in sites.items():
        assert site is not None
        down, up = found.get(f"{name}.lora_down.weight"), found.get(f"{name}.lora_up.weight")
        if down is None or up is None:
            raise ModelError(f"{path}: expected both halves of {name}, got one (lora_down or lora_up is missing)")
        alpha = float(found[f"{name}.alpha"]) if f"{name}.alpha" in found else beside.get(name, 0.0)
        magnitude, mid = found.get(f"{name}.dora_scale"), found.get(f"{name}.lora_mid.weight")
        features = int(down.shape[1] if name in by_input else up.shape[0])
        if magnitude is not None and magnitude.numel() != features:
            raise ModelError(f"{path}: {name}: expected {features} DoRA magnitudes, got {magnitude.numel()}")
        down = down.to(torch.float32)
        if mid is not None:  # [rank, rank, kh, kw] between the halves
            down = torch.einsum("ijkl,jr->irkl", mid.to(torch.float32), down.flatten(1))
        modules[site] = LoraModule(
            down=down,
            up=up.to(torch.float32),
            alpha=alpha or float(down.shape[0]),
            magnitude=None if magnitude is None else magnitude.to(torch.float32).flatten(),
            by_input=name in by_input,
        )
    return LoraWeights(modules, chosen)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors, on the CPU, and its metadata.

    Raises:
        ModelError: there is no such file, or it is no safetensors file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors, dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error


def state_dict(lora: LoraWeights, dtype: torch.dtype) -> dict[str, Tensor]:
    """kohya's keys → tensors on the CPU, matrices in `dtype`."""
    import torch

    family = FAMILIES[lora.family]
    tensors: dict[str, Tensor] = {}
    for (component, module_path), module in lora.modules.items():
        name = family.kohya_name(component, module_path)
        tensors[f"{name}.lora_down.weight"] = module.down.detach().to("cpu", dtype).contiguous()
        tensors[f"{name}.lora_up.weight"] = module.up.detach().to("cpu", dtype).contiguous()
        alpha = torch.tensor(float(module.alpha), dtype=dtype)
        exact = float(alpha) == module.alpha
        tensors[f"{name}.alpha"] = alpha if exact else torch.tensor(float(module.alpha), dtype=torch.float32)
        if module.magnitude is not None:
            shape = module.magnitude_shape(module.down.ndim)
            tensors[f"{name}.dora_scale"] = module.magnitude.detach().to("cpu", dtype).reshape(shape).contiguous()
    return tensors


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty when it has none."""
    with Path(path).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)).get("__metadata__", {})


def hashes(content: bytes) -> dict[str, str]:
    """`sshs_model_hash` and `sshs_legacy_hash` of a safetensors file that holds the tensors and `ss_*` keys only.

    The first is the SHA-256 of everything after the header; the second the first eight digits of that of 64 KiB at
    1 MiB (sd-scripts, train_util.precalculate_safetensors_hashes), left out where the file is shorter than that: it
    would be the hash of nothing.
    """
    (length,) = struct.unpack("<Q", content[:8])
    found = {"sshs_model_hash": hashlib.sha256(memoryview(content)[8 + length :]).hexdigest()}
    legacy = content[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]
    if legacy:
        found["sshs_legacy_hash"] = hashlib.sha256(legacy).hexdigest()[:8]
    return found

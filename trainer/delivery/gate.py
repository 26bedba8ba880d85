"""The gate: what of a LoRA file keeps it from being passed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.delivery.finding import Finding, fault, note, some
from trainer.delivery.metadata_look import look_at_family, look_at_hashes, look_at_privacy, look_at_rank
from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.lora.architectures import check_lora, family_of
from trainer.lora.key_styles import alphas, kohya_key
from trainer.lora.kohya_file import lora_of, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.delivery.architecture import Architecture
    from trainer.lora.lora import LoraWeights, Site

_HALVES = ("lora_down.weight", "lora_up.weight")
_AGAIN = "take an earlier checkpoint, or train it again"


@dataclass(frozen=True)
class LoraFile:
    """A file as it lies there.

    Attributes:
        path: where it lies.
        tensors, metadata: what it holds.
        family: that its layers are of.
        names: kohya's key of each tensor that is a part of a LoRA's layer in this family.
        lora: of the layers that are whole; None where none is.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    family: str
    names: Mapping[str, str]
    lora: LoraWeights | None

    @property
    def junk(self) -> tuple[str, ...]:
        """Tensors that are no part of a LoRA's layer in this family."""
        return tuple(key for key in self.tensors if key not in self.names)

    def parts(self, end: str) -> dict[str, Tensor]:
        """Layer's name to its tensor whose key ends so, such as `alpha`."""
        return {
            name.split(".", 1)[0]: self.tensors[key] for key, name in self.names.items() if name.split(".", 1)[1] == end
        }


def read_file(path: str | Path) -> LoraFile:
    """Read a LoRA file, whatever is wrong with it.

    Raises:
        ModelError: it is no safetensors file, or no LoRA, LoCon or DoRA for a base of a family known here.
    """
    tensors, metadata = read_tensors(path)
    check_lora(path, tensors)
    known = {key: name for key in tensors if (name := kohya_key(key)) is not None}
    layers = list(dict.fromkeys(name.split(".", 1)[0] for name in known.values() if ".lora_down." in name))
    family = family_of(layers)
    names = {key: name for key, name in known.items() if FAMILIES[family].module_path(name.split(".", 1)[0])}
    parts: dict[str, set[str]] = {}
    for name in names.values():
        layer, part = name.split(".", 1)
        parts.setdefault(layer, set()).add(part)
    whole = {layer for layer, there in parts.items() if there.issuperset(_HALVES)}
    kept = {key: tensors[key] for key, name in names.items() if name.split(".", 1)[0] in whole}
    lora = lora_of(path, kept, metadata, family=family) if whole else None
    return LoraFile(Path(path), tensors, metadata, family, names, lora)


def look(file: LoraFile, architecture: Architecture | None) -> tuple[Finding, ...]:
    """Everything that is found, faults first.

    Args:
        architecture: what its layers have to fit; None where that is not known.
    """
    found = [*_keys(file), *_numbers(file), *_types(file), *_alphas(file), *_magnitudes(file)]
    found += _shapes(file, architecture)
    found += look_at_family(file.family, file.metadata)
    found += look_at_hashes(file.tensors, file.metadata, file.path)
    if file.lora is not None:
        found += look_at_rank(file.lora, file.metadata)
    found += look_at_privacy(file.metadata)
    return tuple(sorted(found, key=lambda one: one.passes))


def _keys(file: LoraFile) -> Iterator[Finding]:
    if junk := file.junk:
        what = f"{len(junk)} of {len(file.tensors)} tensors are no part of a {file.family} LoRA ({some(junk)})"
        yield fault("run again with --clean", what)
    down, up = file.parts(_HALVES[0]), file.parts(_HALVES[1])
    if alone := sorted(down.keys() ^ up.keys()):
        do = "make the file anew with its trainer"
        yield fault(do, f"{len(alone)} layers have one half only, lora_down or lora_up ({some(alone)})")
    odd = [name for name in down if name in up and down[name].shape[0] != up[name].shape[1]]
    if odd:
        first = odd[0]
        what = f"rank {down[first].shape[0]} in lora_down and {up[first].shape[1]} in lora_up"
        yield fault("make the file anew with its trainer", f"{len(odd)} layers have two ranks ({first}: {what})")


def _numbers(file: LoraFile) -> Iterator[Finding]:
    bad = [key for key, tensor in file.tensors.items() if tensor.is_floating_point() and not _finite(tensor)]
    if bad:
        yield fault(_AGAIN, f"NaN or infinity in {len(bad)} of {len(file.tensors)} tensors ({some(bad)})")
    up = file.parts(_HALVES[1])
    still = [name for name, tensor in up.items() if not tensor.float().any()]
    if up and len(still) == len(up):
        yield fault(_AGAIN, "all layers are zero: the LoRA changes nothing")
    elif still:
        what = f"{len(still)} of {len(up)} layers are zero and change nothing ({some(still)})"
        yield note("nothing has to be done", what)


def _types(file: LoraFile) -> Iterator[Finding]:
    kinds: dict[str, list[str]] = {}
    for key, name in file.names.items():
        if not name.endswith(".alpha"):
            kinds.setdefault(str(file.tensors[key].dtype).removeprefix("torch."), []).append(key)
    odd = {kind: keys for kind, keys in kinds.items() if kind not in ("float16", "bfloat16", "float32")}
    for kind, keys in odd.items():
        what = f"{len(keys)} tensors are {kind} ({some(keys)}); WebUIs read fp16, bf16 and fp32"
        yield fault("run again with --dtype fp16", what)
    if "float32" in kinds and not odd:
        what = f"{len(kinds['float32'])} tensors are fp32, twice as large as they need to be"
        yield note("--dtype fp16 halves the file", what)


def _alphas(file: LoraFile) -> Iterator[Finding]:
    layers, written = file.parts(_HALVES[0]), file.parts("alpha")
    lacking = [name for name in layers if name not in written]
    for name, alpha in written.items():
        if alpha.numel() != 1 or not _finite(alpha.float()) or float(alpha) == 0:
            got = f"{float(alpha):g}" if alpha.numel() == 1 else f"{alpha.numel()} numbers"
            yield fault("run again with --repair", f"the alpha of {name} is {got}: tools read that in several ways")
            break
    if file.family == "sdxl" and len({float(alpha) for alpha in written.values() if alpha.numel() == 1}) > 1:
        what = "its layers have several alphas: diffusers passes over those of SDXL's attention"
        yield note("--repair writes one alpha and the same effect", what)
    if not lacking:
        return
    what = f"{len(lacking)} of {len(layers)} layers have no alpha ({some(lacking)})"
    if written:
        yield fault("run again with --repair", what)
        return
    ranks = {k: int(file.tensors[k].shape[0]) for k, name in file.names.items() if name.endswith(_HALVES[0])}
    beside = alphas(file.path, file.metadata, ranks)
    told = file.metadata.get("ss_network_alpha")
    if any(alpha != ranks[key] for key, alpha in beside.items()):
        yield fault("run again with --repair", f"{what}: it stands beside the weights, where WebUIs do not look")
    elif told is not None and not any(_same(told, rank) for rank in ranks.values()):
        do = "make the file anew with its trainer"
        yield fault(do, f"{what}, and ss_network_alpha says {told}: tools will draw it at another strength")
    else:
        yield note("--repair writes it", f"{what}: tools then take the rank for it")


def _magnitudes(file: LoraFile) -> Iterator[Finding]:
    modules = () if file.lora is None else file.lora.modules.values()
    doras = [module for module in modules if module.magnitude is not None]
    if not doras:
        return
    readers = "A1111 and ComfyUI draw other images from it, "
    if all(module.by_input for module in doras):
        readers = "A1111 and ComfyUI draw it as it was trained, "
    what = f"{len(doras)} layers are DoRA: {readers}sd-scripts and diffusers ignore it"
    yield note("--plain-lora --base BASE writes a LoRA that all draw alike", what)


def _shapes(file: LoraFile, architecture: Architecture | None) -> Iterator[Finding]:
    if architecture is None:
        do = "give the base it is for with --base"
        yield note(do, f"whether its layers fit is not known: {file.family} has no layout of its own here")
        return
    if architecture.family != file.family:
        what = f"{architecture.name} is a {architecture.family} base, the LoRA is for {file.family}"
        yield fault("take a base of its family", what)
        return
    lora = file.lora
    wrong: list[str] = []
    unknown: list[str] = []
    for site, module in {} if lora is None else lora.modules.items():
        shape = architecture.layers.get(site)
        if shape is None:
            unknown.append(_named(site))
        elif (shape[0], *shape[1:]) != (module.up.shape[0], module.down.shape[1], *_kernel(module.down, shape)):
            got = f"{module.down.shape[1]} → {module.up.shape[0]}"
            wrong.append(f"{_named(site)}: {got} features, it has {shape[1]} → {shape[0]}")
    count = 0 if lora is None else len(lora.modules)
    other = "give the base it was trained on with --base" if architecture.name.startswith("a usual ") else _OTHER_BASE
    if unknown:
        yield fault(other, f"{len(unknown)} of {count} layers are not in {architecture.name} ({some(unknown)})")
    if wrong:
        yield fault(other, f"{len(wrong)} of {count} layers do not fit {architecture.name} ({wrong[0]})")


_OTHER_BASE = "take the base it was trained on"


def _kernel(down: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1×1 convolution and a linear layer stand for each other, as tools take them."""
    kernel, own = tuple(down.shape[2:]), tuple(shape[2:])
    return own if {kernel, own} <= {(), (1, 1)} else kernel


def _named(site: Site) -> str:
    return ".".join(site)


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.float().isfinite().all())


def _same(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False


def check_readable(file: LoraFile) -> LoraWeights:
    """The LoRA of a file that can be written anew.

    Raises:
        ModelError: no layer is whole, or a weight is not finite.
    """
    if file.lora is None:
        raise ModelError(f"{file.path}: expected layers with both halves, got none")
    for site, module in file.lora.modules.items():
        if not module.finite:
            raise ModelError(f"{file.path}: expected finite weights, got NaN or infinity in {_named(site)}")
    return file.lora

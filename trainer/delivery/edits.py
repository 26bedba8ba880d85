"""A LoRA file written anew: cleaned, repaired, strengths merged, rank reduced. The given file stays as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.delivery.blocks import lbw, read_weights, weighted
from trainer.delivery.gate import LoraFile, check_readable
from trainer.delivery.metadata_look import cleaned, recomputed, without_photos
from trainer.delivery.plain_lora import plain_lora
from trainer.delivery.rank_reduction import NOTHING, rank_curve, reduced
from trainer.errors import ModelError, mistake
from trainer.families import FAMILIES
from trainer.lora.kohya_file import save_lora

if TYPE_CHECKING:
    import torch

    from trainer.lora.lora import LoraWeights

DONE = "onset.delivery"
"""Metadata key that says what was done to the file, as JSON."""
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


@dataclass(frozen=True)
class Edits:
    """What is to be done to a file.

    Attributes:
        clean: leave out private texts and tensors that are no part of a LoRA.
        drop_photos: leave out what the metadata says of photos.
        repair: write alphas, the family and the rank into the file.
        plain_lora: make a DoRA plain, on the base given to `write_edited`; `rank` is then that of its layers.
        rank: of every layer; "auto": the smallest that loses no more than `loss`.
        loss: of the LoRA's change, relative, 0 to 1.
        per_layer: each layer has the rank at which it loses no more than `loss`.
        unet, text_encoder: strengths, 1 as it is.
        blocks: weights as a WebUI's `lbw=` has them; None for all 1.
        dtype: "fp16", "bf16" or "fp32"; None keeps what most tensors have.
    """

    clean: bool = False
    drop_photos: bool = False
    repair: bool = False
    plain_lora: bool = False
    rank: int | Literal["auto"] | None = None
    loss: float = NOTHING
    per_layer: bool = False
    unet: float = 1.0
    text_encoder: float = 1.0
    blocks: str | None = None
    dtype: str | None = None

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self != Edits(loss=self.loss, per_layer=self.per_layer)


@dataclass(frozen=True)
class Written:
    """A file that was written: where, and what was done, a sentence for each."""

    path: Path
    said: tuple[str, ...]


def check_free(to: Path) -> None:
    """Raises ModelError where something of this name is there: nothing is overwritten."""
    if to.exists():
        raise ModelError(mistake(None, "--to", str(to), "a name that no file has yet", "nothing is overwritten"))


def write_edited(file: LoraFile, edits: Edits, to: Path, *, base: str | None = None) -> Written:
    """Write a file with these edits, in kohya's keys and with right hashes.

    Args:
        base: that it was trained on: hub id, diffusers folder or .safetensors. Only `plain_lora` needs it.

    Raises:
        ModelError: `to` is there already, the file cannot be edited, or an edit cannot be made of this LoRA.
    """
    check_free(to)
    lora = check_readable(file)
    said: list[str] = []
    done: dict[str, object] = {"from": recomputed(file.tensors, file.metadata)["sshs_model_hash"]}
    if edits.plain_lora:
        lora = _plain(lora, edits, base, said, done)
    lora = _strengths(file, lora, edits, said, done)
    if not edits.plain_lora:
        lora = _ranks(lora, edits, said, done)
    if edits.repair:
        lora = with_one_alpha(lora)
        said.append("alphas, family and rank stand in the file")
    if file.junk:
        said.append(f"{len(file.junk)} tensors that are no part of a LoRA are left out")
    metadata = _metadata(file, lora, edits, said, done)
    save_lora(to, lora, metadata, dtype=_dtype(edits.dtype or _usual_dtype(file)))
    return Written(to, tuple(said))


def prompt(name: str, lora: LoraWeights, edits: Edits) -> str:
    """What draws the same from the given file in a WebUI with sd-webui-lora-block-weight.

    Args:
        name: of the given file, without its ending.
    """
    strength = f"{edits.unet:g}" if edits.unet == edits.text_encoder else f"{edits.text_encoder:g}:{edits.unet:g}"
    blocks = "" if edits.blocks is None else f":lbw={lbw(read_weights(edits.blocks, lora), lora)}"
    return f"<lora:{name}:{strength}{blocks}>"


def _plain(lora: LoraWeights, edits: Edits, base: str | None, said: list[str], done: dict[str, object]) -> LoraWeights:
    from trainer.base_model.load import load_base

    if base is None:
        raise ModelError("--plain-lora: expected --base with it, got none: what a DoRA does depends on its base")
    if edits.rank == "auto":
        raise ModelError(
            mistake(None, "--rank", "auto", "a number with --plain-lora", "the loss of each rank is shown")
        )
    plain = plain_lora(lora, load_base(base), edits.rank)
    said += plain.curve.lines
    said.append(
        f"{plain.layers} layers of DoRA are plain LoRA of rank {plain.rank}: "
        f"{100 * plain.loss:.2g} % of their change is lost"
    )
    done["plain_lora"] = {"rank": plain.rank, "loss": round(plain.loss, 6)}
    return plain.lora


def _strengths(
    file: LoraFile, lora: LoraWeights, edits: Edits, said: list[str], done: dict[str, object]
) -> LoraWeights:
    if edits.unet == 1 and edits.text_encoder == 1 and edits.blocks is None:
        return lora
    weights = {} if edits.blocks is None else read_weights(edits.blocks, lora)
    new = weighted(lora, weights, unet=edits.unet, text_encoder=edits.text_encoder)
    done |= {"unet": edits.unet, "text_encoder": edits.text_encoder}
    if edits.unet != 1:
        said.append(f"the U-Net's layers act at {edits.unet:g} of their strength")
    if edits.text_encoder != 1:
        said.append(f"the text encoder's layers act at {edits.text_encoder:g} of their strength")
    if edits.blocks is not None:
        done["blocks"] = lbw(weights, lora)
        said.append(f"blocks are weighted {done['blocks']}")
    if left_out := len(lora.modules) - len(new.modules):
        said.append(f"{left_out} of {len(lora.modules)} layers had weight 0 and are left out")
    said.append(f"the same from the old file: {prompt(file.path.stem, lora, edits)}")
    return new


def _ranks(lora: LoraWeights, edits: Edits, said: list[str], done: dict[str, object]) -> LoraWeights:
    if edits.rank is None:
        return lora
    curve = rank_curve(lora)
    said += curve.lines
    if edits.rank == "auto" and edits.per_layer:
        new = reduced(lora, loss=edits.loss)
        ranks = sorted(module.rank for module in new.modules.values())
        said.append(f"each layer keeps what it needs: rank {ranks[0]} to {ranks[-1]}, {ranks[len(ranks) // 2]} mostly")
    else:
        rank = curve.least(edits.loss) if edits.rank == "auto" else edits.rank
        if rank >= curve.rank:
            said.append(f"rank {curve.rank} stays: a lower one loses more than {100 * edits.loss:g} %")
            return lora
        new = reduced(lora, rank)
        done["rank_loss"] = round(curve.losses[rank], 6)
        said.append(f"rank {rank} instead of {curve.rank}: {100 * curve.losses[rank]:.2g} % of the change is lost")
    done["rank"] = _one([module.rank for module in new.modules.values()])
    return new


def _metadata(
    file: LoraFile, lora: LoraWeights, edits: Edits, said: list[str], done: Mapping[str, object]
) -> dict[str, str]:
    metadata = {key: value for key, value in file.metadata.items() if key != "lora_adapter_metadata"}
    if "ss_network_dim" in metadata or edits.repair:
        metadata["ss_network_dim"] = str(_one([module.rank for module in lora.modules.values()]))
        metadata["ss_network_alpha"] = str(_one([module.alpha for module in lora.modules.values()]))
    if edits.plain_lora:
        metadata |= _plain_module(metadata, lora)
    if edits.repair:
        family = FAMILIES[lora.family]
        version = metadata.get("ss_base_model_version", "")
        if not (lora.family == "sd15" and version.startswith("sd_v")):  # SD 2.x has the same layers' names
            metadata["ss_base_model_version"] = family.base_model_version
        metadata.setdefault("ss_network_module", "networks.lora")
        if "modelspec.architecture" in metadata:
            metadata["modelspec.architecture"] = f"{family.architecture}/lora"
    if edits.clean:
        new = cleaned(metadata)
        changed = [key for key in metadata if new.get(key) != metadata[key]]
        said.append(f"private texts are taken out of {len(changed)} keys of the metadata")
        metadata = new
    if edits.drop_photos:
        metadata = without_photos(metadata)
        said.append("folders, tags and sizes of the photos are taken out of the metadata")
    if len(done) > 1:
        metadata[DONE] = json.dumps(done)
    return metadata


def _plain_module(metadata: Mapping[str, str], lora: LoraWeights) -> dict[str, str]:
    """What kohya's keys say of a plain LoRA's module and its arguments."""
    changed = {}
    if "ss_network_module" in metadata:
        changed["ss_network_module"] = "networks.lora"
    try:
        arguments = json.loads(metadata.get("ss_network_args", "null"))
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        dora = ("algo", "dora_wd", "wd_on_output")
        kept = {key: value for key, value in arguments.items() if key not in dora}
        if "conv_dim" in kept:
            kept["conv_dim"] = str(max(module.rank for module in lora.modules.values() if module.down.ndim == 4))
        changed["ss_network_args"] = json.dumps(kept)
    return changed


def with_one_alpha(lora: LoraWeights) -> LoraWeights:
    """The same LoRA with the alpha that most layers have in all of them; what differs goes into `up`."""
    alphas = [module.alpha for module in lora.modules.values()]
    alpha = max(alphas, key=alphas.count)
    modules = {
        site: module if module.alpha == alpha else replace(module, up=module.up * (module.alpha / alpha), alpha=alpha)
        for site, module in lora.modules.items()
    }
    return replace(lora, modules=modules)


def _dtype(name: str) -> torch.dtype:
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[name]


def _one(values: list[int] | list[float]) -> object:
    """The one value that all have, or "Dynamic", as kohya's tools write it."""
    return values[0] if len(set(values)) == 1 else "Dynamic"


def _usual_dtype(file: LoraFile) -> str:
    kinds = [str(file.tensors[key].dtype).removeprefix("torch.") for key in file.names]
    return _DTYPES.get(max(set(kinds), key=kinds.count), "fp16")

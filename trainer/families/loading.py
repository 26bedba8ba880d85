"""Load the parts of a base from a diffusers folder or a single .safetensors file: each tensor has to come from it.

Nothing is asked of a network here: `layout.locate` has fetched what was missing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.families import layout
from trainer.families.library_warnings import heard
from trainer.families.missing_tensors import check_finite, check_shapes, check_tensors, title
from trainer.families.tokenizers import check_vocabulary, own_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_OLD_TEXT = re.compile(r"cond_stage_model\.transformer\.(embeddings|encoder|final_layer_norm)\.")
_DIFFERS = re.compile(r"(\S+) expected shape torch\.Size\(\[(.*?)\]\), but got torch\.Size\(\[(.*?)\]\)")


@dataclass
class Parts:
    """Models and tokenizers by their names in model_index.json, and what their libraries had to say."""

    models: dict[str, Any] = field(default_factory=dict)
    tokenizers: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def encoders(self) -> list[str]:
        """Names of the text encoders, in the family's order."""
        return sorted(name for name in self.models if name.startswith("text_encoder"))

    @property
    def encoder_tokenizers(self) -> list[str]:
        """Names of their tokenizers."""
        return [name.replace("text_encoder", "tokenizer") for name in self.encoders]


def load_parts(path: Path, dtype: torch.dtype, needed: tuple[str, ...], config: Path) -> Parts:
    """All parts of a base's folder or file, on the CPU: the VAE in fp32, the rest in `dtype`.

    Args:
        needed: models that the family has.
        config: folder of component configurations for a single file.

    Raises:
        ModelError: a tensor of the architecture is missing, has another shape or is not finite; a tokenizer has not
            the vocabulary that its encoder reads; or a library cannot load a part. Names the part and the tensor.
    """
    import torch

    single = path.is_file()
    index = layout.read_parts(config if single else path, needed, complete=not single)
    layout.check_files(path, index)
    tensors = _read_tensors(path) if single else {}
    parts = Parts()
    for name, part in index.items():
        with heard(name, parts.notices), _one_line(path, name):
            if name.startswith("tokenizer"):
                parts.tokenizers[name] = own_tokenizer(part.folder) if single else _from_folder(path, part)[0]
            elif part.has_weights:
                kind = torch.float32 if name == "vae" else dtype
                load = _from_tensors(path, part, tensors, kind) if single else _from_folder(path, part, kind)
                parts.models[name], missing, unused = load
                parts.notices += check_tensors(path, name, parts.models[name], missing, unused)
                check_finite(path, name, parts.models[name])
    for name, tokenizer in zip(parts.encoders, parts.encoder_tokenizers, strict=True):
        check_vocabulary(path, tokenizer, parts.tokenizers[tokenizer], parts.models[name])
    return parts


def _from_folder(path: Path, part: layout.Part, dtype: torch.dtype | None = None) -> tuple[Any, list[str], list[str]]:
    """A part of a diffusers folder, tensors that its file lacks, and tensors that nothing asked for."""
    import diffusers
    import transformers

    part_class = getattr(
        {"diffusers": diffusers, "transformers": transformers}.get(part.library), part.class_name, None
    )
    if part_class is None:
        raise ModelError(f"{path}: {part.name} is a {part.library}.{part.class_name}, which this program does not know")
    if dtype is None:
        return part_class.from_pretrained(str(path), subfolder=part.name, local_files_only=True), [], []
    settings: dict[str, Any] = {"variant": layout.weight_files(part)[1]}
    if part.library == "transformers":
        settings["ignore_mismatched_sizes"] = True  # its error names nothing, its report both shapes
    model, report = part_class.from_pretrained(
        str(path),
        subfolder=part.name,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **settings,
    )
    check_shapes(path, part.name, list(report["mismatched_keys"]))
    return model, list(report["missing_keys"]), list(report["unexpected_keys"])


def _from_tensors(
    path: Path, part: layout.Part, tensors: dict[str, Tensor], dtype: torch.dtype
) -> tuple[Any, list[str], list[str]]:
    """A part from the tensors of an original-format checkpoint, and those of its tensors that they did not fill.

    diffusers' `from_single_file` does the same but ends in an error of PyTorch's where something is missing.
    """
    import diffusers
    import transformers
    from accelerate import init_empty_weights
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    if part.library == "diffusers":
        part_class = getattr(diffusers, part.class_name)
        config = part_class.load_config(str(part.folder))
        with init_empty_weights():
            model = part_class.from_config(config)
        convert = SINGLE_FILE_LOADABLE_CLASSES[part.class_name]["checkpoint_mapping_fn"]
        found = convert(config=config, checkpoint=tensors)
        wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
        shapes = [(name, list(found[name].shape), list(shape)) for name, shape in wanted.items() if name in found]
        check_shapes(path, part.name, [each for each in shapes if each[1] != each[2]])
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in found.items()}, strict=False, assign=True)
        model.eval()
    else:
        model = create_diffusers_clip_model_from_ldm(
            getattr(transformers, part.class_name),
            tensors,
            config=str(part.folder.parent),
            subfolder=part.name,
            torch_dtype=dtype,
            local_files_only=True,
        )
    return model, [name for name, tensor in model.state_dict().items() if tensor.is_meta], []


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, mapped into memory. Text encoders of 2022 have their names lengthened."""
    from safetensors.torch import load_file

    long = r"cond_stage_model.transformer.text_model.\1."
    return {_OLD_TEXT.sub(long, name): tensor for name, tensor in load_file(path).items()}


@contextlib.contextmanager
def _one_line(path: Path, part: str) -> Iterator[None]:
    """Turn whatever a loader raises about a bad file into one line that names the base and the part."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except KeyError as error:  # a converter of single files reaches for a tensor
        lacking = error.args[0] if error.args else "one"
        if part.startswith("tokenizer"):
            raise ModelError(f"{title(path, part)} cannot be loaded: its files say nothing of {lacking}") from error
        raise ModelError(f"{title(path, part)} lacks tensors: {lacking}") from error
    except Exception as error:  # loaders raise anything from TypeError to RuntimeError
        text = " ".join(str(error).split())
        if found := _DIFFERS.search(text):
            is_shape, wanted = ([int(side) for side in found[group].split(",") if side.strip()] for group in (3, 2))
            check_shapes(path, part, [(found[1], is_shape, wanted)])
        if "valid CLIP model" in text or "appear to be missing" in text:
            raise ModelError(
                f"{title(path, part)} lacks its tensors, or has them under names not known here"
            ) from error
        raise ModelError(f"{title(path, part)} cannot be loaded: {text[:300] or type(error).__name__}") from error

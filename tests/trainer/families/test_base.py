"""A base's parts: which are where and in which precision, and how a third text encoder joins the others."""

import contextlib
import dataclasses
import logging
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.families import layout, outputs, sd3
from trainer.families.family import Base
from trainer.families.library_warnings import heard
from trainer.families.loading import _from_folder, _one_line
from trainer.families.tokenizers import clip_tokenizer


class _Part(nn.Module):
    """Notes where it is sent."""

    def __init__(self, home: str = "cpu") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=home))
        self.sent: list[str] = []

    def to(self, place: Any) -> "_Part":
        self.sent.append(str(place))
        return self


def _base(device: str = "cpu") -> Base:
    vae = _Part("meta")
    vae.config = SimpleNamespace(block_out_channels=(1, 1, 1, 1))
    return Base(
        None, _Part(), vae, [_Part("meta"), _Part()], [], None, torch.device(device), torch.float32, "b"
    )  # fmt: skip


def test_parts_are_called_by_their_places() -> None:
    base = _base()
    assert base.component("denoiser") is base.denoiser
    assert base.component("text_encoder_1") is base.text_encoders[1]
    assert base.text_components == ("text_encoder_0", "text_encoder_1")
    assert base.latent_factor == 8


@pytest.mark.parametrize(("vae", "text"), [(True, True), (True, False), (False, True), (False, False)])
def test_parts_are_parked_and_brought_back_for_a_moment(vae: bool, text: bool) -> None:
    base = _base()
    base.park(vae=vae, text_encoders=text)
    assert base.vae.sent == ["cpu"] * vae
    assert [part.sent for part in base.text_encoders] == [["cpu"] * text] * 2
    base = _base()
    with contextlib.suppress(KeyError), base.at_hand(vae=vae, text_encoders=text):
        assert base.vae.sent == ["cpu"] * vae
        raise KeyError
    assert base.vae.sent == ["cpu", "meta"] * vae
    assert [part.sent for part in base.text_encoders] == [["cpu", "meta"] * text, ["cpu", "cpu"] * text]
    assert base.denoiser.sent == []


def test_both_kinds_are_parked_where_nothing_is_said_and_none_brought_back() -> None:
    base = _base()
    with base.at_hand():
        pass
    assert base.vae.sent == base.text_encoders[0].sent == []
    base.park()
    assert base.vae.sent == base.text_encoders[0].sent == ["cpu"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_vae_stays_in_full_precision(tiny_sd15: Path, precision: str) -> None:
    base = load_base(tiny_sd15, precision=precision)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {parameter.dtype for parameter in base.vae.parameters()} == {torch.float32}
    for module in (base.denoiser, *base.text_encoders):
        assert {parameter.dtype for parameter in module.parameters()} == {dtype}
    assert base.dtype == dtype


def test_a_third_text_encoder_follows_the_two_of_clip(tiny_sd3: Path) -> None:
    two = load_base(tiny_sd3)
    width = two.denoiser.config.joint_attention_dim

    class T5(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor]:
            return (tokens[..., None] * self.weight,)

    def tokenizer(prompts: list[str], **options: Any) -> SimpleNamespace:
        assert options == {"padding": "max_length", "max_length": 256, "truncation": True, "return_tensors": "pt"}
        return SimpleNamespace(input_ids=torch.tensor([[len(prompt)] * 256 for prompt in prompts]))

    three = dataclasses.replace(two, text_encoders=[*two.text_encoders, T5()], tokenizers=[*two.tokenizers, tokenizer])
    prompts = ["a toy", "snow"]
    with torch.no_grad():
        short, long = (sd3.encode_prompts(base, prompts) for base in (two, three))
    assert torch.equal(long["pooled_prompt_embeds"], short["pooled_prompt_embeds"])
    clip = short["prompt_embeds"].shape[1] - 256
    assert torch.equal(long["prompt_embeds"][:, :clip], short["prompt_embeds"][:, :clip])
    assert not short["prompt_embeds"][:, clip:].any()
    assert torch.equal(long["prompt_embeds"][:, clip:], torch.tensor([5.0, 4.0])[:, None, None].expand(2, 256, width))
    pipeline = sd3.pipeline(two, "ddim")
    assert pipeline.text_encoder_3 is None
    assert pipeline.tokenizer_3 is None
    assert (pipeline.text_encoder, pipeline.text_encoder_2) == tuple(two.text_encoders)
    assert (pipeline.tokenizer, pipeline.tokenizer_2) == tuple(two.tokenizers)


# what is told


def test_a_class_that_is_not_known_is_named(tmp_path: Path) -> None:
    for library, name in (("diffusers", "NoSuchModel"), ("some_package", "Model")):
        part = layout.Part("unet", library, name, tmp_path / "unet")
        with pytest.raises(ModelError, match=f"unet is a {library}.{name}, which this program does not know"):
            _from_folder(tmp_path, part, torch.float32)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (KeyError("a.weight"), "b: the base's VAE (vae) lacks tensors: a.weight"),
        (KeyError(), "b: the base's VAE (vae) lacks tensors: one"),
        (RuntimeError("two\n  lines"), "b: the base's VAE (vae) cannot be loaded: two lines"),
        (TypeError(), "b: the base's VAE (vae) cannot be loaded: TypeError"),
        (ValueError("x" * 400), f"b: the base's VAE (vae) cannot be loaded: {'x' * 300}"),
        (ValueError("no valid CLIP model"), "lacks its tensors, or has them under names not known here"),
        (ValueError("they appear to be missing"), "lacks its tensors, or has them under names not known here"),
        (ValueError("x expected shape torch.Size([2, 3]), but got torch.Size([4])"),
         "x has the shape [4], its configuration asks for [2, 3]"),
        (ModelError("as it is"), "as it is"),
    ],
)  # fmt: skip
def test_whatever_a_loader_raises_is_one_line(raised: Exception, said: str) -> None:
    with pytest.raises(ModelError) as told, _one_line(Path("b"), "vae"):
        raise raised
    assert str(told.value).endswith(said)
    with pytest.raises(MemoryError), _one_line(Path("b"), "vae"):
        raise MemoryError


def test_a_tokenizer_that_lacks_a_word_is_told_as_such() -> None:
    with pytest.raises(ModelError) as told, _one_line(Path("b"), "tokenizer"):
        raise KeyError("merges")
    assert str(told.value) == "b: the base's tokenizer cannot be loaded: its files say nothing of merges"


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [(torch.float16, "precision: bf16 or fp32 may hold them"), (torch.float32, "its weights are damaged"),
     (torch.bfloat16, "its weights are damaged")],
)  # fmt: skip
def test_what_may_help_against_an_overflow_depends_on_the_precision(dtype: torch.dtype, hint: str) -> None:
    base = dataclasses.replace(_base(), dtype=dtype)
    outputs._finite(base, "it gives", torch.ones(2))
    with pytest.raises(ModelError) as told:
        outputs._finite(base, "it gives", torch.tensor([1.0, float("nan")]))
    assert str(told.value) == f"b: it gives NaN or infinite values in {dtype}, before any training: {hint}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.safetensors", "no such file or folder, and it does not look like a hub id"),
        ("owner/none.ckpt", "no such file or folder, and it does not look like a hub id"),
        ("a/b/c", "no such file or folder, and it does not look like a hub id"),
        ("/dev/null", "neither a file nor a folder, but a device or a pipe"),
        ("broken", "a link to gone, where nothing is"),
        ("x" * 5000, "cannot be opened"),
        ("a\0b", "no such file or folder"),
    ],
)
def test_what_is_no_base_is_told_without_the_hub(source, said, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken").symlink_to("gone")
    with pytest.raises(ModelError) as told:
        layout.locate(source)
    assert str(told.value).startswith(f"{source}: {said}")


def test_only_safetensors_are_opened(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    file.touch()
    with pytest.raises(ModelError, match=r"files are read in .safetensors only"):
        layout.read_header(file)


def test_what_libraries_warn_of_is_noted_once_and_remarks_to_programmers_are_not(capsys) -> None:
    notices: list[str] = ["before"]
    logger = logging.getLogger("diffusers")
    handlers, propagate = list(logger.handlers), logger.propagate
    with heard("unet", notices):
        assert not any(library.is_progress_bar_enabled() for library in (diffusers_logging, transformers_logging))
        warnings.warn("look\n here", UserWarning, stacklevel=1)
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.warn("a remark", category, stacklevel=1)
        warnings.warn("This is Deprecated", UserWarning, stacklevel=1)
        for text in ("look here", "x" * 240, "y" * 241, "LOAD REPORT of a", "only the non-EMA weights are extracted"):
            logging.getLogger("transformers.models").warning(text)
        logging.getLogger("accelerate").info("nothing")
    ours = "its file has averaged (EMA) weights too; the plain ones are taken"
    said = ["look here", "x" * 240, "y" * 240 + "…", ours]
    assert notices == ["before", *(f"unet: {text}" for text in said)]
    assert (list(logger.handlers), logger.propagate) == (handlers, propagate)
    assert all(library.is_progress_bar_enabled() for library in (diffusers_logging, transformers_logging))
    assert capsys.readouterr() == ("", "")


def test_a_vocabulary_that_is_not_there_is_told(monkeypatch) -> None:
    for found in (None, SimpleNamespace(origin=None)):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        with pytest.raises(ModelError, match="a single-file base needs the package open_clip_torch"):
            clip_tokenizer()

"""A base is not trusted: what is missing, damaged or another's is told by part and tensor before any training."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trainer.families.changed_bases import WEIGHTS, configs_of, refused, rewrite, weights_of
from tests.trainer.original_format import to_original_format
from trainer.base_model.load import check_family, load_base
from trainer.errors import ModelError
from trainer.families import layout

PARTS = [
    ("sd15", "unet", "the base's U-Net (unet)"),
    ("sd15", "vae", "the base's VAE (vae)"),
    ("sd15", "text_encoder", "the base's text encoder (text_encoder)"),
    ("sdxl", "text_encoder_2", "the base's second text encoder (text_encoder_2)"),
    ("sd3", "transformer", "the base's transformer"),
]


@pytest.fixture
def copy_of(request, tmp_path) -> Callable[[str], Path]:
    return lambda name: shutil.copytree(request.getfixturevalue(f"tiny_{name}"), tmp_path / "base")


@pytest.mark.parametrize(("family", "part", "title"), PARTS)
def test_a_missing_tensor_is_named(family, part, title, copy_of) -> None:
    base = copy_of(family)
    lost = sorted(load_file(weights_of(base, part)))[3]
    rewrite(weights_of(base, part), lambda tensors: {name: tensors[name] for name in tensors if name != lost})
    refused(base, title, "lacks 1 of its", lost.removeprefix("text_model."))


@pytest.mark.parametrize(("family", "part", "title"), PARTS)
def test_tensors_under_other_names_are_not_replaced_by_random_ones(family, part, title, copy_of) -> None:
    base = copy_of(family)
    count = len(load_file(weights_of(base, part)))
    rewrite(weights_of(base, part), lambda tensors: {f"other.{name}": tensors[name] for name in tensors})
    refused(base, title, f"lacks {count} of its {count} tensors", f"its file has {count} of other names", "other.")


@pytest.mark.parametrize(("family", "part", "title"), PARTS)
def test_another_shape_is_named(family, part, title, copy_of) -> None:
    base = copy_of(family)
    narrow = next(name for name, tensor in load_file(weights_of(base, part)).items() if tensor.ndim == 2)
    rewrite(weights_of(base, part), lambda tensors: tensors | {narrow: tensors[narrow][:2].clone()})
    refused(base, title, narrow.removeprefix("text_model."), "has the shape [2, ", "its configuration asks for [")


@pytest.mark.parametrize(("family", "part", "title"), PARTS)
def test_a_weight_that_is_no_number_is_named(family, part, title, copy_of) -> None:
    base = copy_of(family)
    value, word = (float("-inf"), "infinite values") if part in ("vae", "transformer") else (float("nan"), "NaN")
    bad = sorted(load_file(weights_of(base, part)))[5]

    def spoil(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors[bad].view(-1)[0] = value
        return tensors

    rewrite(weights_of(base, part), spoil)
    refused(base, title, f"has {word} in 1 of its tensors", bad.removeprefix("text_model."))


def test_a_weight_too_large_for_fp16_says_so(copy_of) -> None:
    base = copy_of("sd15")
    rewrite(weights_of(base, "unet"), lambda t: t | {"conv_out.bias": t["conv_out.bias"] + 1e6})
    with pytest.raises(ModelError, match=r"conv_out.bias \(in fp16: bf16 and fp32 hold larger ones\)"):
        load_base(base, precision="fp16")
    load_base(base)


def test_finite_weights_that_overflow_are_told_before_training(copy_of) -> None:
    base = copy_of("sd15")
    last = ("encoder.conv_out.weight", "quant_conv.weight")
    rewrite(weights_of(base, "vae"), lambda tensors: tensors | {name: tensors[name] * 1e25 for name in last})
    refused(base, "the base's VAE gives NaN or infinite latents: its weights are damaged")


def test_a_vae_in_fp16_is_named_where_it_overflows(tiny_sdxl) -> None:
    base = load_base(tiny_sdxl)
    base.vae.half()
    with torch.no_grad():
        base.vae.encoder.conv_in.weight.mul_(6e4)
    with pytest.raises(ModelError, match="the base's VAE gives NaN or infinite latents: it overflows in fp16"):
        base.family.encode_images(base, torch.ones(1, 3, 64, 64))


def test_layers_that_the_configuration_leaves_out_are_not_cut_off(copy_of) -> None:
    base = copy_of("sd15")
    file = base / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": 2}))
    refused(base, "text encoder", "16 tensors more than its config.json has layers for", "encoder.layers.2.")


def test_what_published_files_hold_besides_is_no_reason_to_refuse(copy_of) -> None:
    base = copy_of("sdxl")
    extras = {
        "text_model.embeddings.position_ids": torch.arange(32)[None],
        "logit_scale": torch.ones(()),
        "vision_model.encoder.layers.0.mlp.fc1.weight": torch.ones(2, 2),
    }
    for part in ("text_encoder", "text_encoder_2"):
        rewrite(weights_of(base, part), lambda tensors: tensors | extras)
    assert load_base(base).notices == ()
    rewrite(weights_of(base, "unet"), lambda tensors: tensors | {"stray.weight": torch.ones(2)})
    (said,) = load_base(base).notices
    assert re.match(r"unet: .*\bstray\.weight \(1 ", said)


def test_attention_of_older_vaes_and_prefixed_text_encoders_are_read(copy_of, tiny_sd15) -> None:
    """As SD 1.5's own repository has them."""
    base = copy_of("sd15")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(name: str) -> str:
        for new, older in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{older}.")
        return name

    rewrite(weights_of(base, "vae"), lambda tensors: {rename(name): tensors[name] for name in tensors})
    rewrite(weights_of(base, "text_encoder"), lambda tensors: {f"text_model.{name}": tensors[name] for name in tensors})
    loaded, whole = load_base(base), load_base(tiny_sd15)
    assert loaded.notices == ()
    for ours, theirs in ((loaded.vae, whole.vae), (loaded.text_encoders[0], whole.text_encoders[0])):
        assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_fp16_variants_and_shards_are_read(part, copy_of, tiny_sd15) -> None:
    base = copy_of("sd15")
    expected = load_file(weights_of(base, part))
    half = weights_of(base, part).with_suffix(".fp16.safetensors")
    weights_of(base, part).rename(half)
    load_base(base)
    half.unlink()
    stem, names = WEIGHTS.get(part, "model"), sorted(expected)
    shards = {f"{stem}-0000{1 + i}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, some in shards.items():
        save_file({name: expected[name] for name in some}, base / part / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, some in shards.items() for name in some}}
    (base / part / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    loaded, whole = load_base(base), load_base(tiny_sd15)
    component = "denoiser" if part == "unet" else "text_encoder_0"
    for name, tensor in whole.component(component).state_dict().items():
        assert torch.equal(loaded.component(component).state_dict()[name], tensor)
    (base / part / list(shards)[1]).unlink()
    refused(base, part, f"{list(shards)[1]} is missing")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: f.rename(f.with_suffix(".bin")), "only diffusion_pytorch_model.bin here"),
        (lambda f: f.unlink(), "no weights here"),
        (lambda f: f.write_bytes(f.read_bytes()[:-1000]), "cut short"),
        (lambda f: f.write_bytes(f.read_bytes()[:100]), "cut short"),
        (lambda f: f.write_bytes(b""), "cut short"),
        (lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\n"), "cut short"),
    ],
)
def test_files_of_weights_are_looked_at_before_anything_is_loaded(spoil, reason, copy_of) -> None:
    base = copy_of("sd15")
    spoil(weights_of(base, "vae"))
    for look in (check_family, load_base):
        with pytest.raises(ModelError, match=reason) as caught:
            look(base)
        assert str(base / "vae") in str(caught.value)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "tokenizer/tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b"\xff\xfe{\x00}\x00", "byte-order mark"),
        (b"", "not JSON: it is empty"),
        (b'{"a": 1', "not JSON: "),
        (b"\x80\x81", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"[]", "a JSON object"),
    ],
)
def test_json_that_is_none_is_named(file, content, reason, copy_of) -> None:
    base = copy_of("sd15")
    (base / file).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_family(base)
    assert str(caught.value).startswith(f"{base / file}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "lost"), [("sdxl", "text_encoder_2"), ("sdxl", "tokenizer_2"), ("sd3", "text_encoder"), ("sd15", "vae")]
)
def test_parts_that_the_family_has_are_missed(family, lost, copy_of) -> None:
    base = copy_of(family)
    index = json.loads((base / "model_index.json").read_text())
    for entry in ([None, None], None):
        (base / "model_index.json").write_text(json.dumps(index | ({lost: entry} if entry else {})))
        if entry is None:
            shutil.rmtree(base / lost)
        refused(base, lost)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("scheduler/scheduler_config.json", {"beta_start": "x"}),
        ("unet/config.json", {"block_out_channels": "x"}),
        ("vae/config.json", {"scaling_factor": None}),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_line(file, change, copy_of) -> None:
    base = copy_of("sd15")
    (base / file).write_text(json.dumps(json.loads((base / file).read_text()) | change))
    refused(base)


def test_parts_of_different_bases_do_not_fit(copy_of, tiny_sdxl) -> None:
    base = copy_of("sd15")
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(base / part)
        shutil.copytree(tiny_sdxl / f"{part}_2", base / part)
    refused(base, "its parts do not fit each other")


# tokenizers


@pytest.mark.parametrize(("family", "part"), [("sd15", "tokenizer"), ("sdxl", "tokenizer_2"), ("sd3", "tokenizer")])
def test_a_tokenizer_without_its_vocabulary_is_refused(family, part, copy_of) -> None:
    base = copy_of(family)
    (base / part / "tokenizer.json").unlink()
    refused(base, part, "folder has no vocabulary (vocab.json and merges.txt, or tokenizer.json)")
    shutil.rmtree(base / part)
    refused(base, part, "folder has no vocabulary")


def test_a_tokenizer_without_its_settings_is_refused(copy_of) -> None:
    base = copy_of("sdxl")
    (base / "tokenizer_2" / "tokenizer_config.json").unlink()
    refused(base, "tokenizer_2", "no tokenizer_config.json")


def _as_two_files(folder: Path) -> tuple[dict[str, int], list[str]]:
    """The tokenizer as older tools wrote it: vocab.json and merges.txt."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    _write_two_files(folder, model["vocab"], merges)
    return model["vocab"], merges


def _write_two_files(folder: Path, vocab: dict[str, int], merges: list[str]) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def test_tokenizers_of_two_files_are_read_and_both_have_to_be_whole(copy_of, tiny_sd15) -> None:
    base = copy_of("sd15")
    vocab, merges = _as_two_files(base / "tokenizer")
    words = "a photo of sks toy, in the city"
    assert load_base(base).tokenizers[0](words).input_ids == load_base(tiny_sd15).tokenizers[0](words).input_ids
    _write_two_files(base / "tokenizer", vocab, merges[:-3])
    refused(base, "tokenizer cannot make 3 tokens of its vocabulary", "its merges are cut short")
    _write_two_files(base / "tokenizer", vocab, [])
    refused(base, "its merges are cut short")
    (base / "tokenizer" / "merges.txt").unlink()
    refused(base, "folder has no vocabulary (merges.txt, or tokenizer.json)")


def test_a_tokenizer_of_another_encoder_is_refused(copy_of) -> None:
    base = copy_of("sd15")
    layout_of_clip = base / "clip"
    from trainer.families.tokenizers import clip_tokenizer

    clip_tokenizer().save_pretrained(layout_of_clip)
    shutil.rmtree(base / "tokenizer")
    layout_of_clip.rename(base / "tokenizer")
    refused(base, "tokenizer has a vocabulary of 49408 tokens, its text encoder one of 551")


# single files


def _single(base: Path, name: str, tmp_path: Path, monkeypatch) -> tuple[Path, dict[str, Tensor]]:
    monkeypatch.setattr(layout, "CONFIGS", configs_of(base, name, tmp_path / "configs"))
    return tmp_path / "model.safetensors", to_original_format(load_base(base))


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_tensors_missing_from_a_single_file_are_named(name, request, tmp_path, monkeypatch) -> None:
    file, tensors = _single(request.getfixturevalue(f"tiny_{name}"), name, tmp_path, monkeypatch)
    text = "cond_stage_model" if name == "sd15" else "conditioner.embedders.0"
    cases = [
        ("model.diffusion_model.out.2.weight", "U-Net (unet) lacks"),
        ("model.diffusion_model.input_blocks.1.0.in_layers.2.weight", "U-Net (unet) lacks"),
        ("first_stage_model.encoder.conv_in.weight", "VAE (vae) lacks"),
        (f"{text}.transformer.text_model.encoder.layers.0.mlp.fc1.bias", "text encoder (text_encoder) lacks"),
        (f"{text}.transformer.text_model.embeddings.position_embedding.weight", "text encoder (text_encoder) lacks"),
    ]
    if name == "sdxl":
        second = "conditioner.embedders.1.model."
        cases += [
            (f"{second}ln_final.weight", "second text encoder (text_encoder_2) lacks"),
            (f"{second}text_projection", "second text encoder (text_encoder_2) lacks"),
            (f"{second}transformer.resblocks.1.attn.in_proj_weight", "second text encoder (text_encoder_2) lacks"),
        ]
    for lost, reason in cases:
        save_file({key: tensor for key, tensor in tensors.items() if key != lost}, file)
        refused(file, reason)


def test_a_single_file_without_a_part_says_which(tiny_sd15, tmp_path, monkeypatch) -> None:
    file, tensors = _single(tiny_sd15, "sd15", tmp_path, monkeypatch)
    for prefix, reason in (("first_stage_model", "VAE (vae)"), ("model.diffusion_model", "U-Net (unet)")):
        save_file({key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}, file)
        refused(file, reason, "lacks")
    nan = tensors | {"first_stage_model.decoder.conv_in.bias": torch.full((16,), float("nan"))}
    save_file(nan, file)
    refused(file, "VAE (vae) has NaN", "decoder.conv_in.bias")
    save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:-100])
    refused(file, "cut short")


def test_what_the_library_says_of_averaged_weights_is_told(tiny_sd15, tmp_path, monkeypatch) -> None:
    file, tensors = _single(tiny_sd15, "sd15", tmp_path, monkeypatch)
    save_file(tensors | {f"model_ema.{index}": torch.ones(1) for index in range(120)}, file)
    (said,) = load_base(file).notices
    assert re.match(r"unet: .*EMA.*plain", said)


def test_a_folder_around_a_single_file_says_to_name_the_file(tmp_path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"no model_index.json .*name the file, such as model.safetensors"):
        check_family(tmp_path)


def test_names_of_2022_are_read(tiny_sd15, tmp_path, monkeypatch) -> None:
    file, tensors = _single(tiny_sd15, "sd15", tmp_path, monkeypatch)
    short = "cond_stage_model.transformer."
    save_file({key.replace(f"{short}text_model.", short): tensor for key, tensor in tensors.items()}, file)
    found, expected = (load_base(base).text_encoders[0].state_dict() for base in (file, tiny_sd15))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_inpainting_bases_are_refused_by_their_channels(copy_of, tiny_sdxl, tmp_path, monkeypatch) -> None:
    base = copy_of("sd15")
    file = base / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"in_channels": 9}))
    with pytest.raises(ModelError, match=r"inpainting or edit base \(9 channels in, 4 drawn\)"):
        check_family(base)
    single, tensors = _single(tiny_sdxl, "sdxl", tmp_path, monkeypatch)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    save_file(tensors | {first: torch.zeros(16, 9, 3, 3)}, single)
    with pytest.raises(ModelError, match=r"inpainting or edit base \(9 channels in, 4 drawn\)"):
        check_family(single)

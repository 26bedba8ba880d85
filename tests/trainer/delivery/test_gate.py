"""What the gate says of a small file: nothing where nothing is wrong, and for each change its own finding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.delivery.architecture import Architecture
from trainer.delivery.finding import Finding, some
from trainer.delivery.gate import check_readable, look, read_file
from trainer.delivery.metadata_look import recomputed
from trainer.errors import ModelError

MID, IN = "lora_unet_mid_block_attentions_0_proj_in", "lora_unet_down_blocks_1_attentions_0_proj_in"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
LAYERS = (MID, IN, TEXT)
DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
MID_SITE, IN_SITE = ("denoiser", "mid_block.attentions.0.proj_in"), ("denoiser", "down_blocks.1.attentions.0.proj_in")
TEXT_SITE = ("text_encoder_0", "encoder.layers.0.self_attn.q_proj")
SHAPES: dict[tuple[str, str], tuple[int, ...]] = {MID_SITE: (6, 5, 1, 1), IN_SITE: (8, 7, 1, 1), TEXT_SITE: (4, 4)}
BASE = Architecture("base", "sd15", SHAPES)
USUAL = Architecture("a usual sd15 base", "sd15", SHAPES)

Tensors = dict[str, Tensor]
Metadata = dict[str, str]
Change = Callable[[Tensors, Metadata], object]


def good() -> tuple[Tensors, Metadata]:
    tensors: Tensors = {}
    for name, shape in zip(LAYERS, SHAPES.values(), strict=True):
        tensors[name + DOWN] = torch.ones(2, *shape[1:], dtype=torch.float16)
        tensors[name + UP] = torch.ones(shape[0], 2, *shape[2:], dtype=torch.float16)
        tensors[name + ALPHA] = torch.tensor(1.0, dtype=torch.float16)
    return tensors, {"ss_base_model_version": "sd_v1", "ss_network_dim": "2", "ss_network_alpha": "1.0"}


def written(folder: Path, change: Change | None = None) -> Path:
    tensors, metadata = good()
    if change is not None:
        change(tensors, metadata)
    metadata = recomputed(tensors, metadata) | metadata
    path = folder / "dog.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def found(path: Path, architecture: Architecture | None = BASE) -> list[tuple[bool, str, str]]:
    return [(one.passes, one.do, one.what) for one in look(read_file(path), architecture)]


def drop(*keys: str) -> Change:
    return lambda tensors, metadata: [tensors.pop(key) for key in keys]


def put(key: str, value: Callable[[Tensor], Tensor] | Tensor) -> Change:
    def change(tensors: Tensors, metadata: Metadata) -> None:
        tensors[key] = value if isinstance(value, Tensor) else value(tensors[key])

    return change


def told(**values: str) -> Change:
    return lambda tensors, metadata: metadata.update({key.replace("__", "."): text for key, text in values.items()})


def both(*changes: Change) -> Change:
    return lambda tensors, metadata: [change(tensors, metadata) for change in changes]


def filled(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


def to(dtype: torch.dtype, *ends: str) -> Change:
    def change(tensors: Tensors, metadata: Metadata) -> None:
        for key in [key for key in tensors if key.endswith(ends)]:
            tensors[key] = tensors[key].to(dtype)

    return change


ANEW, AGAIN = "make the file anew with its trainer", "take an earlier checkpoint, or train it again"
CLEAN, REPAIR = "run again with --clean", "run again with --repair"
CASES: list[tuple[Change, list[tuple[bool, str, list[str]]]]] = [
    (put("x.y", torch.ones(1)), [(False, CLEAN, ["1 of 10 tensors", "no part of a sd15 LoRA (x.y)"])]),
    (drop(MID + UP), [(False, ANEW, ["1 layers have one half only", f"({MID})"])]),
    (drop(MID + DOWN, TEXT + UP), [(False, ANEW, ["2 layers have one half only", f"{TEXT}, {MID}"])]),
    (
        put(IN + UP, torch.ones(8, 3, 1, 1, dtype=torch.float16)),
        [(False, ANEW, ["1 layers have two ranks", f"({IN}: rank 2 in lora_down and 3 in lora_up)"])],
    ),
    (put(IN + UP, filled(float("nan"))), [(False, AGAIN, ["NaN or infinity in 1 of 9 tensors", IN + UP])]),
    (put(TEXT + DOWN, filled(float("inf"))), [(False, AGAIN, ["NaN or infinity in 1 of 9 tensors", TEXT + DOWN])]),
    (put(MID + UP, filled(0)), [(True, "nothing has to be done", ["1 of 3 layers are zero", MID])]),
    (
        both(*(put(name + UP, filled(0)) for name in LAYERS)),
        [(False, AGAIN, ["all layers are zero: the LoRA changes nothing"])],
    ),
    (to(torch.bfloat16, DOWN, UP), []),
    (to(torch.float32, DOWN), [(True, "--dtype fp16 halves the file", ["3 tensors are fp32"])]),
    (to(torch.float32, ALPHA), []),
    (
        to(torch.float64, DOWN, UP),
        [(False, "run again with --dtype fp16", ["6 tensors are float64", f"{TEXT}{DOWN}", "and 3 more"])],
    ),
    (
        both(to(torch.float32, DOWN), to(torch.float64, UP)),
        [(False, "run again with --dtype fp16", ["3 tensors are float64"])],
    ),
    (put(MID + ALPHA, filled(0)), [(False, REPAIR, [f"the alpha of {MID} is 0: tools read that in several ways"])]),
    (put(MID + ALPHA, filled(float("inf"))), [(False, AGAIN, ["in 1 of 9"]), (False, REPAIR, [f"{MID} is inf"])]),
    (drop(MID + ALPHA), [(False, REPAIR, ["1 of 3 layers have no alpha", MID])]),
    (
        drop(*(name + ALPHA for name in LAYERS)),
        [(False, ANEW, ["3 of 3 layers have no alpha", "ss_network_alpha says 1.0"])],
    ),
    (
        both(drop(*(name + ALPHA for name in LAYERS)), told(ss_network_alpha="2.0")),
        [(True, "--repair writes it", ["3 of 3 layers have no alpha", "tools then take the rank for it"])],
    ),
    (
        both(drop(*(name + ALPHA for name in LAYERS)), lambda _, metadata: metadata.pop("ss_network_alpha")),
        [(True, "--repair writes it", ["tools then take the rank for it"])],
    ),
    (
        both(drop(*(name + ALPHA for name in LAYERS)), told(ss_network_alpha="Dynamic")),
        [(False, ANEW, ["ss_network_alpha says Dynamic"])],
    ),
    (
        both(
            drop(*(name + ALPHA for name in LAYERS)),
            told(lora_adapter_metadata=json.dumps({".lora_alpha": 1})),
            told(ss_network_alpha="1.0"),
        ),
        [(False, ANEW, ["ss_network_alpha says 1.0"])],  # it is for no layer of these names
    ),
    (
        put(MID + ".dora_scale", torch.ones(6, 1, 1, 1, dtype=torch.float16)),
        [(True, "--plain-lora", ["1 layers are DoRA: A1111 and ComfyUI draw other images from it, "])],
    ),
    (
        put(MID + ".dora_scale", torch.ones(1, 5, 1, 1, dtype=torch.float16)),
        [(True, "--plain-lora", ["1 layers are DoRA: A1111 and ComfyUI draw it as it was trained, "])],
    ),
    (
        both(
            put(MID + ".dora_scale", torch.ones(1, 5, 1, 1, dtype=torch.float16)),
            put(IN + ".dora_scale", torch.ones(8, 1, 1, 1, dtype=torch.float16)),
        ),
        [(True, "--plain-lora", ["2 layers are DoRA: A1111 and ComfyUI draw other images"])],
    ),
    (told(ss_network_dim="3"), [(True, "--repair mends it", ["ss_network_dim says 3, the layers have rank 2"])]),
    (told(ss_network_dim="Dynamic"), []),
    (
        told(modelspec__architecture="stable-diffusion-xl-v1-base/lora"),
        [(False, REPAIR, ["modelspec.architecture says stable-diffusion-xl-v1-base/lora,", "are those of sd15"])],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CASES, ids=map(str, range(len(CASES))))
def test_each_change_has_its_own_finding(
    tmp_path: Path, change: Change, expected: list[tuple[bool, str, list[str]]]
) -> None:
    shown = found(written(tmp_path, change))
    assert [passes for passes, _, _ in shown] == [passes for passes, _, _ in expected], shown
    for (_, do, what), (_, to_do, words) in zip(shown, expected, strict=True):
        assert do.startswith(to_do)
        assert all(word in what for word in words), what


@pytest.mark.parametrize("architecture", [BASE, USUAL])
def test_of_a_good_file_nothing_is_said(tmp_path: Path, architecture: Architecture) -> None:
    assert found(written(tmp_path), architecture) == []


def test_faults_come_before_notes(tmp_path: Path) -> None:
    shown = found(written(tmp_path, both(to(torch.float32, DOWN), put("x.y", torch.ones(1)))))
    assert [passes for passes, _, _ in shown] == [False, True]


def test_an_alpha_beside_the_weights_is_a_fault(tmp_path: Path) -> None:
    path = written(tmp_path, drop(*(name + ALPHA for name in LAYERS)))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 1}))
    ((passes, do, what),) = found(path)
    assert (passes, do) == (False, REPAIR)
    assert "3 of 3 layers have no alpha" in what
    assert "beside the weights, where WebUIs do not look" in what
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2}))  # that is the rank
    ((passes, do, _),) = found(path)
    assert (passes, do) == (False, ANEW)


def named(name: str, **shapes: tuple[int, ...] | None) -> Architecture:
    """SHAPES with some of "mid", "text" changed or taken away."""
    sites = {"mid": MID_SITE, "text": TEXT_SITE}
    layers = {**SHAPES, **{sites[key]: shape for key, shape in shapes.items()}}
    return Architecture(name, "sd15", {site: shape for site, shape in layers.items() if shape is not None})


GIVE, TAKE = "give the base it was trained on with --base", "take the base it was trained on"


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (None, [(True, "give the base it is for with --base", "sd15 has no layout of its own here")]),
        (
            Architecture("xl", "sdxl", {}),
            [(False, "take a base of its family", "xl is a sdxl base, the LoRA is for sd15")],
        ),
        (named("base", mid=None), [(False, TAKE, "1 of 3 layers are not in base (denoiser.mid_block.attent")]),
        (named("a usual sd15 base", mid=None), [(False, GIVE, "1 of 3 layers are not in a usual sd15 base")]),
        (
            named("base", mid=(6, 9, 1, 1)),
            [(False, TAKE, "1 of 3 layers do not fit base (denoiser.mid_block.attentions.0.proj_in: 5 → 6")],
        ),
        (
            named("base", text=(9, 4)),
            [(False, TAKE, "text_encoder_0.encoder.layers.0.self_attn.q_proj: 4 → 4 features, it has 4 → 9")],
        ),
        (named("base", mid=(6, 5)), []),  # a 1×1 convolution is a linear layer
        (named("base", text=(4, 4, 1, 1)), []),
        (named("base", mid=(6, 5, 3, 3)), [(False, TAKE, "1 of 3 layers do not fit base")]),
        (
            named("base", mid=None, text=(9, 9)),
            [(False, TAKE, "1 of 3 layers are not in base"), (False, TAKE, "1 of 3 layers do not fit base")],
        ),
    ],
)  # fmt: skip
def test_layers_are_held_against_a_base(
    tmp_path: Path, architecture: Architecture | None, expected: list[tuple[bool, str, str]]
) -> None:
    shown = found(written(tmp_path), architecture)
    assert [(passes, do) for passes, do, _ in shown] == [(passes, do) for passes, do, _ in expected]
    for (_, _, what), (_, _, words) in zip(shown, expected, strict=True):
        assert words in what


def test_several_alphas_are_told_for_sdxl_alone(tmp_path: Path) -> None:
    second = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"

    def of_sdxl(tensors: Tensors, metadata: Metadata) -> None:
        for end in (DOWN, UP, ALPHA):
            tensors[second + end] = tensors[TEXT + end].clone()
            tensors[TEXT.replace("lora_te_", "lora_te1_") + end] = tensors.pop(TEXT + end)
        metadata["ss_base_model_version"] = "sdxl_base_v1-0"

    architecture = Architecture(
        "base", "sdxl", {**SHAPES, ("text_encoder_1", "text_model.encoder.layers.0.self_attn.q_proj"): (4, 4)}
    )
    assert found(written(tmp_path, of_sdxl), architecture) == []
    ((passes, do, what),) = found(written(tmp_path, both(of_sdxl, put(MID + ALPHA, filled(2)))), architecture)
    assert (passes, do) == (True, "--repair writes one alpha and the same effect")
    assert "several alphas" in what
    assert found(written(tmp_path, put(MID + ALPHA, filled(2)))) == []


def test_a_file_is_read_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    file = read_file(written(tmp_path, both(put("x.y", torch.ones(1)), drop(MID + UP))))
    assert (file.family, file.junk) == ("sd15", ("x.y",))
    assert file.parts("alpha").keys() == set(LAYERS)
    assert file.parts("lora_up.weight").keys() == {IN, TEXT}
    assert check_readable(file).modules.keys() == {IN_SITE, TEXT_SITE}
    none = read_file(written(tmp_path, drop(*(name + UP for name in LAYERS))))
    assert none.lora is None
    with pytest.raises(ModelError, match="expected layers with both halves, got none"):
        check_readable(none)
    damaged = read_file(written(tmp_path, put(TEXT + UP, filled(float("nan")))))
    with pytest.raises(ModelError, match=r"NaN or infinity in text_encoder_0\.encoder\.layers\.0\.self_attn\.q_proj"):
        check_readable(damaged)


@pytest.mark.parametrize(
    ("things", "text"),
    [([1], "1"), ([1, 2, 3], "1, 2, 3"), ([1, 2, 3, 4], "1, 2, 3 and 1 more"), ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more")],
)
def test_three_of_many_are_named(things: list[Any], text: str) -> None:
    assert some(things) == text


def test_a_finding_says_first_what_to_do() -> None:
    assert Finding(True, "do this", "that").line == "note: do this: that"
    assert Finding(False, "do this", "that").line == "fault: do this: that"

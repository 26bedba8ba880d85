"""What is said of a part's tensors: how many are missing, left over, of another shape or no numbers."""

import re

import pytest
import torch
from torch import nn

from trainer.errors import ModelError
from trainer.families.missing_tensors import check_finite, check_shapes, check_tensors


def _model() -> nn.Module:
    return nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(1, 1) for _ in range(2)), "out": nn.Linear(1, 1)})


def _told(check, *arguments) -> str:
    with pytest.raises(ModelError) as told:
        check(*arguments)
    return str(told.value)


@pytest.mark.parametrize(
    ("missing", "unused", "said"),
    [
        (["out.bias"], [], "lacks 1 of its 6 tensors: out.bias"),
        (["out.bias", "layers.1.bias"], [], "lacks 2 of its 6 tensors: layers.1.bias, out.bias"),
        (["out.bias", "zz", "aa"], ["b", "a", "c"],
         "lacks 3 of its 6 tensors: out.bias, aa, …; its file has 3 of other names, a, b, …"),
        ([], ["layers.7.bias", "layers.9.weight", "stray"],
         "has 2 tensors more than its config.json has layers for: layers.7.bias, layers.9.weight"),
        ([], ["text_model.layers.7.bias"],
         "has 1 tensors more than its config.json has layers for: text_model.layers.7.bias"),
    ],
)  # fmt: skip
def test_tensors_that_are_missing_or_too_many_are_told(missing, unused, said: str) -> None:
    assert _told(check_tensors, "b", "vae", _model(), missing, unused) == f"b: the base's VAE (vae) {said}"


def test_what_nothing_asks_for_is_said_in_a_line() -> None:
    assert check_tensors("b", "vae", _model(), [], []) == []
    assert check_tensors("b", "vae", _model(), [], ["y", "x"]) == ["vae: not used of its file: x, y (2 in all)"]
    besides = ["logit_scale", "text_model.embeddings.position_ids", "vision_model.a", "lm_head.weight"]
    assert check_tensors("b", "text_encoder_2", _model(), [], besides) == []
    (line,) = check_tensors("b", "unet", _model(), [], besides)
    assert "(4 in all)" in line


@pytest.mark.parametrize(
    ("count", "more"),
    [(1, ""), (2, " (and 1 more)"), (3, " (and 2 more)")],
)
def test_a_tensor_of_another_shape_is_told_with_both(count: int, more: str) -> None:
    differing = [("b.weight", (3, 2), (4, 2)), ("c.weight", (1,), (2,)), ("a.weight", (5,), (6,))][:count]
    name, found, wanted = min(differing)
    said = f"{name} has the shape {list(found)}, its configuration asks for {list(wanted)}{more}"
    assert _told(check_shapes, "b", "unet", differing) == f"b: the base's U-Net (unet): {said}"
    check_shapes("b", "unet", [])


@pytest.mark.parametrize(
    ("values", "dtype", "said"),
    [
        ((float("inf"), 0.0), torch.float32, "infinite values in 1 of its tensors: one"),
        ((float("-inf"), 0.0), torch.float32, "infinite values in 1 of its tensors: one"),
        ((float("nan"), float("inf")), torch.float32, "NaN in 1 of its tensors: one"),
        ((float("inf"), 0.0), torch.float16,
         "infinite values in 1 of its tensors: one (in fp16: bf16 and fp32 hold larger ones)"),
        ((float("nan"), 0.0), torch.float16, "NaN in 1 of its tensors: one"),
        ((float("inf"), 0.0), torch.bfloat16, "infinite values in 1 of its tensors: one"),
    ],
)  # fmt: skip
def test_weights_that_are_no_numbers_are_told(values, dtype: torch.dtype, said: str) -> None:
    model = nn.Module()
    model.register_buffer("empty", torch.zeros(0))
    model.register_buffer("whole", torch.ones(2, dtype=torch.long))
    model.register_buffer("fine", torch.ones(2))
    check_finite("b", "transformer", model)
    model.register_buffer("one", torch.tensor(values, dtype=dtype))
    assert _told(check_finite, "b", "transformer", model) == f"b: the base's transformer has {said}"
    for name in ("two", "three"):
        model.register_buffer(name, torch.tensor([float("nan")]))
    told = _told(check_finite, "b", "transformer", model)
    assert re.search(rf"has {said.split(' in ')[0]} in 3 of its tensors: one, two, …", told), "the first one's kind"

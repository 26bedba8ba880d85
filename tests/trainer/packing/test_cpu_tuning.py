"""Frozen weights through oneDNN on a CPU: the same answers as torch's own operations."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.packing import cpu_tuning
from trainer.packing.cpu_tuning import linear, prepack_convolutions


def _layer(channels: int, outputs: int, size: int, padding: int, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, outputs, size, padding=padding, bias=bias).requires_grad_(False)
    prepack_convolutions(layer)
    return layer


def _assert_like_torch(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Forward and backward agree with torch's convolution in fp64; returns that answer."""
    x.grad = None
    y = layer(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    exact = x.detach().double().requires_grad_()
    bias = None if layer.bias is None else layer.bias.double()
    expected = F.conv2d(exact, layer.weight.double(), bias, padding=layer.padding)
    expected.backward(grad.double())
    assert torch.allclose(y, expected.float(), atol=1e-5)
    assert x.grad is not None
    assert exact.grad is not None
    assert torch.allclose(x.grad, exact.grad.float(), atol=1e-5)
    return expected.detach().float()


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "padding", "bias"),
    [(6, 5, 3, 1, True), (64, 32, 3, 1, False), (4, 8, 1, 0, True), (3, 7, 5, 2, True), (8, 8, 3, 0, True)],
)
def test_a_frozen_convolution_answers_and_goes_backward_like_torch(
    channels: int, outputs: int, size: int, padding: int, bias: bool
) -> None:
    layer = _layer(channels, outputs, size, padding, bias=bias)
    for height, width in ((8, 8), (12, 7), (8, 8)):  # sizes in turn, as buckets come
        x = torch.randn(1, channels, height, width, requires_grad=True)
        expected = _assert_like_torch(layer, x)
        with torch.no_grad():
            assert torch.allclose(layer(x), expected, atol=1e-5)


def _packed(layer: nn.Conv2d) -> list[tuple[bool, torch.Size]]:
    """What a layer has prepacked: (for the backward pass, size of input)."""
    return [key[:2] for key in layer._conv_forward.packed]


def test_only_single_samples_with_frozen_weights_go_through_onednn() -> None:
    layer = _layer(6, 6, 3, 1)
    if not torch.backends.mkldnn.is_available():
        assert "_conv_forward" not in vars(layer)
        return
    batch = torch.randn(2, 6, 8, 8)
    layer(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(batch[:1]).dtype == torch.bfloat16
    layer.weight.requires_grad_()
    layer(batch[:1]).sum().backward()
    assert layer.weight.grad is not None
    layer.requires_grad_(False)
    assert layer.bias is not None
    layer.bias.requires_grad_()
    layer(batch[:1]).sum().backward()
    assert layer.bias.grad is not None
    assert _packed(layer) == []
    layer.requires_grad_(False)
    layer(batch[:1].requires_grad_()).sum().backward()
    assert _packed(layer) == [(False, batch[:1].shape), (True, batch[:1].shape)]
    for side in range(9, 20):
        layer(torch.randn(1, 6, side, side))
    assert len(_packed(layer)) == 8  # of many sizes only the last ones are kept


def test_a_changed_weight_is_noticed_and_module_and_weights_stay_as_they_are() -> None:
    layer = _layer(6, 6, 3, 1)
    names = list(layer.state_dict())
    x = torch.randn(1, 6, 8, 8, requires_grad=True)
    before = layer(x)
    for change in (lambda: layer.weight.mul_(2.0), lambda: layer.bfloat16().float()):
        with torch.no_grad():
            change()  # as a merge does; as a move does
        _assert_like_torch(layer, x)
    assert not torch.allclose(layer(x), before, atol=1e-3)
    copied = copy.deepcopy(layer)
    assert torch.equal(copied(x), layer(x))
    layer.double()
    assert layer(x.double()).dtype == torch.float64
    assert list(layer.state_dict()) == names
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize("rows", [3, 64, 300])
def test_a_product_with_frozen_weights_equals_torch_s(rows: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(rows, 128), torch.randn(512, 128), torch.randn(512)
    assert torch.allclose(linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-4)
    grad = torch.randn(rows, 512)
    assert torch.allclose(linear(grad, weight.t(), None), grad @ weight, atol=1e-4)


def test_where_torch_has_no_onednn_the_product_is_torch_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    monkeypatch.setattr(cpu_tuning, "_has_product", cpu_tuning._has_product.__wrapped__)  # it is asked once, else
    x, weight = torch.randn(300, 128), torch.randn(512, 128)
    assert torch.equal(linear(x, weight, None), x @ weight.t())

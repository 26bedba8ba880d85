"""Frozen weights through oneDNN on a CPU: the same answers as torch's own operations."""

import copy
import ctypes
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.packing import cpu_tuning
from trainer.packing.cpu_tuning import keep_freed_memory, linear, prepack_convolutions

ONEDNN = torch.backends.mkldnn.is_available()


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


@pytest.mark.parametrize(
    ("inputs", "named", "replaced"),
    [
        (6, {}, True),
        (6, {"padding": 2}, True),
        (6, {"padding": 3}, False),  # beyond the kernel
        (6, {"padding": (1, 3)}, False),
        (6, {"padding": "same"}, False),
        (6, {"padding": 1, "padding_mode": "reflect"}, False),
        (6, {"stride": 2}, False),
        (6, {"dilation": 2}, False),
        (6, {"groups": 2}, False),
        (2**19 // (4 * 9), {}, True),  # the largest weight of four outputs
        (2**19 // (4 * 9) + 1, {}, False),
    ],
    ids=str,
)
def test_small_plain_convolutions_are_replaced_and_others_left_alone(
    inputs: int, named: dict[str, Any], replaced: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(inputs, 4, 3, **named), nn.Linear(2, 2)).requires_grad_(False)
    prepack_convolutions(model)
    assert ("_conv_forward" in vars(model[0])) is (replaced and ONEDNN)
    once = vars(model[0]).get("_conv_forward")
    prepack_convolutions(model)
    assert vars(model[0]).get("_conv_forward") is once, "nothing is replaced twice"


def test_without_a_right_convolution_no_layer_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_tuning, "_has_convolution", lambda: False)
    assert "_conv_forward" not in vars(_layer(6, 6, 3, 1))


class _Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operations that run within."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("rows", "dtype", "through"),
    [
        (2**21 // (64 * 32), torch.float32, True),
        (2**21 // (64 * 32) - 1, torch.float32, False),
        (2**21 // (64 * 32), torch.float64, False),
        (2**21 // (64 * 32), torch.bfloat16, False),
    ],
)
@pytest.mark.parametrize("biased", [True, False])
def test_large_products_in_fp32_go_through_onednn(rows: int, dtype: torch.dtype, through: bool, biased: bool) -> None:
    x, weight, bias = torch.randn(rows, 64).to(dtype), torch.randn(32, 64).to(dtype), torch.randn(32).to(dtype)
    with _Counted() as counted:
        found = linear(x, weight, bias if biased else None)
    assert any("mkldnn._linear" in name for name in counted.names) is (through and ONEDNN)
    torch.testing.assert_close(found, F.linear(x, weight, bias if biased else None), rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("asked", ["_has_product", "_has_convolution"])
def test_an_operation_that_answers_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    right = getattr(cpu_tuning, asked).__wrapped__
    assert right() is ONEDNN

    class Wrong:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: torch.zeros(1, 3, 4, 4) if "conv" in name else torch.zeros(4, 2)

    monkeypatch.setattr(torch.ops, "mkldnn", Wrong())
    assert right() is False
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert right() is False


def test_a_copied_layer_takes_no_prepacked_weights_along() -> None:
    layer = _layer(6, 6, 3, 1)
    x = torch.randn(1, 6, 8, 8)
    expected = layer(x)
    copied = copy.deepcopy(layer)
    assert len(_packed(layer)) == ONEDNN
    assert _packed(copied) == []
    assert torch.equal(copied(x), expected)
    with torch.no_grad():
        copied.weight.zero_()
    assert torch.equal(layer(x), expected)
    assert not torch.equal(copied(x), expected)


class _Allocated(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_large_pieces_of_memory_are_kept_when_they_are_freed() -> None:
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Allocated
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    for threshold in (-1, -3):  # glibc's own, as if nobody had asked yet
        library.mallopt(threshold, 128 * 1024)
    keep_freed_memory.__wrapped__()
    before = library.mallinfo2()
    pieces = [library.malloc(48 << 20) for _ in range(2)]
    held = library.mallinfo2()
    for piece in pieces:
        library.free(piece)
    after = library.mallinfo2()
    assert held.hblks == before.hblks, "none is mapped by itself"
    assert held.uordblks - before.uordblks >= 96 << 20
    assert after.arena >= held.arena, "nothing is given back"

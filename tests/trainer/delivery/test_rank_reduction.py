"""Rank reduction against numpy's own SVD of the whole ΔW, and against a LoRA of a known rank."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from trainer.delivery.rank_reduction import RankCurve, rank_curve, reduced
from trainer.errors import ModelError
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.lora.merge import delta

PLAIN, SPATIAL = ("denoiser", "mid_block.attentions.0.proj_in"), ("denoiser", "mid_block.resnets.0.conv1")


def made(true_rank: int, rank: int = 6) -> LoraWeights:
    """Two layers, one a 3×3 convolution, written with `rank` and of `true_rank`."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    mix = draw(true_rank, rank)
    plain = LoraModule(mix.T @ draw(true_rank, 20), draw(15, true_rank) @ mix, 3.0)
    down = torch.einsum("tr,tikl->rikl", mix, draw(true_rank, 8, 3, 3))
    spatial = LoraModule(down, (draw(10, true_rank) @ mix)[..., None, None], -4.0)
    return LoraWeights({PLAIN: plain, SPATIAL: spatial}, "sd15")


def change(module: LoraModule) -> np.ndarray:
    shape = (module.up.shape[0], *module.down.shape[1:])
    return delta(module, shape).flatten(1).numpy()


def test_the_curve_and_the_smaller_lora_are_those_of_a_svd_of_the_whole_change() -> None:
    lora = made(6)
    curve = rank_curve(lora)
    for rank in range(1, 6):
        smaller = reduced(lora, rank)
        lost, whole = 0.0, 0.0
        for site, module in lora.modules.items():
            wanted = change(module)
            u, s, v = np.linalg.svd(wanted, full_matrices=False)
            best = (u[:, :rank] * s[:rank]) @ v[:rank]
            np.testing.assert_allclose(change(smaller.modules[site]), best, atol=1e-10)
            assert smaller.modules[site].alpha == module.alpha
            assert smaller.modules[site].down.shape == (rank, *module.down.shape[1:])
            lost, whole = lost + (s[rank:] ** 2).sum(), whole + (s**2).sum()
        assert curve.losses[rank] == pytest.approx((lost / whole) ** 0.5, abs=1e-7)
    assert curve.losses[6] == 0


def test_nothing_is_lost_down_to_the_true_rank() -> None:
    lora = made(2)
    assert rank_curve(lora).least(1e-6) == 2
    for smaller in (reduced(lora, 2), reduced(lora, loss=1e-6)):
        for site, module in lora.modules.items():
            assert smaller.modules[site].rank == 2
            np.testing.assert_allclose(change(smaller.modules[site]), change(module), atol=1e-9)


def test_each_layer_may_keep_a_rank_of_its_own() -> None:
    thin, thick = made(1), made(5)
    lora = replace(thin, modules={PLAIN: thin.modules[PLAIN], SPATIAL: thick.modules[SPATIAL]})
    ranks = {site: module.rank for site, module in reduced(lora, loss=1e-6).modules.items()}
    assert ranks == {PLAIN: 1, SPATIAL: 5}


def test_unless_asked_for_nothing_is_lost_that_a_file_would_show() -> None:
    lora = made(2)
    assert {module.rank for module in reduced(lora).modules.values()} == {2}


def test_dora_is_refused_by_name() -> None:
    lora = made(2)
    dora = replace(lora.modules[PLAIN], magnitude=torch.ones(15))
    with pytest.raises(ModelError, match=r"--rank: .*DoRA in 1 of 2 layers \(denoiser.mid_block"):
        rank_curve(replace(lora, modules={**lora.modules, PLAIN: dora}))


def test_the_curve_goes_to_the_highest_rank_of_a_lora_of_several() -> None:
    thin, thick = made(2, rank=3), made(5)
    curve = rank_curve(replace(thin, modules={PLAIN: thin.modules[PLAIN], SPATIAL: thick.modules[SPATIAL]}))
    assert curve.rank == len(curve.losses) == 6
    assert curve.losses[4] > 1e-6 > curve.losses[5]


def test_the_curve_is_told_at_halves_of_the_rank() -> None:
    curve = RankCurve(6, {1: 0.5, 2: 0.25, 3: 0.125, 4: 0.1, 5: 0.05, 6: 0.0})
    assert [tuple(map(float, re.findall(r"[\d.]+", line))) for line in curve.lines] == [(6, 0), (3, 12), (1, 50)]


def test_layers_that_need_no_lower_rank_stay_the_very_ones() -> None:
    thin, thick = made(2, rank=3), made(5)
    lora = replace(thin, modules={PLAIN: thin.modules[PLAIN], SPATIAL: thick.modules[SPATIAL]})
    for rank in (3, 4, 5):
        smaller = reduced(lora, rank)
        assert smaller.modules[PLAIN] is lora.modules[PLAIN]
        assert smaller.modules[SPATIAL].rank == rank
    assert reduced(lora, 6).modules == lora.modules
    assert reduced(made(6), loss=0.0).modules[PLAIN].rank == 6


def test_a_layer_that_changes_nothing_keeps_one_rank_and_loses_nothing() -> None:
    lora = made(3)
    still = replace(lora.modules[PLAIN], up=torch.zeros_like(lora.modules[PLAIN].up))
    alone = replace(lora, modules={PLAIN: still})
    assert set(rank_curve(alone).losses.values()) == {0.0}
    found = reduced(alone).modules[PLAIN]
    assert (found.rank, bool(change(found).any())) == (1, False)


@pytest.mark.parametrize(("loss", "rank"), [(0.0, 4), (0.05, 3), (0.0999, 3), (0.1, 2), (0.5, 1), (1.0, 1)])
def test_the_smallest_rank_that_loses_no_more(loss: float, rank: int) -> None:
    assert RankCurve(4, {1: 0.5, 2: 0.1, 3: 0.05, 4: 0.0}).least(loss) == rank


def test_the_lower_rank_keeps_types_and_shapes() -> None:
    lora = made(5)
    half = {site: replace(m, up=m.up.half(), down=m.down.half()) for site, m in lora.modules.items()}
    for site, module in reduced(replace(lora, modules=half), 2).modules.items():
        assert module.up.dtype == module.down.dtype == torch.float16
        assert module.up.shape == (*half[site].up.shape[:1], 2, *half[site].up.shape[2:])
        assert module.up.is_contiguous()
        assert module.down.is_contiguous()

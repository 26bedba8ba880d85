"""The average of checkpoints is the mean of what they change, as near as the rank allows."""

from dataclasses import replace

import pytest
import torch

from trainer.delivery.averaging import averaged
from trainer.errors import ModelError
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.lora.merge import delta

SITES = {("denoiser", "a"): (6, 5), ("denoiser", "b"): (4, 7)}


def lora(seed: int, rank: int = 2, alpha: float = 1.0) -> LoraWeights:
    draws = torch.Generator().manual_seed(seed)
    modules = {
        site: LoraModule(torch.randn(rank, into, generator=draws), torch.randn(out, rank, generator=draws), alpha)
        for site, (out, into) in SITES.items()
    }
    modules["denoiser", "conv"] = LoraModule(
        torch.randn(3, 4, 3, 3, generator=draws), torch.randn(5, 3, 1, 1, generator=draws), 2.0
    )
    return LoraWeights(modules, "sd15")


def change(module: LoraModule) -> torch.Tensor:
    shape = (module.up.shape[0], *module.down.shape[1:])
    return delta(replace(module, down=module.down.double(), up=module.up.double()), shape).flatten(1)


def test_it_is_the_nearest_lora_of_its_rank_to_the_mean_change() -> None:
    parts = [lora(1), lora(2), lora(3, alpha=0.5)]
    made, lost = averaged(parts)
    off = size = 0.0
    for site, module in made.modules.items():
        mean = torch.stack([change(part.modules[site]) for part in parts]).mean(0)
        left, values, right = torch.linalg.svd(mean, full_matrices=False)  # the reference: the dense matrix itself
        best = left[:, : module.rank] @ torch.diag(values[: module.rank]) @ right[: module.rank]
        torch.testing.assert_close(change(module), best, rtol=1e-5, atol=1e-5)
        assert (module.rank, module.alpha) == (parts[0].modules[site].rank, parts[0].modules[site].alpha)
        off += float((mean - best).square().sum())
        size += float(mean.square().sum())
    assert lost == pytest.approx((off / size) ** 0.5, rel=1e-6)


def test_factors_that_turned_together_change_nothing() -> None:
    one = lora(4)
    turn, _ = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(5)))
    other = replace(
        one,
        modules={
            site: replace(m, up=m.up @ turn.T, down=turn @ m.down) if site[1] in "ab" else m
            for site, m in one.modules.items()
        },
    )
    made, lost = averaged([one, other])
    assert lost < 1e-6
    for site, module in made.modules.items():
        torch.testing.assert_close(change(module), change(one.modules[site]), rtol=1e-4, atol=1e-5)
    naive = (one.modules["denoiser", "a"].up + other.modules["denoiser", "a"].up) / 2
    assert not torch.allclose(naive, one.modules["denoiser", "a"].up), "the mean of the factors is another LoRA"


def test_checkpoints_of_different_runs_are_refused() -> None:
    with pytest.raises(ModelError, match="different ranks"):
        averaged([lora(1), lora(2, rank=3)])
    one = lora(1)
    with pytest.raises(ModelError, match="different layers"):
        averaged([one, replace(one, modules={k: v for k, v in one.modules.items() if k[1] != "a"})])


def test_nothing_is_lost_of_no_change_at_all_and_layers_stay_in_order() -> None:
    still = lora(1)
    still = replace(still, modules={k: replace(m, up=torch.zeros_like(m.up)) for k, m in still.modules.items()})
    made, lost = averaged([still, still])
    assert lost == 0.0
    assert list(made.modules) == list(still.modules)
    assert not any(bool(change(module).any()) for module in made.modules.values())

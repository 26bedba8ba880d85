"""Every draw comes from a seed, a name and a position alone."""

import hashlib

import torch

from trainer.streams import stream, stream_seed


def test_the_seed_of_a_stream_is_the_head_of_a_hash() -> None:
    head = int(hashlib.sha256(b"5/noise/0/up.1").hexdigest()[:16], 16)
    assert stream_seed(5, "noise", 0, "up.1") == head // 2 < 2**63
    assert stream(5, "noise", 0, "up.1").initial_seed() == head // 2
    names = [(5, "noise"), (5, "noise", 0), (6, "noise", 0), (5, "latents", 0), (5, "noise", 1)]
    drawn = [torch.randn(3, generator=stream(*name)) for name in names]
    assert all(not torch.equal(one, other) for place, one in enumerate(drawn) for other in drawn[:place])
    assert torch.equal(torch.randn(3, generator=stream(5, "noise")), drawn[0])

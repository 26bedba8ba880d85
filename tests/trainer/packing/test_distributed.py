"""The processes of one run: who waits for whom, and gradients as means over all of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch

from trainer.errors import ConfigError
from trainer.packing.distributed import Crew, join_crew

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Noting(Crew):
    """Notes when it would wait."""

    events: list[str] = field(default_factory=list)

    def wait(self) -> None:
        self.events.append("wait")


@pytest.fixture
def group() -> Iterator[None]:
    """torch's group of processes, with this one alone in it."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("rank", "order"), [(0, ["block", "wait"]), (1, ["wait", "block"]), (2, ["wait", "block"])])
def test_the_main_process_goes_first(rank: int, order: list[str]) -> None:
    crew = Noting(CPU, rank, 3)
    with crew.main_first():
        crew.events.append("block")
    assert crew.events == order
    assert crew.is_main is (rank == 0)


def test_one_alone_waits_for_nobody() -> None:
    Crew(CPU).wait()
    with pytest.raises(ValueError, match="process group"):  # torch's, which nobody has begun
        Crew(CPU, 0, 2).wait()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradients_are_summed_by_torch_and_divided_by_the_number_of_processes(group: None, size: int) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1, 2))]
    given = [torch.randn(2, 3), None, torch.randn(1, 2)]
    for parameter, gradient in zip(parameters, given, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    Crew(CPU, 0, size).average_gradients(parameters)
    for parameter, gradient in zip(parameters, given, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, gradient / size)  # the sum over this one process


@pytest.mark.parametrize("size", ["1", None])
def test_a_plain_start_is_a_crew_of_one(monkeypatch: pytest.MonkeyPatch, size: str | None) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    crew = join_crew("cpu")
    assert (crew.device, crew.rank, crew.size, crew.is_main) == (CPU, 0, 1, True)
    with pytest.raises(ConfigError, match="--device: expected"):
        join_crew("cuba")

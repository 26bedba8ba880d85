"""Session fixtures shared by all packages: tiny bases, a tiny CLIP and a tiny training folder, built once
for all processes."""

import contextlib
import gc
import importlib.util
import os
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

# before torch is imported, which reads them once
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network fails instead of downloading
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests import tiny
from tests.made_once import made_once

_IN_TURN = "ONSET_COLLECTS_IN_TURN"
# begun first, so that no process has a long file left when the other is done
_LONGEST = [
    "search/test_short_demo.py",
    "search/running/test_coordinator_processes.py",
    "trainer/packing/test_pack.py",
    "search/verdict/test_decision_everywhere.py",
    "search/running/test_crash_points.py",
    "metrics/test_run.py",
    "search/probe/test_probe.py",
    "search/test_sittings.py",
    "trainer/production/test_production_folder.py",
    "trainer/families/test_missing_tensors.py",
    "metrics/subjects/test_masks.py",
    "metrics/onset/test_onset.py",
    "search/exports/test_export.py",
    "search/running/test_packed_trials.py",
    "search/recovery/test_recovery.py",
    "search/verdict/test_finalists.py",
    "trainer/test_checkpoint.py",
    "mutation/test_mutants.py",
    "search/verdict/test_verdict.py",
    "trainer/test_run.py",
    "trainer/inference/test_evaluate.py",
    "search/verdict/test_report.py",
    "search/running/test_finalists.py",
    "chaos/test_chaos.py",
    "trainer/inference/test_sample.py",
    "search/test_finished_run.py",
    "trainer/packing/test_packed_layers.py",
    "search/running/test_workers.py",
    "trainer/lora/test_kohya_file.py",
    "search/tuning/test_samplers_by_name.py",
    "search/findings/test_planted_faults.py",
    "metrics/comparison/test_copies.py",
    "search/running/test_foreign_trials.py",
    "test_dependencies.py",
    "search/test_docs.py",
    "benchmarks/test_strict_ceiling.py",
    "trainer/optimization/test_optimizers.py",
    "trainer/base_model/test_load.py",
    "search/verdict/test_artifacts.py",
    "search/tuning/test_database.py",
    "search/probe/test_cache_deleted.py",
    "metrics/images/test_image_folder.py",
]


def pytest_configure() -> None:
    gc.disable()  # what collecting imports stays; looking through it again and again takes a fifth of the time
    if "PYTEST_XDIST_WORKER" not in os.environ and not sys.dont_write_bytecode and not _is_compiled("torch"):
        os.environ[_IN_TURN] = "1"  # the processes of this session inherit it


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """In a new environment one process after the other: what the first has compiled, the others read."""
    cache = Path(__file__).with_name("__pycache__")
    cache.mkdir(exist_ok=True)
    with FileLock(cache / "collecting.lock") if _IN_TURN in os.environ else contextlib.nullcontext():
        return (yield)


def _is_compiled(package: str) -> bool:
    found = importlib.util.find_spec(package)
    return found is None or found.cached is None or Path(found.cached).is_file()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    home = Path(__file__).parent
    place = {home / name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_runtest_setup() -> None:
    """A worker that ran in this process has set the number of threads to its own: two processes of two threads each on
    two cores wait for each other most of the time."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diffusers folder of a Stable Diffusion 1.x base (epsilon prediction), latents of 4×16×16 for 64 px."""
    return made_once(tmp_path_factory, "tiny-sd15", tiny.make_sd15)


@pytest.fixture(scope="session")
def tiny_sd15_v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with v prediction and zero terminal SNR."""
    make = partial(tiny.make_sd15, prediction_type="v_prediction", rescale_betas=True)
    return made_once(tmp_path_factory, "tiny-sd15-v", make)


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diffusers folder of an SDXL base with the real topology of blocks."""
    return made_once(tmp_path_factory, "tiny-sdxl", tiny.make_sdxl)


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diffusers folder of an SD3 base (flow matching, no T5), latents of 16×16×16 for 64 px."""
    return made_once(tmp_path_factory, "tiny-sd3", tiny.make_sd3)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip folder, 64 px, embeddings of 32."""
    return made_once(tmp_path_factory, "tiny-clip", tiny.make_clip)


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kohya training folder: `2_sks toy/` with eight captioned PNGs of 64×64."""
    return made_once(tmp_path_factory, "photos", tiny.make_photos)

"""The work of a production run: one base, a pack of one, checkpoints and samples, on one device or several."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from rich.console import Console

from trainer import checkpoint
from trainer.base_model.fingerprint import fingerprint_base
from trainer.base_model.load import check_family, load_base
from trainer.config.config import TrainConfig
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, scan_dataset
from trainer.devices import check_quantize, has_no_exact_form, repeat_exactly, repeat_nearly
from trainer.errors import TrainerError
from trainer.families.clip import count_long_prompts
from trainer.files import shown
from trainer.inference.sample import sample
from trainer.inference.sample_files import SampleNote, write_samples
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.distributed import Crew, join_crew
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run
from trainer.production.production_config import Output
from trainer.production.production_folder import (
    check_content,
    check_settings,
    check_ship_epoch,
    claimed,
    deliver,
    forget_epochs_after,
    log_epoch,
    note_settings,
    saying_what_is_kept,
)
from trainer.production.progress import Watch, clock, memory_gib, synchronize

if TYPE_CHECKING:
    from trainer.families.family import Base

_T = TypeVar("_T")
_GIB = 2**30
_MEASURED_STEPS = 6


def train(config: TrainConfig, output: Output, folder: Path, *, device: str = "auto") -> Path:
    """Train to the end, from the newest checkpoint under `folder` if there is one. Returns the LoRA file: that of
    `output.ship_epoch`, or of the last epoch.

    Raises:
        ConfigError: `folder` holds a run of other settings, or is past an epoch to ship that it has no checkpoint of.
        DataError, ModelError: the data or the base cannot be used.
        TrainerError: another trainer is at work in `folder`, or the run failed on the way (NaN, out of memory, a full
            disk).
    """
    crew = join_crew(device)
    console = Console(quiet=not crew.is_main, highlight=False, soft_wrap=True)
    lock = claimed(folder) if crew.is_main else contextlib.nullcontext()
    with _readable_failures(), saying_what_is_kept(folder), lock:
        check_settings(config, folder)
        check_ship_epoch(output.ship_epoch, folder)
        return _repeatable(lambda: _train(config, output, folder, crew, console), output, crew, console)


def _train(config: TrainConfig, output: Output, folder: Path, crew: Crew, console: Console) -> Path:
    last, cache = output.last_epoch(config.epochs), folder / "cache"
    pack, run = _start(config, output, folder, crew, console, cache)
    sampler = _Sampler(pack, config, output, folder, cache)
    if crew.is_main:
        forget_epochs_after(folder, run.epoch)
        if run.epoch == 0:
            sampler.draw(0, None)
        elif checkpoint.lora_damage(checkpoint.checkpoint_path(folder / "checkpoints", run.epoch)) is not None:
            run.save()  # the state is whole and holds the same weights
    with Watch(console, run, pack, last) as watch:
        while run.epoch < last:
            pack.train_epoch(on_step=watch.step)
            if run.failed is not None:
                raise TrainerError(
                    f"{run.failed}: lower learning_rate, or use bf16 instead of fp16; "
                    f"checkpoints up to here are kept in {shown(folder)}"
                )
            watch.epoch()
            if crew.is_main:
                log_epoch(folder, _row(run, watch))
                if run.due or run.epoch in (last, output.ship_epoch):
                    run.save()
                if sampler.due(run.epoch):
                    sampler.draw(run.epoch, run)
            crew.wait()
            watch.go_on()
    shipped = output.ship_epoch or run.epoch
    final = folder / f"{output.name}.safetensors"
    if crew.is_main:
        deliver(folder, shipped, str(output.name))
        at = "" if shipped == config.epochs else f", epoch {shipped} of {config.epochs}"
        console.print(f"done: {final}{at}")
    crew.wait()
    return final


def dry_run(config: TrainConfig, output: Output, folder: Path, *, device: str = "auto") -> Forecast:
    """Measure a few steps and print what the run would take; trains nothing and keeps nothing but the cache."""
    crew = join_crew(device)
    console = Console(quiet=not crew.is_main, highlight=False, soft_wrap=True)
    with _readable_failures(), _temporary(folder) as aside:
        return _repeatable(lambda: _forecast(config, output, folder, aside, crew, console), output, crew, console)


def _repeatable(work: Callable[[], _T], output: Output, crew: Crew, console: Console) -> _T:
    """What `work` comes to, the same each time on a GPU if `output.deterministic`. Where an operation has no such form
    it is told, and `work` begins anew without: a training goes on from its newest checkpoint."""
    if output.deterministic:
        repeat_exactly(crew.device)
    try:
        return work()
    except RuntimeError as error:
        if not has_no_exact_form(error):
            raise
        console.print(f"note: {repeat_nearly(error)}")
    return work()  # what the failed try held of the GPU is free by now


def _forecast(config: TrainConfig, output: Output, folder: Path, aside: Path, crew: Crew, console: Console) -> Forecast:
    begun = time.perf_counter()
    pack, run = _start(config, output, aside, crew, console, folder / "cache", keep=False)
    seconds_to_start = time.perf_counter() - begun
    marks: list[float] = []

    def mark(pack: Pack) -> None:
        synchronize(pack.base)
        marks.append(time.perf_counter())
        if len(marks) > _MEASURED_STEPS:
            pack.leave(run)

    begun = time.perf_counter()
    while run in pack.runs and not run.finished:
        pack.train_epoch(on_step=mark)
    steps = [later - earlier for earlier, later in zip([begun, *marks], marks, strict=False)]
    run.step = run.epoch = 0
    sizes = {file.name: file.stat().st_size for file in run.save().iterdir()}
    last = output.last_epoch(config.epochs)
    checkpoints = math.ceil(last / config.save_every_n_epochs)
    # the first step warms caches and allocators: it is left out of the rate when there are others
    rate = sorted(steps[1:])[len(steps[1:]) // 2] if len(steps) > 1 else steps[0]
    forecast = Forecast(
        photos=pack.dataset.num_photos,
        steps_per_epoch=pack.steps_per_epoch,
        epochs=last,
        steps=pack.steps_per_epoch * last,
        seconds_per_step=rate,
        seconds_to_start=seconds_to_start,
        memory_gib=memory_gib(pack.base),
        disk_gib=(checkpoints * sizes[checkpoint.LORA_FILE] + 2 * (sum(sizes.values()) - sizes[checkpoint.LORA_FILE]))
        / _GIB,
        parameters=sum(parameter.numel() for parameter in run.parameters),
        processes=crew.size,
    )
    console.print(forecast.text(config))
    return forecast


@dataclass(frozen=True)
class Forecast:
    """What a production run will take. Times in seconds, sizes in GiB."""

    photos: int
    epochs: int
    steps_per_epoch: int
    steps: int
    seconds_per_step: float
    seconds_to_start: float
    memory_gib: float
    disk_gib: float
    parameters: int
    processes: int

    @property
    def seconds(self) -> float:
        return self.seconds_to_start + self.steps * self.seconds_per_step

    def text(self, config: TrainConfig) -> str:
        images = config.batch_size * config.gradient_accumulation_steps * self.processes / self.seconds_per_step
        return "\n".join(
            (
                f"photos   {self.photos}",
                f"LoRA     {self.parameters / 1e6:.2f} M parameters",
                f"steps    {self.steps} = {self.epochs} epochs × {self.steps_per_epoch}",
                f"speed    {self.seconds_per_step:.3g} s a step, {images:.3g} images/s",
                f"time     {clock(self.seconds)} with {clock(self.seconds_to_start)} to load and encode; samples apart",
                f"memory   {self.memory_gib:.2f} GiB at its highest so far",
                f"disk     {self.disk_gib:.3f} GiB of checkpoints",
            )
        )


def _start(
    config: TrainConfig,
    output: Output,
    folder: Path,
    crew: Crew,
    console: Console,
    cache: Path,
    *,
    keep: bool = True,
) -> tuple[Pack, Run]:
    dataset = scan_dataset(config.data, reg_data=config.reg_data, trigger=config.trigger, class_word=config.class_word)
    check_quantize(config.quantize, crew.device)
    check_family(config.base, config.family)
    for warning in dataset.warnings:
        console.print(f"warning: {warning}")
    content = {"photos and captions": dataset.digest, "base": fingerprint_base(config.base, remember=cache)}
    check_content(config, folder, content)
    console.print(f"loading {config.base}")
    base = load_base(
        config.base,
        family=config.family,
        device=crew.device,
        precision=config.precision,
        quantize=config.quantize,
    )
    for notice in base.notices:
        console.print(f"warning: the base: {notice}")
    _tell_what_takes_no_effect(config, base, dataset, console)
    folder.mkdir(parents=True, exist_ok=True)
    if crew.is_main and keep:
        note_settings(config, folder, content)
    with crew.main_first():
        pack = Pack(base, dataset, pack_settings(config), cache=LatentCache(base, cache), crew=crew)
    run = pack.join(run_settings(config, output_name=output.name), run_dir=folder)
    for line in run.passed_over:
        console.print(f"warning: {line}")
    total = pack.steps_per_epoch * config.epochs
    if config.warmup_steps >= total:
        console.print(f"warning: warmup_steps: {config.warmup_steps} is not less than the run's {total} steps")
    images = sum(not photo.is_reg for photo in dataset.photos)
    where = f"from epoch {run.epoch}" if run.epoch else "from the start"
    part = (
        ""
        if config.steps_per_epoch is None
        else f" ({pack.steps_per_epoch / pack.steps_per_pass:.3g} passes over them)"
    )
    console.print(
        f"{base.family.name} on {crew.device}: {images} photos, {pack.steps_per_epoch} steps an epoch{part}, "
        f"{config.epochs} epochs, {where}" + (f", into {folder}" if keep else "")
    )
    return pack, run


def _tell_what_takes_no_effect(config: TrainConfig, base: Base, dataset: Dataset, console: Console) -> None:
    if config.clip_skip is not None and not base.family.uses_clip_skip:
        console.print(f"note: clip_skip: {config.clip_skip} takes no effect: {base.family.name} has its layer fixed")
    for key, value in (
        ("min_snr_gamma", config.min_snr_gamma),
        ("debiased_estimation_loss", config.debiased_estimation_loss or None),
    ):
        untold = value is not None and config.family != base.family.name
        if untold and not base.family.weighs_timesteps:
            console.print(f"note: {key}: {value} takes no effect: {base.family.name} matches flows")
    captions = [photo.caption for photo in dataset.photos if not photo.is_reg]
    for key, word in (("trigger", config.trigger), ("class_word", config.class_word)):
        if word and not any(word.lower() in caption.lower() for caption in captions):
            console.print(f"note: {key}: {word!r} takes no effect: every photo has a caption, and none contains it")
    scheduler = base.noise_scheduler.config
    if scheduler.get("rescale_betas_zero_snr") and scheduler.get("prediction_type") == "epsilon":
        console.print("warning: the base predicts epsilon at zero terminal SNR: its noisiest step says nothing")
    long = count_long_prompts(base, [photo.caption for photo in dataset.photos])
    if long:
        console.print(f"warning: {long} captions are longer than the text encoder reads: the end of them is cut off")


class _Sampler:
    """Draws `sample_prompts` into samples/: `trainer.inference.sample_files`."""

    def __init__(self, pack: Pack, config: TrainConfig, output: Output, folder: Path, cache: Path) -> None:
        self._pack, self._config, self._output, self._folder = pack, config, output, folder
        self._cache = LatentCache(pack.base, cache)

    def due(self, epoch: int) -> bool:
        every = self._output.sample_every_n_epochs or self._config.save_every_n_epochs
        return epoch % every == 0 or epoch in (self._output.ship_epoch, self._config.epochs)

    def draw(self, epoch: int, run: Run | None) -> None:
        """Samples of the run as it stands, or of the base alone."""
        output = self._output
        if not output.sample_prompts:
            return
        factor = self._pack.base.latent_factor * 2
        width, height = (max(factor, side // factor * factor) for side in self._config.size)
        notes = [
            SampleNote(
                epoch,
                prompt,
                output.sample_seed + index,
                output.sample_negative,
                output.sample_steps,
                output.sample_guidance,
                output.sample_scheduler,
            )
            for index, prompt in enumerate(output.sample_prompts)
        ]
        images = sample(
            self._pack.base,
            None if run is None else run.lora_weights(),
            output.sample_prompts,
            [note.seed for note in notes],
            size=(width, height),
            steps=output.sample_steps,
            guidance=output.sample_guidance,
            scheduler=output.sample_scheduler,
            negative=output.sample_negative,
            clip_skip=self._config.clip_skip,
            cache=self._cache,
        )
        write_samples(self._folder / "samples", images, notes)


def _row(run: Run, watch: Watch) -> dict[str, object]:
    """An epoch's row of log.csv."""
    return {
        "epoch": run.epoch,
        "step": run.step,
        "loss": f"{run.last_loss:.6f}",
        "learning_rate": f"{run.learning_rate:.6g}",
        "seconds": f"{watch.seconds:.2f}",
        "memory_gib": f"{memory_gib(watch.pack.base):.3f}",
    }


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="onset-dry-run-") as path:
        yield Path(path)


@contextlib.contextmanager
def _readable_failures() -> Iterator[None]:
    """Running out of memory becomes one line that says what to try."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainerError(
            "out of memory: try a smaller batch_size, gradient_checkpointing: true, a smaller resolution, "
            f"precision: bf16 or quantize: nf4 ({str(error).splitlines()[0][:120]})"
        ) from error

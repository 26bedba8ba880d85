"""Run by sd-scripts' interpreter: its own training script trains an export of ours, with our noise, in our order.

Its U-Net's widths are set to those of the small base. What it draws at random is replaced: the noise, offsets and
timesteps inside `get_noise_noisy_latents_and_timesteps`, and the order of photos. Everything else is its own. Imports
nothing of ours.
"""

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(checkout))
    asked = json.loads((work / "asked.json").read_text(encoding="utf-8"))
    _narrow(asked["widths"])
    (work / "found.json").write_text(json.dumps(_train(asked)), encoding="utf-8")


def _narrow(widths: list[int]) -> None:
    from library import original_unet

    original_unet.BLOCK_OUT_CHANNELS = tuple(widths)
    original_unet.TIMESTEP_INPUT_DIM = widths[0]
    original_unet.TIME_EMBED_DIM = 4 * widths[0]


def _train(case: dict) -> dict:
    import torch
    from library import train_util
    from safetensors.torch import load_file

    script = importlib.import_module(case["script"].removesuffix(".py"))
    os.chdir(case["folder"])
    sys.argv = [case["script"], "--config_file=config.toml", *case["more"]]
    parser = script.setup_parser()
    arguments = parser.parse_args()
    train_util.verify_command_line_training_args(arguments)
    arguments = train_util.read_config_from_file(arguments, parser)

    losses: list[list[float]] = []
    draws = _Draws(load_file(case["draws"]))

    class Recorder(train_util.LossRecorder):
        def add(self, *, epoch: int, step: int, loss: float) -> None:
            super().add(epoch=epoch, step=step, loss=loss)
            while len(losses) <= epoch:
                losses.append([])
            losses[epoch].append(loss)

    own_draw = train_util.get_noise_noisy_latents_and_timesteps

    def draw(args, noise_scheduler, latents):
        with draws.given():
            return own_draw(args, noise_scheduler, latents)

    def in_our_order(dataset) -> None:
        order = case["order"][max(dataset.current_epoch - 1, 0)]
        keys = {str(Path(info.absolute_path).resolve()): key for key, info in dataset.image_data.items()}
        dataset.bucket_manager.buckets[0] = [keys[path] for batch in order for path in batch]
        dataset.buckets_indices.sort(key=lambda index: index.batch_index)

    class InOrder(torch.utils.data.DataLoader):
        def __init__(self, photos, *args, shuffle: bool = False, collate_fn, **more) -> None:
            super().__init__(photos, *args, shuffle=False, collate_fn=collate_fn, **more)
            if not hasattr(photos, "set_current_epoch"):  # an empty list, of validation
                return
            own_item = type(photos).__getitem__

            def item(group, index: int):
                # its collator tells the epoch only after an epoch's first batch was read in the order of the one before
                group.set_current_epoch(collate_fn.current_epoch.value)
                return own_item(group, index)

            type(photos).__getitem__ = item

    train_util.LossRecorder = Recorder
    train_util.get_noise_noisy_latents_and_timesteps = draw
    train_util.BaseDataset.shuffle_buckets = in_our_order
    torch.utils.data.DataLoader = InOrder
    script.NetworkTrainer().train(arguments)
    return {"losses": losses, "draws left": draws.left}


class _Draws:
    """Our draws in the order of the batches; `given` hands them out in place of torch's own."""

    def __init__(self, tensors: dict) -> None:
        self._tensors = tensors
        self._batch = -1

    @property
    def left(self) -> int:
        return sum(int(name.split("/")[0]) > self._batch for name in self._tensors)

    def given(self):
        from contextlib import ExitStack
        from unittest import mock

        import torch

        self._batch += 1
        normals = iter(("noise", "perturbation"))
        stack = ExitStack()
        for name, answer in (
            ("randn_like", lambda like, **_: self._take(next(normals), like.shape)),
            ("randn", lambda shape, **_: self._take("offset", shape)),
            ("rand", lambda *_, **__: self._take("strength", (1,))),
            ("randint", lambda _, __, shape, **___: self._take("timesteps", shape)),
        ):
            stack.enter_context(mock.patch.object(torch, name, answer))
        return stack

    def _take(self, name: str, shape):
        tensor = self._tensors[f"{self._batch}/{name}"]
        assert tuple(tensor.shape) == tuple(shape), f"{name}: {tuple(tensor.shape)} for {tuple(shape)}"
        return tensor.clone()


if __name__ == "__main__":
    main()

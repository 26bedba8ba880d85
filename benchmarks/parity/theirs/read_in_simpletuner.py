"""Part of `save_in_simpletuner.py`: SimpleTuner's own loader of configurations and datasets reads our exports."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

from saving import exported, lost, unlike


def exports(work: Path) -> list[str]:
    """What of them is refused, lost or read as something else."""
    wrong = []
    for file in exported(work, "config.json"):
        os.environ["CONFIG_PATH"] = str(file)
        os.chdir(file.parent)
        try:
            wrong += [f"{file.parent.name}: {one}" for one in _read(file)]
        except (ValueError, OSError) as error:  # how it refuses one
            wrong.append(f"{file.parent.name}: it stops: {error}")
    return wrong


def _read(file: Path) -> list[str]:
    from simpletuner.helpers.configuration.loader import load_config

    written = json.loads(file.read_text(encoding="utf-8"))
    args = load_config(exit_on_error=True)
    found = [*lost(written, vars(args)), *_optimizer(file, args)]
    _settle(args)
    return list(dict.fromkeys([*found, *lost(written, vars(args)), *_backends(file, args)]))


def _optimizer(file: Path, args) -> list[str]:
    """What `Trainer.init_optimizer` and `init_lr_scheduler` make of the options."""
    import torch
    from simpletuner.helpers.training.custom_schedule import get_lr_scheduler
    from simpletuner.helpers.training.optimizer_param import (
        convert_arg_to_parameters,
        cpu_offload_optimizer,
        determine_optimizer_class_with_config,
        is_lr_scheduler_disabled,
    )

    settings, kind = determine_optimizer_class_with_config(
        args, False, args.is_quantized, args.weight_dtype == torch.bfloat16
    )
    made = cpu_offload_optimizer(
        params_to_optimize=[torch.nn.Parameter(torch.zeros(1))],
        optimizer_cls=kind,
        optimizer_parameters={"lr": args.learning_rate, **settings},
        fused=args.fuse_optimizer,
        offload_gradients=args.optimizer_offload_gradients,
        offload_mechanism=args.optimizer_cpu_offload_method,
    )
    dropped = [f"optimizer_config: {key}: its {kind.__name__} does not take this"
               for key in convert_arg_to_parameters(args).keys() - settings.keys()]  # fmt: skip
    if is_lr_scheduler_disabled(args.optimizer):
        return [*dropped, *unlike(file, made, None, args.max_train_steps)]
    one = SimpleNamespace(num_processes=1)
    schedule = get_lr_scheduler(args, made, one, SimpleNamespace(info=print, warning=print), global_step=0)
    return [*dropped, *unlike(file, made, schedule, args.max_train_steps)]


def _settle(args) -> None:
    """Lets the model of this family change options, as it does before it is loaded."""
    from simpletuner.helpers.models.registry import ModelRegistry

    kind = ModelRegistry.get(args.model_family)
    model = object.__new__(kind.get_real_class() if hasattr(kind, "get_real_class") else kind)
    model.config = args
    model.check_user_config()


def _backends(file: Path, args) -> list[str]:
    """The datasets as `FactoryRegistry` makes them: their options, and each photo with its caption."""
    from simpletuner.helpers.data_backend.config import create_backend_config
    from simpletuner.helpers.data_backend.factory import FactoryRegistry, init_backend_config
    from simpletuner.helpers.prompts import PromptHandler
    from simpletuner.helpers.training.multi_process import rank_info
    from simpletuner.helpers.training.state_tracker import StateTracker

    captions = json.loads(file.with_name("expected.json").read_text(encoding="utf-8"))["captions"]
    one = SimpleNamespace(is_main_process=True, is_local_main_process=True, num_processes=1, process_index=0)
    factory, found, seen = FactoryRegistry(args, one, None, None, None), [], set()
    for backend in factory.load_configuration():
        written = dict(backend)
        create_backend_config(dict(backend), vars(args)).validate(vars(args))
        if backend["dataset_type"] != "image":
            continue
        factory._handle_resolution_conversion(backend)
        made = init_backend_config(backend, args, one)
        if written["resolution_type"] == "pixel_area":
            written |= {"resolution": written["resolution"] ** 2 / 1e6, "resolution_type": "area"}
        read = made["config"]
        found += lost({key: value for key, value in written.items() if key in read}, read, "backend.")
        StateTracker.set_data_backend_config(made["id"], read)
        factory._configure_backend_by_type(backend, made)
        factory._configure_metadata_backend(backend, made)
        made["metadata_backend"].refresh_buckets(rank_info())
        kept = [
            str(path) for bucket in made["metadata_backend"].aspect_ratio_bucket_indices.values() for path in bucket
        ]
        texts, _, paths = PromptHandler.get_all_captions(
            data_backend=made["data_backend"],
            instance_data_dir=made["instance_data_dir"],
            prepend_instance_prompt=False,
            instance_prompt=backend.get("instance_prompt"),
            use_captions=backend["caption_strategy"] != "instanceprompt",
            caption_strategy=read["caption_strategy"],
            return_image_paths=True,
        )
        for path, text in zip(map(str, paths), texts, strict=True):
            right = captions.get(path)
            if text.strip() != right and "caption_shuffle" not in backend:
                found.append(f"{path}: caption {right!r} becomes {text!r}")
        seen |= {*map(str, paths)} & {*kept}
    return [*found, *(f"{path}: not read" for path in captions.keys() - seen)]

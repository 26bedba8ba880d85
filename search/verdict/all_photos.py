"""Where the epoch to ship lies when a run is trained on all photos, those held out by the search among them."""

from trainer.config.config import TrainConfig


def same_point(epoch: int, trained: int, held: int) -> tuple[int, int]:
    """First and last epoch between which a run on all photos is where the search's run was at `epoch`.

    The onset in optimizer steps grows as N^a with a between 0.5 and 1, and an epoch has N times as many steps.

    Args:
        trained, held: numbers of photos trained on and held out by the search.
    """
    if trained <= 0:
        return epoch, epoch
    return max(1, round(epoch * (trained / (trained + held)) ** 0.5)), epoch


def on_all_photos(config: TrainConfig, photos: tuple[int, int] | None) -> TrainConfig:
    """A search's config for a run on all photos, whose epochs are the same part of a pass over the photos.

    Args:
        photos: (numbers of photos trained on and held out by the search).
    """
    trained, held = photos or (0, 0)
    if not trained or config.steps_per_epoch is None:
        return config
    steps = max(1, round(config.steps_per_epoch * (trained + held) / trained))
    return config.model_copy(update={"steps_per_epoch": steps})


def in_passes(config: TrainConfig, epoch: int | None, photos: tuple[int, int] | None) -> tuple[TrainConfig, int | None]:
    """A final run's config and epoch to ship, counted in passes over all photos as every trainer counts, or in epochs
    of as many steps as before, where it has those.

    Args:
        epoch: with as many steps as a pass over the photos that its twin was trained on.
        photos: (numbers of photos trained on by the twin, held out of it).
    """
    trained, held = photos or (0, 0)
    if not trained or config.steps_per_epoch is not None:
        return config, epoch

    def passes(epochs: int) -> int:
        return max(1, round(epochs * trained / (trained + held)))

    fields = {
        name: passes(value)
        for name in ("epochs", "cycle_epochs", "save_every_n_epochs")
        if (value := getattr(config, name)) is not None
    }
    return config.model_copy(update=fields), None if epoch is None else min(passes(epoch), fields["epochs"])


def compare_text(first: int, last: int) -> str:
    """`compare …`, for the verdict and for every exported file alike."""
    return f"compare epochs {first} to {last}: with more photos the best epoch may come a little earlier"

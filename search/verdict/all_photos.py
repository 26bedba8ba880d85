"""Where the epoch to ship lies when a run is trained on all photos, those held out by the search among them."""


def same_point(epoch: int, trained: int, held: int) -> tuple[int, int]:
    """First and last epoch between which a run on all photos is where the search's run was at `epoch`.

    The onset in optimizer steps grows as N^a with a between 0.5 and 1, and an epoch has N times as many steps.

    Args:
        trained, held: numbers of photos trained on and held out by the search.
    """
    if trained <= 0:
        return epoch, epoch
    return max(1, round(epoch * (trained / (trained + held)) ** 0.5)), epoch


def compare_text(first: int, last: int) -> str:
    """`compare …`, for the verdict and for every exported file alike."""
    return f"compare epochs {first} to {last}: with more photos the best epoch may come a little earlier"

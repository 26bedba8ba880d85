"""Statistics of held-out losses: ln ratio to the base over images, noise levels and draws, by band of noise."""

import numpy as np

from metrics.errors import MetricsError

BANDS = ("high", "mid", "low")


def log_ratios(losses: np.ndarray, base_losses: np.ndarray) -> np.ndarray:
    """ln L - ln L_0 of each image, noise level and draw: `[N, levels, draws]`, larger is worse, 0 is the base.

    Raw losses of different noise levels differ a hundredfold, so the ratio is taken first and the mean after it; the
    same images, levels and noises as in the base make the ratios a hundred times quieter than the losses.

    Args:
        losses, base_losses: unweighted MSE `[N, levels, draws]`, the same noise and timesteps in both.

    Raises:
        MetricsError: shapes differ.

    >>> import numpy as np
    >>> base = np.ones((1, 3, 1))
    >>> log_ratios(np.exp([[[0.0], [-0.5], [0.25]]]), base)[0, :, 0].round(3).tolist()
    [0.0, -0.5, 0.25]
    """
    if np.shape(losses) != np.shape(base_losses) or np.ndim(losses) != 3:
        raise MetricsError(
            f"losses of shape {np.shape(losses)} against {np.shape(base_losses)} of the base: "
            "equal [N, levels, draws] are needed"
        )
    tiny = np.finfo(np.float64).tiny
    current, base = (np.maximum(np.asarray(array, np.float64), tiny) for array in (losses, base_losses))
    return np.log(current) - np.log(base)


def noise_bands(ratios: np.ndarray) -> dict[str, np.ndarray]:
    """The same by band of noise: name to `[N]`, means over levels and draws.

    High noise decides pose and background and overfits first (T-LoRA, arXiv 2507.05964).

    Args:
        ratios: `[N, levels, draws]`, levels ascending in noise; fewer than three levels give empty bands, which are
            left out.

    >>> import numpy as np
    >>> {name: each.tolist() for name, each in noise_bands(np.array([[[-0.1], [-0.2], [0.3]]])).items()}
    {'high': [0.3], 'mid': [-0.2], 'low': [-0.1]}
    """
    low, mid, high = np.array_split(np.arange(ratios.shape[1]), 3)
    parts = {"high": high, "mid": mid, "low": low}
    return {name: ratios[:, parts[name]].mean(axis=(1, 2)) for name in BANDS if len(parts[name])}

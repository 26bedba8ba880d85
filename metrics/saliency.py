"""What is the subject of a picture, without any model: robust background detection over superpixels."""

import numpy as np


def subject_saliency(image: np.ndarray, *, side: int = 128) -> np.ndarray:
    """How much each place belongs to the subject: float32 `[h, w]` in [0, 1], the longer side `side` pixels.

    Superpixels that reach the border through little change of colour are background; the rest is subject where it also
    differs from the background; both are reconciled by least squares on the superpixels' graph. Source: Zhu, Liang, Wei
    and Sun, Saliency Optimization from Robust Background Detection, CVPR 2014.

    Args:
        image: uint8 `[H, W, 3]`.
    """
    from PIL import Image
    from skimage.color import rgb2lab
    from skimage.segmentation import slic

    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.asarray(
        Image.fromarray(image).resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX)
    )
    lab = rgb2lab(small)
    labels = slic(lab, n_segments=250, compactness=12, channel_axis=-1, convert2lab=False, start_label=0)
    scores = _optimised(lab, labels)
    picture = scores[labels]
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low + 1e-9)).astype(np.float32)


def _optimised(lab: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Saliency of each superpixel, `[S]`."""
    from scipy.sparse.csgraph import dijkstra

    count = labels.max() + 1
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count).astype(float)
    colour = np.stack([np.bincount(flat, lab[..., axis].ravel(), count) for axis in range(3)], axis=1) / area[:, None]
    rows, columns = np.indices(labels.shape)
    extent = max(labels.shape)
    position = (
        np.stack([np.bincount(flat, grid.ravel() / extent, count) for grid in (columns, rows)], axis=1) / area[:, None]
    )
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    border_length = np.bincount(edge, minlength=count).astype(float)

    apart = np.sqrt(((colour[:, None] - colour[None]) ** 2).sum(axis=-1))
    adjacent = np.zeros((count, count), bool)
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        adjacent[first.ravel(), second.ravel()] = True
    adjacent |= adjacent.T
    np.fill_diagonal(adjacent, False)
    neighbours = adjacent.copy()
    on_border = border_length > 0
    adjacent |= on_border[:, None] & on_border[None]  # the border is one piece of background, whatever lies on it
    np.fill_diagonal(adjacent, False)

    # small steps of colour are texture or shading: they cost nothing on the way to the border
    texture = np.where(neighbours, apart, np.inf).min(axis=1)
    steps = np.where(adjacent, np.maximum(apart - np.median(texture[np.isfinite(texture)]), 0) + 1e-6, 0)
    geodesic = dijkstra(steps, directed=False)
    similar = np.exp(-(geodesic**2) / (2 * 10.0**2))
    connectivity = (similar @ border_length) / np.sqrt(similar @ area)
    background = 1 - np.exp(-(connectivity**2) / 2)

    near = np.exp(-((position[:, None] - position[None]) ** 2).sum(axis=-1) / (2 * 0.4**2))
    contrast = (apart * near) @ (background * area) / ((near @ (background * area)) + 1e-9)
    foreground = contrast * (1 - background)
    foreground /= foreground.max() + 1e-9

    smooth = np.where(neighbours, np.exp(-(apart**2) / (2 * 10.0**2)) + 0.1, 0)
    laplacian = np.diag(smooth.sum(axis=1)) - smooth
    return np.linalg.solve(laplacian + np.diag(background + foreground + 1e-6), foreground)

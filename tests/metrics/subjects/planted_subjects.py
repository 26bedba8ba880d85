"""Pictures of a toy whose true masks are known because it was planted."""

import numpy as np


def planted(
    count: int, *, size: tuple[int, int] = (64, 64), seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A red-and-yellow toy somewhere on checkered and plain floors under a sky, and its true masks."""
    generator = np.random.default_rng(seed)
    images, truths = [], []
    rows, columns = np.indices(size) / size[0]
    for number in range(count):
        sky, floor, tile = generator.uniform(60, 220, (3, 3))
        image = np.where(rows[..., None] < 0.4, sky, floor)
        if number % 2:
            checks = (np.floor(rows * 8) + np.floor(columns * 8)) % 2 == 1
            image = np.where((checks & (rows >= 0.4))[..., None], tile, image)
        x, y = generator.uniform(0.3, size[1] / size[0] - 0.3), generator.uniform(0.4, 0.7)
        body = (rows - y) ** 2 + (columns - x) ** 2 < 0.16**2
        hat = (np.abs(rows - y + 0.2) < 0.08) & (np.abs(columns - x) < 0.1)
        image = np.where(body[..., None], (215, 30, 40), image)
        image = np.where(hat[..., None], (240, 215, 40), image)
        images.append(np.clip(image + generator.normal(0, 4, (*size, 3)), 0, 255).astype(np.uint8))
        truths.append(body | hat)
    return images, truths

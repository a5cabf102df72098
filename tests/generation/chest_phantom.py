"""A small chest in HU: two unequal lungs with vessels and noise, a spine behind, a heart to the left."""

import numpy as np
from scipy import ndimage


def chest_phantom(spacing=(1.5, 1.5, 2.0), seed=0):
    """HU (i, j, k), int16, along right, front, up, and the affine to RAS mm; the origin is amid the chest."""
    size_mm = np.array([240.0, 160.0, 80.0])
    shape = np.round(size_mm / spacing).astype(int)
    x, y, z = (
        ((np.arange(n) - (n - 1) / 2) * s).reshape([-1 if axis == own else 1 for axis in range(3)])
        for own, (n, s) in enumerate(zip(shape, spacing, strict=True))
    )

    def ellipse(cx, cy, rx, ry, taper=0.0):
        scale = 1 - taper * z / size_mm[2]
        return ((x - cx) / (rx * scale)) ** 2 + ((y - cy) / (ry * scale)) ** 2 <= 1

    hounsfield = np.full(shape, -1000.0)
    hounsfield[np.broadcast_to(ellipse(0, 0, 112, 72), shape)] = -90
    hounsfield[np.broadcast_to(ellipse(0, 0, 104, 65), shape)] = 40
    right = np.broadcast_to(ellipse(52, 2, 42, 54, 0.3), shape)
    left = np.broadcast_to(ellipse(-54, -4, 36, 50, 0.3), shape) & ~ellipse(-24, 20, 30, 28)
    hounsfield[right | left] = -850
    hounsfield[np.broadcast_to(ellipse(0, -52, 14, 12), shape)] = 300
    rng = np.random.default_rng(seed)
    vessels = np.zeros(shape, dtype=bool)
    for side in (1, -1):
        for _ in range(14):
            point, step = np.array([side * 16.0, 0.0, 0.0]), rng.normal(size=3) * (1, 1, 0.7) + (side * 0.8, 0, 0)
            for radius in np.linspace(2.6, 0.7, 40):
                step = step + rng.normal(size=3) * 0.25
                point = point + 2.0 * step / np.linalg.norm(step)
                index = np.round(point / spacing + (shape - 1) / 2).astype(int)
                reach = np.ceil(radius / np.array(spacing)).astype(int)
                low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, shape)
                if (low >= high).any():
                    break
                box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
                grid = np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij")
                off = (np.stack(grid, -1) - index) * spacing
                vessels[box] |= np.linalg.norm(off, axis=-1) <= radius
    hounsfield[vessels & (right | left)] = 30
    hounsfield = ndimage.gaussian_filter(hounsfield, [0.7 / s for s in spacing]) + rng.normal(0, 18, shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(shape - 1) / 2 * spacing
    return np.rint(hounsfield).astype(np.int16), affine

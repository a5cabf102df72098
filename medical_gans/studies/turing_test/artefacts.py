"""Traces of the making that have nothing to do with anatomy, looked for before a reader's time is spent."""

from __future__ import annotations

import numpy as np
from scipy.stats import mannwhitneyu

_TELLING = 0.85
"""AUC of a single trace from which on the study is about it."""
_CHANCE = 0.001


def telling_artefacts(real: np.ndarray, generated: np.ndarray) -> list[str]:
    """Sentences on each trace by which alone most images can be told apart.

    Args:
        real: ``(n, rows, columns)`` grey values as the page shows them.
        generated: the same.
    """
    sentences = []
    found_in_generated = _traces(generated)
    for name, values in _traces(real).items():
        test = mannwhitneyu(values, found_in_generated[name])
        wins = test.statistic / (len(real) * len(generated))
        auc = max(wins, 1 - wins)
        if auc >= _TELLING and test.pvalue < _CHANCE:
            sentences.append(
                f"Real and generated images can be told apart by {name} alone (AUC {auc:.2f}). Readers may see it: "
                "improve the generator before they spend their time."
            )
    return sentences


def _traces(grey: np.ndarray) -> dict[str, np.ndarray]:
    """One number per image for each trace."""
    images = grey.astype(np.float64)
    across, down = np.abs(np.diff(images, axis=2)), np.abs(np.diff(images, axis=1))
    at_edge = sum(one.mean(axis=1) for one in (across[:, :, 0], across[:, :, -1], down[:, 0], down[:, -1])) / 4
    inside = (across.mean(axis=(1, 2)) + down.mean(axis=(1, 2))) / 2
    bends = [np.abs(np.diff(images, n=2, axis=axis)) for axis in (2, 1)]
    even = bends[0][:, :, ::2].mean(axis=(1, 2)) + bends[1][:, ::2].mean(axis=(1, 2))
    odd = bends[0][:, :, 1::2].mean(axis=(1, 2)) + bends[1][:, 1::2].mean(axis=(1, 2))
    return {
        "a frame along the edge": (at_edge + 1) / (inside + 1),
        "a grid of every second pixel": (even + 1) / (odd + 1),
        "fine noise": (bends[0].mean(axis=(1, 2)) + 1) / (inside + 1),
        "black of the window": (grey == 0).mean(axis=(1, 2)),
        "white of the window": (grey == 255).mean(axis=(1, 2)),
    }

"""Gamma pass rates by pymedphys (Low et al. 1998), repeatable and quick enough for gross errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from medical_gans.studies.radiotherapy.extra import pymedphys_gamma

CRITERIA = ((3.0, 3.0), (2.0, 2.0), (1.0, 1.0))
"""Percent of the prescription, and mm."""

_HIGHEST_GAMMA = 1.1  # the search stops there: a voxel that fails by more fails all the same


def gamma_pass_rate(
    reference: np.ndarray,
    evaluated: np.ndarray,
    spacing: float,
    criterion: tuple[float, float],
    prescription: float,
    *,
    points: int = 10_000,
    cutoff: float = 10.0,
    seed: int = 0,
) -> float:
    """Percent of voxels with a gamma of at most 1, global.

    Args:
        reference: dose in Gy, ``(x, y, z)``.
        evaluated: dose in Gy on the same grid.
        spacing: mm.
        criterion: percent of the prescription, and mm.
        prescription: Gy.
        points: voxels that are drawn at random.
        cutoff: percent of the prescription; voxels with less on the reference do not count.
        seed: of the drawing.

    Returns:
        Percent; ``nan`` where no voxel counts.

    Raises:
        SettingError: pymedphys is not installed.
    """
    if not (reference >= cutoff / 100 * prescription).any():
        return float("nan")
    axes = tuple(spacing * np.arange(size, dtype=np.float64) for size in reference.shape)
    with _numpy_seeded(seed), _quiet():
        found = pymedphys_gamma()(
            axes,
            np.asarray(reference, dtype=np.float64),
            axes,
            np.asarray(evaluated, dtype=np.float64),
            *criterion,
            lower_percent_dose_cutoff=cutoff,
            max_gamma=_HIGHEST_GAMMA,
            global_normalisation=prescription,
            skip_once_passed=True,
            random_subset=points,
        )
    judged = found[np.isfinite(found)]
    return float(100 * np.mean(judged <= 1)) if judged.size else float("nan")


@contextmanager
def _quiet() -> Iterator[None]:
    """pymedphys tells every step to the root logger."""
    root = logging.getLogger()
    root.addFilter(_is_warning)
    try:
        yield
    finally:
        root.removeFilter(_is_warning)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """pymedphys draws by numpy's global generator, which is left as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002

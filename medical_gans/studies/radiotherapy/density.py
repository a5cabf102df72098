"""From HU to density relative to water, by a table that the user can edit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.tables import read_table

SHIPPED = Path(__file__).with_name("density.csv")
COLUMNS = ("hounsfield", "relative_electron_density", "relative_stopping_power")
_NOTABLE_SHARE = 1e-4  # of the voxels of a body: less is a tooth or a noisy corner


@dataclass(frozen=True, eq=False)
class DensityTable:
    """Points of a CT calibration, between which values are interpolated linearly.

    Attributes:
        hounsfield: HU, ascending.
        electron: electron density relative to water, for photons.
        stopping: stopping power relative to water, for protons.
    """

    hounsfield: np.ndarray
    electron: np.ndarray
    stopping: np.ndarray

    @classmethod
    def read(cls, path: str | Path | None = None) -> DensityTable:
        """Read a CSV with the columns of `COLUMNS`; lines that begin with ``#`` are notes.

        Args:
            path: None takes the example that ships with the package.

        Raises:
            InputError: the file cannot be read, a column is missing, HU do not ascend, or a density is negative.
        """
        source = SHIPPED if path is None else Path(path)
        need = f"It needs a line '{','.join(COLUMNS)}' and below it at least two points with ascending HU."
        try:
            rows = read_table(source, COLUMNS, need)
            hounsfield, electron, stopping = (np.array([row.number(name) for row in rows]) for name in COLUMNS)
        except InputError as error:
            raise InputError(f"The density table {source} is not understood: {error}") from error
        points = np.array([hounsfield, electron, stopping])
        if points.shape[1] < 2 or not np.isfinite(points).all() or (np.diff(hounsfield) <= 0).any():
            raise InputError(f"The density table {source} has no usable points. {need}")
        if min(electron.min(), stopping.min()) < 0:
            raise InputError(f"The density table {source} holds a negative density. Correct the line.")
        return cls(hounsfield, electron, stopping)

    def electron_density(self, hounsfield: np.ndarray) -> np.ndarray:
        """Electron density relative to water in float32, shape as given."""
        return np.interp(hounsfield, self.hounsfield, self.electron).astype(np.float32)

    def stopping_power(self, hounsfield: np.ndarray) -> np.ndarray:
        """Proton stopping power relative to water in float32, shape as given."""
        return np.interp(hounsfield, self.hounsfield, self.stopping).astype(np.float32)

    def warnings(self, hounsfield: np.ndarray, body: np.ndarray) -> list[str]:
        """Say whether HU in a body leave the table.

        Args:
            hounsfield: HU ``(x, y, z)``.
            body: boolean, of the same shape.
        """
        inside = hounsfield[body]
        low, high = self.hounsfield[[0, -1]]
        sentences = []
        for beyond, side, end in ((inside < low, "below", low), (inside > high, "above", high)):
            share = np.count_nonzero(beyond) / max(inside.size, 1)
            if share > _NOTABLE_SHARE:
                sentences.append(
                    f"{share:.2%} of the body lies {side} {end:g} HU, where the density table ends, and takes the "
                    "density there. Extend the table, or check for metal and for HU that are off."
                )
        return sentences

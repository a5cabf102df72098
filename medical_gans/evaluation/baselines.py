"""The two synthetic CTs that need no network, to which every trained one is compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medical_gans.errors import InputError

_AIR_HU = -1024
_LARGEST_HU = 3071
_BINS = 256


def water(mask: np.ndarray) -> np.ndarray:
    """0 HU in the body and air around it.

    Args:
        mask: the body, `(x, y, z)`; every value but 0 counts.

    Returns:
        int16 HU of the same shape.
    """
    return np.where(mask != 0, 0, _AIR_HU).astype(np.int16)


@dataclass(frozen=True)
class IntensityLookup:
    """From MR intensity to HU, voxel by voxel.

    Each of 256 equal intervals of normalised MR intensity gets the median HU that training pairs have there:
    of all such tables the one with the smallest MAE on these pairs.

    Attributes:
        hounsfield: HU of each interval of [-1, 1], `(256,)` float32.
    """

    hounsfield: np.ndarray

    @classmethod
    def fit(cls, pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> IntensityLookup:
        """Build the table in one pass over `(mr, ct, mask)`, holding one pair at a time.

        Args:
            pairs: MR in [-1, 1] as `normalise_mr` makes it, CT in HU, and the mask of voxels to learn from,
                each `(x, y, z)` on one grid. Intervals that never occur get values from their neighbours.

        Raises:
            InputError: shapes differ, or no mask holds a voxel.
        """
        counts = np.zeros((_BINS, _LARGEST_HU - _AIR_HU + 1), dtype=np.int64)
        for mr, ct, mask in pairs:
            if not mr.shape == ct.shape == mask.shape:
                raise InputError(
                    f"MR, CT and mask of a pair must have one shape, "
                    f"got {mr.shape}, {ct.shape} and {mask.shape}: resample them to one grid."
                )
            inside = mask != 0
            hounsfield = np.rint(ct[inside]).clip(_AIR_HU, _LARGEST_HU).astype(np.int64)
            place = _interval(mr[inside]) * counts.shape[1] + hounsfield - _AIR_HU
            counts += np.bincount(place, minlength=counts.size).reshape(counts.shape)
        seen = np.flatnonzero(counts.any(axis=1))
        if not seen.size:
            raise InputError("The lookup table has no voxel to learn from: give pairs whose masks are not empty.")
        below = counts[seen].cumsum(axis=1)
        median = _AIR_HU + (2 * below >= below[:, -1:]).argmax(axis=1)
        return cls(np.interp(np.arange(_BINS), seen, median).astype(np.float32))

    def __call__(self, mr: np.ndarray) -> np.ndarray:
        """HU in float32 for MR intensities in [-1, 1], of the same shape."""
        hounsfield: np.ndarray = self.hounsfield[_interval(mr)]
        return hounsfield

    def state_dict(self) -> dict[str, list[float]]:
        """The table as plain numbers, fit for JSON and for a checkpoint."""
        return {"hounsfield": self.hounsfield.tolist()}

    @classmethod
    def from_state_dict(cls, state: dict[str, list[float]]) -> IntensityLookup:
        """The table that `state_dict` described.

        Raises:
            InputError: the state does not hold 256 numbers.
        """
        hounsfield = np.asarray(state.get("hounsfield", []), dtype=np.float32)
        if hounsfield.shape != (_BINS,):
            raise InputError(
                f"A lookup table holds {_BINS} HU values, got {hounsfield.size}: fit it again on the training pairs."
            )
        return cls(hounsfield)


def _interval(mr: np.ndarray) -> np.ndarray:
    index: np.ndarray = ((mr + 1) * (_BINS / 2)).astype(np.int64).clip(0, _BINS - 1)
    return index

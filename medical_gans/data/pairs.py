"""MR and CT of one patient, voxel by voxel comparable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io import Case, Volume, aligned_to, read_mask, read_volume
from medical_gans.transforms import body_mask
from medical_gans.transforms.reading import checked_ct, checked_mr


@dataclass(frozen=True, eq=False)
class Pair:
    """A patient whose true CT is known.

    Attributes:
        name: of the case.
        mr: scanner units.
        ct: HU, on the grid of the MR.
        mask: where the two may be compared, boolean, ``(i, j, k)`` as the MR is stored.
        notes: sentences: what was put right in the two.
    """

    name: str
    mr: Volume
    ct: Volume
    mask: np.ndarray
    notes: tuple[str, ...] = ()


def read_pair(case: Case) -> Pair:
    """Read a case that has an MR and a CT; where it has no mask, the body on the CT is taken.

    Raises:
        InputError: a file cannot be read, is not the MR or the CT in HU that it is given as, the images lie on
            different grids, or the mask is empty.
    """
    if case.mr is None or case.ct is None:
        raise InputError(f"{case.name} has no {'MR' if case.mr is None else 'CT'}: a pair needs both.")
    mr = checked_mr(read_volume(case.mr, modality="MR"))
    ct = aligned_to(mr, checked_ct(read_volume(case.ct, modality="CT")))
    if case.mask is None:
        mask = body_mask(ct.array, ct.spacing, "CT")
        if not mask.any():
            raise InputError(f"{case.ct} shows no body and there is no mask: check that it is a CT in HU.")
        return Pair(case.name, mr, ct, mask, (*mr.notes, *ct.notes))
    mask_volume = aligned_to(mr, read_mask(case.mask))
    return Pair(case.name, mr, ct, mask_volume.array, (*mr.notes, *ct.notes, *mask_volume.notes))

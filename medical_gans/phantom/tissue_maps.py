"""What MR sees at every voxel of a grid: relaxation, protons and susceptibility, for any field strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import Grid
from .phantom import Phantom
from .tissues import BONE, TISSUES, Tissue, table

# Relative to brain, ppm. Schenck, Med Phys 23:815 (1996); iron: Langkammer et al., NeuroImage 62:1593 (2012);
# veins: 55 % saturation, haematocrit 0.44, Haacke et al., MRM 52:612 (2004).
_SUSCEPTIBILITY = (
    dict.fromkeys((Tissue.AIR, Tissue.CAVITY_AIR), 9.4)
    | dict.fromkeys(BONE, 0.2)
    | {Tissue.DEEP_GREY_MATTER: 0.08, Tissue.WHITE_MATTER: -0.03, Tissue.CALCIFICATION: -1.0, Tissue.BLOOD: 0.4}
)
_TISSUES_AT_TESLA = 1.5
_T1_EXPONENT = 0.38  # of the field strength, Rooney et al., MRM 57:308 (2007)
_FLUID_T1_MS = 3000.0  # with a longer T1, water moves freely and its T1 does not depend on the field


class Substance(NamedTuple):
    """What MR sees of one tissue at 1.5 T: times in ms, protons relative to water, susceptibility in ppm."""

    t1: float
    t2: float
    t2_star: float
    proton_density: float
    susceptibility: float = 0.0


def substance_of(tissue: Tissue) -> Substance:
    """The entry of `TISSUES` with its susceptibility relative to brain."""
    found = TISSUES[tissue]
    return Substance(found.t1, found.t2, found.t2_star, found.proton_density, _SUSCEPTIBILITY.get(tissue, 0.0))


@dataclass(eq=False)
class TissueMaps:
    """Rates at 1.5 T in 1/ms, protons relative to water, susceptibility in ppm; float32 of the grid's shape.

    `reversible` is R2' = R2* - R2, which grows with the field strength (Peters et al., MRI 25:748, 2007).
    """

    grid: Grid
    longitudinal: NDArray[np.float32]
    transverse: NDArray[np.float32]
    reversible: NDArray[np.float32]
    proton_density: NDArray[np.float32]
    susceptibility: NDArray[np.float32]

    @classmethod
    def of(cls, phantom: Phantom, grid: Grid) -> TissueMaps:
        """The maps of a phantom at the voxel centres of the grid, with its texture in the proton density."""
        labels = phantom.tissues(grid)
        found = np.array([substance_of(tissue) for tissue in Tissue], dtype=np.float32).T
        t1, t2, t2_star, proton_density, susceptibility = found
        density = proton_density[labels]
        texture = proton_density * table("density_texture")
        for planes, points in grid.slabs():
            density[planes] += texture[labels[planes]] * phantom.texture(points).reshape(density[planes].shape)
        reversible = 1 / t2_star - 1 / t2
        return cls(grid, (1 / t1)[labels], (1 / t2)[labels], reversible[labels], density, susceptibility[labels])

    def fill(self, voxels: NDArray[np.intp], substance: Substance, share: float | NDArray[np.float32] = 1.0) -> None:
        """Give these voxels (indices into the flat map) the substance, or a share (0 to 1) of it."""
        for values, target in (
            (self.longitudinal, 1 / substance.t1),
            (self.transverse, 1 / substance.t2),
            (self.reversible, 1 / substance.t2_star - 1 / substance.t2),
            (self.proton_density, substance.proton_density),
            (self.susceptibility, substance.susceptibility),
        ):
            flat = values.reshape(-1)
            flat[voxels] += share * (np.float32(target) - flat[voxels])

    def relaxation(self, tesla: float) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """T1, T2 and T2* in ms at this field strength; T2 is taken not to depend on it."""
        ratio = np.float32(tesla / _TISSUES_AT_TESLA)
        t1 = np.reciprocal(self.longitudinal)
        np.multiply(t1, ratio ** np.float32(_T1_EXPONENT), out=t1, where=t1 < _FLUID_T1_MS)
        return t1, np.reciprocal(self.transverse), np.reciprocal(self.transverse + ratio * self.reversible)

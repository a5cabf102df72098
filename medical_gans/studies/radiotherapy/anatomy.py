"""A case brought to the dose grid, or refused because its two CT cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io import Case, Volume
from medical_gans.studies.radiotherapy.agreement import check_hounsfield, check_place
from medical_gans.studies.radiotherapy.density import DensityTable
from medical_gans.studies.radiotherapy.dose_grid import DoseGrid
from medical_gans.studies.radiotherapy.plans import Beams
from medical_gans.studies.radiotherapy.sources import DoseSources

AIR = 0.001
"""Density relative to water of whatever lies outside the body."""

_TOLD_OFFSET_MM = 1.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A case on the dose grid.

    Attributes:
        grid: of all arrays.
        hounsfield: HU of ``reference`` and ``synthetic``.
        densities: of the same, by modality and CT.
        body: boolean.
        target: boolean.
        organs: boolean masks by name.
        warnings: sentences.
    """

    grid: DoseGrid
    hounsfield: Mapping[str, np.ndarray]
    densities: Mapping[str, Mapping[str, np.ndarray]]
    body: np.ndarray
    target: np.ndarray
    organs: Mapping[str, np.ndarray]
    warnings: list[str]


@dataclass(frozen=True)
class AnatomyReading:
    """How cases become anatomies.

    Attributes:
        sources: of the images and structures.
        table: from HU to density.
        beams: that need densities.
        spacing: of the dose grid in mm.
        target_radius: mm, of the sphere in the middle of the body where no target is given.
        largest_offset: mm between the two CT, beyond which a case is refused.
    """

    sources: DoseSources
    table: DensityTable
    beams: Sequence[Beams]
    spacing: float
    target_radius: float
    largest_offset: float

    def __call__(self, case: Case) -> Anatomy:
        """Read a case, refuse what cannot be compared, and bring it to the dose grid.

        Raises:
            InputError: values are no HU, the two CT lie at different places, or a structure is not in the body.
        """
        reference, synthetic = self.sources.read_reference(case), self.sources.read_synthetic(case)
        bodies = check_hounsfield(reference, "reference CT"), check_hounsfield(synthetic, "synthetic CT")
        given = self.sources.read_body(case)
        outline = given or Volume(bodies[0], reference.affine, reference.source)
        grid = DoseGrid.around(outline.array, outline.affine, self.spacing)
        inside = grid.inside(outline)
        if given is None:
            inside |= grid.inside(Volume(bodies[1], synthetic.affine, synthetic.source))
        volumes = {"reference": reference, "synthetic": synthetic}
        warnings = [
            f"{name.capitalize()} CT: {sentence}"
            for (name, ct), body in zip(volumes.items(), bodies, strict=True)
            for sentence in self.table.warnings(ct.array, body)
        ]
        sampled = {
            one.modality: {
                name: grid.sample(one.density(self.table, ct.array), ct.affine, AIR) for name, ct in volumes.items()
            }
            for one in self.beams
        }
        seen = sampled[self.beams[0].modality]
        offset = check_place(seen["reference"], seen["synthetic"], grid.spacing, self.largest_offset)
        if np.linalg.norm(offset) > _TOLD_OFFSET_MM:
            shown = ", ".join(f"{value:+.1f}" for value in offset)
            warnings.append(f"The synthetic CT fits best {shown} mm to the right, front and head of the reference.")
        densities = {
            modality: {name: np.where(inside, density, np.float32(AIR)) for name, density in both.items()}
            for modality, both in sampled.items()
        }
        target = self._target(case, grid, inside, warnings)
        organs = {name: _in_body(grid.inside(m), inside, name) for name, m in self.sources.read_organs(case).items()}
        hounsfield = {name: grid.sample(ct.array, ct.affine, -1000.0) for name, ct in volumes.items()}
        return Anatomy(grid, hounsfield, densities, inside, target, organs, warnings)

    def _target(self, case: Case, grid: DoseGrid, body: np.ndarray, warnings: list[str]) -> np.ndarray:
        given = self.sources.read_target(case)
        if given is not None:
            return _in_body(grid.inside(given), body, "target")
        places = np.argwhere(body)
        nearest = places[np.argmin(np.square(places - places.mean(axis=0)).sum(axis=1))]
        warnings.append(
            f"No target was given: it is a sphere of {self.target_radius:g} mm radius in the middle of the body."
        )
        return grid.sphere(grid.first + grid.spacing * nearest, self.target_radius) & body


def _in_body(structure: np.ndarray, body: np.ndarray, name: str) -> np.ndarray:
    inside = structure & body
    if not inside.any():
        raise InputError(f"The structure {name} does not lie in the body of this CT. Check that it is of this patient.")
    return inside

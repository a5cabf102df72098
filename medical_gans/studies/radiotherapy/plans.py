"""A plan made on one CT and its dose on another, by the pencil-beam engines of pyRadPlan."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from medical_gans.errors import SettingError
from medical_gans.studies.radiotherapy.density import DensityTable
from medical_gans.studies.radiotherapy.dose_grid import DoseGrid
from medical_gans.studies.radiotherapy.extra import pyradplan

MODALITIES = ("photon", "proton")
_ENGINES = {"photon": "SVDPB", "proton": "HongPB"}
_WEIGHTS = {"target": 1000.0, "organ": 20.0, "body": 50.0}
_ORGAN_LIMIT, _BODY_LIMIT = 0.3, 0.5  # of the prescription

BeamDone = Callable[[str, int, int], None]
"""Called with what is computed, beams done and beams in all."""


@dataclass(frozen=True)
class Beams:
    """How a plan irradiates.

    Attributes:
        modality: ``photon`` (6 MV, fluence-modulated) or ``proton`` (scanned spots).
        gantry_angles: degrees, IEC 61217, for a patient on the back, head first.
        spacing: mm between beamlets or spots in the isocentre plane.

    Raises:
        SettingError: a value is out of range.
    """

    modality: str
    gantry_angles: Sequence[float]
    spacing: float = 5.0

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise SettingError(f"There is no plan with {self.modality!r}; choose from {' and '.join(MODALITIES)}.")
        if not self.gantry_angles or self.spacing <= 0:
            raise SettingError(
                f"A {self.modality} plan needs at least one gantry angle and a positive beamlet spacing."
            )

    def density(self, table: DensityTable, hounsfield: np.ndarray) -> np.ndarray:
        """What these beams see of a CT: electron density or stopping power, relative to water."""
        return table.electron_density(hounsfield) if self.modality == "photon" else table.stopping_power(hounsfield)


class Plan:
    """A plan that covers a target on a reference CT, normalised so that half of the target gets the prescription.

    Args:
        beams: how to irradiate.
        grid: of all arrays.
        density: of the reference CT as these beams see it, ``(x, y, z)``.
        body: boolean.
        target: boolean.
        organs: boolean masks by name.
        prescription: Gy.
        on_beam: told of each beam.

    Attributes:
        reference_dose: Gy on the reference CT.
    """

    def __init__(
        self,
        beams: Beams,
        grid: DoseGrid,
        density: np.ndarray,
        body: np.ndarray,
        target: np.ndarray,
        organs: Mapping[str, np.ndarray],
        prescription: float,
        on_beam: BeamDone | None = None,
    ) -> None:
        rt = pyradplan()
        self.beams = beams
        self.grid = grid
        self.body = body
        self.on_beam = on_beam
        self._structures = {"target": target, **organs}
        self._objectives = _objectives(organs, prescription)
        self._plan = _pyradplan_plan(beams, prescription)
        with _reported(on_beam, f"{beams.modality} plan"):
            steering_ct = rt.validate_ct(cube_hu=self._image(_hounsfield_of(density)))
            self._steering = rt.generate_stf(steering_ct, self._structure_set(steering_ct), self._plan)
            ct = rt.validate_ct(cube_hu=self._image(density))
            structures = self._structure_set(ct)
            influence = rt.calc_dose_influence(ct, structures, self._steering, self._engine())
            fluence = rt.fluence_optimization(ct, structures, self._steering, influence, self._engine())
        planned = influence.compute_result_ct_grid(fluence)["physical_dose"]
        unscaled = self._array(planned)
        scale = prescription / float(np.median(unscaled[target]))
        self._fluence = np.asarray(fluence) * scale
        self.reference_dose = unscaled * np.float32(scale)

    def dose(self, density: np.ndarray, name: str) -> np.ndarray:
        """Dose in Gy of this plan on another CT, float32 ``(x, y, z)``.

        Args:
            density: of that CT as the beams see it.
            name: of the CT, for the progress.
        """
        rt = pyradplan()
        ct = rt.validate_ct(cube_hu=self._image(density))
        with _reported(self.on_beam, f"{self.beams.modality} dose, {name}"):
            found = rt.calc_dose_forward(ct, self._structure_set(ct), self._steering, self._engine(), self._fluence)
        return self._array(found["physical_dose"])

    def _engine(self) -> Any:
        """The plan, told that images hold densities; pyRadPlan takes settings out of what it is given."""
        plan = self._plan.model_copy(deep=True)
        edges = dict.fromkeys("xyz", self.grid.spacing)
        plan.prop_dose_calc = {
            "engine": _ENGINES[self.beams.modality],
            "dose_grid": {"resolution": edges},
            "use_given_eq_density_cube": True,
        }
        return plan

    def _structure_set(self, ct: Any) -> Any:
        from pyRadPlan.cst import validate_voi

        kinds = {name: "TARGET" if name == "target" else "OAR" for name in self._structures} | {"body": "EXTERNAL"}
        volumes = [
            validate_voi(
                name=name,
                voi_type=kinds[name],
                mask=self._image(mask, np.uint8),
                grid=ct.grid,
                objectives=[self._objectives[name]],
            )
            for name, mask in {**self._structures, "body": self.body}.items()
        ]
        return pyradplan().validate_cst(vois=volumes, ct_image=ct)

    def _image(self, array: np.ndarray, dtype: Any = np.float64) -> Any:
        """SimpleITK image in LPS with axes along left, posterior, superior."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(np.ascontiguousarray(array[::-1, ::-1].T, dtype=dtype))
        x, y, z = self.grid.axes
        image.SetOrigin((-x[-1], -y[-1], z[0]))
        image.SetSpacing([self.grid.spacing] * 3)
        return image

    def _array(self, image: Any) -> np.ndarray:
        import SimpleITK as sitk

        return np.ascontiguousarray(sitk.GetArrayFromImage(image).T[::-1, ::-1], dtype=np.float32)


def _pyradplan_plan(beams: Beams, prescription: float) -> Any:
    rt = pyradplan()
    plan = rt.PhotonPlan() if beams.modality == "photon" else rt.IonPlan(radiation_mode="protons")
    plan.prescribed_dose = prescription
    plan.num_of_fractions = 1
    plan.prop_stf = {
        "gantry_angles": [float(angle) for angle in beams.gantry_angles],
        "couch_angles": [0.0] * len(beams.gantry_angles),
        "bixel_width": beams.spacing,
    }
    plan.prop_opt = {"problem": "nonlin_fluence", "solver": "scipy"}
    return plan


def _objectives(organs: Mapping[str, np.ndarray], prescription: float) -> dict[str, Any]:
    pyradplan()
    from pyRadPlan.optimization.objectives import SquaredDeviation, SquaredOverdosing

    found = {name: SquaredOverdosing(priority=_WEIGHTS["organ"], d_max=_ORGAN_LIMIT * prescription) for name in organs}
    found["target"] = SquaredDeviation(priority=_WEIGHTS["target"], d_ref=prescription)
    found["body"] = SquaredOverdosing(priority=_WEIGHTS["body"], d_max=_BODY_LIMIT * prescription)
    return found


def _hounsfield_of(density: np.ndarray) -> np.ndarray:
    """HU for which pyRadPlan's own table, the only one that its spot placement takes, gives this density."""
    from pyRadPlan.ct import default_hlut

    hounsfield, values = default_hlut()[1:].T  # the first two points have one density
    return np.interp(density, values, hounsfield)


@contextmanager
def _reported(on_beam: BeamDone | None, what: str) -> Iterator[None]:
    """Hand the progress of pyRadPlan on beam by beam, without bars of its own."""
    pyradplan()
    from pyRadPlan.core._progress import ProgressReport, ProgressReporter, observe_reports

    def told(report: Any) -> None:
        if on_beam is not None and isinstance(report, ProgressReport) and report.top is not None:
            on_beam(what, report.top.current, report.top.total or 0)

    log = logging.getLogger("pyRadPlan")
    level, shown = log.level, ProgressReporter.console_progress
    log.setLevel(logging.ERROR)  # it warns of every setting that it was given
    ProgressReporter.console_progress = False
    try:
        with observe_reports(told), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rays along an axis divide by zero, and that is meant
            yield
    finally:
        ProgressReporter.console_progress = shown
        log.setLevel(level)

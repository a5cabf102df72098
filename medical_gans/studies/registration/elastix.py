"""Registration by elastix (Klein et al. 2010), of the extra `register`: from images to where each voxel lies.

Everything is in RAS mm here; elastix counts in LPS.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from medical_gans.errors import InputError, SettingError

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_BENDING = "TransformBendingEnergyPenalty"
_METRICS = {"mutual_information": "AdvancedMattesMutualInformation", "correlation": "AdvancedNormalizedCorrelation"}


@dataclass(frozen=True, eq=False)
class Placed:
    """An image with its place.

    Attributes:
        array: ``(x, y, z)``.
        affine: ``(4, 4)``, voxel index to RAS mm.
    """

    array: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Schedule:
    """How elastix is run.

    Attributes:
        control_spacing: mm between the control points of the finest B-spline; each coarser level has twice that.
        levels: of resolution, for the rigid motion and for the B-spline.
        rigid_iterations: per level.
        iterations: per level, of the B-spline.
        samples: points that each iteration looks at.
        bending_weight: of the bending energy beside the mutual information.
        seed: of the points.
        threads: more than one and results differ in the last digits.
    """

    control_spacing: float = 25.0
    levels: int = 3
    rigid_iterations: int = 150
    iterations: int = 150
    samples: int = 2000
    bending_weight: float = 20.0
    seed: int = 0
    threads: int = 1


def require_extra() -> None:
    """Refuse a run that could not finish.

    Raises:
        SettingError: itk-elastix is missing.
    """
    _itk()


class Elastix:
    """Moves a CT onto an MR.

    Args:
        fixed: the MR.
        region: boolean on its grid, where images are compared.
        schedule: how.

    Raises:
        SettingError: itk-elastix is missing.
    """

    def __init__(self, fixed: Placed, region: np.ndarray, schedule: Schedule) -> None:
        self.itk = _itk()
        self.fixed, self.schedule = fixed, schedule
        self.mask = self._image(Placed(region.astype(np.uint8), fixed.affine))

    def rigid(self, moving: Placed, start: np.ndarray) -> np.ndarray:
        """The rigid motion ``(4, 4)``, point of the MR to point of the CT, that a start leads to.

        Raises:
            InputError: elastix lost the CT.
        """
        parameters = self._run([self.fixed], [moving], start, [self._rigid_stage()])
        numbers = [float(v) for v in parameters.GetParameterMap(0)["TransformParameters"]]
        centre = np.array([float(v) for v in parameters.GetParameterMap(0)["CenterOfRotationPoint"]])
        motion = np.eye(4)
        motion[:3, :3] = _euler(*numbers[:3])
        motion[:3, 3] = np.array(numbers[3:]) + centre - motion[:3, :3] @ centre
        return np.asarray(start @ _LPS @ motion @ _LPS)

    def deformable(self, moving: Placed, start: np.ndarray, guide: Placed | None = None) -> np.ndarray:
        """Where each voxel of the MR lies on the CT.

        Args:
            moving: the CT.
            start: rigid motion ``(4, 4)``.
            guide: synthetic CT on the grid of the MR, compared with the CT beside the MR.

        Returns:
            ``(x, y, z, 3)`` float32, points in RAS mm.

        Raises:
            InputError: elastix lost the CT.
        """
        metrics = ["mutual_information"] if guide is None else ["mutual_information", "correlation"]
        fixed = [self.fixed] if guide is None else [self.fixed, guide]
        parameters = self._run(fixed, [moving] * len(fixed), start, [self._spline_stage(metrics)])
        return self._where(parameters, moving, start)

    def _run(
        self, fixed: Sequence[Placed], moving: Sequence[Placed], start: np.ndarray, stages: Sequence[Mapping]
    ) -> Any:
        itk = self.itk
        method = itk.ElastixRegistrationMethod.New(self._image(fixed[0]), self._image(moving[0], start))
        for other_fixed, other_moving in zip(fixed[1:], moving[1:], strict=True):
            method.AddFixedImage(self._image(other_fixed))
            method.AddMovingImage(self._image(other_moving, start))
        method.SetFixedMask(self.mask)
        parameters = itk.ParameterObject.New()
        for stage in stages:
            parameters.AddParameterMap(stage)
        method.SetParameterObject(parameters)
        method.SetLogToConsole(False)
        method.SetNumberOfThreads(self.schedule.threads)
        try:
            method.UpdateLargestPossibleRegion()
        except RuntimeError as error:
            raise InputError(
                "elastix could not register the CT to the MR, most likely since they share too little. "
                f"Look at both, or raise reach. (It said: {' '.join(str(error).split())[-200:]})"
            ) from error
        return method.GetTransformParameterObject()

    def _where(self, parameters: Any, moving: Placed, start: np.ndarray) -> np.ndarray:
        transformix = self.itk.TransformixFilter.New(self._image(moving, start))
        transformix.SetTransformParameterObject(parameters)
        transformix.SetComputeDeformationField(True)
        transformix.SetLogToConsole(False)
        with TemporaryDirectory() as folder:  # it writes the field to a file as well
            transformix.SetOutputDirectory(folder)
            transformix.UpdateLargestPossibleRegion()
            field = self.itk.array_from_image(transformix.GetOutputDeformationField()).transpose(2, 1, 0, 3)
        moved = positions(self.fixed.array.shape, self.fixed.affine)
        moved += field * np.array([-1, -1, 1], dtype=np.float32)
        return transformed(moved, start)

    def _image(self, placed: Placed, start: np.ndarray | None = None) -> Any:
        """For elastix; a start moves the image by its geometry, so that no voxel is interpolated for it."""
        affine = _LPS @ (placed.affine if start is None else np.linalg.inv(start) @ placed.affine)
        kind = np.uint8 if placed.array.dtype == np.uint8 else np.float32
        image = self.itk.image_from_array(np.ascontiguousarray(placed.array.T.astype(kind)))
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing([float(edge) for edge in edges])
        image.SetOrigin([float(value) for value in affine[:3, 3]])
        image.SetDirection(self.itk.matrix_from_array(np.ascontiguousarray(affine[:3, :3] / edges)))
        return image

    def _rigid_stage(self) -> dict[str, list[str]]:
        stage = self._common(self.schedule.rigid_iterations)
        return stage | {
            "Registration": ["MultiResolutionRegistration"],
            "Transform": ["EulerTransform"],
            "Metric": [_METRICS["mutual_information"]],
            "AutomaticScalesEstimation": ["true"],
        }

    def _spline_stage(self, metrics: Sequence[str]) -> dict[str, list[str]]:
        weights = [1.0] * len(metrics) + [self.schedule.bending_weight]
        levels = self.schedule.levels
        stage = self._common(self.schedule.iterations)
        return stage | {
            "Registration": ["MultiMetricMultiResolutionRegistration"],
            "Transform": ["RecursiveBSplineTransform"],
            "Metric": [*(_METRICS[name] for name in metrics), _BENDING],
            "FinalGridSpacingInPhysicalUnits": [str(self.schedule.control_spacing)],
            "GridSpacingSchedule": [str(2**level) for level in reversed(range(levels))],
            **{f"Metric{number}Weight": [str(weight)] for number, weight in enumerate(weights)},
        }

    def _common(self, iterations: int) -> dict[str, list[str]]:
        edges = np.linalg.norm(self.fixed.affine[:3, :3], axis=0)
        coarse = [
            [str(max(1, round(2**level * edges.min() / edge))) for edge in edges]
            for level in reversed(range(self.schedule.levels))
        ]
        return {
            "FixedInternalImagePixelType": ["float"],
            "MovingInternalImagePixelType": ["float"],
            "UseDirectionCosines": ["true"],
            "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
            "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
            "ImagePyramidSchedule": [factor for level in coarse for factor in level],
            "NumberOfResolutions": [str(self.schedule.levels)],
            "Optimizer": ["AdaptiveStochasticGradientDescent"],
            "ASGDParameterEstimationMethod": ["DisplacementDistribution"],
            "AutomaticParameterEstimation": ["true"],
            "MaximumNumberOfIterations": [str(iterations)],
            "NumberOfHistogramBins": ["32"],
            "ImageSampler": ["RandomCoordinate"],
            "NewSamplesEveryIteration": ["true"],
            "NumberOfSpatialSamples": [str(self.schedule.samples)],
            "RandomSeed": [str(self.schedule.seed + 1)],
            "RequiredRatioOfValidSamples": ["0.05"],
            "Interpolator": ["LinearInterpolator"],
            "ResampleInterpolator": ["FinalLinearInterpolator"],
            "Resampler": ["DefaultResampler"],
            "HowToCombineTransforms": ["Compose"],
            "AutomaticTransformInitialization": ["false"],
            "WriteResultImage": ["false"],
            "ErodeMask": ["false"],
        }


def positions(shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """Points in RAS mm of all voxels, ``(x, y, z, 3)`` float32."""
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"), axis=-1)
    return transformed(index, affine)


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points ``(..., 3)`` moved by an affine ``(4, 4)``, float32."""
    moved: np.ndarray = (points @ matrix[:3, :3].T.astype(np.float32) + matrix[:3, 3].astype(np.float32)).astype(
        np.float32
    )
    return moved


def _euler(x: float, y: float, z: float) -> np.ndarray:
    """ITK's Euler angles in radians, which turn about y first, then x, then z."""
    return np.asarray(Rotation.from_euler("ZXY", [z, x, y]).as_matrix())


def _itk() -> Any:
    try:
        itk = importlib.import_module("itk")
        itk.ElastixRegistrationMethod  # noqa: B018 - itk loads its parts when they are named
    except (ImportError, AttributeError) as error:
        raise SettingError(
            f"Registration needs itk-elastix, which cannot be used here ({error}). "
            "Run pip install 'medical-gans[register]'."
        ) from error
    return itk

"""Lesions labelled on the FLAIR of some people, on the unlabelled T1 of others: where to look, what to learn from.

FLAIR and T1 show lesions with opposite signs, grey and white matter are nearly equal on one and far apart on the other,
but liquid is dark on both. So brains of different people are put onto each other by where there is liquid and where
there is not; a lesion then comes to lie in white matter beside the same ventricle, which tells where lesions are usual.
What is darker than white matter there is a first label of the T1's own lesions (`found`). The other way to labels: what
is dark there is made white matter, and lesions of others are painted (`healed`, `painted`).

All arrays are ``(x, y, z)``; affines lead to RAS mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FIELD_MM = 14.0  # smoothness of the sensitivity of coils
_WHITE_QUANTILE = {"T1": 0.8, "FLAIR": 0.5}  # of the brain: white matter is the brightest there, most of the rest here
_SOLID = {"T1": (0.42, 0.62), "FLAIR": (0.45, 0.75)}  # liquid below, tissue above, relative to white matter
_LEVELS_MM = ((6.0, 40), (3.0, 40))  # grids of the registration and iterations on each
_RIM_MM = 8.0  # about the brain
_SMOOTHING = 1.5  # voxels, of the deformation
_NEAR_MM, _NEAR_SHARE = 6.0, 0.08  # of lesions of others, which make lesions usual
_GRAIN_MM = {"T1": 2.0, "FLAIR": 1.0}  # that first labels are smoothed by
_SHARE = 0.3  # of dark or bright voxels around, from which there is a lesion
_BESIDE_MM = 2.5  # a voxel
_HEALTHY = 0.97  # of white matter, what is healed
_LESION_LIKE = 0.92  # of white matter: darker is a lesion on T1, where lesions are usual
_WIDER_MM = 10.0  # about where lesions of others lie: other diseases have theirs there
_BRIGHTEST = 0.98  # quantile of the tissue there, which a lesion is taken to have
_WAY_UP = 0.7  # from white matter to that: brighter is a lesion on FLAIR


@dataclass(frozen=True)
class Head:
    """An image with what tells its geometry.

    Attributes:
        image: relative to white matter, 0 outside of the brain.
        solid: share of tissue, the rest is liquid or not brain.
        white: signal of white matter, slowly changing with the coils; `image` times it is the image as it came.
        affine: of all.
    """

    image: np.ndarray
    solid: np.ndarray
    white: np.ndarray
    affine: np.ndarray


def head(image: np.ndarray, brain: np.ndarray, affine: np.ndarray, sequence: str) -> Head:
    """An image relative to its white matter, whose signal may change slowly over the head.

    Args:
        image: any scale.
        brain: where the brain is, with its liquid.
        affine: of both.
        sequence: ``FLAIR`` or ``T1``.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    level = np.quantile(image[brain], _WHITE_QUANTILE[sequence])
    first = image / level
    white = brain & ((first > 0.8) & (first < 1.3))
    sigma = _FIELD_MM / edges
    weight = ndimage.gaussian_filter(white.astype(np.float32), sigma)
    field = ndimage.gaussian_filter(np.where(white, first, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-3)
    field = np.where(weight > 0.02, field, 1.0)
    relative = np.where(brain, first / field, 0.0).astype(np.float32)
    low, high = _SOLID[sequence]
    solid = np.clip((relative - low) / (high - low), 0, 1).astype(np.float32)
    return Head(relative, solid, (level * field).astype(np.float32), affine)


def deformation(fixed: Head, moving: Head) -> sitk.Transform:
    """From places of `fixed` to those of `moving` that lie alike between liquid: affine, then diffeomorphic demons."""
    images = [_around_brain(as_itk(one.solid, one.affine)) for one in (fixed, moving)]
    start = sitk.CenteredTransformInitializer(
        *images, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    search = sitk.ImageRegistrationMethod()
    search.SetMetricAsMeanSquares()
    search.SetMetricSamplingStrategy(search.REGULAR)
    search.SetMetricSamplingPercentage(0.1)
    search.SetInterpolator(sitk.sitkLinear)
    search.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 100, relaxationFactor=0.6)
    search.SetOptimizerScalesFromPhysicalShift()
    search.SetShrinkFactorsPerLevel([3, 2])
    search.SetSmoothingSigmasPerLevel([4.0, 2.0])
    search.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    search.SetInitialTransform(start, inPlace=True)
    search.Execute(*images)
    field = None
    for spacing, iterations in _LEVELS_MM:
        here = _coarser(images[0], spacing)
        there = sitk.Resample(images[1], here, start, sitk.sitkLinear, 0.0)
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetStandardDeviations(_SMOOTHING)
        if field is None:
            field = demons.Execute(here, there)
        else:
            field = demons.Execute(here, there, sitk.Resample(field, here, sitk.Transform(), sitk.sitkLinear))
    both = sitk.CompositeTransform(3)
    both.AddTransform(start)
    both.AddTransform(sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64)))
    return both


def carried(image: np.ndarray, affine: np.ndarray, there: Head, transform: sitk.Transform) -> np.ndarray:
    """An image on the grid of `there`, linearly."""
    shape = as_itk(there.image, there.affine)
    return _array(sitk.Resample(as_itk(image.astype(np.float32), affine), shape, transform, sitk.sitkLinear, 0.0))


def usual(lesions: Sequence[np.ndarray], affine: np.ndarray) -> np.ndarray:
    """Where lesions are usual, bool: near to those that were carried here from other people.

    Args:
        lesions: share of lesion, 0 to 1, of each of them.
        affine: of all.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return ndimage.gaussian_filter(np.max(lesions, axis=0), _NEAR_MM / edges) > _NEAR_SHARE


def widened(where: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where lesions are usual and 10 mm around, bool, for lesions of another disease than the carried ones.

    Args:
        where: as `usual` gives it.
        affine: of it.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return ndimage.distance_transform_edt(~where, sampling=edges) <= _WIDER_MM


def bright_limit(flair: Head, where: np.ndarray) -> float:
    """Signal relative to white matter from which a voxel of FLAIR is likely a lesion.

    How bright lesions are differs between scanners: so the limit lies some way up from white matter to the brightest
    tissue of the image itself. Where there is hardly a lesion it comes out too low, so take the highest of several
    people of one scanner.

    Args:
        flair: as `head` gives it.
        where: lesions may lie.
    """
    tissue = flair.image[where & (flair.solid > 0.99)]
    return 1 + _WAY_UP * (float(np.quantile(tissue, _BRIGHTEST)) - 1)


def dark(t1: Head, where: np.ndarray) -> np.ndarray:
    """What is darker than white matter there, and no share of liquid; bool.

    Args:
        t1: as `head` gives it.
        where: lesions are usual.
    """
    return where & ~_beside_liquid(t1) & (t1.image < _LESION_LIKE)


def bright(flair: Head, where: np.ndarray, limit: float) -> np.ndarray:
    """What is brighter than `limit` there; bool. A share of liquid makes it darker, so none is left out for that.

    Args:
        flair: as `head` gives it.
        where: lesions may lie.
        limit: as `bright_limit` gives it.
    """
    return where & (flair.image > limit)


def found(image: Head, where: np.ndarray, sequence: str = "T1", limit: float | None = None) -> np.ndarray:
    """First labels of the own lesions of an image, bool: enough of a place is `dark` on T1, or `bright` on FLAIR.

    Args:
        image: as `head` gives it.
        where: lesions are usual.
        sequence: ``T1`` or ``FLAIR``.
        limit: of FLAIR; None: the image's own `bright_limit`.
    """
    edges = np.linalg.norm(image.affine[:3, :3], axis=0)
    if sequence == "T1":
        likely = dark(image, where)
    else:
        likely = bright(image, where, bright_limit(image, where) if limit is None else limit)
    near = ndimage.gaussian_filter(likely.astype(np.float32), _GRAIN_MM[sequence] / edges)
    return (near > _SHARE) & (image.solid > 0.5)


def healed(t1: Head, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The T1, relative to white matter, with white matter for what is `dark`.

    Args:
        t1: as `head` gives it.
        where: lesions are usual.
        rng: draws the grain.
    """
    share = np.clip(ndimage.gaussian_filter(dark(t1, where).astype(np.float32), 0.5) * 1.5, 0, 1) * ~_beside_liquid(t1)
    grain = ndimage.gaussian_filter(rng.standard_normal(t1.image.shape), 0.7)
    return ((1 - share) * t1.image + share * (_HEALTHY + 0.03 * grain / grain.std())).astype(np.float32)


def painted(
    t1: Head, base: np.ndarray, lesion: np.ndarray, strength: np.ndarray, darkness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lesions that are dark in white matter, and where they are.

    What was grey before stays as it is. Beside liquid that is no reason for healthy tissue: lesions reach the
    ventricles, and a voxel there shows a share of both.

    Args:
        t1: as `head` gives it.
        base: the same, healed.
        lesion: share of lesion, 0 to 1.
        strength: how much of a lesion each voxel is, by the FLAIR that it comes from; 1 is usual.
        darkness: what a usual lesion takes away from white matter.
    """
    solid = t1.solid > 0.5
    white = np.clip((base - 0.75) / 0.15, 0, 1) * solid
    taken = lesion * white * np.clip(strength, 0.3, 1.4) * darkness
    return (base * (1 - taken)).astype(np.float32), (lesion > 0.5) & solid & ((white > 0.5) | _beside_liquid(t1))


def _beside_liquid(t1: Head) -> np.ndarray:
    """Liquid, and where a voxel may show a share of it."""
    edges = np.linalg.norm(t1.affine[:3, :3], axis=0)
    return ndimage.distance_transform_edt(t1.solid >= 0.5, sampling=edges) <= _BESIDE_MM


def as_itk(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """An image as SimpleITK has it, in LPS mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lps = _LPS @ affine
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def _array(image: sitk.Image) -> np.ndarray:
    return np.ascontiguousarray(sitk.GetArrayFromImage(image).T)


def _around_brain(solid: sitk.Image) -> sitk.Image:
    """The part of an image that shows tissue, with a rim."""
    tissue = np.argwhere(sitk.GetArrayViewFromImage(solid) > 0.5)[:, ::-1]
    rim = np.ceil(_RIM_MM / np.array(solid.GetSpacing())).astype(int)
    low = np.maximum(tissue.min(0) - rim, 0)
    high = np.minimum(tissue.max(0) + 1 + rim, solid.GetSize())
    return sitk.RegionOfInterest(solid, (high - low).tolist(), low.tolist())


def _coarser(image: sitk.Image, spacing: float) -> sitk.Image:
    size = [max(1, round(n * edge / spacing)) for n, edge in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(image, spacing / 2)
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [spacing] * 3, image.GetDirection(), 0.0
    )

"""How far a registered pair can be trusted: figures, a verdict, and a mask for training.

Nothing here knows how the pair was registered, and no synthetic CT is asked: it errs where training is needed most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata

DENSE_BONE_HU = 600.0
"""Cortical bone: no fat, so dark in every MR sequence. Spongy bone below it holds marrow and may be bright, and so
does the rim of cortex, where a CT blurs bone into marrow."""
_BONE_HU = 250.0
_SOFT_HU = (-150.0, 150.0)
_AIR_HU = -300.0
_NEAR_MM = (3.0, 10.0)  # from dense bone, soft tissue that it is compared with
_LEAST_BONE_ML = 0.5
_BESIDE_MM = 8.0  # a shift at which cortex no longer lies on cortex
_DRAWN = 4000  # voxels of bone, and as many of soft tissue: a probability to within 0.01
_BLUR_MM = 5.0
_MR_CLASSES = 24
_HOUNSFIELD_EDGES = (-500, -150, -110, -80, -50, -20, 0, 20, 40, 60, 80, 120, 180, 250, 400, 700)
_VOLUME_RANGE = (0.5, 2.0)  # change of volume beyond which the deformation is not believed


@dataclass(frozen=True)
class Limits:
    """What a pair must reach.

    Attributes:
        cortex_lead: least `Agreement.cortex_lead`.
        outside: largest share of the MR's body that lies outside the body on the CT, within the CT's view.
        unseen: largest share of the MR's body that the CT does not cover.
        trusted: least share of the body within both views that is trusted.
        folded: largest share of the body where the deformation folds.
    """

    cortex_lead: float = 0.1
    outside: float = 0.08
    unseen: float = 0.5
    trusted: float = 0.8
    folded: float = 0.001


@dataclass(frozen=True)
class Agreement:
    """How well a CT lies on its MR.

    Attributes:
        dark_cortex: probability that a voxel of dense bone is darker on the MR than a voxel of soft tissue near it: 1
            where all cortex of the CT lies on dark, 0.5 by chance. None where the CT shows under 0.5 ml of it.
        cortex_lead: `dark_cortex` minus the median of its values with the CT shifted by 8 mm along each axis, both
            ways: how much better the bone lies than beside it, whatever the contrast of the MR. None as above.
        information: mutual information of the two in the body, nats.
        outside: share of the MR's body, within the CT's view, where the CT shows air.
        unseen: share of the MR's body that the CT does not cover.
        trusted: share of the body within both views that is trusted.
        folded: share of the body where the deformation folds.
        bone_ml: dense bone on the registered CT in the body, ml.
    """

    dark_cortex: float | None
    cortex_lead: float | None
    information: float
    outside: float
    unseen: float
    trusted: float
    folded: float
    bone_ml: float

    def refusals(self, limits: Limits) -> list[str]:
        """Why the pair is of no use for training, as sentences; none where it is."""
        reasons = []
        if self.cortex_lead is not None and self.cortex_lead < limits.cortex_lead:
            reasons.append(
                f"Bone of the CT does not lie on the dark cortex of the MR: it lies better by {self.cortex_lead:.2f} "
                f"than 8 mm beside, and {limits.cortex_lead:g} is needed."
            )
        if self.outside > limits.outside:
            reasons.append(
                f"{self.outside:.0%} of the body on the MR lies in air on the CT; {limits.outside:.0%} is allowed."
            )
        if self.unseen > limits.unseen:
            reasons.append(
                f"The CT does not cover {self.unseen:.0%} of the body on the MR; {limits.unseen:.0%} is allowed."
            )
        if self.trusted < limits.trusted:
            reasons.append(
                f"MR and CT tell the same story in only {self.trusted:.0%} of the body that both show; "
                f"{limits.trusted:.0%} is needed."
            )
        if self.folded > limits.folded:
            reasons.append(
                f"The deformation folds in {self.folded:.2%} of the body; {limits.folded:.2%} is allowed. "
                "Raise bending_weight or control_spacing."
            )
        return reasons


def judge(
    mr: np.ndarray,
    hounsfield: np.ndarray,
    body: np.ndarray,
    view: np.ndarray,
    spacing: Sequence[float],
    volume_change: np.ndarray | None = None,
) -> tuple[Agreement, np.ndarray, np.ndarray]:
    """Figures of a pair, where it may be compared, and where it is trusted.

    Args:
        mr: ``(x, y, z)``, any scale.
        hounsfield: HU, registered, on the same grid.
        body: of the patient on the MR, boolean.
        view: where the CT has voxels, boolean.
        spacing: mm.
        volume_change: determinant of the deformation's Jacobian; None for a rigid motion.

    Returns:
        Figures; the body within both views, with all of the bones that reach into it; and where the pair is trusted.
        In the body that is where MR and CT tell the same story: around each voxel the pairs of intensities are more
        frequent than chance, and volume is not stretched beyond belief. Outside the body it is where both show air.
    """
    body = body | _bone_of(body, hounsfield)
    mask = body & view
    seen = mask & (hounsfield > _AIR_HU)
    density = _agreement_map(mr, hounsfield, mask, spacing)
    trusted = seen & (density > 0)
    if volume_change is not None:
        trusted &= (volume_change > _VOLUME_RANGE[0]) & (volume_change < _VOLUME_RANGE[1])
    trusted = ndimage.binary_opening(trusted, iterations=1)
    inside = max(int(body.sum()), 1)
    bone = mask & (hounsfield > DENSE_BONE_HU)
    dark, lead = _dark_cortex(mr, hounsfield, bone, mask, spacing)
    return (
        Agreement(
            dark_cortex=dark,
            cortex_lead=lead,
            information=float(_information(mr, hounsfield, mask)),
            outside=1 - float(seen.sum()) / max(int(mask.sum()), 1),
            unseen=1 - float(mask.sum()) / inside,
            trusted=float(trusted.sum()) / max(int(mask.sum()), 1),
            folded=0.0 if volume_change is None else float((volume_change <= 0)[mask].mean()) if mask.any() else 1.0,
            bone_ml=float(bone.sum()) * float(np.prod(spacing)) / 1000,
        ),
        mask,
        trusted | (view & ~body & (hounsfield < _AIR_HU)),
    )


def jacobian_determinant(points: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Change of volume at each voxel: 1 keeps it, 0 or less folds.

    Args:
        points: ``(x, y, z, 3)``, where each voxel goes, in mm.
        spacing: mm between voxels.
    """
    x, y, z = (np.gradient(points, spacing[axis], axis=axis) for axis in range(3))
    determinant: np.ndarray = (np.cross(x, y) * z).sum(-1)
    return determinant


def _dark_cortex(
    mr: np.ndarray, hounsfield: np.ndarray, bone: np.ndarray, mask: np.ndarray, spacing: Sequence[float]
) -> tuple[float | None, float | None]:
    """`Agreement.dark_cortex` and `Agreement.cortex_lead`, from voxels drawn with a fixed seed."""
    if bone.sum() * np.prod(spacing) / 1000 < _LEAST_BONE_ML:
        return None, None
    distance = ndimage.distance_transform_edt(~bone, sampling=spacing)
    soft = (hounsfield > _SOFT_HU[0]) & (hounsfield < _SOFT_HU[1])
    near = mask & soft & (distance >= _NEAR_MM[0]) & (distance <= _NEAR_MM[1])
    if not near.any():
        return None, None
    rng = np.random.default_rng(0)
    cortex, around = (rng.permutation(np.argwhere(where))[:_DRAWN] for where in (bone, near))
    here = _share_darker(mr, cortex, around)
    beside = []
    for axis, sign in product(range(3), (-1, 1)):
        shift = np.zeros(3, dtype=int)
        shift[axis] = sign * max(1, round(_BESIDE_MM / spacing[axis]))
        beside.append(_share_darker(mr, cortex + shift, around + shift))
    return here, here - float(np.median(beside))


def _share_darker(mr: np.ndarray, cortex: np.ndarray, around: np.ndarray) -> float:
    """Probability that a voxel of the first list is darker than one of the second; 0.5 where one list is empty."""
    dark, other = (mr[tuple(p[((p >= 0) & (p < mr.shape)).all(1)].T)] for p in (cortex, around))
    if not len(dark) or not len(other):
        return 0.5
    ranks = rankdata(np.concatenate([dark, other]))
    n, m = len(dark), len(other)
    return float(1 - (ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def _bone_of(body: np.ndarray, hounsfield: np.ndarray) -> np.ndarray:
    """Bone that reaches into the body, with its marrow: at the edge of an image dark cortex looks like air."""
    bone = (hounsfield > _BONE_HU) | _marrow(hounsfield)
    labels, _ = ndimage.label(bone)
    kept = np.unique(labels[body & bone])
    return np.isin(labels, kept[kept > 0])


def _marrow(hounsfield: np.ndarray) -> np.ndarray:
    """What bone encloses in an axial slice: as bright as fat on the MR, but not as low in HU."""
    bone = hounsfield > _BONE_HU
    filled = [ndimage.binary_fill_holes(bone[:, :, k]) for k in range(bone.shape[2])]
    return np.stack(filled, -1) & ~bone


def _joint(mr: np.ndarray, hounsfield: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes of both images in the mask, those of HU with one more for marrow, and their joint probability."""
    edges = np.unique(np.quantile(mr[mask], np.linspace(0, 1, _MR_CLASSES + 1)[1:-1]))
    last = len(_HOUNSFIELD_EDGES) + 1
    first, second = np.digitize(mr[mask], edges), np.digitize(hounsfield[mask], _HOUNSFIELD_EDGES)
    second = np.where(_marrow(hounsfield)[mask], last, second)
    joint = np.zeros((len(edges) + 1, last + 1))
    np.add.at(joint, (first, second), 1)
    # neighbouring intensities count for each other, but marrow has no neighbour in HU
    joint[:, :last] = ndimage.gaussian_filter(joint[:, :last], 0.7, mode="nearest")
    joint[:, last] = ndimage.gaussian_filter1d(joint[:, last], 0.7, mode="nearest")
    return first, second, joint / joint.sum()


def _pointwise(joint: np.ndarray) -> np.ndarray:
    """Logarithm of how much more frequent each pair is than chance."""
    chance = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return np.log((joint + 1e-9) / (chance + 1e-9))


def _information(mr: np.ndarray, hounsfield: np.ndarray, mask: np.ndarray) -> float:
    if not mask.any():
        return 0.0
    _, _, joint = _joint(mr, hounsfield, mask)
    return float((joint * _pointwise(joint)).sum())


def _agreement_map(mr: np.ndarray, hounsfield: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Mean over a few mm of how much more frequent the pairs of intensities are than chance; nats."""
    if not mask.any():
        return np.zeros(mr.shape, dtype=np.float32)
    first, second, joint = _joint(mr, hounsfield, mask)
    density = np.zeros(mr.shape, dtype=np.float32)
    density[mask] = _pointwise(joint)[first, second]
    sigma = [_BLUR_MM / edge for edge in spacing]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    smooth: np.ndarray = ndimage.gaussian_filter(density, sigma) / np.maximum(weight, 1e-3)
    return smooth

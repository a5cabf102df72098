"""Limits of the gate from the images that weights were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from medical_gans.checks.quality.limits import QualityLimits, Usual
from medical_gans.checks.quality.measures import (
    VAULT_LIMITS,
    cut_outline,
    largest_void,
    mahalanobis,
    slice_quantiles,
    tissue_figures,
)
from medical_gans.checks.quality.realism import RealismCritic
from medical_gans.errors import InputError
from medical_gans.io import Case, Volume, read_mask, read_volume
from medical_gans.io.orientation import ras_spacing, ras_view
from medical_gans.transforms import body_mask

_FEWEST = 3
_RIDGE = 0.02**2  # variance of a normalised intensity that is added, so that few slices give a precision
_UNUSUAL_PATCHES = 1.0  # percent


def measure_limits(
    cases: Sequence[Case],
    site: str,
    critic: RealismCritic | None = None,
    *,
    denoise: int = 0,
    notes: Sequence[str] = (),
    vault: bool = False,
    spreads: Mapping[int, Sequence[float]] = MappingProxyType({}),
) -> QualityLimits:
    """Measure training cases: HU of those with CT, intensities of those with MR.

    Where a case has a mask, its CT is looked at within it, for an MR often shows less than a CT.

    Args:
        cases: with MR, CT or both.
        site: in plain words.
        critic: to score the CT; None leaves realism out.
        denoise: voxels of an in-plane median filter on the CT, as in training; 0 keeps their noise.
        notes: kept with the limits.
        vault: judge the skull, by `vault.VAULT_LIMITS`.
        spreads: mean standard deviation in HU of training MRs, as the check of uncertainty tells it in their reports,
            by the number of estimates that were compared there in each voxel.

    Raises:
        InputError: fewer than three CT or three MR, or a file cannot be read.
    """
    tissues: list[dict[str, float]] = []
    slices, voids, cuts, scores = [], [], [], []
    for case in cases:
        if case.ct is not None:
            ct, spacing = _in_ras(read_volume(case.ct, modality="CT"))
            body = body_mask(ct, spacing, "CT")
            ct = ndimage.median_filter(ct, (denoise, denoise, 1)) if denoise else ct
            if case.mask is not None:
                body &= _in_ras(read_mask(case.mask))[0]
            tissues.append(tissue_figures(ct, body))
            if critic is not None:
                scores.append(critic(ct, body, spacing).scores)
        if case.mr is not None:
            mr, spacing = _in_ras(read_volume(case.mr, modality="MR"))
            body = body_mask(mr, spacing, "MR")
            slices.append(slice_quantiles(mr, body)[1])
            voids.append(largest_void(mr, body, spacing))
            cuts.append(cut_outline(body, spacing))
    if min(len(tissues), len(slices)) < _FEWEST:
        raise InputError(f"Limits need at least {_FEWEST} CT and MR; there are {len(tissues)} and {len(slices)}.")
    rows = np.concatenate(slices)
    mean = rows.mean(axis=0)
    precision = np.linalg.inv(np.cov(rows.T) + _RIDGE * np.eye(rows.shape[1]))
    distance = np.percentile(mahalanobis(rows, mean, precision), (95, 99.8))
    inside = [score[np.isfinite(score)] for score in scores]
    patch_score = float(np.percentile(np.concatenate(inside), _UNUSUAL_PATCHES)) if inside else 0.0
    shares = [float(np.mean(score < patch_score)) for score in inside]
    return QualityLimits(
        site=site,
        tissue=_usual(tissues),
        slice_mean=mean.round(5).tolist(),
        slice_precision=precision.round(4).tolist(),
        slice_distance=distance.round(4).tolist(),
        void_ml=[round(void, 3) for void in voids],
        realism=[float(np.percentile(shares, 95)), max(shares)] if shares else [],
        patch_score=patch_score,
        cut_cm=[round(cut, 2) for cut in cuts],
        notes=list(notes),
        vault={name: list(ends) for name, ends in VAULT_LIMITS.items()} if vault else {},
        uncertainty_hu={number: Usual.of(found) for number, found in spreads.items() if len(found) >= _FEWEST},
    )


def _usual(figures: Sequence[dict[str, float]]) -> dict[str, Usual]:
    names = dict.fromkeys(name for one in figures for name in one)
    values = {name: [one[name] for one in figures if name in one] for name in names}
    return {
        name: Usual.of(found, "share" if name.endswith("_share") else "linear")
        for name, found in values.items()
        if len(found) >= _FEWEST
    }


def _in_ras(volume: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    return ras_view(volume.array, volume.affine), ras_spacing(volume.affine)

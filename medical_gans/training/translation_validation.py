"""Figures by which the weights of a translation run are chosen, on patients whose true CT is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import nibabel
import numpy as np
from torch import nn

from medical_gans.data.pairs import Pair, read_pair
from medical_gans.errors import SettingError
from medical_gans.io import Case, TrainingCases, Volume
from medical_gans.metrics.synthetic_ct import BONE_ABOVE_HU
from medical_gans.transforms.grid import PLANES


class Synthesis(Protocol):
    """What `synthesis.SliceSynthesis` offers: an MR in, HU on its grid out."""

    planes: Sequence[str]
    adjacent: int
    generators: Any

    def __call__(self, mr: Volume) -> Any: ...


class TranslationValidation:
    """Mean absolute error and bone Dice of the shipped network, over paired cases, inside the mask.

    Args:
        cases: with MR and CT on one grid; without a mask, the body on the CT is taken.
        synthesis: makes, from a list of networks, what turns an MR into a synthetic CT.
        slice_step: of the slices that the network translates every n-th is judged, to save time. With several
            planes, adjacent slices or blocks, where slices depend on each other, all are.

    Raises:
        InputError: see `pairs.read_pair`.
        SettingError: `slice_step` is below 1.
    """

    def __init__(
        self, cases: Sequence[Case], synthesis: Callable[[list[nn.Module]], Synthesis], slice_step: int = 4
    ) -> None:
        if slice_step < 1:
            raise SettingError(f"slice_step is {slice_step}; give 1 to judge all slices, or more.")
        self.synthesis = synthesis
        self.slice_step = slice_step
        self.pairs = [read_pair(case) for case in cases]

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Mean over patients: ``mae`` in HU and ``bone_dice``, nan where no patient has bone."""
        synthesise = self.synthesis([network])
        figures = [_figures(synthesise, _thinned(pair, synthesise, self.slice_step)) for pair in self.pairs]
        errors, dice = np.transpose(figures)
        known = dice[np.isfinite(dice)]
        return {"mae": float(errors.mean()), "bone_dice": float(known.mean()) if known.size else float("nan")}


def translation_validation(
    cases: TrainingCases, synthesis: Callable[[list[nn.Module]], Synthesis], slice_step: int = 4
) -> TranslationValidation | None:
    """Validation on the cohort's paired validation cases; None where there are none."""
    return TranslationValidation(cases.validation, synthesis, slice_step) if cases.validation else None


def _figures(synthesise: Synthesis, pair: Pair) -> tuple[float, float]:
    """Mean absolute error in HU and Dice of bone."""
    predicted = synthesise(pair.mr).hounsfield[pair.mask]
    expected = pair.ct.array[pair.mask]
    bone, true_bone = predicted > BONE_ABOVE_HU, expected > BONE_ABOVE_HU
    both = np.count_nonzero(bone) + np.count_nonzero(true_bone)
    dice = 2 * np.count_nonzero(bone & true_bone) / both if both else float("nan")
    return float(np.abs(predicted.astype(np.float32) - expected).mean()), dice


def _thinned(pair: Pair, synthesise: Synthesis, step: int) -> Pair:
    """Every n-th slice that the network translates, those with most of the mask, on their true grid."""
    if synthesise.generators.dimensions == 3 or len(synthesise.planes) > 1 or synthesise.adjacent > 1:
        return pair
    axes = nibabel.io_orientation(pair.mr.affine)[:, 0]
    axis = int(np.flatnonzero(axes == PLANES[synthesise.planes[0]])[0])
    filled = np.count_nonzero(pair.mask, axis=tuple({0, 1, 2} - {axis}))
    start = max(range(step), key=lambda first: filled[first::step].sum())
    part = (slice(None),) * axis + (slice(start, None, step),)
    scale, shift = np.ones(3), np.zeros(3)
    scale[axis], shift[axis] = step, start
    onto_all = nibabel.affines.from_matvec(np.diag(scale), shift)

    def every(volume: Volume) -> Volume:
        return replace(volume, array=volume.array[part], affine=volume.affine @ onto_all)

    return Pair(pair.name, every(pair.mr), every(pair.ct), pair.mask[part])

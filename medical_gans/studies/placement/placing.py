"""A nodule placed into a CT, blended at its border, with its mask: training data for detection and segmentation."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.nodules.sampling import BOTH, NoduleSampler, requested_samples
from medical_gans.io import Volume, read_volume, save_volume, whole_folder
from medical_gans.io.nodules import PATCH_AXES, check_inside, check_lung_ct, position_in_ras, read_patch, save_patch
from medical_gans.io.ownership import Origin, source
from medical_gans.io.writing import prepare_output
from medical_gans.report import Manifest, Place, ViewedImage, input_hashes, write_results_page, write_viewer
from medical_gans.report.nodules import draw_placement
from medical_gans.report.viewer import LUNG, VIEWER
from medical_gans.studies.placement.body import NoduleBody, nodule_body

_SAMPLES_MM = 0.6  # voxels of the CT that are larger get the mean over points so far apart, as a thick slice would


def place_nodule(
    hounsfield: np.ndarray,
    affine: np.ndarray,
    body: NoduleBody,
    position: Sequence[float],
    axes: Sequence[Sequence[float]],
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A CT with a nodule in it.

    Args:
        hounsfield: CT ``(i, j, k)``.
        affine: ``(4, 4)``, index to RAS mm.
        body: of the nodule.
        position: RAS mm of the nodule's centre.
        axes: directions (RAS) of the rows, columns and slices of the body.

    Returns:
        int16 HU, unchanged beyond some mm from the nodule; and the mask of voxels that are nodule by half or more.

    Raises:
        InputError: the nodule reaches beyond the border of the CT.
    """
    directions = np.asarray(axes, dtype=np.float64)
    index = (np.linalg.inv(affine) @ np.append(position, 1.0))[:3]
    low, high = _box(hounsfield.shape, affine, body, index, directions)
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    value, share, support = _sampled(body, directions @ affine[:3, :3], index - low, high - low)
    ct = np.asarray(hounsfield[box], dtype=np.float32)
    made = ct + support * ((value - body.lung) - share * (ct - body.lung))
    result = np.rint(hounsfield).astype(np.int16)
    result[box] = np.where(support > 0, np.rint(made), result[box]).astype(np.int16)
    mask = np.zeros(hounsfield.shape, dtype=bool)
    mask[box] = share * support >= 0.5
    return result, mask


def _box(
    shape: tuple[int, ...],
    affine: np.ndarray,
    body: NoduleBody,
    index: NDArray[np.float64],
    directions: NDArray[np.float64],
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """First and last + 1 index of the voxels that the body reaches."""
    reached = np.argwhere(body.support > 0)
    reach = np.abs(reached - body.centre).max(axis=0) * body.spacing + max(body.spacing)
    half = np.abs(np.linalg.inv(affine[:3, :3]) @ directions.T) @ reach
    low, high = np.floor(index - half).astype(int), np.ceil(index + half).astype(int) + 1
    over = np.maximum(-low, high - shape) * np.linalg.norm(affine[:3, :3], axis=0)
    if over.max() > 0:
        raise InputError(
            f"The nodule, {body.diameter:.1f} mm wide, would reach {over.max():.1f} mm beyond the border of the CT. "
            "Choose a position further inside, a smaller nodule, or a larger CT."
        )
    return low, high


def _sampled(
    body: NoduleBody, matrix: NDArray[np.float64], centre: NDArray[np.float64], shape: NDArray[np.int_]
) -> list[NDArray[np.float32]]:
    """Value, share and support on a grid whose steps are the columns of `matrix` (mm along the body's axes)."""
    counts = np.maximum(np.ceil(np.linalg.norm(matrix, axis=0) / _SAMPLES_MM - 0.01), 1).astype(int)
    fine = [(np.arange(n * c) + 0.5) / c - 0.5 for n, c in zip(shape, counts, strict=True)]
    offsets = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1) - centre
    points = np.moveaxis(offsets @ matrix.T / body.spacing + body.centre, -1, 0)
    found = []
    for volume, beyond in ((body.hounsfield, body.lung), (body.share, 0.0), (body.support, 0.0)):
        values = ndimage.map_coordinates(volume, points, output=np.float32, order=1, mode="constant", cval=beyond)
        blocks = values.reshape([edge for pair in zip(shape, counts, strict=True) for edge in pair])
        found.append(blocks.mean(axis=(1, 3, 5)))
    return found


logger = logging.getLogger(__name__)

CONVENTIONS = ("RAS", "LPS")
_LUNG_HU = -500.0  # where a nodule is placed, lung is below
_WINDOW = (-1000.0, 400.0)


class NodulePlacement:
    """Places one nodule into one CT.

    Written to `output_dir`: ``placed/ct.nii.gz`` (int16 HU on the grid of the CT, equal to it away from the nodule),
    ``placed/mask.nii.gz``, ``placed/nodule.nii.gz`` (the patch), ``placed/nodule.json`` (place, size, class, origin),
    ``placement.png``, ``viewer.html``, ``report.html``, ``manifest.json``.

    Args:
        load_sampler: of the trained generator; not called where `patch` is given.
        dataset_dir: CT, an image file or the folder of a DICOM series.
        position: mm of the nodule's centre.
        convention: of `position`: ``RAS`` (NIfTI: to the right, front, up) or ``LPS`` (DICOM, LUNA16, ITK: to the left,
            back, up).
        output_dir: folder for everything written.
        weights: file that the sampler is loaded from.
        select: words of the headers that choose where `dataset_dir` holds several images.
        patch: NIfTI of a patch that is placed in place of a generated one.
        malignancy: class of the generated nodule; None for a generator without classes.
        latent_seed: of the generated nodule; None takes the first one that `seed` draws.
        truncation: keeps the latent numbers within minus and plus this; None for none.
        seed: draws the latent seed.
        viewer: write ``viewer.html``, the CT before and after as a page that can be scrolled.
    """

    def __init__(
        self,
        load_sampler: Callable[[], NoduleSampler],
        dataset_dir: str | Path,
        position: Sequence[float],
        output_dir: str | Path,
        *,
        weights: str | Path,
        convention: str = "RAS",
        select: str | None = None,
        patch: str | Path | None = None,
        malignancy: str | None = "malignant",
        latent_seed: int | None = None,
        truncation: float | None = None,
        seed: int = 0,
        device: str = "cpu",
        viewer: bool = True,
    ) -> None:
        if convention.upper() not in CONVENTIONS:
            raise SettingError(f"convention is {convention!r}; choose {' or '.join(CONVENTIONS)}.")
        if len(position) != 3 or not np.isfinite(np.asarray(position, dtype=np.float64)).all():
            raise SettingError(f"position is {list(position)}; give three numbers in mm, such as [-60, 12, -150].")
        if malignancy not in (*BOTH, None):
            raise SettingError(f"malignancy is {malignancy!r}; choose {' or '.join(BOTH)}, or null without classes.")
        self.load_sampler = load_sampler
        self.dataset_dir = Path(dataset_dir)
        self.select = None if select is None else str(select)
        self.position = position_in_ras(position, convention)
        self.output_dir = Path(output_dir)
        self.viewer = viewer
        self.weights, self.patch = Path(weights), None if patch is None else Path(patch)
        self.malignancy, self.latent_seed, self.truncation, self.seed = malignancy, latent_seed, truncation, seed
        settings = {
            "position": list(position),
            "convention": convention.upper(),
            "select": self.select,
            "patch": self.patch,
            "malignancy": malignancy,
            "latent_seed": latent_seed,
            "truncation": truncation,
        }
        self.manifest = Manifest("lung_nodule", "place", settings=settings, seed=seed, device=device)

    def run(self) -> None:
        """Place the nodule and write everything.

        Raises:
            InputError: CT or patch cannot be used, the position is outside the CT, or the nodule reaches beyond it.
            SettingError: class, truncation or latent seed is out of range.
            OutputError: results cannot be written.
        """
        inputs = [path for path in (self.patch, self.weights) if path is not None]
        made_by = Origin("lung_nodule place", [source(self.dataset_dir)], inputs=inputs)
        names = ("placement.png", VIEWER, "report.html", "manifest.json")
        prepare_output(self.output_dir, made_by, names, [("placed", made_by)], writes=False)
        with self.manifest.timed("reading"):
            volume = read_volume(self.dataset_dir, select=self.select, modality="CT")
            check_lung_ct(volume)
            index = check_inside(volume, self.position)
            nodule, spacing, origin = self._nodule()
        with self.manifest.timed("placing"):
            body = nodule_body(nodule, spacing)
            placed, mask = place_nodule(volume.array, volume.affine, body, list(self.position), PATCH_AXES)
        warnings = _warnings(volume, mask)
        facts = self._facts(volume, mask, body, index) | origin
        prepare_output(self.output_dir, made_by, names)
        with self.manifest.timed("writing"):
            with whole_folder(self.output_dir / "placed", made_by) as folder:
                save_volume(folder / "ct.nii.gz", placed, volume.affine)
                save_volume(folder / "mask.nii.gz", mask, volume.affine)
                save_patch(folder / "nodule.nii.gz", nodule, spacing)
                (folder / "nodule.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            draw_placement(volume.array, placed, mask, volume.affine, _WINDOW, self.output_dir / "placement.png")
            if self.viewer:
                self._write_viewer(volume, placed, mask, body, warnings)
        self._report(facts, warnings)

    def _nodule(self) -> tuple[np.ndarray, tuple[float, ...], dict[str, Any]]:
        """HU, voxel size (mm), and where the nodule comes from."""
        self.manifest.inputs = input_hashes(self.dataset_dir, self.patch, dataset_dir=self.dataset_dir)
        if self.patch is not None:
            hounsfield, spacing = read_patch(self.patch)
            return hounsfield, spacing, {"patch": self.patch.name}
        sampler = self.load_sampler()
        self.manifest.add_weights(self.weights)
        chosen = None if self.latent_seed is None else [self.latent_seed]
        sample = requested_samples(sampler, self.malignancy, 1, self.seed, chosen)[0]
        made = sampler.decode(sampler.latent(sample.latent_seed, self.truncation), sample.label)
        origin = {"latent_seed": sample.latent_seed, "class": sample.malignancy, "truncation": self.truncation}
        return made, sampler.spacing, origin

    def _facts(self, volume: Volume, mask: np.ndarray, body: NoduleBody, index: np.ndarray) -> dict[str, Any]:
        voxel = abs(float(np.linalg.det(volume.affine[:3, :3])))
        return {
            "position_ras_mm": [round(float(value), 3) for value in self.position],
            "position_lps_mm": [round(float(value), 3) for value in position_in_ras(list(self.position), "LPS")],
            "voxel": [round(float(value), 2) for value in index],
            "diameter_mm": round(body.diameter, 2),
            "mask_voxels": int(mask.sum()),
            "mask_mm3": round(float(mask.sum()) * voxel, 1),
        }

    def _write_viewer(
        self, volume: Volume, placed: np.ndarray, mask: np.ndarray, body: NoduleBody, warnings: Sequence[str]
    ) -> None:
        right, anterior, superior = (float(value) for value in self.position)
        position = (right, anterior, superior)
        write_viewer(
            self.output_dir / VIEWER,
            "A nodule placed into a CT",
            [
                ViewedImage("CT with the nodule", placed, window=LUNG),
                ViewedImage("CT as it was", np.rint(volume.array), window=LUNG),
            ],
            volume.affine,
            differences=[(0, 1)],
            structures=[("nodule", mask)],
            places=[Place(f"nodule of {body.diameter:.1f} mm", position)],
            warnings=warnings,
            start=position,
        )

    def _report(self, facts: dict[str, Any], warnings: Sequence[str]) -> None:
        for warning in warnings:
            logger.warning("%s", warning)
            self.manifest.add_warning(warning)
        position = ", ".join(f"{value:g}" for value in facts["position_ras_mm"])
        write_results_page(
            self.output_dir / "report.html",
            "A nodule placed into a CT",
            sentences=[
                f"A nodule of {facts['diameter_mm']:.1f} mm, with its centre at {position} mm (RAS: to the right, "
                "front, up). The folder placed holds the CT with the nodule, its mask and the patch; away from the "
                "nodule the CT is as it was."
            ],
            viewer=VIEWER if self.viewer else None,
            sections=[
                (
                    "placement.png",
                    f"Three planes through the nodule; {_WINDOW[0]:g} HU is black, {_WINDOW[1]:g} white. "
                    "R, L, A, P, S, I: right, left, anterior, posterior, superior, inferior.",
                )
            ],
            warnings=warnings,
            settings={**self.manifest.settings, **facts},
        )
        self.manifest.write(self.output_dir)
        logger.info("The CT with the nodule is in %s; begin with its report.html.", self.output_dir)


def _warnings(volume: Volume, mask: np.ndarray) -> list[str]:
    warnings = []
    if not mask.any():
        warnings.append("No voxel of the CT is nodule by half: its voxels are large against the nodule.")
    elif (around := float(np.mean(volume.array[mask]))) > _LUNG_HU:
        warnings.append(
            f"The CT has {around:.0f} HU on average where the nodule is: the position does not lie in the lung. "
            "Check the position and its convention."
        )
    return warnings

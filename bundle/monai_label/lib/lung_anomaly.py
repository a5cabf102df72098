"""How unlike normal lung the surroundings of a clicked point are."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.points import clicked_points
from lib.stage_task import Answer, StageTask
from medical_gans.cli.config_files import configs_dir, read_config
from medical_gans.errors import InputError
from medical_gans.inference.nodules.sampling import trained_with
from medical_gans.io import read_volume, save_volume
from medical_gans.io.nodules import PATCH_AXES, check_inside, check_lung_ct, save_patch
from medical_gans.io.nodules.ct_patches import patch_at

_PATCH = "patch"


class LungAnomaly(StageTask):
    """The difference map of f-AnoGAN or AnoGAN about a point of a CT, or of a patch as it is."""

    def __init__(self, model_dir: Path) -> None:
        super().__init__(
            "lung_anomaly",
            "lung_nodule_anomaly",
            model_dir,
            about="What a network that knows normal lung only cannot make: the difference map (int16 HU) of a patch "
            "of a lung CT about the given point, lying where the patch lies, and its scores. Get it by REST.",
            tag="anomaly_map",
            options={"method": ["f_anogan", "anogan"], "include_seen": False, "search_steps": 500},
            more={
                "position": "mm of the patch's centre as [x, y, z], in place of a click; without any, the image is "
                "itself a patch",
                "convention": "of position: RAS or LPS",
            },
        )

    def answer(
        self, image: Path, settings: dict[str, Any], besides: Mapping[str, Any], request: Mapping[str, Any], work: Path
    ) -> Answer:
        patches = work / "patches"
        patches.mkdir()
        affine = None
        if besides.get("position") or request.get("foreground"):
            point = clicked_points(image, besides, request)[-1]
            affine = _cut(image, point, self._grid(settings), patches)
        else:
            _link(image, patches)
        output = self.run(patches, {**settings, "maps": True}, work)
        (made,) = (output / "maps").glob("*.nii.gz")
        if affine is not None:
            made = save_volume(work / made.name, read_stored(made), affine)
        with open(output / "scores.csv", newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        scores = {name: _number(value) for name, value in row.items() if name not in ("name", "is_nodule")}
        return Answer(made, {"scores": scores})

    def _grid(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Size, spacing and window of a patch: of the weights and of the stage, where a request does not say."""
        stage = read_config(configs_dir() / f"{self.stage}.yaml")
        size = trained_with(self.weights(settings), "size", None)
        return {"size": size, "spacing": stage["spacing"], "window": stage["window"], **settings}

    def weights_name(self, settings: Mapping[str, Any]) -> str:
        return "lung_anomaly.pt"


def read_stored(file: Path) -> np.ndarray:
    """The int16 values of a NIfTI file, in stored order."""
    import nibabel

    return np.asarray(nibabel.load(file).dataobj, dtype=np.int16)  # type: ignore[attr-defined]


def _cut(image: Path, point: Sequence[float], settings: Mapping[str, Any], patches: Path) -> np.ndarray:
    """Cut the patch about a point, as the stage does from a table of positions; returns where it lies."""
    size, spacing = int(settings["size"]), settings["spacing"]
    if spacing is None:
        raise InputError("spacing is null, but a CT needs one, in mm.")
    volume, position = read_volume(image), np.asarray(point, dtype=np.float64)
    check_lung_ct(volume)
    low, high = settings["window"]
    patch = patch_at(volume, position, size=size, spacing=spacing, spatial_dims=2, window=(low, high))
    if patch is None:
        raise InputError("The point is too near to the border of the CT: the patch about it reaches beyond.")
    save_patch(patches / f"{_PATCH}.nii.gz", patch, (spacing, spacing))
    index = check_inside(volume, position)
    axes = np.array(PATCH_AXES)[:2]
    nearest = (volume.affine @ [*np.round(index), 1.0])[:3]
    centre = nearest + axes.T @ (axes @ (position - nearest))
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = centre - affine[:3, :3] @ [(size - 1) / 2, (size - 1) / 2, 0]
    return affine


def _link(image: Path, patches: Path) -> None:
    if not image.is_file():
        raise InputError(
            f"{image.name} is a folder; a patch is a NIfTI file. For a CT, give the point: position or foreground."
        )
    (patches / f"{_PATCH}.nii.gz").symlink_to(image.resolve())


def _number(value: str) -> float | str | None:
    try:
        return float(value)
    except ValueError:
        return value or None

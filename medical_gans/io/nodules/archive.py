"""Patches stored in one npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.cases import file_name
from medical_gans.io.nodules.ct_patches import check_extent, resampled
from medical_gans.io.nodules.patches import NodulePatches, check_ratings

_NEEDED = ("hu", "malignancy", "patient")


def read_archive(path: Path, size: int, spacing: float | None, window: tuple[float, float]) -> NodulePatches:
    """Read an npz with ``hu (n, rows, columns)``, ``malignancy (n,)``, ``patient (n,)``, ``pixel_spacing_mm (n,)``.

    ``pixel_spacing_mm`` is needed unless `spacing` is None; ``nodule_id (n,)``, where there, becomes part of the names.

    Raises:
        InputError: the file is damaged, has other keys, arrays of other shapes, or ratings out of range, or its
            patches are much smaller than those asked for.
    """
    arrays = _load(path)
    needed = (*_NEEDED, *(("pixel_spacing_mm",) if spacing is not None else ()))
    _check_keys(path, arrays, needed)
    hounsfield, patient = arrays["hu"], arrays["patient"].astype(str)
    _check_shapes(path, arrays, needed)
    pixel = arrays["pixel_spacing_mm"].astype(np.float64) if spacing is not None else np.ones(len(patient))
    if not (np.isfinite(pixel) & (pixel > 0)).all():
        raise InputError(f"{path} has values in pixel_spacing_mm that are no positive mm. Correct them.")
    made = np.empty((len(patient), size, size), dtype=np.int16)
    for edge in np.unique(pixel):
        chosen = pixel == edge
        scale = spacing / edge if spacing is not None else 1.0
        for length in hounsfield.shape[1:]:
            check_extent(length, size, scale, edge, path)
        if spacing is None:
            made[chosen] = np.clip(_cropped(hounsfield[chosen], size), *window).round()
        else:
            clipped = np.clip(hounsfield[chosen], *window)
            made[chosen] = resampled(clipped, (edge, edge), size, (spacing, spacing)).round()
    number = arrays.get("nodule_id", np.arange(len(patient)))
    if len(np.unique(number)) < len(number):
        number = np.arange(len(patient))
    return NodulePatches(
        made,
        check_ratings(arrays["malignancy"], path),
        patient,
        np.array([file_name(f"{one}_{int(index):04d}") for one, index in zip(patient, number, strict=True)]),
        (float("nan"),) * 2 if spacing is None else (float(spacing),) * 2,
    )


def read_lung_patches(path: str | Path, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Read an npz with ``image (n, rows, columns)`` uint8 and ``is_nodule (n,)``: lung patches without HU.

    Args:
        path: npz file.
        size: pixels along each edge, cropped about the centre.

    Returns:
        Images ``(n, size, size)`` float32, 0 to 255 mapped to [-1, 1], and ``is_nodule (n,)`` bool.

    Raises:
        InputError: the file is damaged, has other keys or values, or its patches are much smaller than `size`.
    """
    path = Path(path)
    arrays = _load(path)
    _check_keys(path, arrays, ("image", "is_nodule"))
    image, is_nodule = arrays["image"], arrays["is_nodule"]
    if image.ndim != 3 or is_nodule.shape != image.shape[:1]:
        raise InputError(
            f"{path} has image {image.shape} and is_nodule {is_nodule.shape}; (n, rows, columns) and (n,) are needed."
        )
    if image.dtype != np.uint8 or not np.isin(is_nodule, (0, 1)).all():
        raise InputError(f"{path} needs image as uint8 and is_nodule as 0 or 1; got image as {image.dtype}.")
    for length in image.shape[1:]:
        check_extent(length, size, 1.0, 1.0, path)
    return (_cropped(image, size).astype(np.float32) / 127.5 - 1.0), is_nodule.astype(bool)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except PermissionError as error:
        raise InputError(f"{path} may not be read: permission denied. Change its permissions.") from error
    except Exception as error:  # zipfile, zlib, numpy and the operating system each have their own
        raise InputError(f"{path} cannot be read as npz. Copy it again.") from error


def _check_keys(path: Path, arrays: dict[str, np.ndarray], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in arrays]
    if not missing:
        return
    advice = ""
    if missing == ["pixel_spacing_mm"]:
        advice = " Set spacing to null to keep the pixels as they are."
    elif missing == ["patient"]:
        advice = " Without the patient of each patch they cannot be split by patient."
    elif {"image", "is_nodule"} <= arrays.keys():
        advice = " Its patches have no ratings and no HU: they serve lung_nodule anomaly only."
    elif {"hu", "malignancy"} <= arrays.keys():
        advice = " It looks like rated nodules, which lung_nodule train takes."
    raise InputError(
        f"{path} lacks {', '.join(missing)}: it has the arrays {', '.join(sorted(arrays)) or '(none)'}, "
        f"but {', '.join(needed)} are needed.{advice}"
    )


def _check_shapes(path: Path, arrays: dict[str, np.ndarray], needed: tuple[str, ...]) -> None:
    hounsfield = arrays["hu"]
    if hounsfield.ndim != 3 or not len(hounsfield) or hounsfield.dtype.kind not in "iuf":
        raise InputError(
            f"{path} has hu of shape {hounsfield.shape} and type {hounsfield.dtype}; numbers (n, rows, columns) are "
            "needed."
        )
    if hounsfield.dtype.kind == "f" and not np.isfinite(hounsfield).all():
        raise InputError(f"{path} has NaN or infinity in hu. Write it again without.")
    if hounsfield.min() >= 0:
        raise InputError(f"{path} has no negative value in hu, so it is not in HU: lung is near -800. Convert it.")
    for name in needed[1:]:
        if arrays[name].shape != hounsfield.shape[:1]:
            raise InputError(f"{path} has {len(hounsfield)} patches in hu but {name} of shape {arrays[name].shape}.")


def _cropped(images: np.ndarray, size: int) -> np.ndarray:
    """The middle of images, continued by edge values where they are a little smaller than `size`."""
    index = [np.clip((length - size) // 2 + np.arange(size), 0, length - 1) for length in images.shape[1:]]
    return images[np.ix_(np.arange(len(images)), *index)]

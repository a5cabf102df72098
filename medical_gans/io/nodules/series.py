"""Patches from CT series and a list of marked nodules, with an account of what was read and what was missing."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medical_gans.errors import InputError
from medical_gans.io.cases import file_name
from medical_gans.io.formats import has_dicom_prefix, holds_dicom_images, image_stem, image_suffix
from medical_gans.io.nodules.ct_patches import check_lung_ct, patch_at
from medical_gans.io.nodules.patches import NodulePatches, check_ratings
from medical_gans.io.volumes import Volume, read_volume
from medical_gans.io.writing import whole_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Marked:
    """A nodule that somebody marked in a CT series.

    Attributes:
        series: SeriesInstanceUID, or the name of the image file without suffix.
        place: RAS mm of its centre, given the volume.
        rating: malignancy 1 to 5, 0 where unknown.
        patient: None where the list does not say.
        where: it is listed, for messages.
    """

    series: str
    place: Callable[[Volume], NDArray[np.float64]]
    rating: float
    patient: str | None
    where: str


@dataclass(frozen=True)
class Account:
    """What became of a series: how many nodules are marked in it, how many were read, and why not all."""

    series: str
    nodules: int
    read: int
    reason: str = ""


def read_marked(
    nodules: Sequence[Marked],
    images: Path,
    *,
    size: int,
    spacing: float,
    spatial_dims: int,
    window: tuple[float, float],
    completeness: Path | None = None,
) -> NodulePatches:
    """A patch of each nodule whose series is there.

    A series that is missing or cannot be read, and a nodule whose patch reaches too far beyond the border, are left out
    and accounted for in the log and in the CSV file `completeness` (seriesuid, nodules, read, reason).

    Raises:
        InputError: a position is outside its CT, the patch is larger than the volume, ratings are out of range, or
            nothing could be read at all.
    """
    paths = find_series(images)
    accounts: list[Account] = []
    made: list[np.ndarray] = []
    kept: list[Marked] = []
    patients: list[str] = []
    for series, marked in groupby(sorted(nodules, key=lambda one: one.series), key=lambda one: one.series):
        group = list(marked)
        if series not in paths:
            accounts.append(Account(series, len(group), 0, "no such series or image file"))
            continue
        try:
            volume = read_volume(paths[series], None if image_suffix(paths[series]) else series, modality="CT")
            check_lung_ct(volume)
        except InputError as error:
            accounts.append(Account(series, len(group), 0, str(error)))
            continue
        before = len(made)
        for one in group:
            try:
                patch = patch_at(
                    volume, one.place(volume), size=size, spacing=spacing, spatial_dims=spatial_dims, window=window
                )
            except InputError as error:
                raise InputError(f"{one.where}: {error}") from error
            if patch is not None:
                made.append(patch)
                kept.append(one)
                patients.append(one.patient or _patient(volume) or series)
        lost = len(group) - (len(made) - before)
        reason = f"{lost} too near to the border of the volume" if lost else ""
        accounts.append(Account(series, len(group), len(made) - before, reason))
    _tell(accounts, completeness)
    if not made:
        raise InputError(f"None of {len(nodules)} nodules could be read from {images}: {accounts[0].reason}.")
    count: dict[str, int] = {}
    names = []
    for patient in patients:
        count[patient] = count.get(patient, 0) + 1
        names.append(file_name(f"{patient}_{count[patient]:04d}"))
    return NodulePatches(
        np.stack(made),
        check_ratings(np.array([one.rating for one in kept]), images),
        np.array(patients),
        np.array(names),
        (float(spacing),) * spatial_dims,
    )


def find_series(folder: Path) -> dict[str, Path]:
    """Every image file by its name without suffix, and every DICOM folder by its series UID, anywhere below `folder`.

    A DICOM folder is taken to hold one series with images, that of its first file.
    """
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = [Path(parent, name) for name in sorted(files) if image_suffix(Path(name)) and not name.startswith(".")]
        found.update({image_stem(image): image for image in images})
        if not images and holds_dicom_images(Path(parent)):
            found.update({uid: Path(parent) for uid in _first_uid(Path(parent))})
    return found


def _first_uid(folder: Path) -> Iterator[str]:
    from pydicom import dcmread

    from medical_gans.io.dicom.headers import quiet

    for path in sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")):
        if has_dicom_prefix(path):
            with quiet():
                header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            if uid := header.get("SeriesInstanceUID"):
                yield str(uid)
                return


def _patient(volume: Volume) -> str | None:
    """A name that tells patients apart without saying who they are."""
    identity = str(volume.headers[0].get("PatientID") or "") if volume.headers else ""
    return f"patient-{hashlib.sha256(identity.encode()).hexdigest()[:10]}" if identity else None


def _tell(accounts: Sequence[Account], completeness: Path | None) -> None:
    incomplete = [account for account in accounts if account.read < account.nodules]
    marked, read = (sum(getattr(account, name) for account in accounts) for name in ("nodules", "read"))
    logger.info("Nodules read: %d of %d, from %d series", read, marked, sum(bool(a.read) for a in accounts))
    if incomplete:
        logger.warning(
            "%d of %d series are missing or incomplete, the first %s: %s",
            len(incomplete),
            len(accounts),
            incomplete[0].series,
            incomplete[0].reason,
        )
    if completeness is not None:
        completeness.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(completeness) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["seriesuid", "nodules", "read", "reason"])
            table.writerows([one.series, one.nodules, one.read, one.reason] for one in accounts)

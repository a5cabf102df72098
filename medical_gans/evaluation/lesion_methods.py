"""The methods that are compared on lesions: weights or predictions made before, and the patients that they saw."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from medical_gans.errors import InputError, SettingError
from medical_gans.io.formats import image_stem, image_suffix
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.volumes import Volume, check_same_grid, read_label_map
from medical_gans.report.manifest import sha256
from medical_gans.transforms.sequence_volume import SequenceVolume
from medical_gans.weights import WeightsCard

SOURCE_ONLY, ADAPTED, ORACLE = "source_only", "adapted", "oracle"
"""Names that have a meaning: trained on the source, adapted to the target, trained on labels of the target."""
TESTING_ONLY, NOT_KNOWN = "only for testing", "not known"
"""What a patient was used for, beside the methods that saw it without its label."""
_KEYS = {"weights", "channels", "missing"}
_EXAMPLE = "\"{'source_only': 'a.pt', 'adapted': ['seed0.pt', 'seed1.pt'], 'oracle': {'weights': 'c.pt'}}\""
_WANTED = "lesions"
_NOT_LABELS = ("probab", "uncertain")


class Segmented(Protocol):
    """Classes ``(*spatial)`` on the grid of the source of a volume."""

    @property
    def label(self) -> np.ndarray: ...


logger = logging.getLogger(__name__)

Segment = Callable[[SequenceVolume], Segmented]
"""From a volume to its classes."""


class TrainedSegmenter(Protocol):
    """A network with its weights, and the voxel size in mm and the patches in voxels that it was trained at."""

    @property
    def network(self) -> nn.Module: ...

    @property
    def spacing(self) -> Sequence[float | None] | None: ...

    @property
    def patch_size(self) -> Sequence[int] | None: ...


@dataclass(frozen=True)
class LesionMethod:
    """A row of the table.

    Attributes:
        name: of the method.
        files: weights file or folder of predictions of each seed.
        channels: sequences that it sees, in the network's order.
        missing: those of them that it gets as zeros.
    """

    name: str
    files: tuple[Path, ...]
    channels: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Member:
    """One seed of a method, ready to be asked.

    Attributes:
        file: where it comes from.
        spacing: mm that it wants an image at; None keeps the image's.
        network: None for stored predictions.
        segment: None for stored predictions.
        card: of the weights, where there is one.
    """

    file: Path
    spacing: tuple[float | None, ...] | None = None
    network: nn.Module | None = None
    segment: Segment | None = field(default=None, repr=False)
    card: WeightsCard | None = None


def chosen(weights: Any, compare: Any) -> Any:
    """What is compared: `compare` is the former name of the setting, and goes before the default of `weights`."""
    if compare is not None:
        logger.warning("compare is called weights now, as in mr_to_ct evaluate; the old name still works.")
    return weights if compare is None else compare


def parse_methods(
    compare: Mapping[str, Any] | str | Path | None, channels: Sequence[str], missing: Sequence[str] = ()
) -> list[LesionMethod]:
    """The methods of the setting `weights`.

    Args:
        compare: name -> weights file or folder of predictions, a list of them (one for each seed), or
            ``{"weights": file or list, "missing": [...], "channels": [...]}``; a single file is taken for `ADAPTED`.
        channels: sequences of methods that do not say their own.
        missing: sequences that no method gets.

    Raises:
        SettingError: nothing to compare, an unknown key, or the same for two methods.
        InputError: a file does not exist.
    """
    if isinstance(compare, str | Path) and str(compare):
        compare = {ADAPTED: compare}
    if not compare or not isinstance(compare, Mapping):
        raise SettingError(f"weights names no method. Give weights files or folders of predictions: {_EXAMPLE}.")
    methods, known = [], dict[tuple[Any, ...], str]()
    for name, given in compare.items():
        entry = dict(given) if isinstance(given, Mapping) else {"weights": given}
        if not set(entry) <= _KEYS or not entry.get("weights"):
            raise SettingError(f"weights: {name} has {', '.join(map(str, entry))}; weights, missing, channels exist.")
        files = [entry["weights"]] if isinstance(entry["weights"], str | Path) else list(entry["weights"])
        own = tuple(entry.get("channels") or channels)
        absent = tuple(dict.fromkeys([*(c for c in missing if c in own), *(entry.get("missing") or ())]))
        method = LesionMethod(str(name), tuple(Path(os.path.expanduser(file)) for file in files), own, absent)
        for number, file in enumerate(method.files):
            here = f"{name}, seed {number}" if len(files) > 1 else str(name)
            if not file.exists():
                raise InputError(f"{file}, given for {name}, does not exist. Check the path in weights.")
            content = str(file.resolve()) if file.is_dir() else sha256(file)
            key = (content, method.channels, frozenset(absent))
            if key in known:
                raise SettingError(f"weights gives the same file for {known[key]} and {here}: {file}. Correct one.")
            known[key] = here
        methods.append(method)
    return methods


def load_member(
    method: LesionMethod,
    file: Path,
    load_segmenter: Callable[..., TrainedSegmenter],
    segmentation: Callable[..., Segment],
    *,
    spacing: Sequence[float | None] | None = None,
    num_classes: int = 2,
) -> Member:
    """Load one weights file of a method; a folder of predictions is taken as it is.

    Args:
        method: that the file belongs to.
        file: of `method.files`.
        load_segmenter: gives of ``weights`` and ``channels`` a network and the spacing it was trained at.
        segmentation: makes of a network, ``spacing`` and ``patch_size`` what segments a volume.
        spacing: mm; None takes that of training.
        num_classes: that the labels have, background included.

    Raises:
        InputError: the weights cannot be used.
        SettingError: they take other sequences, or know other classes.
    """
    if file.is_dir():
        return Member(file)
    trained = load_segmenter(weights=file, channels=method.channels)
    card = WeightsCard.of(file)
    classes = num_classes if card is None else card.network_def.get("out_channels", num_classes)
    if classes != num_classes:
        raise SettingError(f"{file} knows {classes} classes, and num_classes is {num_classes}. Set it to {classes}.")
    network = copy.deepcopy(trained.network)  # weights without a card share the network of the config
    wanted = spacing or trained.spacing
    wanted = None if wanted is None or all(edge is None for edge in wanted) else tuple(wanted)
    return Member(file, wanted, network, segmentation(network, spacing=wanted, patch_size=trained.patch_size), card)


def stored_prediction(folder: Path, case: str, grid: Volume, num_classes: int) -> np.ndarray:
    """The label map that an earlier run left for a case, in ``<case>/`` or as ``<case>.nii.gz``.

    Raises:
        InputError: there is none, or several; it lies on another grid than the case, or has other classes.
    """
    beside = [file for file in _images(folder) if image_stem(file) == case]
    within = [f for f in _images(folder / case) if not any(word in f.name.lower() for word in _NOT_LABELS)]
    found = beside or [file for file in within if image_stem(file) == _WANTED] or within
    if len(found) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise InputError(
            f"{folder} needs one label map for the case {case}; there is {there}. "
            f"Give {case}/{_WANTED}.nii.gz or {case}.nii.gz for every case, or exclude the case."
        )
    volume = read_label_map(found[0])
    check_same_grid(grid, volume)
    if volume.array.max() >= num_classes:
        raise InputError(
            f"{found[0]} holds class {volume.array.max()}, and num_classes is {num_classes} "
            f"(0 to {num_classes - 1}). Correct num_classes, or give predictions of these classes."
        )
    return volume.array


def image_hashes(cases: Sequence[SequenceCase]) -> dict[str, str]:
    """Name of each case -> SHA-256 of its first sequence: other patients of the same name are not taken for it."""
    return {case.name: sha256(next(path for path in case.channels if path is not None)) for case in cases}


def patient_roles(
    cases: Mapping[str, str], members: Mapping[str, Sequence[Member]], exclude: Sequence[str] = ()
) -> dict[str, str]:
    """What each case was used for: as the cards of the weights say in ``adaptation_patients``, and `exclude`.

    A case is known again by its images, whatever it is called now; with cards that hold names alone, by its name.

    Args:
        cases: the judged ones, as `image_hashes` gives them.
        members: of each method.
        exclude: names of cases that are not judged.

    Returns:
        Case -> ``unlabelled by METHOD, ...``, `TESTING_ONLY`, or `NOT_KNOWN` where nobody said anything.
    """
    used: dict[str, set[str]] = {}
    for name, seeds in members.items():
        for member in seeds:
            patients = getattr(member.card, "adaptation_patients", None)
            if patients:
                used.setdefault(name, set()).update(patients.values() if isinstance(patients, Mapping) else patients)
    otherwise = TESTING_ONLY if used or exclude else NOT_KNOWN
    roles = {}
    for case, image in cases.items():
        by = [name for name, patients in used.items() if not patients.isdisjoint({case, image})]
        roles[case] = f"unlabelled by {', '.join(by)}" if by else otherwise
    return roles


def role_notes(roles: Mapping[str, str], exclude: Sequence[str] = ()) -> list[str]:
    """What a reader of the table has to know about its patients, as sentences."""
    said = []
    if exclude:
        said.append(f"Left out: {', '.join(exclude)}.")
    seen = [case for case, role in roles.items() if role not in (TESTING_ONLY, NOT_KNOWN)]
    if seen:
        said.append(
            f"{len(seen)} of {len(roles)} patients were used without their labels for adaptation ({', '.join(seen)}): "
            "what they show is not what a new patient gets."
        )
    if NOT_KNOWN in roles.values():
        said.append("Neither the cards of the weights nor exclude say which patients were used for adaptation.")
    return said


def shown_file(file: Path) -> str:
    """A weights file or folder as tables name it: trainings give their weights one name, in folders of their own."""
    place = file.absolute()
    return place.name if file.is_dir() else f"{place.parent.name}/{place.name}"


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file() and image_suffix(file)) if folder.is_dir() else []

"""Nodule patches in HU, their ratings, and the split by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medical_gans.errors import InputError, SettingError

CLASSES = ("benign", "malignant", "indeterminate")
"""Names of the labels 0, 1, 2: rated 1-2, 4-5, and 3."""

SPLITS = ("train", "validation", "test")
_LABEL_OF_RATING = np.array([-1, 0, 0, 2, 1, 1], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class NodulePatches:
    """Patches centred on nodules.

    Attributes:
        hounsfield: ``(n, rows, columns)`` or ``(n, rows, columns, slices)`` int16, clipped to the window. Rows run
            from the patient's front to the back, columns from the patient's right to the left, slices upward.
        malignancy: ``(n,)`` int8, rating 1 to 5; 0 where unknown.
        patient: ``(n,)`` names.
        name: ``(n,)`` unique names, safe for file names.
        spacing: mm along the axes of a patch; NaN where the source does not say or patches differ.
    """

    hounsfield: np.ndarray
    malignancy: np.ndarray
    patient: np.ndarray
    name: np.ndarray
    spacing: tuple[float, ...]

    @property
    def label(self) -> np.ndarray:
        """``(n,)`` int64: index into `CLASSES`, -1 where the rating is unknown."""
        return _LABEL_OF_RATING[self.malignancy]

    def __len__(self) -> int:
        return len(self.hounsfield)

    def select(self, chosen: np.ndarray | Sequence[int] | slice) -> NodulePatches:
        """Those patches that a mask, a slice or indices choose."""
        index = chosen if isinstance(chosen, slice) else np.asarray(chosen)
        if isinstance(index, np.ndarray) and not index.size:
            index = index.astype(np.int64)
        return NodulePatches(
            self.hounsfield[index], self.malignancy[index], self.patient[index], self.name[index], self.spacing
        )


def split_by_patient(
    patches: NodulePatches,
    split: str = "train",
    fractions: Sequence[float] = (0.6, 0.1, 0.3),
    seed: int = 0,
) -> NodulePatches:
    """The patches of one side of a split into train, validation and test.

    On which side a patient is follows from the patient's name and the seed alone. So a patient stays there when
    other patients, or some of the patient's own nodules, are left out before the split; the sizes of the sides
    equal the fractions on average only.

    Args:
        patches: of all sides.
        split: ``train``, ``validation`` or ``test``.
        fractions: of the patients on each side; they add up to 1.
        seed: draws another split.

    Raises:
        InputError: nobody is on this side although its fraction is above 0.
        SettingError: the split is unknown, or the fractions are not three that add up to 1.
    """
    if split not in SPLITS:
        raise SettingError(f"split is {split!r}; choose {', '.join(SPLITS)}.")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise SettingError(
            f"The fractions of train, validation and test are {list(fractions)}; give three that add up to 1."
        )
    side = SPLITS.index(split)
    low, high = sum(fractions[:side]), sum(fractions[: side + 1]) if side < 2 else 2.0
    names, index = np.unique(patches.patient, return_inverse=True)
    places = np.array([_place(str(name), seed) for name in names])
    chosen = (places >= low) & (places < high)
    if not chosen.any() and fractions[side] > 0:
        raise InputError(
            f"Of {len(names)} patients none falls into the split {split!r} with a fraction of {fractions[side]:g}. "
            "Give more patients, a larger fraction, or another split_seed."
        )
    return patches.select(chosen[index])


def check_ratings(ratings: np.ndarray, source: object) -> np.ndarray:
    """Ratings as int8; a half, such as the median of two readers, goes to the side of 3 (indeterminate).

    Raises:
        InputError: a rating is no number, or not 0 (unknown) or 1 to 5.
    """
    try:
        values = np.asarray(ratings, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{source} has malignancy ratings that are no numbers. Give 1 to 5, 0 for unknown.") from error
    wrong = ~((values == 0) | ((values >= 1) & (values <= 5)))
    if wrong.any():
        raise InputError(
            f"{source} has {int(wrong.sum())} malignancy ratings out of range, the first {values[wrong][0]:g}. "
            "Ratings are 1 to 5, and 0 for unknown."
        )
    return np.where(values < 3, np.floor(values + 0.5), np.ceil(values - 0.5)).astype(np.int8)


def require_classes(patches: NodulePatches, classes: Mapping[int, str], what: str) -> None:
    """Refuse patches without a sample of each class.

    Args:
        patches: to look through.
        classes: label to name.
        what: they are, as the message calls them, such as ``the test patients``.

    Raises:
        InputError: a class has no sample.
    """
    missing = [name for label, name in classes.items() if not (patches.label == label).any()]
    if missing:
        counts = ", ".join(f"{int((patches.label == label).sum())} {name}" for label, name in enumerate(CLASSES))
        raise InputError(
            f"The class {' and '.join(missing)} has no sample among {what} ({counts}, "
            f"{int((patches.label < 0).sum())} without a rating). Give nodules of each class."
        )


def _place(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on name and seed only."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big") / 2**56

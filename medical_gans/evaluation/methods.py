"""Where synthetic CTs come from that are judged: a finished inference run, or an intensity lookup table."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medical_gans.baselines import IntensityLookup
from medical_gans.errors import InputError
from medical_gans.io import Volume, check_same_grid, find_cases, read_volume, whole_file
from medical_gans.pairs import Pair, read_pair
from medical_gans.transforms import body_mask, mr_reference_intensity, normalise_mr

logger = logging.getLogger(__name__)


class StoredSyntheticCt:
    """Synthetic CTs in the output folder of an inference run, ``<case>/synthetic_ct.nii.gz``.

    Their place in the patient is judged too: an affine that is off is an error, never put right.

    Args:
        prediction_dir: the folder.
    """

    def __init__(self, prediction_dir: str | Path) -> None:
        self.prediction_dir = Path(prediction_dir)

    def __call__(self, pair: Pair) -> np.ndarray:
        """HU on the grid of the pair.

        Raises:
            InputError: the file is missing, cannot be read, or lies on another grid than the MR.
        """
        stored = read_volume(self.prediction_dir / pair.name / "synthetic_ct.nii.gz")
        check_same_grid(pair.mr, stored)
        return stored.array


class LookupBaseline:
    """HU by MR intensity alone (see `baselines.IntensityLookup`), for whole volumes.

    Args:
        table: from normalised MR intensity to HU.
    """

    def __init__(self, table: IntensityLookup) -> None:
        self.table = table

    @classmethod
    def from_source(cls, lookup_pairs: str | Path) -> LookupBaseline:
        """Fit to a folder of training pairs, or load a stored table (.json).

        Raises:
            InputError: the table cannot be read, or there is no usable pair.
        """
        source = Path(lookup_pairs)
        return cls(_stored_table(source) if source.suffix.lower() == ".json" else _fitted_table(source))

    def __call__(self, pair: Pair) -> np.ndarray:
        """HU on the grid of the pair."""
        return self.table(_unit_intensity(pair.mr))

    def save(self, path: Path) -> Path:
        """Write the table as JSON, to be given as `lookup_pairs` again.

        Raises:
            OutputError: the file cannot be written.
        """
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.table.state_dict()) + "\n")
        return path


def _stored_table(path: Path) -> IntensityLookup:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a lookup table: {error}.") from error
    return IntensityLookup.from_state_dict(state if isinstance(state, dict) else {})


def _fitted_table(folder: Path) -> IntensityLookup:
    return IntensityLookup.fit(_training_pairs(folder))


def _training_pairs(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for case in tqdm(find_cases(folder, required=("mr", "ct")), desc="fitting lookup table", leave=False):
        try:
            pair = read_pair(case)
        except InputError as error:
            logger.warning("The lookup table does without %s: %s", case.name, error)
            continue
        yield _unit_intensity(pair.mr), pair.ct.array, pair.mask


def _unit_intensity(mr: Volume) -> np.ndarray:
    return normalise_mr(mr.array, mr_reference_intensity(mr.array, body_mask(mr.array, mr.spacing)))

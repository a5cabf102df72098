"""The baseline by MR intensity, from folders and files (the table itself: `baselines.IntensityLookup`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medical_gans.data.pairs import Pair, read_pair
from medical_gans.errors import InputError
from medical_gans.evaluation.baselines import IntensityLookup
from medical_gans.io import find_training_cases, whole_file
from medical_gans.transforms import mr_reference_intensity, normalise_mr

logger = logging.getLogger(__name__)


class LookupBaseline:
    """HU by MR intensity alone, for whole volumes.

    Args:
        table: from normalised MR intensity to HU.
        fitted: whether it was fitted now, not read from a file.
    """

    def __init__(self, table: IntensityLookup, fitted: bool = True) -> None:
        self.table = table
        self.fitted = fitted

    @classmethod
    def from_source(cls, lookup_pairs: str | Path) -> LookupBaseline:
        """Fit to training pairs (a folder or data list), or take a stored table (.json).

        Raises:
            InputError: the table cannot be read, or there is no usable pair.
        """
        source = Path(lookup_pairs)
        state = _json_object(source) if source.is_file() and source.suffix.lower() == ".json" else {}
        if "hounsfield" in state:
            return cls(IntensityLookup.from_state_dict(state), fitted=False)
        return cls(IntensityLookup.fit(_training_pairs(source)))

    def __call__(self, pair: Pair) -> np.ndarray:
        """HU on the grid of the pair."""
        return self.table(_unit_intensity(pair))

    def save(self, path: Path) -> Path:
        """Write the table as JSON, which `from_source` takes.

        Raises:
            OutputError: the file cannot be written.
        """
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.table.state_dict()) + "\n")
        return path


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no readable lookup table or data list: {error}.") from error
    return content if isinstance(content, dict) else {}


def _training_pairs(source: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    cases = find_training_cases(source, paired=True, validation_fraction=0.0, seed=0)
    for case in tqdm(cases.mr, desc="fitting the lookup table", leave=False):
        try:
            pair = read_pair(case)
        except InputError as error:
            logger.warning("The lookup table is fitted without %s: %s", case.name, error)
            continue
        yield _unit_intensity(pair), pair.ct.array, pair.mask


def _unit_intensity(pair: Pair) -> np.ndarray:
    return normalise_mr(pair.mr.array, mr_reference_intensity(pair.mr.array, pair.mask))

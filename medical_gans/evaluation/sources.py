"""Where the synthetic CTs come from that are judged: made now, or left by an inference run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import InputError
from medical_gans.io import Volume, check_same_grid, read_volume


class HasMr(Protocol):
    """A patient with an MR.

    Attributes:
        name: of the case.
        mr: scanner units.
    """

    @property
    def name(self) -> str: ...

    @property
    def mr(self) -> Volume: ...


@dataclass(frozen=True, eq=False)
class Examination:
    """A patient whose true CT is not known; see `HasMr`."""

    name: str
    mr: Volume


class SyntheticCtSource(Protocol):
    """Hands out the synthetic CT of an MR.

    Attributes:
        settings: that the synthetic CTs depend on, as plain values.
        weights: files that the generators were loaded from.
    """

    settings: dict[str, Any]
    weights: Sequence[Path]

    def __call__(self, pair: HasMr) -> np.ndarray:
        """HU on the grid of the MR."""

    def file(self, name: str) -> Path | None:
        """The file of a case; None where its synthetic CT is made on the spot."""

    def warnings(self, pair: HasMr) -> list[str]:
        """What makes the synthetic CT doubtful, as sentences."""


def synthetic_ct_source(
    prediction_dir: str | Path | None,
    load_generators: Callable[[], Any],
    synthesis: Callable[..., Any],
    *,
    strict: bool = False,
) -> SyntheticCtSource:
    """What a finished inference run left or, without one, generators that are loaded now.

    Args:
        prediction_dir: output folder of the inference run; with it the other arguments are not used.
        load_generators: gives trained generators, as `synthesis.load_generators` does.
        synthesis: makes of generators what translates an MR: `synthesis.SliceSynthesis`.
        strict: refuse an MR unlike those of training instead of warning.

    Raises:
        InputError: the folder does not exist, or the weights cannot be used.
        SettingError: see `synthesis.SliceSynthesis`.
    """
    if prediction_dir is not None:
        return StoredSyntheticCt(prediction_dir)
    trained = load_generators()
    translate = synthesis(trained.generators)
    return MadeNow(translate, trained.files, trained.fingerprint, strict)


class MadeNow:
    """Synthetic CTs that generators make of each MR.

    Args:
        synthesis: from an MR to an object with ``hounsfield``; its ``settings`` go into the manifest.
        weights: files that the generators were loaded from.
        fingerprint: of the training images, to which each MR is compared.
        strict: refuse an MR that differs from the training images instead of warning.
    """

    def __init__(
        self,
        synthesis: Any,
        weights: Sequence[Path] = (),
        fingerprint: Fingerprint | None = None,
        strict: bool = False,
    ) -> None:
        self.synthesis = synthesis
        self.weights = weights
        self.fingerprint = fingerprint
        self.strict = strict
        self.settings: dict[str, Any] = {**synthesis.settings, "strict": strict}

    def __call__(self, pair: HasMr) -> np.ndarray:
        """HU on the grid of the MR."""
        made: np.ndarray = self.synthesis(pair.mr).hounsfield
        return made

    def file(self, name: str) -> Path | None:
        """There is none."""
        return None

    def warnings(self, pair: HasMr) -> list[str]:
        """How the MR differs from those of training.

        Raises:
            InputError: it does, and that is to be refused.
        """
        if self.fingerprint is None:
            return []
        mr = pair.mr
        return self.fingerprint.compare(mr.array, mr.spacing, mr.modality, strict=self.strict)


class StoredSyntheticCt:
    """Synthetic CTs in the output folder of an inference run, ``<case>/synthetic_ct.nii.gz``.

    Their place in the patient is judged too: an affine that is off is an error, never put right.

    Args:
        prediction_dir: the folder.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(self, prediction_dir: str | Path) -> None:
        self.prediction_dir = Path(prediction_dir)
        if not self.prediction_dir.is_dir():
            raise InputError(f"prediction_dir {prediction_dir} is no folder. Give that of an inference run.")
        self.settings: dict[str, Any] = {"prediction_dir": str(prediction_dir)}
        self.weights: Sequence[Path] = ()

    def __call__(self, pair: HasMr) -> np.ndarray:
        """HU on the grid of the MR.

        Raises:
            InputError: the file is missing, cannot be read, or lies on another grid than the MR.
        """
        stored = read_volume(self.file(pair.name))
        check_same_grid(pair.mr, stored)
        return stored.array

    def file(self, name: str) -> Path:
        """The file of a case."""
        return self.prediction_dir / name / "synthetic_ct.nii.gz"

    def warnings(self, pair: HasMr) -> list[str]:
        """There are none: the inference run gave its own."""
        return []

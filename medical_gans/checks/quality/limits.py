"""Lights, and where they change: what is usual for a site, in ``<weights>_quality.json`` beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scipy import special

from medical_gans.errors import InputError
from medical_gans.io.writing import whole_file

GREEN, AMBER, RED, GREY = "green", "amber", "red", "not judged"
MEANING = (
    "Checks without a true CT. green: like the images of training; amber: look at it; red: unlike them. Lights say "
    "how usual an image is, not how right it is. Research use only."
)


@dataclass(frozen=True)
class Check:
    """A light and its reason.

    Attributes:
        name: what was looked at.
        light: ``green``, ``amber``, ``red`` or ``not judged``.
        found: figure with its unit.
        limit: where amber and red begin; empty where nothing was judged.
        advice: what to look at, where the light is amber or red.
        needed: False for what may stay unjudged without leaving a doubt.
        voxel: where it shows most, along right, anterior, superior; None where it shows nowhere in particular.
    """

    name: str
    light: str
    found: str
    limit: str = ""
    advice: str = ""
    needed: bool = True
    voxel: tuple[float, float, float] | None = None

    def row(self) -> dict[str, str]:
        """For the table of the report."""
        return {"check": self.name, "light": self.light, "found": self.found, "limit": self.limit}

    def sentence(self) -> str:
        """For warnings."""
        return f"Check of {self.name} is {self.light}: {self.found} (limit: {self.limit}). {self.advice}"


def upper_light(value: float, amber: float, red: float) -> str:
    """Light of a figure that should be small."""
    return RED if value > red else AMBER if value > amber else GREEN


def worst(checks: Sequence[Check]) -> str:
    """The light of all checks together; it is green only where every check that is needed could judge."""
    lights = {check.light for check in checks if check.needed or check.light != GREY}
    return next((light for light in (RED, AMBER, GREY, GREEN) if light in lights), GREY)


AMBER_BEYOND, RED_BEYOND = 0.05, 0.002
"""Probability that a patient like those of training lies outside the interval of green, and of amber."""

_LEAST_SHARE = 1e-4
_LEAST_SD = {"linear": 5.0, "share": 0.2}
"""HU, and log odds: few patients may happen to be alike."""


@dataclass(frozen=True)
class Usual:
    """A figure over the training patients.

    Attributes:
        count: patients.
        mean: on its scale.
        sd: sample standard deviation there.
        scale: ``linear``, or ``share`` for a share of a whole, which is nearly normal as log odds.
    """

    count: int
    mean: float
    sd: float
    scale: str = "linear"

    @classmethod
    def of(cls, values: Sequence[float], scale: str = "linear") -> Usual:
        """Of at least two values."""
        scaled = [_forward(value, scale) for value in values]
        return cls(len(scaled), float(np.mean(scaled)), float(np.std(scaled, ddof=1)), scale)

    def interval(self, beyond: float) -> tuple[float, float]:
        """Where another patient lies but for a probability of `beyond` (Student's predictive interval)."""
        sd = max(self.sd, _LEAST_SD[self.scale])
        width = float(special.stdtrit(self.count - 1, 1 - beyond / 2)) * sd * (1 + 1 / self.count) ** 0.5
        return _backward(self.mean - width, self.scale), _backward(self.mean + width, self.scale)

    def light(self, value: float) -> str:
        """Of a new value."""
        for light, beyond in ((GREEN, AMBER_BEYOND), (AMBER, RED_BEYOND)):
            low, high = self.interval(beyond)
            if low <= value <= high:
                return light
        return RED


@dataclass(frozen=True)
class QualityLimits:
    """What the gate compares with.

    Attributes:
        site: in plain words.
        tissue: figures of the HU in the body, by name (see `measures.tissue_figures`).
        slice_mean: of the quantiles of normalised MR intensity of a slice, ``(quantile,)``.
        slice_precision: inverse of their covariance.
        slice_distance: Mahalanobis distances that 95 % and 99.8 % of the training slices do not exceed.
        void_ml: largest signal void of each training MR in ml.
        vault: [red, amber, amber, red] of each figure of `metrics.vault.Vault`; empty for sites without a skull.
        cut_cm: outline that the sides of the picture cut in each training MR, cm per slice; empty where not measured.
        uncertainty_hu: mean standard deviation in the body of training MRs, by the number of estimates that were
            compared in each voxel; empty where it was not measured.
        realism: shares of unusual patches per real CT, that 95 % and all of them do not exceed; empty without a critic.
        patch_score: score that 1 % of the patches of real CT fall below.
    """

    site: str
    tissue: Mapping[str, Usual]
    slice_mean: Sequence[float]
    slice_precision: Sequence[Sequence[float]]
    slice_distance: Sequence[float]
    void_ml: Sequence[float]
    realism: Sequence[float] = ()
    patch_score: float = 0.0
    cut_cm: Sequence[float] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    vault: Mapping[str, Sequence[float]] = field(default_factory=dict)
    uncertainty_hu: Mapping[int, Usual] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> QualityLimits:
        """Read what `save` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            facts = json.loads(Path(path).read_text(encoding="utf-8"))
            tissue = {name: Usual(**usual) for name, usual in facts.pop("tissue").items()}
            uncertainty = {int(number): Usual(**usual) for number, usual in facts.pop("uncertainty_hu", {}).items()}
            return cls(tissue=tissue, uncertainty_hu=uncertainty, **facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} cannot be read as limits of the quality gate. Take the file of the weights."
            ) from error


def _forward(value: float, scale: str) -> float:
    if scale == "share":
        return float(special.logit(np.clip(value, _LEAST_SHARE, 1 - _LEAST_SHARE)))
    return float(value)


def _backward(value: float, scale: str) -> float:
    return float(special.expit(value)) if scale == "share" else float(value)

"""The fingerprint of a training set, and what it says about an input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medical_gans.checks.fingerprint.measurement import Contrast, Measurement, Spread, measure
from medical_gans.errors import InputError
from medical_gans.transforms.reading import (
    HOUNSFIELD_BELOW,
    is_ct_without_intercept,
    like_hounsfield,
    lowest_percentile,
)

_EMPTY_FRACTION = 0.01
_SATURATED_FRACTION = 0.05
_SPACINGS = ("spacing_1", "spacing_2", "spacing_3")
_EXTENTS = ("extent_1", "extent_2", "extent_3")
_BACKGROUND = {"background": "the background has {value:.2f} (training: {low:.2f} to {high:.2f}, where -1 is black)"}
_FRAMING = {
    "body_volume": "the body has {value:.3g} litres (training: {low:.3g} to {high:.3g})",
    "body_fraction": "the body fills {value:.0%} of the volume (training: {low:.0%} to {high:.0%})",
    "border": "the body covers {value:.0%} of the borders of the picture (training: {low:.0%} to {high:.0%})",
}


@dataclass(frozen=True)
class Fingerprint:
    """What the training images of a set of weights were like.

    Attributes:
        modality: ``"MR"`` or ``"CT"``.
        anatomy: site in plain words, such as ``"head"``; used in sentences.
        scalars: spread of each figure of `Measurement.scalars`.
        contrast: quantiles of the normalised intensity in the body.
    """

    modality: str
    anatomy: str
    scalars: Mapping[str, Spread]
    contrast: Contrast

    @classmethod
    def from_volumes(
        cls, volumes: Iterable[tuple[np.ndarray, Sequence[float]]], *, modality: str = "MR", anatomy: str
    ) -> Fingerprint:
        """Measure the training set; volumes are taken one at a time.

        Args:
            volumes: pairs of array ``(i, j, k)`` as read from file (HU or scanner units) and spacing in mm.
            modality: of all volumes.
            anatomy: site in plain words.

        Raises:
            InputError: no volume shows a body.
        """
        found = [figures for array, spacing in volumes if (figures := measure(array, spacing, modality))]
        if not found:
            raise InputError(f"No {modality} of the training set shows a body, so its fingerprint cannot be taken.")
        return cls.from_measurements(found, modality=modality, anatomy=anatomy)

    @classmethod
    def from_measurements(cls, found: Sequence[Measurement], *, modality: str, anatomy: str) -> Fingerprint:
        """From what was measured before."""
        names = dict.fromkeys(name for figures in found for name in figures.scalars)
        scalars = {
            name: Spread.of(name, [figures.scalars[name] for figures in found if name in figures.scalars])
            for name in names
        }
        return cls(modality, anatomy, scalars, Contrast.of([figures.quantiles for figures in found]))

    def to_json(self) -> str:
        """Text that `from_json` turns back into an equal fingerprint."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Read what `to_json` wrote.

        Raises:
            InputError: the text is something else.
        """
        try:
            facts: dict[str, Any] = json.loads(text)
            scalars = {name: Spread(**spread) for name, spread in facts["scalars"].items()}
            contrast = facts["contrast"]
            rows = tuple(tuple(row) for row in contrast["covariance"])
            return cls(
                facts["modality"],
                facts["anatomy"],
                scalars,
                Contrast(contrast["count"], tuple(contrast["mean"]), rows),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "The fingerprint of the weights cannot be read; take the file that was published with them."
            ) from error

    def compare(
        self,
        array: np.ndarray,
        spacing: Sequence[float],
        modality: str | None = None,
        *,
        strict: bool = False,
    ) -> list[str]:
        """Say in plain words where an input differs from what the weights know.

        Args:
            array: ``(i, j, k)`` as read from file.
            spacing: mm.
            modality: what the file's header says, None where it says nothing.
            strict: refuse an input that differs.

        Returns:
            Sentences with what was found, what is needed and what to do; none when all is as in training.

        Raises:
            InputError: `strict`, and the input differs.
        """
        sentences = self._foreign_modality(array, modality)
        if not sentences:
            figures = measure(array, spacing, self.modality)
            if figures is None or figures.scalars["body_fraction"] < _EMPTY_FRACTION:
                sentences = [
                    "The volume is almost empty: no body was found in it, but these weights need "
                    f"{self._wanted}. Check that the right file or series was chosen."
                ]
            else:
                sentences = [*self._saturation(figures), *self._grid(figures), *self._appearance(figures)]
        if strict and sentences:
            raise InputError(" ".join(sentences))
        return sentences

    @property
    def _wanted(self) -> str:
        return f"{'an' if self.modality == 'MR' else 'a'} {self.modality} of the {self.anatomy}"

    def _foreign_modality(self, array: np.ndarray, modality: str | None) -> list[str]:
        need = f"but these weights need {self._wanted}"
        if modality is not None and modality != self.modality:
            return [f"The file says that it is {modality}, {need}. Choose the {self.modality} series."]
        lowest = lowest_percentile(array)
        if self.modality == "CT" and lowest > HOUNSFIELD_BELOW:
            return [
                f"The values do not look like Hounsfield units (99 % lie above {lowest:.0f}, where a CT "
                f"shows air at -1000), {need}. Choose the CT series, and check that its rescale intercept "
                "was applied."
            ]
        if self.modality == "MR" and lowest < HOUNSFIELD_BELOW:
            return [
                f"The values look like the Hounsfield units of a CT ({like_hounsfield(array)}), "
                f"{need}. Choose the MR series."
            ]
        if self.modality == "MR" and is_ct_without_intercept(array):
            return [
                "The values look like a CT without its rescale intercept (nearly all tissue is close to "
                f"1024), {need}. Choose the MR series."
            ]
        return []

    def _saturation(self, figures: Measurement) -> list[str]:
        if figures.saturated < _SATURATED_FRACTION:
            return []
        return [
            f"{figures.saturated:.0%} of the body has the very highest value: the image is saturated, and "
            "what was bright is lost. Export it again without clipping or 8-bit windowing."
        ]

    def _grid(self, figures: Measurement) -> list[str]:
        sentences = []
        if self._outside(figures, _SPACINGS):
            sentences.append(
                f"Voxels measure {_sizes(figures, _SPACINGS)} mm, those of training "
                f"{self._ranges(_SPACINGS)} mm. Check the voxel size in the header, and use images of a "
                "resolution like that of training."
            )
        if outside := self._outside(figures, _EXTENTS):
            low = figures.scalars[outside[0]] < self.scalars[outside[0]].low
            sentences.append(
                f"The field of view is {'smaller' if low else 'larger'} than in training: "
                f"{_sizes(figures, _EXTENTS)} mm instead of {self._ranges(_EXTENTS)} mm. Check the voxel "
                f"size in the header, and {'use an image that shows more' if low else 'crop to the body'}."
            )
        return sentences

    def _appearance(self, figures: Measurement) -> list[str]:
        distance = self.contrast.distance(figures.quantiles)
        framing = self._outside(figures, tuple(_FRAMING))
        wrong_size = bool(self._outside(figures, _EXTENTS))
        if wrong_size:  # said already, and the cause of a wrong volume
            framing = [name for name in framing if name != "body_volume"]
        if not wrong_size and (framing or distance > 1) and self._skull_stripped(figures):
            return [
                "The head looks skull-stripped: no scalp around it, and "
                f"{self._figure(figures, 'body_volume')}. These weights need the whole head with skull "
                "and scalp; use the image from before brain extraction."
            ]
        reasons = []
        if distance > 1:
            shift = self.contrast.shift(figures.quantiles)
            reasons.append(
                f"its grey values differ by {shift:.0%} of the range on average ({distance:.2g} times the "
                "limit for another patient)"
            )
        unlike = (*self._outside(figures, ("background",)), *framing)
        reasons += [self._figure(figures, name) for name in unlike]
        if not reasons:
            return []
        if framing:
            return [
                f"This does not look like the {self.anatomy} {self.modality} images of training: "
                f"{'; '.join(reasons)}. If it is another part of the body, choose weights for that site; if "
                "not, check voxel size and field of view."
            ]
        return [
            f"The contrast is not that of the {self.anatomy} {self.modality} images of training: "
            f"{'; '.join(reasons)}. Use images made and stored like those: sequence, fat suppression, "
            "contrast agent, the scanner's own values."
        ]

    def _skull_stripped(self, figures: Measurement) -> bool:
        """A head smaller than any of training, without the scalp over dark skull that all of them have."""
        rim = self.scalars.get("rim")
        if self.anatomy != "head" or rim is None:
            return False
        small = figures.scalars["body_volume"] < self.scalars["body_volume"].low
        # a scalp dimmer than the brain, as coils far from it leave, makes the rim of a whole head negative too
        return small and figures.scalars.get("rim", 0.0) < (rim.low / 2 if rim.low > 0 else rim.low)

    def _figure(self, figures: Measurement, name: str) -> str:
        spread = self.scalars[name]
        return (_BACKGROUND | _FRAMING)[name].format(value=figures.scalars[name], low=spread.low, high=spread.high)

    def _outside(self, figures: Measurement, names: Sequence[str]) -> list[str]:
        """Which of the figures no case like those of training has."""
        outside = []
        for name in names:
            value, spread = figures.scalars.get(name), self.scalars.get(name)
            if value is not None and spread is not None:
                low, high = spread.interval(name)
                if not low <= value <= high:
                    outside.append(name)
        return outside

    def _ranges(self, names: Sequence[str]) -> str:
        return " x ".join(_range(self.scalars[name].low, self.scalars[name].high) for name in names)


def _sizes(figures: Measurement, names: Sequence[str]) -> str:
    return " x ".join(f"{figures.scalars[name]:.3g}" for name in names)


def _range(low: float, high: float) -> str:
    least, most = f"{low:.3g}", f"{high:.3g}"
    return least if least == most else f"{least}-{most}"

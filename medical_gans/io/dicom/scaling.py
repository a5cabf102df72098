"""How the stored numbers of each slice become real ones: by Rescale, by RealWorldValueMapping, or as they are.

CT takes what gives HU, and needs both halves of it. For MR the numbers have no unit, but slices must be comparable:
factors that differ from slice to slice are applied, half a rescale is completed by what changes nothing, and where
two scales of one slice contradict each other that is said (PS3.3, C.11.1 and C.7.6.16.2.11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medical_gans.errors import InputError
from medical_gans.io.dicom.headers import UNREADABLE, DicomSlice, number, text, value_of, words

_HU_TYPES = ("", "HU", "HU_MOD", "US")
_SAME = 1e-5  # of a factor: rounding of decimal strings
_PHILIPS_SLOPE = 0x2005100E
_PHILIPS_OWNER = 0x20050010

Factors = tuple[float, float]


def scaled(name: str, slices: Sequence[DicomSlice]) -> tuple[list[DicomSlice], tuple[str, ...], tuple[str, ...]]:
    """The slices with the factors of each, and sentences: what was completed, and where scales contradict.

    Raises:
        InputError: the series does not say, for every slice alike, how stored numbers become real ones.
    """
    if any("ModalityLUTSequence" in one.header for one in slices):
        raise InputError(f"{name} maps its values through a Modality LUT, which cannot be read. Convert it to NIfTI.")
    is_ct = text(slices[0].header, "Modality") == "CT"
    units = {text(one.header, "RescaleType") for one in slices} - set(_HU_TYPES) if is_ct else set()
    if units:
        raise InputError(f"{name} is in {', '.join(sorted(units))}, not in HU (RescaleType). Give the series in HU.")
    factors, repairs = _rescale(name, slices, is_ct)
    doubts: list[str] = []
    if not is_ct:
        factors = _against_mapping(name, slices, factors, repairs, doubts)
        doubts += _against_philips(slices, factors)
    if factors is not None:
        slices = [replace(one, rescale=pair) for one, pair in zip(slices, factors, strict=True)]
    return list(slices), tuple(repairs), tuple(doubts)


def _rescale(name: str, slices: Sequence[DicomSlice], is_ct: bool) -> tuple[list[Factors] | None, list[str]]:
    """RescaleSlope and RescaleIntercept of every slice, None where no slice has either."""
    slopes, intercepts = (_values(name, slices, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    repairs: list[str] = []
    if not is_ct:
        if all(value is None for value in (*slopes, *intercepts)):
            return None, repairs
        for keyword, values, neutral in (("RescaleSlope", slopes, 1.0), ("RescaleIntercept", intercepts, 0.0)):
            missing = values.count(None)
            if missing and all(value in (None, neutral) for value in values):
                values[:] = [neutral] * len(values)
                if set(slopes) != {1.0} or set(intercepts) - {None, 0.0}:
                    repairs.append(f"{keyword} is missing in {missing} of {len(values)} images; {neutral:g} was taken.")
    pairs = list(zip(slopes, intercepts, strict=True))
    complete = [(slope, intercept) for slope, intercept in pairs if slope is not None and intercept is not None]
    if len(complete) < len(pairs):
        raise InputError(
            f"{name} lacks RescaleSlope or RescaleIntercept in {len(pairs) - len(complete)} of {len(slices)} images, "
            "so its real values are unknown. Export it from its source again."
        )
    if any(not (np.isfinite(pair).all() and pair[0]) for pair in complete):
        raise InputError(f"{name} has a RescaleSlope that is zero or no number. Export it again.")
    return complete, repairs


def _values(name: str, slices: Sequence[DicomSlice], keyword: str) -> list[float | None]:
    """None where an image does not have the attribute; refused where it has no number in it."""
    values = [number(one.header, keyword) for one in slices]
    for one, value in zip(slices, values, strict=True):
        if value is None and keyword in one.header and words(one.header, keyword):
            raise InputError(f"{name} has a {keyword} that is zero or no number. Export it again.")
    return values


def _against_mapping(
    name: str, slices: Sequence[DicomSlice], factors: list[Factors] | None, repairs: list[str], doubts: list[str]
) -> list[Factors] | None:
    """The rescale, or the mapping to real-world values where that is what tells slices apart."""
    if not any("RealWorldValueMappingSequence" in one.header for one in slices):
        return factors
    mappings = [_mappings(one) for one in slices]
    if all(found == mappings[0] for found in mappings):  # one scale for all: slices are comparable as they are
        if factors is not None and len(set(factors)) > 1 and len(mappings[0]) == 1:
            doubts.append(
                "RescaleSlope differs from slice to slice, RealWorldValueMapping does not; RescaleSlope was taken."
            )
        return factors
    single = [found[0] for found in mappings if len(found) == 1 and np.isfinite(found[0][0])]
    if len(single) < len(mappings) or len({unit for _, _, unit in single}) > 1:
        raise InputError(
            f"{name} maps its values differently from slice to slice (RealWorldValueMapping), in {len(single)} of "
            f"{len(slices)} images by one linear mapping to one unit; all must have that. Export it again."
        )
    mapped = [(slope, intercept) for slope, intercept, _ in single]
    if factors is None:
        repairs.append("RealWorldValueMapping differs from slice to slice and was applied.")
        return mapped
    if _proportional(factors, mapped):
        return factors
    if len(set(factors)) > 1:
        raise InputError(
            f"{name} has RescaleSlope and RealWorldValueMapping that contradict each other from slice to slice. "
            "Export it again, or convert it to NIfTI."
        )
    doubts.append("RealWorldValueMapping differs from slice to slice, RescaleSlope does not; the mapping was taken.")
    return mapped


def _mappings(one: DicomSlice) -> list[tuple[float, float, str]]:
    """Slope, intercept and unit of each linear mapping; one by a table has no number."""
    found = []
    for item in value_of(one.header, "RealWorldValueMappingSequence") or ():
        units = item.get("MeasurementUnitsCodeSequence") or ()
        unit = text(units[0], "CodeValue") if units else ""
        slope, intercept = number(item, "RealWorldValueSlope"), number(item, "RealWorldValueIntercept")
        if not slope or not np.isfinite([slope, intercept or 0.0]).all():
            found.append((np.inf, 0.0, unit + text(item, "RealWorldValueLUTData")))
        else:
            found.append((slope, intercept or 0.0, unit))
    return found


def _proportional(first: Sequence[Factors], second: Sequence[Factors]) -> bool:
    """Whether one linear map takes the first scale of every slice to the second."""
    ratio = second[0][0] / first[0][0]
    shift = second[0][1] - ratio * first[0][1]
    wanted = np.array([(ratio * slope, ratio * intercept + shift) for slope, intercept in first])
    return bool(np.allclose(np.array(second), wanted, rtol=_SAME, atol=_SAME * abs(ratio)))


def _against_philips(slices: Sequence[DicomSlice], factors: Sequence[Factors] | None) -> list[str]:
    """Philips keeps a second scale (2005,100E): real = shown / (RescaleSlope * scale slope)."""
    if _PHILIPS_SLOPE not in slices[0].header or "Philips" not in str(value_of(slices[0].header, _PHILIPS_OWNER)):
        return []
    scales = []
    for one, (slope, _) in zip(slices, factors or [(1.0, 0.0)] * len(slices), strict=True):
        try:
            scales.append(slope * float(one.header[_PHILIPS_SLOPE].value))
        except UNREADABLE:
            return []
    low, high = min(scales), max(scales)
    if low > 0 and high / low - 1 <= _SAME * 10:
        return []
    return [
        f"Philips' private scale (2005,100E) makes slices differ by a factor of up to {high / low if low else 0:.3g} "
        "from what RescaleSlope says; RescaleSlope was taken, as the standard has it."
    ]

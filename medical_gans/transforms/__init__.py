"""What happens to images between a file and a network, as YAML names it. What needs MONAI is loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medical_gans.transforms.intensity import (
    AIR_HU,
    HOUNSFIELD_KNOTS,
    MR_CEILING,
    body_mask,
    hounsfield_to_unit,
    mr_reference_intensity,
    normalise_mr,
    unit_to_hounsfield,
    unit_to_window,
    window_to_unit,
)

if TYPE_CHECKING:
    from medical_gans.transforms.encoding import DenoiseHounsfieldd, EncodeHounsfieldd, NormaliseMRd
    from medical_gans.transforms.grid import ToGridd, resize_in_plane
    from medical_gans.transforms.painting import CtTissues, Painter, RandomFields, Window, label_tissues
    from medical_gans.transforms.reading import ReadImaged

_HOME = {
    "CtTissues": "painting",
    "DenoiseHounsfieldd": "encoding",
    "EncodeHounsfieldd": "encoding",
    "NormaliseMRd": "encoding",
    "Painter": "painting",
    "RandomFields": "painting",
    "ReadImaged": "reading",
    "ToGridd": "grid",
    "Window": "painting",
    "label_tissues": "painting",
    "resize_in_plane": "grid",
}

__all__ = [
    "AIR_HU",
    "HOUNSFIELD_KNOTS",
    "MR_CEILING",
    "CtTissues",
    "DenoiseHounsfieldd",
    "EncodeHounsfieldd",
    "NormaliseMRd",
    "Painter",
    "RandomFields",
    "ReadImaged",
    "ToGridd",
    "Window",
    "body_mask",
    "hounsfield_to_unit",
    "label_tissues",
    "mr_reference_intensity",
    "normalise_mr",
    "resize_in_plane",
    "unit_to_hounsfield",
    "unit_to_window",
    "window_to_unit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""Points that users click or write down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medical_gans.errors import SettingError
from medical_gans.io import read_volume
from medical_gans.io.nodules import position_in_ras


def clicked_points(image: Path, besides: Mapping[str, Any], request: Mapping[str, Any]) -> Sequence[Sequence[float]]:
    """Points in RAS mm: `position` (mm, in `convention`), or the clicks of a viewer in `foreground` (voxels).

    Raises:
        SettingError: there is no point, or one is not three numbers.
    """
    given = besides.get("position")
    clicks = request.get("foreground")
    points = [given] if given and not isinstance(given[0], list) else given or clicks
    if not points:
        raise SettingError(
            "No point is given. Click one, or send position as [x, y, z] in mm or foreground as [[i, j, k]] in voxels."
        )
    for point in points:
        numbers = isinstance(point, list) and len(point) == 3
        if not numbers or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in point):
            raise SettingError(f"A point is {point!r}; give three numbers.")
    if given:
        convention = str(besides.get("convention") or "RAS").upper()
        if convention not in ("RAS", "LPS"):
            raise SettingError(f"convention is {convention!r}; choose RAS or LPS.")
        return [[float(one) for one in position_in_ras(point, convention)] for point in points]
    affine = read_volume(image).affine
    return [[float(one) for one in (affine @ [*point, 1.0])[:3]] for point in points]

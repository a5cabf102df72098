"""One check of a synthetic CT: a traffic light, what was found, and where the limits lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

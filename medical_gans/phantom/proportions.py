"""The measures of one head, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class HeadProportions:
    """Sizes in mm in the head's own frame: x right, y anterior, z superior, origin amid the cranial cavity.

    Right and left differ on purpose and always in the same sense (`sinus_scale`, `ventricle_scale`,
    `jugular_radius`, the calcification of `brain.py` on the right only), so that a flipped head can be told.
    """

    cavity: tuple[float, float, float]  # semi-axes of the cranial cavity
    skull_thickness: float  # of the vault
    skin: float
    scalp_fat: float
    face_fat: float
    subarachnoid: float  # width of the CSF between skull and brain
    sulcus: float  # half width of the CSF in a sulcus
    cortex: float  # thickness of the grey matter
    sulcal_depth: float
    ventricle_scale: tuple[float, float]  # right, left
    sinus_scale: tuple[float, float]  # right, left
    jugular_radius: tuple[float, float]  # right, left
    septum_deviation: float  # of the nasal septum to the right
    globe_radius: float
    jaw_drop: float  # opening of the mouth
    mastoid_air: float  # the larger, the more of the mastoid is air

    @classmethod
    def random(cls, rng: np.random.Generator) -> HeadProportions:
        """An adult; sizes vary by some 4 %, fat, fluid spaces and sinuses by much more."""
        size = rng.normal(1, 0.03)
        ventricle = rng.uniform(0.75, 1.35)
        sinus = rng.uniform(0.8, 1.1)
        jugular = rng.uniform(3.5, 4.5)
        width, length, height = (size * rng.normal((68, 86, 71), (2, 2.5, 2))).tolist()
        return cls(
            cavity=(width, length, height),
            skull_thickness=rng.uniform(5.5, 8.5),
            skin=rng.uniform(1.5, 2.2),
            scalp_fat=rng.uniform(2.2, 4.8),
            face_fat=rng.uniform(4, 9),
            subarachnoid=rng.uniform(1.0, 2.6),
            sulcus=rng.uniform(0.3, 0.9),
            cortex=rng.uniform(2.5, 3.2),
            sulcal_depth=rng.uniform(13, 19),
            ventricle_scale=(ventricle, ventricle * rng.uniform(1.1, 1.3)),
            sinus_scale=(sinus * rng.uniform(1.1, 1.2), sinus * rng.uniform(0.7, 0.8)),
            jugular_radius=(jugular * rng.uniform(1.2, 1.5), jugular),
            septum_deviation=rng.uniform(1.0, 3.0),
            globe_radius=rng.uniform(11.5, 12.8),
            jaw_drop=rng.uniform(0, 6),
            mastoid_air=rng.uniform(-0.5, 0.6),
        )


def on_side(pair: tuple[float, float], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The right or the left value of a pair at each point, by the sign of its x."""
    chosen: NDArray[np.float32] = np.where(x > 0, np.float32(pair[0]), np.float32(pair[1]))
    return chosen

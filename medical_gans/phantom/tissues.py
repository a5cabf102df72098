"""The tissues of the phantoms, with what CT and a 1.5 T MR see of them.

The values are typical of the literature, rounded: plausible together, not exact for anyone.
Relaxation times: Stanisz et al., MRM 54:507 (2005); Bojorquez et al., MRI 35:69 (2017); bone: Reichert et
al., MRI 23:611 (2005). Hounsfield numbers: Schneider et al., PMB 45:459 (2000), and radiology practice.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Tissue(IntEnum):
    """Label of a voxel in the map that `Phantom.tissues` returns."""

    AIR = 0  # outside the body
    CAVITY_AIR = 1  # sinuses, airway, ear
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    CORTICAL_BONE = 5
    CANCELLOUS_BONE = 6  # diploe, vertebrae, ends of long bones
    FATTY_MARROW = 7
    CSF = 8
    GREY_MATTER = 9
    DEEP_GREY_MATTER = 10
    WHITE_MATTER = 11
    VITREOUS = 12
    LENS = 13
    CONNECTIVE = 14  # dura, fascia, tendon, sclera
    CARTILAGE = 15
    MUCOSA = 16
    BLOOD = 17
    TOOTH = 18
    CALCIFICATION = 19
    TUMOUR = 20
    NECROSIS = 21
    OEDEMA = 22
    HAEMORRHAGE = 23  # acute: deoxyhaemoglobin


class TissueProperties(NamedTuple):
    """What the simulated scanners see of one tissue."""

    hu: float  # mean CT number, HU
    hu_texture: float  # standard deviation of the CT number within the tissue, HU
    t1: float  # longitudinal relaxation time at 1.5 T, ms
    t2: float  # transverse relaxation time, ms
    t2_star: float  # transverse relaxation time with the field's inhomogeneity, ms
    proton_density: float  # visible protons relative to water
    density_texture: float  # relative standard deviation of the proton density within the tissue


TISSUES: dict[Tissue, TissueProperties] = {
    Tissue.AIR: TissueProperties(-1000, 0, 1000, 1, 0.5, 0.0, 0.0),
    Tissue.CAVITY_AIR: TissueProperties(-1000, 0, 1000, 1, 0.5, 0.0, 0.0),
    Tissue.SKIN: TissueProperties(40, 15, 800, 35, 15, 0.70, 0.08),
    Tissue.FAT: TissueProperties(-100, 10, 280, 75, 40, 0.95, 0.06),
    Tissue.MUSCLE: TissueProperties(55, 8, 1000, 45, 30, 0.79, 0.06),
    Tissue.CORTICAL_BONE: TissueProperties(1350, 130, 250, 0.4, 0.3, 0.20, 0.10),
    Tissue.CANCELLOUS_BONE: TissueProperties(500, 130, 500, 50, 12, 0.45, 0.15),
    Tissue.FATTY_MARROW: TissueProperties(-50, 25, 300, 65, 25, 0.85, 0.08),
    Tissue.CSF: TissueProperties(8, 2, 4000, 2000, 800, 1.00, 0.01),
    Tissue.GREY_MATTER: TissueProperties(38, 2, 1000, 98, 80, 0.83, 0.03),
    Tissue.DEEP_GREY_MATTER: TissueProperties(37, 2, 830, 85, 60, 0.80, 0.02),  # iron shortens T1, T2
    Tissue.WHITE_MATTER: TissueProperties(29, 2, 600, 78, 65, 0.70, 0.02),
    Tissue.VITREOUS: TissueProperties(10, 2, 3800, 1500, 800, 0.98, 0.01),
    Tissue.LENS: TissueProperties(75, 5, 1000, 30, 20, 0.70, 0.02),
    Tissue.CONNECTIVE: TissueProperties(65, 10, 800, 10, 5, 0.55, 0.05),
    Tissue.CARTILAGE: TissueProperties(90, 12, 1050, 38, 20, 0.70, 0.05),
    Tissue.MUCOSA: TissueProperties(40, 8, 1100, 90, 40, 0.85, 0.06),
    Tissue.BLOOD: TissueProperties(45, 3, 1440, 200, 100, 0.90, 0.03),
    Tissue.TOOTH: TissueProperties(2000, 250, 300, 0.3, 0.2, 0.10, 0.10),
    Tissue.CALCIFICATION: TissueProperties(450, 80, 500, 8, 3, 0.30, 0.10),
    Tissue.TUMOUR: TissueProperties(42, 5, 1350, 120, 80, 0.88, 0.06),
    Tissue.NECROSIS: TissueProperties(18, 4, 2400, 350, 150, 0.95, 0.03),
    Tissue.OEDEMA: TissueProperties(21, 3, 1150, 140, 100, 0.85, 0.04),
    Tissue.HAEMORRHAGE: TissueProperties(66, 5, 1050, 45, 8, 0.85, 0.05),
}

BONE = (Tissue.CORTICAL_BONE, Tissue.CANCELLOUS_BONE, Tissue.FATTY_MARROW, Tissue.TOOTH)
BRAIN = (Tissue.GREY_MATTER, Tissue.DEEP_GREY_MATTER, Tissue.WHITE_MATTER, Tissue.CSF)
LESION = (Tissue.TUMOUR, Tissue.NECROSIS, Tissue.OEDEMA, Tissue.HAEMORRHAGE)


def table(column: str) -> NDArray[np.float32]:
    """One column of `TISSUES` as an array that a label indexes, such as `table("hu")[labels]`."""
    return np.array([getattr(TISSUES[tissue], column) for tissue in Tissue], dtype=np.float32)

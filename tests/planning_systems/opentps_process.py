"""Reads a CT series and a structure set and computes a dose, in the Python of OpenTPS, which holds nothing of ours.

    python opentps_process.py CT_FOLDER RTSTRUCT OUTPUT.npz [x y z ENERGY_MEV]

``x y z`` is the isocentre in mm (DICOM), towards which one proton spot flies from the front (gantry 0). Prints what it
has to say as JSON in the last line, and keeps arrays ``(x, y, z)`` in the output.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from opentps.core.data.images import CTImage
from opentps.core.io.dataLoader import readData


def geometry(image):
    """Origin and spacing in mm, and size in voxels."""
    return {
        "origin": [float(v) for v in image.origin],
        "spacing": [float(v) for v in image.spacing],
        "size": [int(v) for v in image.gridSize],
    }


def structures(path, ct):
    """Mask and volume of each structure of a file, on the grid of the CT."""
    (found,) = readData(str(path))
    masks = {contour.name: contour.getBinaryMask(ct.origin, ct.gridSize, ct.spacing) for contour in found.contours}
    volume = float(np.prod(ct.spacing)) / 1000
    return {name: mask.imageArray for name, mask in masks.items()}, {
        name: {"ml": float(mask.imageArray.sum()) * volume, "centre": [float(v) for v in mask.centerOfMass]}
        for name, mask in masks.items()
    }


def dose(ct, isocentre, energy):
    """Of one spot from the front, by the default scanner and machine; None where OpenTPS came without a scanner."""
    from opentps.core.data.plan import PlanProtonBeam, PlanProtonLayer, ProtonPlan
    from opentps.core.io import mcsquareIO
    from opentps.core.io.scannerReader import readScanner
    from opentps.core.processing.doseCalculation.doseCalculationConfig import DoseCalculationConfig
    from opentps.core.processing.doseCalculation.protons.mcsquareDoseCalculator import MCsquareDoseCalculator

    if not any(Path(DoseCalculationConfig().scannerFolder).glob("*.txt")):
        return None
    plan = ProtonPlan()
    plan.appendBeam(PlanProtonBeam())
    plan.beams[0].gantryAngle = 0.0
    plan.beams[0].isocenterPosition = list(isocentre)
    plan.beams[0].appendLayer(PlanProtonLayer(energy))
    plan.beams[0].layers[0].appendSpot(0, 0, 1)
    calculator = MCsquareDoseCalculator()
    calculator.ctCalibration = readScanner(DoseCalculationConfig().scannerFolder)
    calculator.beamModel = mcsquareIO.readBDL(DoseCalculationConfig().bdlFile)
    calculator.nbPrimaries = 1e5
    return calculator.computeDose(ct, plan)


def main(ct_folder, structure_set, output, *spot):
    (ct,) = [one for one in readData(ct_folder) if isinstance(one, CTImage)]
    masks, said = structures(structure_set, ct)
    arrays = {"hounsfield": ct.imageArray, **{f"mask {name}": mask for name, mask in masks.items()}}
    answer = {"ct": geometry(ct), "structures": said, "patient": ct.patient.id}
    if spot:
        image = dose(ct, [float(v) for v in spot[:3]], float(spot[3]))
        if image is not None:
            arrays["dose"], answer["dose"] = image.imageArray, geometry(image)
    np.savez_compressed(output, **arrays)
    print(json.dumps(answer))


if __name__ == "__main__":
    os.chdir(Path(sys.argv[3]).parent)
    main(*sys.argv[1:])

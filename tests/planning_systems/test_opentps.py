"""OpenTPS, an independent planning system, reads HU, place and volumes, and protons stop where they should.

OpenTPS has an environment of its own, for its pins are old: MEDICAL_GANS_OPENTPS names its Python, see
docs/how-to/planning_systems.md.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medical_gans.io import read_volume
from medical_gans.io.dicom.ct import write_ct_series
from medical_gans.io.dicom.structure_set import structure_from_mask, write_structure_set
from medical_gans.phantom.mr_series import write_mr_series
from medical_gans.phantom.sequences import SpinEcho

PROCESS = Path(__file__).with_name("opentps_process.py")
SHAPE, SPACING = (60, 80, 34), np.array([2.0, 2.0, 3.0])
ENERGY, RANGE = 100.0, 77.2  # MeV, and mm of water that such protons go (NIST PSTAR, CSDA)


@pytest.fixture(scope="module")
def opentps():
    """The Python of OpenTPS."""
    python = os.environ.get("MEDICAL_GANS_OPENTPS")
    if not python or not Path(python).is_file():
        pytest.skip("MEDICAL_GANS_OPENTPS does not name the Python of an environment with opentps-core")
    return python


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A box of water with bone at one side and a tumour: CT series, structure set, HU, masks and affine."""
    folder = tmp_path_factory.mktemp("patient")
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -60.0, -80.0, 31.0
    mr = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
    write_mr_series(folder / "mr", "p1", mr, affine, SpinEcho(500, 15))
    source = read_volume(folder / "mr")
    x, y, z = np.diag([-1.0, -1, 1]) @ lps_of_grid(source.affine, source.array.shape).reshape(3, -1)  # RAS
    hounsfield = np.full(x.shape, -1000, dtype=np.int16)
    body = (abs(x) < 50) & (abs(y) < 64) & (z > 40) & (z < 120)
    hounsfield[body] = 0
    hounsfield[body & (x < -20)] = 700  # on the right, so that a mirror image is another
    hounsfield[(x > 30) & (x < 42) & (y > -30) & (y < 40) & (z > 70) & (z < 90)] = 55
    hounsfield = hounsfield.reshape(source.array.shape)
    series = write_ct_series(hounsfield, source.affine, source.headers, folder / "out", mr=source.array)
    masks = {"BODY": hounsfield > -500, "GTV": hounsfield == 55}
    structures = [
        structure_from_mask(name, mask, series.affine, "EXTERNAL" if name == "BODY" else "GTV")[0]
        for name, mask in masks.items()
    ]
    write_structure_set(folder / "RS.dcm", structures, series.headers, label="test")
    return folder / "out" / "ct", folder / "RS.dcm", hounsfield, masks, series.affine


def ask(opentps, folder, ct, structure_set, *spot):
    """What OpenTPS prints, and the arrays that it keeps."""
    output = folder / "opentps.npz"
    command = [opentps, PROCESS, ct, structure_set, output, *spot]
    home = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}  # it writes there
    made = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=280, cwd=folder, env=home)
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout.splitlines()[-1]), np.load(output)


def lps_of_grid(affine, shape):
    """Centre in mm (DICOM) of each voxel, (3, i, j, k)."""
    index = np.stack([*np.indices(shape), np.ones(shape)]).reshape(4, -1)
    return (np.diag([-1.0, -1, 1, 1]) @ affine @ index)[:3].reshape(3, *shape)


def at(answer, array, points):
    """Values of an array of OpenTPS at points in mm, for voxel centres."""
    origin, spacing = np.array(answer["origin"]), np.array(answer["spacing"])
    index = (points.reshape(3, -1).T - origin) / spacing
    assert np.abs(index - np.rint(index)).max() < 1e-3, "voxel centres coincide"
    return array[tuple(np.rint(index).astype(int).T)].reshape(points.shape[1:])


def test_opentps_reads_hounsfield_units_structures_and_volumes_at_their_place(opentps, patient, tmp_path):
    ct, structure_set, hounsfield, masks, affine = patient
    answer, arrays = ask(opentps, tmp_path, ct, structure_set)
    points = lps_of_grid(affine, hounsfield.shape)
    assert np.array_equal(at(answer["ct"], arrays["hounsfield"], points), hounsfield)
    assert set(answer["structures"]) == set(masks)
    for name, mask in masks.items():
        read = at(answer["ct"], arrays[f"mask {name}"], points).astype(bool)
        overlap = 2 * np.count_nonzero(read & mask) / (np.count_nonzero(read) + np.count_nonzero(mask))
        true = mask.sum() * np.prod(SPACING) / 1000
        print(f"{name}: Dice {overlap:.4f}, {answer['structures'][name]['ml']:.2f} ml of {true:.2f} ml")
        assert overlap > 0.97 and abs(answer["structures"][name]["ml"] / true - 1) < 0.05


def test_protons_stop_in_opentps_after_their_range_in_water(opentps, patient, tmp_path):
    """100 MeV from the front into water: 80 % of the peak behind it at 77.2 mm (PSTAR), where the spot was aimed."""
    ct, structure_set, hounsfield, _, affine = patient
    points = lps_of_grid(affine, hounsfield.shape)
    water = hounsfield == 0
    isocentre = points[:, water].mean(axis=1)  # midway between bone and tumour
    answer, arrays = ask(opentps, tmp_path, ct, structure_set, *isocentre, ENERGY)
    if "dose" not in answer:
        pytest.skip("this release of OpenTPS brings no scanner, that is no densities for HU, to compute a dose with")
    dose = at(answer["dose"], arrays["dose"], points)
    centre = np.array([np.average(axis, weights=dose) for axis in points])
    print(f"centre of the dose {centre.round(1)} mm, isocentre {isocentre.round(1)} mm")
    assert abs(centre[0] - isocentre[0]) < 1 and abs(centre[2] - isocentre[2]) < 1.5
    along = dose.sum(axis=(0, 2))
    depth = points[1, 0, :, 0] - (points[1][water].min() - SPACING[1] / 2)
    order = np.argsort(depth)
    depth, along = depth[order], along[order]
    peak = int(along.argmax())
    behind = np.interp(-0.8 * along[peak], -along[peak:], depth[peak:])
    print(f"80 % behind the peak at {behind:.1f} mm of water, PSTAR {RANGE} mm")
    assert abs(behind - RANGE) < 3

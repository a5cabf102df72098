"""Data lists of the shift from FLAIR to T1 (docs/models/brain_lesion.md): folds of people, each T1 put where FLAIR is.

The two sequences of a person were taken one after the other, and a third of the people of `wmh` moved by 12 to 34 mm
between them: a lesion drawn on FLAIR then lies elsewhere on T1, by the headers. Here each T1 gets the rigid motion that
shows the same brain in the same place, by mutual information; its voxels stay as they are, only its affine changes.

    python benchmarks/lesion_shift.py --dataset_dir wmh --output_dir shift

writes ``shift/<case>/T1.nii.gz`` and ``brainmask.nii.gz``, ``moves.csv``, and for each fold ``<fold>_FLAIR.json`` and
``<fold>_T1.json``; a fold is every third person. The other methods of the card take another fold as source and target.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medical_gans.io import save_volume
from medical_gans.io.sequence_cases import SequenceCase, find_sequence_cases
from medical_gans.transforms import FindBraind, ReadSequencesd
from medical_gans.transforms.transplant import as_itk

FOLDS = 3
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LEVELS = ((3, 3.0), (2, 1.5), (1, 0.0))  # how much coarser, and smoothed by how many mm
_STEPS = (2.0, 0.01, 120)  # mm of the first and the last, and how many


def read(case: SequenceCase, channel: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, brain and affine."""
    item = FindBraind("image")(ReadSequencesd("image", [channel])({"image": case}))
    return item["image"].numpy()[0], item["foreground"].numpy()[0], np.asarray(item["image"].affine, dtype=float)


def motion(t1: np.ndarray, brain: np.ndarray, affine: np.ndarray, flair: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``(4, 4)`` from where a point of the brain lies on T1 to where it lies on FLAIR, in RAS mm.

    The better of two starts: as the headers say, and crown on crown with the brains' middles above each other.
    """
    fixed, moving = as_itk(t1.astype(np.float32), affine), flair
    points = nib.affines.apply_affine(_LPS @ affine, np.argwhere(brain)[::37])
    starts = np.zeros((2, 3))
    starts[1] = [*(other.mean(0) - points.mean(0))[:2], other[:, 2].max() - points[:, 2].max()]
    found = []
    for start in starts:
        move = sitk.Euler3DTransform()
        move.SetCenter(points.mean(0).tolist())
        move.SetTranslation(start.tolist())
        search = sitk.ImageRegistrationMethod()
        search.SetMetricAsMattesMutualInformation(40)
        search.SetMetricSamplingStrategy(search.RANDOM)
        search.SetMetricSamplingPercentage(0.15, seed=1)
        search.SetMetricFixedMask(as_itk(brain.astype(np.uint8), affine))
        search.SetInterpolator(sitk.sitkLinear)
        search.SetOptimizerAsRegularStepGradientDescent(*_STEPS, relaxationFactor=0.6)
        search.SetOptimizerScalesFromPhysicalShift()
        search.SetShrinkFactorsPerLevel([factor for factor, _ in _LEVELS])
        search.SetSmoothingSigmasPerLevel([sigma for _, sigma in _LEVELS])
        search.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        search.SetInitialTransform(move, inPlace=True)
        search.Execute(fixed, moving)
        found.append((search.GetMetricValue(), move))
    best = min(found, key=lambda one: one[0])[1]
    turn, centre = np.array(best.GetMatrix()).reshape(3, 3), np.array(best.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, np.array(best.GetTranslation()) + centre - turn @ centre
    return _LPS @ matrix @ _LPS


def main() -> None:
    """Put each T1 where its FLAIR is, print by how many mm it moved, and write data lists and ``moves.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folders with FLAIR, T1 and the label")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--label", default="lesion_automatic")
    given = parser.parse_args()
    if given.output_dir.exists() and any(given.output_dir.iterdir()):
        parser.error(f"{given.output_dir} is not empty, and a T1.nii.gz in it would be replaced. Give a new folder.")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    flairs = find_sequence_cases(given.dataset_dir, ["FLAIR"], label=given.label)
    t1s = {case.name: case for case in find_sequence_cases(given.dataset_dir, ["T1"])}
    rows, entries = [], []
    for case in flairs:
        flair, flair_brain, flair_affine = read(case, "FLAIR")
        t1, brain, affine = read(t1s[case.name], "T1")
        other = nib.affines.apply_affine(_LPS @ flair_affine, np.argwhere(flair_brain)[::37])
        move = motion(t1, brain, affine, as_itk(flair.astype(np.float32), flair_affine), other)
        folder = given.output_dir / case.name
        folder.mkdir(parents=True, exist_ok=True)
        save_volume(folder / "T1.nii.gz", t1.astype(np.float32), move @ affine)
        save_volume(folder / "brainmask.nii.gz", brain.astype(np.uint8), move @ affine)
        middle = nib.affines.apply_affine(affine, np.argwhere(brain)).mean(0)
        far = float(np.linalg.norm(nib.affines.apply_affine(move, middle) - middle))
        rows.append([case.name, f"{far:.1f}"])
        print(f"{case.name}: T1 moved by {far:.1f} mm", flush=True)
        paths = {"FLAIR": case.channels[0], "T1": folder / "T1.nii.gz"}
        entries.append({"name": case.name, "label": case.label, "image": paths, "mask": folder / "brainmask.nii.gz"})
    with open(given.output_dir / "moves.csv", "w", newline="") as file:
        csv.writer(file).writerows([["case", "mm"], *rows])
    for fold in range(FOLDS):
        for channel in ("FLAIR", "T1"):
            of_fold = [{**one, "image": {channel: one["image"][channel]}} for one in entries[fold::FOLDS]]
            kept = [{k: v for k, v in one.items() if k != "mask" or channel == "T1"} for one in of_fold]
            text = json.dumps({"training": kept}, default=lambda path: str(path.resolve()), indent=1)
            (given.output_dir / f"{fold}_{channel}.json").write_text(text)


if __name__ == "__main__":
    main()

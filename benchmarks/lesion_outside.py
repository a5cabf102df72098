"""Lesions that were found outside of the brain, by the brain on T1 of the same people (docs/models/brain_lesion.md).

    python benchmarks/lesion_shift.py --dataset_dir wmh --output_dir shift
    medical-gans brain_lesion inference --dataset_dir FOLD.json --channels "[FLAIR]" --weights model.pt \\
        --output_dir found
    python benchmarks/lesion_outside.py --found_dir found --shift_dir shift

The brain on T1 is narrow and knows nothing of FLAIR; `lesion_shift.py` puts it where FLAIR is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy import ndimage

_TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong to one lesion


def outside(lesions: nib.Nifti1Image, brain: nib.Nifti1Image, mm: float) -> tuple[int, int]:
    """Voxels of lesions beyond `mm` from a brain on any grid, and lesions that lie there whole."""
    found = np.asarray(lesions.dataobj) > 0
    there = np.asarray(resample_from_to(brain, lesions, order=0).dataobj) > 0
    far = ndimage.distance_transform_edt(~there, sampling=lesions.header.get_zooms()[:3]) > mm
    pieces, count = ndimage.label(found, _TOUCHING)
    whole = set(range(1, count + 1)) - set(np.unique(pieces[~far]).tolist())
    return int((found & far).sum()), len(whole)


def main() -> None:
    """Print a row for each person."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--found_dir", type=Path, required=True, help="of brain_lesion inference")
    parser.add_argument("--shift_dir", type=Path, required=True, help="of lesion_shift.py")
    parser.add_argument("--mm", type=float, default=4.0, help="from the brain on T1, that count as inside")
    given = parser.parse_args()
    for file in sorted(given.found_dir.glob("*/lesions.nii.gz")):
        brain = given.shift_dir / file.parent.name / "brainmask.nii.gz"
        if not brain.exists():
            parser.error(f"{brain} does not exist. Give the folder that lesion_shift.py wrote for the same people.")
        voxels, whole = outside(nib.load(file), nib.load(brain), given.mm)
        print(
            f"{file.parent.name}: {voxels} voxels beyond {given.mm:g} mm of the brain, {whole} lesions whole",
            flush=True,
        )


if __name__ == "__main__":
    main()

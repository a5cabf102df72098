"""First labels on unlabelled T1 or FLAIR of some people, made from a labelled FLAIR of others; and painted T1.

    python benchmarks/lesion_transplant.py --source_dir shift/0_FLAIR.json --target_dir shift/1_T1.json \\
        --output_dir made

The lesions of three people of the source are carried to each T1 (`medical_gans.transforms.transplant`). Writes

- ``made/<T1>/lesion.nii.gz``: what is darker than white matter where such lesions lie. ``made/found.json`` lists it
  with the T1 as they are;
- ``made/<T1>-<FLAIR>/T1.nii.gz``, ``lesion.nii.gz``, ``brainmask.nii.gz``: the T1 without that, and with the lesions
  of each of the three painted. ``made/painted.json`` lists them.

Both lists also hold the FLAIR images themselves, so that what is trained on them stays as good on FLAIR:

    medical-gans brain_lesion train --dataset_dir made/found.json --channels "[FLAIR]"

With ``--target_channel FLAIR`` the target is FLAIR too, of another scanner: a first label is what is brighter than
white matter where lesions are usual and 10 mm around, by a limit for all of the target, and nothing is painted. With
``--judge NAME`` the target's labels of that name are opened when all is written, and the Dice of first labels against
them is printed: for choosing settings among people of the source, who may be the target, each with lesions of others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from lesion_shift import read
from scipy import ndimage

from medical_gans.io import save_volume
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.transforms.transplant import (
    bright_limit,
    carried,
    deformation,
    found,
    head,
    healed,
    painted,
    usual,
    widened,
)

_EACH = 3  # people of the source for each T1
_DARKNESS = (0.08, 0.35)  # that a lesion takes from white matter
_OWN = 3  # times that each T1 with what was found on it stands in its list


def main() -> None:
    """Write the images, the labels and the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source_dir", type=Path, required=True, help="FLAIR with labels")
    parser.add_argument("--target_dir", type=Path, required=True, help="images of others; labels are not opened")
    parser.add_argument("--target_channel", choices=("T1", "FLAIR"), default="T1")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--label", default="lesion_automatic")
    parser.add_argument("--found_only", action="store_true", help="paint nothing, which takes a third of the time")
    parser.add_argument("--copies", type=int, default=2, help="times that each labelled FLAIR stands in a list")
    parser.add_argument("--judge", help="name of the target's labels, for figures of the first labels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.output_dir.exists() and any(given.output_dir.iterdir()):
        parser.error(f"{given.output_dir} is not empty, and what is in it could be replaced. Give a new folder.")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    rng = np.random.default_rng(given.seed)
    sources = find_sequence_cases(given.source_dir, ["FLAIR"], label=given.label, labels_required=True)
    flairs = []
    for case in sources:
        image, brain, affine = read(case, "FLAIR")
        label = np.asarray(nib.load(case.label).dataobj).reshape(image.shape) > 0
        soft = ndimage.gaussian_filter(label.astype(np.float32), 0.5)
        flairs.append((case.name, head(image, brain, affine, "FLAIR"), soft))
    entries, owns, people = [], [], []
    channel = given.target_channel
    paint = channel == "T1" and not given.found_only
    for number, case in enumerate(find_sequence_cases(given.target_dir, [channel], mask="brainmask")):
        image, brain, affine = read(case, channel)
        there = head(image, brain, affine, channel)
        around = [flairs[(number + step) % len(flairs)] for step in range(len(flairs))]
        carry = []
        for name, flair, soft in [one for one in around if one[0] != case.name][:_EACH]:
            move = deformation(there, flair)
            carry.append(
                (name, carried(soft, flair.affine, there, move), carried(flair.image, flair.affine, there, move))
            )
        where = usual([lesion for _, lesion, _ in carry], affine)
        people.append((case, there, brain, widened(where, affine) if channel == "FLAIR" else where, carry))
    limit = max(bright_limit(there, where) for _, there, _, where, _ in people) if channel == "FLAIR" else None
    if limit:
        print(f"bright: {limit:.3f} of white matter", flush=True)
    for case, there, brain, where, carry in people:
        affine = there.affine
        own = given.output_dir / case.name / "lesion.nii.gz"
        own.parent.mkdir(parents=True)
        label = found(there, where, channel, limit)
        save_volume(own, label.astype(np.uint8), affine)
        owns += [
            {"name": f"{case.name}-{copy}", "image": case.channels[0], "label": own}
            | ({"mask": case.mask} if case.mask else {})
            for copy in range(_OWN)
        ]
        print(f"{case.name}: {label.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000:.1f} ml", flush=True)
        if not paint:
            continue
        base = healed(there, where, rng)
        for name, lesion, look in carry:
            bright = np.median(look[lesion > 0.5]) if (lesion > 0.5).any() else 1.5
            strength = (look - 1.05) / max(bright - 1.05, 0.1)
            made, label = painted(there, base, lesion, strength, rng.uniform(*_DARKNESS))
            folder = given.output_dir / f"{case.name}-{name}"
            folder.mkdir(parents=True, exist_ok=True)
            written = {"image": ("T1", made * there.white), "label": ("lesion", label), "mask": ("brainmask", brain)}
            entry = {"name": folder.name}
            for kind, (file, array) in written.items():
                entry[kind] = folder / f"{file}.nii.gz"
                save_volume(entry[kind], array if kind == "image" else array.astype(np.uint8), affine)
            entries.append(entry)
            print(f"{folder.name}: {label.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000:.1f} ml", flush=True)
    flair = [
        {"name": f"{case.name}-{copy}", "image": case.channels[0], "label": case.label}
        for case in sources
        for copy in range(given.copies)
    ]
    for name, listed in (("found", owns), ("painted", entries))[: 2 if paint else 1]:
        text = json.dumps({"training": listed + flair}, default=lambda path: str(Path(path).resolve()), indent=1)
        (given.output_dir / f"{name}.json").write_text(text)
    if given.judge:
        judge(given)


def judge(given: argparse.Namespace) -> None:
    """Print the Dice of the first labels of each of the target, and their mean."""
    scores = []
    for case in find_sequence_cases(
        given.target_dir, [given.target_channel], label=given.judge, labels_required=True, mask="brainmask"
    ):
        made = np.asarray(nib.load(given.output_dir / case.name / "lesion.nii.gz").dataobj) > 0
        truth = np.asarray(nib.load(case.label).dataobj).reshape(made.shape) > 0
        hit = int((made & truth).sum())
        scores.append(2 * hit / max(1, int(made.sum() + truth.sum())))
        right, seen = hit / max(1, int(made.sum())), hit / max(1, int(truth.sum()))
        print(f"{case.name}: Dice {scores[-1]:.2f}, sensitivity {seen:.2f}, precision {right:.2f}")
    print(f"mean Dice {np.mean(scores):.3f}")


if __name__ == "__main__":
    main()

"""Left and right halves of patients, where there are too few to learn from some and judge on others.

    python benchmarks/lesion_halves.py --dataset_dir ms_lesions --label gold_lesion --output_dir halves

writes ``halves/<case>-<side>/<channel>.nii.gz`` and ``lesion.nii.gz`` on the grid of the case, empty on the other side
of its middle sagittal plane, and the data lists ``left.json`` and ``right.json``. The middle is that of the image's
own foreground, so the head must stand upright in its grid and must be skull-stripped.

With ``--found_dir made``, first labels by ``lesion_transplant.py`` of the same cases, ``found_left.json`` and
``found_right.json`` list each half three times with what was found on its side alone, and the labelled source, which
``made/found.json`` lists beside them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from medical_gans.io import save_volume
from medical_gans.io.sequence_cases import find_sequence_cases

_OWN = 3  # times that each half with what was found on it stands in its list
_APART_MM = 4.0  # left out on each side of the middle, so that no lesion is seen from both


def sides(image: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
    """Where each side of the foreground lies, bool, as `image` ``(x, y, z)``."""
    across = nib.affines.apply_affine(affine, np.argwhere(np.ones(image.shape, bool)))[:, 0].reshape(image.shape)
    inside = image != 0
    middle = (across[inside].min() + across[inside].max()) / 2
    return {"left": inside & (across < middle - _APART_MM), "right": inside & (across > middle + _APART_MM)}


def main() -> None:
    """Write both halves of each case and the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--channel", default="FLAIR")
    parser.add_argument("--label", default="lesion")
    parser.add_argument("--found_dir", type=Path, help="first labels of the same cases")
    given = parser.parse_args()
    if given.output_dir.exists() and any(given.output_dir.iterdir()):
        parser.error(f"{given.output_dir} is not empty, and what is in it could be replaced. Give a new folder.")
    lists: dict[str, list[dict[str, object]]] = {"left": [], "right": []}
    names = set()
    for case in find_sequence_cases(given.dataset_dir, [given.channel], label=given.label, labels_required=True):
        stored = nib.load(case.channels[0])
        image, label = stored.get_fdata(dtype=np.float32), np.asarray(nib.load(case.label).dataobj) > 0
        names.add(case.name)
        for side, where in sides(image, stored.affine).items():
            folder = given.output_dir / f"{case.name}-{side}"
            folder.mkdir(parents=True)
            paths = {name: folder / f"{name}.nii.gz" for name in (given.channel, "lesion")}
            save_volume(paths[given.channel], np.where(where, image, 0).astype(np.float32), stored.affine)
            save_volume(paths["lesion"], (label & where).astype(np.uint8), stored.affine)
            entry = {"name": folder.name, "image": {given.channel: paths[given.channel]}, "label": paths["lesion"]}
            lists[side].append(entry)
            if given.found_dir:
                first = np.asarray(nib.load(given.found_dir / case.name / "lesion.nii.gz").dataobj) > 0
                file = folder / "found.nii.gz"
                save_volume(file, (first & where).astype(np.uint8), stored.affine)
                own = [{**entry, "name": f"{folder.name}-{copy}", "label": file} for copy in range(_OWN)]
                lists.setdefault(f"found_{side}", []).extend(own)
            print(
                f"{folder.name}: {(label & where).sum() * abs(np.linalg.det(stored.affine)) / 1000:.1f} ml", flush=True
            )
    if given.found_dir:
        listed = json.loads((given.found_dir / "found.json").read_text())["training"]
        source = [entry for entry in listed if entry["name"].rpartition("-")[0] not in names]
        for side in ("left", "right"):
            lists[f"found_{side}"] += [
                {**one, "image": {given.channel: one["image"]} if isinstance(one["image"], str) else one["image"]}
                for one in source
            ]
    for side, entries in lists.items():
        text = json.dumps({"training": entries}, default=lambda path: str(path.resolve()), indent=1)
        (given.output_dir / f"{side}.json").write_text(text)


if __name__ == "__main__":
    main()

"""Heads whose truth is known although no MR and CT of one patient are there: CT that were left out, painted as MR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from medical_gans.data.head_anatomy import prepare_head, with_brains
from medical_gans.data.head_painting import BrainContents, whole_head
from medical_gans.errors import InputError
from medical_gans.io import Case, save_volume
from medical_gans.io.cases import Cases, DatasetDir, find_training_cases
from medical_gans.io.ownership import Origin, source
from medical_gans.io.writing import check_writable, whole_folder
from medical_gans.transforms import CtTissues, Painter

_RUN = "mr_to_ct evaluate: painted heads"
_BRIGHTEST = 1000  # stored value of the brightest ordinary tissue


def painted_cases(
    dataset_dir: DatasetDir,
    painter: Painter,
    tissues: CtTissues,
    contents: BrainContents,
    *,
    painted_dir: str | Path,
    cache_dir: str | Path,
    seed: int = 0,
) -> Cases[Case]:
    """Paint every CT of a data set once, as a whole, with a brain of its own, and keep the pairs as cases.

    The n-th CT gets the brain of the n-th MR, from the first again where there are fewer. Neither the weights that are
    judged may have seen these CT, nor these brains: the data set has to hold what was left out.

    Args:
        dataset_dir: CT of heads, and T1 of other heads or brains, as `mr_to_ct pretrain` takes them.
        painter: gives signals; `alike` must be false, for whole heads.
        tissues: what a voxel of the CT holds; `cortex_change` changes the truth too.
        contents: of the skull.
        painted_dir: folder for ``<case>/mr.nii.gz``, ``ct.nii.gz`` and ``mask.nii.gz`` (the head), 1 mm.
        cache_dir: folder for prepared arrays.
        seed: of all that is drawn.

    Raises:
        InputError: a file cannot be read or shows no head, or there is no T1.
        OutputError: `painted_dir` holds something else.
    """
    found = find_training_cases(dataset_dir, paired=False, validation_fraction=0.0, seed=seed)
    mrs, folder = [case.mr for case in found.mr if case.mr is not None], Path(cache_dir)
    if not mrs:
        raise InputError("There is no T1 to take a brain from. Put one at least beside the CTs.")
    check_writable(Path(painted_dir))
    cases = []
    for number, case in enumerate(tqdm(found.ct, desc="painting heads", leave=False)):
        assert case.ct is not None
        brain = mrs[number % len(mrs)]
        head = with_brains(prepare_head(case.name, case.ct, folder), [brain], folder)
        signal, hounsfield, body = whole_head(head, 0, painter, tissues, contents, seed + number)
        images = {
            "mr": np.rint(_BRIGHTEST * signal).clip(0, 32767).astype(np.int16),
            "ct": hounsfield,
            "mask": body.astype(np.uint8),
        }
        place = Path(painted_dir) / case.name
        origin = Origin(_RUN, [source(case.ct)], {"data_for_others": True}, inputs=[brain])
        with whole_folder(place, origin) as into:
            for name, array in images.items():
                save_volume(into / f"{name}.nii.gz", array, np.eye(4))
        files = {name: place / f"{name}.nii.gz" for name in images}
        cases.append(Case(case.name, **files))
    return Cases(cases)

"""Data sets of a few voxels, as each workflow takes them."""

from pathlib import Path

import nibabel
import numpy as np

OBLIQUE = np.array([[0.0, -1.1, 0.1, 30.0], [1.0, 0.0, 0.2, -40.0], [0.0, 0.1, 3.0, 11.0], [0.0, 0.0, 0.0, 1.0]])


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), affine), path)


def mr_to_ct_synthesis(folder: Path) -> None:
    """Ellipses with a bone: an oblique MR to translate, two MR and two CT to learn from."""
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in (44, 40, 6)], indexing="ij")
    body, noise = x**2 + y**2 < 0.7, np.random.default_rng(0).integers(0, 9, x.shape)
    for n in range(2):
        bone = (x - 0.2 * n) ** 2 + y**2 < 0.05
        save(folder / f"train/mr/m{n}.nii.gz", np.where(bone, 30, np.where(body, 500, 0)) + noise)
        save(folder / f"train/ct/c{n}.nii.gz", np.where(bone, 900, np.where(body, 40, -1000)) + noise)
    save(folder / "inference/head.nii.gz", np.where(body, 500 + 100 * np.sin(9 * x), 0) + noise, OBLIQUE)


def lung_nodule_generation(folder: Path) -> None:
    """Bright discs in lung of 40 patients."""
    rng = np.random.default_rng(0)
    n, edge = 200, 24
    rating = np.tile([1, 2, 3, 4, 5], n // 5).astype(np.int8)
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    disc = np.hypot(rows, columns) < 1.5 * rating[:, None, None]
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "train.npz",
        hu=(np.where(disc, 30, -850) + rng.integers(-50, 50, (n, edge, edge))).astype(np.int16),
        malignancy=rating,
        patient=np.repeat([f"P{i:02d}" for i in range(n // 5)], 5),
        pixel_spacing_mm=np.full(n, 0.6, np.float32),
    )


def brain_lesion_segmentation(folder: Path) -> None:
    """Balls with a bright lesion, under every name of a sequence that weights may ask for."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 36, 32)], indexing="ij")
    brain, noise = x**2 + y**2 + z**2 < 0.8, np.random.default_rng(0).integers(0, 20, x.shape)
    for part, cases in (("train", 2), ("inference", 1)):
        for n in range(cases):
            lesion = (x - 0.2 * n) ** 2 + y**2 + z**2 < 0.1
            case = folder / part / f"case{n}"
            for sequence in ("FLAIR", "T1c"):
                image = np.where(lesion, 900, np.where(brain, 500, 0)) + noise
                save(case / f"{sequence}.nii.gz", image, OBLIQUE if part == "inference" else np.diag([2, 2, 2, 1.0]))
            save(case / "lesion.nii.gz", lesion, OBLIQUE if part == "inference" else np.diag([2, 2, 2, 1.0]))

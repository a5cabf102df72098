"""Where generated nodules come from: a trained generator, one for each class, or the folder of an inference run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.nodules.sampling import NoduleSampler, load_nodule_sampler
from medical_gans.io.nodules import CLASSES, NodulePatches
from medical_gans.io.nodules.patch_files import read_samples, read_samples_table
from medical_gans.weights import load_network

JUDGED = {0: CLASSES[0], 1: CLASSES[1]}
"""Labels that are judged; indeterminate nodules only help to learn."""
_SAME_MM = 1e-3


@dataclass(frozen=True, eq=False)
class GeneratedNodules:
    """Nodules of one generator.

    Attributes:
        hounsfield: ``(n, *spatial)`` int16.
        label: ``(n,)`` index into ``CLASSES``; -1 throughout where the generator has no classes.
        spacing: mm along the axes of a nodule.
    """

    hounsfield: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]

    @property
    def has_classes(self) -> bool:
        """Whether benign and malignant ones are told apart."""
        return bool((self.label >= 0).any())

    def __len__(self) -> int:
        return len(self.hounsfield)


def generate_nodules(
    samplers: Mapping[str, NoduleSampler],
    number: int,
    *,
    seed: int = 0,
    truncation: float | None = None,
    name: str = "generator",
) -> GeneratedNodules:
    """Make nodules of both classes.

    Args:
        samplers: a generator for each of benign and malignant, which may be the same one; or one under ``any``.
        number: nodules of each class; twice as many of a generator without classes.
        seed: of the latent seeds.
        truncation: see `NoduleSampler.latent`.
        name: beside the progress bar.

    Raises:
        SettingError: `number` is below 1, or see `NoduleSampler.generate`.
    """
    if number < 1:
        raise SettingError(f"num_generated is {number}; give the nodules to make of each class, such as 500.")
    rng = np.random.default_rng(seed)
    first = next(iter(samplers.values()))
    made, labels = [], []
    plan = [(label, name) for label, name in JUDGED.items() if name in samplers] or [(-1, "any"), (-1, "any")]
    with tqdm(total=number * len(plan), desc=f"nodules of {name}", unit="nodule", leave=False) as bar:
        for label, kind in plan:
            sampler = samplers[kind]
            wanted = sampler.label_of(kind) if sampler.classes else None
            for latent_seed in rng.integers(2**62, size=number).tolist():
                made.append(sampler.generate([latent_seed], [wanted], truncation)[0])
                labels.append(label)
                bar.update()
    return GeneratedNodules(np.stack(made), np.array(labels), first.spacing)


def samplers_of_weights(
    weights: str | Path | Mapping[str, str | Path],
    device: str = "cpu",
    inferer: Callable[..., Any] | None = None,
) -> tuple[dict[str, NoduleSampler], dict[str, Path]]:
    """Generators for `generate_nodules`, built from the card beside their weights.

    Args:
        weights: a file; or, for generators of one class each, ``{"benign": file, "malignant": file}``.
        device: where to compute.
        inferer: see `NoduleSampler`.

    Returns:
        The generators, and their files by ``weights`` or by class.

    Raises:
        SettingError: the classes are not benign and malignant.
        InputError: weights or card are missing or do not fit.
    """
    if isinstance(weights, Mapping):
        if set(weights) != set(JUDGED.values()):
            raise SettingError(
                f"Weights by class are given for {', '.join(weights) or 'none'}; give them for benign and malignant."
            )
        files = {name: Path(file) for name, file in weights.items()}
        return {name: _sampler(file, device, inferer) for name, file in files.items()}, files
    sampler = _sampler(Path(weights), device, inferer)
    return samplers_by_class(sampler), {"weights": Path(weights)}


def samplers_by_class(sampler: NoduleSampler) -> dict[str, NoduleSampler]:
    """One generator under each class that it can be asked for, or under ``any``."""
    return dict.fromkeys(JUDGED.values(), sampler) if sampler.classes else {"any": sampler}


def read_generated(folder: str | Path) -> GeneratedNodules:
    """The nodules that an inference run left: NIfTI files, and their classes in ``samples.csv``.

    Raises:
        InputError: the folder or its table is missing, a nodule cannot be read, or their grids differ.
    """
    rows = read_samples_table(folder)
    hounsfield, spacing = read_samples(folder, [row["file"] for row in rows])
    labels = [CLASSES.index(row["class"]) if row["class"] in CLASSES else -1 for row in rows]
    return GeneratedNodules(hounsfield, np.array(labels), spacing)


def check_same_patches(real: NodulePatches, generated: GeneratedNodules, name: str) -> None:
    """Refuse generated nodules on another grid than the real ones.

    Raises:
        InputError: size or spacing differ.
    """
    sizes = real.hounsfield.shape[1:], generated.hounsfield.shape[1:]
    if sizes[0] != sizes[1] or not np.allclose(real.spacing, generated.spacing, rtol=0, atol=_SAME_MM):
        shown = [
            f"{' x '.join(map(str, size))} voxels of {' x '.join(f'{edge:g}' for edge in spacing)} mm"
            for size, spacing in zip(sizes, (real.spacing, generated.spacing), strict=True)
        ]
        raise InputError(
            f"Real nodules have {shown[0]}, those of {name} {shown[1]}. Set size and spacing to those of the generator."
        )


def _sampler(weights: Path, device: str, inferer: Callable[..., Any] | None) -> NoduleSampler:
    return load_nodule_sampler(partial(load_network, weights), weights, device, inferer)

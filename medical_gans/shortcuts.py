"""Each workflow in one call, with the shipped weights: what `medical_gans` offers to a Python user.

The commands do more (cohorts, DICOM out, checks, reports); the voxels are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from medical_gans.cli.config_files import models_dir
from medical_gans.errors import SettingError
from medical_gans.inference.lesions import LesionSegmentation, load_segmenter
from medical_gans.inference.lesions.choice import weights_for
from medical_gans.inference.nodules.sampling import load_nodule_sampler, requested_samples
from medical_gans.inference.synthesis import SliceSynthesis, load_generators, translation_card
from medical_gans.io import Volume, read_volume
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.transforms import read_sequence_case
from medical_gans.weights import WeightsCard, load_network

Place = str | PathLike[str]


def synthetic_ct(
    mr: Volume | Place,
    site: str = "head",
    *,
    weights: Place | Sequence[Place] | None = None,
    flips: bool = False,
    device: str = "cpu",
) -> Volume:
    """A synthetic CT on exactly the MR's grid, by the shipped weights of a site or by others.

    Args:
        mr: a volume, an image file or a DICOM series.
        site: ``head`` or ``thigh``.
        weights: in place of those of `site`; several are averaged.
        flips: average with the left-right mirror image.
        device: ``cpu``, ``cuda``, ``cuda:1``.

    Returns:
        int16 HU ``(i, j, k)`` with the affine of the MR.

    Raises:
        InputError: the MR cannot be read, is a CT, or shows nothing.
        SettingError: there are no weights of this site, or no such device.
    """
    files = _weights(weights, f"mr_to_ct_{site}", "site")
    volume = mr if isinstance(mr, Volume) else read_volume(mr, modality="MR")
    card, trained = translation_card(files), load_generators(files)
    synthesis = SliceSynthesis(
        trained.generators,
        trained.spacing,
        trained.plane,
        flips=flips,
        adjacent=card.adjacent,
        uncertainty=False,
        device=device,
    )
    return replace(volume, array=synthesis(volume).hounsfield, modality="CT", headers=())


def generate_nodules(
    count: int = 1, malignancy: str = "both", *, seed: int = 0, weights: Place | None = None, device: str = "cpu"
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Lung nodules that do not exist.

    Args:
        count: how many; those of a smaller count are the first of a larger one.
        malignancy: ``benign``, ``malignant``, or ``both`` in turn.
        seed: of all of them.
        weights: in place of the shipped ones.
        device: where to compute.

    Returns:
        int16 HU ``(count, *spatial)``, and the voxel size in mm.

    Raises:
        SettingError: fewer than one nodule, or an unknown class.
    """
    file = _weights(weights, "lung_nodule", "weights")[0]
    sampler = load_nodule_sampler(load_network(file), file, device)
    samples = requested_samples(sampler, malignancy, count, seed)
    made = sampler.generate([one.latent_seed for one in samples], [one.label for one in samples])
    return made, tuple(sampler.spacing)


def segment_lesions(sequences: Mapping[str, Place], *, weights: Place | None = None, device: str = "cpu") -> Volume:
    """Lesions of the brain, on the grid of the first sequence.

    Args:
        sequences: an image file or DICOM series for the name of each sequence, in the network's order, such as
            ``{"FLAIR": "FLAIR.nii.gz"}``.
        weights: in place of the shipped ones, which are those for T1 where only that is given, else those for FLAIR.
        device: where to compute.

    Returns:
        uint8 classes ``(i, j, k)``; 0 is background.

    Raises:
        InputError: a sequence cannot be read or shows another place.
        SettingError: the weights were trained on another number of sequences, or in another order.
    """
    from monai.inferers import SlidingWindowInferer

    names = tuple(sequences)
    file = _weights(weights, Path(weights_for(None, names, models_dir())).stem, "weights")[0]
    trained = load_segmenter(load_network(file), file, names)
    case = SequenceCase("case", tuple(Path(place) for place in sequences.values()), sequences=names)
    volume = read_sequence_case(case, names, spacing=trained.spacing)
    inferer = SlidingWindowInferer(trained.window(), sw_batch_size=1, overlap=0.5, mode="gaussian")
    found = LesionSegmentation(trained.network, inferer, spacing=trained.spacing, device=device)(volume)
    return replace(volume.source, array=found.label, modality=None, headers=())


def _weights(given: Place | Sequence[Place] | None, shipped: str, setting: str) -> list[Path]:
    if given is not None:
        return [Path(given)] if isinstance(given, str | PathLike) else [Path(file) for file in given]
    file = models_dir() / f"{shipped}.pt"
    if not file.is_file() or WeightsCard.of(file) is None:
        kind = shipped.rpartition("_")[0] if setting == "site" else shipped
        known = sorted(one.stem.removeprefix(f"{kind}_") for one in models_dir().glob(f"{kind}*.pt"))
        raise SettingError(f"There are no shipped weights {shipped}; there are {', '.join(known)}. Or give weights.")
    return [file]

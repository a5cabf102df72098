"""The figure by which the weights of a generator are chosen, on patients it does not train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.errors import InputError
from medical_gans.io.nodules import CLASSES, NodulePatches, split_by_patient
from medical_gans.metrics.distribution import frechet_distance
from medical_gans.training.checkpoints import load_weights
from medical_gans.transforms import window_to_unit

_LEAST_PATCHES = 50


class GenerationValidation:
    """Frechet distance (Heusel et al. 2017) between generated patches and those of validation patients.

    The latent vectors are the same in each call, and generated patches have the classes of the real ones.

    Args:
        images: ``(n, 1, *spatial)`` in [-1, 1].
        labels: ``(n,)`` their classes.
        extractor: network with ``features`` from images to ``(batch, features)``.
        repeats: generated patches for each real one; more make the figure steadier.
        device: where the generator is.
        seed: of the latent vectors.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        extractor: nn.Module,
        *,
        repeats: int = 4,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.extractor = extractor.eval().to(self.device)
        self.real = self._features(torch.from_numpy(images))
        self.labels = torch.from_numpy(np.repeat(labels, repeats)).to(self.device)
        self.seed = seed

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """``frechet`` of a generator, in the squared units of the features."""
        training = network.training
        network.eval()
        # its own random state, so that a validated run draws the same numbers as one that is not
        draw = torch.Generator().manual_seed(self.seed)
        latent = torch.randn(len(self.labels), int(network.latent_size), generator=draw)  # type: ignore[arg-type]
        with torch.no_grad():
            batches = zip(latent.to(self.device).split(64), self.labels.split(64), strict=True)
            images = torch.cat([network(z, label) for z, label in batches])
        network.train(training)
        return {"frechet": frechet_distance(self._features(images), self.real)}

    @torch.no_grad()
    def _features(self, images: Tensor) -> np.ndarray:
        batches = images.to(self.device).split(64)
        return torch.cat([self.extractor.features(batch) for batch in batches]).cpu().double().numpy()  # type: ignore[operator]


def generation_validation(
    patches: NodulePatches,
    labels: Sequence[int],
    extractor: nn.Module,
    weights: str | Path | None,
    *,
    window: Sequence[float],
    split_fractions: Sequence[float] = (0.6, 0.1, 0.3),
    split_seed: int = 0,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> GenerationValidation | None:
    """Validation on the validation patients of a data set; None without weights of the feature network.

    Args:
        patches: of all patients.
        labels: classes that the generator learns; indeterminate nodules only help to learn and are not judged.
        extractor: feature network.
        weights: of the feature network.
        window: HU that become [-1, 1].
        split_fractions, split_seed: as for training.
        device, seed: see `GenerationValidation`.

    Raises:
        InputError: too few patches to measure a distance, or see `load_weights`.
    """
    if weights is None:
        return None
    held_out = split_by_patient(patches, "validation", fractions=split_fractions, seed=split_seed)
    judged = [label for label in labels if CLASSES[label] != "indeterminate"] or labels
    held_out = held_out.select(np.isin(held_out.label, judged))
    if len(held_out) < _LEAST_PATCHES:
        raise InputError(
            f"The validation patients have {len(held_out)} patches of the classes trained; {_LEAST_PATCHES} are needed "
            "to measure a distance. Raise their share in split_fractions, or set features to null."
        )
    images = window_to_unit(held_out.hounsfield, window)[:, None]
    loaded = load_weights(extractor, Path(weights))
    return GenerationValidation(images, held_out.label, loaded, device=device, seed=seed)

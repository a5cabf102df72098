"""The figure by which the weights of a generator are chosen, on patients it does not train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.data.patches import Transform, images_of
from medical_gans.errors import InputError
from medical_gans.io.nodules import CLASSES, NodulePatches
from medical_gans.weights import load_network

_LEAST_PATCHES = 50
_BATCH = 64


class GenerationValidation:
    """Distances between the features of generated patches and those of validation patients.

    The latent vectors are the same in each call, and generated patches have the classes of the real ones.

    Args:
        images: ``(n, 1, *spatial)`` in [-1, 1].
        labels: ``(n,)`` their classes; None for a generator without classes.
        extractor: network with ``features`` from images to ``(batch, features)``.
        inferer: of (latent vectors, generator) or (latent vectors, generator, labels), to images.
        figures: by name, of (features of generated patches, of real ones), smaller for better.
        latent_size: of the generator.
        repeats: generated patches for each real one; more make the figures steadier.
        device: where the generator is.
        seed: of the latent vectors.
    """

    def __init__(
        self,
        images: Tensor,
        labels: np.ndarray | None,
        extractor: nn.Module,
        *,
        inferer: Callable[..., Tensor],
        figures: Mapping[str, Callable[[np.ndarray, np.ndarray], float]],
        latent_size: int,
        repeats: int = 4,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.extractor = extractor.eval().to(self.device)
        self.real = self._features(images)
        self.count = repeats * len(images)
        self.labels = None if labels is None else torch.from_numpy(np.repeat(labels, repeats)).to(self.device)
        self.inferer, self.figures, self.latent_size, self.seed = inferer, figures, latent_size, seed

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """The figures of a generator; the Frechet distance is in the squared units of the features."""
        training = network.training
        network.eval()
        # its own random state, so that a validated run draws the same numbers as one that is not
        draw = torch.Generator().manual_seed(self.seed)
        latent = torch.randn(self.count, self.latent_size, generator=draw).to(self.device)
        given = (latent,) if self.labels is None else (latent, self.labels)
        with torch.no_grad():
            batches = zip(*(one.split(_BATCH) for one in given), strict=True)
            images = torch.cat([self.inferer(first, network, *label) for first, *label in batches])
        network.train(training)
        features = self._features(images)
        return {name: float(figure(features, self.real)) for name, figure in self.figures.items()}

    @torch.no_grad()
    def _features(self, images: Tensor) -> np.ndarray:
        batches = images.to(self.device).split(_BATCH)
        return torch.cat([self.extractor.features(batch) for batch in batches]).cpu().double().numpy()  # type: ignore[operator]


def generation_validation(
    patches: NodulePatches,
    labels: Sequence[int],
    features: str | Path | None,
    *,
    preprocessing: Transform,
    num_classes: int,
    **options: Any,
) -> GenerationValidation | None:
    """Validation on patches of validation patients; None without weights of a feature network.

    Args:
        patches: of validation patients.
        labels: classes that the generator learns; indeterminate nodules only help to learn and are not judged.
        features: weights of the feature network, with their card beside them.
        preprocessing: from HU to what networks see.
        num_classes: of the generator.
        options: see `GenerationValidation`.

    Raises:
        InputError: too few patches to measure a distance, or see `weights.load_network`.
    """
    if features is None:
        return None
    judged = [label for label in labels if CLASSES[label] != "indeterminate"] or labels
    held_out = patches.select(np.isin(patches.label, judged))
    if len(held_out) < _LEAST_PATCHES:
        raise InputError(
            f"The validation patients have {len(held_out)} patches of the classes trained; {_LEAST_PATCHES} are needed "
            "to measure a distance. Raise their share in split_fractions, or set features to null."
        )
    images = images_of(held_out.hounsfield, preprocessing)
    return GenerationValidation(images, held_out.label if num_classes else None, load_network(features), **options)

"""Features in which sets of nodules are compared: radiomic measures, the shipped network's, a TorchScript file's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.transforms import ScaleIntensityRanged

from medical_gans.data.patches import Transform, images_of
from medical_gans.errors import InputError
from medical_gans.evaluation.nodule_classification import features_of
from medical_gans.metrics.radiomics import radiomic_measures
from medical_gans.weights import WeightsCard, load_network

Features = Callable[[np.ndarray], np.ndarray]
"""Patches ``(n, *spatial)`` in HU to ``(n, features)``."""
_EXTREME = 5.0
_BATCH = 32


def window_preprocessing(window: Sequence[float]) -> Transform:
    """HU to [-1, 1], as the configs' ``preprocessing``."""
    return ScaleIntensityRanged("image", window[0], window[1], -1.0, 1.0, clip=True)


class RadiomicFeatures:
    """Radiomic measures in standard deviations of the training patches; beyond 5 of them they are cut.

    Args:
        training: ``(n, *spatial)`` in HU.
        spacing: mm.
        window: HU.
    """

    def __init__(self, training: np.ndarray, spacing: Sequence[float], window: Sequence[float]) -> None:
        self.spacing, self.window = tuple(spacing), tuple(window)
        measures, self.names = radiomic_measures(training, self.spacing, self.window)
        self.mean = measures.mean(0)
        self.deviation = np.maximum(measures.std(0), 1e-6)

    def __call__(self, hounsfield: np.ndarray) -> np.ndarray:
        """``(n, measures)``."""
        measures, _ = radiomic_measures(hounsfield, self.spacing, self.window)
        return np.clip((measures - self.mean) / self.deviation, -_EXTREME, _EXTREME)


class NetworkFeatures:
    """Features of a network such as `NoduleClassifier`, which standardises them itself.

    Args:
        weights: file, with its card beside it.
        spacing: mm of the patches that will come.
        device: where to compute.

    Raises:
        InputError: weights or card are missing or do not fit, or were trained on another voxel size.
    """

    def __init__(self, weights: str | Path, spacing: Sequence[float], device: str = "cpu") -> None:
        path = Path(weights)
        card = WeightsCard.of(path)
        if card is None or card.window is None:
            raise InputError(
                f"{path} has no card ({path.with_suffix('.json').name}) beside it that tells network and window. "
                "Copy the card that lung_nodule features wrote with the weights."
            )
        trained = [edge for edge in card.spacing if edge is not None]
        if len(trained) != len(spacing) or not np.allclose(trained, spacing, rtol=0.02):
            raise InputError(
                f"The feature network {path} was trained at {' x '.join(map(str, card.spacing))} mm, the nodules have "
                f"{' x '.join(f'{edge:g}' for edge in spacing)} mm. Set spacing to that of the network, or train one "
                "with lung_nodule features."
            )
        self.preprocessing = window_preprocessing(card.window)
        self.device = device
        self.network = load_network(path, device)

    def __call__(self, hounsfield: np.ndarray) -> np.ndarray:
        """``(n, features)``."""
        return features_of(self.network, images_of(hounsfield, self.preprocessing), self.device)


class ScriptFeatures:
    """Features of a TorchScript file, such as Inception or DINOv2 exported with ``torch.jit.save``.

    The network is given ``(batch, 3, size, size)``, three equal channels scaled so that the window becomes
    ``value_range``, and gives ``(batch, features)``; its own normalisation must be inside it.

    Args:
        extractor: the file.
        window: HU.
        size: pixels along each edge that the network wants.
        value_range: what the ends of the window become.
        device: where to compute.

    Raises:
        InputError: the file cannot be loaded.
    """

    def __init__(
        self,
        extractor: str | Path,
        window: Sequence[float],
        *,
        size: int = 224,
        value_range: Sequence[float] = (0.0, 1.0),
        device: str = "cpu",
    ) -> None:
        self.path, self.window, self.size, self.value_range = Path(extractor), tuple(window), size, tuple(value_range)
        self.device = device
        if not self.path.is_file():
            raise InputError(f"extractor {self.path} does not exist. Give a TorchScript file.")
        try:
            self.network = torch.jit.load(str(self.path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"extractor {self.path} is no TorchScript file. Export the network with torch.jit.save."
            ) from error

    def __call__(self, hounsfield: np.ndarray) -> np.ndarray:
        """``(n, features)``; of a volume its middle slice is seen.

        Raises:
            InputError: the network does not take such images, or gives no vector for each.
        """
        images = hounsfield if hounsfield.ndim == 3 else hounsfield[..., hounsfield.shape[3] // 2]
        low, high = self.value_range
        unit = (images_of(images, window_preprocessing(self.window)) + 1.0) / 2.0 * (high - low) + low
        found = []
        for batch in unit.split(_BATCH):
            resized = torch.nn.functional.interpolate(
                batch, size=(self.size, self.size), mode="bilinear", antialias=True
            )
            try:
                with torch.inference_mode():
                    vectors = self.network(resized.expand(-1, 3, -1, -1).to(self.device))
            except RuntimeError as error:
                raise InputError(
                    f"extractor {self.path} does not take images (batch, 3, {self.size}, {self.size}): "
                    f"{str(error).strip().splitlines()[-1]}"
                ) from error
            if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != len(batch):
                raise InputError(f"extractor {self.path} must give one vector (batch, features) for each image.")
            found.append(vectors.float().cpu())
        return torch.cat(found).double().numpy()

"""Trained nodule generators: from a seed and a class to a nodule in HU, the same one every time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.errors import InputError, SettingError
from medical_gans.training.checkpoints import WeightsCard, load_weights
from medical_gans.transforms import unit_to_window

_DRAWS = 2**53
"""Steps between 0 and 1 that a draw is one of: as many as a double resolves."""


class NoduleSampler:
    """Draws nodules from a generator.

    Args:
        network: ``forward(latent (batch, latent_size), label (batch,) or None) -> (batch, 1, *spatial)`` in [-1, 1],
            with the attributes `latent_size` and `num_classes`, in evaluation mode.
        spacing: mm along the axes of a nodule.
        window: HU that -1 and 1 stand for.
        classes: names of the labels 0, 1, ...; empty for a generator without classes.
        device: where to compute.

    Attributes:
        size: voxels along each edge of a nodule.

    Raises:
        SettingError: there is no such device, or the names are not as many as the classes of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        spacing: Sequence[float],
        window: tuple[float, float],
        classes: Sequence[str] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise SettingError("device is cuda, but torch finds no usable GPU here. Set device to cpu.")
        count = int(getattr(network, "num_classes", 0))
        if len(classes) != count:
            raise SettingError(
                f"num_classes is {count}, but the weights were trained on {len(classes)} classes "
                f"({', '.join(classes) or 'none'}). Set num_classes as it was in training."
            )
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)
        self.spacing = tuple(float(edge) for edge in spacing)
        self.window = (float(window[0]), float(window[1]))
        self.classes = tuple(classes)
        self.size = int(network.size)  # type: ignore[arg-type]
        self.latent_size = int(network.latent_size)  # type: ignore[arg-type]

    def label_of(self, name: str) -> int:
        """Label of a class by its name.

        Raises:
            SettingError: the generator has no such class.
        """
        if not self.classes:
            raise SettingError(
                f"The class {name!r} is asked for, but the generator was trained without classes. "
                "Set malignancy to null, or give weights that were trained on classes."
            )
        if name not in self.classes:
            raise SettingError(f"The generator knows no class {name!r}; it has {', '.join(self.classes)}.")
        return self.classes.index(name)

    def latent(self, seed: int, truncation: float | None = None) -> Tensor:
        """The latent numbers ``(1, latent_size)`` of a seed, standard normal.

        A truncation t keeps them within -t and t (a truncated normal distribution: fewer odd nodules, less variety).
        They come from uniform numbers through the inverse distribution function, so that a seed stands for much the
        same nodule whatever the truncation.

        Raises:
            SettingError: truncation is not above 0, or the seed is negative or too large.
        """
        if truncation is not None and not truncation > 0:
            raise SettingError(f"truncation is {truncation}; give a number above 0, such as 2, or null for none.")
        if not 0 <= seed < 2**63:
            raise SettingError(f"A latent seed is {seed}; seeds are whole numbers from 0 to 2^63 - 1.")
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randint(_DRAWS, (1, self.latent_size), generator=generator, dtype=torch.int64)
        centred = 2 * (draws.double() + 0.5) / _DRAWS - 1
        share = 1.0 if truncation is None else math.erf(truncation / math.sqrt(2))
        return (math.sqrt(2) * torch.special.erfinv(centred * share)).float()

    def decode(
        self, latent: Tensor, label: int | None = None, *, towards: int | None = None, share: float = 0.0
    ) -> np.ndarray:
        """The nodule ``(rows, columns)`` or ``(rows, columns, slices)``, int16 HU, of one latent vector.

        Args:
            latent: ``(1, latent_size)``.
            label: class; ignored by a generator without classes.
            towards: second class, to which the embedding of the first is blended.
            share: of the second class, in [0, 1].

        Raises:
            SettingError: the generator has no such class.
        """
        labels, blended = None, {}
        if self.classes:
            first = self._known(label)
            labels = torch.tensor([first], device=self.device)
            if towards is not None:
                second = self._known(towards)
                embeddings = [n for n, m in self.network.named_modules() if isinstance(m, nn.Embedding)]
                for name in (f"{embedding}.weight" for embedding in embeddings):
                    weight = self.network.get_parameter(name).clone()
                    weight[first] = torch.lerp(weight[first], weight[second], share)
                    blended[name] = weight
        with torch.inference_mode(), _one_thread():
            made = torch.func.functional_call(self.network, blended, (latent.to(self.device), labels))
        return unit_to_window(made[0, 0].float().cpu().numpy(), self.window)

    def _known(self, label: int | None) -> int:
        if label is None or not 0 <= label < len(self.classes):
            raise SettingError(f"The label is {label}; the generator has 0 to {len(self.classes) - 1}.")
        return int(label)

    def generate(
        self, seeds: Sequence[int], labels: Sequence[int | None], truncation: float | None = None
    ) -> np.ndarray:
        """Nodules ``(n, *spatial)`` int16 HU; each follows from its own seed and label and the truncation alone.

        Raises:
            SettingError: as `latent` and `decode`.
        """
        pairs = zip(seeds, labels, strict=True)
        made = [self.decode(self.latent(int(seed), truncation), label) for seed, label in pairs]
        dimensions = len(self.spacing)
        return np.stack(made) if made else np.empty((0, *(self.size,) * dimensions), dtype=np.int16)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On several threads a sum may be ordered otherwise, and a single patch is slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load_nodule_sampler(network: nn.Module, weights: str | Path, device: str | torch.device = "cpu") -> NoduleSampler:
    """A sampler from a generator, its weights file, and the card beside it.

    Raises:
        InputError: the weights are missing, damaged, do not fit the network, or have no card that tells voxel size
            and window.
        SettingError: as `NoduleSampler`.
    """
    path = Path(weights)
    load_weights(network, path)
    card = WeightsCard.of(path)
    if card is None or card.window is None:
        raise InputError(
            f"{path} has no card ({path.with_suffix('.json').name}) beside it that tells the voxel size and the window "
            "in HU of its nodules. Copy the card that lung_nodule train wrote with the weights."
        )
    if None in card.spacing:
        raise InputError(
            f"{path} was trained on nodules of unknown voxel size, so that what it makes has none. "
            "Train with spacing set."
        )
    spacing = [float(edge) for edge in card.spacing if edge is not None]
    return NoduleSampler(network, spacing, (card.window[0], card.window[1]), card.classes, device)


def trained_with(weights: str | Path, name: str, default: Any) -> Any:
    """What the card beside the weights tells of a setting of the network, or of ``spacing``; else `default`.

    For configs, so that nobody has to repeat the sizes that a generator was trained with.

    Raises:
        InputError: the card cannot be read.
    """
    card = WeightsCard.of(Path(weights))
    return default if card is None else {"spacing": card.spacing[0], **card.network}.get(name, default)

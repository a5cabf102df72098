"""Trained nodule generators: from a seed and a class to a nodule in HU, the same one every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medical_gans.errors import InputError, SettingError
from medical_gans.transforms import unit_to_window
from medical_gans.weights import WeightsCard, load_weights

_DRAWS = 2**53
"""Steps between 0 and 1 that a draw is one of: as many as a double resolves."""


class NoduleSampler:
    """Draws nodules from a generator.

    Args:
        network: ``forward(latent (batch, latent_size)) -> (batch, 1, *spatial)`` in [-1, 1]; with classes
            ``forward(latent, label (batch,))``.
        spacing: mm along the axes of a nodule.
        window: HU that -1 and 1 stand for.
        classes: names of the labels 0, 1, ...; empty for a generator without classes.
        device: where to compute.
        inferer: of (latent, network) or (latent, network, label), such as MONAI's SimpleInferer, which is the default.
        latent_size: numbers that a nodule is made from; None takes the network's own.
        size: voxels along each edge of a nodule; None takes the network's own.

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
        *,
        inferer: Callable[..., Tensor] | None = None,
        latent_size: int | None = None,
        size: int | None = None,
    ) -> None:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise SettingError("device is cuda, but torch finds no usable GPU here. Set device to cpu.")
        count = int(getattr(network, "num_classes", len(classes)))
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
        self.inferer = inferer or SimpleInferer()
        self.size = int(network.size if size is None else size)  # type: ignore[arg-type]
        self.latent_size = int(network.latent_size if latent_size is None else latent_size)  # type: ignore[arg-type]

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
        labels, blended = [], {}
        if self.classes:
            first = self._known(label)
            labels = [torch.tensor([first], device=self.device)]
            if towards is not None:
                second = self._known(towards)
                embeddings = [n for n, m in self.network.named_modules() if isinstance(m, nn.Embedding)]
                for name in (f"{embedding}.weight" for embedding in embeddings):
                    weight = self.network.get_parameter(name).clone()
                    weight[first] = torch.lerp(weight[first], weight[second], share)
                    blended[name] = weight
        with torch.inference_mode(), _one_thread():
            made = self.inferer(latent.to(self.device), partial(_call, self.network, blended), *labels)
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


def _call(network: nn.Module, replaced: dict[str, Tensor], *given: Tensor) -> Tensor:
    """What a network makes, with other values in place of some of its parameters."""
    return torch.func.functional_call(network, replaced, given) if replaced else network(*given)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On several threads a sum may be ordered otherwise, and a single patch is slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load_nodule_sampler(
    network: nn.Module | Callable[[], nn.Module],
    weights: str | Path,
    device: str | torch.device = "cpu",
    inferer: Callable[..., Tensor] | None = None,
) -> NoduleSampler:
    """A sampler from a generator, its weights file, and the card beside it.

    Args:
        network: the generator, or what gives it, such as `weights.load_network` of the weights.
        weights: file with its card beside it.
        device: where to compute.
        inferer: see `NoduleSampler`.

    Raises:
        InputError: the weights are missing, damaged, do not fit the network, or have no card that tells voxel size
            and window.
        SettingError: as `NoduleSampler`.
    """
    path = Path(weights)
    network = network if isinstance(network, nn.Module) else network()
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
    return NoduleSampler(
        network,
        [float(edge) for edge in card.spacing if edge is not None],
        (card.window[0], card.window[1]),
        card.classes,
        device,
        inferer=inferer,
        latent_size=card.latent_size,
        size=card.patch_size[0] if card.patch_size else None,
    )


def trained_with(weights: str | Path, name: str, default: Any) -> Any:
    """What the card beside the weights tells of ``spacing``, ``size``, ``spatial_dims`` or the network; else `default`.

    For configs, so that nobody has to repeat what a generator was trained with.

    Raises:
        InputError: the card cannot be read.
    """
    card = WeightsCard.of(Path(weights))
    if card is None:
        return default
    inner = card.network_def.get("generator", {})  # of a detector
    known = {"spacing": card.spacing[0], "spatial_dims": len(card.spacing), **inner, **card.network_def}
    return (known | ({"size": card.patch_size[0]} if card.patch_size else {})).get(name, default)


BOTH = ("benign", "malignant")
MALIGNANCIES = (*BOTH, "both")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sample:
    """What a nodule follows from, together with weights and truncation.

    Attributes:
        latent_seed: draws the latent vector.
        label: class of the generator; None where it has no classes.
        malignancy: name of the class.
    """

    latent_seed: int
    label: int | None
    malignancy: str


def requested_samples(
    sampler: NoduleSampler,
    malignancy: str | None = "both",
    num_samples: int = 1,
    seed: int = 0,
    latent_seeds: Sequence[int] | None = None,
) -> list[Sample]:
    """The nodules that a run is asked for.

    The i-th sample follows from `seed` and i alone, so that a longer run begins with the samples of a shorter one.

    Args:
        sampler: that is to make them.
        malignancy: ``benign``, ``malignant``, or ``both`` in turn; None or ``both`` for a generator without classes.
        num_samples: how many; `latent_seeds` takes its place.
        seed: draws the latent seeds.
        latent_seeds: to be made (again), each in every class asked for.

    Raises:
        SettingError: fewer than 1 sample, or an unknown class.
    """
    if malignancy not in MALIGNANCIES and (malignancy is not None or sampler.classes):
        raise SettingError(f"malignancy is {malignancy!r}; choose {', '.join(MALIGNANCIES)}.")
    kinds: list[tuple[int | None, str]] = [(None, UNKNOWN)]
    if sampler.classes or malignancy in BOTH:
        wanted = BOTH if malignancy == "both" else (str(malignancy),)
        kinds = [(sampler.label_of(name), name) for name in wanted]
    if latent_seeds is not None:
        if not len(latent_seeds):
            raise SettingError("latent_seeds is empty. Give at least one, or null to draw num_samples.")
        return [Sample(int(one), *kind) for one in latent_seeds for kind in kinds]
    if num_samples < 1:
        raise SettingError(f"num_samples is {num_samples}; give 1 or more.")
    return [Sample(latent_seed(seed, index), *kinds[index % len(kinds)]) for index in range(num_samples)]


def latent_seed(seed: int, index: int) -> int:
    """Latent seed of the sample number `index`: 48 bits, which spreadsheets hold exactly.

    Raises:
        SettingError: the seed is negative.
    """
    if seed < 0:
        raise SettingError(f"seed is {seed}; give 0 or more.")
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(16))

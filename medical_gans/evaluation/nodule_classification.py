"""Training of the small classifier of nodules within a fixed budget, and its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from tqdm import tqdm

from medical_gans.errors import InputError, SettingError
from medical_gans.transforms import window_to_unit

_BATCH = 128


@dataclass(frozen=True)
class Budget:
    """What every training of a comparison may spend.

    Attributes:
        steps: updates.
        batch_size: patches of an update.
        learning_rate: peak of a one-cycle schedule of AdamW.
        weight_decay: of AdamW.
        shift: voxels, largest random shift; mirroring left-right and front-back comes on top.

    Raises:
        SettingError: a number is too small.
    """

    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    shift: int = 3

    def __post_init__(self) -> None:
        if self.steps < 2 or self.batch_size < 2 or self.learning_rate <= 0 or self.shift < 0:
            raise SettingError(
                f"steps is {self.steps}, batch_size {self.batch_size}, learning_rate {self.learning_rate}, shift "
                f"{self.shift}; steps and batch_size must be 2 or more, the rate above 0, the shift 0 or more."
            )


def images_of(hounsfield: np.ndarray, window: Sequence[float]) -> Tensor:
    """Patches ``(n, *spatial)`` in HU as images ``(n, 1, *spatial)`` in [-1, 1]."""
    return torch.from_numpy(window_to_unit(hounsfield, window).astype(np.float32))[:, None]


def train_classifier(
    network: nn.Module,
    images: Tensor,
    malignant: np.ndarray,
    measures: np.ndarray | None = None,
    *,
    budget: Budget,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: str | None = None,
) -> nn.Module:
    """Train a `networks.NoduleClassifier` in place, and give it back ready for use.

    The loss is the cross-entropy of malignancy, where it is known, and the smooth L1 error of the measures. At the end
    the statistics of all norms are those of the images given, without augmentation.

    Args:
        network: initialised.
        images: ``(n, 1, *spatial)`` in [-1, 1].
        malignant: ``(n,)`` 1 malignant, 0 benign, NaN unknown.
        measures: ``(n, measures)``, standardised; None where the network has no such outputs.
        budget: of the training.
        seed: of the order and the augmentation.
        device: where to train.
        progress: words beside a progress bar; None shows none.

    Raises:
        InputError: benign or malignant nodules are missing.
    """
    truth = torch.from_numpy(np.asarray(malignant, dtype=np.float32))
    if not ((truth == 0).any() and (truth == 1).any()):
        raise InputError(
            "A classifier needs benign and malignant nodules to learn from; one of the classes is missing."
        )
    wanted = None if measures is None else torch.from_numpy(np.asarray(measures, dtype=np.float32)).to(device)
    two_dimensional = images.ndim == 4
    network.to(device).train()
    if two_dimensional:  # twice as fast on a CPU
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, budget.learning_rate, total_steps=budget.steps)
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in tqdm(range(budget.steps), desc=progress, disable=progress is None, leave=False):
        while len(order) < budget.batch_size:
            order = torch.cat([order, torch.randperm(len(images), generator=draw)])
        chosen, order = order[: budget.batch_size], order[budget.batch_size :]
        outputs = network(_augmented(images[chosen], budget.shift, draw).to(device))
        batch_truth = truth[chosen].to(device)
        known = batch_truth.isfinite()
        loss = outputs.sum() * 0.0
        if known.any():
            loss = loss + binary_cross_entropy_with_logits(outputs[known, 0], batch_truth[known])
        if wanted is not None:
            loss = loss + smooth_l1_loss(outputs[:, 1:], wanted[chosen.to(device)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    _settle_norms(network, images[torch.randperm(len(images), generator=draw)], device)
    return network.eval()


def malignancy_logits(network: nn.Module, images: Tensor, device: str | torch.device = "cpu") -> np.ndarray:
    """``(n,)`` logit of malignancy of each image ``(n, 1, *spatial)`` in [-1, 1]."""
    with torch.inference_mode():
        return torch.cat([network(batch.to(device))[:, 0].cpu() for batch in images.split(_BATCH)]).double().numpy()


def features_of(network: nn.Module, images: Tensor, device: str | torch.device = "cpu") -> np.ndarray:
    """``(n, features)`` of each image ``(n, 1, *spatial)`` in [-1, 1]."""
    with torch.inference_mode():
        found = [network.features(batch.to(device)).cpu() for batch in images.split(_BATCH)]  # type: ignore[operator]
    return torch.cat(found).double().numpy()


def _augmented(images: Tensor, shift: int, draw: torch.Generator) -> Tensor:
    """Each image shifted by whole voxels and mirrored left-right, front-back, or both."""
    dimensions = images.ndim - 2
    padded = functional.pad(images, [shift] * (2 * dimensions), mode="reflect") if shift else images
    starts = torch.randint(0, 2 * shift + 1, (len(images), dimensions), generator=draw).tolist()
    mirrored = torch.rand((len(images), 2), generator=draw) < 0.5
    views = []
    for image, start, mirror in zip(padded, starts, mirrored.tolist(), strict=True):
        box = tuple(slice(first, first + n) for first, n in zip(start, images.shape[2:], strict=True))
        axes = [axis + 1 for axis, turned in enumerate(mirror) if turned]
        views.append(image[(slice(None), *box)].flip(axes))
    return torch.stack(views)


def _settle_norms(network: nn.Module, images: Tensor, device: str | torch.device) -> None:
    """Batch statistics of the last steps are noisy; the last norm above all must standardise the features exactly."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    network.train()
    with torch.no_grad():
        for batch in images.tensor_split(-(-len(images) // _BATCH)):
            network(batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum

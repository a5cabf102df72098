"""Training of the small classifier of nodules within a fixed budget, and its verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn import BCEWithLogitsLoss, SmoothL1Loss
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from medical_gans.errors import InputError, SettingError
from medical_gans.methods.nodule_features import NoduleFeatures
from medical_gans.training.player import Player

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
    player = Player(
        {"classifier": network},
        partial(torch.optim.AdamW, lr=budget.learning_rate, weight_decay=budget.weight_decay),
        schedule=partial(OneCycleLR, max_lr=budget.learning_rate, total_steps=budget.steps),
        device=device,
    )
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    known = {"malignant": truth}
    if measures is not None:
        known["measures"] = torch.from_numpy(np.asarray(measures, dtype=np.float32))
    losses = {"malignancy": BCEWithLogitsLoss(), "measures": SmoothL1Loss()}
    method = NoduleFeatures(player, losses, images)
    for _ in tqdm(range(budget.steps), desc=progress, disable=progress is None, leave=False):
        while len(order) < budget.batch_size:
            order = torch.cat([order, torch.randperm(len(images), generator=draw)])
        chosen, order = order[: budget.batch_size], order[budget.batch_size :]
        image = _augmented(images[chosen], budget.shift, draw)
        method({"image": image, **{name: values[chosen] for name, values in known.items()}})
        player.end_epoch()  # the schedule goes by steps
    method.settle_statistics()
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

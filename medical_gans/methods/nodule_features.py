"""A network whose features judge generated nodules: it learns malignancy and radiomic measures of real ones.

Malignancy alone would leave features that see nothing else; the measures make them see place, edge, texture, sharpness
and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from medical_gans.training.player import Method, Player

_BATCH = 128


class NoduleFeatures(Method):
    """Updates a `networks.NoduleClassifier`, or a network like it.

    A batch has ``image`` ``(batch, 1, *spatial)`` in [-1, 1], ``malignant`` ``(batch,)`` 1, 0, or NaN where nobody
    knows, and, where the network learns them, ``measures`` ``(batch, measures)``, standardised.

    Args:
        classifier: player with the network ``classifier``, of images to ``(batch, 1 + measures)``.
        losses: ``malignancy``, of (logits, truth), of the known ones; ``measures``, of (given, wanted).
        weights: of both; 1 where not given.
        images: all training images without augmentation, ``(n, 1, *spatial)``: at the end of an epoch the statistics of
            all norms become theirs, for those of the last batches are noisy, and the last norm above all has to
            standardise the features exactly.
    """

    def __init__(
        self,
        classifier: Player,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
        images: Tensor,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__({"classifier": classifier}, shipped=("classifier", "classifier"))
        self.losses, self.all_images = losses, images
        self.weights = {"malignancy": 1.0, "measures": 1.0, **(weights or {})}

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update once; the losses by name."""
        player = self.players["classifier"]
        image, malignant = batch["image"].to(player.device), batch["malignant"].to(player.device)
        player.begin()
        with player.autocast():
            given = player["classifier"](image)
            known = malignant.isfinite()
            terms = {"malignancy": 0.0 * given.sum()}  # where nobody knows any, there still is a gradient
            if known.any():
                terms["malignancy"] = self.losses["malignancy"](given[known, 0], malignant[known])
            if "measures" in batch:
                terms["measures"] = self.losses["measures"](given[:, 1:], batch["measures"].to(player.device))
            loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        player.descend(loss)
        self.images = {"nodules": image}
        return {name: float(term.detach()) for name, term in terms.items()}

    def end_epoch(self) -> None:
        """Advance the schedule, and settle the statistics of the norms."""
        super().end_epoch()
        self.settle_statistics()

    def settle_statistics(self) -> None:
        """Give all norms the statistics of the training images, without augmentation."""
        self.players["classifier"].measure_statistics("classifier", self._pass_all)

    def _pass_all(self, network: nn.Module) -> None:
        # as many in each batch, so that the mean over batches is that over images
        order = torch.randperm(len(self.all_images), generator=torch.Generator().manual_seed(0))
        for batch in self.all_images[order].tensor_split(-(-len(order) // _BATCH)):
            network(batch.to(self.players["classifier"].device))

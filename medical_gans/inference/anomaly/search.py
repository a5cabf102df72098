"""AnoGAN: search for the latent vector whose image is nearest to a patch (Schlegl et al. 2017, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medical_gans.networks.anomaly_detector import AnomalyDetector


class LatentSearch:
    """Gradient descent in the latent space, all patches of a batch at once and each by itself.

    Loss of a patch: (1 - lambda) x mean |x - G(z)| + lambda x mean |f(x) - f(G(z))|, f the critic's features. Where the
    detector hides the centre, G(z) stands in for x there (as in the completion of Yeh et al. 2017), so that only what
    lies around it has to fit.

    Args:
        detector: generator and critic; the encoder is not used.
        steps: 500 as published.
        learning_rate: of Adam.
        weight: lambda, 0.1 as published.
        seed: of the first latent vectors; each patch gets the same whatever else is searched for.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        *,
        steps: int = 500,
        learning_rate: float = 0.02,
        weight: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.detector = detector.eval()
        self.steps, self.learning_rate, self.weight, self.seed = steps, learning_rate, weight, seed

    def __call__(self, image: Tensor, on_step: Callable[[], object] | None = None) -> Tensor:
        """The nearest images of the generator, ``(batch, 1, size, size)``.

        Args:
            image: ``(batch, 1, size, size)`` in [-1, 1].
            on_step: called after each step.
        """
        detector = self.detector
        detector.requires_grad_(False)
        start = torch.randn(detector.latent_size, generator=torch.Generator().manual_seed(self.seed))
        latent = start.repeat(len(image), 1).to(image.device).requires_grad_()
        optimiser = torch.optim.Adam([latent], self.learning_rate)
        for _ in range(self.steps):
            made = detector.generator(latent, None)
            shown = torch.where(detector.hidden, made, image)
            residual = (shown - made).abs().flatten(1).mean(1)
            loss = (1 - self.weight) * residual + self.weight * detector.feature_residual(shown, made)
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()  # the sum: patches do not share a step size, Adam scales each number by itself
            optimiser.step()
            if on_step is not None:
                on_step()
        with torch.no_grad():
            return detector.generator(latent.detach(), None)

"""Walks through the latent space, from nodule to nodule."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medical_gans.errors import SettingError
from medical_gans.inference.nodules.sampling import NoduleSampler, Sample
from medical_gans.io import whole_file
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import prepare_output
from medical_gans.report import Manifest, write_results_page
from medical_gans.report.nodules import draw_gif, draw_grid

logger = logging.getLogger(__name__)

_IN_STRIP = 8
_PARALLEL = 1e-4


def spherical_interpolation(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The vector at a share of the way along the great circle between two (slerp; Shoemake 1985).

    Unlike the straight line it does not pass near 0, where a Gaussian of many dimensions has no mass.
    """
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if torch.sin(angle) < _PARALLEL:
        return torch.lerp(first, second, share)
    return (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)


class NoduleWalk:
    """Walks from one nodule to the next, and back to the first.

    Written to `output_dir`: ``walk.png`` (a row for each leg), ``walk.gif``, ``walk.csv`` (what each frame is made
    from), ``report.html``, ``manifest.json``.

    Args:
        sampler: trained generator.
        stops: nodules to visit; between two of different class the class is blended too.
        output_dir: folder for everything written.
        weights: file that the sampler was loaded from.
        steps: frames from one stop to the next.
        truncation: keeps the latent numbers of the stops within minus and plus this; None for none.
        seed: for the manifest.
        milliseconds: time that a frame is shown.
    """

    def __init__(
        self,
        sampler: NoduleSampler,
        stops: Sequence[Sample],
        output_dir: str | Path,
        *,
        weights: str | Path,
        steps: int = 16,
        truncation: float | None = None,
        seed: int = 0,
        milliseconds: int = 60,
    ) -> None:
        if len(stops) < 2:
            raise SettingError(f"A walk needs at least 2 stops, but there is {len(stops)}. Set num_stops to 2 or more.")
        if steps < 2:
            raise SettingError(f"steps is {steps}; give 2 frames or more from stop to stop.")
        self.sampler = sampler
        self.stops = list(stops)
        self.output_dir = Path(output_dir)
        self.steps = steps
        self.truncation = truncation
        self.milliseconds = milliseconds
        settings = {
            "latent_seeds": [stop.latent_seed for stop in self.stops],
            "classes": [stop.malignancy for stop in self.stops],
            "steps": steps,
            "truncation": truncation,
        }
        self.manifest = Manifest("lung_nodule", "interpolate", settings=settings, seed=seed, device=str(sampler.device))
        self.manifest.add_weights(weights)

    def run(self) -> None:
        """Make the walk and write it.

        Raises:
            SettingError: truncation or a latent seed is out of range.
            OutputError: results cannot be written.
        """
        latents = {stop: self.sampler.latent(stop.latent_seed, self.truncation) for stop in self.stops}
        names = ("walk.png", "walk.gif", "walk.csv", "report.html", "manifest.json")
        prepare_output(self.output_dir, Origin("lung_nodule interpolate"), names)
        frames: list[np.ndarray] = []
        rows: list[list[str | int | float]] = []
        strips: dict[str, list[tuple[str, np.ndarray]]] = {}
        with self.manifest.timed("frames"):
            for number, (first, second) in enumerate(self._legs(), start=1):
                leg = []
                for step in range(self.steps):
                    share = step / self.steps
                    latent = spherical_interpolation(latents[first], latents[second], share)
                    leg.append(self.sampler.decode(latent, first.label, towards=second.label, share=share))
                    ends = (first.latent_seed, first.malignancy, second.latent_seed, second.malignancy)
                    rows.append([len(rows), *ends, round(share, 6)])
                last = self.sampler.decode(latents[second], second.label)
                strips[f"{number}: {_named(first)} to {_named(second)}"] = _spread([*leg, last])
                frames += leg
        window = self.sampler.window
        heads = ["frame", "from_seed", "from_class", "to_seed", "to_class", "share"]
        with whole_file(self.output_dir / "walk.csv") as temporary, temporary.open("w", newline="") as stream:
            csv.writer(stream).writerows([heads, *rows])
        draw_grid(strips, window, self.output_dir / "walk.png")
        draw_gif(frames, window, self.output_dir / "walk.gif", self.milliseconds)
        self._report(len(frames))

    def _legs(self) -> Iterator[tuple[Sample, Sample]]:
        return zip(self.stops, [*self.stops[1:], self.stops[0]], strict=True)

    def _report(self, frames: int) -> None:
        low, high = self.sampler.window
        write_results_page(
            self.output_dir / "report.html",
            "A walk from nodule to nodule",
            sentences=[
                f"{len(self.stops)} nodules and {frames} frames between them, on great circles of the latent space. A "
                "generator that has learned what nodules have in common changes them steadily; one that has learned "
                "single nodules by heart jumps."
            ],
            sections=[
                ("walk.gif", f"The whole walk; {low:g} HU is black, {high:g} white."),
                ("walk.png", "From stop to stop, in equal steps."),
            ],
            settings=self.manifest.settings,
        )
        self.manifest.write(self.output_dir)
        logger.info("The walk is in %s; begin with its report.html.", self.output_dir)


def _named(stop: Sample) -> str:
    return f"{stop.malignancy} {stop.latent_seed}"


def _spread(frames: Sequence[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """First, last and evenly chosen frames between them."""
    count = min(_IN_STRIP, len(frames))
    return [("", frames[round(number * (len(frames) - 1) / (count - 1))]) for number in range(count)]

"""CycleGAN between two sets of MR sequences: image-level adaptation (Zhu et al. 2017), and the images it makes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from medical_gans.data.sequence_slices import DEVIATIONS, to_unit
from medical_gans.io import save_volume
from medical_gans.io.ownership import Origin, check_replaceable, source
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.writing import check_writable, whole_folder
from medical_gans.methods.cyclegan.translation import CycleGan
from medical_gans.networks.resnet_generator import STRIDE
from medical_gans.transforms.sequences import read_sequence_case

logger = logging.getLogger(__name__)
_NAMES = {"synthetic_ct": "translated_source", "synthetic_mr": "translated_target", "mr": "source", "ct": "target"}


class SequenceTranslation:
    """`CycleGan` whose two sides are the source and the target of an adaptation.

    Args:
        source_to_target: the generator that ships.
        target_to_source: the generator back.
        source_discriminator: tells real source images from translated ones.
        target_discriminator: tells real target images from translated ones.
        options: see `CycleGan`.
    """

    def __init__(
        self,
        source_to_target: nn.Module,
        target_to_source: nn.Module,
        source_discriminator: nn.Module,
        target_discriminator: nn.Module,
        **options: Any,
    ) -> None:
        self.cycle = CycleGan(source_to_target, target_to_source, target_discriminator, source_discriminator, **options)
        self.images: dict[str, Tensor] = {}

    @property
    def shipped(self) -> nn.Module:
        """Source to target, as a running average."""
        return self.cycle.shipped

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Update all networks once by ``source`` and ``target`` ``(batch, channel, *spatial)`` in [-1, 1]."""
        losses = self.cycle({"mr": batch["source"], "ct": batch["target"]})
        self.images = {_spoken(name): image for name, image in self.cycle.images.items()}
        return {_spoken(name): loss for name, loss in losses.items()}

    def end_epoch(self) -> None:
        """Advance the learning-rate schedules."""
        self.cycle.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return self.cycle.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state."""
        self.cycle.load_state_dict(state)


class SequenceTranslator:
    """Writes source cases in the target's look: ``<case>/<sequence>.nii.gz`` on the grid of each case.

    Args:
        generator: takes slices ``(batch, channel, *spatial)`` in [-1, 1].
        cases: of the source.
        channels: sequences of the source.
        target_channels: names that the translated sequences get.
        spacing: mm of the generator's grid.
        output_dir: folder that appears when all cases are written.
        device: where the generator is.
        slice_batch: slices per pass.
    """

    def __init__(
        self,
        generator: nn.Module,
        cases: Sequence[SequenceCase],
        channels: Sequence[str],
        target_channels: Sequence[str],
        *,
        spacing: Sequence[float | None] | None,
        output_dir: str | Path,
        device: torch.device | str = "cpu",
        slice_batch: int = 16,
    ) -> None:
        self.generator, self.cases = generator, list(cases)
        self.channels, self.target_channels, self.spacing = list(channels), list(target_channels), spacing
        sources = [source(path) for case in self.cases for path in case.channels if path is not None]
        self.origin = Origin("brain_lesion translate", sources)
        self.output_dir, self.device, self.slice_batch = Path(output_dir), torch.device(device), slice_batch

    def check_output(self) -> None:
        """Refuse, before hours of training, to replace what is not ours.

        Raises:
            OutputError: the folder is somebody else's, or cannot be written.
        """
        check_replaceable(self.output_dir, self.origin)
        check_writable(self.output_dir.parent)

    def run(self) -> Path:
        """Translate all cases.

        Raises:
            InputError: a case cannot be read.
            OutputError: the folder cannot be written.
        """
        with whole_folder(self.output_dir, self.origin) as new:
            for case in tqdm(self.cases, desc="translating", unit="case"):
                volume = read_sequence_case(case, self.channels, spacing=self.spacing)
                made = np.where(volume.foreground, self.translate(volume.image) * DEVIATIONS, 0.0)
                # a background below all tissue, which readers find again
                lowest = -2 * DEVIATIONS
                inside = volume.to_source_grid(volume.foreground[None].astype(np.float32))[0] > 0.5
                for name, array in zip(self.target_channels, volume.to_source_grid(made), strict=True):
                    image = np.where(inside, array, lowest).astype(np.float32)
                    (new / case.name).mkdir(exist_ok=True)
                    save_volume(new / case.name / f"{name}.nii.gz", image, volume.source.affine)
        logger.info("%d translated cases are in %s.", len(self.cases), self.output_dir.name)
        return self.output_dir

    @torch.inference_mode()
    def translate(self, image: np.ndarray) -> np.ndarray:
        """``(channel, x, y, z)`` in deviations to the same in [-1, 1] in the target's look."""
        generator = self.generator.to(self.device).eval()
        slices = torch.from_numpy(np.moveaxis(to_unit(image), 3, 0).copy())
        odd = [-size % STRIDE for size in slices.shape[2:]]
        padded = torch.nn.functional.pad(slices, (0, odd[1], 0, odd[0]))
        made = torch.cat([generator(part.to(self.device)).float().cpu() for part in padded.split(self.slice_batch)])
        return np.moveaxis(made[:, :, : slices.shape[2], : slices.shape[3]].numpy(), 0, 3)


def _spoken(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("cycle_"):
        return f"cycle_{_NAMES[name.removeprefix('cycle_')]}"
    for side in ("ct", "mr"):
        if name.endswith(f"_{side}"):
            return f"{name.removesuffix(side)}{_NAMES[side]}"
    return name

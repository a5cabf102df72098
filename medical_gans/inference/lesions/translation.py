"""Images of one domain in the look of another, by a generator that was trained on slices (image-level adaptation)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from medical_gans.data.sequence_views import DEVIATIONS, to_unit
from medical_gans.io import save_volume
from medical_gans.io.ownership import Origin, check_replaceable, source
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.writing import check_writable, whole_folder
from medical_gans.networks.resnet_generator import STRIDE
from medical_gans.transforms.sequence_volume import Preprocessing, read_sequence_case

logger = logging.getLogger(__name__)


class SequenceTranslator:
    """Writes source cases in the target's look: ``<case>/<sequence>.nii.gz`` on the grid of each case.

    Args:
        generator: takes slices ``(batch, channel, *spatial)`` in [-1, 1].
        cases: of the source.
        channels: sequences of the source.
        target_channels: names that the translated sequences get.
        preprocessing: of every case; None takes that of the shipped configs.
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
        preprocessing: Preprocessing | None = None,
        output_dir: str | Path,
        device: torch.device | str = "cpu",
        slice_batch: int = 16,
    ) -> None:
        self.generator, self.cases = generator, list(cases)
        self.channels, self.target_channels, self.preprocessing = list(channels), list(target_channels), preprocessing
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
                volume = read_sequence_case(case, self.channels, preprocessing=self.preprocessing)
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

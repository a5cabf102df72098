"""Sliding-window inference: from the sequences of a case to probabilities on the case's own grid."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from medical_gans.errors import SettingError
from medical_gans.transforms.sequences import SequenceVolume

Progress = Callable[[int, int], None]

_USUAL_WINDOW = (48, 48, 48)  # voxels, where nobody knows the patches of training
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # of voxels, that the strides of a network may ask for


class LesionSegmentation:
    """A segmenter applied to whole volumes in overlapping windows, averaged with Gaussian weights.

    Only the bounding box of the foreground is segmented, and of its windows only those that show something; what lies
    outside the foreground is background. Logits are averaged in the main memory, so that a GPU holds no more than the
    windows of one pass.

    Args:
        network: ``(batch, channel, *spatial)`` to logits ``(batch, class, *spatial)``.
        spacing: mm along left-right, back-front, foot-head that it was trained at; None keeps what a volume has.
        roi_size: voxels of a window, made larger where the strides of the network ask for it. None takes
            `patch_size`: with instance norm a network sees a larger window in another way than it was trained.
        patch_size: voxels of a training patch, if known.
        overlap: of neighbouring windows, as a share of their size.
        sw_batch_size: windows per pass. On a CPU one at a time takes a slower convolution.
        device: where to compute.
        amp: automatic mixed precision; acts on a GPU only.

    Raises:
        SettingError: a value is out of range, the network cannot take any window of about this size, or there is no
            such device.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        spacing: Sequence[float | None] | None = None,
        roi_size: Sequence[int] | None = None,
        patch_size: Sequence[int] | None = None,
        overlap: float = 0.5,
        sw_batch_size: int = 4,
        device: torch.device | str = "cpu",
        amp: bool = False,
    ) -> None:
        roi_size = roi_size or patch_size or _USUAL_WINDOW
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise SettingError("device is cuda, but torch finds no usable GPU here. Set device to cpu.")
        if not 0 <= overlap < 1 or sw_batch_size < 1 or len(roi_size) != 3 or min(roi_size) < 1:
            raise SettingError(
                f"overlap is {overlap}, sw_batch_size {sw_batch_size}, roi_size {list(roi_size)}; give an overlap from "
                "0 to below 1, 1 or more windows per pass, and three edges of 1 voxel or more."
            )
        first = next((m for m in network.modules() if isinstance(m, nn.Conv3d)), None)
        self.in_channels = first.in_channels if first is not None else None
        self.spacing = list(spacing) if spacing else None
        self.roi_size = fitting_window(network, self.in_channels or 1, roi_size)
        self.overlap, self.sw_batch_size = overlap, sw_batch_size
        self.amp = amp and self.device.type == "cuda"
        self.network = copy.deepcopy(network).eval().requires_grad_(False).to(self.device)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as plain values."""
        return {**self.decisive_settings, "sw_batch_size": self.sw_batch_size, "device": str(self.device)}

    @property
    def decisive_settings(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        return {"spacing": self.spacing, "roi_size": self.roi_size, "overlap": self.overlap, "amp": self.amp}

    def __call__(self, case: SequenceVolume, on_progress: Progress | None = None) -> np.ndarray:
        """Probabilities ``(class, *spatial)`` float32 on the grid of ``case.source``.

        Args:
            case: read at `spacing`.
            on_progress: called with the windows done and the number of all windows.

        Raises:
            SettingError: the network takes another number of channels than the case has.
        """
        if self.in_channels not in (None, len(case.image)):
            raise SettingError(
                f"The network takes {self.in_channels} channels, but the case has {len(case.image)}. Set channels as "
                "they were in training."
            )
        box = _bounding_box(case.foreground)
        found = self._in_box(case.image[(slice(None), *box)], on_progress)
        found *= _without_holes(case.foreground[box])
        lesions = np.zeros((len(found), *case.foreground.shape), np.float32)
        lesions[(slice(None), *box)] = found
        lesions = case.to_source_grid(lesions)
        probabilities = np.empty((len(lesions) + 1, *lesions.shape[1:]), np.float32)
        probabilities[1:] = lesions
        np.subtract(1, lesions.sum(axis=0), out=probabilities[0])
        return probabilities

    def _in_box(self, image: np.ndarray, on_progress: Progress | None) -> np.ndarray:
        """Probabilities of all classes but the background, ``(class - 1, *spatial)``."""
        from monai.inferers import SlidingWindowInferer

        inferer = SlidingWindowInferer(
            self.roi_size,
            self.sw_batch_size,
            self.overlap,
            mode="gaussian",
            sw_device=self.device,
            device="cpu",
        )
        done, total = 0, self._windows(image.shape[1:])

        def segment(windows: Tensor) -> Tensor:
            nonlocal done
            done += len(windows)
            if on_progress is not None:
                on_progress(done, total)
            return self._segment(windows)

        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.amp):
            logits = inferer(torch.from_numpy(np.ascontiguousarray(image))[None], segment)
            assert isinstance(logits, Tensor)
            return logits[0].softmax(0)[1:].numpy()

    def _segment(self, windows: Tensor) -> Tensor:
        """Logits; those of windows that show nothing are 0, for no voxel of the foreground lies in them."""
        shown = windows.flatten(1).any(dim=1)
        if shown.all():
            return self.network(windows).float()
        if not shown.any():
            shown[0] = True  # to learn the number of classes
        made = self.network(windows[shown]).float()
        logits = made.new_zeros(len(windows), *made.shape[1:])
        logits[shown] = made
        return logits

    def _windows(self, shape: Sequence[int]) -> int:
        """How many windows cover a volume, as `monai.inferers.sliding_window_inference` lays them."""
        count = 1
        for size, edge in zip(shape, self.roi_size, strict=True):
            step = max(1, int(edge * (1 - self.overlap)))
            count *= math.ceil(max(size - edge, 0) / step) + 1
        return count


def label_map(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class, ``(class, *spatial)`` to ``(*spatial)`` uint8."""
    label, highest = np.zeros(probabilities.shape[1:], np.uint8), probabilities[0]
    for value, probability in enumerate(probabilities[1:], start=1):
        np.copyto(label, np.uint8(value), where=probability > highest)
        highest = np.maximum(highest, probability)
    return label


def fitting_window(network: nn.Module, in_channels: int, roi_size: Sequence[int]) -> tuple[int, ...]:
    """The smallest window of at least `roi_size` whose size a network keeps. Nothing is computed.

    Raises:
        SettingError: it keeps none.
    """
    shapes_only = copy.deepcopy(network).eval().to("meta")
    refused = "it changes the size"
    for multiple in _MULTIPLES:
        window = tuple(math.ceil(edge / multiple) * multiple for edge in roi_size)
        try:
            with torch.inference_mode():
                made = shapes_only(torch.empty(1, in_channels, *window, device="meta"))
        except (RuntimeError, ValueError) as error:
            refused = str(error).splitlines()[0]
            continue
        if tuple(made.shape[2:]) == window:
            return window
    raise SettingError(f"The network cannot take windows of about {list(roi_size)} voxels: {refused}. Set roi_size.")


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(box)


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """Fill what is shut off from the outside; much faster than `scipy.ndimage.binary_fill_holes`."""
    outside, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]

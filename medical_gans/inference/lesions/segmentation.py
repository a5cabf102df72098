"""From a weights file and the sequences of a case to probabilities and classes on the case's own grid."""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd
from torch import Tensor, nn

from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.errors import SettingError
from medical_gans.inference.cohort import recipe
from medical_gans.inference.lesions.cpu_norms import with_fast_norms
from medical_gans.transforms.brain import WithinBraind
from medical_gans.transforms.sequence_grid import ToSourceGridd
from medical_gans.transforms.sequence_volume import SequenceVolume, applied
from medical_gans.transforms.sequences import WithinForegroundd
from medical_gans.weights import WeightsCard, build_network, card_path, load_weights

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

USUAL_WINDOW = (48, 48, 48)
"""Voxels of a window where nobody knows the patches of training."""
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # of voxels, that the strides of a network may ask for


@dataclass(frozen=True, eq=False)
class TrainedSegmenter:
    """A segmenter with its weights.

    Attributes:
        network: in evaluation mode.
        file: its weights.
        spacing: voxel size of training in mm along the canonical axes; None where kept or not known.
        classes: their names, the background first.
        sequences: all names of sequences that the weights know, in training or adaptation.
        fingerprint: of the training images; None where the weights came without it.
        notes: sentences for the report.
        patch_size: voxels of a training patch along each axis; None where not known.
    """

    network: nn.Module
    file: Path
    spacing: Sequence[float | None] | None = None
    classes: Sequence[str] = ("background", "lesion")
    sequences: Sequence[str] = ()
    fingerprint: Fingerprint | None = None
    notes: tuple[str, ...] = ()
    patch_size: Sequence[int] | None = None

    def window(self, roi_size: Sequence[int] | None = None) -> tuple[int, ...]:
        """Voxels of a window: `roi_size`, else the patches of training, made larger where strides ask for it."""
        return fitting_window(self.network, roi_size or self.patch_size or USUAL_WINDOW)


def load_segmenter(network: nn.Module, weights: str | Path, channels: Sequence[str]) -> TrainedSegmenter:
    """Load weights into the network that their card (`weights.WeightsCard`) tells of.

    Args:
        network: taken where there is no card, or it tells of none.
        weights: file.
        channels: names of the sequences that are to be segmented, in the network's order.

    Raises:
        InputError: the file is missing, damaged, or does not fit the network.
        SettingError: the weights were trained on another number of sequences, or in another order.
    """
    file = Path(weights)
    card = WeightsCard.of(file)
    if card is None:
        loaded = load_weights(copy.deepcopy(network), file)
        note = (
            f"{file.name} has no card ({card_path(file).name}) beside it: at which voxel size and on which "
            "sequences it was trained is not known."
        )
        logger.warning(note)
        return TrainedSegmenter(loaded, file, notes=(note,))
    notes = _compare(channels, card, file)
    if card.network_def:
        network = build_network(card.network_def, f"The card of {file.name}")
    return TrainedSegmenter(
        load_weights(network, file),
        file,
        list(card.spacing) if any(card.spacing) else None,
        tuple(card.classes) or TrainedSegmenter.classes,
        tuple(dict.fromkeys([*card.channels, *card.target_channels])),
        Fingerprint.from_json(json.dumps(card.fingerprint)) if card.fingerprint else None,
        notes,
        list(card.patch_size) or None,
    )


class Segmented(NamedTuple):
    """What became of a case.

    Attributes:
        label: ``(*spatial)`` uint8 classes on the grid that the case came with.
        probability: ``(class, *spatial)`` float32, as `label`.
    """

    label: np.ndarray
    probability: np.ndarray


class LesionSegmentation:
    """A segmenter applied to whole volumes.

    Of the windows of a sliding-window inferer only those are computed that show something.

    Args:
        network: ``(batch, channel, *spatial)`` to logits ``(batch, class, *spatial)``.
        inferer: of an image ``(1, channel, *spatial)`` and a network (`monai.inferers`). A `SlidingWindowInferer` whose
            ``roi_size`` is None takes windows of `patch_size`: with instance norm a network sees a larger window in
            another way than it was trained. Windows are made larger where the strides of the network ask for it.
        postprocessing: of an item with ``pred`` (logits), ``image``, ``foreground``, ``source`` and ``brain`` (or
            None, see `FindBraind`): leaves ``pred``, classes ``(1, *spatial)``, and ``probability``
            ``(class, *spatial)`` on the grid of ``source``; None takes that of the shipped configs.
        spacing: mm along left-right, back-front, foot-head that it was trained at; None keeps what a volume has.
        patch_size: voxels of a training patch, if known.
        device: where to compute.
        amp: automatic mixed precision; acts on a GPU only.

    Raises:
        SettingError: a value is out of range, the network cannot take any window of about this size, or there is no
            such device.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Callable[..., Any],
        *,
        postprocessing: Callable[[dict[Any, Any]], Mapping[Any, Any]] | None = None,
        spacing: Sequence[float | None] | None = None,
        patch_size: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
        amp: bool = False,
    ) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise SettingError("device is cuda, but torch finds no usable GPU here. Set device to cpu.")
        self.inferer = _with_window(inferer, network, patch_size)
        self.in_channels = _in_channels(network)
        self.postprocessing = postprocessing or usual_postprocessing()
        self.spacing = list(spacing) if spacing else None
        self.amp = amp and self.device.type == "cuda"
        self.network = copy.deepcopy(network).eval().requires_grad_(False).to(self.device)
        if self.device.type == "cpu":
            with_fast_norms(self.network)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as plain values."""
        return {**self.decisive_settings, "device": str(self.device)}

    @property
    def decisive_settings(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        parts = {"inferer": recipe(self.inferer), "postprocessing": recipe(self.postprocessing)}
        return {"spacing": self.spacing, **parts, "amp": self.amp}

    def __call__(self, case: SequenceVolume, on_progress: Progress | None = None) -> Segmented:
        """Classes and probabilities on the grid of ``case.source``.

        Args:
            case: read at `spacing`.
            on_progress: called with the windows done and the number of all windows.

        Raises:
            SettingError: the network takes another number of channels than the case has, or `postprocessing` leaves
                something out.
        """
        if self.in_channels not in (None, len(case.image)):
            raise SettingError(
                f"The network takes {self.in_channels} channels, but the case has {len(case.image)}. Set channels as "
                "they were in training."
            )
        affine = torch.from_numpy(np.array(case.affine))
        item = {
            "image": MetaTensor(torch.from_numpy(case.image), affine=affine),
            "foreground": MetaTensor(torch.from_numpy(case.foreground[None]), affine=affine),
            "source": case.source,
            "brain": case.brain,
        }
        item["pred"] = MetaTensor(self._logits(case.image, on_progress), affine=affine)
        made = applied(self.postprocessing, item)
        for name in ("pred", "probability"):
            if name not in made or tuple(made[name].shape[1:]) != case.source.array.shape:
                raise SettingError(
                    f"postprocessing leaves no {name} on the grid of the image. It needs Activationsd, ToSourceGridd, "
                    "CopyItemsd to probability and AsDiscreted, in this order."
                )
        label = np.asarray(made["pred"][0].cpu()).astype(np.uint8)
        return Segmented(label, np.asarray(made["probability"].cpu(), dtype=np.float32))

    def _logits(self, image: np.ndarray, on_progress: Progress | None) -> Tensor:
        """``(class, *spatial)`` float32 in the main memory."""
        windows = isinstance(self.inferer, SlidingWindowInferer)
        done, total = 0, _windows(self.inferer, image.shape[1:]) if windows else 1

        def segment(part: Tensor, *more: Any, **named: Any) -> Tensor:
            nonlocal done
            done += len(part)
            if on_progress is not None and done <= total:
                on_progress(done, total)
            return self._segment(part.to(self.device)) if windows else self.network(part.to(self.device), *more).float()

        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.amp):
            logits = self.inferer(torch.from_numpy(np.ascontiguousarray(image))[None], segment)
        return logits[0].float().cpu()

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


def usual_postprocessing() -> Compose:
    """What stands in the configs as ``postprocessing``."""
    return Compose(
        [
            Activationsd("pred", softmax=True),
            WithinForegroundd("pred"),
            ToSourceGridd("pred"),
            WithinBraind("pred"),
            CopyItemsd("pred", names="probability"),
            AsDiscreted("pred", argmax=True, dtype=torch.uint8),
        ]
    )


def fitting_window(network: nn.Module, roi_size: Sequence[int]) -> tuple[int, ...]:
    """The smallest window of at least `roi_size` whose size a network keeps. Nothing is computed.

    Raises:
        SettingError: it keeps none.
    """
    shapes_only = copy.deepcopy(network).eval().to("meta")
    in_channels = _in_channels(network) or 1
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


def _with_window(inferer: Callable[..., Any], network: nn.Module, patch_size: Sequence[int] | None) -> Any:
    """A copy of a sliding-window inferer whose window fits the network; other inferers as they are."""
    if not isinstance(inferer, SlidingWindowInferer):
        return inferer
    made = copy.copy(inferer)
    given = made.roi_size or patch_size or USUAL_WINDOW
    roi_size = [given] * 3 if isinstance(given, int) else list(given)
    overlaps = [made.overlap] if isinstance(made.overlap, int | float) else list(made.overlap)
    if not all(0 <= o < 1 for o in overlaps) or made.sw_batch_size < 1 or len(roi_size) != 3 or min(roi_size) < 1:
        raise SettingError(
            f"overlap is {made.overlap}, sw_batch_size {made.sw_batch_size}, roi_size {roi_size}; give an overlap from "
            "0 to below 1, 1 or more windows per pass, and three edges of 1 voxel or more."
        )
    made.roi_size = fitting_window(network, roi_size)
    return made


def _windows(inferer: SlidingWindowInferer, shape: Sequence[int]) -> int:
    """How many windows cover a volume, as `monai.inferers.sliding_window_inference` lays them."""
    overlap = inferer.overlap
    overlaps = [overlap] * 3 if isinstance(overlap, int | float) else list(overlap)
    count = 1
    for size, edge, share in zip(shape, inferer.roi_size, overlaps, strict=True):  # type: ignore[arg-type]
        step = max(1, int(edge * (1 - share)))
        count *= math.ceil(max(size - edge, 0) / step) + 1
    return count


def _in_channels(network: nn.Module) -> int | None:
    first = next((module for module in network.modules() if isinstance(module, nn.Conv3d)), None)
    return None if first is None else first.in_channels


def _compare(channels: Sequence[str], card: WeightsCard, file: Path) -> tuple[str, ...]:
    """Refuse sequences that cannot be right; say it where the weights do not know them."""
    known = [[name.casefold() for name in names] for names in (card.channels, card.target_channels) if names]
    given = [name.casefold() for name in channels]
    if not known or given in known:
        return ()
    trained = ", ".join(card.channels)
    adapted = f" and adapted to {', '.join(card.target_channels)}" if card.target_channels else ""
    same = next((names for names in known if sorted(names) == sorted(given)), None)
    if same is not None:
        order = card.channels if same is known[0] else card.target_channels
        raise SettingError(
            f"channels are {', '.join(channels)}, but {file.name} takes them in the order {', '.join(order)}. Set "
            "channels so."
        )
    if len(given) != len(known[0]):
        raise SettingError(
            f"channels names {len(given)} sequences ({', '.join(channels)}), but {file.name} was trained on {trained}"
            f"{adapted}. Set channels to {len(known[0])} sequences; those that your data lack go into missing as well."
        )
    return (
        f"The weights were trained on {trained}{adapted}. How well they do on {', '.join(channels)} is not known: "
        "look at every outline.",
    )

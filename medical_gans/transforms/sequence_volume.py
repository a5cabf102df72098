"""A case as a segmenter sees it, made by the ``preprocessing`` of a config, and the way back to its own grid."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.transforms import Compose, CropForegroundd, Orientationd

from medical_gans.errors import SettingError
from medical_gans.io.formats import Affine
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.io.volumes import Volume
from medical_gans.transforms.brain import FindBraind
from medical_gans.transforms.sequence_grid import ResizeToSpacingd, to_grid_of
from medical_gans.transforms.sequences import NormaliseForegroundd, ReadSequencesd

Preprocessing = Callable[[dict[Any, Any]], Mapping[Any, Any]]
"""From an item with a case or path in ``image`` to what a network sees, such as a `Compose`."""


@dataclass(eq=False)
class SequenceVolume:
    """A case as a network sees it, and where it came from.

    Attributes:
        image: ``(channel, *spatial)`` float32 in RAS order; each channel has mean 0 and deviation 1 within the
            foreground and is 0 outside; a missing channel is 0.
        foreground: ``(*spatial)``, head or brain.
        affine: of `image`, voxel index -> RAS+ mm.
        label: ``(*spatial)`` uint8 on the grid of `image`, None without labels.
        source_label: the label in classes, on the grid of `source`.
        source: the first sequence that is there; outputs belong on its grid.
        notes: sentences for the report.
        descriptions: what series of DICOM say that they are, by the name of the sequence.
        brain: of a whole head, where a lesion may lie, bool on the grid of `source`; None where that is not known.
    """

    image: np.ndarray
    foreground: np.ndarray
    affine: Affine
    label: np.ndarray | None
    source_label: np.ndarray | None
    source: Volume
    notes: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    brain: np.ndarray | None = None

    @classmethod
    def of(cls, item: Mapping[Hashable, Any]) -> SequenceVolume:
        """From what ``preprocessing`` made of a case.

        Raises:
            SettingError: it lacks something, or image and foreground lie on different grids.
        """
        lacking = [name for name in ("image", "foreground", "source") if name not in item]
        if lacking:
            raise SettingError(
                f"preprocessing gives no {lacking[0]}. It needs ReadSequencesd and FindBraind at its beginning."
            )
        parts: list[Any] = [item.get(name) for name in ("image", "foreground", "label")]
        image, foreground, label = parts
        for name, one in (("foreground", foreground), ("label", label)):
            if one is not None and one.shape[1:] != image.shape[1:]:
                raise SettingError(
                    f"preprocessing leaves image with {tuple(image.shape[1:])} and {name} with {tuple(one.shape[1:])} "
                    "voxels. Transforms that change the grid need keys: [image, foreground, label]."
                )
        return cls(
            image=np.ascontiguousarray(image.numpy(), dtype=np.float32),
            foreground=np.ascontiguousarray(foreground.numpy()[0]) > 0.5,
            affine=np.asarray(image.affine, dtype=np.float64),
            label=None if label is None else np.ascontiguousarray(label.numpy()[0]).astype(np.uint8, copy=False),
            source_label=item.get("truth"),
            source=item["source"],
            notes=tuple(item.get("notes", ())),
            descriptions=item.get("descriptions", {}),
            brain=item.get("brain"),
        )

    def to_source_grid(self, maps: np.ndarray) -> np.ndarray:
        """``(class, *spatial)`` on the grid of `image` to ``(class, *spatial)`` on the grid of `source`, linearly."""
        return to_grid_of(self.source, maps, self.affine)


def read_sequence_case(
    case: SequenceCase,
    channels: Sequence[str] = (),
    *,
    preprocessing: Preprocessing | None = None,
    spacing: Sequence[float | None] | None = None,
    label_groups: Sequence[Sequence[int]] | None = None,
    num_classes: int | None = None,
    strict: bool = False,
) -> SequenceVolume:
    """A case as ``preprocessing`` makes it.

    Args:
        case: its files.
        channels: names of its sequences, for messages, where the case does not know them.
        preprocessing: of the config; None takes that of the shipped configs.
        spacing: mm along left-right, back-front, foot-head; None takes that of `preprocessing`.
        label_groups: label values that make class 1, class 2, ...; None takes them as classes.
        num_classes: refuse labels from this on.
        strict: refuse an image that can be read in two ways.

    Raises:
        InputError: as `ReadSequencesd`, or no head is found.
        SettingError: `preprocessing` leaves something out.
    """
    item: dict[Any, Any] = {"image": case, "spacing": spacing, "strict": strict}
    item |= {"label_groups": label_groups, "num_classes": num_classes}
    return SequenceVolume.of(applied(preprocessing or usual_preprocessing(channels), item))


def applied(transform: Preprocessing, item: dict[Any, Any]) -> Mapping[Any, Any]:
    """What a transform makes of an item. Those of a `Compose` are called one by one: it hides what an error says."""
    if type(transform) is not Compose or transform.lazy:
        return transform(item)
    made: Any = item
    for one in transform.flatten().transforms:
        made = one(made)
    return made


def usual_preprocessing(
    channels: Sequence[str],
    spacing: Sequence[float | None] | None = None,
    missing: Sequence[str] = (),
    mask: str | None = None,
) -> Compose:
    """What stands in the configs as ``preprocessing``; arguments as of `ReadSequencesd` and `ResizeToSpacingd`."""
    keys = ["image", "foreground", "label"]
    return Compose(
        [
            ReadSequencesd("image", channels, missing, mask),
            FindBraind("image"),
            Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True),
            ResizeToSpacingd(keys, spacing, allow_missing_keys=True),
            NormaliseForegroundd("image"),
            CropForegroundd(keys, source_key="foreground", allow_missing_keys=True),
        ]
    )

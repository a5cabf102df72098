"""Between the grid of an image and that of a network: orientation, resampling, and the exact way back.

Nothing else resamples for the translation. A network sees slices whole, so each slice is resampled as a whole, in its
plane, with antialiasing; where it is cut out afterwards changes no voxel. Training and inference both cut by a
`NetworkView`, so that they see the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform

from medical_gans.errors import SettingError
from medical_gans.io import mapped
from medical_gans.io.orientation import ras_affine, ras_view

if TYPE_CHECKING:
    from torch import Tensor

    from medical_gans.transforms.intensity import StoredMR

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis of a canonical (RAS) volume that a plane's slices run along."""

Part = tuple[slice, ...]
"""First and last voxel of a part of a volume, per axis."""

_SAME_DISTANCE = 1e-3  # of one slice: images show the slices of the MR themselves, not what lies between
_AROUND = 2  # voxels of the network's grid that are kept around a part, so that the way back interpolates


def resize_in_plane(
    images: torch.Tensor, spacing: Sequence[float], target: Sequence[float | None]
) -> tuple[torch.Tensor, tuple[float, ...]]:
    """Resample images to another voxel size, keeping the field of view exactly.

    Args:
        images: ``(batch, channel, *spatial)`` with two or three spatial axes.
        spacing: present voxel size in mm, per spatial axis.
        target: wanted voxel size in mm; None keeps an axis as it is.

    Returns:
        The images and their true spacing (the wanted one, rounded so that the field of view is whole voxels).
    """
    size = tuple(images.shape[2:])
    wanted = grid_size(size, spacing, target)
    true_spacing = tuple(n * s / w for n, s, w in zip(size, spacing, wanted, strict=True))
    return _resized(images, wanted), true_spacing


def grid_size(size: Sequence[int], spacing: Sequence[float], target: Sequence[float | None]) -> tuple[int, ...]:
    """Whole voxels of about `target` mm over the field of view of `size` voxels of `spacing` mm."""
    return tuple(
        n if t is None or abs(n * s / t - n) < 0.5 else max(1, round(n * s / t))
        for n, s, t in zip(size, spacing, target, strict=True)
    )


class ToGridd(MapTransform):
    """Turns images to RAS order and tells on which grid the network is to see them.

    Resampling is lazy, as MONAI calls it: a whole volume on the grid of each plane is never made, but slices are
    resampled when a `NetworkView` cuts them.

    Args:
        keys: ``(1, *spatial)`` with an affine.
        spacing: voxel size in mm along left-right, back-front, foot-head; None keeps an axis. Across the slices it is
            the distance of adjacent ones.
        planes: ``axial``, ``coronal``, ``sagittal``, or several, each at most once.
        allow_missing_keys: leave out those of `keys` that are not there.

    Raises:
        SettingError: spacing or planes are out of range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float | None] = (None, None, None),
        planes: str | Sequence[str] = "axial",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing = tuple(spacing)
        self.planes = tuple(name.strip() for name in planes.split(",")) if isinstance(planes, str) else tuple(planes)
        given = [edge for edge in self.spacing if edge is not None]
        if len(self.spacing) != 3 or any(not isinstance(edge, int | float) or edge <= 0 for edge in given):
            raise SettingError(f"spacing is {list(spacing)}; give three positive numbers in mm, null to keep an axis.")
        if not self.planes or not set(self.planes) <= set(PLANES) or len(set(self.planes)) < len(self.planes):
            raise SettingError(
                f"planes is {list(self.planes)}; choose from axial, coronal and sagittal, each at most once."
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            image: MetaTensor = turned[key]
            affine = np.asarray(image.affine, dtype=np.float64)
            array = ras_view(image.numpy()[0], affine)
            affine = ras_affine(affine, image.shape[1:])
            backwards = any(stride < 0 for stride in array.strides)  # which torch has not
            tensor = torch.from_numpy(mapped.converted(array, array.dtype) if backwards else array)[None]
            turned[key] = MetaTensor(tensor, meta={**image.meta, "affine": torch.from_numpy(affine)})
        return turned


def grid_of(preprocessing: Any) -> ToGridd:
    """The one `ToGridd` of a preprocessing.

    Raises:
        SettingError: there is none, or there are several.
    """
    steps = preprocessing.flatten().transforms if isinstance(preprocessing, Compose) else [preprocessing]
    grids = [step for step in steps if isinstance(step, ToGridd)]
    if len(grids) != 1:
        raise SettingError(
            f"preprocessing has {len(grids)} transforms ToGridd; it needs one, which tells the grid of the network."
        )
    return grids[0]


class NetworkView(ABC):
    """What a network is shown of a canonical (RAS) volume ``(x, y, z)``, and the way back.

    Attributes:
        axes: of the volume that are the spatial axes of an image.
        mirror: axis of the images ``(batch, channel, *spatial)`` that runs from left to right; None where the
            mirror image is the image itself.

    Args:
        sizes: voxels of the volume.
        edges: of its voxels, in mm.
        spacing: of the network's grid, see `ToGridd`.
    """

    axes: tuple[int, ...]
    mirror: int | None

    def __init__(self, sizes: Sequence[int], edges: Sequence[float], spacing: Sequence[float | None]) -> None:
        self.sizes, self.edges = tuple(sizes), tuple(edges)
        self.size = tuple(sizes[axis] for axis in self.axes)
        self.grid = grid_size(self.size, [edges[a] for a in self.axes], [spacing[a] for a in self.axes])

    @abstractmethod
    def depth(self, box: Part) -> int:
        """Images in a box."""

    @abstractmethod
    def parts(self, box: Part, batch: int) -> Iterator[Part]:
        """Split a box into parts of at most `batch` images."""

    @abstractmethod
    def images(self, volume: Tensor | StoredMR, part: Part) -> Tensor:
        """A part of a volume in [-1, 1] as images ``(batch, channel, *spatial)`` on the grid of the network."""

    @abstractmethod
    def volume(self, images: Tensor, part: Part, outside: float) -> np.ndarray:
        """Images ``(batch, 1, *spatial)`` back on the grid of the volume: the part ``(x, y, z)``.

        Args:
            images: as `images` gives them.
            part: of the volume, that the images were cut from.
            outside: what is beyond the images, on the network's grid.
        """

    def voxels(self, box: Part) -> int:
        """Of an image of a box on the grid of the network."""
        return int(np.prod([cut.stop - cut.start for cut in self._cut(box)]))

    def _cut(self, part: Part) -> Part:
        """Where a part is on the grid of the network, per axis of an image."""
        cuts = []
        for axis, size, grid in zip(self.axes, self.size, self.grid, strict=True):
            around = 0 if grid == size else _AROUND
            first, end = part[axis].start * grid // size, -(-part[axis].stop * grid // size)
            cuts.append(slice(max(0, first - around), min(grid, end + around)))
        return tuple(cuts)

    def _onto_grid(self, images: Tensor, part: Part) -> Tensor:
        return _resized(images, self.grid)[(slice(None), slice(None), *self._cut(part))]

    def _back(self, images: Tensor, part: Part, outside: float) -> Tensor:
        inside = tuple(part[axis] for axis in self.axes)
        if self.grid == self.size:
            return images
        whole = images.new_full((*images.shape[:2], *self.grid), outside)
        whole[(slice(None), slice(None), *self._cut(part))] = images
        return _resized(whole, self.size)[(slice(None), slice(None), *inside)]


@final
class SlicePlane(NetworkView):
    """Slices across one axis.

    Args:
        sizes: see `NetworkView`.
        edges: see `NetworkView`.
        spacing: see `NetworkView`.
        axis: that the slices are cut across.
        adjacent: slices stacked as channels, odd; the middle one is translated. Their distance is the spacing across
            the slices; a neighbour between two slices is interpolated, beyond the last one it is the last one.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        edges: Sequence[float],
        spacing: Sequence[float | None],
        axis: int,
        adjacent: int = 1,
    ) -> None:
        self.axis, self.adjacent = axis, adjacent
        self.axes = tuple(a for a in range(3) if a != axis)
        self.mirror = 2 if axis != 0 else (1 if adjacent > 1 else None)
        super().__init__(sizes, edges, spacing)
        wanted = spacing[axis]
        self.distance = wanted / edges[axis] if wanted else 1.0

    @property
    def neighbours(self) -> int:
        """Slices on each side of the middle one that an image shows as they are; 0 where these are interpolated."""
        return self.adjacent // 2 if abs(self.distance - 1.0) < _SAME_DISTANCE else 0

    def settled(self, part: Part, box: Part) -> Part:
        """Of the slices seen with a part and before it, those that no later image shows, and no earlier part gave."""
        here, whole = part[self.axis], box[self.axis]
        start = here.start if here.start == whole.start else max(here.start - self.neighbours, whole.start)
        stop = here.stop if here.stop == whole.stop else max(here.stop - self.neighbours, start)
        return (*part[: self.axis], slice(start, stop), *part[self.axis + 1 :])

    def depth(self, box: Part) -> int:
        return int(box[self.axis].stop - box[self.axis].start)

    def parts(self, box: Part, batch: int) -> Iterator[Part]:
        whole = box[self.axis]
        for start in range(whole.start, whole.stop, batch):
            some = slice(start, min(start + batch, whole.stop))
            yield (*box[: self.axis], some, *box[self.axis + 1 :])

    def images(self, volume: Tensor | StoredMR, part: Part) -> Tensor:
        slices = volume.movedim(self.axis, 0)
        here = torch.arange(part[self.axis].start, part[self.axis].stop)
        offsets = (torch.arange(self.adjacent) - self.adjacent // 2) * self.distance
        channels = [slices_at(slices, here + offset) for offset in offsets.tolist()]
        return self._onto_grid(torch.stack(channels, 1).float(), part)

    def volume(self, images: Tensor, part: Part, outside: float) -> np.ndarray:
        return np.moveaxis(self._back(images, part, outside)[:, 0].cpu().numpy(), 0, self.axis)


@final
class WholeBody(NetworkView):
    """A box at once, for networks in three dimensions; see `NetworkView`."""

    axes = (0, 1, 2)
    mirror = 2

    def depth(self, box: Part) -> int:
        return 1

    def parts(self, box: Part, batch: int) -> Iterator[Part]:
        yield box

    def images(self, volume: Tensor | StoredMR, part: Part) -> Tensor:
        return self._onto_grid(volume[:][None, None].float(), part)

    def volume(self, images: Tensor, part: Part, outside: float) -> np.ndarray:
        return self._back(images, part, outside)[0, 0].cpu().numpy()


def slices_at(slices: Tensor | StoredMR, position: Tensor) -> Tensor:
    """Slices at fractional positions along the first axis, linearly interpolated; the outermost go on."""
    last = len(slices) - 1
    position = position.clamp(0, last)
    below = position.floor().long()
    share = (position - below).float()[:, None, None]
    if not bool(share.any()):
        return slices[below]
    return slices[below] * (1 - share) + slices[(below + 1).clamp(max=last)] * share


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    import torch.nn.functional as functional

    before = tuple(images.shape[2:])
    if size == before:
        return images
    mode = "bilinear" if len(size) == 2 else "trilinear"
    smooth = mode == "bilinear" and any(w < n for w, n in zip(size, before, strict=True))
    return functional.interpolate(images, size=size, mode=mode, antialias=smooth)

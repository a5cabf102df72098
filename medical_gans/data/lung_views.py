"""Lung patches split by groups that show the same tissue, and the views that networks train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from medical_gans.data.epoch_views import EpochViews
from medical_gans.data.lung_patches import LungPatches
from medical_gans.data.patches import Transform, images_of
from medical_gans.errors import InputError, SettingError

_SHRINK = 2
_COARSE = 2.0
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class AnomalySplit:
    """Sides of a data set with labels.

    Attributes:
        train: normal patches only.
        validation: held-out normal patches and some nodules, by which settings and scores are chosen.
        test: the rest, for nothing but the final figures.
        left_out: nodules that are nearly a training patch.
    """

    train: LungPatches
    validation: LungPatches
    test: LungPatches
    left_out: LungPatches


def split_patches(
    patches: LungPatches,
    fractions: Sequence[float] = (0.6, 0.1, 0.3),
    validation_nodules: float = 0.2,
    seed: int = 0,
) -> AnomalySplit:
    """Split by groups of near-duplicates (`near_duplicate_groups`), since patches do not say whose they are.

    Args:
        patches: with labels; unlabelled ones take no part.
        fractions: of the normal patches for training, validation and test.
        validation_nodules: share of the nodules for validation; the others are test.
        seed: draws another split.

    Raises:
        SettingError: the fractions are not three that add up to 1, or the share is not one.
        InputError: a side has no normal patch.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or not 0 <= validation_nodules <= 1:
        raise SettingError(
            f"split_fractions are {list(fractions)} and validation_nodules is {validation_nodules}; give three shares "
            "that add up to 1, and one between 0 and 1."
        )
    group = near_duplicate_groups(patches.hounsfield)
    rank = np.random.default_rng(seed).permutation(int(group.max(initial=-1)) + 1)[group]
    normal, nodule = patches.is_nodule == 0, patches.is_nodule == 1
    side = np.full(len(patches), -1)
    if normal.any():
        edges = np.quantile(rank[normal], np.cumsum(fractions[:2]))
        side[normal] = np.digitize(rank[normal], edges, right=True)
    if nodule.any():
        edge = np.quantile(rank[nodule], validation_nodules)
        side[nodule] = np.where(rank[nodule] <= edge, 1, 2)
    for index in np.flatnonzero(nodule & np.isin(group, group[normal])):
        own = side[normal & (group == group[index])]
        side[index] = own[0] if own[0] > 0 else -1
    found = [patches.select(np.flatnonzero(side == number)) for number in range(3)]
    for name, share, one in zip(("training", "validation", "test"), fractions, found, strict=True):
        if share > 0 and not (one.is_nodule == 0).any():
            raise InputError(f"No normal patch (is_nodule = 0) is left for {name}. Give more of them.")
    train, validation, test = found
    return AnomalySplit(train, validation, test, left_out=patches.select(np.flatnonzero((side < 0) & nodule)))


class NormalViews(EpochViews):
    """Normal patches drawn at random.

    Args:
        patches: normal ones.
        preprocessing: from HU to what networks see.
        augmentation: random transforms of each view; None for none.
        views_per_epoch: views drawn in one epoch.
        seed: of every random choice.
    """

    def __init__(
        self,
        patches: LungPatches,
        *,
        preprocessing: Transform,
        augmentation: Transform | None = None,
        views_per_epoch: int,
        seed: int = 0,
    ) -> None:
        super().__init__(views_per_epoch, seed)
        self.images, self.augmentation = images_of(patches.hounsfield, preprocessing), augmentation

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``(1, rows, columns)`` in [-1, 1]."""
        drawn = int(self.random(index).integers(len(self.images)))
        return self.augmented(self.augmentation, {"image": self.images[drawn]}, index)


def near_duplicate_groups(images: np.ndarray, threshold: float = 0.9) -> np.ndarray:
    """Group patches whose fine detail is the same, shifted against each other or not.

    The central half of each patch is sought at every place of every other. Compared is the correlation of detail
    between 2 and about 8 voxels, since walls and mediastinum look alike in any two patients. Groups are transitive.

    Args:
        images: ``(n, rows, columns)``, any scale.
        threshold: correlation from which two patches count as the same.

    Returns:
        ``(n,)`` number of each patch's group.
    """
    rows, columns = (length // _SHRINK for length in images.shape[1:])
    shown = np.asarray(images[:, : rows * _SHRINK, : columns * _SHRINK], dtype=np.float32)
    shown = shown.reshape(-1, rows, _SHRINK, columns, _SHRINK).mean((2, 4))
    detail = shown - ndimage.gaussian_filter(shown, (0, _COARSE, _COARSE))
    height, width = rows // 2, columns // 2
    top, left = (rows - height) // 2, (columns - width) // 2
    middles = _standardised(detail[:, top : top + height, left : left + width].reshape(len(detail), -1))
    alike = [np.empty((0, 2), dtype=np.int64)]
    for index, one in enumerate(detail):
        places = np.lib.stride_tricks.sliding_window_view(one, (height, width)).reshape(-1, height * width)
        best = (middles @ _standardised(places).T).max(1)
        found = np.flatnonzero(best >= threshold)
        alike.append(np.column_stack([np.full_like(found, index), found]))
    pairs = np.concatenate(alike)
    links = csr_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(images),) * 2)
    return connected_components(links, directed=False)[1]


def _standardised(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(1, keepdims=True)
    return centred / (np.linalg.norm(centred, axis=1, keepdims=True) + _TINY)

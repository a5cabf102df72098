"""Whether the features of a segmenter tell its two domains apart: seen by eye, and by a fresh classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from medical_gans.errors import InputError, SettingError
from medical_gans.evaluation.lesion_methods import LesionMethod, Member
from medical_gans.io.sequence_cases import SequenceCase, check_apart, find_sequence_cases
from medical_gans.transforms.sequence_volume import SequenceVolume

SOURCE, TARGET = 0, 1
_MOST_FOLDS = 5
_BATCH = 8


@dataclass(frozen=True, eq=False)
class DomainFeatures:
    """Features of patches of both domains, by one network.

    Attributes:
        values: ``(n, feature)``.
        domain: ``(n,)``, 0 for the source and 1 for the target.
        patient: ``(n,)`` names; a patient of both domains has one name.
    """

    values: np.ndarray
    domain: np.ndarray
    patient: np.ndarray


@dataclass(frozen=True)
class DomainAccuracy:
    """Balanced accuracy of a classifier of domains on what it did not learn from: 0.5 by chance, 1 always told apart.

    Attributes:
        by_patient: whole patients held out; None where a domain has fewer than two. Unsteady, and at times below
            0.5, where they are few.
        by_patch: patches held out, of patients that may be known; so it counts what belongs to patients too.
    """

    by_patient: float | None
    by_patch: float


@dataclass(frozen=True, eq=False)
class FeaturePicture:
    """What is shown and said of the features of one method.

    Attributes:
        method: its name.
        points: ``(n, 2)``.
        domain: ``(n,)``.
        axes: names of the two axes.
        accuracy: of a domain classifier.
        patients: of source and target.
    """

    method: str
    points: np.ndarray
    domain: np.ndarray
    axes: tuple[str, str]
    accuracy: DomainAccuracy
    patients: tuple[int, int]


class LesionFeatureSpace:
    """Features of named layers on patches of the brain, drawn at the same places for every network.

    A patch gives the spatial mean of each channel of each layer.

    Args:
        taps: makes of a network what keeps the features of its last pass (`networks.FeatureTaps`).
        source_dir: cases of the source, without labels; None makes nothing of all this.
        channels: sequences of the source in the network's order.
        missing: those that the source does not have.
        mask: name of the masks of brain or head.
        patch_size: voxels along each axis.
        patches: of each domain, shared evenly among its patients.
        embedding: ``pca`` or ``tsne``.
        device: where to compute.
        seed: of the places and of the embedding.

    Raises:
        SettingError: an embedding that does not exist, or fewer than 2 patches.
        InputError: as `find_sequence_cases`.
    """

    def __init__(
        self,
        taps: Callable[[nn.Module], Callable[[], list[Tensor]]],
        source_dir: str | Path | None,
        channels: Sequence[str],
        *,
        missing: Sequence[str] = (),
        mask: str | None = None,
        patch_size: Sequence[int] = (48, 48, 48),
        patches: int = 200,
        embedding: str = "pca",
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        if embedding not in ("pca", "tsne"):
            raise SettingError(f"embedding is {embedding!r}; choose pca or tsne.")
        if patches < 2:
            raise SettingError(f"patches is {patches}; at least 2 of each domain are needed.")
        self.taps, self.source_dir, self.channels, self.missing = taps, source_dir, tuple(channels), tuple(missing)
        self.mask, self.patch_size, self.patches = mask, tuple(patch_size), patches
        self.embedding, self.device, self.seed = embedding, torch.device(device), seed
        self.settings: dict[str, Any] = {
            "source_dir": source_dir,
            "source_channels": self.channels,
            "feature_patches": patches,
            "feature_patch_size": self.patch_size,
            "embedding": embedding,
        }

    def source_cases(self, method: LesionMethod) -> list[SequenceCase]:
        """Cases of the source as a method sees them: what it misses of the target it misses here.

        Raises:
            InputError: as `find_sequence_cases`.
            SettingError: the method sees another number of sequences.
        """
        if len(method.channels) != len(self.channels):
            raise SettingError(
                f"{method.name} sees {len(method.channels)} sequences ({', '.join(method.channels)}), but "
                f"source_channels are {', '.join(self.channels)}. Name one for each, or leave source_dir out."
            )
        assert self.source_dir is not None
        missed = {self.channels[method.channels.index(name)] for name in method.missing} | set(self.missing)
        ordered = [name for name in self.channels if name in missed]
        return find_sequence_cases(self.source_dir, self.channels, missing=ordered, mask=self.mask)

    def measure(
        self, method: LesionMethod, member: Member, target: Sequence[SequenceCase], read_case: Callable[..., Any]
    ) -> FeaturePicture:
        """Features, their picture and the classifier's accuracy.

        Args:
            method: of the table.
            member: its first seed, with a network.
            target: cases as the method sees them.
            read_case: `io.sequences.read_sequence_case` of a case, names of its channels, and ``spacing``.

        Raises:
            InputError: source and target share a file, or a case cannot be read.
        """
        source = self.source_cases(method)
        check_apart(source, target)
        assert member.network is not None
        network = member.network.to(self.device).eval()
        taps = self.taps(network)
        values, domain, patient = [], [], []
        for side, cases, channels in ((SOURCE, source, self.channels), (TARGET, target, method.channels)):
            for number, (case, count) in enumerate(zip(cases, _shares(self.patches, len(cases)), strict=True)):
                volume = read_case(case, channels, spacing=member.spacing)
                rng = np.random.default_rng((self.seed, side, number))
                patches = brain_patches(volume, self.patch_size, count, rng)
                found = _means(network, taps, patches, self.device)
                values.append(found)
                domain += [side] * len(found)
                patient += [case.name] * len(found)
        features = DomainFeatures(np.concatenate(values), np.array(domain), np.array(patient))
        points, axes = embed(features.values, self.embedding, self.seed)
        accuracy = domain_accuracy(features, self.seed)
        return FeaturePicture(method.name, points, features.domain, axes, accuracy, (len(source), len(target)))


def brain_patches(
    volume: SequenceVolume, patch_size: Sequence[int], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Patches ``(count, channel, *patch_size)`` centred in the foreground, as far as the volume reaches.

    Raises:
        InputError: there is no foreground.
    """
    inside = np.argwhere(volume.foreground)
    if not len(inside):
        raise InputError(f"{volume.source.source} has no foreground to take patches of. Give a mask beside it.")
    short = [max(0, size - edge) for size, edge in zip(patch_size, volume.foreground.shape, strict=True)]
    image = np.pad(volume.image, [(0, 0), *((0, more) for more in short)])
    highest = np.array(image.shape[1:]) - patch_size
    starts = np.clip(rng.choice(inside, count) - np.array(patch_size) // 2, 0, highest)
    windows = sliding_window_view(image, tuple(patch_size), axis=(1, 2, 3))
    return np.stack([windows[:, i, j, k] for i, j, k in starts])


def domain_accuracy(features: DomainFeatures, seed: int = 0) -> DomainAccuracy:
    """How well a fresh logistic regression on standardised features tells the domains apart."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.metrics import balanced_accuracy_score  # type: ignore[import-untyped]
    from sklearn.model_selection import (  # type: ignore[import-untyped]
        PredefinedSplit,
        StratifiedKFold,
        cross_val_predict,
    )
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    def accuracy(folds: Any) -> float:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        told = cross_val_predict(classifier, features.values, features.domain, cv=folds)
        return float(balanced_accuracy_score(features.domain, told))

    fold_of = _patient_folds(features)
    least = int(np.bincount(features.domain, minlength=2).min())
    return DomainAccuracy(
        accuracy(PredefinedSplit([fold_of[name] for name in features.patient])) if fold_of else None,
        accuracy(StratifiedKFold(min(_MOST_FOLDS, least), shuffle=True, random_state=seed)),
    )


def embed(values: np.ndarray, embedding: str, seed: int = 0) -> tuple[np.ndarray, tuple[str, str]]:
    """Standardised features on two axes, by scikit-learn: ``(n, 2)`` and the names of the axes."""
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(values)
    scaled = np.pad(scaled, [(0, 0), (0, max(0, 2 - scaled.shape[1]))])  # two axes, of a single feature too
    if embedding == "tsne":
        neighbours = min(30.0, (len(values) - 1) / 3)
        return TSNE(perplexity=neighbours, random_state=seed).fit_transform(scaled), ("t-SNE 1", "t-SNE 2")
    pca = PCA(2, random_state=seed)
    with np.errstate(invalid="ignore"):  # where no feature varies
        points = pca.fit_transform(scaled)
    whole = max(float(scaled.var(0, ddof=1).sum()), np.finfo(float).tiny)
    first, second = (f"{100 * variance / whole:.0f} % of the variance" for variance in pca.explained_variance_)
    return points, (f"first main axis, {first}", f"second, {second}")


def _patient_folds(features: DomainFeatures) -> dict[str, int]:
    """Fold of each patient, so that every fold holds both domains; empty where that cannot be."""
    patients = [list(dict.fromkeys(features.patient[features.domain == side])) for side in (SOURCE, TARGET)]
    folds = min(_MOST_FOLDS, *map(len, patients))
    if folds < 2:
        return {}
    fold_of: dict[str, int] = {}
    for names in patients:
        # a patient of both domains keeps its fold; the others fill the folds that are least filled
        filled = [sum(fold_of.get(name) == fold for name in names) for fold in range(folds)]
        for name in names:
            if name not in fold_of:
                fold_of[name] = int(np.argmin(filled))
                filled[fold_of[name]] += 1
    return fold_of


def _shares(total: int, cases: int) -> list[int]:
    return [max(1, len(part)) for part in np.array_split(np.arange(total), cases)]


@torch.no_grad()
def _means(
    network: nn.Module, taps: Callable[[], list[Tensor]], patches: np.ndarray, device: torch.device
) -> np.ndarray:
    rows: Iterable[Tensor] = torch.from_numpy(np.ascontiguousarray(patches)).split(_BATCH)
    found = []
    for batch in rows:
        network(batch.to(device))
        found.append(torch.cat([one.flatten(2).mean(2) for one in taps()], 1).cpu().numpy())
    return np.concatenate(found)

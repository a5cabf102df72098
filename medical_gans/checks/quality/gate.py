"""The gate: how usual an MR and its synthetic CT are, as traffic lights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from medical_gans.checks.quality.limits import (
    AMBER,
    AMBER_BEYOND,
    GREEN,
    GREY,
    MEANING,
    RED,
    RED_BEYOND,
    Check,
    QualityLimits,
    Usual,
    upper_light,
    worst,
)
from medical_gans.checks.quality.measures import (
    FOOT_AND_HEAD,
    cut_areas,
    cut_outline,
    mahalanobis,
    slice_quantiles,
    tissue_figures,
    uncertainty_figures,
    vault_checks,
    void_object,
)
from medical_gans.checks.quality.realism import RealismCritic, RealismMap, realism_sheet
from medical_gans.io import Volume, mapped
from medical_gans.io.orientation import ras_affine, ras_spacing, ras_view
from medical_gans.report.viewer import Place, in_mm
from medical_gans.report.views import CaseVolumes
from medical_gans.transforms.grid_mask import GridMask
from medical_gans.transforms.intensity import body_on_grid

Draw = Callable[[CaseVolumes, Path], Path]
"""Draws a picture of a case to a file."""

_CAPTION = (
    "Where the synthetic CT looks unlike real CT to the critic: red below its limit, blue above. Position of each "
    "slice, and the share of its patches below the limit. It was trained on damaged real CT: other faults it may miss."
)
_FEW = 3  # red checks that are each told on their own
_CAUSES = {
    "slices of the MR": "the MR is unlike those of training: another sequence or part of the body, or values that were "
    "normalised before.",
    "field of view": "the MR shows another part of the body, or only a piece of it.",
}
_NO_CT = "these weights do not make a CT of this MR: they are of another site, or were not trained to their end."
_CUT_CM2 = (2.0, 20.0)
_SPREAD_HU = (40.0, 80.0)
_FACES = {"left": (0, 0), "right": (0, -1), "back": (1, 0), "front": (1, -1)}
_VOXELS_AT_ONCE = 1 << 22
_AROUND = 2  # voxels
_UNLIKE_SLICES = (0.15, 0.5)  # share of slices beyond the distance that 5 % of the training slices exceed


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the gate says of a case.

    Attributes:
        checks: in the order of the table.
        realism: of the synthetic CT; None without a critic.
        patch_score: below which a patch of it is unlike real CT.
        affine: of the voxels of the checks, to RAS+ mm; None leaves their places out.
    """

    checks: list[Check]
    realism: RealismMap | None = None
    patch_score: float = 0.0
    affine: np.ndarray | None = None

    @property
    def light(self) -> str:
        """The worst of all."""
        return worst(self.checks)

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """For the report: rows of text by heading."""
        unjudged = sum(check.light == GREY for check in self.checks)
        judged = f" ({unjudged} of {len(self.checks)} checks could not be judged)" if unjudged else ""
        return {f"{MEANING} All together: {self.light}{judged}.": [check.row() for check in self.checks]}

    def pictures(self) -> dict[str, tuple[Draw, str]]:
        """For the report: how to draw, and a caption, by name."""
        if self.realism is None or not len(self.realism.slices):
            return {}
        return {"realism": (partial(realism_sheet, self.realism, self.patch_score), _CAPTION)}

    def warnings(self) -> list[str]:
        """A sentence for each check that is amber or red; where many are red, one with the likeliest cause of all."""
        red = [check.name for check in self.checks if check.light == RED]
        if len(red) <= _FEW:
            return [check.sentence() for check in self.checks if check.light in (AMBER, RED)]
        cause = next((words for name, words in _CAUSES.items() if name in red), _NO_CT)
        return [
            f"{len(red)} of {len(self.checks)} checks are red ({', '.join(red)}). The likeliest cause: {cause} Do not "
            "use this synthetic CT; the table in the report has each check."
        ]

    def places(self) -> list[Place]:
        """Where the checks that are amber or red show most; with the warning that tells of each."""
        told, affine = set(self.warnings()), self.affine
        if affine is None:
            return []
        shown = [(check, check.voxel) for check in self.checks if check.light in (AMBER, RED)]
        return [
            Place(check.name, in_mm(affine, voxel), check.sentence() if check.sentence() in told else "")
            for check, voxel in shown
            if voxel is not None
        ]


class QualityGate:
    """Checks of an MR and its synthetic CT without a true CT.

    Args:
        limits: what is usual for the site; None leaves what depends on it unjudged.
        critic: the CT discriminator; None leaves realism unjudged.
    """

    def __init__(self, limits: QualityLimits | None = None, critic: RealismCritic | None = None) -> None:
        self.limits = limits
        self.critic = critic

    @classmethod
    def beside(cls, weights: Path) -> QualityGate:
        """With the limits and the critic that lie beside a generator's weights, as far as they do.

        ``mr_to_ct_head.pt`` has its limits in ``mr_to_ct_head_quality.json`` and its critic in
        ``critics/mr_to_ct_head.pt``: servers offer every weights file of a folder as a model.

        Raises:
            InputError: a file is damaged.
        """
        limits = weights.with_name(f"{weights.stem}_quality.json")
        critic = weights.parent / "critics" / weights.name
        return cls(
            QualityLimits.read(limits) if limits.is_file() else None,
            RealismCritic.load(critic) if critic.is_file() else None,
        )

    def __call__(
        self, mr: Volume, hounsfield: np.ndarray, standard_deviation: np.ndarray | None = None, estimates: int = 1
    ) -> Verdict:
        """Judge a case.

        Args:
            mr: scanner units.
            hounsfield: synthetic CT in HU on the grid of the MR.
            standard_deviation: of its estimates in HU; None where there is one.
            estimates: how many there are.
        """
        spacing = ras_spacing(mr.affine)
        source, synthetic = (ras_view(array, mr.affine) for array in (mr.array, hounsfield))
        with ThreadPoolExecutor(2) as both:  # most of scipy works outside of Python's lock
            outline, shown = both.map(body_on_grid, (synthetic, source), (spacing, spacing), ("CT", "MR"))
        field_of_view = self._field_of_view(shown, spacing)
        body = outline | shown
        critic = self.critic
        unjudged = critic.unfit(synthetic.shape, spacing) if critic is not None else "no critic for these weights"
        realism = critic(synthetic, body, spacing) if critic is not None and not unjudged and body.any() else None
        spread = None if standard_deviation is None else ras_view(standard_deviation, mr.affine)
        checks = [
            field_of_view,
            *self._tissues(synthetic, outline),  # as the limits were measured on true CT
            self._slices(source, body),
            self._voids(source, body, spacing),
            self._uncertainty(spread, body, estimates),
            self._realism(realism, synthetic.shape, unjudged),
            *vault_checks(synthetic, outline, spacing, self.limits.vault if self.limits else {}),
        ]
        judged = self.limits is not None and bool(self.limits.realism)
        affine = ras_affine(mr.affine, mr.array.shape)
        return Verdict(checks, realism if judged else None, self.limits.patch_score if self.limits else 0.0, affine)

    def _field_of_view(self, body: GridMask, spacing: tuple[float, ...]) -> Check:
        name = "field of view"
        if not body.any():
            return Check(name, RED, "no body", "a body", "Check that the right file was chosen.")
        areas = cut_areas(body, spacing)
        sides = {side: area for side, area in areas.items() if side not in FOOT_AND_HEAD}
        cut = ", ".join(f"{side} {area:.0f} cm2" for side, area in sides.items() if area >= 0.5)
        ends = " and ".join(side for side in FOOT_AND_HEAD if areas[side] >= 0.5)
        found = f"body cut at the side: {cut}" if cut else "body not cut at a side"
        found += f"; it goes on at the {ends}" if ends else ""
        advice = "Beams must not pass through what the picture does not show."
        total, (amber, red) = sum(sides.values()), _CUT_CM2
        if self.limits is None or not self.limits.cut_cm or max(self.limits.cut_cm) == 0:
            limit = f"amber {amber:g}, red {red:g} cm2"
            return Check(name, upper_light(total, amber, red), found, limit, advice, voxel=_cut_voxel(body, sides))
        length, most = cut_outline(body, spacing), max(self.limits.cut_cm)
        light = GREEN if total <= amber else AMBER if length <= most else RED
        found += f"; {length:.1f} cm of the outline per slice" if cut else ""
        limit = f"amber {amber:g} cm2, red {most:.1f} cm per slice, as in training"
        return Check(name, light, found, limit, advice, voxel=_cut_voxel(body, sides))

    def _tissues(self, hounsfield: np.ndarray, body: GridMask) -> Iterator[Check]:
        found = tissue_figures(hounsfield, body)
        for name in (*found, *(set(self.limits.tissue) - set(found) if self.limits else ())):
            tissue, kind = name.split("_")
            title = f"{tissue}: {'median HU' if kind == 'hu' else 'share of the body'}"
            usual = self.limits.tissue.get(name) if self.limits else None
            value = found.get(name)
            if value is None:
                yield Check(title, GREY, "there is none", needed=self.limits is None)
            elif usual is None:
                yield Check(title, GREY, _shown(value, kind))
            else:
                advice = "Compare this tissue with the MR in the pictures."
                yield Check(title, usual.light(value), _shown(value, kind), _interval(usual, kind), advice)

    def _slices(self, mr: np.ndarray, body: GridMask) -> Check:
        name = "slices of the MR"
        if self.limits is None:
            return Check(name, GREY, "no limits for these weights")
        shown, rows = slice_quantiles(mr, body)
        if not len(shown):
            return Check(name, RED, "no slice shows a body", "a body", "Check that the right file was chosen.")
        mean, precision = np.array(self.limits.slice_mean), np.array(self.limits.slice_precision)
        distance = mahalanobis(rows, mean, precision)
        unlike = distance > self.limits.slice_distance[0]
        light = upper_light(float(unlike.mean()), *_UNLIKE_SLICES)
        if light == GREEN and distance.max() > 2 * self.limits.slice_distance[1]:
            light = AMBER
        found = f"{unlike.mean():.0%} of {len(shown)} slices unlike those of training"
        if unlike.any():
            found += f", most of all slice {int(shown[np.argmax(distance)]) + 1} from the foot"
        limit = f"amber {_UNLIKE_SLICES[0]:.0%}, red {_UNLIKE_SLICES[1]:.0%}"
        worst_slice = int(shown[np.argmax(distance)])
        across, up = ndimage.center_of_mass(body[:, :, worst_slice])
        middle = (float(across), float(up), float(worst_slice))
        return Check(name, light, found, limit, "Look at these slices: contrast, artefact, anatomy.", voxel=middle)

    def _voids(self, mr: np.ndarray, body: GridMask, spacing: tuple[float, ...]) -> Check:
        found, middle = void_object(mr, body, spacing)
        if self.limits is None:
            return Check("signal voids", GREY, f"{found:.1f} ml")
        amber = max(self.limits.void_ml) + 1.0
        advice = "Dark in the MR may be metal or air: the synthetic CT cannot know which."
        light, limit = upper_light(found, amber, 3 * amber), _above(amber, "ml")
        return Check("signal voids", light, f"largest {found:.1f} ml", limit, advice, voxel=middle)

    def _realism(self, realism: RealismMap | None, shape: tuple[int, ...], unjudged: str) -> Check:
        name = "realism"
        if realism is None or self.limits is None or not self.limits.realism:
            return Check(name, GREY, unjudged or "no limits for these weights")
        share = realism.unusual(self.limits.patch_score)
        usual, most = self.limits.realism
        where = f", most of all in slice {realism.worst_slice(self.limits.patch_score) + 1} from the foot"
        return Check(
            name,
            upper_light(share, usual, most),
            f"{share:.0%} of the patches unlike real CT" + (where if share > usual else ""),
            f"amber {usual:.0%}, red {most:.0%}",
            "Look there for what no CT shows: invented bone, holes, blur.",
            voxel=realism.worst_voxel(self.limits.patch_score, shape),
        )

    def _uncertainty(self, standard_deviation: np.ndarray | None, body: GridMask, estimates: int) -> Check:
        name = "uncertainty"
        if standard_deviation is None:
            return Check(name, GREY, "one estimate only; set flips, several planes or weights", needed=False)
        mean, high = uncertainty_figures(standard_deviation, body)
        amber, red = _SPREAD_HU
        usual = self.limits.uncertainty_hu.get(estimates) if self.limits else None
        if usual is not None:
            amber, red = (usual.interval(2 * beyond)[1] for beyond in (AMBER_BEYOND, RED_BEYOND))
        light = upper_light(mean, amber, red)
        found = f"mean {mean:.0f} HU in the body, {high:.1%} above 100 HU"
        limit = f"amber {amber:.0f}, red {red:.0f} HU" + (", as in training" if usual else "")
        where = _widest(standard_deviation, body) if light != GREEN else None
        return Check(name, light, found, limit, "Look at the picture of the standard deviation.", voxel=where)


def _widest(standard_deviation: np.ndarray, body: GridMask) -> tuple[float, float, float]:
    """Voxel in the body around which the standard deviation is largest, by the mean of 5 x 5 x 5 voxels."""
    length, *others = standard_deviation.shape
    most, where = -1.0, (0, 0, 0)
    thick = max(1, _VOXELS_AT_ONCE // math.prod(others))
    for begin in range(0, length, thick):
        seen = slice(max(0, begin - _AROUND), begin + thick + _AROUND)
        values = np.where(body[seen], mapped.looked_up(standard_deviation[seen]), 0).astype(np.float32)
        means = ndimage.uniform_filter(values, 2 * _AROUND + 1)[begin - seen.start :][:thick]
        if (found := float(means.max())) > most:
            first, second, third = np.unravel_index(int(means.argmax()), means.shape)
            most, where = found, (begin + int(first), int(second), int(third))
    return float(where[0]), float(where[1]), float(where[2])


def _cut_voxel(body: GridMask, sides: Mapping[str, float]) -> tuple[float, float, float] | None:
    """Middle of the body where the picture cuts most of it."""
    side = max(sides, key=lambda name: sides[name])
    if sides[side] == 0:
        return None
    axis, index = _FACES[side]
    first, second = ndimage.center_of_mass(body.take(index, axis))
    voxel = [float(first), float(second)]
    voxel.insert(axis, float(index % body.shape[axis]))
    return voxel[0], voxel[1], voxel[2]


def _shown(value: float, kind: str) -> str:
    return f"{value:.0f} HU" if kind == "hu" else f"{value:.1%}"


def _interval(usual: Usual, kind: str) -> str:
    (low, high), (lowest, highest) = usual.interval(AMBER_BEYOND), usual.interval(RED_BEYOND)
    ends = [_shown(value, kind) for value in (low, high, lowest, highest)]
    return f"green {ends[0]} to {ends[1]}, amber {ends[2]} to {ends[3]}"


def _above(amber: float, unit: str) -> str:
    return f"amber {amber:.1f}, red {3 * amber:.1f} {unit}"


def load_gate(weights: str | Path | Sequence[str | Path]) -> QualityGate:
    """The gate of a weights file; of the first one where several are averaged.

    Raises:
        InputError: the limits or the critic beside the weights are damaged.
    """
    first = weights if isinstance(weights, str | Path) else next(iter(weights), "")
    return QualityGate.beside(Path(first))

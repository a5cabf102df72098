"""Images of random contrast painted on known anatomy: an MR from a CT, or from a label map (domain randomisation).

A network that learns from painted images sees more contrasts than any scanner makes and must rely on anatomy; its
truth is exact, on the same voxels (Billot et al. 2023, SynthSeg, for label maps). Three parts:

- `CtTissues` says how much of each tissue a voxel of a CT holds;
- `Painter` gives every tissue a random signal and adds what a scanner adds;
- `RandomFields` are smooth random fields over *positions*, so that a voxel is painted the same in every crop.

Everything is drawn from one `numpy` generator, in an order that does not depend on the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medical_gans.errors import SettingError

Range = tuple[float, float]
"""Lowest and highest value of what is drawn."""

_PERIOD = 64
_BLUR_REACH = 7
_SPLINE_DEVIATION = 0.479**0.5
"""Of a cubic B-spline sum of independent normal coefficients, along one axis."""
_ONE_KNOT = torch.ones(1, 1)


@dataclass(frozen=True)
class Window:
    """Which voxels of an image are painted.

    Attributes:
        origin: index of the first voxel, per axis (slice, row, column).
        shape: voxels per axis.
        spacing: mm per axis.
    """

    origin: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def inside(self, halo: tuple[int, int, int]) -> Window:
        """The window without its rim of `halo` voxels."""
        origin = tuple(o + h for o, h in zip(self.origin, halo, strict=True))
        return Window(origin, tuple(n - 2 * h for n, h in zip(self.shape, halo, strict=True)), self.spacing)  # type: ignore[arg-type]


class RandomFields:
    """Random fields over the positions of a window: the same position has the same value in every window.

    Each field is a cubic B-spline over a periodic lattice of normal numbers, shifted by a random phase.

    Args:
        window: where to evaluate.
        rng: draws the phases.
        seed: of the lattice, drawn once.
    """

    _lattices: ClassVar[dict[int, Tensor]] = {}

    def __init__(self, window: Window, rng: np.random.Generator, seed: int = 0) -> None:
        self.window = window
        self.rng = rng
        if seed not in self._lattices:
            drawn = torch.from_numpy(np.random.default_rng((seed, 77)).normal(size=(_PERIOD,) * 3).astype(np.float32))
            self._lattices[seed] = drawn
        self.lattice = self._lattices[seed]

    def smooth(self, scale: float, along_slices: float | None = 1.0, count: int = 1) -> list[Tensor]:
        """Fields of mean 0 and standard deviation about 1.

        Args:
            scale: mm over which they change.
            along_slices: factor of `scale` across the slices, for structures that run along them; None: all slices are
                alike, and one is returned for all.
            count: number of fields.

        Returns:
            Fields ``(slice, row, column)``, or ``(1, row, column)``.
        """
        phase = self.rng.uniform(0.0, _PERIOD, 3)
        corners = self.rng.integers(0, _PERIOD, (count, 3))
        window, weights, knots = self.window, [], []
        for axis, edge in enumerate((scale * (along_slices or 1.0), scale, scale)):
            if axis == 0 and along_slices is None:
                weights.append(_ONE_KNOT)
                knots.append(torch.zeros(1, dtype=torch.long))
                continue
            step = window.spacing[axis] / edge
            first, matrix = _spline_weights(window.origin[axis], window.shape[axis], step, phase[axis])
            weights.append(torch.from_numpy(matrix))
            knots.append(torch.arange(first, first + matrix.shape[1]))
        fields = []
        for corner in corners.tolist():
            part = self.lattice
            for axis in range(3):
                part = part.index_select(axis, (knots[axis] + corner[axis]).remainder_(_PERIOD))
            part = (weights[0] @ part.flatten(1)).view(-1, *part.shape[1:])
            rows = torch.matmul(weights[1], part)
            fields.append(torch.matmul(rows.flatten(0, 1), weights[2].T).view(*rows.shape[:2], -1))
        return fields

    def white(self) -> Tensor:
        """Independent normal numbers, one per voxel (they repeat after 64 voxels, shifted from slice to slice)."""
        phase = self.rng.integers(0, _PERIOD, 3)
        indices = [
            (torch.arange(n) + int(o) + int(p)).remainder(_PERIOD)
            for o, n, p in zip(self.window.origin, self.window.shape, phase, strict=True)
        ]
        found = self.lattice
        for axis, index in enumerate(indices):
            found = found.index_select(axis, index)
        return found


def _spline_weights(origin: int, count: int, step: float, phase: float) -> tuple[int, np.ndarray]:
    """First knot, and the matrix ``(voxels, knots)`` of cubic B-spline weights."""
    position = (np.arange(count) + origin) * step + phase
    first = int(position[0] // 1) - 1
    last = int(position[-1] // 1) + 2
    distance = np.abs(position[:, None].astype(np.float32) - np.arange(first, last + 1, dtype=np.float32))
    near = np.clip(1.0 - distance, 0.0, None)
    wide = np.clip(2.0 - distance, 0.0, None)
    return first, (wide * wide * wide - 4.0 * near * near * near) * np.float32(1.0 / (6.0 * _SPLINE_DEVIATION))


class CtTissues:
    """How much fat, water, marrow and mineral each voxel of a CT holds, with thresholds drawn anew each time.

    Outside bone a voxel lies on the way from air over fat to water; inside bone (cortex and all that it encloses) on
    that from marrow to mineral, so that partial volume needs no rule of its own. Signal of marrow falls linearly with
    HU: measured on a leg whose MR and CT agree, 0.92 of fat at 0 HU, 0.62 at 500, 0.18 at 1100.

    Args:
        fat_hounsfield: HU below which soft tissue is all fat, [low, high].
        water_hounsfield: HU above which it is all water.
        marrow_hounsfield: HU below which bone is all marrow.
        mineral_hounsfield: HU above which bone is all mineral.
        red_marrow: share of red marrow, [low, high] in most draws.
        red_marrow_scale: mm over which that share changes.
        cortex_change: probability that cortex is made thicker or thinner, in the truth as well.
        cortex_voxels: largest change at each face, in voxels, [thinner, thicker].
    """

    def __init__(
        self,
        *,
        fat_hounsfield: Range = (-110.0, -85.0),
        water_hounsfield: Range = (10.0, 40.0),
        marrow_hounsfield: Range = (-50.0, 150.0),
        mineral_hounsfield: Range = (1150.0, 1550.0),
        red_marrow: Range = (0.0, 0.5),
        red_marrow_scale: Range = (15.0, 40.0),
        cortex_change: float = 0.4,
        cortex_voxels: Range = (0.7, 1.0),
    ) -> None:
        self.fat_hounsfield = fat_hounsfield
        self.water_hounsfield = water_hounsfield
        self.marrow_hounsfield = marrow_hounsfield
        self.mineral_hounsfield = mineral_hounsfield
        self.red_marrow = red_marrow
        self.red_marrow_scale = red_marrow_scale
        self.cortex_change = cortex_change
        self.cortex_voxels = cortex_voxels

    def changed_cortex(self, hounsfield: Tensor, bone: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """HU and bone with a cortex that is thicker or thinner by up to a voxel at each face, in some draws.

        Args:
            hounsfield: ``(slice, row, column)``.
            bone: share of bone with what it encloses, same shape.
            rng: draws whether and how much.
        """
        happens, thicker, amount = rng.random(), rng.random() < 0.6, rng.random()
        if happens >= self.cortex_change:
            return hounsfield, bone
        near = _widened(bone)
        if thicker:
            moved = _widened(hounsfield)
            amount *= self.cortex_voxels[1]
            bone = bone + amount * (near - bone)
        else:
            moved = -_widened(-hounsfield)
            amount *= self.cortex_voxels[0]
        return hounsfield + amount * near * (moved - hounsfield), bone

    def __call__(
        self, hounsfield: Tensor, bone: Tensor, body: Tensor, fields: RandomFields, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Shares of ``fat``, ``water``, ``fatty_marrow``, ``red_marrow`` and ``cortex``; what is left is air.

        Args:
            hounsfield: ``(slice, row, column)``.
            bone: share of bone with what it encloses.
            body: share of body.
            fields: of the window that the images show.
            rng: draws thresholds.
        """
        low, high = rng.uniform(*self.fat_hounsfield), rng.uniform(*self.water_hounsfield)
        soft = body * (1 - bone)
        filled = ((hounsfield + 1000.0) / (low + 1000.0 - 30.0)).clamp(0, 1)
        fat = ((high - hounsfield) / (high - low)).clamp(0, 1)
        calcium = ((hounsfield - 150.0) / 400.0).clamp(0, 1)
        low, high = rng.uniform(*self.marrow_hounsfield), rng.uniform(*self.mineral_hounsfield)
        marrow = ((high - hounsfield) / (high - low)).clamp(0, 1)
        most = rng.uniform(*self.red_marrow)
        red = (fields.smooth(rng.uniform(*self.red_marrow_scale), None)[0] * (0.5 * most) + most).clamp_(0, 1)
        inside = bone * body
        soft = soft * filled
        return {
            "fat": soft * fat,
            "water": soft * (1 - fat) * (1 - calcium),
            "fatty_marrow": inside * marrow * (1 - red),
            "red_marrow": inside * marrow * red,
            "cortex": inside * (1 - marrow) + soft * (1 - fat) * calcium,
        }


class Painter:
    """Gives tissues random signals and adds what scanners add.

    Signals are relative to the brightest ordinary tissue, as `normalise_mr` leaves them. Per draw: a signal for each
    tissue (in the order of T1 in most, free in some), fat suppressed in some; texture, and regions of another signal;
    dark structures that no CT shows (tendons, fascia, vessels, voids), so that dark does not mean bone; chemical shift
    of fat; blur, thick slices; a smooth multiplicative field; Rician noise; gamma and gain.

    Args:
        signals: [low, high] of each tissue's signal.
        relative: tissues whose signal is given relative to that of another one, which stands before it in `signals`.
        fat: names of the tissues whose protons are those of fat: they are shifted and suppressed.
        dark: names of the tissues that dark structures are painted over.
        free: probability that each tissue's signal is drawn from [0, 1] instead.
        suppressed: probability that fat is suppressed.
        suppression: factor that is left of fat, [low, high].
        texture: largest relative deviation of texture, by tissue or for all.
        texture_scale: mm, [low, high].
        region: probability of regions of another signal (lesions), and `region_change`, [low, high] relative to 1.
        lines: probability of dark lines; `line_scale` in mm.
        spots: probability of dark spots; `spot_scale` in mm.
        borders: probability of dark borders between tissues.
        chemical_shift: largest shift of fat in mm.
        blur: standard deviation in mm, [low, high].
        thick: probability that one in-plane axis was the slice axis; `thickness` in mm, [low, high].
        bias: largest relative standard deviation of the field; `bias_scale` in mm.
        noise: standard deviation, [low, high].
        gamma: largest absolute logarithm of the exponent of contrast, in half of the draws.
        gain: signal of the brightest tissue in the end, [low, high].
        alike: coarse fields are the same in all slices: faster, for a few adjacent slices; false for blocks.
        seed: of the noise lattice.

    Raises:
        SettingError: a range is not two rising numbers.
    """

    HALO = (0, 11, 11)
    """Voxels at the rim of a window that neighbours outside it would change: leave them out."""

    def __init__(
        self,
        *,
        signals: Mapping[str, Sequence[float]],
        relative: Mapping[str, str] | None = None,
        fat: Sequence[str] = ("fat", "fatty_marrow"),
        dark: Sequence[str] = ("fat", "water"),
        free: float = 0.1,
        suppressed: float = 0.33,
        suppression: Range = (0.05, 0.45),
        texture: float | Mapping[str, float] = 0.12,
        texture_scale: Range = (3.0, 14.0),
        region: float = 0.5,
        region_change: Range = (-0.5, 0.9),
        lines: float = 0.8,
        line_scale: Range = (3.0, 9.0),
        spots: float = 0.7,
        spot_scale: Range = (2.0, 5.0),
        borders: float = 0.6,
        chemical_shift: float = 2.2,
        blur: Range = (0.2, 0.9),
        thick: float = 0.2,
        thickness: Range = (2.0, 6.0),
        bias: float = 0.15,
        bias_scale: Range = (50.0, 120.0),
        noise: Range = (0.005, 0.04),
        gamma: float = 0.2,
        gain: Range = (0.8, 1.05),
        alike: bool = True,
        seed: int = 0,
    ) -> None:
        ranges = {f"signals of {name}": value for name, value in signals.items()}
        ranges |= {"suppression": suppression, "texture_scale": texture_scale, "region_change": region_change}
        ranges |= {"line_scale": line_scale, "spot_scale": spot_scale, "blur": blur, "thickness": thickness}
        ranges |= {"bias_scale": bias_scale, "noise": noise, "gain": gain}
        for name, value in ranges.items():
            if len(value) != 2 or value[0] > value[1]:
                raise SettingError(f"Painter: {name} is {list(value)}; give [low, high].")
        self.signals = {name: (float(low), float(high)) for name, (low, high) in signals.items()}
        self.relative = dict(relative or {})
        names = list(self.signals)
        for name, other in self.relative.items():
            if not {name, other} <= set(names) or names.index(other) > names.index(name):
                raise SettingError(
                    f"Painter: {name} is relative to {other}; both need a signal, and {other} must come first."
                )
        self.fat, self.dark = frozenset(fat), frozenset(dark)
        self.free, self.suppressed, self.suppression = free, suppressed, suppression
        self.texture, self.texture_scale = texture, texture_scale
        self.region, self.region_change = region, region_change
        self.lines, self.line_scale = lines, line_scale
        self.spots, self.spot_scale, self.borders = spots, spot_scale, borders
        self.chemical_shift, self.blur, self.thick, self.thickness = chemical_shift, blur, thick, thickness
        self.bias, self.bias_scale, self.noise, self.gamma, self.gain = bias, bias_scale, noise, gamma, gain
        self.depth = None if alike else 1.0
        self.seed = seed

    def fields(self, window: Window, rng: np.random.Generator) -> RandomFields:
        """The random fields of a window."""
        return RandomFields(window, rng, self.seed)

    def draw_signals(self, rng: np.random.Generator) -> dict[str, float]:
        """A signal for each tissue, fat suppressed in some draws, the brightest one between the ends of `gain`."""
        free = rng.random() < self.free
        drawn: dict[str, float] = {}
        for name, (low, high) in self.signals.items():
            value, anything = rng.uniform(low, high), rng.uniform(0.0, 1.0)
            other = self.relative.get(name)
            value = value if other is None else value * drawn[other]
            drawn[name] = anything if free else value
        factor = rng.uniform(*self.suppression)
        if rng.random() < self.suppressed:
            drawn = {name: value * (factor if name in self.fat else 1.0) for name, value in drawn.items()}
        scale = rng.uniform(*self.gain) / max(max(drawn.values()), 1e-3)
        return {name: value * scale for name, value in drawn.items()}

    def __call__(self, tissues: Mapping[str, Tensor], fields: RandomFields, rng: np.random.Generator) -> Tensor:
        """Paint an image.

        Args:
            tissues: share of each tissue, 0 to 1, ``(slice, row, column)`` as the window of `fields`.
            fields: see `fields`.
            rng: draws everything, in the same order whatever the window.

        Returns:
            Signal, 1 that of the brightest ordinary tissue, not clipped. The rim of `HALO` is not to be used.

        Raises:
            SettingError: a tissue has no signal.
        """
        unknown = sorted(set(tissues) - set(self.signals))
        if unknown:
            raise SettingError(f"Painter: no signal for '{unknown[0]}'; known are {', '.join(self.signals)}.")
        signals = self.draw_signals(rng)
        soft, hard = self._textured(tissues, signals, fields, rng)
        rows, columns = self._shift(fields.window, rng)
        soft_fat, hard_fat = (_along(image, rows, columns) for image in (soft[1], hard[1]))
        image = (soft[0] + soft_fat) * self._darkness(tissues, fields, rng) + hard[0] + hard_fat
        image = _along(image, *self._smoothing(fields.window, rng))
        return self._received(image, fields, rng, max(signals.values()))

    def varied(self, image: Tensor, fields: RandomFields, rng: np.random.Generator) -> Tensor:
        """A real MR as another coil, another noise and another contrast exponent would have shown it.

        Args:
            image: ``(slice, row, column)``, 1 the signal of the brightest ordinary tissue.
            fields: see `fields`.
            rng: draws everything.
        """
        return self._received(image * rng.uniform(0.9, 1.1), fields, rng, 1.0, 0.5)

    def _received(
        self, image: Tensor, fields: RandomFields, rng: np.random.Generator, top: float, share: float = 1.0
    ) -> Tensor:
        """Smooth field, Rician noise and gamma, at `share` of their strength."""
        scale = rng.uniform(*self.bias_scale)
        (field,) = fields.smooth(scale, self.depth)
        image = image * (field * (share * rng.uniform(0, self.bias)) + 1).clamp_(min=0.2)
        noise = share * rng.uniform(*self.noise)
        smooth, scale = rng.random() < 0.5, rng.uniform(1.0, 2.0)
        grain = fields.smooth(scale, 1.0, 2) if smooth else [fields.white(), fields.white()]
        image = torch.hypot(image + grain[0].mul_(noise), grain[1].mul_(noise))
        exponent = float(np.exp(share * rng.uniform(-self.gamma, self.gamma)))
        return image if rng.random() < 0.5 else image.div_(top).pow_(exponent).mul_(top)

    def _textured(
        self,
        tissues: Mapping[str, Tensor],
        signals: Mapping[str, float],
        fields: RandomFields,
        rng: np.random.Generator,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Images [water, fat] of what dark structures cover, and of the rest."""
        coarse, place = fields.smooth(rng.uniform(*self.texture_scale), self.depth, 2)
        (fine,) = fields.smooth(rng.uniform(1.5, 3.5), rng.uniform(1, 3))
        happens, change = rng.random() < self.region, rng.uniform(*self.region_change)
        region = ((place - 0.8) * (2.5 * change)).clamp_(min(0.0, change), max(0.0, change)) + 1 if happens else None
        nothing = torch.zeros(fields.window.shape)
        images = [[nothing, nothing], [nothing, nothing]]
        for name in self.signals:
            largest = self.texture if isinstance(self.texture, int | float) else self.texture.get(name, 0.1)
            first, second = rng.uniform(-largest, largest), rng.uniform(0, largest / 2)
            if name not in tissues:
                continue
            grain = coarse * first + 1
            if region is not None and name in self.dark and name not in self.fat:
                grain = grain * region
            image = (fine * second).add_(grain).clamp_(min=0.1).mul_(tissues[name]).mul_(signals[name])
            kind = images[0 if name in self.dark else 1]
            which = 1 if name in self.fat else 0
            kind[which] = image if kind[which] is nothing else kind[which].add_(image)
        return images[0], images[1]

    def _darkness(self, tissues: Mapping[str, Tensor], fields: RandomFields, rng: np.random.Generator) -> Tensor:
        """Factor from 0 to 1 of dark structures: lines, spots, borders."""
        factor = torch.ones(fields.window.shape)
        (gate,) = fields.smooth(rng.uniform(8.0, 20.0), self.depth)
        happens, width, depth = rng.random() < self.lines, rng.uniform(0.05, 0.25), rng.uniform(0.3, 1.0)
        scale, along = rng.uniform(*self.line_scale), rng.uniform(1, 4)
        if happens:
            (line,) = fields.smooth(scale, along)
            # (1 + x^2)^-2 falls as a bell does, and costs less
            bell = line.mul_(1.0 / width).square_().add_(1.0).square_().reciprocal_()
            factor.sub_(bell.mul_(((gate + 0.2) * (1.2 * depth)).clamp_(0, depth)))
        happens, depth, least = rng.random() < self.spots, rng.uniform(0.4, 1.0), rng.uniform(1.7, 2.3)
        scale, along = rng.uniform(*self.spot_scale), rng.uniform(1, 4)
        if happens:
            (spot,) = fields.smooth(scale, along)
            factor.mul_(spot.sub_(least).mul_(-2 * depth).clamp_(-depth, 0).add_(1))
        happens, depth = rng.random() < self.borders, rng.uniform(0, 0.9)
        if happens and "fat" in tissues:
            fat = tissues["fat"]
            edge = _widened(fat).add_(_widened(-fat))
            factor.mul_(1 - edge.mul_(((0.5 - gate) * (0.7 * depth)).clamp_(0, depth)))
        return factor.clamp_(min=0.0)

    def _shift(self, window: Window, rng: np.random.Generator) -> tuple[Tensor | None, Tensor | None]:
        """Matrices that move fat along rows or columns."""
        amount, first = rng.uniform(-self.chemical_shift, self.chemical_shift), rng.random() < 0.5
        axis = 1 if first else 2
        matrix = _shift_matrix(window.shape[axis], amount / window.spacing[axis])
        return (matrix, None) if first else (None, matrix)

    def _smoothing(self, window: Window, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Matrices that blur rows and columns."""
        deviation = rng.uniform(*self.blur)
        thick, axis, thickness = rng.random() < self.thick, int(rng.integers(1, 3)), rng.uniform(*self.thickness)
        found = []
        for number in (1, 2):
            sigma = float(np.hypot(deviation, thickness / 2.355)) if thick and number == axis else deviation
            found.append(_blur_matrix(window.shape[number], sigma / window.spacing[number]))
        return found[0], found[1]


def _along(image: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Apply a matrix to the rows' axis and one to the columns' axis of ``(slice, row, column)``."""
    if rows is not None:
        image = torch.matmul(rows, image)
    return image if columns is None else torch.matmul(image, columns.T)


def _widened(image: Tensor) -> Tensor:
    """Largest value among the 3 x 3 neighbours in plane; faster here than max pooling."""
    for axis in (1, 2):
        count = image.shape[axis]
        wider = image.clone()
        for side in (-1, 1):
            source = image.narrow(axis, max(side, 0), count - 1)
            target = wider.narrow(axis, max(-side, 0), count - 1)
            torch.maximum(target, source, out=target)
        image = wider
    return image


def _blur_matrix(count: int, sigma: float) -> Tensor:
    reach = min(_BLUR_REACH, count - 1)  # what lies beyond the halo must not count
    kernel = np.zeros(2 * count - 1, dtype=np.float32)
    kernel[count - 1 - reach : count + reach] = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    matrix = np.lib.stride_tricks.sliding_window_view(kernel, count)[::-1]
    return torch.from_numpy(matrix / matrix.sum(1, keepdims=True))


def _shift_matrix(count: int, shift: float) -> Tensor:
    index = torch.arange(count, dtype=torch.float32)
    return (1 - (index[:, None] + shift - index).abs()).clamp_min(0)


def label_tissues(labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Shares of the classes of a label map, for a `Painter` with signals for ``label_0``, ``label_1`` and so on.

    Args:
        labels: whole numbers below `classes`, ``(slice, row, column)``.
        classes: number of classes.

    Raises:
        SettingError: a label is out of range.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise SettingError(f"The labels run from {low} to {high}; {classes} classes are painted (0 to {classes - 1}).")
    return {f"label_{number}": (labels == number).float() for number in range(classes)}

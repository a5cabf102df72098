"""Images of random contrast painted on known anatomy: an MR from a CT, or from a label map (domain randomisation).

A network that learns from painted images sees more contrasts than any scanner makes and must rely on anatomy; its
truth is exact, on the same voxels (Billot et al. 2023, SynthSeg, for label maps). Three parts:

- `tissues.CtTissues` says how much of each tissue a voxel of a CT holds;
- `Painter` gives every tissue a random signal and adds what a scanner adds;
- `random_fields.RandomFields` are random fields over *positions*, so that a voxel is painted the same in every crop.

Everything is drawn from one `numpy` generator, in an order that does not depend on the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medical_gans.errors import SettingError
from medical_gans.transforms.random_fields import RandomFields, Range, Window
from medical_gans.transforms.tissues import widened

__all__ = ["Painter", "RandomFields", "Range", "Window"]

_BLUR_REACH = 7


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

    HALO = (0, 14, 14)
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
        thickness: Range = (2.0, 5.5),
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
        happens, width, depth = rng.random() < self.lines, rng.uniform(0.03, 0.15), rng.uniform(0.3, 1.0)
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
            edge = widened(fat).add_(widened(-fat))
            factor.mul_(1 - edge.mul_(((0.5 - gate) * (0.7 * depth)).clamp_(0, depth)))
        return factor.clamp_(min=0.0)

    def _shift(self, window: Window, rng: np.random.Generator) -> tuple[Tensor | None, Tensor | None]:
        """Matrices that move fat along rows or columns."""
        amount, first = rng.uniform(-self.chemical_shift, self.chemical_shift), rng.random() < 0.5
        axis = 1 if first else 2
        matrix = _shift_matrix(window.shape[axis], amount / window.spacing[axis])
        return (matrix, None) if first else (None, matrix)

    def _smoothing(self, window: Window, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Matrices that blur rows and columns, and look at one of them through thick slices."""
        deviation = rng.uniform(*self.blur)
        thick, axis, thickness = rng.random() < self.thick, int(rng.integers(1, 3)), rng.uniform(*self.thickness)
        phase = rng.uniform(0.0, thickness)
        found = []
        for number in (1, 2):
            count, spacing = window.shape[number], window.spacing[number]
            matrix = _blur_matrix(count, deviation / spacing)
            if thick and number == axis:
                matrix = _slices_matrix(count, window.origin[number] * spacing - phase, spacing, thickness) @ matrix
            found.append(matrix)
        return found[0], found[1]


def _along(image: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Apply a matrix to the rows' axis and one to the columns' axis of ``(slice, row, column)``."""
    if rows is not None:
        image = torch.matmul(rows, image)
    return image if columns is None else torch.matmul(image, columns.T)


def _blur_matrix(count: int, sigma: float) -> Tensor:
    reach = min(_BLUR_REACH, count - 1)  # what lies beyond the halo must not count
    kernel = np.zeros(2 * count - 1, dtype=np.float32)
    kernel[count - 1 - reach : count + reach] = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    matrix = np.lib.stride_tricks.sliding_window_view(kernel, count)[::-1]
    return torch.from_numpy(matrix / matrix.sum(1, keepdims=True))


def _slices_matrix(count: int, first: float, spacing: float, thickness: float) -> Tensor:
    """What slices of `thickness` mm, one beside the other, show of a line, interpolated between their middles."""
    position = first + np.arange(count) * spacing
    slices = np.arange(int(position[0] // thickness) - 1, int(position[-1] // thickness) + 3)
    distance = np.abs(position[None] - slices[:, None] * thickness)
    seen = np.exp(-4 * np.log(2) * (distance / thickness) ** 2) * (distance <= _BLUR_REACH * spacing)
    seen /= seen.sum(1, keepdims=True) + 1e-9
    between = np.clip(1 - np.abs(position[:, None] / thickness - slices[None]), 0, None)
    # by torch, whose threads are those of the loader: numpy's are as many as there are cores, and wait for each other
    return torch.from_numpy(between.astype(np.float32)) @ torch.from_numpy(seen.astype(np.float32))


def _shift_matrix(count: int, shift: float) -> Tensor:
    index = torch.arange(count, dtype=torch.float32)
    return (1 - (index[:, None] + shift - index).abs()).clamp_min(0)

"""Difference in HU between tiled and whole slices, with every norm, on a phantom head."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medical_gans.inference.synthesis import SliceSynthesis, load_generators
from medical_gans.io import Volume
from medical_gans.networks import ResnetGenerator
from medical_gans.phantom import head, simulate_mr


def generators(weights: str | None, width: int, blocks: int) -> dict[str, nn.Module]:
    """The trained generator, or one with random weights for each norm: by what is printed of it."""
    if weights is not None:
        return {Path(weights).name: load_generators(weights).generators[0]}
    found = {}
    for norm in ("none", "batch", "instance"):
        torch.manual_seed(0)
        found[f"random weights, norm {norm}"] = ResnetGenerator(width=width, blocks=blocks, norm=norm)
        for name, tensor in found[f"random weights, norm {norm}"].state_dict().items():
            if tensor.ndim > 1:
                nn.init.kaiming_normal_(tensor)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    return found


def main() -> None:
    """Translate the head whole and in tiles with each generator, and print by how much they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="weights file; random weights of each norm without it")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--tile", type=int, default=64, help="voxels")
    given = parser.parse_args()
    phantom = head(seed=0)
    grid = phantom.grid((1.5, 1.5, 12.0))
    array = simulate_mr(phantom, grid)
    mr = Volume(np.asarray(array), grid.affine, Path("phantom"))
    for name, network in generators(given.weights, given.width, given.blocks).items():
        whole = SliceSynthesis([network])(mr).hounsfield.astype(int)
        tiled = SliceSynthesis([network], tile=given.tile)(mr).hounsfield.astype(int)
        body = whole > -1024
        difference = np.abs(whole - tiled)[body]
        print(
            f"{name}: tiles of {given.tile} differ from whole slices by {difference.mean():.4f} HU on average, "
            f"{difference.max()} HU at most (HU in the body have a standard deviation of {whole[body].std():.0f})"
        )


if __name__ == "__main__":
    main()

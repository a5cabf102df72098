"""Peak memory of the inference command on a large volume: all that a user's run does, in a process of its own."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from medical_gans.io import save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.weights import WeightsCard, save_weights


def head(shape: tuple[int, ...]) -> np.ndarray:
    """An ellipsoid with texture that nearly fills the volume, int16."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    texture = np.random.default_rng(0).integers(300, 1000, shape, dtype=np.int16)
    for k, z in enumerate(axes[2]):
        texture[:, :, k] *= axes[0][:, None] ** 2 + axes[1][None] ** 2 + z**2 < 0.95
    return texture


def main() -> None:
    """Run the command on a large head, and print its peak memory and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 400))
    parser.add_argument("--planes", default="axial,coronal,sagittal")
    parser.add_argument("--flips", default="true")
    parser.add_argument("--width", default="16", help="of the generator; its residual blocks do not add to the peak")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mr = save_volume(Path(folder, "head.nii.gz"), head(tuple(given.shape)), np.diag([0.5, 0.5, 0.5, 1.0]))
        weights = Path(folder, "small.pt")
        save_weights(weights, ResnetGenerator(width=int(given.width), blocks=0))
        network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": int(given.width), "blocks": 0}
        WeightsCard([None] * 3, network_def=network_def).save(weights)
        words = [sys.executable, "-m", "medical_gans", "mr_to_ct", "inference"]
        words += [
            "--dataset_dir",
            str(mr),
            "--output_dir",
            str(Path(folder, "out")),
            "--weights",
            str(weights),
        ]
        words += ["--device", "cpu"]
        begin = time.perf_counter()
        subprocess.run([*words, "--planes", given.planes, "--flips", given.flips], check=True)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"peak memory for {' x '.join(map(str, given.shape))} voxels, {given.planes}, flips {given.flips}: "
        f"{peak:.2f} GiB ({seconds:.0f} s)"
    )


if __name__ == "__main__":
    main()

"""Peak memory of the inference command on a large volume: all that a user's run does, in a process of its own.

Two peaks are given. Anonymous memory (RssAnon, sampled) is what must exist: the system cannot drop it. What is resident
(VmHWM) also counts pages of files: libraries, and the slabs of mapped volumes that are looked at just then, which
the system takes back where memory is short. With several numbers of slices, the ratio of the last over the first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from dicom_io import write_mr

from medical_gans.io import save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.weights import WeightsCard, save_weights

_EVERY = 0.01  # seconds


def head(shape: tuple[int, ...]) -> np.ndarray:
    """An ellipsoid with texture that nearly fills the volume, int16."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    texture = np.random.default_rng(0).integers(300, 1000, shape, dtype=np.int16)
    for k, z in enumerate(axes[2]):
        texture[:, :, k] *= axes[0][:, None] ** 2 + axes[1][None] ** 2 + z**2 < 0.95
    return texture


def memory(process: int) -> np.ndarray:
    """Bytes of anonymous memory of a process now, and the most that was resident until now; 0 where it is gone."""
    try:
        lines = [line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines()]
    except OSError:
        return np.zeros(2)
    found = {words[0]: int(words[1]) << 10 for words in lines if words and words[0] in ("RssAnon:", "VmHWM:")}
    return np.array([found.get("RssAnon:", 0), found.get("VmHWM:", 0)], dtype=np.float64)


def peaks(words: list[str]) -> np.ndarray:
    """GiB of anonymous memory and of all that was resident, each at its peak, of a command.

    `ru_maxrss` does not serve: it begins with what the process held that started the command.

    Raises:
        CalledProcessError: it failed.
    """
    most = np.zeros(2)
    with subprocess.Popen(words) as process:
        while process.poll() is None:
            most = np.maximum(most, memory(process.pid))
            time.sleep(_EVERY)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return most / 2**30


def measure(given: argparse.Namespace, shape: tuple[int, int, int]) -> np.ndarray:
    """Run the command on a large head, and print its peak memory and time."""
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.dicom:
            mr = Path(folder, "series")
            mr.mkdir()
            write_mr(mr, shape[2], shape[0])
        else:
            mr = save_volume(Path(folder, "head.nii.gz"), head(shape), np.diag([0.5, 0.5, 0.5, 1.0]))
        weights = Path(folder, "small.pt")
        network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": given.width, "blocks": 0}
        save_weights(weights, ResnetGenerator(width=given.width, blocks=0))
        WeightsCard([None] * 3, network_def=network_def).save(weights)
        words = [sys.executable, "-m", "medical_gans", "mr_to_ct", "inference", "--quiet", "--device", "cpu"]
        words += ["--dataset_dir", str(mr), "--output_dir", str(Path(folder, "out")), "--weights", str(weights)]
        words += ["--planes", given.planes, "--flips", given.flips]
        begin = time.perf_counter()
        found = peaks(words)
        seconds = time.perf_counter() - begin
    print(
        f"peak memory for {' x '.join(map(str, shape))} voxels{' of DICOM' if given.dicom else ''}, "
        f"{given.planes}, flips {given.flips}: "
        f"anonymous {found[0]:.3f} GiB, resident {found[1]:.3f} GiB ({seconds:.0f} s)"
    )
    return found


def main() -> None:
    """Measure a head of each number of slices, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 400))
    parser.add_argument("--slices", type=int, nargs="+", help="several numbers of slices, in place of that of shape")
    parser.add_argument("--planes", default="axial,coronal,sagittal")
    parser.add_argument("--flips", default="true")
    parser.add_argument(
        "--width", type=int, default=16, help="of the generator; its residual blocks do not add to the peak"
    )
    parser.add_argument("--dicom", action="store_true", help="an MR series of square slices, which gives a CT series")
    parser.add_argument("--folder", help="where the files are put; a disk, for files in memory would count")
    given = parser.parse_args()
    across, up, along = given.shape
    found = [measure(given, (across, up, slices)) for slices in given.slices or [along]]
    if len(found) > 1:
        of_anonymous, resident = found[-1] / found[0]
        print(f"last over first: anonymous {of_anonymous:.3f}, resident {resident:.3f}")


if __name__ == "__main__":
    main()

"""How inference grows: with the volume, with processes, and against MONAI's own inferer.

1. Volumes of 1, 2, 4 and 8 times the slices, each in a process of its own: time should be linear, memory flat but for
   the volumes themselves, which are two bytes a voxel read and two written.
2. A cohort by one process and by two (``torchrun``), start-up included.
3. The same network and volume through MONAI's `SliceInferer` (windows of 256 x 256, a quarter overlap, Gaussian
   weights, four at once), from normalised array to HU, in turn; the median of the ratios.
4. Slices at a time over threads: wall and processor time of the smallest volume, over that of one slice at a time on
   one thread; the best of some rounds that take all in turn.

Figures are processor time where one thread and process work, so that others on the machine do not count; the cohort's
are wall time, for what is wanted is that two finish earlier.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.inferers import SliceInferer

from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.io import Volume, save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.transforms import unit_to_hounsfield
from medical_gans.weights import WeightsCard, save_weights

TIMES = (1, 2, 4, 8)
AT_A_TIME = (1, 2, 4, 8)


def head(shape: tuple[int, ...]) -> np.ndarray:
    """An elliptic cylinder with texture, so that each slice shows as much."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    inside = rows[:, None] ** 2 + columns[None] ** 2 < 0.9
    texture = np.random.default_rng(0).integers(300, 1000, shape, dtype=np.int16)
    return np.asfortranarray(texture * inside[:, :, None])


def generator() -> ResnetGenerator:
    """The network of ``mr_to_ct_train.yaml``."""
    torch.manual_seed(0)
    return ResnetGenerator(width=16, blocks=6).eval()


def one_volume(shape: tuple[int, ...]) -> dict[str, float]:
    """Processor seconds of a synthesis, and the peak memory that it adds to the process, in MiB."""
    torch.set_num_threads(1)
    synthesis = SliceSynthesis([generator()])
    mr = Volume(head(shape), np.eye(4), Path("head.nii.gz"))
    synthesis(Volume(head((64, 64, 8)), np.eye(4), Path("small.nii.gz")))  # compiles kernels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    synthesis(mr)
    seconds = time.process_time() - begin
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "added_mib": added, "voxels_mib": mr.array.size / 2**20}


def growth(shape: tuple[int, ...]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each multiple of a volume, in a process of its own."""
    for times in TIMES:
        words = [sys.executable, __file__, "--only", *map(str, (*shape[:2], shape[2] * times))]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        yield times, json.loads(said.splitlines()[-1])


def cohort(processes: int, cases: int, shape: tuple[int, ...]) -> float:
    """Wall seconds of the command for a cohort."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(cases):
            place = Path(folder, "data", f"case{number}")
            place.mkdir(parents=True)
            save_volume(place / "mr.nii.gz", head(shape), np.eye(4))
        weights = Path(folder, "weights.pt")
        save_weights(weights, generator())
        network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 16, "blocks": 6}
        WeightsCard([None] * 3, network_def=network_def).save(weights)
        start = [sys.executable, "-m"]
        if processes > 1:
            start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
        words = [*start, "medical_gans", "mr_to_ct", "inference", "--dataset_dir", str(Path(folder, "data"))]
        words += ["--output_dir", str(Path(folder, "out")), "--weights", str(weights), "--device", "cpu"]
        begin = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - begin


def against_monai(shape: tuple[int, ...], rounds: int) -> tuple[float, float]:
    """How many times faster than `SliceInferer` a volume is translated: the median over pairs, and their spread."""
    torch.set_num_threads(1)
    network, synthesis = generator(), SliceSynthesis([generator()])
    mr = Volume(head(shape), np.eye(4), Path("head.nii.gz"))
    array = torch.from_numpy(np.ascontiguousarray(mr.array)).float()[None, None]
    unit = array / array.max() * 1.6 - 1.0
    inferer = SliceInferer(spatial_dim=2, roi_size=(256, 256), sw_batch_size=4, overlap=0.25, mode="gaussian")
    ratios = []
    for number in range(rounds + 1):
        begin = time.process_time()
        with torch.inference_mode():
            unit_to_hounsfield(inferer(unit, network)).round().to(torch.int16)
        between = time.process_time()
        synthesis(mr)
        if number:
            ratios.append((between - begin) / (time.process_time() - between))
    return float(np.median(ratios)), max(ratios) - min(ratios)


def slices_over_threads(shape: tuple[int, ...], rounds: int) -> dict[tuple[int, int], tuple[float, float]]:
    """Wall and processor seconds by (slices at a time, threads)."""
    mr = Volume(head(shape), np.eye(4), Path("head.nii.gz"))
    threads = sorted({1, 2, os.cpu_count() or 1})
    synthesis = {slices: SliceSynthesis([generator()], slice_batch=slices) for slices in AT_A_TIME}
    best: dict[tuple[int, int], tuple[float, float]] = {}
    for _ in range(rounds + 1):  # the first compiles kernels, and is never the best
        for count in threads:
            torch.set_num_threads(count)
            for slices in AT_A_TIME:
                begin, before = time.perf_counter(), time.process_time()
                synthesis[slices](mr)
                taken = (time.perf_counter() - begin, time.process_time() - before)
                kept = best.get((slices, count), taken)
                best[slices, count] = (min(kept[0], taken[0]), min(kept[1], taken[1]))
    return best


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 224, 20), help="voxels of the smallest volume")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[], choices=("growth", "cohort", "monai", "threads"))
    parser.add_argument("--only", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(one_volume(tuple(given.only))))
        return
    shape = tuple(given.shape)
    if "growth" not in given.skip:
        first = None
        for times, found in growth(shape):
            first = first or found
            share = found["seconds"] / first["seconds"] / times
            beside = found["added_mib"] - 4 * found["voxels_mib"]
            print(f"{times} x: time per slice {share:.2f}, memory beside the volumes {beside:.0f} MiB", flush=True)
    if "monai" not in given.skip:
        ratio, spread = against_monai(shape, given.rounds)
        print(f"{ratio:.2f} times as fast as MONAI's SliceInferer (spread {spread:.2f})", flush=True)
    if "threads" not in given.skip:
        best = slices_over_threads(shape, given.rounds)
        wall, processor = best[AT_A_TIME[0], 1]
        for (slices, count), taken in sorted(best.items()):
            shares = f"{taken[0] / wall:.2f} of the time, {taken[1] / processor:.2f} of the processor time"
            print(f"{slices} slices at a time on {count} threads: {shares}", flush=True)
    if "cohort" not in given.skip:
        alone, together = (cohort(processes, given.cases, shape) for processes in (1, 2))
        print(f"cohort of {given.cases}: two processes {alone / together:.2f} times as fast as one")


if __name__ == "__main__":
    main()

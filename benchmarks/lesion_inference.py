"""How close sliding-window inference of lesions is to what the machine can do, and how much memory it takes.

1. The time of the network's convolutions alone, each run at the shape of a batch of windows, over the whole time from
   a read volume to its label map. Both are the best of several rounds taken in turn, so that a busy machine slows down
   both.
2. Peak memory of reading and segmenting the volume, above that of the process before, in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from scipy import ndimage
from torch import Tensor, nn

from medical_gans.inference.lesions import LesionSegmentation
from medical_gans.io import Volume, save_volume
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.transforms.sequence_volume import SequenceVolume, read_sequence_case
from medical_gans.weights import build_network

NETWORKS = {
    "UNet": {
        "_target_": "monai.networks.nets.UNet",
        **{"channels": [16, 32, 64, 128], "strides": [2, 2, 2], "num_res_units": 1, "norm": "instance"},
    },
    "MultiScaleSegmenter": {"_target_": "medical_gans.networks.MultiScaleSegmenter"},
}
BRAIN = (0.58, 0.72, 0.9)  # edges of a skull-stripped brain as shares of 240 x 240 x 155 mm


def brain(shape: tuple[int, ...]) -> np.ndarray:
    """An ellipsoid with texture in an empty volume."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) / share for n, share in zip(shape, BRAIN, strict=True)), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.where(inside, np.random.default_rng(0).normal(3, 1, shape), 0).astype(np.float32)


def segmentation_of(given: argparse.Namespace) -> LesionSegmentation:
    """The network of the shipped configuration, with random weights."""
    torch.manual_seed(0)
    shape = {"spatial_dims": 3, "in_channels": given.channels, "out_channels": 2}
    network = build_network({**NETWORKS[given.network], **shape})
    inferer = SlidingWindowInferer(given.roi, given.batch, given.overlap, mode="gaussian", device="cpu")
    return LesionSegmentation(network, inferer)


def convolutions(network: nn.Module, windows: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Each convolution with the features that it gets."""
    seen: list[tuple[nn.Module, Tensor]] = []
    wanted = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    hooks = [m.register_forward_pre_hook(lambda m, x: seen.append((m, x[0].clone()))) for m in wanted]
    with torch.inference_mode():
        network(windows)
    for hook in hooks:
        hook.remove()
    return seen


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of one call."""
    begin = clock()
    with torch.inference_mode():
        call()
    return clock() - begin


def measure_speed(given: argparse.Namespace) -> None:
    """Print the time of a segmentation and the share that is spent in convolutions."""
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    segmentation = segmentation_of(given)
    array = brain(tuple(given.shape))
    source = Volume(array, np.eye(4), Path("brain.nii.gz"))
    box = ndimage.find_objects((array != 0).astype(np.uint8))[0]  # as preprocessing cuts it
    affine = np.eye(4)
    affine[:3, 3] = [part.start for part in box]
    case = SequenceVolume(np.stack([array[box]] * given.channels), array[box] != 0, affine, None, None, source)
    windows: list[int] = []
    count = segmentation.network.register_forward_pre_hook(lambda _, x: windows.append(len(x[0])))
    segmentation(case)
    count.remove()
    alone = convolutions(segmentation.network, torch.randn(given.batch, given.channels, *segmentation.inferer.roi_size))
    each, whole = np.full(len(alone), np.inf), np.inf
    for _ in range(given.rounds):
        for number, (module, features) in enumerate(alone):
            each[number] = min(each[number], seconds(lambda m=module, x=features: m(x), clock))
        whole = min(whole, seconds(lambda: segmentation(case), clock))
    bare = each.sum() * sum(windows) / given.batch
    shape, roi = (" x ".join(map(str, size)) for size in (given.shape, segmentation.inferer.roi_size))
    print(
        f"{given.network}, {shape} voxels, {sum(windows)} windows of {roi}, {given.batch} per pass: {whole:.1f} s, "
        f"convolutions alone {bare:.1f} s: {bare / whole:.2f} ({given.threads} threads, {given.clock} clock, load "
        f"{os.getloadavg()[0]:.1f})"
    )


def _peak(given: argparse.Namespace, folder: str, results: multiprocessing.Queue) -> None:
    """Put GiB at the peak, above those of the process before, into `results`."""
    torch.set_num_threads(given.threads)
    segmentation = segmentation_of(given)
    page = resource.getpagesize()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * page
    files = tuple(Path(folder, f"channel{number}.nii.gz") for number in range(given.channels))
    volume = read_sequence_case(SequenceCase("brain", files), [file.name for file in files])
    segmentation(volume)
    results.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**30)


def measure_memory(given: argparse.Namespace) -> None:
    """Print the peak memory of reading and segmenting a volume on disk."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.channels):
            save_volume(Path(folder, f"channel{number}.nii.gz"), brain(tuple(given.shape)), np.eye(4))
        context = multiprocessing.get_context("spawn")
        results: multiprocessing.Queue = context.Queue()
        child = context.Process(target=_peak, args=(given, folder, results))
        child.start()
        peak = results.get()
        child.join()
    print(f"peak memory of reading and segmenting {given.channels} channels: {peak:.2f} GiB above the process before")


def main() -> None:
    """Measure speed and memory of the chosen network, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=tuple(NETWORKS), default="UNet")
    parser.add_argument("--shape", type=int, nargs=3, default=(240, 240, 155), help="voxels of the volume, of 1 mm")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--roi", type=int, nargs=3, default=(40, 40, 40), help="voxels of a window")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=4, help="windows per pass")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu (with one thread) is deaf to other jobs"
    )
    parser.add_argument("--only", choices=("speed", "memory"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.only != "memory":
        measure_speed(given)
    if given.only != "speed":
        measure_memory(given)


if __name__ == "__main__":
    main()

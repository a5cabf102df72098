"""How close inference is to what the machine can do, as ratios.

1. Share of the time after loading that is spent in the network: of the synthesis (array in, HU out), and of all that
   is done for a case (comparison with training, synthesis, saving, pictures).
2. Floating-point operations per second of the network over the ceiling: the fastest of the network's own
   convolutions, each run alone at its own shape, same threads, same run. Both are the best of several rounds taken in
   turn, so that a busy machine slows down both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import medical_gans.inference.synthesis.generators as timed_module
from medical_gans.checks.fingerprint import Fingerprint
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.inference.synthesis.one_case import CaseSynthesis
from medical_gans.io import Case, Volume, read_volume, save_volume
from medical_gans.networks import ResnetGenerator


def head(shape: tuple[int, int, int], spacing: float) -> Volume:
    """An ellipsoid with texture: what it shows does not matter to the time."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    inside = sum(a**2 for a in axes) < 0.8
    texture = np.random.default_rng(0).integers(200, 1000, shape, dtype=np.int16)
    return Volume((texture * inside).astype(np.int16, order="F"), np.diag([spacing] * 3 + [1.0]), Path("head.nii.gz"))


def convolution_shapes(network: nn.Module, image: Tensor) -> list[tuple[nn.Conv2d, Tensor]]:
    """Each convolution with the features that it gets."""
    seen: list[tuple[nn.Conv2d, Tensor]] = []
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_pre_hook(lambda m, x: seen.append((m, x[0].clone()))) for m in convolutions]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    shapes = {(m.in_channels, m.out_channels, m.kernel_size, tuple(x.shape)): (m, x) for m, x in seen}
    return list(shapes.values())


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of a call."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def rate(call: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    """Operations per second of one call."""
    begin = clock()
    with torch.inference_mode():
        call()
    return count / (clock() - begin)


def network_shares(synthesis: SliceSynthesis, mr: Volume, clock: Callable[[], float]) -> tuple[float, float]:
    """Of the synthesis, and of a whole case less the reading of its file."""
    begin = clock()
    made = synthesis(mr)
    of_synthesis = made.network_seconds / (clock() - begin)
    with tempfile.TemporaryDirectory() as folder:
        path = save_volume(Path(folder, "mr.nii.gz"), mr.array, mr.affine)
        fingerprint = Fingerprint.from_volumes([(mr.array, mr.spacing)], anatomy="head")
        case_synthesis = CaseSynthesis(synthesis, Path(folder), [], fingerprint)
        begin, before = clock(), synthesis.generators.seconds
        case_synthesis.run(Case("head", mr=path))
        seconds, network = clock() - begin, synthesis.generators.seconds - before
        begin = clock()
        read_volume(path)
        return of_synthesis, network / (seconds - (clock() - begin))


def main() -> None:
    """Time the network, the synthesis and a whole case, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=16, help="channels of the generator's first layer")
    parser.add_argument("--blocks", type=int, default=6, help="residual blocks")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 224, 160), help="voxels of the MR")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu (with one thread) is deaf to other jobs"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    timed_module.time.perf_counter = clock  # type: ignore[assignment]

    synthesis = SliceSynthesis([ResnetGenerator(width=given.width, blocks=given.blocks)], spacing=(1.0, 1.0, None))
    mr = head(tuple(given.shape), 1.0)
    synthesis(mr)
    of_synthesis, of_case = np.median([network_shares(synthesis, mr, clock) for _ in range(3)], axis=0)
    print(f"network share of the time after loading: {of_synthesis:.2f} of the synthesis, {of_case:.2f} of the case")

    generator = ResnetGenerator(width=given.width, blocks=given.blocks).eval().to(memory_format=torch.channels_last)
    network = synthesis.generators.networks[0]
    batch = synthesis.generators.batch(given.shape[0] * given.shape[1])
    image = torch.randn(batch, 1, *given.shape[:2]).contiguous(memory_format=torch.channels_last)
    shapes = convolution_shapes(generator, image)
    whole = operations(lambda: generator(image))
    alone = [operations(lambda m=m, x=x: m(x)) for m, x in shapes]
    achieved, ceilings = [], np.zeros((given.rounds, len(shapes)))
    for number in range(given.rounds + 1):
        own = rate(lambda: network(image), whole, clock)
        each = [rate(lambda m=m, x=x: m(x), n, clock) for (m, x), n in zip(shapes, alone, strict=True)]
        if number:  # the first round compiles
            achieved.append(own)
            ceilings[number - 1] = each
    best = ceilings.max(axis=0)
    for (m, x), own in zip(shapes, best, strict=True):
        print(
            f"  {m.in_channels:4d} -> {m.out_channels:4d}, {m.kernel_size[0]} wide, at {x.shape[2]} x {x.shape[3]}: "
            f"{own / 1e9:6.1f} GFLOP/s"
        )
    print(
        f"network {max(achieved) / 1e9:.1f} GFLOP/s over ceiling {best.max() / 1e9:.1f} GFLOP/s: "
        f"{max(achieved) / best.max():.2f} (batch {batch}, {given.threads} threads, {given.clock} clock)"
    )


if __name__ == "__main__":
    main()

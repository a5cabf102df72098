"""How well training and inference use a GPU: steps and slices per second, and their share of what the device can do.

    python benchmarks/gpu.py                       # on a GPU, some ten minutes
    python benchmarks/gpu.py --device cpu --tiny   # that everything runs, some seconds

1. Ceilings of the device: the fastest of some square matrix products and of some convolutions, in each precision.
2. Training: the method of each workflow as its config builds it, on random images that lie on the device, so that no
   view is waited for. Batches are doubled until images per second grow by less than a twentieth or the memory is full;
   the best one is trained for all steps. Operations are counted, not estimated.
3. Inference: whole volumes through the shipped generators of mr_to_ct, from array to HU, in each precision.

A line of JSON per figure goes to ``--output FILE``. Nothing is downloaded and nothing else is written.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medical_gans.cli.config_files import configs_dir, models_dir
from medical_gans.inference.synthesis import SliceSynthesis, load_generators
from medical_gans.io import Volume
from medical_gans.training.player import Method

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORKFLOWS = ("mr_to_ct", "lung_nodule", "brain_lesion")
ENOUGH = 1.05  # times as many images per second as with half the batch
TINY = {
    "mr_to_ct": ["smoke.yaml"],
    "lung_nodule": ["smoke_lung_nodule.yaml"],
    "brain_lesion": ["smoke_brain_lesion.yaml"],
}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: torch.device, times: int) -> float:
    """Of one call, the median of several, each waited for; the first is not counted."""
    taken = []
    for _ in range(times + 1):
        wait(device)
        begin = time.perf_counter()
        call()
        wait(device)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken[1:]))


def ceiling(device: torch.device, precision: torch.dtype, tiny: bool) -> float:
    """Floating-point operations per second: the best of matrix products and convolutions of some sizes."""
    best = 0.0
    with torch.inference_mode():
        for size in (256,) if tiny else (2048, 4096, 8192):
            one = torch.randn(size, size, device=device, dtype=precision)
            best = max(best, 2 * size**3 / seconds_of(lambda one=one: one @ one, device, 3))
        for channels, edge in ((16, 32),) if tiny else ((64, 256), (128, 128), (256, 64)):
            images = torch.randn(8, channels, edge, edge, device=device, dtype=precision)
            images = images.contiguous(memory_format=torch.channels_last)
            kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=precision)
            kernel = kernel.contiguous(memory_format=torch.channels_last)

            def convolve(images: Tensor = images, kernel: Tensor = kernel) -> Tensor:
                return torch.nn.functional.conv2d(images, kernel, padding=1)

            best = max(best, 18 * images.numel() * channels / seconds_of(convolve, device, 3))
    return best


def build(workflow: str, device: torch.device, precision: str, overlays: Sequence[str]) -> tuple[Method, ConfigParser]:
    """The method of a workflow's training as its config describes it."""
    files = [configs_dir() / f"{workflow}_train.yaml", *(configs_dir() / name for name in overlays)]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    values = {"device": str(device), "amp": precision != "float32"}
    if precision != "float32" and "amp_type" in parser.get():
        values["amp_type"] = precision
    if workflow == "brain_lesion":  # the adversary takes part
        values |= {"target_dir": "given", "steps_per_epoch": 100, "highest_alpha": 0.1, "ramp_epochs": [0, 1]}
    for name, value in values.items():
        parser[name] = value
    return parser.get_parsed_content("train#method"), parser


def random_batch(workflow: str, parser: ConfigParser, size: int, device: torch.device) -> dict[str, Tensor]:
    """Views as the data set of a workflow gives them, of noise."""

    def noise(channels: int, edges: Sequence[int]) -> Tensor:
        return torch.rand(size, channels, *edges, device=device) * 2 - 1

    read = parser.get_parsed_content
    if workflow == "mr_to_ct":
        return {side: noise(read("adjacent"), read("crop_size")) for side in ("mr", "ct")}
    if workflow == "lung_nodule":
        labels = torch.arange(size, device=device) % max(1, read("num_classes"))
        return {"image": noise(1, [read("size")] * read("spatial_dims")), "label": labels}
    edges, channels = read("patch_size"), len(read("channels"))
    label = (noise(1, edges) > 0.8).to(torch.float32)
    return {"source": noise(channels, edges), "target": noise(channels, edges), "label": label}


def sizes(tiny: bool) -> Iterator[int]:
    """Batches to try."""
    yield from ((2, 4) if tiny else (2**power for power in range(12)))


def best_batch(workflow: str, device: torch.device, precision: str, tiny: bool) -> tuple[int, list[dict[str, Any]]]:
    """The batch with the most images per second, and what was tried."""
    tried: list[dict[str, Any]] = []
    for size in sizes(tiny):
        try:
            method, parser = build(workflow, device, precision, TINY[workflow] if tiny else [])
            batch = random_batch(workflow, parser, size, device)
            seconds = seconds_of(lambda method=method, batch=batch: method(batch), device, 2 if tiny else 10)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        tried.append({"batch": size, "images_per_second": size / seconds})
        if len(tried) > 1 and tried[-1]["images_per_second"] < ENOUGH * tried[-2]["images_per_second"]:
            break
    return max(tried, key=lambda one: one["images_per_second"])["batch"], tried


def training(workflow: str, device: torch.device, precision: str, steps: int, tiny: bool, top: float) -> dict[str, Any]:
    """Train a workflow for some steps with its best batch.

    Raises:
        RuntimeError: a loss is not finite, or the shipped network has not moved.
    """
    size, tried = best_batch(workflow, device, precision, tiny)
    method, parser = build(workflow, device, precision, TINY[workflow] if tiny else [])
    batch = random_batch(workflow, parser, size, device)
    with FlopCounterMode(display=False) as counter:
        method(batch)
    operations = counter.get_total_flops()
    before = [parameter.detach().clone() for parameter in method.shipped.parameters()]
    wait(device)
    begin = time.perf_counter()
    for _ in range(steps):
        losses = method(batch)
    wait(device)
    seconds = (time.perf_counter() - begin) / steps
    moved = any(not torch.equal(a, b) for a, b in zip(before, method.shipped.parameters(), strict=True))
    if not moved or not all(np.isfinite(value) for value in losses.values()):
        raise RuntimeError(f"{workflow} in {precision} does not learn: losses {losses}, weights moved: {moved}")
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "what": f"training {workflow}",
        "precision": precision,
        "batch": size,
        "milliseconds_per_step": 1000 * seconds,
        "images_per_second": size / seconds,
        "share_of_ceiling": operations / seconds / top,
        "peak_gib": memory,
        "tried": tried,
    }


def inference(device: torch.device, amp: bool, shape: tuple[int, ...], tiny: bool) -> dict[str, Any]:
    """A whole volume of noise through the shipped head weights."""
    trained = load_generators(models_dir() / "mr_to_ct_head.pt")
    planes = "axial" if tiny else trained.plane
    synthesis = SliceSynthesis(trained.generators, (1.0, 1.0, 1.0), planes, amp=amp, uncertainty=False, device=device)
    array = np.random.default_rng(0).integers(200, 1000, shape, dtype=np.int16)
    edges = tuple(slice(n // 8, -(n // 8)) for n in shape)
    inside = np.zeros(shape, dtype=bool)
    inside[edges] = True
    mr = Volume(np.where(inside, array, 0).astype(np.int16, order="F"), np.eye(4), Path("noise.nii.gz"))
    synthesis(mr)
    begin, before = time.perf_counter(), synthesis.generators.seconds
    made = synthesis(mr)
    seconds = time.perf_counter() - begin
    if made.hounsfield.shape != shape or made.hounsfield.std() == 0:
        raise RuntimeError("the synthesis made nothing")
    return {
        "what": f"inference mr_to_ct_head, {' x '.join(map(str, shape))} voxels, {planes}",
        "precision": "mixed" if synthesis.generators.amp else "float32",
        "seconds": seconds,
        "network_share": (synthesis.generators.seconds - before) / seconds,
    }


def run(device: torch.device, steps: int, tiny: bool) -> Iterator[dict[str, Any]]:
    """All figures, one after the other."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    precisions = ["float32", "bfloat16"]
    tops = {}
    for precision in precisions:
        tops[precision] = ceiling(device, PRECISIONS[precision], tiny)
        yield {"what": f"ceiling of {name}", "precision": precision, "teraflops": tops[precision] / 1e12}
    for workflow in WORKFLOWS:
        for precision in precisions:
            if device.type == "cpu" and precision == "bfloat16" and workflow != "mr_to_ct":
                continue  # these configs mix precisions on a GPU only
            yield training(workflow, device, precision, steps, tiny, tops[precision])
    for amp in (False, True):
        yield inference(device, amp, (32, 40, 24) if tiny else (192, 256, 256), tiny)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tiny", action="store_true", help="tiny networks and few steps, to see that everything runs")
    parser.add_argument("--output", help="file that gets a line of JSON per figure")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no usable GPU here; give --device cpu")
    steps = min(given.steps, 3) if given.tiny else given.steps
    for figure in run(device, steps, given.tiny):
        shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in figure.items() if k != "tried"}
        print(
            ", ".join(f"{name} {value}" if name != "what" else str(value) for name, value in shown.items()), flush=True
        )
        if given.output:
            with open(given.output, "a", encoding="utf-8") as file:
                file.write(json.dumps(figure) + "\n")


if __name__ == "__main__":
    main()

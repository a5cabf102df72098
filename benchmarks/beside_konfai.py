"""From command to file beside KonfAI 1.8.7: the same network and head, whole processes in turn.

The head is the phantom's (seed 0), 176 x 256 x 256 voxels of 1 mm, int16 in a .nii.gz; the network is `ResnetGenerator`
16/6 with random weights, HU are written as int16 .nii.gz. Ours is ``mr_to_ct inference`` with all that it does beside
the network: body crop, checks, pictures, page, manifest.

KonfAI runs ``konfai PREDICTION`` on the CPU as configured in `prediction`: axial slices whole, without overlap, one per
batch (four were slower), no augmentation, channels last (``--plain``: as it comes, slower), normalised by two constants
that are ours, so that it need not measure the volume; the network is written in layers of PyTorch
(`training_step.plain_generator`) and decodes to HU. It neither crops nor checks nor draws. Its HU are compared.

KonfAI has an environment of its own: ``pip install "torch==2.13.0"``, then ``pip install konfai==1.8.7 SimpleITK``.
Without it nothing is measured, and that is said. Figures are medians over pairs, with the smallest and largest.
"""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from training_step import PlainBlock, _plain_norm, plain_generator

from medical_gans.io import Volume, read_volume, save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.phantom import Grid, head, simulate_mr
from medical_gans.transforms import body_mask, mr_reference_intensity
from medical_gans.transforms.intensity import MR_CEILING
from medical_gans.weights import WeightsCard, save_weights

WIDTH, BLOCKS = 16, 6

MODEL = """from __future__ import annotations

import torch
from torch import Tensor, nn

{parts}

class Generator(nn.Module):
    def __init__(self, width: int = {width}, blocks: int = {blocks}) -> None:
        super().__init__()
        self.layers = plain_generator(width, blocks, "none", "resize")

    def forward(self, image: Tensor) -> Tensor:
        unit = self.layers(image).float()
        hounsfield = -1024 + (unit.clamp(-1, -0.5) + 1) * 1648 + (unit.clamp(-0.5, 0.3) + 0.5) * 500
        return (hounsfield + (unit.clamp(0.3, 1) - 0.3) * (2200 / 0.7)).round()
"""


def model_source() -> str:
    """The network for KonfAI, which finds it in a file of its folder."""
    parts = "\n\n".join(inspect.getsource(part) for part in (PlainBlock, plain_generator, _plain_norm))
    return MODEL.format(parts=parts, width=WIDTH, blocks=BLOCKS)


def prediction(shape: Sequence[int], reference: float, amp: bool = False, channels_last: bool = True) -> dict[str, Any]:
    """What KonfAI is told.

    Args:
        shape: voxels of the MR along left-right, back-front, foot-head.
        reference: MR value that ours is normalised by.
        amp: bfloat16 by autocast.
        channels_last: layout of the features.
    """
    middle = [MR_CEILING * reference / 2]
    normalise = {
        "Standardize": {"lazy": False, "mean": middle, "std": middle, "mask": None, "inverse": False},
        "Clip": {"min_value": -1, "max_value": 1, "save_clip_min": False, "save_clip_max": False, "mask": None},
    }
    mr = {"transforms": normalise, "patch_transforms": None, "is_input": True}
    patch = {"patch_size": [1, shape[1], shape[0]], "overlap": None, "pad_value": -1, "extend_slice": 0}
    output = {
        "name_class": "OutputDataset",
        "before_reduction_transforms": None,
        "after_reduction_transforms": None,
        "final_transforms": {"TensorCast": {"dtype": "int16", "inverse": False}},
        "dataset_filename": "Dataset:nii.gz",
        "group": "sCT",
        "same_as_group": "MR:MR",
        "patch_combine": None,
        "inverse_transform": False,
        "reduction": "Mean",
        "Mean": {},
        "attributes": None,
    }
    network = {"width": WIDTH, "blocks": BLOCKS, "outputs_criterions": None, "patch": None, "dim": 2, "in_channels": 1}
    return {
        "Predictor": {
            "Model": {"classpath": "Model:Generator", "Generator": network},
            "Dataset": {
                "groups_src": {"MR": {"groups_dest": {"MR": mr}}},
                "augmentations": None,
                "Patch": patch,
                "subset": None,
                "dataset_filenames": ["./Dataset:a:nii.gz"],
                "batch_size": 1,
            },
            "outputs_dataset": {"Model": {"OutputDataset": output}},
            "train_name": "run",
            "manual_seed": 0,
            "gpu_checkpoints": None,
            "autocast": amp,
            "channels_last": channels_last,
            "combine": "Mean",
            "data_log": None,
        }
    }


def _with_words(value: Any) -> Any:
    """KonfAI reads the word None where YAML has null."""
    if isinstance(value, dict):
        return {key: _with_words(entry) for key, entry in value.items()}
    return "None" if value is None else value


def prepare(folder: Path, shape: tuple[int, int, int]) -> float:
    """Write MR, weights for both, and KonfAI's network; the reference intensity of the MR."""
    grid = Grid.axial(shape, 1.0)
    array = np.asfortranarray(np.rint(simulate_mr(head(0), grid)).astype(np.int16))
    (folder / "Dataset" / "head").mkdir(parents=True)
    mr = save_volume(folder / "Dataset" / "head" / "MR.nii.gz", array, grid.affine)
    torch.manual_seed(0)
    network = ResnetGenerator(width=WIDTH, blocks=BLOCKS)
    save_weights(folder / "ours.pt", network)
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": WIDTH, "blocks": BLOCKS}
    WeightsCard([None] * 3, network_def=network_def).save(folder / "ours.pt")
    plain = plain_generator(WIDTH, BLOCKS, "none", "resize")
    with torch.no_grad():
        for own, given in zip(plain.parameters(), network.parameters(), strict=True):
            own.copy_(given)
    # KonfAI's images have rows along the back-front axis, ours along left-right: so do the kernels.
    turned = {name: value.mT.contiguous() if value.ndim == 4 else value for name, value in plain.state_dict().items()}
    weights = {f"Model.layers.{name}": value for name, value in turned.items()}
    torch.save({"Model": {"Generator": weights}}, folder / "konfai.pt")
    (folder / "Model.py").write_text(model_source(), encoding="utf-8")
    volume = Volume(array, grid.affine, mr)
    return mr_reference_intensity(array, body_mask(array, volume.spacing))


LAUNCHER = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, used = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begin
print(json.dumps([status, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""A small process that starts the command: the peak memory of a child begins with that of its parent."""


def measured(words: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in MiB of a command.

    Raises:
        RuntimeError: it failed.
    """
    launched = subprocess.run([sys.executable, "-c", LAUNCHER, *words], cwd=folder, capture_output=True, text=True)
    status, *figures = json.loads(launched.stdout)
    if status:
        raise RuntimeError(f"{words[0]} failed:\n{launched.stderr[-2000:]}")
    seconds, processor, peak = figures
    return seconds, processor, peak


def our_command(folder: Path, amp: bool) -> list[str]:
    """``mr_to_ct inference`` into an empty folder."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    words = [
        sys.executable,
        "-m",
        "medical_gans",
        "mr_to_ct",
        "inference",
        "--device",
        "cpu",
        "--amp",
        str(amp).lower(),
    ]
    words += ["--dataset_dir", str(folder / "Dataset" / "head" / "MR.nii.gz"), "--weights", str(folder / "ours.pt")]
    return [*words, "--output_dir", str(folder / "out")]


def konfai_command(konfai: str) -> list[str]:
    """``konfai PREDICTION``, with all cores."""
    return [konfai, "PREDICTION", "-y", "-q", "--models", "konfai.pt", "-c", "Prediction.yml"]


def difference(folder: Path) -> float:
    """Mean difference in HU where ours is not air."""
    ours = read_volume(next((folder / "out").glob("*/synthetic_ct.nii.gz"))).array.astype(np.float32)
    theirs = read_volume(next((folder / "Predictions").rglob("sCT.nii.gz"))).array
    return float(np.abs(ours - theirs)[ours > ours.min()].mean())


def main() -> None:
    """Print both, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--konfai", default="konfai", help="its command, in an environment of its own")
    parser.add_argument("--shape", type=int, nargs=3, default=(176, 256, 256))
    parser.add_argument("--rounds", type=int, default=5, help="pairs that count, after one that does not")
    parser.add_argument("--amp", choices=("none", "ours", "both"), default="none", help="who computes in bfloat16")
    parser.add_argument("--plain", action="store_true", help="KonfAI without channels last")
    given = parser.parse_args()
    konfai = shutil.which(given.konfai)
    if konfai is None:
        print(f"skipped: there is no command {given.konfai}; KonfAI 1.8.7 needs an environment of its own (--help).")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = prepare(folder, tuple(given.shape))
        told = prediction(given.shape, reference, given.amp == "both", not given.plain)
        (folder / "Prediction.yml").write_text(yaml.safe_dump(_with_words(told), sort_keys=False), encoding="utf-8")
        pairs = []
        for number in range(given.rounds + 1):
            ours = measured(our_command(folder, given.amp != "none"), folder)
            theirs = measured(konfai_command(konfai), folder)
            if number or given.rounds == 0:
                pairs.append((ours, theirs))
        apart = difference(folder)
    table = np.array(pairs)  # pair, program, figure
    for row, program in enumerate(("medical-gans", "KonfAI")):
        print(f"{program:>14}: {', '.join(_spread(table[:, row, k], unit) for k, unit in enumerate(_UNITS))}")
    ratios = table[:, 0] / table[:, 1]
    print(f"{'ratio':>14}: {', '.join(_spread(ratios[:, k], unit, 2) for k, unit in enumerate(_UNITS))}")
    print(f"KonfAI takes {np.median(1 / ratios[:, 0]):.2f} times as long, {np.median(1 / ratios[:, 1]):.2f} times the")
    print(f"processor time; the HU are {apart:.2f} apart on average in the body; {torch.get_num_threads()} threads.")


_UNITS = ("s wall", "s processor", "MiB at most")


def _spread(values: np.ndarray, unit: str, digits: int = 1) -> str:
    low, middle, high = np.quantile(values, (0.0, 0.5, 1.0))
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()

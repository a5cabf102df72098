"""What painting costs: time of the painted views of a batch over that of the training step which they feed.

The CT is that of the phantom leg, painter and network are those of `mr_to_ct pretrain`; with ``--site head`` the CT is
that of a phantom head with the brain of another, painter and network are those of its overlay `painted_head`. With
``--picture FILE`` also a picture of slices of the leg: its CT, the MR that physics makes of it, and painted ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.data import default_collate

from medical_gans.data.head_painting import BrainContents
from medical_gans.data.head_views import HeadViews, head_views
from medical_gans.data.painted_views import PaintedViews, painted_views
from medical_gans.io import find_training_cases
from medical_gans.methods.painted import PaintedTranslation
from medical_gans.networks import BoneGenerator
from medical_gans.phantom import write_dataset
from medical_gans.training.player import Player
from medical_gans.transforms import CtTissues, Painter

CONFIGS = Path(__file__).parents[1] / "configs"
ADJACENT = 3


def settings(*overlays: str) -> dict[str, Any]:
    """The config of the stage, as it stands, and overlays after it."""
    contents = [CONFIGS / f"{name}.yaml" for name in ("mr_to_ct_pretrain", *overlays)]
    config: dict[str, Any] = {}
    for path in contents:
        config |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def arguments_of(component: dict[str, Any]) -> dict[str, Any]:
    """Of a component of the config, without what MONAI reads."""
    return {name: value for name, value in component.items() if not name.startswith("_")}


def views_of(folder: Path, config: dict[str, Any], crop: int, **changes: Any) -> PaintedViews:
    """Painted views of phantom legs."""
    cases = find_training_cases(folder, paired=False, validation_fraction=0, seed=0)
    painter, tissues = Painter(**arguments_of(config["painter"])), CtTissues(**arguments_of(config["tissues"]))
    options = {"crop_size": (crop, crop), "views_per_epoch": 1000, "adjacent": ADJACENT, **changes}
    return painted_views(cases, painter, tissues, cache_dir=folder / "cache", spacing=config["spacing"], **options)


def head_views_of(folder: Path, config: dict[str, Any]) -> HeadViews:
    """Painted views of a phantom head with the brain of another."""
    write_dataset(folder / "heads", "head", patients=1, layout="unpaired", seed=3)
    cases = find_training_cases(folder / "heads", paired=False, validation_fraction=0, seed=0)
    painter, tissues = Painter(**arguments_of(config["painter"])), CtTissues(**arguments_of(config["tissues"]))
    names = ("crop_size", "adjacent", "near_bone", "near_joint", "near_eyes", "bone_weight")
    options = {name: config[name] for name in names}
    contents = BrainContents(**arguments_of(config["contents"]))
    return head_views(cases, painter, tissues, contents, cache_dir=folder / "cache", views_per_epoch=1000, **options)


def method_of(config: dict[str, Any], adjacent: int) -> PaintedTranslation:
    """The method of the stage, with its network."""
    torch.manual_seed(0)
    layers = {**arguments_of(config["network_def"]), "in_channels": adjacent, "out_channels": adjacent}
    network = BoneGenerator(**layers)
    optimizer = partial(torch.optim.AdamW, lr=1e-3, fused=True)
    player = Player({"mr_to_ct": network}, optimizer, average=["mr_to_ct"], amp=True, amp_type="bfloat16", clip_norm=1)
    return PaintedTranslation(player)


def seconds(call: Any, count: int) -> float:
    """Processor time of a call, the best of `count`."""
    times = []
    for _ in range(count):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def picture(views: PaintedViews, mr: Path, file: Path) -> None:
    """A slice of CT, its simulated MR, and painted ones."""
    import matplotlib
    import nibabel

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    views.rotation = views.scaling = views.elastic = 0.0
    views.near_bone = 0.0
    stack = views.stacks[0]
    middle, size = len(stack) // 2, np.array(stack.shape[2:])
    views._place = lambda rng: (0, middle, size / 2.0)  # type: ignore[method-assign]
    scanned = np.asarray(nibabel.load(mr).dataobj)[:, :, middle]  # type: ignore[attr-defined]
    figure, axes = plt.subplots(2, 5, figsize=(12, 5.2))
    shown = [
        (stack[middle, 0].numpy() - 1024.0, "CT", (-300, 900)),
        (scanned, "MR by physics", (0, np.percentile(scanned, 99.5))),
    ]
    shown += [(views[i]["mr"][ADJACENT // 2].numpy(), "painted", (-1, 1)) for i in range(8)]
    for axis, (image, title, limits) in zip(axes.ravel(), shown, strict=True):
        axis.imshow(np.asarray(image, dtype=float).T, cmap="gray", origin="lower", vmin=limits[0], vmax=limits[1])
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)


def main() -> None:
    """Print what painting costs beside a training step, and draw painted slices where a picture is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", choices=("leg", "head"), default="leg")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.picture and options.site == "head":
        parser.error("--picture draws the leg; leave --site head out.")
    config = settings(*(["painted_head"] if options.site == "head" else []))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        views: PaintedViews | HeadViews
        if options.site == "head":
            views = head_views_of(folder, config)
        else:
            write_dataset(folder / "legs", "limb", patients=1, seed=3, spacing=(2.0, 2.0, 8.0))
            views = views_of(folder, config, config["crop_size"][0])
        numbers = iter(range(10**6))
        painting = seconds(lambda: [views[next(numbers)] for _ in range(options.batch_size)], options.rounds)
        batch = default_collate([views[i] for i in range(options.batch_size)])
        method = method_of(config, views.adjacent)
        step = seconds(lambda: method(batch), options.rounds)
        print(f"painting {1e3 * painting:.0f} ms, step {1e3 * step:.0f} ms, ratio {painting / step:.2f}")
        if options.picture:
            largest = max(views.stacks[0].shape[2:])
            whole = views_of(folder, config, int(np.ceil(largest / 4)) * 4, near_bone=0.0)
            picture(whole, next(folder.rglob("mr.nii.gz")), options.picture)


if __name__ == "__main__":
    main()

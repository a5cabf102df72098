"""Time to make training views of mr_to_ct: in batches over one by one by MONAI, and over the training step.

The views are those of ``configs/mr_to_ct_train.yaml``, cut from two volumes of noise. Processor time of one thread,
both ways in turn; the step is that of `training_step.py` with the default networks. With ``--device cuda`` views are
made on the GPU, and wall time is taken.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from training_step import DEFAULT, networks, our_step

from medical_gans.cli.config_files import configs_dir
from medical_gans.data.slices import PreparedVolume, TranslationViews


def volumes(folder: Path, kind: str) -> list[PreparedVolume]:
    """Two prepared volumes of noise."""
    made = []
    for number in range(2):
        path = folder / f"{kind}{number}.npy"
        shape = (192, 224, 40)
        np.save(path, np.random.default_rng(number).uniform(-1, 1, shape).astype(np.float32))
        box = tuple((8, n - 8) for n in shape)
        made.append(PreparedVolume(f"{kind}{number}", path, (1.0, 1.0, 3.0), np.arange(shape[2]), box))
    return made


def main() -> None:
    """Print how the two ways compare with each other and with a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if given.device == "cpu" else time.perf_counter
    config = ConfigParser(ConfigParser.load_config_file(str(configs_dir() / "mr_to_ct_train.yaml")))
    augmentation, crop = config.get_parsed_content("augmentation"), config.get_parsed_content("crop_size")
    with tempfile.TemporaryDirectory() as folder:
        both = (volumes(Path(folder), kind) for kind in ("mr", "ct"))
        views = TranslationViews(*both, crop_size=crop, views_per_epoch=10**6, augmentation=augmentation)
        views.device = torch.device(given.device)
        step = our_step(networks(**DEFAULT))  # type: ignore[arg-type]
        form, seconds = views.batched, []
        for number in range(given.rounds + 1):
            taken = []
            for way in (None, form):
                views.batched = way
                begin = clock()
                made = views.__getitems__(range(number * given.batch, (number + 1) * given.batch))
                if given.device != "cpu":
                    torch.cuda.synchronize()
                taken.append(clock() - begin)
            mr, ct = (torch.stack([view[side].cpu() for view in made]) for side in ("mr", "ct"))
            begin = clock()
            if given.device == "cpu" and number <= 5:
                step(mr, ct)
            taken.append(clock() - begin)
            seconds.append(taken)
    one_by_one, batched, _ = (1000 / given.batch * np.median(np.array(seconds[1:]), axis=0)).tolist()
    stepping = 1000 / given.batch * float(np.median([taken[2] for taken in seconds[1:6]]))
    print(f"a view, MR and CT: {one_by_one:.2f} ms one by one, {batched:.2f} ms in batches of {given.batch}")
    print(f"in batches {one_by_one / batched:.1f} times as fast")
    if given.device == "cpu":
        print(
            f"views over the step, default networks: {batched / stepping:.3f} (one by one {one_by_one / stepping:.3f})"
        )


if __name__ == "__main__":
    main()

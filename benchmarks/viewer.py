"""How long the page of a case takes to be written and, in headless Chromium, to be loaded.

    python benchmarks/viewer.py --folder /tmp/viewer --shape 256,256,180

A head of the phantom with the noise of its scanner, MR and CT on one grid, with the outline of the body; then the same
with a reference and a standard deviation. Loading is from the start of the navigation to the last volume drawn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from medical_gans.phantom import head, simulate_ct, simulate_mr
from medical_gans.report.viewer import GREY, MAP, ViewedImage, write_viewer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from browser import Browser, missing_browser


def main() -> None:
    """Print how long pages take to write (seconds, MB) and to load in a browser (seconds)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the pages")
    parser.add_argument("--shape", default="256,256,180", help="voxels")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    shape = tuple(int(edge) for edge in arguments.shape.split(","))
    mr, ct, body, affine = case(shape)
    reference = (ct + np.random.default_rng(1).normal(0, 30, shape)).astype(np.int16)
    deviation = np.abs(np.random.default_rng(2).normal(0, 20, shape)).astype(np.int16)
    two = [ViewedImage("MR", mr, GREY, ""), ViewedImage("synthetic CT", ct)]
    four = [*two, ViewedImage("reference CT", reference), ViewedImage("standard deviation", deviation, MAP)]
    print(f"{'x'.join(map(str, shape))} voxels; seconds to load: best and all of {arguments.repeats}")
    for name, images, differences in (("MR and CT", two, []), ("and reference and spread", four, [(1, 2)])):
        path = arguments.folder / f"{name.replace(' ', '_')}.html"
        begin, worked = time.perf_counter(), time.process_time()
        write_viewer(path, name, images, affine, differences=differences, structures=[("body", body)])
        written, worked = time.perf_counter() - begin, time.process_time() - worked
        size = path.stat().st_size / 1e6
        print(f"{name}: written in {written:.1f} s ({worked:.1f} s of a processor), {size:.1f} MB", end="; ")
        if missing_browser():
            print(missing_browser())
            continue
        seconds = sorted(loaded(path) for _ in range(arguments.repeats))
        print(f"loaded in {seconds[0]:.2f} s ({' '.join(f'{one:.2f}' for one in seconds)})", flush=True)


def case(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MR, CT in HU, body and affine of a phantom head that fills the grid."""
    phantom = head(3)
    spacing = tuple(float(edge) for edge in 230.0 / np.array(shape))
    grid = phantom.grid(spacing)
    mr, ct = simulate_mr(phantom, grid), simulate_ct(phantom, grid)
    arrays = [fitted(np.asarray(array), shape) for array in (mr, ct, phantom.body_mask(grid))]
    return np.rint(arrays[0]).astype(np.int16), np.rint(arrays[1]).astype(np.int16), arrays[2] > 0, grid.affine


def fitted(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cut or repeated at its ends to a shape."""
    for axis, edge in enumerate(shape):
        array = array.take(np.clip(np.arange(edge) + (array.shape[axis] - edge) // 2, 0, array.shape[axis] - 1), axis)
    return array


def loaded(path: Path) -> float:
    """Seconds until a new browser shows everything."""
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder) / "chromium")
        try:
            browser.open(path.resolve().as_uri())
            while not browser.run("return document.documentElement.dataset.loaded ?? null"):
                time.sleep(0.05)
            return float(browser.run("return document.documentElement.dataset.loaded")) / 1000
        finally:
            browser.close()


if __name__ == "__main__":
    main()

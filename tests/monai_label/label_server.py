"""Apps, studies and server processes to try MONAI Label on: copies, since it writes into both."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from dicom_images import dicom_slice

from medical_gans.io import save_volume
from medical_gans.io.nodules import save_patch
from medical_gans.weights import WeightsCard, build_network, save_weights

APP = Path(__file__).resolve().parents[2] / "bundle" / "monai_label"
CHANNELS = ["FLAIR"]
CLICK = [36, 32, 8]  # voxel of the CT
_PATIENCE = 1200  # s, for a machine that is busy with other things


def head(seed: int = 0) -> np.ndarray:
    mr = np.zeros((24, 28, 16), dtype=np.int16)
    mr[4:20, 4:24, 3:13] = np.random.default_rng(seed).integers(300, 900, (16, 20, 10))
    return mr


def lung() -> np.ndarray:
    ct = np.random.default_rng(1).normal(-850, 20, (72, 64, 16))
    ct[:6], ct[-6:] = 40, 40
    return ct.round().astype(np.int16)


def write_series(folder: Path, modality: str, array: np.ndarray, uid: str) -> None:
    """An axial series; the array runs along columns, rows, slices, and is stored as it is (CT: HU)."""
    folder.mkdir(parents=True)
    for number in range(array.shape[2]):
        pixels = array[:, :, number].T + (1024 if modality == "CT" else 0)
        image = dicom_slice(modality, pixels, (-30.0, -25.0, 3.0 * number), (1, 0, 0, 0, 1, 0), uid)
        image.SliceThickness, image.InstanceNumber = "3", str(number + 1)
        image.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)


def write_studies(folder: Path) -> Path:
    """Images for every model, NIfTI and DICOM, and a broken one."""
    folder.mkdir()
    grid = np.array([[1.9, 0.1, 0, -20], [-0.1, 1.9, 0.2, -30], [0, -0.2, 3, 5], [0, 0, 0, 1.0]])
    save_volume(folder / "mr.nii.gz", head(), grid)
    save_volume(folder / "lung.nii.gz", lung(), np.diag([-0.8, -0.8, 2.5, 1.0]))
    save_volume(folder / "other_lung.nii.gz", lung()[::-1], np.diag([0.8, 0.8, 2.5, 1.0]))
    write_series(folder / "mr_series", "MR", head(2), "1.2.3.10")
    write_series(folder / "lung_series.1", "CT", lung(), "1.2.3.11")
    patch = np.random.default_rng(3).normal(-800, 40, (56, 56))
    patch[24:32, 24:32] = 20
    save_patch(folder / "patch.nii.gz", patch, (0.7, 0.7))
    whole = (folder / "mr.nii.gz").read_bytes()
    (folder / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


def copy_app(folder: Path, lesion_weights: bool = True) -> Path:
    """The app, with a segmenter of random weights where wanted."""
    shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("model", "logs", "bin", "__pycache__"))
    if lesion_weights:
        write_segmenter(folder / "model")
    return folder


def write_segmenter(folder: Path) -> None:
    network_def = {
        "_target_": "monai.networks.nets.UNet",
        **{"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        **{"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "instance"},
    }
    torch.manual_seed(0)
    folder.mkdir()
    save_weights(folder / "brain_lesion.pt", build_network(network_def))
    card = WeightsCard([None] * 3, network_def=network_def, classes=["background", "lesion"], channels=CHANNELS)
    card.save(folder / "brain_lesion.pt")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass
class Answer:
    """What a server said."""

    status: int
    body: bytes

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


@contextmanager
def running_server(app: Path, studies: Path, *words: str) -> Iterator[str]:
    """A real server process on a free port of this machine; gives its address, and prints its log if it fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", app.parent / f"{app.name}.log"
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--host", "127.0.0.1", "--port", str(port), *words]
    settings = {"MONAI_LABEL_SESSION_PATH": str(app.parent / "sessions"), "NO_PROXY": "127.0.0.1"}
    with open(log, "w") as stream:
        server = subprocess.Popen(command, cwd=app.parent, stdout=stream, stderr=stream, env={**os.environ, **settings})
        try:
            _wait_for(address, server, log)
            yield address
        except BaseException:
            print(log.read_text()[-8000:])
            raise
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    import httpx

    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        assert server.poll() is None, f"the server ended with {server.returncode}: {log.read_text()[-3000:]}"
        try:
            if httpx.get(f"{address}/info/", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(1)
    raise AssertionError(f"the server did not start in {_PATIENCE} s")


def bundle_runs(runs: list[tuple[str, dict]], log: Path) -> None:
    """`monai.bundle.run` with each config and settings, in another process."""
    code = "import json, sys\nfrom monai.bundle import run\nfor config, settings in json.load(sys.stdin):\n"
    code += "    run(config_file=config, **settings)\n"
    with open(log, "w") as stream:
        given = json.dumps(runs)
        done = subprocess.run([sys.executable, "-c", code], input=given, text=True, stdout=stream, stderr=stream)
    assert done.returncode == 0, log.read_text()[-3000:]


def stored(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels as stored, and the affine."""
    image = nibabel.load(file)
    return np.asarray(image.dataobj), image.affine

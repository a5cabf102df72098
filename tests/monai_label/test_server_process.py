"""A real server process: every model over HTTP, NIfTI and DICOM, against `monai.bundle.run`; and a training."""

import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai_label.label_server import CLICK, bundle_runs, copy_app, head, running_server, stored, write_studies

from medical_gans.cli.config_files import configs_dir
from medical_gans.io import read_volume, save_volume

pytest.importorskip("monailabel", reason="MONAI Label is not installed: python bundle/monai_label/install.py")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

SMALL = {"roi_size": [16, 16, 16]}
CASES = {  # model, image -> settings of the request
    ("mr_to_ct", "mr"): {},
    ("mr_to_ct", "mr_series"): {},
    ("lung_nodule", "lung"): {"foreground": [CLICK]},
    ("lung_nodule", "lung_series.1"): {"foreground": [CLICK]},
    ("lung_anomaly", "lung"): {"foreground": [CLICK]},
    ("lung_anomaly", "lung_series.1"): {"foreground": [CLICK]},
    ("brain_lesion", "mr"): SMALL,
    ("brain_lesion", "mr_series"): SMALL,
}
RESULTS = {"mr_to_ct": "synthetic_ct", "lung_nodule": "ct", "lung_anomaly": "*", "brain_lesion": "lesions"}


def source_of(studies: Path, image: str) -> Path:
    return next(path for path in studies.iterdir() if path.name in (image, f"{image}.nii.gz"))


def run_of(model: str, image: str, app: Path, studies: Path, work: Path) -> tuple[str, dict]:
    """Config and settings that `monai.bundle run` would be given for the same."""
    source = source_of(studies, image)
    settings = {"dataset_dir": str(source), "output_dir": str(work / model / image), "device": "cpu"}
    stage = f"{model}_inference"
    point = [float(one) for one in (read_volume(source).affine @ [*CLICK, 1])[:3]]
    if model in ("mr_to_ct", "brain_lesion"):
        settings["write_dicom"] = False
    if model == "lung_nodule":
        stage, settings["position"] = "lung_nodule_place", point
    if model == "lung_anomaly":
        stage, settings["dataset_dir"] = "lung_nodule_anomaly", str(table_of(source, point, work / f"{image}_data"))
    if model == "brain_lesion":
        case = work / f"{image}.json"
        case.write_text(json.dumps({"inference": [{"image": [str(source)]}]}))
        weights = str(app / "model" / "brain_lesion.pt")
        settings |= {**SMALL, "dataset_dir": str(case), "weights": weights, "channels": ["FLAIR"]}
    return str(configs_dir() / f"{stage}.yaml"), settings


def table_of(source: Path, point: list[float], data: Path) -> Path:
    (data / "images").mkdir(parents=True)
    for file in [source] if source.is_file() else sorted(source.iterdir()):
        (data / "images" / file.name).symlink_to(file)
    name = "lung" if source.is_file() else "1.2.3.11"
    row = f"{name},{-point[0]},{-point[1]},{point[2]}"
    (data / "annotations.csv").write_text(f"seriesuid,coordX,coordY,coordZ\n{row}\n")
    return data


def test_every_model_answers_over_http_with_the_voxels_of_monai_bundle_run(tmp_path):
    import httpx

    app, studies = copy_app(tmp_path / "app"), write_studies(tmp_path / "studies")
    bundle_runs([run_of(*case, app, studies, tmp_path / "runs") for case in CASES], tmp_path / "runs.log")
    with running_server(app, studies) as address, httpx.Client(base_url=address, timeout=1200) as client:
        info = client.get("/info/").json()
        assert set(info["models"]) == {model for model, _ in CASES}
        for (model, image), settings in CASES.items():
            form = {"params": json.dumps({"device": "cpu", **settings})}
            said = client.post(f"/infer/{model}", params={"image": image, "output": "image"}, data=form)
            assert said.status_code == 200, said.text
            (tmp_path / "answer.nii.gz").write_bytes(said.content)
            made, affine = stored(tmp_path / "answer.nii.gz")
            (file,) = (tmp_path / "runs" / model / image).rglob(f"{RESULTS[model]}.nii.gz")
            expected, grid = stored(file)
            assert made.dtype == expected.dtype and np.array_equal(made, expected), (model, image)
            assert model == "lung_anomaly" or np.array_equal(affine, grid)
        refused = client.post("/infer/mr_to_ct", params={"image": "broken"})
        assert refused.status_code == 422 and "damaged" in refused.json()["detail"]
        assert client.get("/info/").status_code == 200


def test_a_training_in_the_background_learns_from_a_saved_label(tmp_path):
    import httpx

    app, studies = copy_app(tmp_path / "app", lesion_weights=False), tmp_path / "studies"
    studies.mkdir()
    image = save_volume(studies / "flair.nii.gz", head(), np.diag([2.0, 2, 3, 1]))
    label = save_volume(tmp_path / "label.nii.gz", (head() > 600).astype(np.uint8), nibabel.load(image).affine)
    settings = {"max_epochs": 1, "views_per_epoch": 2, "batch_size": 1, "patch_size": [16, 16, 16], "device": "cpu"}
    with running_server(app, studies) as address, httpx.Client(base_url=address, timeout=1200) as client:
        with label.open("rb") as stream:
            client.put("/datastore/label", params={"image": "flair"}, files={"label": ("flair.nii.gz", stream)})
        started = client.post("/train/brain_lesion", json=settings)
        assert started.status_code == 200, started.text
        for _ in range(600):
            task = client.get("/train/").json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                break
            time.sleep(1)
        assert task["status"] == "DONE", task["details"]
        assert (app / "model" / "brain_lesion.pt").is_file()
        said = client.post("/infer/brain_lesion", params={"image": "flair", "output": "image"})
        assert said.status_code == 200, said.text
        (tmp_path / "lesions.nii.gz").write_bytes(said.content)
        assert stored(tmp_path / "lesions.nii.gz")[0].shape == head().shape

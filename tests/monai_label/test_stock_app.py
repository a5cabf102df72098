"""MONAI Label's own app `monaibundle` serves the assembled bundles, offline, with the voxels of `monai.bundle.run`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from monai_label.label_server import bundle_runs, head, running_server, stored

from medical_gans.io import save_volume

pytest.importorskip("monailabel", reason="MONAI Label is not installed: python bundle/monai_label/install.py")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

ROOT = Path(__file__).resolve().parents[2]
STOCK = Path(sys.prefix, "monailabel", "sample-apps", "monaibundle")
OBLIQUE = np.array([[1.2, -1.6, 0, -20], [1.6, 1.2, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1.0]])  # MONAI Label loses shears
RESULTS = {"mr_to_ct_synthesis": "synthetic_ct", "brain_lesion_segmentation": "lesions"}
WEIGHTS = {"mr_to_ct_synthesis": "mr_to_ct_head.pt", "brain_lesion_segmentation": "brain_lesion.pt"}


@pytest.mark.parametrize("name", RESULTS)
def test_the_stock_app_serves_an_assembled_bundle(name, tmp_path):
    import httpx

    if not (ROOT / "models" / WEIGHTS[name]).is_file():
        pytest.skip(f"models/{WEIGHTS[name]} is missing")
    app, studies = tmp_path / "app", tmp_path / "studies"
    shutil.copytree(STOCK, app, ignore=shutil.ignore_patterns("model", "__pycache__"))
    (app / "model").mkdir()
    command = [sys.executable, str(ROOT / "bundle" / "assemble.py"), "--output_dir", str(app / "model")]
    subprocess.run([*command, "--bundle", name], check=True)
    bundle = app / "model" / name
    sequence = "FLAIR" if name == "brain_lesion_segmentation" else "T1c"
    case = studies / f"{sequence}.nii.gz"
    studies.mkdir()
    save_volume(case, head(), OBLIQUE)
    settings = {"dataset_dir": str(studies), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    bundle_runs([(str(bundle / "configs" / "inference.json"), settings)], tmp_path / "run.log")
    words = [
        word for pair in (("models", name), ("zoo_source", "local"), ("sam2", "false")) for word in ("--conf", *pair)
    ]
    with running_server(app, studies, *words) as address, httpx.Client(base_url=address, timeout=1200) as client:
        info = client.get("/info/").json()["models"][name]
        assert info["config"]["model_filename"] == ["model.pt"] and len(info["description"]) > 40
        form = {"params": json.dumps({"device": "cpu", "result_dtype": "int16", "result_extension": ".nii.gz"})}
        said = client.post(f"/infer/{name}", params={"image": sequence, "output": "image"}, data=form)
        assert said.status_code == 200, said.text
    (tmp_path / "answer.nii.gz").write_bytes(said.content)
    made, affine = stored(tmp_path / "answer.nii.gz")
    (file,) = (tmp_path / "run").rglob(f"{RESULTS[name]}.nii.gz")
    expected, grid = stored(file)
    assert made.dtype == np.int16 and np.array_equal(made, expected)
    assert np.allclose(affine, grid, atol=1e-4)

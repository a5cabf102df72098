"""Promises of the bundles: plain MONAI bundles that work alone, wherever they lie and wherever they are run from."""

import ast
import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bundle_processes import REPOSITORY, run
from bundle_recipes import RECIPES

pytestmark = pytest.mark.slow

FILES = [
    "LICENSE",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/multi_gpu_train.json",
    "configs/train.json",
    "docs/README.md",
    "docs/data_license.txt",
    "medical_gans/__init__.py",
    "models/model.json",
    "models/model.pt",
    "models/model.ts",
]
_FUNCTIONS = ast.parse(Path(__file__).with_name("foreign_process.py").read_text()).body
CHECKS = next(
    [name.id for name in statement.value.elts]
    for statement in _FUNCTIONS
    if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "CHECKS"
)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("check", CHECKS)
def test_from_another_folder_without_this_repository(seen_from_afar, name, check):
    problem = seen_from_afar(name)[check]
    if problem and problem.startswith("skip: "):
        pytest.skip(problem.removeprefix("skip: "))
    assert problem is None, problem


@pytest.mark.parametrize("name", RECIPES)
def test_a_bundle_is_complete(assembled, name):
    folder = assembled(name)
    assert [file for file in FILES if not (folder / file).is_file()] == []
    assert [path.name for path in (folder / "models").glob("*.pt")] == ["model.pt"], "MONAI Label offers each"
    assert [path for path in folder.rglob("*") if path.name == "__pycache__" or path.is_symlink()] == []


@pytest.mark.parametrize("name", RECIPES)
def test_metadata_have_what_the_schema_requires(assembled, name):
    metadata = json.loads((assembled(name) / "configs/metadata.json").read_text())
    texts = ["version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"]
    texts += ["copyright", "intended_use", "data_source", "data_type", "name"]
    assert [key for key in texts if not isinstance(metadata.get(key), str) or not metadata[key]] == []
    assert metadata["schema"].endswith("meta_schema_20240725.json")
    assert metadata["version"] in metadata["changelog"]
    assert "esearch" in metadata["intended_use"]
    assert isinstance(metadata["required_packages_version"], dict)
    assert isinstance(metadata["supported_apps"], dict)
    formats = metadata["network_data_format"]
    assert next(iter(formats["inputs"])) == "image" and next(iter(formats["outputs"])) == "pred"
    for tensor in (*formats["inputs"].values(), *formats["outputs"].values()):
        for key, kind in _OF_A_TENSOR.items():
            assert isinstance(tensor[key], kind), key
        assert all(0 <= int(channel) < tensor["num_channels"] for channel in tensor["channel_def"])


_OF_A_TENSOR = {
    "type": str,
    "format": str,
    "modality": str,
    "num_channels": int,
    "spatial_shape": list,
    "dtype": str,
    "value_range": list,
    "is_patch_data": bool,
    "channel_def": dict,
}


@pytest.mark.parametrize("name", RECIPES)
def test_measured_figures_come_from_the_cards(assembled, name):
    metadata = json.loads((assembled(name) / "configs/metadata.json").read_text())
    for card, tables in metadata["eval_metrics"].items():
        text = (REPOSITORY / "docs/models" / f"{card}.md").read_text()
        for figures in tables.values():
            assert figures and all(f"{figure}" in text.replace("**", "") for figure in figures.values())


def test_torchscript_needs_torch_alone(assembled):
    files, shapes = [], []
    for name in RECIPES:
        try:
            folder = assembled(name)
        except pytest.skip.Exception:
            continue
        image = json.loads((folder / "configs/metadata.json").read_text())["network_data_format"]["inputs"]["image"]
        files.append(str(folder / "models/model.ts"))
        shapes.append([1, image["num_channels"], *[16 for _ in image["spatial_shape"]]])
    code = (
        "import sys, torch\n"
        f"for file, shape in zip({files}, {shapes}):\n"
        "    made = torch.jit.load(file)(torch.rand(shape))\n"
        "    assert made.isfinite().all() and made.std() > 0\n"
        "known = sorted({name.partition('.')[0] for name in sys.modules} & {'monai', 'medical_gans', 'ignite'})\n"
        "assert not known, known\n"
    )
    done = run(["-c", code], Path("/"))
    assert done.returncode == 0, done.stderr


def test_the_same_source_gives_the_same_bytes(assembled, tmp_path):
    first = assembled("lung_nodule_generation")
    words = ["--output_dir", tmp_path, "--bundle", first.name, "--zip"]
    done = run([REPOSITORY / "bundle/assemble.py", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    second = tmp_path / first.name
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert [str(name) for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []
    (archive,) = tmp_path.glob("*.zip")
    assert archive.read_bytes() == (first.parent / archive.name).read_bytes()
    assert zipfile.ZipFile(archive).testzip() is None


def test_synthetic_ct_of_the_command_equals_that_of_the_pipelines(seen_from_afar, assembled, shared_folder, tmp_path):
    """What ``monai.bundle run`` writes, and what MONAI Label would make of the same MR, voxel by voxel."""
    name = "mr_to_ct_synthesis"
    assert seen_from_afar(name)["inference_runs"] is None
    written = nibabel.load(next((shared_folder / "output" / name / "inference").rglob("synthetic_ct.nii.gz")))
    mr = next((shared_folder / "data" / name / "inference").glob("*.nii.gz"))
    made = served(assembled(name), mr, tmp_path)
    np.testing.assert_array_equal(made["pred"][0], np.asarray(written.dataobj))
    assert made["pred"].dtype == np.int16
    np.testing.assert_allclose(made["affine"], written.affine, atol=1e-5)


def test_lesions_of_the_command_equal_those_of_the_pipelines(seen_from_afar, assembled, shared_folder, tmp_path):
    name = "brain_lesion_segmentation"
    assert seen_from_afar(name)["inference_runs"] is None
    written = nibabel.load(next((shared_folder / "output" / name / "inference").rglob("lesion*.nii.gz")))
    case = shared_folder / "data" / name / "inference" / "case0"
    made = served(assembled(name), case, tmp_path)
    np.testing.assert_array_equal(made["pred"][0], np.asarray(written.dataobj))
    np.testing.assert_allclose(made["affine"], written.affine, atol=1e-5)


def served(bundle: Path, image: Path, folder: Path) -> dict[str, np.ndarray]:
    """What MONAI Label's app for bundles makes of an image."""
    done = run([Path(__file__).with_name("served_process.py"), bundle, image, folder / "served.npz"], folder)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "served.npz"))

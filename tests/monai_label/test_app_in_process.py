"""The MONAI Label app without a socket: what it offers, returns, stores and refuses."""

import functools
import gzip
import io
import json
import struct
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
from monai_label.label_server import CLICK, Answer, files_below, head, write_segmenter

from medical_gans.cli.config_files import configs_dir
from medical_gans.io import read_volume

pytest.importorskip("monailabel", reason="MONAI Label is not installed: python bundle/monai_label/install.py")

MODELS = {"brain_lesion", "mr_to_ct", "lung_nodule", "lung_anomaly"}
CHOICES = {"device": "cpu"}


@pytest.fixture(scope="session")
def client(label_app, label_studies, tmp_path_factory):
    from fastapi.testclient import TestClient
    from monailabel.config import settings

    settings.MONAI_LABEL_APP_DIR = str(label_app)
    settings.MONAI_LABEL_STUDIES = str(label_studies)
    settings.MONAI_LABEL_SESSION_PATH = str(tmp_path_factory.mktemp("sessions"))
    settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
    from monailabel.app import app

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def infer(client):
    """Post a request for a model."""

    def post(model: str, image: str = "", file: bytes | None = None, name: str = "upload.nii.gz", **params) -> Answer:
        files = {"file": (name, file)} if file is not None else None
        form = {"params": json.dumps({**CHOICES, **params})}
        said = client.post(f"/infer/{model}", params={"image": image, "output": "image"}, data=form, files=files)
        return Answer(said.status_code, said.content)

    return post


@pytest.fixture(scope="session")
def plain(infer):
    """The answer to a request without settings, asked for once."""
    return functools.cache(lambda model, image: infer(model, image))


@pytest.fixture(scope="session")
def clicked(infer):
    """The answer to a click into a CT, asked for once."""
    return functools.cache(lambda model, image: infer(model, image, foreground=[CLICK]))


def volume(answer: Answer, tmp_path) -> tuple[np.ndarray, np.ndarray]:
    """Stored values and affine of an answer; read as a client would."""
    assert answer.status == 200, answer.body[:500]
    (tmp_path / "answer.nii.gz").write_bytes(answer.body)
    image = nibabel.load(tmp_path / "answer.nii.gz")
    return np.asarray(image.dataobj), image.affine


def by_bundle_run(tmp_path, stage: str, **settings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every NIfTI that MONAI's own ``run`` writes."""
    from monai.bundle import run

    config = configs_dir() / f"{stage}.yaml"
    run(config_file=str(config), output_dir=str(tmp_path / "out"), device="cpu", **settings)
    found = {path.name: nibabel.load(path) for path in (tmp_path / "out").rglob("*.nii.gz")}
    return {name: (np.asarray(image.dataobj), image.affine) for name, image in found.items()}


def test_info_tells_people_what_each_model_does_and_which_options_it_has(client):
    info = client.get("/info/").json()
    assert info["name"] == "medical-gans"
    assert set(info["models"]) == MODELS and set(info["trainers"]) == {"brain_lesion"}
    for model in [*info["models"].values(), *info["trainers"].values()]:
        assert len(model["description"]) > 40
        assert set(model["options"]) == set(model["config"])
        assert all(model["options"].values())
    assert info["models"]["mr_to_ct"]["config"]["site"] == ["head", "thigh"]
    assert info["models"]["brain_lesion"]["labels"] == {"lesion": 1}


def test_viewers_are_offered_only_what_they_show_right(client):
    kinds = {name: model["type"] for name, model in client.get("/info/").json()["models"].items()}
    assert kinds == {
        "brain_lesion": "segmentation",
        "lung_nodule": "deepgrow",
        "mr_to_ct": "others",
        "lung_anomaly": "others",
    }


def test_dicom_series_in_the_studies_are_images_by_their_folders_names(client):
    listed = set(client.get("/datastore/", params={"output": "all"}).json()["objects"])
    assert {"mr_series", "lung_series.1", "mr", "lung"} <= listed
    assert "labels" not in listed


@pytest.mark.parametrize("image", ["mr", "mr_series"])
def test_synthetic_ct_equals_that_of_monai_bundle_run(image, plain, label_studies, tmp_path):
    made, affine = volume(plain("mr_to_ct", image), tmp_path)
    source = next(path for path in label_studies.iterdir() if path.name.split(".")[0] == image)
    expected = by_bundle_run(tmp_path, "mr_to_ct_inference", dataset_dir=str(source), write_dicom=False)
    assert made.dtype == np.int16
    assert np.array_equal(made, expected["synthetic_ct.nii.gz"][0])
    assert np.array_equal(affine, expected["synthetic_ct.nii.gz"][1])
    assert made.min() >= -1024 and made.max() > 0


def test_options_reach_the_model(infer, plain, tmp_path):
    head_ct, _ = volume(plain("mr_to_ct", "mr"), tmp_path)
    other, _ = volume(infer("mr_to_ct", "mr", flips=True, site="thigh"), tmp_path)
    assert not np.array_equal(head_ct, other)


def test_an_uploaded_file_is_translated_as_the_stored_one(infer, plain, label_studies, tmp_path):
    stored, _ = volume(plain("mr_to_ct", "mr"), tmp_path)
    posted, _ = volume(infer("mr_to_ct", file=(label_studies / "mr.nii.gz").read_bytes()), tmp_path)
    assert np.array_equal(stored, posted)


def test_hounsfield_units_stay_int16_when_a_client_asks_for_nrrd_and_uint8(infer, plain, tmp_path):
    nifti, affine = volume(plain("mr_to_ct", "mr"), tmp_path)
    answer = infer("mr_to_ct", "mr", result_extension=".nrrd", result_dtype="uint8")
    (tmp_path / "answer.nrrd").write_bytes(answer.body)
    nrrd = read_volume(tmp_path / "answer.nrrd")
    assert nrrd.array.dtype == np.int16 and np.array_equal(nrrd.array, nifti)
    assert np.allclose(nrrd.affine, affine, atol=1e-4)


def test_a_synthetic_ct_is_stored_beside_the_study_under_its_tag(client, infer, label_studies, tmp_path):
    sent, _ = volume(infer("mr_to_ct", "mr_series", save_label="true"), tmp_path)
    stored = client.get("/datastore/label", params={"label": "mr_series", "tag": "synthetic_ct"})
    kept, _ = volume(Answer(stored.status_code, stored.content), tmp_path)
    assert np.array_equal(kept, sent) and kept.dtype == np.int16
    assert (label_studies / "labels" / "synthetic_ct" / "mr_series.nii.gz").is_file()


@pytest.mark.parametrize("image", ["lung", "lung_series.1"])
def test_a_nodule_is_placed_at_the_clicked_voxel_as_by_monai_bundle_run(image, infer, clicked, label_studies, tmp_path):
    source = next(path for path in label_studies.iterdir() if path.name.startswith(image))
    position = [float(one) for one in (read_volume(source).affine @ [*CLICK, 1])[:3]]
    expected = by_bundle_run(tmp_path, "lung_nodule_place", dataset_dir=str(source), position=position)
    made, affine = volume(clicked("lung_nodule", image), tmp_path)
    assert made.dtype == np.int16 and np.array_equal(made, expected["ct.nii.gz"][0])
    assert np.array_equal(affine, expected["ct.nii.gz"][1])
    mask, _ = volume(infer("lung_nodule", image, foreground=[CLICK], result="mask"), tmp_path)
    assert np.array_equal(mask, expected["mask.nii.gz"][0])
    assert mask[tuple(CLICK)] == 1 and mask.sum() < 0.1 * mask.size


def test_a_viewer_gets_the_mask_of_the_nodule_whatever_it_leaves_in_the_options(infer, tmp_path):
    sent = {"foreground": [CLICK], "background": [], "label": "nodule", "result_extension": ".nrrd"}
    answer = infer("lung_nodule", "lung", **sent, result_dtype="uint8", result=["ct", "mask", "nodule"])
    (tmp_path / "answer.nrrd").write_bytes(answer.body)
    mask = read_volume(tmp_path / "answer.nrrd").array
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}


def test_a_position_in_lps_is_the_clicked_point(infer, clicked, label_studies, tmp_path):
    x, y, z = (float(one) for one in (read_volume(label_studies / "lung.nii.gz").affine @ [*CLICK, 1])[:3])
    by_click = volume(clicked("lung_nodule", "lung"), tmp_path)[0]
    by_position = volume(infer("lung_nodule", "lung", position=[-x, -y, z], convention="LPS"), tmp_path)[0]
    assert np.array_equal(by_click, by_position)


def test_the_anomaly_map_of_a_patch_equals_that_of_monai_bundle_run(plain, label_studies, tmp_path):
    made, affine = volume(plain("lung_anomaly", "patch"), tmp_path)
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "patch.nii.gz").symlink_to(label_studies / "patch.nii.gz")
    expected = by_bundle_run(tmp_path, "lung_nodule_anomaly", dataset_dir=str(tmp_path / "patches"))
    assert np.array_equal(made, expected["patch.nii.gz"][0])
    assert np.array_equal(affine, expected["patch.nii.gz"][1])


@pytest.mark.parametrize("image", ["lung", "lung_series.1"])
def test_the_anomaly_map_of_a_point_has_the_values_of_monai_bundle_run_and_lies_at_the_point(
    image, clicked, label_studies, tmp_path
):
    source = next(path for path in label_studies.iterdir() if path.name.startswith(image))
    made, affine = volume(clicked("lung_anomaly", image), tmp_path)
    point = (read_volume(source).affine @ [*CLICK, 1])[:3]
    data = tmp_path / "data"
    data.mkdir()
    (data / "images").mkdir()
    for file in [source] if source.is_file() else sorted(source.iterdir()):
        (data / "images" / file.name).symlink_to(file)
    name = "lung" if source.is_file() else "1.2.3.11"
    row = ",".join(map(str, [name, -point[0], -point[1], point[2]]))
    (data / "annotations.csv").write_text(f"seriesuid,coordX,coordY,coordZ\n{row}\n")
    (expected,) = by_bundle_run(tmp_path, "lung_nodule_anomaly", dataset_dir=str(data)).values()
    assert np.array_equal(made, expected[0])
    centre = affine @ [*(np.array(made.shape) - 1) / 2, 1]
    assert np.allclose(centre[:3], point, atol=1e-3)


def test_scores_come_with_the_anomaly_map(client):
    form = {"params": json.dumps(CHOICES)}
    said = client.post("/infer/lung_anomaly", params={"image": "patch", "output": "json"}, data=form)
    scores = said.json()["scores"]
    assert scores["blob"] > 0 and 0 <= scores["percentile"] <= 1


@pytest.mark.parametrize("image", ["mr", "mr_series"])
def test_lesions_equal_those_of_monai_bundle_run(image, infer, label_app, label_studies, tmp_path):
    made, affine = volume(infer("brain_lesion", image, roi_size=[16, 16, 16]), tmp_path)
    source = next(path for path in label_studies.iterdir() if path.name.split(".")[0] == image)
    (tmp_path / "case.json").write_text(json.dumps({"inference": [{"image": [str(source)]}]}))
    expected = by_bundle_run(
        tmp_path,
        "brain_lesion_inference",
        dataset_dir=str(tmp_path / "case.json"),
        weights=str(label_app / "model" / "brain_lesion.pt"),
        channels=["FLAIR"],
        roi_size=[16, 16, 16],
        write_dicom=False,
    )
    assert made.dtype == np.uint8
    assert np.array_equal(made, expected["lesions.nii.gz"][0])
    assert np.array_equal(affine, expected["lesions.nii.gz"][1])


def test_training_learns_from_final_labels_and_inference_takes_the_new_weights(
    client, infer, label_app, label_studies, tmp_path
):
    before, _ = volume(infer("brain_lesion", "mr", roi_size=[16, 16, 16]), tmp_path)
    nothing = client.post("/train/brain_lesion", params={"run_sync": True}, json={})
    assert nothing.status_code == 422 and "final label" in nothing.json()["detail"]
    label = nibabel.Nifti1Image((head() > 600).astype(np.uint8), nibabel.load(label_studies / "mr.nii.gz").affine)
    stream = io.BytesIO(label.to_bytes())
    saved = client.put("/datastore/label", params={"image": "mr"}, files={"label": ("label.nii", stream.getvalue())})
    assert saved.status_code == 200
    try:
        settings = {"max_epochs": 1, "views_per_epoch": 2, "batch_size": 1, "patch_size": [16, 16, 8], "device": "cpu"}
        told = client.post("/train/brain_lesion", params={"run_sync": True}, json=settings)
        assert told.status_code == 200 and told.json()["cases"] == 1
        assert client.get("/info/").json()["train_stats"]["brain_lesion"]["cases"] == 1
        after, _ = volume(infer("brain_lesion", "mr", roi_size=[16, 16, 16]), tmp_path)
        assert not np.array_equal(before, after)
    finally:
        client.delete("/datastore/label", params={"id": "mr", "tag": "final"})
        for file in (label_app / "model").iterdir():
            file.unlink()
        (label_app / "model").rmdir()
        write_segmenter(label_app / "model")


BAD = {
    "no such image": ("mr_to_ct", "nobody", {}, 404, "no image 'nobody'"),
    "no such model": ("mr_to_pet", "mr", {}, 404, "mr_to_ct"),
    "broken file": ("mr_to_ct", "broken", {}, 422, "damaged"),
    "CT in place of MR": ("mr_to_ct", "lung_series.1", {}, 422, "MR is needed"),
    "MR in place of CT": ("lung_nodule", "mr_series", {"foreground": [[5, 5, 5]]}, 422, "CT is needed"),
    "no point": ("lung_nodule", "lung", {}, 422, "Click one"),
    "point outside": ("lung_nodule", "lung", {"position": [900, 0, 0]}, 422, "outside the CT"),
    "no numbers": ("lung_nodule", "lung", {"foreground": [["a", 1, 2]]}, 422, "three numbers"),
    "MR as a patch": ("lung_anomaly", "mr", {}, 422, "no patch in HU"),
    "CT in place of an MR with lesions": ("brain_lesion", "lung_series.1", {}, 422, "MR is needed"),
    "misspelt setting": ("mr_to_ct", "mr", {"flip": True}, 422, "flips"),
    "value of a wrong kind": ("mr_to_ct", "mr", {"flips": "perhaps"}, 422, "true or false"),
    "code in place of a value": ("mr_to_ct", "mr", {"site": "$__import__('os').getcwd()"}, 422, "must not begin"),
    "reference in a list": ("mr_to_ct", "mr", {"planes": ["@bundle_root", "axial"]}, 422, "must not begin"),
    "a place of its own": ("mr_to_ct", "mr", {"output_dir": "/tmp"}, 422, "set by the server"),
    "format nobody knows": ("mr_to_ct", "mr", {"result_extension": ".jpg"}, 422, ".nii.gz"),
}


@pytest.mark.parametrize("model, image, params, status, words", BAD.values(), ids=BAD.keys())
def test_bad_requests_are_told_why_and_leave_the_studies_alone(
    model, image, params, status, words, infer, client, label_studies
):
    before = files_below(label_studies)
    answer = infer(model, image, **params, save_label=True)
    assert answer.status == status
    assert words in answer.detail and "Traceback" not in answer.detail
    assert files_below(label_studies) == before
    assert client.get("/info/").status_code == 200


def test_a_broken_upload_is_refused(infer):
    refused = infer("mr_to_ct", file=b"no image at all")
    assert refused.status == 422 and "cannot be read" in refused.detail


def put(at: int, kind: str, *values):
    """Numbers in place of those of a NIfTI header."""
    return lambda content: content[:at] + struct.pack(f"<{kind}", *values) + content[at + struct.calcsize(kind) :]


ODD = {
    "voxels said to begin in the header": (put(108, "f", 0.0), None),
    "no number as intercept": (put(116, "f", float("nan")), None),
    "no unit of length": (put(123, "b", 0), None),
    "a spacing of 0 beside the sform": (put(80, "3f", 0, 0, 0), None),
    "sform and qform that contradict each other": (put(256, "3f", 0, 0, 1), None),
    "neither sform nor qform": (put(252, "2h", 0, 0), "left and right are unknown"),
    "two volumes": (put(40, "5h", 4, 40, 36, 3, 4), 'select "volume 1"'),
    "cut off": (lambda content: content[:-50], "truncated"),
}


@pytest.mark.parametrize("change, words", ODD.values(), ids=ODD)
def test_an_odd_header_is_read_as_by_the_command_or_refused_in_a_sentence(
    change, words, infer, plain, label_studies, tmp_path
):
    before = files_below(label_studies)
    content = gzip.decompress((label_studies / "mr.nii.gz").read_bytes())
    answer = infer("mr_to_ct", file=gzip.compress(change(content)))
    if words is None:
        made, affine = volume(answer, tmp_path)
        expected, there = volume(plain("mr_to_ct", "mr"), tmp_path)
        assert np.array_equal(made, expected) and np.allclose(affine, there)
    else:
        assert answer.status == 422 and words in answer.detail and "Traceback" not in answer.detail
    assert files_below(label_studies) == before


@pytest.mark.parametrize("model, name", [("mr_to_ct", "mr_to_ct_head.pt"), ("brain_lesion", "brain_lesion.pt")])
def test_a_model_without_weights_says_what_to_do(model, name, infer, client, label_studies, monkeypatch, tmp_path):
    from monailabel.interfaces.utils.app import app_instance

    task = app_instance()._infers[model]
    monkeypatch.setattr(task, "model_dir", tmp_path)
    monkeypatch.setitem(type(task).run.__globals__, "models_dir", lambda: tmp_path)
    before = files_below(label_studies)
    answer = infer(model, "mr")
    assert answer.status == 503
    assert name in answer.detail and "Train it, or put" in answer.detail
    assert client.get("/info/").json()["models"][model]["description"].startswith("No weights yet.")
    assert files_below(label_studies) == before


def test_two_requests_at_once_get_each_its_own_answer(infer, plain, tmp_path):
    alone = [plain("mr_to_ct", image) for image in ("mr", "mr_series")]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda image: infer("mr_to_ct", image), ("mr", "mr_series")))
    for number, answer in enumerate(together):
        (tmp_path / str(number)).mkdir()
        first = volume(alone[number], tmp_path / str(number))[0]
        assert np.array_equal(first, volume(answer, tmp_path / str(number))[0])

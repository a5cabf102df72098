"""A cohort of MR sequences in, label maps on their own grids out: whole or not at all, and everything said plainly."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from dicom_images import dicom_slice
from monai.inferers import SlidingWindowInferer
from monai.transforms import GaussianSmoothd
from torch import nn

from medical_gans.cli import command as cli
from medical_gans.errors import InputError, SettingError, UserError
from medical_gans.inference.lesions import (
    LesionDicom,
    LesionEvaluator,
    LesionSegmentation,
    TrainedSegmenter,
    load_segmenter,
)
from medical_gans.inference.lesions import pictures as lesion_pictures
from medical_gans.io import read_volume, save_volume
from medical_gans.io.dicom.masks import read_dicom_structure
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.transforms.sequence_volume import usual_preprocessing
from medical_gans.weights import WeightsCard, build_network, save_weights

SHAPE = (24, 28, 16)
OBLIQUE = np.array([[0.3, 0, 2.9, -20], [1.9, 0.1, -0.4, -30], [0.1, -2.4, 0.1, 60], [0, 0, 0, 1]])
NETWORK = {
    "_target_": "monai.networks.nets.UNet",
    **{"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    **{"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "instance"},
}


class Bright(nn.Module):
    """Lesion where the first channel is two deviations above its mean."""

    def __init__(self):
        super().__init__()
        self.any = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return torch.stack([torch.zeros_like(image[:, 0]), 20 * (image[:, 0] - 2)], 1)


def head(seed: int = 0) -> np.ndarray:
    mr = np.zeros(SHAPE, np.int16)
    mr[4:20, 4:24, 3:13] = np.random.default_rng(seed).integers(300, 400, (16, 20, 10))
    mr[6:9, 7:11, 5:8] = 900
    return mr


LESION = head() == 900


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    if "picture" in request.node.name:
        return
    monkeypatch.setattr(lesion_pictures.LesionPictures, "draw", lambda self, folder: None)


@pytest.fixture
def dataset(tmp_path) -> Path:
    for number, name in enumerate(("anna", "bert", "cora")):
        save_volume(_made(tmp_path / "data" / name) / f"{name}_FLAIR.nii.gz", head(number), OBLIQUE)
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path) -> Path:
    """A tiny network with random weights and its card."""
    torch.manual_seed(0)
    save_weights(tmp_path / "tiny.pt", build_network(NETWORK))
    card = WeightsCard([None] * 3, network_def=NETWORK, classes=["background", "plaque"], channels=["FLAIR"])
    card.save(tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def evaluator(dataset: Path, channels=("FLAIR",), network=None, spacing=None, trained=None, **options):
    missing = options.get("missing", ())
    network = network or Bright()
    weights = dataset.parent / "bright.pt"
    if not weights.exists():
        save_weights(weights, network)
    return LesionEvaluator(
        "cpu",
        find_sequence_cases(dataset, channels, missing=missing),
        LesionSegmentation(network, SlidingWindowInferer((16, 16, 16), 4, 0.5, mode="gaussian"), spacing=spacing),
        trained or TrainedSegmenter(network, weights),
        dataset.parent / "out",
        channels=channels,
        dataset_dir=dataset,
        **options,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_case_leaves_a_label_map_on_its_own_grid_and_a_row_in_the_table(dataset):
    evaluator(dataset, probabilities=True).run()
    out = dataset.parent / "out"
    for name in ("anna", "bert", "cora"):
        made = nibabel.load(out / name / "lesions.nii.gz")
        source = nibabel.load(dataset / name / f"{name}_FLAIR.nii.gz")
        np.testing.assert_allclose(made.affine, source.affine, atol=1e-5)
        assert made.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(made.dataobj) > 0, LESION)
        probability = np.asarray(nibabel.load(out / name / "probability.nii.gz").dataobj)
        assert np.array_equal(probability > 0.5, LESION) and probability.min() >= 0 and probability.max() <= 1
        assert rows_of(out / name / "lesions.csv")[0]["voxels"] == str(LESION.sum())
    table = rows_of(out / "lesions.csv")
    assert [row["case"] for row in table] == ["anna", "bert", "cora"]
    expected = LESION.sum() * abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000
    assert float(table[0]["volume_ml"]) == pytest.approx(expected, abs=1e-4)
    centre = OBLIQUE @ [*np.argwhere(LESION).mean(axis=0), 1]
    assert [float(table[0][axis]) for axis in ("right_mm", "anterior_mm", "superior_mm")] == pytest.approx(
        centre[:3], abs=1e-3
    )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["workflow"] == "brain_lesion" and manifest["cases"]["anna"]["metrics"]["lesions"] == 1
    assert manifest["cases"]["anna"]["warnings"] == []
    assert set(manifest["inputs"]) == {f"{name}/{name}_FLAIR.nii.gz" for name in ("anna", "bert", "cora")}


def test_the_map_lies_on_the_grid_of_the_case_at_another_spacing_too(dataset):
    evaluator(dataset, spacing=(1.5, 1.5, 1.5)).run()
    made = read_volume(dataset.parent / "out" / "bert" / "lesions.nii.gz")
    assert made.array.shape == SHAPE
    np.testing.assert_allclose(made.affine, OBLIQUE, atol=1e-5)
    overlap = 2 * np.count_nonzero(LESION & (made.array > 0)) / (LESION.sum() + np.count_nonzero(made.array))
    assert overlap > 0.6


def test_small_lesions_are_dropped_and_that_nothing_is_left_is_said(dataset):
    evaluator(dataset, min_volume_ml=100.0).run()
    out = dataset.parent / "out"
    assert not np.asarray(nibabel.load(out / "anna" / "lesions.nii.gz").dataobj).any()
    assert rows_of(out / "anna" / "lesions.csv") == []
    (first, *_) = json.loads((out / "manifest.json").read_text())["cases"].values()
    assert "No lesion was found" in first["warnings"][0]


def test_a_sequence_on_another_grid_is_resampled_and_the_report_says_so(dataset):
    for name in ("anna", "bert", "cora"):
        other = OBLIQUE.copy()
        other[:3, 3] += 1.0
        save_volume(dataset / name / "T2.nii.gz", head(5), other)
    evaluator(dataset, channels=("FLAIR", "T2")).run()
    page = (dataset.parent / "out" / "report.html").read_text()
    assert "T2 lies on another grid than FLAIR and was resampled to it." in page


def test_a_missing_sequence_is_said(dataset):
    evaluator(dataset, channels=("FLAIR", "T2"), missing=["T2"]).run()
    assert "T2 is declared missing" in (dataset.parent / "out" / "report.html").read_text()


def test_lesions_everywhere_are_not_believed(dataset):
    class Everywhere(Bright):
        def forward(self, image):
            return torch.stack([torch.zeros_like(image[:, 0]), torch.ones_like(image[:, 0])], 1)

    evaluator(dataset, network=Everywhere()).run()
    assert "does not know this kind of image" in (dataset.parent / "out" / "report.html").read_text()


def test_finished_cases_are_not_done_again_unless_settings_change(dataset, monkeypatch):
    seen = []
    segment = LesionSegmentation.__call__
    monkeypatch.setattr(LesionSegmentation, "__call__", lambda *given: (seen.append(1), segment(*given))[1])
    evaluator(dataset).run()
    evaluator(dataset).run()
    assert len(seen) == 3
    evaluator(dataset, min_volume_ml=0.01).run()
    assert len(seen) == 6
    more = usual_preprocessing(["FLAIR"])
    more.transforms = (*more.transforms, GaussianSmoothd("image", sigma=0.1))
    evaluator(dataset, min_volume_ml=0.01, preprocessing=more).run()
    assert len(seen) == 9


def test_a_bad_case_is_named_and_the_others_are_done(dataset):
    bad = dataset / "bert" / "bert_FLAIR.nii.gz"
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(UserError, match=r"1 case failed and the others are done: bert"):
        evaluator(dataset).run()
    out = dataset.parent / "out"
    assert (out / "cora" / "lesions.nii.gz").is_file() and not (out / "bert").exists()
    assert [row["case"] for row in rows_of(out / "lesions.csv")] == ["anna", "cora"]


def test_a_case_that_breaks_while_it_is_written_leaves_nothing(dataset, monkeypatch):
    def broken(self, *given):
        raise RuntimeError("no ink")

    monkeypatch.setattr("medical_gans.inference.lesions.one_case.LesionCase._draw", broken)
    with pytest.raises(UserError, match="3 cases failed"):
        evaluator(dataset).run()
    out = dataset.parent / "out"
    assert not (out / "anna").exists() and not (out / "lesions.csv").exists()


def test_the_pictures_show_each_sequence_with_its_outlines(dataset):
    case = dataset / "anna"
    save_volume(case / "T2.nii.gz", head(7), OBLIQUE)
    evaluator(case, channels=("FLAIR", "T2")).run()
    folder = case.parent / "out" / "report" / "anna"
    from matplotlib.image import imread

    planes = imread(folder / "planes.png")
    orange = (np.abs(planes[..., :3] - np.array([1.0, 0.706, 0.329])) < 0.08).all(axis=-1)
    assert orange.any() and (folder / "slices.png").is_file() and (folder / "thumbnail.png").is_file()


def series(folder: Path, description: str, uid: str) -> Path:
    _made(folder)
    for k in range(SHAPE[2]):
        image = dicom_slice("MR", head()[:, :, k].T, np.array([-20.0, -30, 40 + 3 * k]), (1, 0, 0, 0, 1, 0), uid)
        image.PixelSpacing, image.SeriesDescription = [2, 2], description
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


def test_a_dicom_case_gets_a_segmentation_and_a_structure_set(tmp_path):
    source = series(tmp_path / "data" / "anna" / "FLAIR", "AX FLAIR", "2.25.100")
    evaluator(tmp_path / "data").run()
    mr = read_volume(source)
    made = read_volume(tmp_path / "out" / "anna" / "lesions.nii.gz")
    assert np.array_equal(made.array > 0, LESION)
    for name in ("lesions_seg.dcm", "lesions_rtstruct.dcm"):
        path = tmp_path / "out" / "anna" / "dicom" / name
        assert np.array_equal(read_dicom_structure(path, "lesion", mr).array, LESION)
        assert pydicom.dcmread(path).PatientID == "planted-id"
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in (".html", ".json", ".csv")]
    assert not any("planted" in text.lower() for text in texts)


def test_dicom_is_written_only_where_wanted_and_possible(dataset, tmp_path):
    with pytest.raises(UserError, match="write_dicom is true, but"):
        evaluator(dataset, dicom=LesionDicom(True)).run()
    with pytest.raises(SettingError, match="choose auto, true or false"):
        LesionDicom("yes")
    series(tmp_path / "other" / "anna" / "FLAIR", "FLAIR", "2.25.100")
    evaluator(tmp_path / "other", dicom=LesionDicom(False)).run()
    assert not (tmp_path / "out" / "anna" / "dicom").exists()


def test_dicom_that_says_it_is_another_sequence_is_refused(tmp_path):
    series(tmp_path / "data" / "anna" / "FLAIR", "AX T2 TSE", "2.25.100")
    series(tmp_path / "data" / "anna" / "T2", "AX FLAIR", "2.25.101")
    with pytest.raises(InputError, match="given as FLAIR, but its series description says T2"):
        evaluator(tmp_path / "data", channels=("FLAIR", "T2")).run()
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_weights_bring_their_network_their_classes_and_their_spacing(weights):
    trained = load_segmenter(nn.Linear(1, 1), weights, ["flair"])
    assert trained.classes == ("background", "plaque") and trained.spacing is None and trained.notes == ()
    assert trained.network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


def test_weights_without_a_card_take_the_network_of_the_settings(tmp_path):
    save_weights(tmp_path / "bare.pt", Bright())
    assert "no card" in load_segmenter(Bright(), tmp_path / "bare.pt", ["FLAIR"]).notes[0]


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (["T2", "FLAIR"], "takes them in the order FLAIR, T2"),
        (["FLAIR"], "names 1 sequences .* trained on FLAIR, T2 and adapted to FLAIR, SWI"),
    ],
)
def test_sequences_that_cannot_be_right_are_refused(tmp_path, channels, said):
    save_weights(tmp_path / "two.pt", Bright())
    WeightsCard([2.0] * 3, channels=["FLAIR", "T2"], target_channels=["FLAIR", "SWI"]).save(tmp_path / "two.pt")
    with pytest.raises(SettingError, match=said):
        load_segmenter(Bright(), tmp_path / "two.pt", channels)
    assert load_segmenter(Bright(), tmp_path / "two.pt", ["FLAIR", "SWI"]).notes == ()
    assert "not known" in load_segmenter(Bright(), tmp_path / "two.pt", ["T1", "T2"]).notes[0]


def test_a_card_of_another_workflow_is_refused(tmp_path):
    save_weights(tmp_path / "other.pt", Bright())
    WeightsCard([1.0] * 3, network_def={"_target_": "medical_gans.networks.ResnetGenerator", "width": 4}).save(
        tmp_path / "other.pt"
    )
    with pytest.raises(UserError, match=r"card of other\.pt|do not fit the network"):
        load_segmenter(Bright(), tmp_path / "other.pt", ["FLAIR"])


def command(weights: Path, place: Path, *words: str) -> int:
    given = ["brain_lesion", "inference", "--dataset_dir", str(place), "--weights", str(weights), "--device", "cpu"]
    out = weights.parent / "out"
    return cli.main([*given, "--output_dir", str(out), "--channels", "[FLAIR]", "--roi_size", "[16,16,16]", *words])


def test_the_command_segments_a_folder_of_cases(dataset, weights):
    assert command(weights, dataset) == 0
    assert nibabel.load(weights.parent / "out" / "anna" / "lesions.nii.gz").shape == SHAPE


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "holds no case"),
        (lambda path: path.write_bytes(b"no image"), "medical-gans: error: "),
        (lambda path: save_volume(path, np.where(head() > 0, np.nan, 1.0).astype(np.float32), OBLIQUE), "NaN"),
        (lambda path: nibabel.save(nibabel.Nifti1Image(np.ones((*SHAPE, 2)), OBLIQUE), path), "3D"),
        (lambda path: save_volume(path, np.full(SHAPE, 7, np.int16), OBLIQUE), "constant"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_any_output(tmp_path, weights, capsys, spoil, said):
    path = save_volume(_made(tmp_path / "one" / "anna") / "FLAIR.nii.gz", head(), OBLIQUE)
    spoil(path)
    assert command(weights, tmp_path / "one") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medical-gans:")]
    assert len(lines) == 1 and said in lines[0]
    out = tmp_path / "out"
    assert not out.exists() or not [file for file in out.rglob("*") if file.is_file()]


@pytest.mark.parametrize("select", ["echo 2", "{FLAIR: TE 20}"])
def test_select_chooses_an_echo_by_the_words_that_the_refusal_lists(tmp_path, weights, capsys, select):
    folder = _made(tmp_path / "one" / "anna" / "FLAIR")
    for k in range(2 * SHAPE[2]):
        plane = head(k % 2)[:, :, k // 2].T
        image = dicom_slice("MR", plane, np.array([-20.0, -30, 40 + 3 * (k // 2)]), (1, 0, 0, 0, 1, 0), "2.25.1")
        image.EchoNumbers, image.EchoTime = k % 2 + 1, [10, 20][k % 2]
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    assert command(weights, tmp_path / "one") == 2
    said = capsys.readouterr().err
    assert 'such as --select "echo 1"' in said and '  "echo 2"  16 images' in said and "Traceback" not in said
    assert command(weights, tmp_path / "one", "--select", select) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert any("16 of 32 images" in warning for warning in manifest["cases"]["anna"]["warnings"])
    assert command(weights, tmp_path / "one", "--select", "{T2: echo 2}") == 2
    assert "select names the sequence T2; there are FLAIR" in capsys.readouterr().err


def test_a_ct_is_refused(tmp_path, weights, capsys):
    folder = _made(tmp_path / "one" / "anna" / "FLAIR")
    for k in range(SHAPE[2]):
        image = dicom_slice("CT", head()[:, :, k].T, np.array([-20.0, -30, 40 + 3 * k]), (1, 0, 0, 0, 1, 0), "2.25.1")
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    assert command(weights, tmp_path / "one") == 2
    assert "is a CT; an MR is needed" in capsys.readouterr().err


def test_real_patients_keep_their_grid(shared_data, weights):
    place = shared_data / "brats2013_deepmedic" / "validation" / "brats_2013_pat0003_1"
    if not place.is_dir():
        pytest.skip(f"no {place}")
    assert command(weights, place, "--spacing", "[4.0,4.0,4.0]", "--mask", "brainmask") == 0
    made = nibabel.load(weights.parent / "out" / place.name / "lesions.nii.gz")
    source = nibabel.load(place / "Flair_subtrMeanDivStd.nii.gz")
    assert made.shape == source.shape == (240, 240, 155)
    np.testing.assert_allclose(made.affine, source.affine, atol=1e-5)

"""Both sides of a pair are what they are given as, and on one grid of the patient however it is stored."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from test_outputs import no_pictures, run, weights  # noqa: F401

from medical_gans.cli import command as cli
from medical_gans.errors import InputError
from medical_gans.io import Volume, aligned_to, read_label_map, save_volume
from medical_gans.io.tables import read_table
from medical_gans.transforms import FindForegroundd, ReadSequencesd
from medical_gans.transforms.reading import with_background_at_zero

AFFINE = np.array([[2.0, 0, 0, -30], [0, 2.5, 0, 12], [0, 0, 3, -7], [0, 0, 0, 1]])


def anatomy() -> tuple[np.ndarray, np.ndarray]:
    """MR and CT of one body with tissue and bone."""
    rng = np.random.default_rng(0)
    mr = rng.integers(0, 12, (30, 26, 20)).astype(np.int16)
    ct = np.full(mr.shape, -1000, np.int16)
    body = np.s_[6:24, 5:21, 3:17]
    mr[body] = rng.integers(300, 900, mr[body].shape)
    ct[body] = rng.integers(-80, 80, mr[body].shape)
    ct[12:18, 10:16, 6:14], mr[12:18, 10:16, 6:14] = 700, 100
    return mr, ct


@pytest.fixture
def evaluate(tmp_path, capsys):
    """Judge a perfect synthetic CT of one patient; returns its MAE, or the sentence that refuses the pair."""

    def judged(mr=None, ct=None, mask=None, affines=(AFFINE, AFFINE, AFFINE)) -> float | str:
        own_mr, own_ct = anatomy()
        mr, ct = own_mr if mr is None else mr, own_ct if ct is None else ct
        folder = tmp_path / "d" / "p1"
        folder.mkdir(parents=True)
        save_volume(folder / "mr.nii.gz", mr, affines[0])
        save_volume(folder / "ct.nii.gz", ct, affines[1])
        if mask is not None:
            save_volume(folder / "mask.nii.gz", mask, affines[2])
        (tmp_path / "made" / "p1").mkdir(parents=True)
        save_volume(tmp_path / "made" / "p1" / "synthetic_ct.nii.gz", own_ct, AFFINE)
        words = [
            "--dataset_dir",
            tmp_path / "d",
            "--prediction_dir",
            tmp_path / "made",
            "--output_dir",
            tmp_path / "out",
        ]
        code = cli.main(["mr_to_ct", "evaluate", *map(str, words)])
        captured = capsys.readouterr()
        judged.said = captured.out
        if code:
            assert code == 2 and not (tmp_path / "out" / "metrics.csv").exists()
            return captured.err.splitlines()[-1]
        with open(tmp_path / "out" / "metrics.csv") as file:
            rows = [row for row in csv.DictReader(file) if row["method"] == "synthetic_ct"]
        return float(rows[0]["mae"])

    return judged


@pytest.mark.parametrize("wrong", ["intercept", "normalised", "swapped", "twice", "turned round"])
def test_a_partner_that_is_not_what_it_is_given_as_is_refused(evaluate, wrong):
    mr, ct = anatomy()
    if wrong == "swapped":
        mr, ct = ct, mr
    elif wrong == "intercept":
        ct = ct + 1024
    elif wrong == "twice":
        ct = ct - 1024
    elif wrong == "turned round":
        ct = -ct
    else:
        ct = (ct / 1000).astype(np.float32)
    said = evaluate(mr, ct)
    words = "turned round" if wrong == "turned round" else "swapped"
    assert isinstance(said, str) and words in said and "\n" not in said


def test_padding_of_a_ct_is_air_and_said_once(evaluate):
    _, ct = anatomy()
    ct[:2], ct[0, :, :3] = -3024, -2000
    assert evaluate(ct=ct, mask=np.ones(ct.shape, np.uint8)) < 10
    said = [line for line in evaluate.said.splitlines() if "taken as air" in line]
    assert len(said) == 1, said


@pytest.mark.parametrize("kind", ["axes", "flipped", "beside", "float_mask"])
def test_one_grid_stored_otherwise_is_one_grid(evaluate, kind):
    _, ct = anatomy()
    mask = (ct > -500).astype(np.uint8)
    stored, affine = ct, AFFINE
    if kind in ("axes", "flipped"):
        orientation = [[2, -1], [0, 1], [1, -1]] if kind == "axes" else [[0, -1], [1, 1], [2, -1]]
        turned = nibabel.Nifti1Image(ct, AFFINE).as_reoriented(np.array(orientation, float))
        stored, affine = np.asarray(turned.dataobj), turned.affine
    elif kind == "beside":
        affine = AFFINE + np.array([[0, 0, 0, 0.3], *[[0] * 4] * 3])
    else:
        mask = np.where(mask, np.float32(0.9999999), np.float32(1e-7))
    assert evaluate(ct=stored, mask=mask, affines=(AFFINE, affine, AFFINE)) == 0


def test_another_grid_is_still_refused(evaluate):
    said = evaluate(affines=(AFFINE, AFFINE + np.array([[0, 0, 0, 0.6], *[[0] * 4] * 3]), AFFINE))
    assert "lie on different grids" in said


def test_aligned_voxels_are_those_of_the_same_place():
    rng = np.random.default_rng(1)
    array = rng.normal(size=(5, 6, 7)).astype(np.float32)
    first = Volume(array, AFFINE, Path("a.nii"))
    for order in ([[1, 1], [2, -1], [0, -1]], [[2, 1], [1, 1], [0, 1]], [[0, -1], [1, -1], [2, 1]]):
        turned = nibabel.Nifti1Image(array, AFFINE).as_reoriented(np.array(order, float))
        found = aligned_to(first, Volume(np.asarray(turned.dataobj), turned.affine, Path("b.nii")))
        np.testing.assert_array_equal(found.array, array)
        np.testing.assert_allclose(found.affine, AFFINE, atol=1e-9)
        assert len(found.repairs) == 1


def test_labels_are_rounded_where_rounding_is_beyond_doubt(tmp_path):
    label = np.zeros((4, 4, 4), np.float32)
    label[1:3] = 0.9999999
    label[3] = 2.0000002
    assert set(np.unique(read_label_map(save_volume(tmp_path / "l.nii.gz", label, np.eye(4))).array)) == {0, 1, 2}
    label[0, 0, 0] = 0.5
    with pytest.raises(InputError, match="no label map"):
        read_label_map(save_volume(tmp_path / "l.nii.gz", label, np.eye(4)))


@pytest.mark.parametrize("how", ["z-score", "-1 to 1", "+1000", "0 to 1", "as it is"])
def test_a_normalised_mr_gets_its_background_back(how):
    mr = anatomy()[0].astype(np.float32)
    changed = {
        "z-score": (mr - mr.mean()) / mr.std(),
        "-1 to 1": 2 * mr / mr.max() - 1,
        "+1000": mr + 1000,
        "0 to 1": mr / mr.max(),
        "as it is": mr,
    }[how]
    found = with_background_at_zero(Volume(changed, AFFINE, Path("a.nii")))
    assert len(found.repairs) == (how not in ("0 to 1", "as it is"))
    scale = np.ptp(mr) / np.ptp(found.array)
    np.testing.assert_allclose(found.array * scale, mr, atol=12)  # the background itself is noise of 0 to 11


def test_a_background_among_tissue_is_refused_with_the_cause():
    mr = anatomy()[0].astype(np.float32)
    tissue = mr > 50
    scores = np.where(tissue, (mr - mr[tissue].mean()) / mr[tissue].std(), 0.0).astype(np.float32)
    with pytest.raises(InputError, match=r"was normalised before.*lies among those of tissue"):
        with_background_at_zero(Volume(scores, AFFINE, Path("a.nii")))


@pytest.mark.parametrize("workflow", ["mr_to_ct", "brain_lesion"])
def test_an_mr_that_looks_like_hounsfield_units_is_refused_with_both_causes(tmp_path, run, workflow):  # noqa: F811
    save_volume(tmp_path / "shifted.nii.gz", anatomy()[0] - 1000, AFFINE)
    code, said = run(workflow, tmp_path / "shifted.nii.gz", tmp_path / "out")
    assert code == 2 and "\n" not in said and not list((tmp_path / "out").rglob("*.nii.gz"))
    assert "look like the Hounsfield units of a CT" in said and "about 1000 was subtracted from it" in said


@pytest.mark.parametrize(("shift", "modality"), [(-1000, "MR"), (-1024, "MR"), (-2000, None), (-32768, None)])
def test_an_mr_shifted_below_zero_gets_its_background_back_where_it_can_be_no_ct(shift, modality):
    mr = anatomy()[0].astype(np.float32)
    found = with_background_at_zero(Volume(mr + shift, AFFINE, Path("a.nii"), modality))
    assert "normalised or shifted before" in found.repairs[0]
    np.testing.assert_allclose(found.array, mr, atol=12)  # the background itself is noise of 0 to 11


def test_a_sequence_shifted_before_shows_the_same_head(tmp_path):
    masks = []
    for shift in (0, 1000, -2000):
        (tmp_path / str(shift)).mkdir()
        save_volume(tmp_path / str(shift) / "T1c.nii.gz", anatomy()[0] + np.float32(shift), AFFINE)
        read = ReadSequencesd("image", ["T1c"])({"image": str(tmp_path / str(shift))})
        masks.append(FindForegroundd("image")(read)["foreground"].numpy())
    assert masks[0].any() and np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])


def test_a_negative_is_refused_as_what_it_is():
    mr = anatomy()[0]
    with pytest.raises(InputError, match=r"is a negative.*Turn its values round"):
        with_background_at_zero(Volume(mr.max() - mr, AFFINE, Path("a.nii")))
    assert np.array_equal(with_background_at_zero(Volume(mr, AFFINE, Path("a.nii"))).array, mr)


def test_a_normalised_mr_is_translated_as_its_original_is(tmp_path, run):  # noqa: F811
    mr = anatomy()[0].astype(np.float32)
    for name, array in (("plain", mr), ("scores", (mr - mr.mean()) / mr.std())):
        save_volume(tmp_path / f"{name}.nii.gz", array, AFFINE)
        assert run("mr_to_ct", tmp_path / f"{name}.nii.gz", tmp_path / "out" / name)[0] == 0
    plain, scores = (
        nibabel.load(tmp_path / "out" / name / name / "synthetic_ct.nii.gz").get_fdata() for name in ("plain", "scores")
    )
    assert np.abs(plain - scores).mean() < 30
    assert "normalised" in run.printed


@pytest.mark.parametrize(
    "text",
    [
        "seriesuid;coordX;coordY\na;1,5;2\n",
        "\ufeffseriesuid\tcoordX\tcoordY\na\t1.5\t2\n\n\t\t\n",
        '"seriesuid","coordX","coordY"\r\n"a","1.5","2"\r\n,,\r\n',
        "SeriesUID,CoordX,CoordY,,\na,1.5,2,,\n",
        "# made by hand\nseriesuid|coordX|coordY\na|1.5|2\n",
        "sep=;\nseriesuid;coordX;coordY\na;1,5;2\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_any_spreadsheet_are_read(tmp_path, text, encoding):
    (tmp_path / "t.csv").write_bytes(text.lstrip("\ufeff").encode(encoding) if encoding == "utf-16" else text.encode())
    (row,) = read_table(tmp_path / "t.csv", ("seriesuid", "coordX", "coordY"))
    assert (row.text("seriesuid"), row.number("coordX"), row.number("coordY")) == ("a", 1.5, 2.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seriesuid,coordY\na,1\n", "lacks the column coordX; it has seriesuid, coordy"),
        ("seriesuid,coordX,coordY\na,1,2\n\nb,x,2\n", r"t\.csv, line 4: coordX is 'x', which is no number"),
        ("seriesuid,coordX,coordY\na,1\n", "line 2: there is no coordy"),
        ("seriesuid,coordX,coordY\na,1,2,3\n", "line 2: 4 cells in a table of 3 columns"),
        ("seriesuid,coordX,coordY\na,nan,2\n", "line 2: coordX is nan, which is not finite"),
        ("\0\0\0", "it is no text"),
    ],
)
def test_what_a_table_has_wrong_is_named_by_column_and_line(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        for row in read_table(tmp_path / "t.csv", ("seriesuid", "coordX", "coordY")):
            row.number("coordX")

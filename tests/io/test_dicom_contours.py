"""Contours enclose what the mask holds, survive the way through DICOM, and follow their MR to its CT."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.path import Path as Polygon

from medical_gans.errors import InputError
from medical_gans.io import Volume, read_volume
from medical_gans.io.dicom.carrying import carry_structure_set, find_structure_sets
from medical_gans.io.dicom.ct import write_ct_series
from medical_gans.io.dicom.masks import dicom_structure_names, read_dicom_structure
from medical_gans.io.dicom.polygons import area, filled, outlines
from medical_gans.io.dicom.segmentation import read_segmentation, write_segmentation
from medical_gans.io.dicom.structure_set import (
    Structure,
    read_structure_set,
    structure_from_mask,
    structure_mask,
    write_structure_set,
)

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SHAPE = (24, 20, 6)


def ring_and_islands() -> np.ndarray:
    """A ring with an island in its hole, that island with a hole, and a single pixel apart."""
    mask = np.zeros(SHAPE, dtype=bool)
    x, y, _ = np.indices(SHAPE)
    radius = np.hypot(x - 9, y - 9)
    mask |= (radius < 8.3) & (radius > 5.2)
    mask |= (radius < 3.4) & (radius > 1.2)
    mask[20, 3] = True
    mask[:, :, :1] = mask[:, :, 5:] = False
    return mask


@pytest.fixture
def mr(write_series):
    """An axial MR of SHAPE; its pixels are as large as they are far apart."""
    return read_volume(write_series(slices=6, change=sized)[0])


def sized(k, image):
    image.Rows, image.Columns = SHAPE[1], SHAPE[0]
    image.PixelData = np.random.default_rng(k).integers(0, 900, (SHAPE[1], SHAPE[0])).astype(np.int16).tobytes()
    image.SeriesNumber = 3


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_plane_is_filled_again_as_it_was(plane):
    assert np.array_equal(filled(outlines(plane), plane.shape), plane)


def test_keyholes_enclose_the_area_without_the_holes():
    plane = ring_and_islands()[:, :, 2]
    polygons = outlines(plane)
    assert len(polygons) == 3
    assert sum(map(area, polygons)) == pytest.approx(plane.sum(), rel=0.05)
    rectangle = np.zeros((12, 12), dtype=bool)
    rectangle[2:9, 3:8] = True
    assert area(outlines(rectangle)[0]) == pytest.approx(7 * 5 - 4 / 8)  # each corner is cut by an eighth of a pixel


def test_filling_agrees_with_matplotlib_on_polygons_off_the_grid():
    random = np.random.default_rng(3)
    for _ in range(20):
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        polygon = 10 + random.uniform(3, 9, (9, 1)) * np.column_stack([np.cos(angles), np.sin(angles)])
        centres = np.argwhere(np.ones((21, 21)))
        inside = Polygon(np.concatenate([polygon, polygon[:1]])).contains_points(centres).reshape(21, 21)
        assert np.array_equal(filled([polygon], (21, 21)), inside)


def test_holes_are_read_as_keyholes_as_xor_and_as_plain_inner_contours():
    square = np.array([[1.5, 1.5], [10.5, 1.5], [10.5, 10.5], [1.5, 10.5]])
    hole = np.array([[4.5, 4.5], [7.5, 4.5], [7.5, 7.5], [4.5, 7.5]])
    expected = np.zeros((12, 12), dtype=bool)
    expected[2:11, 2:11] = True
    expected[5:8, 5:8] = False
    keyhole = np.concatenate([square, square[:1], hole[[0, 3, 2, 1, 0]]])
    for polygons in ([square, hole], [square, hole[::-1]], [keyhole]):
        assert np.array_equal(filled(polygons, (12, 12)), expected)


def test_holes_and_islands_survive_a_structure_set_and_the_volume_error_is_stated(mr, tmp_path):
    mask = ring_and_islands()
    structure, volume = structure_from_mask("ring", mask, mr.affine, "GTV")
    voxel_ml = np.prod(mr.spacing) / 1000
    assert volume.mask_ml == pytest.approx(mask.sum() * voxel_ml)
    assert -5 < volume.error_percent < 0
    path = write_structure_set(tmp_path / "RS.dcm", [structure], mr.headers, label="test", seed=1)
    assert np.array_equal(read_dicom_structure(path, "ring", mr).array, mask)
    dataset = pydicom.dcmread(path)
    assert float(dataset.StructureSetROISequence[0].ROIVolume) == pytest.approx(volume.contour_ml, abs=1e-3)
    assert dataset.RTROIObservationsSequence[0].RTROIInterpretedType == "GTV"
    assert {contour.ContourGeometricType for contour in contours_of(dataset)} == {"CLOSED_PLANAR"}
    assert len(contours_of(dataset)) == 12  # three polygons in each of four slices
    for contour in contours_of(dataset):
        z = float(contour.ContourData[2])
        named = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        (image,) = [header for header in mr.headers if header.SOPInstanceUID == named]
        assert abs(float(image.ImagePositionPatient[2]) - z) < 1e-3
    again = write_structure_set(tmp_path / "again.dcm", [structure], mr.headers, label="test", seed=1)
    assert pydicom.dcmread(again).SOPInstanceUID == dataset.SOPInstanceUID


def contours_of(dataset):
    return [contour for drawn in dataset.ROIContourSequence for contour in drawn.ContourSequence]


def test_long_contours_fit_into_the_file(write_series, tmp_path):
    """Explicit VR has 64 kB for the points of a contour; this one needs more."""
    circle = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    points = np.column_stack([-15 + 3 * np.cos(circle), -25 + 3 * np.sin(circle), np.full(4000, 45.0)])
    mr = read_volume(write_series()[0])
    path = write_structure_set(tmp_path / "RS.dcm", [Structure("circle", (points,))], mr.headers, label="x")
    (read,), _ = read_structure_set(path)
    assert np.abs(read.contours[0] - points).max() <= 1e-4


def test_names_are_listed_and_a_missing_one_is_refused_with_them(mr, tmp_path):
    structure, _ = structure_from_mask("ring", ring_and_islands(), mr.affine)
    path = write_structure_set(tmp_path / "RS.dcm", [structure], mr.headers, label="test")
    assert dicom_structure_names(path) == ["ring"]
    with pytest.raises(InputError, match=r"no structure other\. It has ring"):
        read_dicom_structure(path, "other", mr)
    with pytest.raises(InputError, match="does not exist"):
        dicom_structure_names(tmp_path / "none.dcm")


def test_contours_that_do_not_lie_in_the_slices_are_refused(mr):
    structure, _ = structure_from_mask("ring", ring_and_islands(), mr.affine)
    between = mr.affine + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 1.2]] + [[0, 0, 0, 0]])
    with pytest.raises(InputError, match="do not lie in the slices"):
        structure_mask(structure, SHAPE, between)
    with pytest.raises(InputError, match="encloses no voxel"):
        structure_mask(structure, SHAPE, mr.affine + np.diag([0, 0, 0, 0]) + 500 * np.eye(4)[:, [3]] @ np.eye(4)[[3]])
    with pytest.raises(InputError, match="is empty"):
        structure_from_mask("none", np.zeros(SHAPE, dtype=bool), mr.affine)


def test_labels_survive_a_segmentation(mr, tmp_path):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[ring_and_islands()] = 1
    labels[15:18, 2:6, 1:4] = 4
    names = {1: "ring", 2: "not there", 4: "block"}
    path = write_segmentation(tmp_path / "SEG.dcm", labels, names, mr.headers, seed=3)
    masks = read_segmentation(path, mr)
    assert list(masks) == ["ring", "block"] == dicom_structure_names(path)
    assert np.array_equal(masks["ring"], labels == 1) and np.array_equal(masks["block"], labels == 4)
    assert np.array_equal(read_dicom_structure(path, "block", mr).array, labels == 4)
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    assert dataset.StudyInstanceUID == mr.headers[0].StudyInstanceUID and dataset.PatientID == "planted-id"
    with pytest.raises(InputError, match="another grid"):
        read_segmentation(path, Volume(mr.array, mr.affine @ np.diag([1, 1, 1.5, 1]), mr.source))
    with pytest.raises(InputError, match=r"labels without a name: \[4\]"):
        write_segmentation(tmp_path / "x.dcm", labels, {1: "ring"}, mr.headers)
    with pytest.raises(InputError, match="no label but 0"):
        write_segmentation(tmp_path / "x.dcm", labels * 0, names, mr.headers)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools are not installed")
def test_dciodvfy_finds_no_error(write_series, tmp_path):
    def legal(k, image):
        sized(k, image)
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200102", "101112", "7", "A1"
        image.PatientBirthDate, image.PatientSex, image.ReferringPhysicianName = "19500101", "F", "A^B"
        image.PositionReferenceIndicator = None

    mr = read_volume(write_series(slices=6, change=legal)[0])
    structure, _ = structure_from_mask("ring", ring_and_islands(), mr.affine, "EXTERNAL")
    write_structure_set(tmp_path / "RS.dcm", [structure], mr.headers, label="test")
    write_segmentation(tmp_path / "SEG.dcm", ring_and_islands().astype(np.uint8), {1: "ring"}, mr.headers)
    for name in ("RS.dcm", "SEG.dcm"):
        shown = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, errors="replace")
        assert [line for line in (shown.stdout + shown.stderr).splitlines() if line.startswith("Error")] == []


@pytest.fixture
def carry(tmp_path):
    """Draw a mask on an MR, write a CT for it, carry the contours; give all of it."""

    def run(mr, mask, change=None, outline=None):
        structure, _ = structure_from_mask("GTV", mask, mr.affine, "GTV")
        source = write_structure_set(tmp_path / "drawn.dcm", [structure], mr.headers, label="drawn")
        if change:
            dataset = pydicom.dcmread(source)
            change(dataset)
            dataset.save_as(source)
        hounsfield = np.full(mr.array.shape, -100, dtype=np.int16)
        hounsfield[mask] = 500
        ct = write_ct_series(hounsfield, mr.affine, mr.headers, tmp_path / "ct", mr=mr.array)
        target = tmp_path / "carried.dcm"
        if outline is not None:
            outline, _ = structure_from_mask("BODY", np.ones(ct.hounsfield.shape, dtype=bool), ct.affine, outline)
        warnings = carry_structure_set(source, mr.headers, mr.array.shape, mr.affine, ct, target, outline=outline)
        return source, target, ct, warnings

    return run


def test_contours_on_an_axial_mr_keep_their_geometry_and_refer_to_the_ct(mr, carry):
    mask = ring_and_islands()
    source, target, ct, warnings = carry(mr, mask)
    before, after = pydicom.dcmread(source), pydicom.dcmread(target)
    assert warnings == []
    for drawn, carried in zip(contours_of(before), contours_of(after), strict=True):
        assert list(drawn.ContourData) == list(carried.ContourData)
    named = [contour.ContourImageSequence[0].ReferencedSOPInstanceUID for contour in contours_of(after)]
    instances = {header.SOPInstanceUID: float(header.ImagePositionPatient[2]) for header in ct.headers}
    assert all(instances[uid] == c.ContourData[2] for uid, c in zip(named, contours_of(after), strict=True))
    study = after.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    series = study.RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == ct.headers[0].SeriesInstanceUID != mr.headers[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == set(instances)
    assert after.StudyInstanceUID == before.StudyInstanceUID and after.SOPInstanceUID != before.SOPInstanceUID
    assert after.RTROIObservationsSequence[0].RTROIInterpretedType == "GTV"
    written = read_volume(ct.folder / "ct")
    assert np.array_equal(written.array[read_dicom_structure(target, "GTV", written).array], np.full(mask.sum(), 500))


def test_references_to_images_that_do_not_exist_are_mended_by_position_and_said(mr, carry):
    def lost(dataset):
        for number, contour in enumerate(contours_of(dataset)):
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID = f"1.2.{number}"

    _, target, ct, warnings = carry(mr, ring_and_islands(), lost)
    assert warnings == [
        "12 of 12 images that drawn.dcm refers to are not in the MR series; its contours were matched to the CT by "
        "frame of reference and position."
    ]
    instances = {header.SOPInstanceUID for header in ct.headers}
    named = {
        contour.ContourImageSequence[0].ReferencedSOPInstanceUID for contour in contours_of(pydicom.dcmread(target))
    }
    assert named <= instances


def test_contours_in_another_frame_of_reference_are_refused(mr, carry):
    def elsewhere(dataset):
        dataset.FrameOfReferenceUID = dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.9"
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.9"

    with pytest.raises(InputError, match="another frame of reference"):
        carry(mr, ring_and_islands(), elsewhere)


def test_contours_outside_the_ct_are_counted(mr, carry):
    def far(dataset):
        contour = contours_of(dataset)[0]
        contour.ContourData = [value + 300 * (number % 3 == 2) for number, value in enumerate(contour.ContourData)]

    _, _, _, warnings = carry(mr, ring_and_islands(), far)
    assert warnings == ["1 contours of drawn.dcm lie outside the slices of the CT."]


def test_contours_on_a_sagittal_mr_are_drawn_again_on_the_axial_ct(write_series, carry):
    mr = read_volume(write_series(orientation=SAGITTAL, slices=12, spacing=1.0, change=sized)[0])
    x, y, z = np.indices(mr.array.shape)
    mask = (x - 12) ** 2 * 1.25**2 + (y - 10) ** 2 * 0.75**2 + (z - 6) ** 2 < 4.6**2
    _, target, ct, warnings = carry(mr, mask)
    assert "drawn again on axial slices: GTV" in warnings[0]
    written = read_volume(ct.folder / "ct")
    carried = read_dicom_structure(target, "GTV", written)
    volume = carried.array.sum() * np.prod(carried.spacing)
    assert volume == pytest.approx(mask.sum() * np.prod(mr.spacing), rel=0.06)
    assert np.array_equal(carried.array, written.array >= 200)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), SAGITTAL], ids=["axial", "sagittal"])
def test_the_body_outline_joins_the_structures_that_were_carried(write_series, carry, orientation):
    mr = read_volume(write_series(orientation=orientation, slices=6, change=sized)[0])
    _, target, ct, _ = carry(mr, ring_and_islands(), outline="EXTERNAL")
    written, dataset = read_volume(ct.folder / "ct"), pydicom.dcmread(target)
    assert dicom_structure_names(target) == ["GTV", "BODY"]
    assert read_dicom_structure(target, "BODY", written).array.all()
    assert read_dicom_structure(target, "GTV", written).array.any()
    observed = {item.ReferencedROINumber: item for item in dataset.RTROIObservationsSequence}
    kinds = [observed[roi.ROINumber].RTROIInterpretedType for roi in dataset.StructureSetROISequence]
    assert kinds == ["GTV", "EXTERNAL"] and len({item.ObservationNumber for item in observed.values()}) == 2
    instances = {header.SOPInstanceUID for header in ct.headers}
    assert {c.ContourImageSequence[0].ReferencedSOPInstanceUID for c in contours_of(dataset)} <= instances


def test_a_second_outline_of_the_body_is_not_added_and_names_stay_unique(mr, carry):
    def external(dataset):
        dataset.RTROIObservationsSequence[0].RTROIInterpretedType = "EXTERNAL"

    def organ(dataset):
        dataset.StructureSetROISequence[0].ROIName = "Body"

    _, target, _, warnings = carry(mr, ring_and_islands(), external, outline="EXTERNAL")
    assert dicom_structure_names(target) == ["GTV"] and "that of the CT was not added" in warnings[0]
    _, target, _, warnings = carry(mr, ring_and_islands(), organ, outline="EXTERNAL")
    assert dicom_structure_names(target) == ["Body", "BODY_2"] and warnings == []


def test_structure_sets_beside_the_mr_are_found_by_their_frame_of_reference(mr, tmp_path):
    structure, _ = structure_from_mask("ring", ring_and_islands(), mr.affine)
    (tmp_path / "contours").mkdir()
    inside = write_structure_set(mr.source / "RS.dcm", [structure], mr.headers, label="a")
    beside = write_structure_set(tmp_path / "contours" / "RS.dcm", [structure], mr.headers, label="b")
    other = pydicom.dcmread(beside)
    other.FrameOfReferenceUID = other.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.9"
    other.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.9"
    other.save_as(tmp_path / "contours" / "other.dcm")
    (tmp_path / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"nonsense")
    assert find_structure_sets(mr.source, mr.headers[0].FrameOfReferenceUID) == [inside, beside]

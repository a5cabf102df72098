"""A segmentation of an enhanced multi-frame image lies where its frames lie, and names them."""

import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest

from medical_gans.errors import InputError
from medical_gans.io import read_volume
from medical_gans.io.dicom.segmentation import read_segmentation, write_segmentation
from medical_gans.io.dicom.structure_set import structure_from_mask, write_structure_set

ORIENTATIONS = {"axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "oblique": (0.0, 0.8, 0.6, 0.0, 0.6, -0.8)}
NAMES = {1: "ring", 3: "block"}


def legal(k, image):
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200102", "101112", "7", "A1"
    image.PatientBirthDate, image.PatientSex, image.ReferringPhysicianName = "19500101", "F", "A^B"
    image.PositionReferenceIndicator = None


@pytest.fixture(params=ORIENTATIONS)
def enhanced(request, write_series, tmp_path):
    """A series with shuffled frames in one enhanced multi-frame file, by highdicom."""
    folder, _ = write_series(orientation=ORIENTATIONS[request.param], change=legal)
    single = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    highdicom.legacy.LegacyConvertedEnhancedMRImage(single, "2.25.7", 1, "2.25.8", 1).save_as(tmp_path / "mr.dcm")
    return tmp_path / "mr.dcm"


@pytest.fixture
def labels(enhanced):
    made = np.zeros(read_volume(enhanced).array.shape, dtype=np.uint8)
    made[1, 1:5, 1:4] = 1
    made[2:, 0, 2] = 3
    made[3, 5, 4] = 3
    return made


def test_voxels_and_geometry_come_back_through_highdicom(enhanced, labels, tmp_path):
    mr = read_volume(enhanced)
    path = write_segmentation(tmp_path / "SEG.dcm", labels, NAMES, mr.headers)
    found = highdicom.seg.segread(path).get_volume(combine_segments=True, rescale_fractional=False)
    expected = np.zeros_like(labels)
    here = np.argwhere(found.array)
    lps = here @ found.affine[:3, :3].T + found.affine[:3, 3]
    inverse = np.linalg.inv(mr.affine)
    place = (lps * [-1, -1, 1]) @ inverse[:3, :3].T + inverse[:3, 3]
    assert np.abs(place - np.rint(place)).max() < 1e-3
    expected[tuple(np.rint(place).astype(int).T)] = found.array[tuple(here.T)]
    assert np.array_equal(expected, np.searchsorted([0, *NAMES], labels))
    read = read_segmentation(path, mr)
    assert all(np.array_equal(read[name], labels == label) for label, name in NAMES.items())


def test_each_frame_names_the_frame_of_the_image_that_it_lies_on(enhanced, labels, tmp_path):
    mr = read_volume(enhanced)
    path = write_segmentation(tmp_path / "SEG.dcm", labels, NAMES, mr.headers)
    source, made = pydicom.dcmread(enhanced), pydicom.dcmread(path)
    assert (made.StudyInstanceUID, made.FrameOfReferenceUID) == (source.StudyInstanceUID, source.FrameOfReferenceUID)
    assert [item.ReferencedSOPInstanceUID for item in made.SourceImageSequence] == [source.SOPInstanceUID]
    frames = made.PerFrameFunctionalGroupsSequence
    assert len(frames) == sum(np.any(labels == label, axis=(0, 1)).sum() for label in NAMES)
    for frame in frames:
        (item,) = frame.DerivationImageSequence[0].SourceImageSequence
        image = source.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        position = image.PlanePositionSequence[0].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(position)
        assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (
            source.SOPClassUID,
            source.SOPInstanceUID,
        )


def test_contours_name_the_frame_that_they_are_drawn_on(enhanced, labels, tmp_path):
    mr = read_volume(enhanced)
    structure, _ = structure_from_mask("block", labels == 3, mr.affine)
    made = pydicom.dcmread(write_structure_set(tmp_path / "RS.dcm", [structure], mr.headers, label="test"))
    source = pydicom.dcmread(enhanced)
    orientation = source.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    normal = np.cross(orientation[:3], orientation[3:])
    for contour in made.ROIContourSequence[0].ContourSequence:
        (item,) = contour.ContourImageSequence
        image = source.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        there = np.array(image.PlanePositionSequence[0].ImagePositionPatient, dtype=float) @ normal
        assert np.array(contour.ContourData, dtype=float).reshape(-1, 3) @ normal == pytest.approx(there, abs=1e-3)


def test_slices_of_several_multi_frame_files_are_refused(enhanced, labels, tmp_path):
    mr = read_volume(enhanced)
    mr.headers[-1].add_new("SOPInstanceUID", "UI", "2.25.9")  # set by name, it would change in all frames
    with pytest.raises(InputError, match="several multi-frame files"):
        write_segmentation(tmp_path / "SEG.dcm", labels, NAMES, mr.headers)
    with pytest.raises(InputError, match="an image or frame per slice"):
        write_segmentation(tmp_path / "SEG.dcm", labels, NAMES, mr.headers[1:])
    assert not (tmp_path / "SEG.dcm").exists()


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools are not installed")
def test_dciodvfy_finds_no_error(enhanced, labels, tmp_path):
    mr = read_volume(enhanced)
    structure, _ = structure_from_mask("block", labels == 3, mr.affine)
    write_structure_set(tmp_path / "RS.dcm", [structure], mr.headers, label="test")
    write_segmentation(tmp_path / "SEG.dcm", labels, NAMES, mr.headers)
    for name in ("SEG.dcm", "RS.dcm"):
        shown = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, errors="replace")
        assert [line for line in (shown.stdout + shown.stderr).splitlines() if line.startswith("Error")] == []

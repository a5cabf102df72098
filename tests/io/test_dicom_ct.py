"""A CT series belongs to the study of its MR, lies where the MR lies, and holds the HU exactly.

Referees: dciodvfy and dcentvfy (dicom3tools), dcm2niix, SimpleITK, itk and highdicom, each where installed.
"""

import shutil
import subprocess

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medical_gans.errors import InputError, OutputError
from medical_gans.io import read_volume
from medical_gans.io.dicom import ct as series
from medical_gans.io.dicom.ct import CtSeries, write_ct_series
from medical_gans.io.dicom.ct_grid import is_axial

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997)
AXIAL_WAYS = {
    "head first supine": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "rows mirrored": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "columns mirrored": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
}
UNKNOWN_TO_DCIODVFY = "(0x0008,0x001c)"


def hounsfield_of(volume, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1024, 3072, volume.array.shape).astype(np.int16)


@pytest.fixture
def mr(write_series):
    """An axial MR with what scanners add, legal enough for dciodvfy."""
    return read_volume(write_series(change=scanner)[0])


@pytest.fixture
def written(mr, tmp_path) -> tuple[CtSeries, np.ndarray]:
    hounsfield = hounsfield_of(mr)
    return write_ct_series(hounsfield, mr.affine, mr.headers, tmp_path / "out", seed=1), hounsfield


def scanner(k, image):
    image.SpecificCharacterSet = "ISO_IR 192"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200102", "101112", "7", "A1"
    image.PatientBirthDate, image.PatientSex, image.ReferringPhysicianName = "19500101", "F", "Referrer^Planted"
    image.SeriesNumber, image.AcquisitionDate, image.AcquisitionTime = 3, "20200102", "101500"
    image.Manufacturer, image.ManufacturerModelName = "Scanner works", "Model 1"
    image.ImageType, image.BodyPartExamined = ["ORIGINAL", "PRIMARY", "OTHER"], "HEAD"
    image.PositionReferenceIndicator = None
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "SE", "NONE", None
    image.MRAcquisitionType, image.EchoTime, image.RepetitionTime, image.EchoTrainLength = "2D", "12", "500", 1
    image.SliceThickness = "2.5"
    image.FlipAngle, image.ProtocolName = "90", "planted protocol"
    private = image.private_block(0x0011, "PLANTED WORKS", create=True)
    private.add_new(1, "LO", "planted private")


def files(written: CtSeries, kind: str = "ct"):
    return sorted((written.folder / kind).iterdir())


def test_identity_frame_and_acquisition_are_kept(written, mr):
    source = mr.headers[0]
    for path in files(written[0]):
        image = pydicom.dcmread(path)
        for keyword in (
            *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate"),
            *("AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PatientPosition"),
            *("PositionReferenceIndicator", "BodyPartExamined", "AcquisitionDate", "AcquisitionTime"),
            "SpecificCharacterSet",
        ):
            assert image[keyword].value == source[keyword].value, keyword


def test_what_makes_it_a_synthetic_ct_is_said(written, mr):
    uids = set()
    for k, path in enumerate(files(written[0])):
        image = pydicom.dcmread(path)
        assert image.SOPClassUID == image.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
        assert image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID
        assert (image.Modality, image.ImageType) == ("CT", ["DERIVED", "SECONDARY", "AXIAL"])
        assert image.SyntheticData == "YES" and image.ContentQualification == "RESEARCH"
        assert image.BurnedInAnnotation == "NO" and image.LossyImageCompression == "00"
        assert (image.RescaleIntercept, image.RescaleSlope, image.RescaleType) == (-1024, 1, "HU")
        assert (image.BitsAllocated, image.PixelRepresentation) == (16, 0)
        assert "KVP" in image and image.KVP is None and "AcquisitionNumber" in image
        assert image.InstanceNumber == k + 1 and len(image.SeriesDescription) <= 64
        assert float(image.SpacingBetweenSlices) == float(image.SliceThickness) == 2.5
        assert image.SeriesInstanceUID != mr.headers[0].SeriesInstanceUID and "research" in image.DerivationDescription
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == mr.headers[k].SOPInstanceUID
        assert image.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        reference = image.ReferencedSeriesSequence[0]
        assert reference.SeriesInstanceUID == mr.headers[0].SeriesInstanceUID
        purposes = [i.PurposeOfReferenceCodeSequence[0].CodeValue for i in image.ContributingEquipmentSequence]
        assert (
            purposes == ["109101", "109100"] and image.ContributingEquipmentSequence[0].Manufacturer == "Scanner works"
        )
        uids.add(image.SOPInstanceUID)
    assert len(uids) == 5


def test_nothing_of_the_mr_acquisition_and_nothing_private_slips_in(written):
    for path in files(written[0]):
        image = pydicom.dcmread(path)
        assert not any(element.tag.is_private for element in image.iterall())
        for keyword in ("EchoTime", "RepetitionTime", "FlipAngle", "ScanningSequence", "ProtocolName"):
            assert keyword not in image


def test_every_decimal_string_has_at_most_sixteen_characters(write_series, tmp_path):
    mr = read_volume(write_series(orientation=OBLIQUE, spacing=1 / 3, origin=(-123.456789, 1e-7, 1 / 7))[0])
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out", mr=mr.array)
    for path in (*files(made), *files(made, "mr_axial")):
        raw = pydicom.dcmread(path)
        for element in raw.iterall():
            if element.VR == "DS" and element.value is not None:
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(str(value)) <= 16 for value in values), element.keyword


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition"])
def test_a_source_that_a_ct_cannot_be_tied_to_is_refused_before_anything_is_written(mr, tmp_path, keyword):
    for header in mr.headers:
        delattr(header, keyword)
    with pytest.raises(InputError, match=f"The MR has no {keyword}"):
        write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition", "PatientID"])
def test_slices_of_different_sources_are_refused(mr, tmp_path, keyword):
    setattr(mr.headers[2], keyword, "1.2.3")
    with pytest.raises(InputError, match=f"2 different values of {keyword}"):
        write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out")


def test_hounsfield_beyond_what_planning_systems_take_are_clipped_and_counted(mr, tmp_path):
    hounsfield = hounsfield_of(mr)
    hounsfield[0, 0, :3] = -1500
    hounsfield[1, 1, :4] = 4000
    made = write_ct_series(hounsfield, mr.affine, mr.headers, tmp_path / "out")
    assert made.warnings[0].startswith("7 voxels of -1500 to 4000 HU were clipped to [-1024, 3071] HU")
    assert np.array_equal(read_volume(made.folder / "ct").array, hounsfield.clip(-1024, 3071))


def test_names_and_uids_repeat_with_a_seed_and_only_for_the_same_content(mr, tmp_path):
    hounsfield = hounsfield_of(mr)

    def uids(seed, values, folder):
        made = write_ct_series(values, mr.affine, mr.headers, tmp_path / folder, seed=seed)
        assert [path.name for path in files(made)] == [f"CT{k:04}.dcm" for k in range(1, 6)]
        return [(header.SeriesInstanceUID, header.SOPInstanceUID) for header in made.headers]

    first = uids(5, hounsfield, "a")
    assert uids(5, hounsfield, "b") == first
    others = [uids(6, hounsfield, "c"), uids(5, hounsfield.clip(0), "d"), uids(None, hounsfield, "e")]
    assert not {pair for other in others for pair in other} & set(first)
    assert uids(None, hounsfield, "f") != others[2]


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_wide_integers_are_stored_in_16_bits(mr, tmp_path, kind):
    hounsfield = hounsfield_of(mr)
    made = write_ct_series(hounsfield.astype(kind), mr.affine, mr.headers, tmp_path / "out")
    assert np.array_equal(read_volume(made.folder / "ct").array, hounsfield)


def test_the_files_are_byte_for_byte_what_pydicom_writes(written, tmp_path):
    for path in files(written[0]):
        pydicom.dcmread(path).save_as(tmp_path / "again.dcm", enforce_file_format=True)
        assert path.read_bytes() == (tmp_path / "again.dcm").read_bytes()


def test_a_failure_leaves_nothing_and_an_older_series_as_it_was(mr, tmp_path, monkeypatch):
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out")
    before = [path.read_bytes() for path in files(made)]
    original = series.SharedElements.write
    count = []

    def full(self, path, own, pixels):
        count.append(1)
        if len(count) == 3:
            raise OSError(28, "No space left on device", str(path))
        original(self, path, own, pixels)

    monkeypatch.setattr(series.SharedElements, "write", full)
    with pytest.raises(OutputError, match="disk or quota is full"):
        write_ct_series(hounsfield_of(mr, 1), mr.affine, mr.headers, tmp_path / "out")
    assert [path.read_bytes() for path in files(made)] == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_lossy_source_stays_marked_as_lossy(mr, tmp_path):
    mr.headers[1].LossyImageCompression, mr.headers[1].LossyImageCompressionRatio = "01", "12"
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out")
    assert {(h.LossyImageCompression, float(h.LossyImageCompressionRatio)) for h in made.headers} == {("01", 12.0)}


def test_a_value_that_dicom_forbids_is_left_empty_and_named_without_its_content(mr, tmp_path):
    with pydicom.config.disable_value_validation():
        for header in mr.headers:
            header.StudyID = "planted and far too long"
            del header.PatientID
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out")
    assert made.headers[0].StudyID is None and "PatientID" in made.headers[0]
    assert "StudyID" in " ".join(made.warnings) and "no PatientID" in " ".join(made.warnings)
    assert "planted" not in " ".join(made.warnings)


def test_without_a_body_part_laterality_is_present_and_empty(write_series, tmp_path):
    mr = read_volume(write_series()[0])
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out")
    assert "Laterality" in made.headers[0] and made.headers[0].Laterality is None


@pytest.mark.parametrize("way", AXIAL_WAYS.values(), ids=AXIAL_WAYS)
def test_other_readers_find_the_same_hounsfield_at_the_same_place(write_series, tmp_path, way):
    mr = read_volume(write_series(orientation=way)[0])
    hounsfield = hounsfield_of(mr)
    made = write_ct_series(hounsfield, mr.affine, mr.headers, tmp_path / "out")
    assert made.is_native and made.warnings == ()
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(made.folder / "ct")))
    assert np.array_equal(sitk.GetArrayFromImage(image).T, hounsfield)
    assert_same_place(mr, image)
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in files(made)])
    here = np.argwhere(np.ones(hounsfield.shape, dtype=bool))
    lps = (here @ mr.affine[:3, :3].T + mr.affine[:3, 3]) * [-1, -1, 1]
    there = volume.map_reference_to_indices(lps)
    assert np.abs(there - np.rint(there)).max() < 1e-3
    assert np.array_equal(volume.array[tuple(np.rint(there).astype(int).T)], hounsfield[tuple(here.T)])


def assert_same_place(volume, image, tolerance: float = 1e-3) -> None:
    """All corners, in voxels."""
    last = np.array(volume.array.shape) - 1
    for corner in np.ndindex(2, 2, 2):
        index = np.array(corner) * last
        lps = (volume.affine[:3, :3] @ index + volume.affine[:3, 3]) * [-1, -1, 1]
        there = image.TransformPhysicalPointToContinuousIndex(lps.tolist())
        assert np.abs(np.array(there) - index).max() < tolerance


@pytest.mark.slow
def test_itk_reads_the_same(written, mr):
    itk = pytest.importorskip("itk")
    image = itk.imread([str(path) for path in files(written[0])])
    assert np.array_equal(itk.array_from_image(image).T, written[1])
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    assert np.abs(np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ affine) @ mr.affine - np.eye(4)).max() < 1e-3


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed")
def test_dcm2niix_reads_the_same(written, mr, tmp_path):
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "made", "-o", tmp_path, written[0].folder / "ct"]
    subprocess.run(command, check=True, capture_output=True)
    image = nibabel.load(next(tmp_path.glob("made*.nii")))
    turn = np.linalg.inv(image.affine) @ mr.affine  # dcm2niix turns the rows round
    here = np.argwhere(np.ones(written[1].shape, dtype=bool))
    there = here @ turn[:3, :3].T + turn[:3, 3]
    assert np.abs(there - np.rint(there)).max() < 1e-3
    found = np.asarray(image.dataobj)[tuple(np.rint(there).astype(int).T)]
    assert np.array_equal(found, written[1][tuple(here.T)])


def errors_of(path) -> list[str]:
    """What dciodvfy calls an error; its exit status says nothing."""
    shown = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
    lines = (shown.stdout + shown.stderr).splitlines()
    return [line for line in lines if line.startswith("Error") and UNKNOWN_TO_DCIODVFY not in line]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools are not installed")
@pytest.mark.parametrize("orientation", [AXIAL_WAYS["prone"], SAGITTAL], ids=["axial", "sagittal"])
def test_dciodvfy_and_dcentvfy_find_no_error(write_series, tmp_path, orientation):
    folder, _ = write_series(orientation=orientation, change=scanner)
    mr = read_volume(folder)
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out", mr=mr.array)
    written = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {path: errors for path in written if (errors := errors_of(path))} == {}
    shown = subprocess.run(["dcentvfy", *written, *folder.iterdir()], capture_output=True, text=True)
    assert shown.stdout + shown.stderr == "" and len(made.headers) == len(files(made))


@pytest.mark.parametrize("orientation", [SAGITTAL, OBLIQUE], ids=["sagittal", "oblique"])
def test_a_ct_that_is_not_axial_is_resampled_with_its_mr_and_says_so(write_series, tmp_path, orientation):
    """Linear fields survive linear interpolation: every value says where it lies."""
    mr = read_volume(write_series(orientation=orientation, slices=9)[0])
    hounsfield = np.rint(field(mr.affine, mr.array.shape)).astype(np.int16)
    made = write_ct_series(hounsfield, mr.affine, mr.headers, tmp_path / "out", mr=hounsfield + 2000)
    ct, beside = read_volume(made.folder / "ct"), read_volume(made.folder / "mr_axial")
    assert not made.is_native and "resampled to an axial grid" in made.warnings[0]
    assert is_axial(ct.affine) and np.allclose(ct.affine, beside.affine) and np.allclose(ct.affine, made.affine)
    assert ct.spacing[0] == pytest.approx(ct.spacing[1]) and ct.modality == "CT" and beside.modality == "MR"
    inverse = np.linalg.inv(mr.affine) @ ct.affine
    index = np.argwhere(np.ones(ct.array.shape, dtype=bool))
    inside = index @ inverse[:3, :3].T + inverse[:3, 3]
    inner = ((inside > 1e-9) & (inside < np.array(mr.array.shape) - 1 - 1e-9)).all(axis=1)
    outer = ((inside < -1) | (inside > np.array(mr.array.shape))).any(axis=1)
    expected = field(ct.affine, ct.array.shape)
    assert inner.sum() > 20
    assert np.abs(ct.array - expected)[tuple(index[inner].T)].max() <= 1.01  # rounded twice
    assert np.abs(beside.array - 2000 - expected)[tuple(index[inner].T)].max() <= 1.01
    assert (ct.array[tuple(index[outer].T)] == -1024).all()
    assert beside.headers[0].StudyInstanceUID == ct.headers[0].StudyInstanceUID == mr.headers[0].StudyInstanceUID
    assert beside.headers[0].FrameOfReferenceUID == mr.headers[0].FrameOfReferenceUID
    assert len(ct.headers[0].SourceImageSequence) == 9


def field(affine, shape) -> np.ndarray:
    x, y, z = np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape)) + affine[:3, 3][:, None, None, None]
    return 3 * x - 5 * y + 7 * z - 400


def test_a_stack_that_would_give_400_slices_is_written_coarser(write_series, tmp_path):
    def tall(k, image):
        image.Rows, image.Columns, image.PixelSpacing = 450, 2, [1, 1]
        image.PixelData = np.full((450, 2), k, np.int16).tobytes()

    mr = read_volume(write_series(orientation=(0, 1, 0, 0, 0, -1), slices=3, change=tall)[0])
    made = write_ct_series(mr.array, mr.affine, mr.headers, tmp_path / "out")
    assert len(files(made)) == 399


def test_mr_values_that_are_no_whole_numbers_get_a_rescale(write_series, tmp_path):
    mr = read_volume(write_series(orientation=SAGITTAL)[0])
    values = (mr.array / 3000).astype(np.float32)
    made = write_ct_series(hounsfield_of(mr), mr.affine, mr.headers, tmp_path / "out", mr=values)
    beside = read_volume(made.folder / "mr_axial")
    assert beside.array.dtype == np.float32 and beside.array.max() == pytest.approx(values.max(), abs=1e-3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back_exactly(tmp_path_factory, mr, data):
    """Any axial orientation, spacing, origin, size and order of slices: the same affine and HU."""
    number = st.floats(0.3, 6.0)
    way = np.array(data.draw(st.sampled_from(list(AXIAL_WAYS.values())))).reshape(2, 3)
    edges = np.array([data.draw(number), data.draw(number), data.draw(number)])
    downwards = data.draw(st.booleans())
    axes = np.column_stack([*way, np.cross(*way) * (-1 if downwards else 1)]) * edges
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1, 1]) @ axes
    affine[:3, 3] = [data.draw(st.floats(-500, 500)) for _ in range(3)]
    shape = tuple(data.draw(st.integers(2, 6)) for _ in range(3))
    hounsfield = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-1024, 3072, shape).astype(np.int16)
    hounsfield[0, 0, 0] = -1024
    folder = tmp_path_factory.mktemp("made")
    made = write_ct_series(hounsfield, affine, mr.headers, folder / "out")
    volume = read_volume(made.folder / "ct")
    if downwards:  # slices are read along row x column
        affine[:3, 3] += (shape[2] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        hounsfield = hounsfield[:, :, ::-1]
    assert np.array_equal(volume.array, hounsfield)
    assert np.abs(np.linalg.inv(affine) @ volume.affine - np.eye(4)).max() < 1e-3
    assert np.abs(volume.affine - affine).max() < 1e-5

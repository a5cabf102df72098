"""A series is found wherever it lies: nested, indexed, listed, in one multi-frame file; one of several is chosen."""

import logging
import shutil

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from medical_gans.errors import InputError
from medical_gans.io import find_cases, list_series, read_series, read_volume
from medical_gans.io.dicom.ct import write_ct_series
from medical_gans.io.dicom.pixels import decoded_by_itk

OBLIQUE = (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997)
TILT = np.tan(np.radians(12))


def legal(k, image):
    """What a DICOMDIR and a legacy converted object need beside what intake needs."""
    with pydicom.config.disable_value_validation():
        image.PatientID, image.StudyInstanceUID, image.SeriesInstanceUID = "1", "1.2.3.1", "1.2.3.100"
    image.StudyDate, image.StudyTime, image.StudyID, image.SeriesNumber = "20200102", "101112", "7", 3
    image.AccessionNumber, image.PatientBirthDate, image.PatientSex = "", "", ""
    image.ReferringPhysicianName = image.PositionReferenceIndicator = None
    image.Manufacturer, image.SliceThickness, image.Laterality = "Scanner works", "2.5", ""
    image.ImageType, image.ContentDate, image.ContentTime = ["ORIGINAL", "PRIMARY", "OTHER"], "20200102", "101500"
    image.AcquisitionDateTime = "20200102101500"


@pytest.fixture
def series(write_series):
    """Folder and pixels of an MR series with legal headers."""
    return write_series(orientation=OBLIQUE, change=legal)


def test_a_dicomdir_is_read_and_a_lower_case_disc_too(series, tmp_path):
    folder, pixels = series
    index = FileSet()
    for path in folder.iterdir():
        index.add(path)
    index.write(tmp_path / "disc")
    expected = read_volume(folder).affine
    assert np.array_equal(read_volume(tmp_path / "disc").array, pixels.T)
    volume = read_volume(tmp_path / "disc" / "DICOMDIR")
    assert np.array_equal(volume.array, pixels.T) and np.allclose(volume.affine, expected)
    (case,) = find_cases(tmp_path / "disc" / "DICOMDIR")
    assert len(case.files) == 5 and np.array_equal(read_volume(case.mr_source).array, pixels.T)
    (case,) = find_cases(tmp_path / "disc")
    assert np.array_equal(read_volume(case.mr_source).array, pixels.T)
    for path in sorted((tmp_path / "disc").rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    assert np.array_equal(read_volume(tmp_path / "disc" / "DICOMDIR").array, pixels.T)


def test_a_dicomdir_whose_files_are_gone_is_refused(series, tmp_path):
    index = FileSet()
    for path in series[0].iterdir():
        index.add(path)
    index.write(tmp_path / "disc")
    shutil.copy(tmp_path / "disc" / "DICOMDIR", tmp_path / "DICOMDIR")
    with pytest.raises(InputError, match="names 5 files that do not exist"):
        read_volume(tmp_path / "DICOMDIR")


def test_lists_of_files_are_read(series, tmp_path):
    folder, pixels = series
    paths = sorted(folder.iterdir())
    assert np.array_equal(read_volume(paths).array, pixels.T)
    (tmp_path / "list.txt").write_text("\n".join(str(path.relative_to(tmp_path)) for path in paths) + "\n\n")
    assert np.array_equal(read_volume(tmp_path / "list.txt").array, pixels.T)
    (case,) = find_cases([str(path) for path in paths])
    assert case.name.endswith("series") and np.array_equal(read_volume(case.mr_source).array, pixels.T)
    (case,) = find_cases(tmp_path / "list.txt")
    assert case.files == tuple(tmp_path / path.relative_to(tmp_path) for path in paths)
    (tmp_path / "list.txt").write_text("gone.dcm")
    with pytest.raises(InputError, match=r"names 1 files that do not exist, the first .*gone\.dcm"):
        read_volume(tmp_path / "list.txt")


def test_a_deeply_nested_export_is_one_case(series, tmp_path):
    deep = tmp_path / "export" / "patient" / "study"
    deep.mkdir(parents=True)
    shutil.move(series[0], deep / "series")
    (case,) = find_cases(tmp_path / "export")
    assert np.array_equal(read_volume(case.mr_source).array, series[1].T)


def test_one_file_of_a_series_is_refused_with_what_to_give_instead(series):
    with pytest.raises(InputError, match=r"one file of a DICOM series\. Give the folder"):
        read_volume(sorted(series[0].iterdir())[0])


@pytest.fixture
def enhanced(series, tmp_path):
    """The same series as one enhanced multi-frame file, frames in the order of file names, by highdicom."""
    single = [pydicom.dcmread(path) for path in sorted(series[0].iterdir())]
    made = highdicom.legacy.LegacyConvertedEnhancedMRImage(single, "2.25.7", 1, "2.25.8", 1)
    made.save_as(tmp_path / "enhanced.dcm")
    return tmp_path / "enhanced.dcm"


def test_an_enhanced_multi_frame_file_is_read_as_highdicom_reads_it(series, enhanced):
    volume, reference = read_volume(enhanced), highdicom.imread(enhanced).get_volume()
    assert np.allclose(volume.affine, read_volume(series[0]).affine, atol=1e-6)
    assert np.array_equal(volume.array, series[1].T) and volume.modality == "MR"
    here = np.argwhere(np.ones(volume.array.shape))
    lps = (here @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
    there = np.rint(reference.map_reference_to_indices(lps)).astype(int)
    assert np.array_equal(reference.array[tuple(there.T)], volume.array[tuple(here.T)])
    assert sorted(header.ReferencedFrameNumber for header in volume.headers) == [1, 2, 3, 4, 5]
    (case,) = find_cases(enhanced)
    assert case.mr == enhanced


def test_a_ct_made_from_a_multi_frame_file_refers_to_its_frames(enhanced, tmp_path):
    mr = read_volume(enhanced)
    made = write_ct_series(mr.array - 1000, mr.affine, mr.headers, tmp_path / "out", mr=mr.array)
    source = pydicom.dcmread(enhanced, stop_before_pixels=True)
    items = made.headers[0].SourceImageSequence
    assert {item.ReferencedSOPInstanceUID for item in items} == {source.SOPInstanceUID}
    assert [item.ReferencedFrameNumber for item in items] == [header.ReferencedFrameNumber for header in mr.headers]
    assert made.headers[0].StudyInstanceUID == source.StudyInstanceUID


def change_frames(path, change) -> None:
    image = pydicom.dcmread(path)
    change(image)
    image.save_as(path)


def position(image, frame):
    return image.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: position(i, 2).update(position(i, 1)), "2 different images at the position"),
        (lambda i: position(i, 2).pop("ImagePositionPatient"), "does not say where its slices lie"),
        (lambda i: i.PerFrameFunctionalGroupsSequence.pop(), "truncated or damaged"),
        (lambda i: i.pop("PerFrameFunctionalGroupsSequence"), "does not say where its frames lie"),
        (lambda i: setattr(i, "PixelData", i.PixelData[:100]), "truncated or damaged"),
    ],
    ids=["two frames at one place", "no position", "lost groups", "no groups", "short pixels"],
)
def test_bad_multi_frame_files_are_refused(enhanced, change, words):
    change_frames(enhanced, change)
    with pytest.raises(InputError, match=words):
        read_volume(enhanced)


def test_one_series_of_several_is_chosen_or_every_mr_is_taken(write_series, tmp_path, caplog):
    _, pixels = write_series(folder="both", change=lambda k, image: setattr(image, "SeriesNumber", 4))
    write_series(folder="both", uid="1.2.3.300", slices=4, change=lambda k, image: setattr(image, "SeriesNumber", 9))
    folder, _ = write_series("CT", folder="both", uid="1.2.3.200", slices=3)
    with pytest.raises(InputError, match=r"holds 3 DICOM series.*--select .series [49]..*--all_series"):
        read_volume(folder)
    (case,) = find_cases(folder, series_uid="1.2.3.100")
    assert np.array_equal(read_volume(case.mr_source, case.series_uid).array, pixels.T)
    with caplog.at_level(logging.INFO, logger="medical_gans"):
        cases = find_cases(folder, all_series=True)
    assert {case.name: case.series_uid for case in cases} == {"both_series4": "1.2.3.100", "both_series9": "1.2.3.300"}
    assert "1.2.3.300  MR  4 images of 4 x 6  made for a test" in caplog.text
    with pytest.raises(InputError, match=r"holds no series 1\.2\.3\.4\. It holds:\n +1\.2\.3\.100  MR"):
        find_cases(folder, series_uid="1.2.3.4")


def test_series_with_one_number_are_told_apart_by_a_count(write_series):
    write_series(folder="both")
    folder, _ = write_series(folder="both", uid="1.2.3.300")
    assert [case.name for case in find_cases(folder, all_series=True)] == ["both_series_1", "both_series_2"]


def test_the_table_of_series_leaves_out_words_that_name_a_person(write_series):
    folder, _ = write_series(change=lambda k, image: setattr(image, "SeriesDescription", "T1 PLANTED^Name sag"))
    assert [series.description for series in list_series(folder)] == ["T1 sag"]


def tilted(k, image):
    x, y, z = map(float, image.ImagePositionPatient)
    image.ImagePositionPatient = [x, y + 2.5 * k * TILT, z]
    rows, columns = np.indices((image.Rows, image.Columns))
    image.PixelData = (100 + 20 * (rows * 0.75 + 2.5 * k * TILT) + 8 * columns).round().astype(np.int16).tobytes()


def test_a_tilted_stack_is_resampled_when_repair_asks_for_it(write_series):
    """A field that is linear in space comes out linear in space, with its planes where they were."""
    folder, _ = write_series(slices=6, change=tilted)
    with pytest.raises(InputError, match="--repair true"):
        read_volume(folder)
    volume = read_volume(folder, repair=True)
    assert volume.repairs == ("The series was sheared by 12.0 degrees (gantry tilt) and was resampled.",)
    axes = volume.affine[:3, :3] / volume.spacing
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9) and volume.spacing == pytest.approx((1.25, 0.75, 2.5))
    x, y, z = np.einsum("ij,jxyz->ixyz", volume.affine[:3, :3], np.indices(volume.array.shape)) + volume.affine[
        :3, 3
    ].reshape(3, 1, 1, 1)
    left, back = -x - (-20.0), -y - (-30.0)  # mm from the first pixel of the first slice
    expected = 100 + 20 * back + 8 * left / 1.25
    drift = (z - 40) * TILT
    covered = (back >= drift + 1e-6) & (back <= drift + 5 * 0.75 - 1e-6)
    assert covered.any(axis=(0, 1)).all()
    assert np.abs(volume.array - expected)[covered].max() <= 1.01  # pixels and result are rounded
    assert np.array_equal(volume.array.max(axis=(0, 1)) > 100, np.ones(6, dtype=bool))
    assert len(volume.headers) == 6


def test_repair_changes_nothing_in_an_upright_stack(series):
    volume, repaired = read_volume(series[0]), read_volume(series[0], repair=True)
    assert np.array_equal(volume.array, repaired.array) and np.array_equal(volume.affine, repaired.affine)
    assert repaired.repairs == ()


def test_dropped_copies_are_counted(series):
    for path in sorted(series[0].iterdir())[:2]:
        shutil.copy(path, path.with_name(f"copy {path.name}"))
    assert read_series(series[0]).repairs == ("2 identical copies of slices were passed over.",)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_slices_are_decoded_by_gdcm_and_by_simpleitk_alike(series, tmp_path, syntax):
    path = sorted(series[0].iterdir())[0]
    image = pydicom.dcmread(path)
    plain = image.pixel_array.copy()
    try:
        image.compress(syntax)
    except RuntimeError as error:
        pytest.skip(str(error).splitlines()[0])
    image.save_as(tmp_path / "packed.dcm")
    assert np.array_equal(decoded_by_itk(tmp_path / "packed.dcm")[0], plain)


def test_without_a_plugin_simpleitk_decodes(series, monkeypatch):
    from medical_gans.io.dicom import pixels as dicom_pixels

    expected = read_volume(series[0]).array

    def none(path, **options):
        raise NotImplementedError

    monkeypatch.setattr(dicom_pixels, "pixel_array", none)
    monkeypatch.setattr(dicom_pixels, "_can_decode", lambda syntax: False)
    assert np.array_equal(read_volume(series[0]).array, expected)


def test_a_syntax_that_nothing_decodes_is_named(write_series, monkeypatch):
    def packed(k, image):
        image.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        image.PixelData = pydicom.encaps.encapsulate([b"\x00\x01\x02\x03"])
        image["PixelData"].VR = "OB"

    folder, _ = write_series(change=packed)
    from medical_gans.io.dicom import pixels as dicom_pixels

    monkeypatch.setattr(dicom_pixels, "_can_decode", lambda syntax: False)
    with pytest.raises(InputError, match=r"compressed as JPEG Lossless.*, which no installed codec decodes"):
        read_volume(folder)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["compressed", "compressed_j2k", "compressed_jpegls", "compressed_rle"])
def test_real_lossless_series_are_decoded_alike_by_both_codecs(shared_data, name):
    folder = shared_data / "dicom" / "syntheticpixels_dicom2nifti" / "generic" / name / "001"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    volume = read_volume(folder)
    for path in folder.iterdir():
        plane = decoded_by_itk(path)[0].T
        assert any(np.array_equal(plane, volume.array[:, :, k]) for k in range(volume.array.shape[2]))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("emri_small.dcm", "does not say where its frames lie"),
        ("emri_small_RLE.dcm", "does not say where its frames lie"),
        ("emri_small_big_endian.dcm", "does not say where its frames lie"),
        ("emri_small_jpeg_2k_lossless.dcm", "does not say where its frames lie"),
        ("693_J2KR.dcm", "one file of a DICOM series"),
        ("MR2_J2KR.dcm", "one file of a DICOM series"),
        ("MR-SIEMENS-DICOM-WithOverlays.dcm", "one file of a DICOM series"),
        ("bad_sequence.dcm", "one file of a DICOM series"),
        ("mlut_18.dcm", "modality OT"),
    ],
)
def test_real_single_files_are_refused_by_name(shared_data, name, words):
    path = shared_data / "dicom" / "pydicom_data" / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    with pytest.raises(InputError, match=words):
        read_volume(path)


@pytest.mark.real_data
def test_the_real_enhanced_ct_is_read_as_highdicom_reads_it(shared_data):
    path = shared_data / "dicom" / "pydicom_data" / "eCT_Supplemental.dcm"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    volume, reference = read_volume(path), highdicom.imread(path).get_volume()
    assert volume.array.shape == (512, 512, 2) and volume.modality == "CT"
    assert volume.spacing == pytest.approx(reference.spacing[::-1], abs=1e-5)
    assert any(np.array_equal(volume.array[:, :, 0], plane.T) for plane in reference.array)


@pytest.mark.real_data
def test_the_real_tilted_series_is_read_when_repair_asks_for_it(shared_data):
    folder = shared_data / "dicom" / "syntheticpixels_dicom2nifti" / "failing" / "gantrytilting"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    volume = read_volume(folder, repair=True)
    assert volume.array.shape == (512, 521, 4) and "14.0 degrees" in volume.repairs[0]


@pytest.mark.real_data
def test_the_real_ct_with_lost_slices_is_refused(shared_data, tmp_path):
    archive = shared_data / "dicom" / "ct_ge_duplicate_positions.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is missing")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    with pytest.raises(InputError, match="uneven slice spacing"):
        read_volume(tmp_path)

"""A plain DICOM series is read exactly, or refused with what, where and what to do.

SimpleITK (GDCM) and highdicom are the referees where they read rightly.
"""

import logging
import shutil
import tarfile
import tracemalloc
import warnings

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import EnhancedMRImageStorage, RLELossless, RTStructureSetStorage

from medical_gans.errors import InputError
from medical_gans.io import list_series, read_series, read_volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORIENTATIONS = {
    "axial": AXIAL,
    "feet up": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997),
}


def by_simpleitk(folder) -> sitk.Image:
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def assert_same_place(volume, image: sitk.Image) -> None:
    """All corners, in mm."""
    last = np.array(volume.array.shape) - 1
    for corner in np.ndindex(2, 2, 2):
        index = np.array(corner) * last
        here = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
        left_back_up = image.TransformContinuousIndexToPhysicalPoint([float(value) for value in index])
        assert np.abs(here - np.array(left_back_up) * [-1, -1, 1]).max() < 1e-4


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_series_is_read_as_simpleitk_reads_it(write_series, modality, orientation):
    folder, pixels = write_series(modality, orientation)
    volume, image = read_volume(folder), by_simpleitk(folder)
    assert volume.array.shape == (4, 6, 5) and volume.array.dtype == np.int16
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image).T)
    assert np.array_equal(volume.array, pixels.T - (1024 if modality == "CT" else 0))
    assert_same_place(volume, image)
    assert volume.spacing == pytest.approx((1.25, 0.75, 2.5))
    assert volume.modality == modality


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_series_is_read_as_highdicom_reads_it(write_series, orientation):
    folder, _ = write_series("CT", orientation)
    reference = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])
    volume = read_volume(folder)
    here = np.argwhere(np.ones(volume.array.shape))
    left_back_up = (here @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
    there = reference.map_reference_to_indices(left_back_up)
    assert np.abs(there - np.round(there)).max() < 1e-4
    assert np.array_equal(volume.array[*here.T], reference.array[*np.round(there).astype(int).T])


def test_the_affine_takes_each_slice_to_its_own_position(write_series):
    volume = read_volume(write_series(orientation=ORIENTATIONS["oblique"], slices=7)[0])
    for k, header in enumerate(volume.headers):
        here = (volume.affine @ [0, 0, k, 1])[:3] * [-1, -1, 1]
        assert np.abs(here - np.array(header.ImagePositionPatient, dtype=float)).max() < 1e-5


def test_headers_come_in_slice_order_without_pixels(write_series):
    volume = read_volume(write_series("CT")[0])
    assert [float(header.ImagePositionPatient[2]) for header in volume.headers] == [40, 42.5, 45, 47.5, 50]
    assert not any("PixelData" in header for header in volume.headers)
    assert all(header.file_meta.TransferSyntaxUID for header in volume.headers)


def test_what_all_headers_say_is_kept_once(write_series):
    folder, _ = write_series("MR")
    protocol = b"<XProtocol>" + bytes(1 << 20)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x20, "OB", protocol)
        image.save_as(path)
    tracemalloc.start()
    headers = read_volume(folder).headers
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(headers) == 5 and kept < 1.5 * len(protocol)
    blocks = [header.private_block(0x0029, "SIEMENS CSA HEADER") for header in headers]
    assert all(block[0x20].value == protocol + b"\0" for block in blocks)


def test_nested_folders_and_other_objects_are_passed_over(write_series, tmp_path):
    folder, pixels = write_series()
    (folder / "deeper").mkdir()
    for path in sorted(folder.glob("*.dcm"))[:2]:
        shutil.move(path, folder / "deeper" / path.name)
    contours = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    contours.Modality, contours.SeriesInstanceUID, contours.SOPClassUID = (
        "RTSTRUCT",
        "1.9",
        RTStructureSetStorage,
    )
    contours.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    contours.save_as(folder / "contours.dcm")
    (folder / "LICENSE").write_text("text")
    (folder / "._1.dcm").write_bytes(b"left by an archiver")
    assert np.array_equal(read_volume(folder).array, pixels.T)


def test_identical_duplicates_are_dropped(write_series):
    folder, pixels = write_series("CT")
    for path in sorted(folder.glob("*.dcm"))[:3]:
        shutil.copy(path, folder / f"copy of {path.name}")
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels.T - 1024)
    assert volume.spacing[2] == pytest.approx(2.5) and len(volume.headers) == 5


def test_varying_rescale_is_applied_slice_by_slice(write_series):
    slopes = [1.5, 0.25, 3.774114, 1, 2]

    def change(k, image):
        image.RescaleSlope, image.RescaleIntercept = str(slopes[k]), str(k - 0.5)

    folder, pixels = write_series(change=change)
    expected = pixels * np.array(slopes)[:, None, None] + (np.arange(5) - 0.5)[:, None, None]
    array = read_volume(folder).array
    assert array.dtype == np.float32
    assert np.allclose(array, expected.T, rtol=1e-7)


def test_whole_numbers_stay_whole_when_rescale_varies(write_series):
    def change(k, image):
        image.RescaleSlope, image.RescaleIntercept = str(k + 1), str(-1024 - k)

    folder, pixels = write_series("CT", change=change)
    array = read_volume(folder).array
    expected = pixels.astype(int) * np.arange(1, 6)[:, None, None] - 1024 - np.arange(5)[:, None, None]
    assert array.dtype == np.int16
    assert np.array_equal(array, expected.T)


def test_unsigned_pixels_and_unused_bits_are_read_by_their_width(write_series):
    def change(k, image):
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
        stored = np.frombuffer(image.PixelData, np.uint16).reshape(6, 4) % 4096
        image.PixelData = (stored | 0xF000).tobytes()  # an overlay in the four bits above

    folder, pixels = write_series(change=change)
    assert np.array_equal(read_volume(folder).array, pixels.T)


def test_compressed_slices_are_read(write_series):
    folder, pixels = write_series("CT", change=lambda k, image: image.compress(RLELossless))
    assert np.array_equal(read_volume(folder).array, pixels.T - 1024)


def test_rounded_positions_and_directions_are_no_gap_and_no_tilt(write_series):
    random = np.random.default_rng(0)

    def change(k, image):
        image.ImagePositionPatient = [round(float(value), 2) for value in image.ImagePositionPatient]
        jitter = random.uniform(-1e-4, 1e-4, 6)
        image.ImageOrientationPatient = [round(value, 6) for value in ORIENTATIONS["oblique"] + jitter]

    volume = read_volume(write_series(orientation=ORIENTATIONS["oblique"], slices=40, change=change)[0])
    assert volume.spacing[2] == pytest.approx(2.5, abs=1e-3)
    axes = volume.affine[:3, :3] / volume.spacing
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)


def test_one_of_several_series_is_chosen_by_its_uid(write_series, tmp_path):
    _, pixels = write_series(folder="both")
    folder, _ = write_series("CT", folder="both", uid="1.2.3.200", slices=3)
    with pytest.raises(InputError) as raised:
        read_volume(folder)
    message = str(raised.value)
    assert "holds 2 DICOM series; one is needed" in message
    assert '"MR"  MR  5 images of 4 x 6  made for a test  1.2.3.100' in message
    assert '"CT"  CT  3 images of 4 x 6  made for a test  1.2.3.200' in message
    assert np.array_equal(read_volume(folder, select="1.2.3.100").array, pixels.T)
    assert np.array_equal(read_volume(folder, series_uid="1.2.3.100").array, pixels.T)
    assert [series.images for series in list_series(folder)] == [5, 3]
    with pytest.raises(InputError, match=r"no series 1\.2\.3\.4"):
        read_series(folder, "1.2.3.4")


def left_out(*numbers):
    def change(k, image):
        if k in numbers:
            vars(image)["left_out"] = True

    return change


def put(keyword, value, at=None):
    def change(k, image):
        if at is None or k == at:
            setattr(image, keyword, value)

    return change


def drop(keyword, at=None):
    def change(k, image):
        if (at is None or k == at) and keyword in image:
            delattr(image, keyword)

    return change


def shift(at, *offset):
    """Move slice `at` and all after it."""

    def change(k, image):
        if k >= at:
            image.ImagePositionPatient = [
                float(value) + step for value, step in zip(image.ImagePositionPatient, offset, strict=True)
            ]

    return change


def tilt(k, image):
    x, y, z = map(float, image.ImagePositionPatient)
    image.ImagePositionPatient = [x, y + 2.5 * k * np.tan(np.radians(12)), z]


def same_position(k, image):
    image.ImagePositionPatient = [-20, -30, 40 + 2.5 * (k // 2)]
    image.EchoTime = str(10 + 70 * (k % 2))


def colour(k, image):
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation, image.PixelData = 7, 0, bytes(72)


def enhanced(k, image):
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    image.NumberOfFrames = 2


def smaller(k, image):
    if k == 2:
        image.Rows, image.PixelData = 5, image.PixelData[:40]


def lut(k, image):
    image.ModalityLUTSequence = [pydicom.Dataset()]


def rescale_in_one(k, image):
    if k == 3:
        image.RescaleSlope, image.RescaleIntercept = "2", "0"


def shifted_hounsfield(k, image):
    image.RescaleIntercept = "0"


REFUSALS = {
    "a missing slice": (
        "MR",
        left_out(3),
        r"gap of 5\.00 mm between slices 3 and 4 \(spacing 2\.50 mm; 1 missing",
    ),
    "two missing slices": (
        "CT",
        left_out(2, 5),
        r"gap of 5\.00 mm between slices 2 and 3 .*2 missing in all",
    ),
    "uneven spacing": (
        "MR",
        shift(4, 0, 0, 0.7),
        r"uneven slice spacing: 2\.50 mm .*3\.20 mm between 4 and 5",
    ),
    "tilt": ("CT", tilt, r"tilted: its slices are sheared by 12\.0 degrees"),
    "two stacks": ("MR", shift(4, 9, 0, 0), r"shifts sideways by 9\.00 mm between slices 4 and 5"),
    "two echoes": (
        "MR",
        same_position,
        r"2 different images at the position of slice 1, which differ in EchoTime",
    ),
    "one slice": ("MR", left_out(*range(1, 8)), "at 1 position only"),
    "mixed orientation": (
        "MR",
        put("ImageOrientationPatient", [0, 1, 0, 0, 0, -1], 1),
        "slices of 2 orientations",
    ),
    "skewed orientation": (
        "MR",
        put("ImageOrientationPatient", [1, 0, 0, 0.5, 0.866, 0]),
        "no pair of orthogonal",
    ),
    "mixed pixel spacing": (
        "MR",
        put("PixelSpacing", [0.5, 0.5], 1),
        r"mixes pixel spacings from 0\.5 to 1\.25 mm",
    ),
    "zero pixel spacing": ("MR", put("PixelSpacing", [0, 0.5]), "PixelSpacing of 0 mm"),
    "mixed frames of reference": (
        "MR",
        put("FrameOfReferenceUID", "1.9", 1),
        "2 different values of FrameOfRef",
    ),
    "a lost frame of reference": ("MR", drop("FrameOfReferenceUID", 1), "2 different values of FrameOfRef"),
    "mixed patients": ("MR", put("PatientID", "another", 1), "2 different values of PatientID"),
    "mixed studies": ("MR", put("StudyInstanceUID", "1.9", 1), "2 different values of StudyInstanceUID"),
    "mixed patient positions": (
        "MR",
        put("PatientPosition", "FFS", 1),
        "2 different values of PatientPosition",
    ),
    "mixed size": ("MR", smaller, "2 different values of Rows"),
    "no position": (
        "MR",
        drop("ImagePositionPatient"),
        "ImagePositionPatient is missing or invalid in 8 of 8",
    ),
    "one lost position": ("MR", drop("ImagePositionPatient", 2), "ImagePositionPatient .* in 1 of 8"),
    "an empty position": ("MR", put("ImagePositionPatient", None, 2), "ImagePositionPatient .* in 1 of 8"),
    "no orientation": ("MR", drop("ImageOrientationPatient"), "does not say its orientation"),
    "no pixel spacing": ("MR", drop("PixelSpacing"), "does not say how large its pixels are"),
    "CT without rescale": (
        "CT",
        drop("RescaleIntercept"),
        "lacks RescaleSlope or RescaleIntercept in 8 of 8",
    ),
    "one lost rescale": ("CT", drop("RescaleSlope", 4), "lacks .* in 1 of 8"),
    "MR with one rescale": ("MR", rescale_in_one, "lacks .* in 7 of 8"),
    "zero rescale": ("CT", put("RescaleSlope", "0", 4), "RescaleSlope that is zero"),
    "CT in other units": ("CT", put("RescaleType", "Z_EFF"), "in Z_EFF, not in HU"),
    "HU shifted by 1024": ("CT", shifted_hounsfield, "without any negative HU"),
    "Modality LUT": ("MR", lut, "Modality LUT"),
    "colour": ("MR", colour, "holds RGB images"),
    "palette": ("MR", put("PhotometricInterpretation", "PALETTE COLOR"), "holds PALETTE COLOR images"),
    "mosaic": ("MR", put("ImageType", ["ORIGINAL", "PRIMARY", "MOSAIC"]), "Siemens mosaic.*dcm2niix"),
    "frames without a place": ("MR", enhanced, "does not say where its frames lie"),
    "another modality": ("MR", put("Modality", "PT"), "has modality PT; MR or CT is needed"),
    "constant": ("MR", put("PixelData", bytes(48)), "constant: every voxel is 0"),
    "short pixels": ("MR", put("PixelData", bytes(40), 3), "truncated or damaged"),
    "no pixels": ("MR", drop("PixelData", 3), "truncated or damaged"),
}


@pytest.mark.parametrize(("modality", "change", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_series_that_is_no_volume_is_refused(write_series, modality, change, words):
    folder, _ = write_series(modality, slices=8, change=change)
    with pytest.raises(InputError, match=words) as raised:
        read_volume(folder)
    assert "Planted" not in str(raised.value) and "planted-id" not in str(raised.value)


@pytest.mark.parametrize("lost", [1, 30, 0.3, 0.9])
def test_a_truncated_file_is_refused_and_named(write_series, lost):
    folder, _ = write_series()
    path = sorted(folder.glob("*.dcm"))[2]
    content = path.read_bytes()
    path.write_bytes(content[: -(lost if lost >= 1 else int(lost * len(content)))])
    with pytest.raises(InputError, match=rf"{path.name} is a truncated or damaged DICOM file"):
        read_volume(folder)


def test_a_file_cut_before_it_says_what_it_is_is_refused_and_named(write_series):
    folder, _ = write_series()
    path = sorted(folder.glob("*.dcm"))[0]
    path.write_bytes(path.read_bytes()[:132])
    with pytest.raises(InputError, match=rf"{path.name} is a truncated or damaged DICOM file"):
        read_volume(folder)


def test_an_empty_dicom_file_is_refused_and_named(write_series):
    folder, _ = write_series()
    (folder / "empty.dcm").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.dcm is a truncated or damaged"):
        read_volume(folder)


def test_nothing_that_names_a_patient_is_logged_or_warned(write_series, caplog):
    """pydicom quotes invalid values in its warnings."""

    with pydicom.config.disable_value_validation():
        folder, _ = write_series(change=put("StudyInstanceUID", "planted-id"))
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        read_volume(folder)
    assert "lanted" not in caplog.text + "".join(str(warning.message) for warning in caught)


@pytest.fixture(scope="session")
def sts014(shared_data, tmp_path_factory):
    archive = shared_data / "dicom" / "rt_sts014_ct_mr_rtstruct.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is missing")
    folder = tmp_path_factory.mktemp("dicom")
    with tarfile.open(archive) as stream:
        stream.extractall(folder, filter="data")
    return folder / "STS_014"


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "modality"), [("MR_T1", "MR"), ("CT", "CT")])
def test_real_series_are_read_as_simpleitk_reads_them(sts014, name, modality):
    volume, image = read_volume(sts014 / name), by_simpleitk(sts014 / name / "image")
    assert volume.modality == modality and volume.array.dtype == np.int16
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image).T)
    assert_same_place(volume, image)


@pytest.mark.real_data
def test_the_real_study_lists_its_two_series(sts014):
    assert [(series.modality, series.images) for series in list_series(sts014)] == [("MR", 65), ("CT", 65)]
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        read_volume(sts014)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ct_slicer_headaxial_64x64_raw", "without any negative HU"),
        ("syntheticpixels_dicom2nifti/failing/gantrytilting", r"tilted: .* 14\.0 degrees"),
        ("syntheticpixels_dicom2nifti/failing/notavolume", "4 different images at the position of slice 1"),
        (
            "syntheticpixels_dicom2nifti/failing/sliceincrement/001",
            r"gap of 10\.00 mm between slices 3 and 4",
        ),
        ("syntheticpixels_dicom2nifti/failing/sliceincrement/002", "tilted"),
        ("syntheticpixels_dicom2nifti/failing/sliceorientation", "2 orientations"),
        ("syntheticpixels_dicom2nifti/generic/rgb", "RGB"),
        ("pydicom_data", "holds 7 DICOM series"),
    ],
)
def test_real_series_that_break_readers_are_refused(shared_data, name, words):
    if not (shared_data / "dicom" / name).exists():
        pytest.skip(f"{name} is missing")
    with pytest.raises(InputError, match=words):
        read_volume(shared_data / "dicom" / name)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name", ["compressed", "compressed_j2k", "compressed_jpegls", "compressed_rle", "compressed_jpeg"]
)
def test_real_compressed_series_are_read_or_name_the_codec(shared_data, name):
    folder = shared_data / "dicom" / "syntheticpixels_dicom2nifti" / "generic" / name / "001"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    try:
        volume = read_volume(folder)
    except InputError as error:
        assert "no codec is installed. pip install 'medical-gans[dicom]'" in str(error)
    else:
        assert np.array_equal(volume.array, sitk.GetArrayFromImage(by_simpleitk(folder)).T)

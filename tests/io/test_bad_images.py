"""Every image that cannot be used is refused in one sentence that says what it is and what to do."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medical_gans.errors import InputError
from medical_gans.io import read_volume

SHAPE = (20, 21, 22)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(5).integers(-1000, 1000, SHAPE).astype(np.int16)


def refused(path, words: str) -> str:
    """The message of the refusal, which names the file."""
    with pytest.raises(InputError, match=words) as raised:
        read_volume(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def save(path, array, affine=None) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def test_a_missing_path_is_refused(tmp_path):
    refused(tmp_path / "none.nii.gz", "does not exist")


def test_an_empty_folder_is_refused(tmp_path):
    refused(tmp_path, "holds no DICOM image")


@pytest.mark.parametrize("name", ["mr.nii.gz", "mr.nii", "mr.mha"])
def test_an_image_that_may_not_be_read_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"")

    def refuse(*arguments, **keywords):
        raise PermissionError(13, "Permission denied")

    for opener in ("builtins.open", "gzip.open", "pathlib.Path.open"):
        monkeypatch.setattr(opener, refuse)
    refused(tmp_path / name, "permission denied")


def test_other_files_are_refused_with_what_is_understood(tmp_path):
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    (tmp_path / "IM001.dcm").write_bytes(b"")
    refused(tmp_path / "report.pdf", r"no image that can be read \(\.nii\.gz")
    refused(tmp_path / "IM001.dcm", "truncated or damaged DICOM")


@pytest.mark.parametrize("name", ["mr.nii", "mr.nii.gz", "mr.mha", "mr.nrrd", "compressed.mha", "compressed.nrrd"])
@pytest.mark.parametrize("kept", [0, 3, 200, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, array, name, kept):
    path = tmp_path / name
    if ".nii" in name:
        save(path, array)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array.T), str(path), name.startswith("compressed"))
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    refused(path, "truncated, damaged")


@pytest.mark.parametrize("lost", [1, 4, 8])
def test_a_gzip_file_without_its_checksum_is_refused(tmp_path, array, lost):
    save(tmp_path / "mr.nii.gz", array)
    content = (tmp_path / "mr.nii.gz").read_bytes()
    (tmp_path / "mr.nii.gz").write_bytes(content[:-lost])
    refused(tmp_path / "mr.nii.gz", "truncated, damaged")


def test_a_changed_byte_in_a_gzip_file_is_refused(tmp_path, array):
    save(tmp_path / "mr.nii.gz", array)
    content = bytearray((tmp_path / "mr.nii.gz").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "mr.nii.gz").write_bytes(content)
    refused(tmp_path / "mr.nii.gz", "truncated, damaged")


@pytest.mark.parametrize("name", ["mr.nii", "mr.nii.gz", "mr.mha", "mr.nrrd"])
def test_files_that_are_not_what_their_suffix_says_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else entirely " * 100)
    refused(tmp_path / name, "not what its suffix says")


def test_a_metaimage_without_its_data_file_is_refused(tmp_path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "mr.mhd"))
    (tmp_path / "mr.raw").unlink()
    refused(tmp_path / "mr.mhd", "voxels are missing: mr.raw is not beside it. Copy both files")
    (tmp_path / "MR.RAW").write_bytes(array.tobytes())
    refused(tmp_path / "mr.mhd", r"mr.raw is not beside it \(MR.RAW is\). Rename it")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((20, 21), r"is 2D \(20 x 21\)"),
        ((20, 21, 1), "20 x 21 x 1 voxels; .*not one slice"),
        ((1, 20, 21), "at least 2 along each axis"),
        ((20, 21, 5, 2), r"is 4D \(20 x 21 x 5 x 2\)"),
        ((20, 21, 5, 2, 3), "is 5D"),
    ],
)
def test_what_is_not_one_volume_is_refused(tmp_path, shape, words):
    save(tmp_path / "mr.nii.gz", np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    refused(tmp_path / "mr.nii.gz", words)


@pytest.mark.parametrize(("shape", "words"), [((21, 20), "is 2D"), ((2, 5, 21, 20), "is 4D")])
def test_metaimages_that_are_not_one_volume_are_refused(tmp_path, shape, words):
    image = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "mr.mha"))
    refused(tmp_path / "mr.mha", words)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mr.nii.gz", "mr.mha"])
def test_values_that_are_no_numbers_are_refused(tmp_path, array, value, name):
    bad = array.astype(np.float32)
    bad[3, 4, 5] = bad[0, 0, 0] = value
    if name.endswith("gz"):
        save(tmp_path / name, bad)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(bad.T), str(tmp_path / name))
    refused(tmp_path / name, "2 voxels that are NaN or infinite")


@pytest.mark.parametrize("value", [0, -1024])
def test_constant_images_are_refused(tmp_path, value):
    save(tmp_path / "mr.nii", np.full(SHAPE, value, np.int16))
    refused(tmp_path / "mr.nii", f"constant: every voxel is {value}")


@pytest.mark.parametrize("value", [0.0, -2.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [0, 2])
def test_spacings_that_are_not_positive_are_refused(tmp_path, array, value, axis):
    """Where no sform says what they are: nibabel would repair them to 1 mm without stopping."""
    path = tmp_path / "mr.nii"
    save(path, array)
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([1, 0], "<i2").tobytes()  # qform and sform code
    content[80 + 4 * axis : 84 + 4 * axis] = np.array(value, "<f4").tobytes()
    path.write_bytes(content)
    refused(path, "spacing of .*must be positive")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "one"])
def test_metaimage_spacings_that_are_not_positive_are_refused(tmp_path, array, value):
    path = tmp_path / "mr.mha"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", f"ElementSpacing = 1 {value} 1".encode()))
    refused(path, "spacing|damaged")


@pytest.mark.parametrize("value", ["(0,0,0)", "(nan,0,0)"])
def test_nrrd_directions_that_are_not_usable_are_refused(tmp_path, array, value):
    path = tmp_path / "mr.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    path.write_bytes(path.read_bytes().replace(b"directions: (1,0,0)", f"directions: {value}".encode()))
    refused(path, "spacing|cannot be read|affine")


def sform(path, matrix: np.ndarray) -> None:
    content = bytearray(path.read_bytes())
    content[280:328] = matrix[:3].astype("<f4").tobytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], "singular affine"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], "spacing of 1 x 1 x 0 mm"),
        ([[1, 0, 0, np.nan], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "NaN or infinity in its affine"),
    ],
)
def test_affines_that_span_no_volume_are_refused(tmp_path, array, matrix, words):
    save(tmp_path / "mr.nii", array)
    sform(tmp_path / "mr.nii", np.array(matrix, dtype=float))
    refused(tmp_path / "mr.nii", words)


def test_a_singular_metaimage_is_refused(tmp_path, array):
    path = tmp_path / "mr.mha"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    path.write_bytes(path.read_bytes().replace(b"Matrix = 1 0 0 0 1 0 0 0 1", b"Matrix = 1 0 0 0 1 0 0 1 0"))
    refused(path, "singular affine")


def test_an_unknown_orientation_is_refused(tmp_path, array):
    nib.save(nib.Nifti1Image(array, None), tmp_path / "mr.nii")
    refused(tmp_path / "mr.nii", "left and right are unknown")


def test_colour_and_complex_images_are_refused(tmp_path, array):
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(tmp_path / "colour.nii", colour)
    save(tmp_path / "complex.nii", array.astype(np.complex64))
    image = sitk.GetImageFromArray(np.zeros((*SHAPE, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "colour.mha"))
    for name in ("colour.nii", "complex.nii", "colour.mha"):
        refused(tmp_path / name, "colour or complex")


def test_a_header_that_claims_a_giant_is_refused(tmp_path, array):
    path = tmp_path / "mr.nii.gz"
    save(path, array)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    refused(path, "truncated, damaged")

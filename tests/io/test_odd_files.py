"""Files and lists that programs and people leave a hair off: packed twice, named in bytes, listed by Windows."""

import bz2
import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_images import dicom_slice
from pydicom.dataelem import DataElement

from medical_gans.errors import InputError
from medical_gans.io import find_cases, read_volume
from medical_gans.io.ownership import Source
from medical_gans.io.sequence_cases import find_sequence_cases

AFFINE = np.diag([2.0, 2, 3, 1])
ARRAY = np.random.default_rng(5).integers(0, 900, (6, 7, 5)).astype(np.int16)


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(ARRAY, AFFINE), path)
    return path


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda packed: packed + b"\0" * 600, ""),
        (lambda packed: packed + b"left on the tape", "Behind the packed data are bytes"),
        (lambda packed: gzip.compress(packed), "packed by gzip twice"),
        (lambda packed: b"".join(gzip.compress(part) for part in (packed[:0], gzip.decompress(packed))), ""),
    ],
)
def test_what_tapes_and_downloads_leave_of_a_packed_file_is_read(tmp_path, spoil, words):
    path = nifti(tmp_path / "mr.nii.gz")
    path.write_bytes(spoil(path.read_bytes()))
    volume = read_volume(path)
    assert np.array_equal(volume.array, ARRAY) and np.array_equal(volume.affine, AFFINE)
    assert words in " ".join(volume.notes) and len(volume.notes) == bool(words)


def test_bytes_behind_a_packed_file_hide_no_wrong_checksum(tmp_path):
    path = nifti(tmp_path / "mr.nii.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content) + b"left on the tape")
    with pytest.raises(InputError, match="truncated, damaged"):
        read_volume(path)


def test_names_of_bytes_that_are_no_text_are_names(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    nifti(folder / "T1.nii.gz")
    (case,) = find_cases(tmp_path)
    assert case.name == "M_ller_T1" and np.array_equal(read_volume(case.mr).array, ARRAY)
    assert Source((case.mr,)).place() != Source((tmp_path,)).place()


def test_folders_called_like_images_are_the_image_in_them(tmp_path):
    nifti(tmp_path / "p1" / "p1_T1c.nii" / "W3.nii")
    nifti(tmp_path / "p1" / "FLAIR" / "deep" / "x.nii.gz")
    (case,) = find_sequence_cases(tmp_path, ["T1c", "FLAIR"])
    assert case.name == "p1"
    assert [path.name for path in case.channels] == ["W3.nii", "x.nii.gz"]
    (first,) = find_cases(tmp_path / "p1" / "p1_T1c.nii")
    assert np.array_equal(read_volume(first.mr).array, ARRAY)


def test_several_volumes_along_a_later_axis_are_selected(tmp_path):
    several = np.stack([ARRAY, ARRAY + 1000, ARRAY + 2000], axis=-1)
    nib.save(nib.Nifti1Image(several[:, :, :, None], AFFINE), tmp_path / "mr.nii")
    assert np.array_equal(read_volume(tmp_path / "mr.nii", select="volume 2").array, ARRAY + 1000)
    with pytest.raises(InputError, match="3 volumes; one 3D volume is needed"):
        read_volume(tmp_path / "mr.nii")
    nib.save(nib.Nifti1Image(np.stack([several, several], axis=-1), AFFINE), tmp_path / "mr.nii")
    with pytest.raises(InputError, match=r"is 5D .* a 3D volume is needed"):
        read_volume(tmp_path / "mr.nii", select="volume 2")


def nrrd(path: Path, fields: str, content: bytes) -> Path:
    header = (
        f"NRRD0004\ntype: short\nspace: left-posterior-superior\nendian: little\nspace origin: (0,0,0)\n{fields}\n\n"
    )
    path.write_bytes(header.encode() + content)
    return path


def test_a_sequence_of_slicer_is_several_volumes(tmp_path):
    several = np.stack([ARRAY, ARRAY + 1000])
    fields = "dimension: 4\nsizes: 2 6 7 5\nkinds: list domain domain domain\nencoding: raw\n"
    fields += "space directions: none (2,0,0) (0,2,0) (0,0,3)"
    path = nrrd(tmp_path / "mr.seq.nrrd", fields, several.astype("<i2").tobytes(order="F"))
    for number in (1, 2):
        volume = read_volume(path, select=f"volume {number}")
        assert np.array_equal(volume.array, several[number - 1])
        assert np.allclose(volume.affine, np.diag([-2, -2, 3, 1]))
    with pytest.raises(InputError, match="2 volumes; one 3D volume is needed"):
        read_volume(path)
    path = nrrd(tmp_path / "rgb.nrrd", fields.replace("list", "vector"), several.astype("<i2").tobytes(order="F"))
    with pytest.raises(InputError, match="colour or complex"):
        read_volume(path, select="volume 1")


def test_a_nrrd_that_is_packed_by_bzip2_is_named_as_that(tmp_path):
    fields = "dimension: 3\nsizes: 6 7 5\nspace directions: (2,0,0) (0,2,0) (0,0,3)\nencoding: bzip2"
    path = nrrd(tmp_path / "mr.nrrd", fields, bz2.compress(ARRAY.tobytes(order="F")))
    with pytest.raises(InputError, match=r"packed by bzip2.*Save it with the encoding gzip or raw"):
        read_volume(path)


def test_a_metaimage_may_give_the_size_of_its_voxels_in_place_of_their_spacing(tmp_path):
    image = sitk.GetImageFromArray(ARRAY.T)
    image.SetSpacing((2, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "mr.mhd"))
    text = (tmp_path / "mr.mhd").read_text().replace("ElementSpacing", "ElementSize")
    assert "ElementSize = 2 2 3" in text
    (tmp_path / "mr.mhd").write_text(text)
    assert read_volume(tmp_path / "mr.mhd").spacing == (2, 2, 3)


def series(folder: Path, change) -> Path:
    folder.mkdir()
    for k in range(4):
        image = dicom_slice("MR", ARRAY[:, :, k].T, (0, 0, 3 * k), (1, 0, 0, 0, 1, 0), "1.2.3")
        image.PixelSpacing = [2, 2]
        change(image, ARRAY[:, :, k].T)
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


@pytest.mark.parametrize("kind", ["UT", "LT", "LO"])
def test_numbers_that_a_kind_of_text_keeps_together_are_several(tmp_path, kind):
    def change(image, _):
        for keyword in ("PixelSpacing", "ImagePositionPatient"):
            tag = pydicom.datadict.tag_for_keyword(keyword)
            image[tag] = DataElement(tag, kind, "\\".join(f"{float(value):.4f}" for value in image[keyword].value))

    volume = read_volume(series(tmp_path / "s", change))
    assert np.array_equal(volume.array, ARRAY[:, :, :4]) and not volume.notes
    assert np.allclose(volume.affine, np.diag([-2, -2, 3, 1]))


@pytest.mark.parametrize("signed", [0, 1])
def test_pixels_in_the_upper_bits_are_read_where_they_lie(tmp_path, signed):
    def change(image, pixels, shift=4):
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 15, signed
        image.PixelData = (pixels << shift).astype(np.int16).tobytes()

    volume = read_volume(series(tmp_path / "upper", change))
    assert np.array_equal(volume.array, ARRAY[:, :, :4])
    volume = read_volume(series(tmp_path / "lower", lambda image, pixels: change(image, pixels, 0)))
    assert np.array_equal(volume.array, ARRAY[:, :, :4])
    with pytest.raises(InputError, match=r"HighBit.*other bits are used too"):
        read_volume(series(tmp_path / "both", lambda image, pixels: change(image, pixels, 3)))


@pytest.mark.parametrize(
    "line", ["s/{}.dcm", '"s/{}.dcm"', "s\\{}.dcm", "'s\\{}.dcm'  ", "{root}/s/{}.dcm", "# of anna\ns/{}.dcm", "s"]
)
def test_lists_of_files_are_read_as_people_write_them(tmp_path, line):
    (tmp_path / "s").mkdir()
    for k in range(4):
        image = dicom_slice("MR", ARRAY[:, :, k].T, (0, 0, 3 * k), (1, 0, 0, 0, 1, 0), "1.2.3")
        image.save_as(tmp_path / "s" / f"{k}.dcm", enforce_file_format=True)
    line = line.replace("{root}", str(tmp_path))
    written = [line.format(k) for k in range(4)] if "{}" in line else [line]
    (tmp_path / "list.txt").write_bytes("\r\n".join(written).replace("\n", "\r\n").encode())
    assert np.array_equal(read_volume(tmp_path / "list.txt").array, ARRAY[:, :, :4])

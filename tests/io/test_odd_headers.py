"""Image files against the letter of their format: read where the meaning is certain, said; else one sentence.

A row of the tables below is a row of docs/how-to/inputs.md. What is read must be what nibabel reads of the same
image before its header was spoilt.
"""

import gzip
import logging
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medical_gans.errors import InputError
from medical_gans.io import read_volume

SHAPE = (8, 9, 10)
OBLIQUE = np.array([[0.9, -0.2, 0.3, -91], [0.25, 1.1, -0.4, 27], [-0.1, 0.5, 3.2, -210], [0, 0, 0, 1.0]])
HALF_TURN = np.diag([-1.25, -0.75, 2.5, 1])  # quaternion (0, 0, 1): its length is exactly 1


@pytest.fixture
def image() -> nib.Nifti1Image:
    """Values of every size, an asymmetric grid, sform and qform alike."""
    array = np.random.default_rng(1).integers(0, 3000, SHAPE).astype(np.int16)
    made = nib.Nifti1Image(array, HALF_TURN)
    made.set_sform(HALF_TURN, 1)
    made.set_qform(HALF_TURN, 1)
    made.header.set_xyzt_units("mm")
    return made


Change = Callable[[bytearray], bytearray | None]


def put(place: int, kind: str, *values) -> Change:
    """Write numbers into the header of NIfTI-1."""

    def change(content: bytearray) -> None:
        content[place : place + struct.calcsize(f"<{len(values)}{kind}")] = struct.pack(
            f"<{len(values)}{kind}", *values
        )

    return change


def both(*changes: Change) -> Change:
    def change(content: bytearray) -> None:
        for one in changes:
            one(content)

    return change


def without_gap(content: bytearray) -> bytearray:
    put(108, "f", 0)(content)
    return content[:348] + content[352:]


NO_SFORM, NO_QFORM = put(254, "h", 0), put(252, "h", 0)
READ = {
    "quaternion too long by 4e-7": (both(NO_SFORM, put(264, "f", 1 + 4e-7)), "quaternion of the qform is too long"),
    "quaternion too long by 4e-4": (both(NO_SFORM, put(264, "f", 1 + 4e-4)), "quaternion of the qform is too long"),
    "quaternion of 1.5 beside an sform": (put(264, "f", 1.5), "qform cannot be used, the sform was taken"),
    "quaternion NaN beside an sform": (put(256, "f", np.nan), "qform cannot be used, the sform was taken"),
    "intercept NaN": (put(112, "f", 1, np.nan), "scl_inter is nan; 0 was taken"),
    "intercept infinite": (put(112, "f", 1, np.inf), "scl_inter is inf; 0 was taken"),
    "slope and intercept NaN": (put(112, "f", np.nan, np.nan), None),
    "slope 0": (put(112, "f", 0, 0), None),
    "slope 0 with an intercept": (put(112, "f", 0, 7), "stored values count as they are"),
    "slope infinite": (put(112, "f", np.inf, 0), "stored values count as they are"),
    "pixdim negative beside an sform": (put(84, "f", -0.75), "qform cannot be used, the sform was taken"),
    "pixdim 0 beside an sform": (put(88, "f", 0), "qform cannot be used, the sform was taken"),
    "pixdim NaN, sform only": (both(NO_QFORM, put(80, "f", np.nan)), "spacing was taken from the sform"),
    "pixdim 0, sform only": (both(NO_QFORM, put(80, "f", 0, 0, 0)), "spacing was taken from the sform"),
    "qfac 0": (put(76, "f", 0), None),
    "qfac 7 beside an sform": (put(76, "f", 7), "qform cannot be used, the sform was taken"),
    "sform singular beside a qform": (put(280, "f", *[0] * 12), "sform cannot be used, the qform was taken"),
    "sform NaN beside a qform": (put(284, "f", np.nan), "sform cannot be used, the qform was taken"),
    "voxels said to begin at 0": (put(108, "f", 0), "begin at byte 0; by the length of the file it is 352"),
    "voxels said to begin at NaN": (put(108, "f", np.nan), "by the length of the file it is 352"),
    "voxels said to begin at 100.5": (put(108, "f", 100.5), "by the length of the file it is 352"),
    "voxels right behind the header": (without_gap, "by the length of the file it is 348"),
    "size of the header lost": (put(0, "i", 0), "does not give its own size"),
    "magic of a pair": (put(344, "B", *b"ni1\0"), "voxels are in a second file, but they follow"),
    "magic with a blank": (put(344, "B", *b"n+1 "), "misspelt"),
    "magic in capitals": (put(344, "B", *b"N+1\0"), "misspelt"),
    "a fourth axis of 1": (put(40, "h", 4, *SHAPE, 1), None),
    "a fourth axis of 0": (put(40, "h", 4, *SHAPE, 0), "length below 1"),
    "four axes of 1": (put(40, "h", 7, *SHAPE, 1, 1, 1, 1), None),
    "bitpix 0": (put(72, "h", 0), None),
    "bitpix of another type": (put(72, "h", 8), "bitpix is 8"),
    "bytes behind the voxels": (lambda content: content + b"\0" * 99, "99 bytes after the last voxel"),
    "unit unknown": (put(123, "b", 0), None),
    "unit 5": (put(123, "b", 5), "unknown code 5"),
    "code beyond the standard": (put(254, "h", 173), "sform_code is 173, which means nothing; the sform counts as set"),
    "code of the newest standard": (put(252, "h", 5, 5), None),
}
DOUBTFUL = {
    "said to count in metres": (put(123, "b", 1), "says that it counts in metres"),
    "said to count in microns": (put(123, "b", 3), "says that it counts in microns"),
    "qform mirrored": (put(76, "f", -1), "sform and qform contradict each other"),
    "qform elsewhere": (put(268, "f", 50), "sform and qform contradict each other"),
    "qform of another scale": (put(80, "f", 2.5), "sform and qform contradict each other"),
    "pixdim of another scale, sform only": (both(NO_QFORM, put(80, "f", 2.5)), "sform and pixdim contradict"),
}
REFUSED = {
    "quaternion of 1.5": (both(NO_SFORM, put(264, "f", 1.5)), r"quaternion of length 1\.5"),
    "pixdim negative, qform only": (both(NO_SFORM, put(84, "f", -0.75)), "must be positive"),
    "qfac 7, qform only": (both(NO_SFORM, put(76, "f", 7)), "mirrored"),
    "neither sform nor qform": (both(NO_SFORM, NO_QFORM), "left and right are unknown"),
    "negative codes": (put(252, "h", -1, -1), "left and right are unknown"),
    "both forms spoilt": (both(put(280, "f", *[0] * 12), put(256, "f", 9)), "spacing of 0"),
    "voxels of a metre": (put(280, "f", 1000), "no image of a person"),
    "begin unknown": (lambda content: both(put(108, "f", 8))(content) or content + b"\0" * 99, "inside the header"),
    "mark lost": (put(344, "B", *b"\0\0\0\0"), "lost its mark of NIfTI"),
    "another magic": (put(344, "B", *b"none"), "truncated, damaged"),
    "no dimensions": (put(40, "h", 0), "0 dimensions"),
    "nine dimensions": (put(40, "h", 9), "9 dimensions"),
    "a negative length": (put(44, "h", -9), "voxels"),
    "two volumes": (put(40, "h", 4, 8, 9, 5, 2), r'2 volumes.*--select "volume 1" .to "volume 2"'),
    "data type 0": (put(70, "h", 0), "unknown data type 0"),
    "RGB": (put(70, "h", 128, 24), "colour or complex"),
    "complex": (put(70, "h", 32, 64), "colour or complex"),
    "types contradict": (put(70, "h", 2, 16), "contradicts itself"),
    "one byte short": (lambda content: content[:-1], "truncated, damaged"),
    "scaled beyond all numbers": (put(112, "f", 1e38, 0), "values beyond 1e38"),
}


def spoilt(image, path: Path, change: Change) -> Path:
    """The image with a spoilt header; packed where the name says so."""
    content = bytearray(image.to_bytes())
    content = change(content) or content
    path.write_bytes(gzip.compress(bytes(content)) if path.name.endswith("gz") else bytes(content))
    return path


@pytest.mark.parametrize("name", ["mr.nii", "mr.nii.gz"])
@pytest.mark.parametrize(("change", "words"), READ.values(), ids=READ)
def test_a_header_a_hair_off_is_read_and_said(tmp_path, image, name, change, words):
    volume = read_volume(spoilt(image, tmp_path / name, change))
    assert np.array_equal(volume.array, np.asarray(image.dataobj))
    assert np.abs(volume.affine - image.affine).max() < 1e-5
    assert not volume.doubts
    assert len(volume.repairs) == (0 if words is None else 1)
    assert words is None or words in volume.repairs[0]


@pytest.mark.parametrize(("change", "words"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_header_that_contradicts_itself_is_a_doubt(tmp_path, image, change, words):
    volume = read_volume(spoilt(image, tmp_path / "mr.nii.gz", change))
    assert np.array_equal(volume.array, np.asarray(image.dataobj))
    assert np.abs(volume.affine - image.affine).max() < 1e-5
    assert len(volume.doubts) == 1 and words in volume.doubts[0]
    with pytest.raises(InputError, match="strict refuses what can be read in two ways"):
        volume.check_certain()


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_a_header_without_a_certain_meaning_is_refused(tmp_path, image, change, words):
    path = spoilt(image, tmp_path / "mr.nii", change)
    with pytest.raises(InputError, match=words) as raised:
        read_volume(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_big_endian_is_read(tmp_path, image, kind):
    header = kind.header_class(endianness=">")
    header.set_data_dtype(np.int16)
    made = kind(np.asarray(image.dataobj), OBLIQUE, header)
    (tmp_path / "mr.nii").write_bytes(made.to_bytes())
    volume = read_volume(tmp_path / "mr.nii")
    assert np.array_equal(volume.array, np.asarray(image.dataobj)) and np.allclose(volume.affine, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_lengths_that_do_count_in_another_unit_are_converted(tmp_path, image, unit, factor):
    scale = np.diag([factor, factor, factor, 1])
    made = nib.Nifti1Image(np.asarray(image.dataobj), scale @ HALF_TURN)
    made.header.set_xyzt_units(unit)
    nib.save(made, tmp_path / "mr.nii")
    volume = read_volume(tmp_path / "mr.nii")
    assert np.allclose(volume.affine, HALF_TURN, atol=1e-4)
    assert "lengths were converted to mm" in volume.repairs[0]


@pytest.mark.parametrize(("name", "packed"), [("mr.nii", True), ("mr.nii.gz", False)])
def test_a_name_that_is_wrong_about_gzip_is_said(tmp_path, image, name, packed):
    content = image.to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    volume = read_volume(tmp_path / name)
    assert np.array_equal(volume.array, np.asarray(image.dataobj))
    assert "although its name says otherwise" in volume.repairs[0]


@pytest.mark.parametrize("number", [1, 3])
def test_a_volume_of_a_4d_file_is_selected(tmp_path, number):
    array = np.random.default_rng(2).integers(0, 900, (*SHAPE, 4)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, OBLIQUE), tmp_path / "mr.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(array.T, isVector=False), str(tmp_path / "mr.nrrd"))
    nib.save(nib.MGHImage(array, OBLIQUE), tmp_path / "mr.mgz")
    for name in ("mr.nii.gz", "mr.nrrd", "mr.mgz"):
        volume = read_volume(tmp_path / name, select=f"volume {number}")
        assert np.array_equal(volume.array, array[..., number - 1])
        with pytest.raises(InputError, match=r'4 volumes.*--select "volume 1" .to "volume 4"'):
            read_volume(tmp_path / name, select="volume 5")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mgz", ".hdr"])
def test_what_is_selected_of_one_volume_is_that_volume_by_its_name_or_refused(tmp_path, suffix):
    array = np.random.default_rng(2).integers(0, 900, SHAPE).astype(np.int16)
    path = tmp_path / f"sub-01_echo-2_water{suffix}"
    if suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(array.T), str(path))
    else:
        kind = {".mgz": nib.MGHImage, ".hdr": nib.Nifti1Pair}.get(suffix, nib.Nifti1Image)
        nib.save(kind(array, OBLIQUE), path)
    for select in ("volume 1", "echo 2", "water, Echo-2", None, " , "):
        assert np.array_equal(read_volume(path, select=select).array, array)
    for select in ("volume 2", "echo 1", "fat", "water, time 3", "TE 4.6"):
        with pytest.raises(InputError, match=r"holds one volume.*nothing to select from.*Leave select out"):
            read_volume(path, select=select)


def test_nan_around_the_object_is_background(tmp_path):
    array = np.full(SHAPE, np.nan, np.float32)
    array[2:6, 2:6, 1:9] = np.random.default_rng(3).uniform(40, 900, (4, 4, 8))
    nib.save(nib.Nifti1Image(array, OBLIQUE), tmp_path / "mr.nii")
    volume = read_volume(tmp_path / "mr.nii")
    assert np.array_equal(volume.array, np.where(np.isnan(array), np.nanmin(array), array))
    assert "NaN around the object" in volume.repairs[0]
    array[4, 4, 4] = np.nan
    nib.save(nib.Nifti1Image(array, OBLIQUE), tmp_path / "mr.nii")
    with pytest.raises(InputError, match="voxels that are NaN or infinite"):
        read_volume(tmp_path / "mr.nii")


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_freesurfer_images_are_read_as_nibabel_reads_them(tmp_path, suffix):
    array = np.random.default_rng(4).uniform(0, 900, SHAPE).astype(np.float32)
    nib.save(nib.MGHImage(array, OBLIQUE), tmp_path / f"mr{suffix}")
    volume = read_volume(tmp_path / f"mr{suffix}")
    assert np.array_equal(volume.array, array) and volume.array.dtype == np.float32
    assert np.allclose(volume.affine, nib.load(tmp_path / f"mr{suffix}").affine) and not volume.notes
    content = (tmp_path / f"mr{suffix}").read_bytes()
    (tmp_path / f"mr{suffix}").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="truncated, damaged"):
        read_volume(tmp_path / f"mr{suffix}")


def test_a_freesurfer_image_without_orientation_is_refused(tmp_path):
    nib.save(nib.MGHImage(np.ones(SHAPE, np.float32), OBLIQUE), tmp_path / "mr.mgh")
    content = bytearray((tmp_path / "mr.mgh").read_bytes())
    content[28:30] = b"\0\0"
    (tmp_path / "mr.mgh").write_bytes(content)
    with pytest.raises(InputError, match="left and right are unknown"):
        read_volume(tmp_path / "mr.mgh")


@pytest.mark.parametrize("given", ["mr.hdr", "mr.img"])
def test_a_pair_of_nifti_is_read_by_either_name(tmp_path, image, given):
    nib.save(nib.Nifti1Pair(np.asarray(image.dataobj), OBLIQUE), tmp_path / "mr.hdr")
    volume = read_volume(tmp_path / given)
    assert np.array_equal(volume.array, np.asarray(image.dataobj)) and np.allclose(volume.affine, OBLIQUE, atol=1e-5)
    (tmp_path / "mr.img").unlink()
    with pytest.raises(InputError, match=r"mr\.img is not beside it|does not exist"):
        read_volume(tmp_path / given)


@pytest.mark.parametrize("given", ["mr.hdr", "mr.img"])
def test_an_analyze_pair_is_read_as_nibabel_reads_it_and_is_a_doubt(tmp_path, image, given):
    nib.save(nib.AnalyzeImage(np.asarray(image.dataobj), np.diag([-1.25, 0.75, 2.5, 1])), tmp_path / "mr.hdr")
    volume, other = read_volume(tmp_path / given), nib.load(tmp_path / "mr.img")
    assert np.array_equal(volume.array, np.asarray(image.dataobj)) and volume.array.dtype == np.int16
    assert np.allclose(volume.affine, other.affine) and volume.spacing == pytest.approx((1.25, 0.75, 2.5))
    assert "does not say how it lies" in volume.doubts[0]
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mr.hdr"))).T
    assert np.array_equal(by_itk, volume.array)


def test_an_analyze_pair_of_spm_lies_where_its_mat_says(tmp_path, image):
    nib.save(nib.Spm99AnalyzeImage(np.asarray(image.dataobj), OBLIQUE), tmp_path / "mr.hdr")
    volume = read_volume(tmp_path / "mr.hdr")
    assert np.allclose(volume.affine, OBLIQUE) and not volume.doubts and "mr.mat of SPM" in volume.repairs[0]


def test_an_analyze_pair_of_another_order_or_without_voxels_is_refused(tmp_path, image):
    nib.save(nib.AnalyzeImage(np.asarray(image.dataobj), None), tmp_path / "mr.hdr")
    whole = (tmp_path / "mr.img").read_bytes()
    (tmp_path / "mr.img").write_bytes(whole[:-2])
    with pytest.raises(InputError, match="truncated, damaged"):
        read_volume(tmp_path / "mr.hdr")
    (tmp_path / "mr.img").write_bytes(whole)
    content = bytearray((tmp_path / "mr.hdr").read_bytes())
    content[252] = 2
    (tmp_path / "mr.hdr").write_bytes(content)
    with pytest.raises(InputError, match=r"not stored from right to left.*orient is 2"):
        read_volume(tmp_path / "mr.hdr")


def nrrd(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    written = sitk.GetImageFromArray(array.T)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    written.SetSpacing(spacing.tolist())
    written.SetDirection((np.diag([-1, -1, 1]) @ affine[:3, :3] / spacing).ravel().tolist())
    written.SetOrigin((affine[:3, 3] * [-1, -1, 1]).tolist())
    sitk.WriteImage(written, str(path))


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
def test_a_nrrd_that_does_not_name_its_space_is_a_doubt(tmp_path, image, suffix):
    path = tmp_path / f"mr{suffix}"
    nrrd(path, np.asarray(image.dataobj), HALF_TURN)
    assert not read_volume(path).notes and np.allclose(read_volume(path).affine, HALF_TURN)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"space: left-posterior-superior", b"space dimension: 3"))
    volume = read_volume(path)
    assert np.allclose(volume.affine, HALF_TURN) and np.array_equal(volume.array, np.asarray(image.dataobj))
    assert "does not name the space of its axes; left, back and up (LPS) were taken" in volume.doubts[0]
    path.write_bytes(content.replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    assert "names the unknown space 'scanner-xyz'" in read_volume(path).doubts[0]


def test_a_nrrd_in_another_named_space_is_read(tmp_path, image):
    nrrd(tmp_path / "mr.nrrd", np.asarray(image.dataobj), HALF_TURN)
    content = (tmp_path / "mr.nrrd").read_bytes()
    (tmp_path / "mr.nrrd").write_bytes(content.replace(b"left-posterior-superior", b"right-anterior-superior"))
    volume = read_volume(tmp_path / "mr.nrrd")
    assert np.allclose(volume.affine, np.diag([-1, -1, 1, 1]) @ HALF_TURN) and not volume.notes


def test_what_a_metaimage_leaves_out_is_said_or_refused(tmp_path, image):
    path = tmp_path / "mr.mha"
    nrrd(path, np.asarray(image.dataobj), np.diag([-1.25, -0.75, 2.5, 1]))
    content = path.read_bytes()
    lines = content.split(b"\n", 14)
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"TransformMatrix")))
    volume = read_volume(path)
    assert np.allclose(volume.affine, HALF_TURN) and "does not say how the image lies" in volume.doubts[0]
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"ElementSpacing")))
    with pytest.raises(InputError, match="does not say how large its voxels are"):
        read_volume(path)


def test_signalling_nan_in_the_header_says_nothing_on_the_screen(tmp_path, image):
    content = bytearray(image.to_bytes())
    content[256:260] = content[116:120] = b"\x01\0\x80\x7f"
    (tmp_path / "mr.nii").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_volume(tmp_path / "mr.nii").array, np.asarray(image.dataobj))


def test_reading_odd_headers_logs_nothing(tmp_path, image, caplog):
    path = spoilt(image, tmp_path / "mr.nii", put(72, "h", 8))
    with caplog.at_level(logging.DEBUG):
        read_volume(path)
    assert not caplog.records

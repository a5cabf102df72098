"""Reading and writing keep every voxel and its place; nibabel and SimpleITK are each other's referee."""

import gzip
import subprocess
import sys
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medical_gans.errors import InputError
from medical_gans.io import Volume, check_same_grid, read_mask, read_volume, save_volume

SHAPE = (5, 6, 7)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by degrees about the three axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians([x, y, z])):
        turn = np.eye(3)
        i, j = [other for other in range(3) if other != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def grid(axes, spacing=(0.9, 1.1, 3.27), origin=(-91.3, 27.125, -210.7)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, dtype=float) * spacing
    affine[:3, 3] = origin
    return affine


AXIAL = np.eye(3)
GRIDS = {
    "axial": grid(AXIAL),
    "axial, left and back": grid(np.diag([-1, -1, 1])),
    "sagittal": grid(AXIAL[:, [2, 0, 1]] * [1, -1, 1]),
    "coronal": grid(AXIAL[:, [0, 2, 1]]),
    "flipped": grid(np.diag([1, -1, -1])),
    "mirrored": grid(np.diag([-1, 1, 1])),
    "oblique": grid(rotation(12, -25, 40)),
    "oblique, permuted, flipped": grid(rotation(-7, 33, 101)[:, [1, 2, 0]] * [1, -1, 1]),
}


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(1).integers(-1024, 3071, SHAPE).astype(np.int16)


@pytest.fixture(params=GRIDS, ids=str)
def affine(request) -> np.ndarray:
    return GRIDS[request.param]


def itk_affine(image: sitk.Image) -> np.ndarray:
    """Independent of the code under test: three unit steps of the index, in RAS mm."""
    sign = np.array([-1, -1, 1])
    origin = sign * image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, 0.0))
    steps = [sign * image.TransformContinuousIndexToPhysicalPoint(unit) - origin for unit in np.eye(3).tolist()]
    return np.block([[np.array(steps).T, origin[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_saved_hounsfield_come_back_on_the_same_grid(tmp_path, array, affine, suffix):
    path = save_volume(tmp_path / f"ct{suffix}", array, affine)
    volume = read_volume(path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, array)
    assert np.abs(volume.affine - affine).max() <= 1e-5


def test_nibabel_and_simpleitk_see_what_was_saved(tmp_path, array, affine):
    path = save_volume(tmp_path / "ct.nii.gz", array, affine)
    by_nibabel = nib.load(path)
    assert np.array_equal(np.asarray(by_nibabel.dataobj), array)
    assert np.abs(by_nibabel.affine - affine).max() <= 1e-5
    assert np.abs(by_nibabel.get_qform() - affine).max() <= 1e-4
    assert (int(by_nibabel.header["sform_code"]), int(by_nibabel.header["qform_code"])) == (1, 1)
    assert by_nibabel.header.get_xyzt_units()[0] == "mm"
    by_itk = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(by_itk).T, array)
    assert np.abs(itk_affine(by_itk) - affine).max() <= 1e-4


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_metaimage_and_nrrd_are_read_as_nibabel_reads_the_same_grid(tmp_path, array, affine, suffix, compressed):
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "same.nii")
    written = sitk.GetImageFromArray(array.T)
    written.SetSpacing(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    lps = np.diag([-1, -1, 1]) @ affine[:3]
    written.SetDirection((lps[:, :3] / np.linalg.norm(lps[:, :3], axis=0)).ravel().tolist())
    written.SetOrigin(lps[:, 3].tolist())
    sitk.WriteImage(written, str(tmp_path / f"ct{suffix}"), compressed)
    volume, reference = read_volume(tmp_path / f"ct{suffix}"), nib.load(tmp_path / "same.nii")
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, np.asarray(reference.dataobj))
    corners = nib.affines.apply_affine(volume.affine, [[0, 0, 0], [4, 0, 6], [4, 5, 6]])
    assert np.allclose(corners, nib.affines.apply_affine(affine, [[0, 0, 0], [4, 0, 6], [4, 5, 6]]), atol=1e-4)
    assert np.allclose(volume.affine, itk_affine(sitk.ReadImage(str(tmp_path / f"ct{suffix}"))), atol=1e-12)


def test_a_sheared_affine_stays_exact_and_gets_no_qform(tmp_path, array):
    sheared = grid(AXIAL + np.array([[0, 0.2, 0], [0, 0, 0.1], [0, 0, 0]]))
    saved = nib.load(save_volume(tmp_path / "sheared.nii", array, sheared))
    assert np.abs(saved.affine - sheared).max() <= 1e-5
    assert int(saved.header["qform_code"]) == 0
    assert np.abs(read_volume(tmp_path / "sheared.nii").affine - sheared).max() <= 1e-5


def test_a_far_origin_stays_readable_by_itk(tmp_path, array):
    """A CT couch position: NIfTI-1 rounds it to 6e-5 mm, NIfTI-2 would shut out every ITK program."""
    far = grid(AXIAL, origin=(-91.3, 27.125, 1687.512345))
    saved = save_volume(tmp_path / "far.nii.gz", array, far)
    assert np.abs(itk_affine(sitk.ReadImage(str(saved))) - far).max() <= 1e-4


def test_nifti_2_where_nifti_1_would_move_the_affine(tmp_path, array):
    beyond = grid(AXIAL, origin=(-91.3, 27.125, 168751.2345))
    saved = save_volume(tmp_path / "beyond.nii", array, beyond)
    assert isinstance(nib.load(saved), nib.Nifti2Image)
    assert np.abs(read_volume(saved).affine - beyond).max() <= 1e-12


@pytest.mark.parametrize("units", ["meter", "micron"])
def test_other_units_become_millimetres(tmp_path, array, units):
    factor = {"meter": 1e-3, "micron": 1e3}[units]
    image = nib.Nifti1Image(array, np.diag([factor, factor, factor, 1]) @ GRIDS["oblique"])
    image.header.set_xyzt_units(units)
    nib.save(image, tmp_path / "ct.nii")
    assert np.allclose(read_volume(tmp_path / "ct.nii").affine, GRIDS["oblique"], atol=1e-4)
    assert np.allclose(itk_affine(sitk.ReadImage(str(tmp_path / "ct.nii"))), GRIDS["oblique"], atol=1e-4)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "u2", "i4", "f4", ">f4"])
def test_types_that_hold_real_values_are_kept(tmp_path, dtype):
    stored = np.random.default_rng(2).integers(0, 100, SHAPE).astype(dtype)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "mr.nii.gz")
    array = read_volume(tmp_path / "mr.nii.gz").array
    assert array.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(array, stored)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [("i8", (-5, 70), "i2"), ("u4", (0, 40_000), "u2"), ("i8", (-5, 2**31), "f4"), ("f8", (0.5, 7), "f4")],
)
def test_wider_types_shrink_to_what_holds_their_values(tmp_path, dtype, values, expected):
    stored = np.resize(np.array(values, dtype=dtype), SHAPE)
    nib.save(nib.Nifti1Image(stored, np.eye(4), dtype=dtype), tmp_path / "mr.nii")
    array = read_volume(tmp_path / "mr.nii").array
    assert array.dtype == expected
    assert np.array_equal(array, stored)


def write_scaled(path, stored: np.ndarray, slope: float, intercept: float) -> None:
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, path)  # nibabel recomputes the factors, so they are written into the file
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(content)


def test_scale_factors_are_applied_as_nibabel_does(tmp_path, array):
    write_scaled(tmp_path / "mr.nii", array, 0.002, 0.5)
    volume = read_volume(tmp_path / "mr.nii")
    assert volume.array.dtype == np.float32
    assert np.allclose(volume.array, nib.load(tmp_path / "mr.nii").get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("intercept", [-1024, 30_000, 70_000])
def test_an_integral_intercept_keeps_integers(tmp_path, intercept):
    stored = np.random.default_rng(3).integers(0, 4096, SHAPE).astype(np.uint16)
    write_scaled(tmp_path / "ct.nii", stored, 1, intercept)
    array = read_volume(tmp_path / "ct.nii").array
    assert array.dtype == {-1024: np.int16, 30_000: np.uint16, 70_000: np.int32}[intercept]
    assert np.array_equal(array, stored.astype(int) + intercept)


def test_a_trailing_axis_of_one_is_dropped(tmp_path, array):
    nib.save(nib.Nifti1Image(array[..., None], np.eye(4)), tmp_path / "mr.nii")
    image = sitk.JoinSeries(sitk.GetImageFromArray(array.T))
    sitk.WriteImage(image, str(tmp_path / "mr.mha"))
    for name in ("mr.nii", "mr.mha"):
        assert np.array_equal(read_volume(tmp_path / name).array, array)


def test_reading_never_holds_a_second_copy_in_floats(tmp_path):
    big = np.random.default_rng(4).integers(-1000, 1000, (160, 160, 64)).astype(np.int16)
    save_volume(tmp_path / "ct.nii.gz", big, np.eye(4))
    read_volume(tmp_path / "ct.nii.gz")  # imports
    tracemalloc.start()
    read_volume(tmp_path / "ct.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * big.nbytes


def test_masks_are_boolean_and_may_be_full(tmp_path):
    values = np.zeros(SHAPE, np.float32)
    values[2:, 3:] = 0.9
    save_volume(tmp_path / "mask.nii", values, np.eye(4))
    save_volume(tmp_path / "full.nii", np.ones(SHAPE, bool), np.eye(4))
    assert np.array_equal(read_mask(tmp_path / "mask.nii").array, values > 0)
    assert read_mask(tmp_path / "full.nii").array.all()
    assert nib.load(tmp_path / "full.nii").get_data_dtype() == np.uint8


def test_a_mask_with_nothing_in_it_is_refused(tmp_path):
    save_volume(tmp_path / "mask.nii", np.zeros(SHAPE, np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"mask\.nii is empty"):
        read_mask(tmp_path / "mask.nii")


def test_the_same_grid_passes_and_another_is_refused_with_figures(tmp_path, array):
    here = Volume(array, GRIDS["oblique"], tmp_path / "mr.nii")
    check_same_grid(here, Volume(array, GRIDS["oblique"] + 1e-6, tmp_path / "ct.nii"))
    moved = GRIDS["oblique"].copy()
    moved[:3, 3] += [0, 3, 4]
    with pytest.raises(InputError, match=r"mr\.nii and .*ct\.nii lie on different grids.*5 mm apart"):
        check_same_grid(here, Volume(array, moved, tmp_path / "ct.nii"))
    turned = GRIDS["oblique"] @ np.diag([1, 1, -1, 1])  # same first corner, far end 2 x 6 x 3.27 mm away
    with pytest.raises(InputError, match=r"up to 39\.2 mm"):
        check_same_grid(here, Volume(array, turned, tmp_path / "ct.nii"))
    with pytest.raises(InputError, match=r"5 x 6 x 7 and 5 x 6 x 6 voxels, corners up to 3\.27 mm"):
        check_same_grid(here, Volume(array[..., 1:], GRIDS["oblique"], tmp_path / "ct.nii"))


def test_spacing_is_the_length_of_a_voxel_edge(array, tmp_path):
    volume = Volume(array, GRIDS["oblique, permuted, flipped"], tmp_path)
    assert volume.spacing == pytest.approx((0.9, 1.1, 3.27))


def test_a_gzip_member_of_any_level_is_read(tmp_path, array):
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "mr.nii")
    with gzip.open(tmp_path / "mr.nii.gz", "wb", compresslevel=9) as stream:
        stream.write((tmp_path / "mr.nii").read_bytes())
    assert np.array_equal(read_volume(tmp_path / "mr.nii.gz").array, array)


def test_importing_the_door_loads_no_library():
    code = "import sys, medical_gans.io; sys.exit(bool({'numpy', 'nibabel', 'pydicom'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.real_data
def test_real_volumes_agree_with_nibabel(shared_data):
    for name in (
        "thigh_mr_ct/validation/STS_014/ct.nii.gz",
        "head_unpaired/mr/icbm152_09a_t1.nii.gz",
        "brats2013_deepmedic/train/brats_2013_pat0005_1/T1c_subtrMeanDivStd.nii.gz",
    ):
        volume, reference = read_volume(shared_data / name), nib.load(shared_data / name)
        assert np.allclose(volume.array, reference.get_fdata(dtype=np.float32), rtol=1e-6)
        assert np.array_equal(volume.affine, reference.affine)

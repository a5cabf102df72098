"""Nodules of an npz: resampled where they lie, split by patient, refused where they are something else."""

import numpy as np
import pytest
from scipy import ndimage

from medical_gans.errors import InputError, SettingError
from medical_gans.io import NodulePatches, read_lung_patches, read_nodules, require_classes, split_by_patient
from medical_gans.io.nodules import read_patch, save_patch


def write_npz(path, count=12, edge=71, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "hu": rng.integers(-1000, 400, (count, edge, edge)).astype(np.int16),
        "malignancy": (np.arange(count) % 5 + 1).astype(np.int8),
        "patient": np.array([f"P{number // 2}" for number in range(count)]),
        "pixel_spacing_mm": np.full(count, 0.7, dtype=np.float32),
    }
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def ramp(edge, spacing):
    """HU that grow by 7 per mm to the back and 3 per mm to the left, -300 in the middle."""
    mm = (np.arange(edge) - (edge - 1) / 2) * spacing
    return -300 + 7 * mm[:, None] + 3 * mm


@pytest.mark.parametrize("pixel", [0.46, 0.6, 0.83, 1.1])
def test_a_patch_shows_the_same_place_whatever_its_pixels(tmp_path, pixel):
    path = write_npz(tmp_path / "n.npz", 2, hu=np.stack([ramp(75, pixel)] * 2), pixel_spacing_mm=np.full(2, pixel))
    patches = read_nodules(path)
    assert patches.hounsfield.dtype == np.int16 and patches.spacing == (0.6, 0.6)
    inside = slice(2, -2)  # the outermost pixels may be continued; a sampled triangle is off by 0.05 pixels at most
    error = patches.hounsfield[:, inside, inside] - ramp(56, 0.6)[inside, inside]
    assert np.abs(error).max() <= 0.9


def test_shrinking_averages_instead_of_skipping(tmp_path):
    stripes = np.broadcast_to(np.where(np.arange(96) % 2, 200, -1000), (2, 96, 96))
    path = write_npz(tmp_path / "n.npz", 2, hu=stripes, pixel_spacing_mm=np.full(2, 0.3))
    assert np.abs(read_nodules(path, size=40).hounsfield + 400).max() <= 1


def test_growing_agrees_with_scipy(tmp_path):
    path = write_npz(tmp_path / "n.npz", 3)
    made = read_nodules(path, size=48, spacing=0.5).hounsfield
    hounsfield = np.load(path)["hu"].astype(float)
    index = 35 + (np.arange(48) - 23.5) * 0.5 / np.float32(0.7)
    grid = np.meshgrid(index, index, indexing="ij")
    expected = np.stack([ndimage.map_coordinates(one, grid, order=1) for one in hounsfield])
    assert np.abs(made - expected).max() <= 0.51


def test_without_spacing_pixels_are_kept(tmp_path):
    path = write_npz(tmp_path / "n.npz", pixel_spacing_mm=None)
    patches = read_nodules(path, spacing=None)
    assert np.array_equal(patches.hounsfield, np.load(path)["hu"][:, 7:63, 7:63])
    assert np.isnan(patches.spacing).all()


def test_values_are_clipped_to_the_window(tmp_path):
    hounsfield = np.random.default_rng(0).integers(-2048, 3000, (4, 71, 71))
    patches = read_nodules(write_npz(tmp_path / "n.npz", 4, hu=hounsfield), window=(-900, 100))
    assert (patches.hounsfield.min(), patches.hounsfield.max()) == (-900, 100)


def test_a_source_slightly_too_small_is_continued_a_much_smaller_one_refused(tmp_path):
    path = write_npz(tmp_path / "n.npz", 2, hu=np.stack([ramp(71, 0.42)] * 2), pixel_spacing_mm=np.full(2, 0.42))
    beyond = read_nodules(path).hounsfield[0, 0, :3]
    assert beyond.tolist() == [beyond[0]] * 3
    with pytest.raises(InputError, match=r"patch is larger than the volume.*38\.4 mm.*29\.8 mm"):
        read_nodules(path, size=64)


def test_labels_follow_the_ratings(tmp_path):
    patches = read_nodules(write_npz(tmp_path / "n.npz", 6, malignancy=np.array([0, 1, 2, 3, 4, 5])))
    assert patches.label.tolist() == [-1, 0, 0, 2, 1, 1]
    assert len(patches.select(patches.label == 1)) == 2
    assert patches.select([]).hounsfield.shape == (0, 56, 56)


def test_names_are_unique_and_safe(tmp_path):
    path = write_npz(tmp_path / "n.npz", 4, patient=np.array(["a/b", "a/b", "c d", "e"]), nodule_id=np.zeros(4))
    names = read_nodules(path).name
    assert len(set(names)) == 4 and not any("/" in name or " " in name for name in names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patient": None}, "lacks patient.*cannot be split"),
        ({"hu": None, "image": np.zeros(12)}, "lacks hu.*image, malignancy"),
        ({"pixel_spacing_mm": None}, "Set spacing to null"),
        ({"malignancy": np.full(12, 6)}, "12 malignancy ratings out of range, the first 6"),
        ({"malignancy": np.full(12, -1)}, "out of range"),
        ({"malignancy": np.full(12, np.nan)}, "out of range"),
        ({"malignancy": np.array(["high"] * 12)}, "no numbers"),
        ({"malignancy": np.ones(3)}, "12 patches in hu but malignancy of shape"),
        ({"hu": np.full((12, 71, 71), 120)}, "not in HU"),
        ({"hu": np.full((12, 71), -500)}, "are\\s+needed"),
        ({"hu": np.full((12, 71, 71), np.nan)}, "NaN"),
        ({"pixel_spacing_mm": np.zeros(12)}, "no positive mm"),
    ],
)
def test_other_arrays_are_told_apart(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        read_nodules(write_npz(tmp_path / "n.npz", **changes))


def test_what_is_no_npz_is_refused(tmp_path):
    (tmp_path / "n.npz").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="cannot be read as npz"):
        read_nodules(tmp_path / "n.npz")
    with pytest.raises(InputError, match="does not exist"):
        read_nodules(tmp_path / "other.npz")
    with pytest.raises(InputError, match="no nodules that can be read"):
        read_nodules(__file__)


def test_volumes_cannot_come_from_slices(tmp_path):
    with pytest.raises(InputError, match="single slices"):
        read_nodules(write_npz(tmp_path / "n.npz"), spatial_dims=3)


@pytest.mark.parametrize("settings", [{"size": 0}, {"spacing": 0.0}, {"spatial_dims": 4}, {"window": (400, -1000)}])
def test_settings_out_of_range_are_refused(tmp_path, settings):
    with pytest.raises(SettingError):
        read_nodules(write_npz(tmp_path / "n.npz"), **settings)


def many_patients(count=1000):
    patient = np.array([f"P{number:04d}" for number in range(count)]).repeat(2)
    return NodulePatches(np.zeros((2 * count, 2, 2)), np.ones(2 * count, np.int8), patient, patient, (1.0, 1.0))


def test_no_patient_is_on_two_sides():
    patches = many_patients()
    sides = [set(split_by_patient(patches, split).patient) for split in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 1000
    assert [len(side) / 1000 for side in sides] == pytest.approx([0.6, 0.1, 0.3], abs=0.05)


def test_a_patient_stays_on_a_side_when_others_leave():
    patches = many_patients()
    test = set(split_by_patient(patches, "test").patient)
    fewer = patches.select(np.arange(0, len(patches), 3))
    assert set(split_by_patient(fewer, "test").patient) == test & set(fewer.patient)


def test_the_seed_draws_another_split():
    patches = many_patients()
    assert set(split_by_patient(patches, "test", seed=1).patient) != set(split_by_patient(patches, "test").patient)


def test_a_split_without_patients_is_an_error():
    with pytest.raises(InputError, match="Of 1 patients none falls into"):
        for split in ("train", "test"):
            split_by_patient(many_patients(1), split)
    with pytest.raises(SettingError, match="choose train, validation, test"):
        split_by_patient(many_patients(1), "val")
    with pytest.raises(SettingError, match="add up to 1"):
        split_by_patient(many_patients(1), "train", (0.5, 0.1, 0.1))


def test_a_class_without_samples_is_named():
    patches = many_patients(3)
    require_classes(patches, {0: "benign"}, "the test patients")
    with pytest.raises(InputError, match="The class malignant has no sample among the test patients"):
        require_classes(patches, {0: "benign", 1: "malignant"}, "the test patients")


def test_lung_patches_are_cropped_about_their_centre(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 50, 50)).astype(np.uint8)
    np.savez(tmp_path / "l.npz", image=image, is_nodule=np.array([0, 1, 0, 1, 1], np.int8))
    images, is_nodule = read_lung_patches(tmp_path / "l.npz", 48)
    assert np.allclose((images + 1) * 127.5, image[:, 1:49, 1:49]) and is_nodule.sum() == 3


def test_the_two_kinds_of_npz_are_not_mistaken_for_each_other(tmp_path):
    np.savez(tmp_path / "l.npz", image=np.zeros((2, 50, 50), np.uint8), is_nodule=np.zeros(2))
    with pytest.raises(InputError, match="serve lung_nodule anomaly only"):
        read_nodules(tmp_path / "l.npz")
    with pytest.raises(InputError, match="looks like rated nodules"):
        read_lung_patches(write_npz(tmp_path / "n.npz"))
    np.savez(tmp_path / "f.npz", image=np.zeros((2, 50, 50)), is_nodule=np.zeros(2))
    with pytest.raises(InputError, match="uint8"):
        read_lung_patches(tmp_path / "f.npz")


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 9)])
def test_a_patch_file_comes_back_and_lies_as_in_the_patient(tmp_path, shape):
    import nibabel

    patch = np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)
    spacing = (0.6, 0.7, 1.5)[: len(shape)]
    path = save_patch(tmp_path / "p.nii.gz", patch, spacing)
    again, same_spacing = read_patch(path)
    assert np.array_equal(again, patch) and same_spacing == pytest.approx(spacing)
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.int16 and nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert np.allclose(image.header.get_zooms(), [0.7, 0.6, 1.5 if len(shape) == 3 else 0.7])


def test_a_file_that_is_no_patch_is_refused(tmp_path):
    import nibabel

    with pytest.raises(InputError, match="cannot be read"):
        read_patch(tmp_path / "no.nii.gz")
    array = np.full((20, 20, 1), -500, np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "ras.nii.gz")
    with pytest.raises(InputError, match="does not lie as patches do"):
        read_patch(tmp_path / "ras.nii.gz")
    nibabel.save(nibabel.Nifti1Image(array + 600, np.diag([-1, -1, 1, 1])), tmp_path / "p.nii.gz")
    with pytest.raises(InputError, match="no patch in HU"):
        read_patch(tmp_path / "p.nii.gz")


@pytest.mark.real_data
def test_the_real_nodules_are_read_in_seconds(shared_data):
    path = shared_data / "lung_nodules"
    if not path.is_dir():
        pytest.skip("the LIDC-IDRI nodules are not there")
    patches = read_nodules(path)
    assert patches.hounsfield.shape == (2157, 56, 56) and len(set(patches.name)) == 2157
    assert np.bincount(patches.label).tolist() == [709, 474, 974]
    assert patches.hounsfield.min() >= -1000 and patches.hounsfield.max() <= 400

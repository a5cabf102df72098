"""Promises of the reading of several MR sequences: the right file for each channel, one grid, and the way back."""

import json

import nibabel as nib
import numpy as np
import pytest

from medical_gans.errors import InputError
from medical_gans.io import save_volume
from medical_gans.io.sequence_cases import check_apart, find_sequence_cases, holds_sequences
from medical_gans.transforms.sequence_volume import read_sequence_case

RNG = np.random.default_rng(0)
SHAPE = (20, 24, 16)


def head(shape=SHAPE):
    """An ellipsoid of random tissue on a background of exactly zero."""
    place = np.stack(np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij"))
    return np.where((place**2).sum(0) < 1, 100 + 20 * RNG.standard_normal(shape), 0).astype(np.float32)


def oblique(spacing=(1.0, 1.0, 2.0)):
    """An affine with permuted, flipped and slightly turned axes."""
    turn = nib.eulerangles.euler2mat(0.1, 0.05, -0.1)[:, [1, 0, 2]] @ np.diag([-1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (30, -20, 12)
    return affine


def write_case(folder, names, affine=None, label=True, shape=SHAPE):
    folder.mkdir(parents=True)
    for name in names:
        save_volume(folder / f"{name}.nii.gz", head(shape), np.eye(4) if affine is None else affine)
    if label:
        lesion = np.zeros(shape, np.uint8)
        lesion[8:12, 10:15, 6:10] = 1
        save_volume(folder / "lesion.nii.gz", lesion, np.eye(4) if affine is None else affine)
    return folder


@pytest.mark.parametrize(
    ("files", "channel", "found"),
    [
        (["Flair_subtrMeanDivStd"], "FLAIR", "Flair_subtrMeanDivStd"),
        (["T1", "T1c"], "T1", "T1"),
        (["patient07_T1c", "patient07_T1"], "T1c", "patient07_T1c"),
        (["FLAIR", "FLAIR_registered"], "FLAIR", "FLAIR"),
    ],
)
def test_a_file_belongs_to_the_sequence_that_its_name_says(tmp_path, files, channel, found):
    write_case(tmp_path / "data" / "anna", files)
    (case,) = find_sequence_cases(tmp_path / "data", [channel])
    assert case.name == "anna" and case.channels[0].name == f"{found}.nii.gz"


def test_one_case_folder_is_a_data_set_of_one(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"])
    assert [case.name for case in find_sequence_cases(tmp_path / "anna", ["FLAIR"])] == ["anna"]


def test_nested_folders_name_their_cases(tmp_path):
    write_case(tmp_path / "site" / "anna" / "day1", ["FLAIR"])
    write_case(tmp_path / "site" / "bert" / "day1", ["FLAIR"])
    names = [case.name for case in find_sequence_cases(tmp_path / "site", ["FLAIR"])]
    assert names == ["anna_day1", "bert_day1"]


def test_linked_case_folders_are_found_and_a_link_to_above_ends(tmp_path):
    write_case(tmp_path / "archive" / "anna", ["FLAIR"])
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "ann").symlink_to(tmp_path / "archive" / "anna", target_is_directory=True)
    (chosen / "round").symlink_to(chosen, target_is_directory=True)
    assert [case.name for case in find_sequence_cases(chosen, ["FLAIR"])] == ["ann"]


def test_a_datalist_names_or_lists_the_sequences(tmp_path):
    write_case(tmp_path / "x", ["a_FLAIR", "a_T2"])
    images = {"FLAIR": "x/a_FLAIR.nii.gz", "T2": "x/a_T2.nii.gz"}
    (tmp_path / "d.json").write_text(json.dumps({"training": [{"image": images, "name": "n 1"}]}))
    (tmp_path / "e.json").write_text(json.dumps([{"image": list(images.values()), "label": "x/lesion.nii.gz"}]))
    (named,) = find_sequence_cases(tmp_path / "d.json", ["FLAIR", "T2"])
    (listed,) = find_sequence_cases(tmp_path / "e.json", ["FLAIR", "T2"], label="lesion")
    assert named.channels == listed.channels and named.name == "n_1"
    assert listed.label is not None and named.label is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": ["FLAIR", "SWI"]}, ["anna has no image of the sequence SWI", "FLAIR, T2", "missing: ['SWI']"]),
        ({"channels": ["FLAIR"], "label": "tumour", "labels_required": True}, ["no label map 'tumour'"]),
        ({"channels": ["FLAIR", "T2"], "missing": ["T3"]}, ["only sequences of channels"]),
        ({"channels": ["FLAIR"], "missing": ["FLAIR"]}, ["one must be there"]),
        ({"channels": ["PD"]}, ["holds no case", "PD.nii.gz"]),
    ],
)
def test_what_is_not_there_is_named(tmp_path, options, words):
    write_case(tmp_path / "data" / "anna", ["FLAIR", "T2"])
    with pytest.raises(InputError) as refused:
        find_sequence_cases(tmp_path / "data", **options)
    assert all(word in str(refused.value) for word in words), refused.value


def test_two_files_for_one_sequence_are_named(tmp_path):
    write_case(tmp_path / "data" / "anna", ["a_FLAIR", "b_FLAIR"])
    with pytest.raises(InputError, match=r"2 files named after FLAIR: a_FLAIR\.nii\.gz and b_FLAIR"):
        find_sequence_cases(tmp_path / "data", ["FLAIR"])


def test_images_in_another_order_are_refused(tmp_path):
    write_case(tmp_path / "x", ["FLAIR", "T2"])
    (tmp_path / "d.json").write_text(json.dumps([{"image": ["x/T2.nii.gz", "x/FLAIR.nii.gz"]}]))
    with pytest.raises(InputError, match=r"gives T2\.nii\.gz as FLAIR, but its name says T2"):
        find_sequence_cases(tmp_path / "d.json", ["FLAIR", "T2"])


def test_source_and_target_share_no_file(tmp_path):
    write_case(tmp_path / "data" / "anna", ["FLAIR", "T2"])
    flair, t2 = (find_sequence_cases(tmp_path / "data", [name]) for name in ("FLAIR", "T2"))
    check_apart(flair, t2)
    with pytest.raises(InputError, match=r"belongs to the source \(anna\) and to the target"):
        check_apart(flair, flair)


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 2.0), (0.8, 1.0, 2.0)])
def test_the_way_to_the_network_and_back_keeps_the_place(tmp_path, spacing):
    """A smooth map of position comes back to the stored grid where it was, and world positions agree."""
    affine = oblique()
    write_case(tmp_path / "anna", ["FLAIR"], affine)
    (case,) = find_sequence_cases(tmp_path, ["FLAIR"], label="lesion")
    volume = read_sequence_case(case, ["FLAIR"], spacing=spacing)
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")

    def world(shape, grid):
        index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
        return np.einsum("ij,j...->i...", grid[:3, :3], index) + grid[:3, 3].reshape(3, 1, 1, 1)

    back = volume.to_source_grid(world(volume.image.shape[1:], volume.affine).astype(np.float32))
    inner = (slice(None), slice(3, -3), slice(3, -3), slice(3, -3))
    assert np.abs(back - world(SHAPE, affine))[inner].max() < 1e-3
    assert volume.source.array.shape == back.shape[1:] and np.allclose(volume.source.affine, affine, atol=1e-4)


def test_each_channel_is_normalised_within_the_head_and_zero_outside(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR", "T2"])
    (case,) = find_sequence_cases(tmp_path, ["FLAIR", "T2"])
    volume = read_sequence_case(case, ["FLAIR", "T2"])
    for channel in volume.image:
        inside = channel[volume.foreground]
        assert abs(inside.mean()) < 0.02 and abs(inside.std() - 1) < 0.05
        assert not channel[~volume.foreground].any()


def test_a_missing_channel_is_zero(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"])
    (case,) = find_sequence_cases(tmp_path, ["FLAIR", "SWI"], missing=["SWI"])
    volume = read_sequence_case(case, ["FLAIR", "SWI"])
    assert volume.image.shape[0] == 2 and volume.image[0].any() and not volume.image[1].any()


def test_a_channel_on_another_grid_is_resampled_and_the_report_says_so(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"])
    first = nib.load(tmp_path / "anna" / "FLAIR.nii.gz")
    finer = np.repeat(np.repeat(np.repeat(first.get_fdata(), 2, 0), 2, 1), 2, 2).astype(np.float32)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = -0.25
    save_volume(tmp_path / "anna" / "T2.nii.gz", finer, affine)
    (case,) = find_sequence_cases(tmp_path, ["FLAIR", "T2"])
    volume = read_sequence_case(case, ["FLAIR", "T2"])
    assert volume.notes == ("T2 lies on another grid than FLAIR and was resampled to it.",)
    inner = (slice(4, -4), slice(4, -4), slice(4, -4))
    assert np.abs(volume.image[0] - volume.image[1])[inner].max() < 0.2


def test_a_channel_of_another_place_is_refused(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"])
    affine = np.eye(4)
    affine[0, 3] = 15
    save_volume(tmp_path / "anna" / "T2.nii.gz", head(), affine)
    (case,) = find_sequence_cases(tmp_path, ["FLAIR", "T2"])
    with pytest.raises(InputError, match=r"T2 of case anna covers \d+ % of the field of view of FLAIR"):
        read_sequence_case(case, ["FLAIR", "T2"])


def test_labels_become_classes_by_groups(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"], label=False)
    label = RNG.integers(0, 5, SHAPE).astype(np.uint8)
    save_volume(tmp_path / "anna" / "lesion.nii.gz", label, np.eye(4))
    (case,) = find_sequence_cases(tmp_path, ["FLAIR"], label="lesion")
    volume = read_sequence_case(case, ["FLAIR"], label_groups=[[1, 3], [4, 2]])
    assert (volume.source_label == np.array([0, 1, 2, 1, 2])[label]).all()
    with pytest.raises(InputError, match=r"holds the labels \[2, 4\], which label_groups"):
        read_sequence_case(case, ["FLAIR"], label_groups=[[1], [3]])
    with pytest.raises(InputError, match=r"holds the labels \[2, 3, 4\], which num_classes 2"):
        read_sequence_case(case, ["FLAIR"], num_classes=2)


def test_a_label_of_another_grid_or_with_fractions_is_refused(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"], label=False)
    save_volume(tmp_path / "anna" / "lesion.nii.gz", np.ones((4, 4, 4), np.uint8), np.eye(4))
    (case,) = find_sequence_cases(tmp_path, ["FLAIR"], label="lesion")
    with pytest.raises(InputError, match="different grids"):
        read_sequence_case(case, ["FLAIR"])
    save_volume(tmp_path / "anna" / "lesion.nii.gz", np.full(SHAPE, 0.5, np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"no label map: it holds 0\.5"):
        read_sequence_case(case, ["FLAIR"])


def test_a_label_and_a_mask_drawn_on_another_sequence_are_brought_over_and_it_is_said(tmp_path):
    """Drawn on a grid twice as fine: the class at the centre of each voxel, and no new values."""
    write_case(tmp_path / "anna", ["T1"], label=False)
    lesion = np.zeros(tuple(2 * n for n in SHAPE), np.uint8)
    lesion[16:24, 20:30, 12:20] = 2
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = -0.25
    save_volume(tmp_path / "anna" / "lesion.nii.gz", lesion, affine)
    save_volume(tmp_path / "anna" / "mask.nii.gz", np.ones(lesion.shape, np.uint8), affine)
    (case,) = find_sequence_cases(tmp_path, ["T1"], label="lesion", mask="mask")
    volume = read_sequence_case(case, ["T1"])
    expected = np.zeros(SHAPE, np.uint8)
    expected[8:12, 10:15, 6:10] = 2
    assert np.array_equal(volume.source_label, expected) and np.array_equal(volume.label, expected)
    assert volume.foreground.all()
    assert volume.notes == (
        "The label map lies on another grid than T1 and was brought to it by nearest neighbours.",
        "The mask lies on another grid than T1 and was brought to it by nearest neighbours.",
    )


def test_a_label_that_covers_the_brain_but_not_the_neck_is_brought_over(tmp_path):
    write_case(tmp_path / "anna", ["T1"], label=False)
    part = np.ones((*SHAPE[:2], round(SHAPE[2] * 0.4)), np.uint8)
    affine = np.eye(4)
    affine[2, 3] = SHAPE[2] - part.shape[2]
    save_volume(tmp_path / "anna" / "lesion.nii.gz", part, affine)
    (case,) = find_sequence_cases(tmp_path, ["T1"], label="lesion")
    label = read_sequence_case(case, ["T1"]).source_label
    assert label[:, :, -part.shape[2] :].all() and not label[:, :, : -part.shape[2]].any()


def test_a_case_without_any_lesion_is_allowed(tmp_path):
    write_case(tmp_path / "anna", ["FLAIR"], label=False)
    save_volume(tmp_path / "anna" / "lesion.nii.gz", np.zeros(SHAPE, np.uint8), np.eye(4))
    (case,) = find_sequence_cases(tmp_path, ["FLAIR"], label="lesion")
    assert not read_sequence_case(case, ["FLAIR"], num_classes=2).label.any()


@pytest.mark.real_data
def test_a_real_tumour_survives_the_way_to_2_mm_and_back(shared_data):
    folder = shared_data / "brats2013_deepmedic" / "train"
    case = find_sequence_cases(folder, ["FLAIR"], label="OTMultiClass", mask="brainmask")[0]
    volume = read_sequence_case(case, ["FLAIR"], spacing=(2, 2, 2), label_groups=[[1, 2, 3, 4]])
    back = volume.to_source_grid(volume.label[None].astype(np.float32))[0] > 0.5
    truth = volume.source_label > 0
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.93


@pytest.mark.parametrize("image", [-3, [1], [None], None, {"T1c": 2.5}, [["a.nii.gz"]]])
def test_an_entry_of_a_data_list_that_is_no_path_is_refused(tmp_path, image):
    (tmp_path / "list.json").write_text(json.dumps([{"image": image}]))
    with pytest.raises(InputError, match=r"Entry 0 of .*"):
        find_sequence_cases(tmp_path / "list.json", ["T1c"])


def test_a_listed_sequence_that_is_declared_missing_may_be_null(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    (tmp_path / "list.json").write_text(json.dumps([{"image": [None, "a.nii.gz"]}]))
    (case,) = find_sequence_cases(tmp_path / "list.json", ["T1c", "FLAIR"], missing=["T1c"])
    assert case.channels == (None, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"Entry 0 of .* has an image that is no path"):
        find_sequence_cases(tmp_path / "list.json", ["T1c", "FLAIR"])


def test_a_name_in_a_data_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    (tmp_path / "list.json").write_text(json.dumps([{"image": "a.nii.gz", "name": ["anna"]}]))
    with pytest.raises(InputError, match=r"Entry 0 of .* is named \['anna'\]; a text is needed"):
        find_sequence_cases(tmp_path / "list.json", ["T1c"])


def test_what_a_folder_holds_is_found_without_a_word(tmp_path, caplog):
    for name in ("anna/FLAIR.nii.gz", "anna/T1.nii.gz", "bert/T1.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert holds_sequences(tmp_path, ["FLAIR"]) and holds_sequences(tmp_path, ["T1"])
    assert holds_sequences(tmp_path / "bert", ["T1"]) and not holds_sequences(tmp_path / "bert", ["FLAIR"])
    assert not holds_sequences(tmp_path, ["T2"]) and not caplog.records

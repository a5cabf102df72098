"""Which nodules a study shows, and that it is refused rather than written wrongly."""

import csv
import json

import numpy as np
import pytest
from turing_test.studies import CLASSES, NoiseSampler, nodules, patches, write_study

from medical_gans.errors import InputError, OutputError, SettingError
from medical_gans.io.nodules import split_by_patient
from medical_gans.io.nodules.patch_files import save_patch
from medical_gans.studies.turing_test import TuringStudy
from medical_gans.studies.turing_test.nodules import (
    StudyNodules,
    check_alike,
    choose_generated,
    choose_real,
    counts_by_label,
    generate,
)
from medical_gans.studies.turing_test.page import images_of_page


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def inference_folder(folder, number=12, size=8):
    """What lung_nodule inference leaves: NIfTI files and samples.csv."""
    folder.mkdir()
    made = NoiseSampler().generate(range(number), [0] * number)
    with open(folder / "samples.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "class", "seed"])
        writer.writeheader()
        for index, one in enumerate(made):
            save_patch(folder / f"nodule_{index}.nii.gz", one[:size, :size], (0.6, 0.6))
            writer.writerow({"file": f"nodule_{index}.nii.gz", "class": CLASSES[index % 3], "seed": index})
    return folder, made


@pytest.mark.parametrize(
    ("number", "malignancy", "counts"),
    [(10, "both", {0: 5, 1: 5}), (5, "both", {0: 3, 1: 2}), (7, "malignant", {1: 7}), (3, "any", {None: 3})],
)
def test_classes_come_in_equal_numbers(number, malignancy, counts):
    assert counts_by_label(number, malignancy) == counts


def test_real_and_generated_have_the_same_classes(tmp_path):
    key = write_study(tmp_path, number=10)
    counts = {(truth, name): 0 for truth in ("real", "generated") for name in CLASSES[:2]}
    for image in key["images"]:
        counts[image["truth"], image["malignancy"]] += 1
    assert set(counts.values()) == {5}


def test_real_nodules_are_of_test_patients_whom_training_never_saw(tmp_path):
    given = patches(200)
    TuringStudy(lambda: given, NoiseSampler, tmp_path, num_real=20, num_generated=2).run()
    key = json.loads((tmp_path / "key.json").read_text())
    shown = {image["source"] for image in key["images"] if image["truth"] == "real"}
    assert len(shown) == 20 and shown <= set(split_by_patient(given, "test").name)


def test_real_nodules_are_of_as_many_patients_as_possible():
    given = patches(60)
    given.patient[:] = [f"P{index // 5}" for index in range(60)]  # each with all five ratings
    chosen = choose_real(given, 12, "both", rng())
    patient = {name: patient for name, patient in zip(given.name, given.patient, strict=True)}
    assert len({patient[name] for name in chosen.source}) == 12


def test_the_page_shows_the_pixels_of_the_source(tmp_path):
    key = write_study(tmp_path, number=6)
    given = patches()
    shown = images_of_page(tmp_path / "study.html", key["study"])
    for image in key["images"]:
        if image["truth"] == "real":
            hounsfield = given.hounsfield[given.name == image["source"]][0]
        else:
            seed = int(image["source"].removeprefix("seed "))
            hounsfield = NoiseSampler().generate([seed], [0])[0]
        np.testing.assert_allclose(shown[image["id"]], (hounsfield + 1000.0) / 1400 * 255, atol=0.5 + 1e-9)


def test_nodules_of_an_inference_run_can_be_shown(tmp_path):
    folder, made = inference_folder(tmp_path / "generated")
    chosen = choose_generated(folder, 6, "both", rng())
    assert chosen.spacing == pytest.approx((0.6, 0.6))
    for hounsfield, name, source in zip(chosen.hounsfield, chosen.malignancy, chosen.source, strict=True):
        index = int(source.removeprefix("nodule_").removesuffix(".nii.gz"))
        np.testing.assert_array_equal(hounsfield, made[index])
        assert name == CLASSES[index % 3]
    key = write_study(tmp_path / "study", generated_dir=folder)
    assert {image["truth"] for image in key["images"]} == {"real", "generated"}


def test_a_generator_without_classes_is_shown_among_all_nodules():
    made = generate(NoiseSampler(classes=()), 3, "any", rng())  # type: ignore[arg-type]
    assert made.malignancy == ["unknown"] * 3
    with pytest.raises(SettingError, match="without classes"):
        generate(NoiseSampler(classes=()), 4, "both", rng())  # type: ignore[arg-type]


def test_of_cubes_the_middle_slice_is_shown():
    given = patches(10)
    cubes = np.stack([given.hounsfield - 1, given.hounsfield, given.hounsfield + 1], axis=-1)
    volumes = type(given)(cubes, given.malignancy, given.patient, given.name, (0.6, 0.6, 0.6))
    np.testing.assert_array_equal(
        choose_real(volumes, 4, "both", rng()).hounsfield, choose_real(given, 4, "both", rng()).hounsfield
    )


def test_an_existing_study_is_not_overwritten(tmp_path):
    write_study(tmp_path)
    before = (tmp_path / "key.json").read_bytes()
    with pytest.raises(OutputError, match="holds a study already"):
        write_study(tmp_path, seed=1)
    assert (tmp_path / "key.json").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"malignancy": "bening"}, "malignancy is 'bening'"),
        ({"num_generated": 1}, "at least 2 real and 2 generated"),
        ({"num_real": 100}, "needs 50 benign nodules, but the chosen patients have 24"),
        ({"split": "tests"}, "split is 'tests'"),
        ({"window": [400, -1000]}, "window"),
        ({"second_window": [-160]}, "window"),
        ({"generated_dir": "nowhere"}, "samples.csv"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises((SettingError, InputError), match=message):
        write_study(tmp_path / "study", **settings)
    assert not (tmp_path / "study").exists()


def test_generated_nodules_of_a_class_that_are_too_few_are_refused(tmp_path):
    folder, _ = inference_folder(tmp_path / "generated")
    with pytest.raises(InputError, match=r"needs 5 generated benign nodules, but .* has 4"):
        choose_generated(folder, 10, "both", rng())


def test_nodules_that_their_frame_would_tell_apart_are_refused():
    real = nodules(4, 1)
    with pytest.raises(InputError, match=r"6 x 6 pixels .* but generated ones 8 x 8"):
        check_alike(real, nodules(4, 2, size=8))
    with pytest.raises(InputError, match="readers would see it"):
        check_alike(real, StudyNodules(nodules(4, 2).hounsfield, real.malignancy, real.source, (0.7, 0.7)))
    with pytest.raises(InputError, match="not known"):
        check_alike(StudyNodules(real.hounsfield, real.malignancy, real.source, (np.nan, np.nan)), nodules(4, 2))
    with pytest.raises(InputError, match="the same image"):
        check_alike(real, real)


def test_the_manifest_tells_how_and_the_note_tells_what_to_send(tmp_path):
    key = write_study(tmp_path, seed=7, notice="Reference 12")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 7 and manifest["settings"]["num_real"] == 4
    assert manifest["settings"]["notice"] == "Reference 12"
    note = (tmp_path / "README.txt").read_text()
    assert key["study"] in note and "ethics board" in note and "nothing else of this folder" in note

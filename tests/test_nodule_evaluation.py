"""Evaluation of generated nodules: figures with their floor, usefulness, the page, and what is refused."""

import csv
import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medical_gans.data.patches import images_of as preprocessed
from medical_gans.errors import InputError, OutputError, SettingError
from medical_gans.evaluation import Budget, NoduleEvaluation
from medical_gans.evaluation.nodule_classification import features_of, malignancy_logits, train_classifier
from medical_gans.evaluation.nodule_features import (
    NetworkFeatures,
    RadiomicFeatures,
    ScriptFeatures,
    window_preprocessing,
)
from medical_gans.evaluation.nodule_figures import FLOOR, Samples, distances_to_training, judge, plan_halves
from medical_gans.evaluation.nodule_results import TRAINING
from medical_gans.evaluation.nodule_sources import (
    GeneratedNodules,
    check_same_patches,
    generate_nodules,
    read_generated,
    samplers_by_class,
    samplers_of_weights,
)
from medical_gans.evaluation.nodule_usefulness import (
    Labelled,
    area_under_curve,
    auc_intervals,
    patient_bootstrap,
    usefulness,
)
from medical_gans.inference.nodules.sampling import load_nodule_sampler
from medical_gans.io.nodules import NodulePatches
from medical_gans.io.nodules.patch_files import save_patch
from medical_gans.networks import NoduleClassifier, nodule_generator
from medical_gans.weights import WeightsCard, save_weights

SIZE, SPACING, WINDOW = 48, (0.6, 0.6), (-1000.0, 400.0)
CLASSES = ("benign", "malignant", "indeterminate")
NETWORK = {"size": SIZE, "latent_size": 4, "width": 2, "upsampling": "linear", "noise": True}


def nodules(count, seed=0, per_patient=2, size=SIZE):
    """Discs in lung, small for benign and large for malignant ones, in turn."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    malignancy = np.array([1, 5, 2, 4, 3])[np.arange(count) % 5].astype(np.int8)
    radius = rng.uniform(3, 6, count) + 5.0 * (malignancy > 3)
    discs = np.hypot(rows, columns) < radius[:, None, None]
    hounsfield = np.where(discs, 30, -850) + rng.normal(0, 40, (count, size, size))
    return NodulePatches(
        np.clip(hounsfield, *WINDOW).astype(np.int16),
        malignancy,
        np.array([f"patient_{seed}_{index // per_patient}" for index in range(count)]),
        np.array([f"nodule_{seed}_{index}" for index in range(count)]),
        SPACING,
    )


def save_generator(path, num_classes=3, **arguments):
    """Weights and card as the training leaves them."""
    torch.manual_seed(0)
    arguments = {**NETWORK, "num_classes": num_classes, **arguments}
    network = nodule_generator(**arguments)
    save_weights(path, network)
    network_def = {"_target_": "medical_gans.networks.nodule_generator", **arguments}
    card = WeightsCard(spacing=SPACING, network_def=network_def, classes=CLASSES[:num_classes], window=WINDOW)
    card.save(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of a generator and of a feature network, which learned nothing."""
    folder = tmp_path_factory.mktemp("weights")
    save_generator(folder / "ours.pt")
    torch.manual_seed(0)
    save_weights(folder / "features.pt", NoduleClassifier(width=2, num_features=4))
    network_def = {"_target_": "medical_gans.networks.NoduleClassifier", "width": 2, "num_features": 4}
    WeightsCard(spacing=SPACING, network_def=network_def, window=WINDOW).save(folder / "features.pt")
    return folder


def evaluation(files, output_dir, patches=None, **options):
    patches = nodules(130) if patches is None else patches
    settings = {
        "weights": files / "ours.pt",
        "features": files / "features.pt",
        "num_generated": 12,
        "repeats": 2,
        "trainings": 1,
        "preprocessing": window_preprocessing(WINDOW),
        "classifier": partial(NoduleClassifier, width=2),
        "budget": Budget(steps=2, batch_size=8),
        "split_fractions": (0.4, 0.0, 0.6),
        **options,
    }

    def load():
        return load_nodule_sampler(nodule_generator(**NETWORK), settings["weights"])

    return NoduleEvaluation(lambda: patches, load, output_dir, **settings)


def images_of(hounsfield):
    return preprocessed(hounsfield, window_preprocessing(WINDOW))


# --- figures ---


def samples(count, seed, shift=0.0, label=None):
    rng = np.random.default_rng(seed)
    features = {"network": rng.normal(size=(count, 3)) + shift}
    images = rng.normal(size=(count, 44, 44))
    label = np.arange(count) % 2 if label is None else label
    return Samples(images, label, features, {"network": np.ones(count), "pixels": np.ones(count)})


def judged(candidates, real=None, patient=None, **options):
    real = samples(100, 0) if real is None else real
    patient = np.arange(len(real.label)) // 2 if patient is None else patient
    labels = {name: one.label for name, one in candidates.items()}
    plans = plan_halves(real.label, patient, labels, **{"repeats": 4, "k": 3, **options})
    return judge(real, candidates, plans, data_range=5.0, k=3)


def test_samples_of_the_real_distribution_reach_the_floor_and_others_do_not():
    found = judged({"same": samples(80, 1), "other": samples(80, 2, shift=2.0)}, repeats=10)
    same, other, floor = (found["both", "network", name] for name in ("same", "other", FLOOR))
    assert floor["frechet_ratio"].value == 1
    assert same["frechet_ratio"].value == pytest.approx(1, abs=0.7)
    assert other["frechet_ratio"].value > 10
    assert other["recall"].value < 0.5 < same["recall"].value
    for figure in ("frechet", "kernel", "precision", "ms_ssim"):
        assert same[figure].low <= same[figure].value <= same[figure].high


def test_all_sets_are_judged_with_the_same_number_in_the_mix_of_the_real_ones():
    real = samples(100, 0, label=np.array([0] * 60 + [1] * 40))
    patient = np.arange(100)
    found = judged({"enough": samples(90, 1), "any": samples(60, 2, label=np.full(60, -1))}, real, patient)
    assert {(group, one["frechet"].n) for (group, _, _), one in found.items()} == {
        ("both", 50),
        ("benign", 30),
        ("malignant", 20),
    }
    scarce = samples(90, 1, label=np.array([0] * 80 + [1] * 10))
    found = judged({"enough": samples(90, 1), "scarce": scarce}, real, patient)
    # half as many malignant ones as the halves have, so half as many benign ones too
    assert {one["frechet"].n for (group, _, _), one in found.items() if group == "both"} == {25}


def test_the_reference_and_the_floor_share_no_patient():
    """A patient whose nodules are all alike would make the floor too low."""
    from medical_gans.evaluation import nodule_figures

    patient = np.repeat(np.arange(30), 4)
    label = np.arange(120) % 2
    for seed in range(5):
        one, other = nodule_figures._halves(label, patient, (0, 1), np.random.default_rng(seed))
        assert not {*patient[np.concatenate(one)]} & {*patient[np.concatenate(other)]}
        assert sorted(np.concatenate([*one, *other]).tolist()) == list(range(120))
        assert all((label[part] == number).all() for side in (one, other) for number, part in enumerate(side))


def test_copies_of_training_patches_are_told_by_their_distance():
    training = nodules(30, seed=1).hounsfield
    features = {"network": training.reshape(30, -1)[:, ::97].astype(float)}
    copies = training[[4, 7], :, ::-1]  # the mirror image is a copy too
    own = {"network": features["network"][[4, 7]]}
    distance, index = distances_to_training(copies, own, training, features)
    assert distance["network"].tolist() == distance["pixels"].tolist() == [0, 0]
    assert index["pixels"].tolist() == index["network"].tolist() == [4, 7]


def test_too_few_samples_are_refused_with_the_number_needed():
    with pytest.raises(InputError, match=r"only 8 malignant nodules in scarce; the figures need 10"):
        judged({"scarce": samples(50, 1, label=np.array([0] * 42 + [1] * 8))})
    with pytest.raises(InputError, match=r"only 9 .* half of the test patients; .*split_fractions"):
        judged({"same": samples(80, 1)}, real=samples(36, 0))
    with pytest.raises(SettingError, match="repeats"):
        judged({}, repeats=1)


# --- features ---


def test_radiomic_features_are_in_deviations_of_the_training_patches():
    patches = nodules(40).hounsfield
    found = RadiomicFeatures(patches, SPACING, WINDOW)(patches)
    assert np.abs(np.median(found, axis=0)).max() < 1.5 and np.abs(found).max() <= 5
    assert np.isfinite(found).all()


def test_a_torchscript_extractor_sees_three_channels_of_the_size_it_wants(tmp_path):
    class Look(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            size = torch.full((image.shape[0],), float(image.shape[2]))
            return torch.stack([image[:, 0].mean((1, 2)), image[:, 2].amax((1, 2)), size], 1)

    torch.jit.script(Look()).save(str(tmp_path / "look.pt"))
    hounsfield = np.stack([np.full((SIZE, SIZE), value) for value in (-1000, -300, 400)])
    found = ScriptFeatures(tmp_path / "look.pt", WINDOW, size=32, value_range=(0, 255))(hounsfield)
    assert found == pytest.approx(np.array([[0, 0, 32], [127.5, 127.5, 32], [255, 255, 32]]), abs=1e-3)


def test_extractors_that_are_no_torchscript_are_refused(tmp_path):
    (tmp_path / "plain.pt").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"torch\.jit\.save"):
        ScriptFeatures(tmp_path / "plain.pt", WINDOW)
    with pytest.raises(InputError, match="does not exist"):
        ScriptFeatures(tmp_path / "none.pt", WINDOW)
    torch.jit.script(torch.nn.Flatten(0)).save(str(tmp_path / "flat.pt"))
    with pytest.raises(InputError, match="one vector"):
        ScriptFeatures(tmp_path / "flat.pt", WINDOW, size=8)(np.zeros((2, SIZE, SIZE)))


def test_a_feature_network_of_another_voxel_size_or_without_card_is_refused(files, tmp_path):
    with pytest.raises(InputError, match=r"0\.6 x 0\.6 mm.*0\.8 x 0\.8 mm"):
        NetworkFeatures(files / "features.pt", (0.8, 0.8))
    (tmp_path / "features.pt").write_bytes((files / "features.pt").read_bytes())
    with pytest.raises(InputError, match="no card"):
        NetworkFeatures(tmp_path / "features.pt", SPACING)


# --- classifiers ---


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    score = np.round(rng.normal(size=60) + truth, 1)  # with ties
    weights = rng.integers(0, 3, (4, 60))
    assert area_under_curve(score, truth) == pytest.approx([roc_auc_score(truth, score)])
    expected = [roc_auc_score(truth.repeat(row), score.repeat(row)) for row in weights]
    assert area_under_curve(score, truth, weights) == pytest.approx(expected)
    assert np.isnan(area_under_curve(score, np.ones(60))).all()


def test_the_bootstrap_draws_whole_patients():
    patient = np.array(["b", "a", "b", "c", "a", "b"])
    drawn = patient_bootstrap(patient, 50, np.random.default_rng(0))
    for name in "abc":
        assert np.ptp(drawn[:, patient == name], axis=1).max() == 0
    assert (drawn[:, [0, 1, 3]].sum(1) == 3).all()


def test_the_difference_to_real_is_paired():
    rng = np.random.default_rng(0)
    truth, patient = np.arange(80) % 2, np.arange(80) // 2
    logits = (rng.normal(size=(1, 80)) + truth).repeat(2, axis=0)
    auc, difference = auc_intervals({"real": logits, "same": logits}, truth, patient, seed=0)
    assert auc["real"].low < auc["real"].value < auc["real"].high
    assert difference["same"].value == difference["same"].low == difference["same"].high == 0


def test_a_classifier_learns_from_good_nodules_and_not_from_wrong_labels():
    lesson, test = nodules(100, seed=1, size=24), nodules(60, seed=2, size=24)
    rated, judged = lesson.select(lesson.label < 2), test.select(test.label < 2)
    real = Labelled(rated.hounsfield, rated.label == 1)
    found = usefulness(
        real,
        {"good": real, "wrong": Labelled(rated.hounsfield, rated.label == 0)},
        Labelled(judged.hounsfield, judged.label == 1),
        judged.patient,
        preprocessing=window_preprocessing(WINDOW),
        budget=Budget(steps=20, batch_size=16, learning_rate=1e-2),
        trainings=1,
        classifier=partial(NoduleClassifier, width=2),
    )
    assert found.auc["real"].value > 0.95 and found.auc["wrong"].value < 0.2
    assert found.difference["good"].value == 0
    assert found.difference["wrong"].high < 0
    assert found.trained_on == {"real": 80, "good": 80, "real + good": 160, "wrong": 80, "real + wrong": 160}


def test_a_training_can_be_repeated_and_uses_unrated_nodules_for_measures_only():
    patches = nodules(40, size=24)
    images = images_of(patches.hounsfield)
    truth = np.where(patches.label < 2, patches.label, np.nan)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        network = NoduleClassifier(width=2, num_features=3, num_measures=1)
        train_classifier(network, images, truth, np.ones((40, 1)), budget=_SHORT)
        results.append(malignancy_logits(network, images))
    assert results[0].tolist() == results[1].tolist() and np.isfinite(results[0]).all()


def test_features_are_standardised_over_the_training_patches():
    patches = nodules(60, size=24)  # in the order of the classes, as files often are
    patches = patches.select(np.argsort(patches.malignancy, kind="stable"))
    images = images_of(patches.hounsfield)
    torch.manual_seed(0)
    network = NoduleClassifier(width=2, num_features=3)
    train_classifier(network, images, np.where(patches.label < 2, patches.label, np.nan), budget=_SHORT)
    found = features_of(network, images)
    assert found.mean(0) == pytest.approx(0, abs=0.05) and found.std(0) == pytest.approx(1, abs=0.1)


def test_a_classifier_needs_both_classes():
    with pytest.raises(InputError, match="benign and malignant"):
        train_classifier(NoduleClassifier(width=2), torch.zeros(4, 1, 16, 16), np.zeros(4), budget=_SHORT)
    with pytest.raises(SettingError, match="steps"):
        Budget(steps=0)


_SHORT = Budget(steps=3, batch_size=16)


# --- generated nodules ---


def test_one_generator_gives_both_classes_and_one_for_each_class_too(files, tmp_path):
    samplers, paths = samplers_of_weights(files / "ours.pt")
    both = generate_nodules(samplers, 3, seed=1)
    assert both.label.tolist() == [0, 0, 0, 1, 1, 1] and paths == {"weights": files / "ours.pt"}
    one, other = (save_generator(tmp_path / f"{n}.pt", num_classes=0) for n in (1, 2))
    samplers, paths = samplers_of_weights({"benign": one, "malignant": other})
    of_each = generate_nodules(samplers, 3, seed=1)
    assert of_each.label.tolist() == [0, 0, 0, 1, 1, 1] and paths == {"benign": one, "malignant": other}
    samplers, _ = samplers_of_weights(one)
    without = generate_nodules(samplers, 3, seed=1)
    assert without.label.tolist() == [-1] * 6 and not without.has_classes


def test_equal_seeds_give_equal_nodules(files):
    samplers, _ = samplers_of_weights(files / "ours.pt")
    first, again, other = (generate_nodules(samplers, 2, seed=seed).hounsfield for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_an_inference_run_is_read_as_it_was_made(files, tmp_path):
    sampler = load_nodule_sampler(nodule_generator(**NETWORK), files / "ours.pt")
    made = generate_nodules(samplers_by_class(sampler), 2)
    (tmp_path / "nodules").mkdir()
    rows = [["file", "latent_seed", "class", "truncation"]]
    for number, (patch, label) in enumerate(zip(made.hounsfield, made.label, strict=True)):
        save_patch(tmp_path / "nodules" / f"{number}.nii.gz", patch, made.spacing)
        rows.append([f"nodules/{number}.nii.gz", number, CLASSES[label], ""])
    with open(tmp_path / "samples.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = read_generated(tmp_path)
    assert (found.hounsfield == made.hounsfield).all() and found.label.tolist() == made.label.tolist()
    assert found.spacing == pytest.approx(SPACING)


def test_folders_and_weights_that_cannot_be_judged_are_refused(files, tmp_path):
    with pytest.raises(InputError, match=r"samples\.csv"):
        read_generated(tmp_path)
    (tmp_path / "samples.csv").write_text("name\nx\n")
    with pytest.raises(InputError, match="file and class"):
        read_generated(tmp_path)
    with pytest.raises(SettingError, match="benign and malignant"):
        samplers_of_weights({"malignant": files / "ours.pt"})
    with pytest.raises(InputError, match="does not exist"):
        samplers_of_weights(tmp_path / "none.pt")
    made = GeneratedNodules(np.zeros((2, 40, 40), dtype=np.int16), np.zeros(2), SPACING)
    with pytest.raises(InputError, match=r"48 x 48 voxels .* those of ours 40 x 40"):
        check_same_patches(nodules(2), made, "ours")


# --- the run ---


def test_an_evaluation_leaves_tables_pictures_and_a_page(files, tmp_path, capsys):
    save_generator(tmp_path / "plain.pt", num_classes=0)
    figures = evaluation(files, tmp_path / "out", compare={"plain": str(tmp_path / "plain.pt")}).run()
    assert {name for _, _, name in figures} == {FLOOR, TRAINING, "ours", "plain"}
    assert {group for group, _, name in figures if name == "plain"} == {"both"}
    assert figures["both", "network", TRAINING]["memorisation"].value == 0

    out = tmp_path / "out"
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    content = json.loads((out / "metrics.json").read_text())
    for row in rows:
        if row["features"] != "images":
            entry = content["figures"][row["samples"]][row["features"]][row["classes"]][row["figure"]]
            assert entry["value"] == float(row["value"]) and entry["n"] == int(row["n"])
    assert set(content["classifiers"]) == {"real", "ours", "real + ours"}
    assert set(content["definitions"]) == {row["figure"] for row in rows} - {"auc", "auc_less_real"}

    page = (out / "report.html").read_text()
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert sorted(shown) == sorted(path.relative_to(out).as_posix() for path in (out / "pictures").iterdir())
    assert len(shown) == 6 and str(tmp_path) not in page
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["weights"]) == {"ours, weights: ours.pt", "plain, weights: plain.pt", "features.pt"}
    assert "patient_" not in page and "patient_" not in (out / "manifest.json").read_text()
    printed = capsys.readouterr().out
    assert "Network features, benign and malignant, n = " in printed and "plain has no classes" in printed


def test_an_earlier_evaluation_is_replaced_and_nothing_else(files, tmp_path):
    theses, out = tmp_path / "theses", tmp_path / "out"
    theses.mkdir()
    (theses / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match="other files"):
        evaluation(files, theses).run()
    assert [path.name for path in theses.iterdir()] == ["mine.txt"]
    evaluation(files, out, trainings=0).run()
    (out / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds mine\.txt, which was not made by this program"):
        evaluation(files, out, trainings=0).run()
    assert (out / "mine.txt").read_text() == "years of work"
    (out / "mine.txt").unlink()
    before = (out / "report.html").stat().st_ino
    evaluation(files, out, trainings=0).run()
    assert (out / "report.html").stat().st_ino != before
    assert {path.name for path in tmp_path.iterdir()} == {"theses", "out"}


def without(patches, label):
    return patches.select(patches.label != label)


@pytest.mark.parametrize(
    ("patches", "options", "message"),
    [
        (nodules(130), {"split_fractions": (1.0, 0.0, 0.0)}, "no test patients"),
        (without(nodules(130), 1), {}, "class malignant has no sample"),
        (nodules(30), {}, "the figures need 10"),
        (nodules(130), {"num_generated": 4}, "only 4 .* the figures need 10"),
        (nodules(130), {"num_generated": 0}, "num_generated is 0"),
        (nodules(130), {"compare": {"real": "x.pt"}}, "already has"),
        (nodules(130), {"compare": {"x": "none.pt"}}, "none.pt does not exist"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(files, tmp_path, patches, options, message):
    with pytest.raises((InputError, SettingError), match=message):
        evaluation(files, tmp_path / "out", patches, **options).run()
    assert not list((tmp_path / "out").iterdir())


def archive_of(patches, path):
    np.savez(
        path,
        hu=patches.hounsfield,
        malignancy=patches.malignancy,
        patient=patches.patient,
        pixel_spacing_mm=np.full(len(patches), 0.6),
    )
    return path


FEATURES = {"feature_width": 2, "num_features": 4, "size": 44, "batch_size": 8, "views_per_epoch": 16}


def train_features(folder, **settings):
    from medical_gans.cli.command import main

    given = {"dataset_dir": archive_of(nodules(60), folder.with_suffix(".npz")), "output_dir": folder}
    words = [word for name, value in {**given, **FEATURES, **settings}.items() for word in (f"--{name}", str(value))]
    return main(["lung_nodule", "features", *words])


def test_a_feature_network_is_trained_and_can_be_used_at_once(tmp_path, capsys):
    assert train_features(tmp_path / "out", max_epochs=2) == 0, capsys.readouterr().err
    found = NetworkFeatures(tmp_path / "out" / "model.pt", SPACING)(nodules(5).hounsfield)
    assert found.shape == (5, 4)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"model.json", "report.html", "manifest.json"}
    assert "Malignancy of" in capsys.readouterr().out


def test_a_feature_training_that_was_stopped_continues_exactly(tmp_path):
    plan = {"train#classifier#schedule#total_steps": 3, "resume": True}
    for run, epochs in (("whole", [3]), ("parts", [1, 3])):
        for until in epochs:
            assert train_features(tmp_path / run, max_epochs=until, **plan) == 0
    whole, parts = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_measures_must_be_as_many_as_the_network_learns(tmp_path, capsys):
    assert train_features(tmp_path / "out", num_measures=3) == 2
    assert "num_measures is 3, but nodules have 41. Set it to 41" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_evaluates_an_npz(files, tmp_path, monkeypatch, capsys):
    from medical_gans.cli.command import main

    archive_of(nodules(130), tmp_path / "nodules.npz")
    monkeypatch.chdir(tmp_path)
    settings = {
        "dataset_dir": "nodules.npz",
        "output_dir": "out",
        "weights": files / "ours.pt",
        "features": files / "features.pt",
        "num_generated": 12,
        "repeats": 2,
        "trainings": 0,
        "split_fractions": "[0.4,0.0,0.6]",
        "compare": f"{{'again': '{files / 'ours.pt'}'}}",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["lung_nodule", "evaluate", *words]) == 0, capsys.readouterr().err
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(content["figures"]) == {"real", "training patients", "ours", "again"}

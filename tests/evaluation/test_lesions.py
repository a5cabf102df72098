"""The evaluation of lesions from files to tables: predictions of known figures, weights, and input that is refused."""

import csv
import dataclasses
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medical_gans.errors import InputError, OutputError, SettingError
from medical_gans.evaluation.lesion_methods import (
    Member,
    chosen,
    image_hashes,
    load_member,
    parse_methods,
    patient_roles,
    role_notes,
)
from medical_gans.evaluation.lesions import LesionEvaluation
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.io.volumes import save_volume
from medical_gans.metrics.segmentation import segmentation_metrics
from medical_gans.transforms.sequence_volume import read_sequence_case
from medical_gans.weights import WeightsCard, build_network, save_weights

SHAPE = (20, 22, 16)
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])
CHANNELS = ("T1", "SWI")


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    places = np.indices(SHAPE) - np.array(centre)[:, None, None, None]
    return (places**2).sum(0) <= radius**2


LESIONS = {"ann": ball((9, 11, 8), 3), "bob": ball((11, 9, 8), 4) | ball((5, 14, 8), 1.5), "cid": ball((10, 11, 7), 2)}


@pytest.fixture
def patients(tmp_path) -> Path:
    """Three heads whose lesions are bright in SWI, with labels."""
    rng = np.random.default_rng(0)
    head = ball((10, 11, 8), 9)
    for name, lesion in LESIONS.items():
        folder = tmp_path / "target" / name
        folder.mkdir(parents=True)
        for channel in CHANNELS:
            image = head * (100 + 5 * rng.standard_normal(SHAPE)) + (200 * lesion if channel == "SWI" else 0)
            save_volume(folder / f"{channel}.nii.gz", image.astype(np.float32), AFFINE)
        save_volume(folder / "lesion.nii.gz", lesion.astype(np.uint8), AFFINE)
    return tmp_path / "target"


def predicted(folder: Path, predictions: dict[str, np.ndarray], affine: np.ndarray = AFFINE) -> Path:
    """A folder as inference leaves it."""
    for name, mask in predictions.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_volume(folder / name / "lesions.nii.gz", mask.astype(np.uint8), affine)
        save_volume(folder / name / "probability.nii.gz", mask.astype(np.float32) / 2, affine)
    return folder


def shifted(steps: int) -> dict[str, np.ndarray]:
    return {name: np.roll(lesion, steps, axis=0) for name, lesion in LESIONS.items()}


class Brighter(nn.Module):
    """Calls lesion what lies above a threshold in the last sequence."""

    def __init__(self, threshold: float = 3.0, sequences: int = 2) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(sequences, 2, 1)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[1, -1] = 1.0
            self.convolution.bias.copy_(torch.tensor([threshold, 0.0]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(image)


def load_segmenter(weights: Path, channels: tuple[str, ...]) -> SimpleNamespace:
    network = Brighter(sequences=len(channels))
    network.load_state_dict(torch.load(weights, weights_only=True))
    return SimpleNamespace(network=network.eval(), spacing=None, patch_size=None)


def segmentation(network: nn.Module, spacing: object, patch_size: object):
    def segment(volume):
        with torch.no_grad():
            probabilities = network(torch.from_numpy(volume.image)[None])[0].softmax(0).numpy()
        return SimpleNamespace(label=volume.to_source_grid(probabilities).argmax(0).astype(np.uint8))

    return segment


def evaluation(patients: Path, compare: dict, **settings) -> LesionEvaluation:
    given = {
        "find_cases": functools.partial(find_sequence_cases, patients, label="lesion"),
        "read_case": functools.partial(read_sequence_case, num_classes=2),
        "load_segmenter": load_segmenter,
        "segmentation": segmentation,
        "output_dir": patients.parent / "out",
        "channels": CHANNELS,
        "dataset_dir": patients,
    }
    return LesionEvaluation(compare, **(given | settings))


def test_stored_predictions_get_the_figures_of_their_masks(patients, capsys):
    folder = predicted(patients.parent / "shifted", shifted(2))
    found = evaluation(patients, {"adapted": str(folder)}).run()["lesion"]
    assert found.cases == sorted(LESIONS)
    for place, case in enumerate(found.cases):
        expected = segmentation_metrics(shifted(2)[case], LESIONS[case], (2, 2, 3))
        for name, value in expected.items():
            assert found.figure("adapted", name)[0, place] == pytest.approx(value)
    printed = capsys.readouterr().out
    assert f"{found.figure('adapted', 'dice').mean():.3f}" in printed
    assert "no gap: source_only is not among the methods" in printed


def test_the_share_of_the_gap_is_that_of_the_figures_in_the_files(patients):
    source, adapted, oracle = (predicted(patients.parent / f"by{n}", shifted(n)) for n in (3, 1, 0))
    compare = {"source_only": str(source), "adapted": str(adapted), "oracle": str(oracle)}
    evaluation(patients, compare).run()
    out = patients.parent / "out"
    with open(out / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    mean = {name: np.mean([float(r["dice"]) for r in rows if r["method"] == name]) for name in compare}
    content = json.loads((out / "metrics.json").read_text())
    closed = content["comparison"]["lesion"]["all patients"]["adapted"]["gap_closed"]
    assert len(rows) == 9 and mean["oracle"] == 1.0
    assert closed["mean"] == pytest.approx(
        (mean["adapted"] - mean["source_only"]) / (1 - mean["source_only"]), abs=1e-4
    )
    assert closed["interval_95"][0] <= closed["mean"] <= closed["interval_95"][1]
    page = (out / "report.html").read_text()
    assert "gap closed" in page and "3 of 3" in page and "Source only loses" in page
    for picture in ("dice.png", "case_0.png", "case_2.png"):
        assert (out / "pictures" / picture).stat().st_size > 5000 and picture in page


def test_weights_find_what_they_are_made_to_find_and_nothing_without_their_sequence(patients):
    weights = patients.parent / "swi.pt"
    save_weights(weights, Brighter())
    compare = {"adapted": str(weights), "dropped_channel": {"weights": str(weights), "missing": ["SWI"]}}
    found = evaluation(patients, compare).run()["lesion"]
    assert found.figure("adapted", "dice").min() > 0.95
    assert found.figure("dropped_channel", "dice").max() == 0.0


def test_a_network_of_fewer_sequences_is_compared_by_its_own(patients):
    both, one = patients.parent / "both.pt", patients.parent / "one.pt"
    save_weights(both, Brighter())
    save_weights(one, Brighter(sequences=1))
    compare = {"adapted": str(both), "only": {"weights": str(one), "channels": ["SWI"]}}
    found = evaluation(patients, compare).run()["lesion"]
    np.testing.assert_allclose(found.figure("only", "dice"), found.figure("adapted", "dice"))


def test_seeds_of_a_method_are_rows_of_one_method(patients):
    files = [patients.parent / f"seed{number}.pt" for number in range(2)]
    for number, file in enumerate(files):
        save_weights(file, Brighter(threshold=(3.0, 100.0)[number]))
    found = evaluation(patients, {"adapted": [str(file) for file in files]}).run()["lesion"]
    dice = found.figure("adapted", "dice")
    assert dice.shape == (2, 3) and dice[0].min() > 0.95 and dice[1].max() == 0.0
    with open(patients.parent / "out" / "metrics.csv", encoding="utf-8") as file:
        rows = [(row["seed"], row["file"]) for row in csv.DictReader(file)]
    assert rows[:2] == [(str(number), f"{file.parent.name}/{file.name}") for number, file in enumerate(files)]


def test_classes_are_judged_each_by_itself(patients):
    two = {name: lesion + ball((3, 11, 8), 1.5) * 2 for name, lesion in shifted(0).items()}
    for name, label in two.items():
        save_volume(patients / name / "lesion.nii.gz", label.astype(np.uint8), AFFINE)
    folder = predicted(patients.parent / "first_only", {name: label * (label == 1) for name, label in two.items()})
    read = functools.partial(read_sequence_case, num_classes=3)
    found = evaluation(patients, {"adapted": str(folder)}, num_classes=3, read_case=read).run()
    assert list(found) == ["class 1", "class 2"]
    assert found["class 1"].figure("adapted", "dice").min() == 1.0
    assert found["class 2"].figure("adapted", "dice").max() == 0.0


def test_patients_can_be_left_out_and_it_is_said(patients, capsys):
    folder = predicted(patients.parent / "some", {name: LESIONS[name] for name in ("bob", "cid")})
    found = evaluation(patients, {"adapted": str(folder)}, exclude=["ann"]).run()["lesion"]
    assert found.cases == ["bob", "cid"]
    printed = capsys.readouterr().out
    assert "Left out: ann." in printed and "only for testing" in printed
    with pytest.raises(SettingError, match=r"exclude names dan, .* ann, bob, cid"):
        evaluation(patients, {"adapted": str(folder)}, exclude=["dan"]).run()


def test_patients_seen_in_adaptation_are_named_and_the_others_have_a_table_of_their_own(patients, capsys, monkeypatch):
    weights = patients.parent / "swi.pt"
    save_weights(weights, Brighter())
    card = SimpleNamespace(adaptation_patients=["ann"], network_def={}, classes=())
    monkeypatch.setattr(WeightsCard, "of", lambda file: card)
    evaluation(patients, {"adapted": str(weights)}).run()
    printed = capsys.readouterr().out
    assert "unlabelled by adapted" in printed and "1 of 3 patients were used" in printed
    assert "Dice, 3 patients" in printed and "Dice, 2 patients only for testing" in printed


def test_patients_are_known_again_by_their_images_and_not_by_their_names(tmp_path):
    for folder, level in (("adapted/ann", 1), ("tested/anonymous", 1), ("tested/ann", 2)):
        (tmp_path / folder).mkdir(parents=True)
        save_volume(tmp_path / folder / "SWI.nii.gz", np.full(SHAPE, level, np.float32), AFFINE)
    adapted, tested = (image_hashes(find_sequence_cases(tmp_path / name, ["SWI"])) for name in ("adapted", "tested"))
    member = Member(tmp_path, card=WeightsCard([None] * 3, adaptation_patients=adapted))
    assert patient_roles(tested, {"adapted": [member]}) == {
        "ann": "only for testing",
        "anonymous": "unlabelled by adapted",
    }


def test_roles_nobody_told_are_not_known():
    roles = patient_roles({"ann": "0a"}, {})
    assert roles == {"ann": "not known"} and "Neither" in role_notes(roles)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda target, made: (target / "ann" / "lesion.nii.gz").unlink(), "ann has no label map 'lesion'"),
        (
            lambda target, made: save_volume(target / "bob" / "lesion.nii.gz", np.full(SHAPE, 4), AFFINE),
            r"labels \[4\]",
        ),
        (
            lambda target, made: save_volume(
                target / "bob" / "lesion.nii.gz", LESIONS["bob"], AFFINE + 60 * np.eye(4, k=3)
            ),
            "different grids",
        ),
        (lambda target, made: (made / "cid" / "lesions.nii.gz").unlink(), "needs one label map for the case cid"),
        (
            lambda target, made: save_volume(made / "cid" / "lesions.nii.gz", LESIONS["cid"], np.eye(4)),
            "different grids",
        ),
        (
            lambda target, made: save_volume(made / "cid" / "lesions.nii.gz", LESIONS["cid"] * 3, AFFINE),
            "holds class 3, and num_classes is 2",
        ),
    ],
    ids=["no label", "label out of range", "label elsewhere", "no prediction", "prediction elsewhere", "other classes"],
)
def test_bad_files_are_refused_before_any_output(patients, change, message):
    folder = predicted(patients.parent / "made", LESIONS)
    change(patients, folder)
    (folder / "cid" / "probability.nii.gz").unlink()
    with pytest.raises(InputError, match=message):
        evaluation(patients, {"adapted": str(folder)}).run()
    assert not any((patients.parent / "out").iterdir())


def test_an_evaluation_replaces_its_own_results_and_no_others(patients):
    folder = predicted(patients.parent / "made", LESIONS)
    evaluation(patients, {"adapted": str(folder)}).run()
    evaluation(patients, {"adapted": str(folder)}, exclude=["ann"]).run()
    assert not (patients.parent / "out" / "pictures" / "case_2.png").exists()
    with pytest.raises(OutputError, match="holds other files"):
        evaluation(patients, {"adapted": str(folder)}, output_dir=patients).run()


def test_the_same_file_for_two_methods_is_refused_even_under_another_name(tmp_path):
    save_weights(tmp_path / "a.pt", Brighter())
    (tmp_path / "copy.pt").write_bytes((tmp_path / "a.pt").read_bytes())
    first, second = str(tmp_path / "a.pt"), str(tmp_path / "copy.pt")
    for compare in ({"adapted": first, "oracle": second}, {"adapted": [first, second]}):
        with pytest.raises(SettingError, match="same file for adapted"):
            parse_methods(compare, CHANNELS)
    dropped = {"weights": first, "missing": ["SWI"]}
    names = [method.name for method in parse_methods({"source_only": first, "dropped_channel": dropped}, CHANNELS)]
    assert names == ["source_only", "dropped_channel"]


@pytest.mark.parametrize("compare", [None, {}, ""])
def test_nothing_to_compare_is_refused_with_an_example(compare):
    with pytest.raises(SettingError, match=r"weights names no method.*source_only"):
        parse_methods(compare, CHANNELS)


def test_one_file_is_a_method_and_the_former_name_still_works(tmp_path, caplog):
    save_weights(tmp_path / "a.pt", Brighter())
    (method,) = parse_methods(str(tmp_path / "a.pt"), CHANNELS)
    assert (method.name, method.files) == ("adapted", (tmp_path / "a.pt",))
    assert chosen("a.pt", None) == "a.pt" and not caplog.text
    assert chosen("a.pt", {"oracle": "b.pt"}) == {"oracle": "b.pt"} and "compare is called weights" in caplog.text


def test_what_compare_does_not_know_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.pt, given for adapted, does not exist"):
        parse_methods({"adapted": str(tmp_path / "gone.pt")}, CHANNELS)
    with pytest.raises(SettingError, match="adapted has weights, mising"):
        parse_methods({"adapted": {"weights": "a.pt", "mising": ["SWI"]}}, CHANNELS)


def test_weights_of_other_classes_are_refused(patients):
    weights = patients.parent / "swi.pt"
    save_weights(weights, Brighter())
    WeightsCard([None] * 3, network_def={"_target_": "torch.nn.Conv3d", "out_channels": 4}).save(weights)
    with pytest.raises(SettingError, match="knows 4 classes, and num_classes is 2"):
        evaluation(patients, {"adapted": str(weights)})


@pytest.fixture
def trained(tmp_path):
    """Weights of a tiny network with their card."""
    network_def = {
        "_target_": "monai.networks.nets.UNet",
        **{"spatial_dims": 3, "in_channels": 2, "out_channels": 2},
        **{"channels": [4, 8], "strides": [2], "norm": "instance"},
    }
    files = []
    for seed in range(2):
        torch.manual_seed(seed)
        files.append(tmp_path / f"network{seed}.pt")
        save_weights(files[-1], build_network(network_def))
        WeightsCard([2.0, 2.0, 3.0], network_def=network_def, channels=CHANNELS).save(files[-1])
    return files


def test_weights_are_judged_at_the_window_they_were_trained_at(trained, tmp_path):
    from monai.inferers import SlidingWindowInferer

    from medical_gans.inference.lesions import LesionSegmentation, load_segmenter

    card = WeightsCard.of(trained[0])
    dataclasses.replace(card, patch_size=[24, 16, 16]).save(trained[0])
    method = parse_methods({"adapted": [str(file) for file in trained]}, CHANNELS)[0]
    load = functools.partial(load_segmenter, torch.nn.Identity())
    segmentation = functools.partial(LesionSegmentation, inferer=SlidingWindowInferer(None))
    windows = [load_member(method, file, load, segmentation).segment.inferer.roi_size for file in trained]
    assert windows == [(24, 16, 16), (48, 48, 48)]


def test_the_command_compares_weights_and_draws_both_feature_spaces(patients, trained, capsys):
    from medical_gans.cli.command import main

    source = patients.parent / "source"
    for name in ("dan", "eve"):
        (source / name).mkdir(parents=True)
        for channel in ("T1", "GRE"):
            image = ball((10, 11, 8), 9) * (100 + 20 * np.random.default_rng(len(name)).random(SHAPE))
            save_volume(source / name / f"{channel}.nii.gz", image.astype(np.float32), AFFINE)
    out = patients.parent / "out"
    words = {
        "dataset_dir": patients,
        "output_dir": out,
        "weights": f"{{'source_only': '{trained[0]}', 'adapted': '{trained[1]}'}}",
        "channels": "[T1, SWI]",
        "source_dir": source,
        "source_channels": "[T1, GRE]",
        "feature_layers": "['model.0.conv', 'model.2']",
        "feature_patches": 12,
        "feature_patch_size": "[8, 8, 8]",
        "roi_size": "[16, 16, 16]",
        "device": "cpu",
    }
    pairs = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    assert main(["brain_lesion", "evaluate", *pairs]) == 0, capsys.readouterr().err
    content = json.loads((out / "metrics.json").read_text())
    assert set(content["domain_classifier"]) == {"source_only", "adapted"}
    assert content["domain_classifier"]["adapted"]["patients"] == [2, 3]
    assert (out / "pictures" / "feature_space.png").is_file()
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["workflow"], manifest["stage"]) == ("brain_lesion", "evaluate")
    assert len(manifest["weights"]) == 2 and "ann/lesion.nii.gz" in manifest["inputs"]


def test_the_command_names_what_it_misses(capsys):
    from medical_gans.cli.command import main

    assert main(["brain_lesion", "evaluate"]) == 2
    assert "--dataset_dir" in capsys.readouterr().err

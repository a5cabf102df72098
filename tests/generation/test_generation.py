"""Runs that make nodules: files whole and right, the same again from the table, refused in plain words."""

import csv
import json

import nibabel
import numpy as np
import pytest
import torch
from generation.chest_phantom import chest_phantom
from PIL import Image

from medical_gans.cli.command import main
from medical_gans.errors import SettingError
from medical_gans.inference.nodules import NoduleInference, NoduleWalk, requested_samples
from medical_gans.inference.nodules.interpolation import spherical_interpolation
from medical_gans.inference.nodules.sampling import NoduleSampler, load_nodule_sampler
from medical_gans.io import read_volume
from medical_gans.io.nodules import read_patch, save_patch
from medical_gans.networks import nodule_generator
from medical_gans.studies.placement.placing import NodulePlacement
from medical_gans.weights import WeightsCard, save_weights

CLASSES = ("benign", "malignant", "indeterminate")
NETWORK = {"size": 16, "latent_size": 8, "num_classes": 3, "width": 4, "upsampling": "nearest", "noise": False}


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "generator.pt")


def write_weights(path, classes=CLASSES, **changes):
    torch.manual_seed(0)
    network = nodule_generator(**NETWORK | changes)
    save_weights(path, network)
    spacing = [0.6] * network.spatial_dims
    network_def = {"_target_": "medical_gans.networks.nodule_generator", **NETWORK, **changes}
    WeightsCard(spacing, network_def=network_def, classes=classes, window=(-1000.0, 400.0)).save(path)
    return path


def sampler_of(path, **changes):
    return load_nodule_sampler(nodule_generator(**NETWORK | changes), path)


def rows_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_command_writes_nodules_that_it_can_make_again(tmp_path, weights):
    out = tmp_path / "out"
    run = ["lung_nodule", "inference", "--weights", str(weights), "--truncation", "1.5"]
    assert main([*run, "--num_samples", "3", "--output_dir", str(out)]) in (0, None)
    names = {"nodules", "samples.csv", "samples.png", "report.html", "manifest.json", "made_from.json"}
    assert {path.name for path in out.iterdir()} == names
    rows = rows_of(out / "samples.csv")
    assert [row["class"] for row in rows] == ["benign", "malignant", "benign"]
    image = nibabel.load(out / rows[1]["file"])
    assert image.get_data_dtype() == np.int16 and image.shape == (16, 16, 1)
    assert np.allclose(image.affine, np.diag([-0.6, -0.6, 0.6, 1]))
    again = tmp_path / "again"
    seed = rows[1]["latent_seed"]
    assert main([*run, "--latent_seeds", f"[{seed}]", "--malignancy", "malignant", "--output_dir", str(again)]) in (
        0,
        None,
    )
    assert np.array_equal(read_patch(again / rows_of(again / "samples.csv")[0]["file"])[0], image.get_fdata()[..., 0].T)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stage"] == "inference" and manifest["settings"]["truncation"] == 1.5
    assert list(manifest["weights"]) == ["generator.pt"] and str(tmp_path) not in (out / "report.html").read_text()


def test_a_longer_run_begins_with_the_samples_of_a_shorter_one(weights):
    sampler = sampler_of(weights)
    assert requested_samples(sampler, "both", 7, 3)[:4] == requested_samples(sampler, "both", 4, 3)
    seeds = {one.latent_seed for seed in range(4) for one in requested_samples(sampler, "both", 50, seed)}
    assert len(seeds) == 200 and max(seeds) < 10**15


def test_given_seeds_are_made_in_each_class(weights):
    samples = requested_samples(sampler_of(weights), "both", latent_seeds=[4, 9])
    assert [(one.latent_seed, one.malignancy) for one in samples] == [
        (4, "benign"),
        (4, "malignant"),
        (9, "benign"),
        (9, "malignant"),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_samples": 0}, "num_samples is 0; give 1 or more"),
        ({"malignancy": "indeterminate"}, "choose benign, malignant, both"),
        ({"malignancy": None}, "choose benign, malignant, both"),
        ({"seed": -1}, "seed is -1"),
        ({"latent_seeds": []}, "latent_seeds is empty"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(weights, settings, words):
    with pytest.raises(SettingError, match=words):
        requested_samples(sampler_of(weights), **settings)


def test_a_generator_without_classes_knows_no_malignancy(tmp_path):
    path = write_weights(tmp_path / "u.pt", (), num_classes=0)
    sampler = sampler_of(path, num_classes=0)
    assert [one.malignancy for one in requested_samples(sampler, "both", 2)] == ["unknown", "unknown"]
    with pytest.raises(SettingError, match="'benign' is asked for, but the generator was trained without classes"):
        requested_samples(sampler, "benign", 2)
    NoduleInference(sampler, requested_samples(sampler, None, 2), tmp_path / "out", weights=path).run()
    assert len(list((tmp_path / "out" / "nodules").glob("*.nii.gz"))) == 2


def test_nothing_is_written_when_a_setting_is_wrong(tmp_path, weights):
    sampler = sampler_of(weights)
    with pytest.raises(SettingError, match="truncation is 0"):
        NoduleInference(
            sampler, requested_samples(sampler, "both", 2), tmp_path / "out", weights=weights, truncation=0
        ).run()
    assert not (tmp_path / "out").exists()


def test_nodules_appear_whole_or_not_at_all(tmp_path, weights, monkeypatch):
    sampler = sampler_of(weights)
    inference = NoduleInference(sampler, requested_samples(sampler, "both", 4), tmp_path / "out", weights=weights)
    inference.run()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "nodules").iterdir()}
    calls = iter([sampler.decode(sampler.latent(1), 0)])
    monkeypatch.setattr(sampler, "decode", lambda *_, **__: next(calls))
    with pytest.raises((StopIteration, RuntimeError)):
        inference.run()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "nodules").iterdir()} == before
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_volumes_are_written_as_volumes(tmp_path):
    path = write_weights(tmp_path / "v.pt", spatial_dims=3)
    sampler = sampler_of(path, spatial_dims=3)
    NoduleInference(sampler, requested_samples(sampler, "benign", 1), tmp_path / "out", weights=path).run()
    image = nibabel.load(next((tmp_path / "out" / "nodules").iterdir()))
    assert image.shape == (16, 16, 16) and nibabel.aff2axcodes(image.affine) == ("L", "P", "S")


def test_the_great_circle_keeps_length_and_angle():
    first, second = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    third = spherical_interpolation(first, second, 1 / 3)
    assert third.tolist()[0] == pytest.approx([3 * np.cos(np.pi / 6), 3 * np.sin(np.pi / 6)], abs=1e-5)
    assert torch.equal(spherical_interpolation(first, first, 0.5), first)


def test_a_walk_starts_at_each_stop_and_closes(tmp_path, weights):
    sampler = sampler_of(weights)
    stops = requested_samples(sampler, "both", 3)
    NoduleWalk(sampler, stops, tmp_path / "out", weights=weights, steps=5).run()
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "made_from.json",
        "walk.png",
        "walk.gif",
        "walk.csv",
        "report.html",
        "manifest.json",
    }
    rows = rows_of(out / "walk.csv")
    assert len(rows) == 15 and [row["share"] for row in rows[:5]] == ["0.0", "0.2", "0.4", "0.6", "0.8"]
    assert rows[-1]["to_seed"] == rows[0]["from_seed"] == str(stops[0].latent_seed)
    with Image.open(out / "walk.gif") as film:
        assert film.n_frames == 15 and film.info["loop"] == 0
        first = np.asarray(film.convert("L"), dtype=float).reshape(16, 17, 16, 17).mean(axis=(1, 3))
    nodule = sampler.generate([stops[0].latent_seed], [stops[0].label])[0]
    assert np.corrcoef(first.ravel(), nodule.ravel())[0, 1] > 0.98


def test_a_walk_needs_stops_and_steps(tmp_path, weights):
    sampler = sampler_of(weights)
    with pytest.raises(SettingError, match="at least 2 stops"):
        NoduleWalk(sampler, requested_samples(sampler, "benign", 1), tmp_path, weights=weights)
    with pytest.raises(SettingError, match="steps is 1"):
        NoduleWalk(sampler, requested_samples(sampler, "benign", 2), tmp_path, weights=weights, steps=1)


@pytest.fixture
def chest(tmp_path):
    hounsfield, affine = chest_phantom((2.5, 2.5, 3.0))
    nibabel.save(nibabel.Nifti1Image(hounsfield, affine), tmp_path / "chest.nii.gz")
    return tmp_path / "chest.nii.gz"


@pytest.fixture
def nodule(tmp_path):
    rows, columns = (np.indices((40, 40)) - 19.5) * 0.6
    hounsfield = np.clip(-1000 + 1400 / (1 + np.exp(2 * (np.hypot(rows, columns) - 7))), -850, 60)
    return save_patch(tmp_path / "nodule.nii.gz", hounsfield.astype(np.int16), (0.6, 0.6))


def test_the_command_places_a_patch(tmp_path, chest, nodule):
    out = tmp_path / "out"
    run = ["lung_nodule", "place", "--dataset_dir", str(chest), "--patch", str(nodule), "--output_dir", str(out)]
    assert main([*run, "--position", "[-60,10,4]", "--convention", "LPS", "--weights", "none.pt"]) in (0, None)
    before, after = read_volume(chest), read_volume(out / "placed" / "ct.nii.gz")
    mask = np.asarray(nibabel.load(out / "placed" / "mask.nii.gz").dataobj)
    assert np.array_equal(before.affine, after.affine) and after.array.dtype == np.int16
    where = before.affine @ np.append(np.argwhere(mask).mean(axis=0), 1)
    assert where[:3] == pytest.approx([60, -10, 4], abs=0.5)
    changed = np.argwhere(before.array != after.array) @ before.affine[:3, :3].T + before.affine[:3, 3]
    assert np.linalg.norm(changed - [60, -10, 4], axis=1).max() < 7 + 2.4 + 3
    facts = json.loads((out / "placed" / "nodule.json").read_text())
    assert facts["position_ras_mm"] == [60, -10, 4] and facts["diameter_mm"] == pytest.approx(14, abs=1)
    assert np.array_equal(read_patch(out / "placed" / "nodule.nii.gz")[0], read_patch(nodule)[0])
    assert {path.name for path in out.iterdir()} == {
        *("placed", "placement.png", "report.html", "viewer.html", "manifest.json", "made_from.json")
    }
    assert json.loads((out / "manifest.json").read_text())["warnings"] == []


def placement(chest, tmp_path, position, **changes):
    return NodulePlacement(pytest.fail, chest, position, tmp_path / "out", weights="none.pt", **changes)


def test_a_series_or_volume_to_place_into_is_chosen_by_words(tmp_path, chest, nodule):
    image = nibabel.load(chest)
    values = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image(np.stack([values + 5, values], axis=-1), image.affine), tmp_path / "both.nii.gz")
    with pytest.raises(ValueError, match=r'--select "volume 1" \(to "volume 2"\)'):
        placement(tmp_path / "both.nii.gz", tmp_path, [60, -10, 4], patch=nodule).run()
    assert not (tmp_path / "out" / "placed").exists()
    placement(tmp_path / "both.nii.gz", tmp_path, [60, -10, 4], patch=nodule, select="volume 2").run()
    placed = read_volume(tmp_path / "out" / "placed" / "ct.nii.gz").array
    assert np.median(placed - values) == 0


def test_a_nodule_outside_the_lung_is_placed_with_a_warning(tmp_path, chest, nodule):
    placement(chest, tmp_path, [0, 30, 0], patch=nodule).run()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "does not lie in the lung" in manifest["warnings"][0]


@pytest.mark.parametrize(
    ("position", "words"),
    [([300, 0, 0], "outside the CT chest.nii.gz"), ([116, 0, 0], "beyond the border of the CT")],
)
def test_a_place_that_cannot_be_is_refused_before_anything_is_written(tmp_path, chest, nodule, position, words):
    with pytest.raises(ValueError, match=words):
        placement(chest, tmp_path, position, patch=nodule).run()
    assert not (tmp_path / "out").exists()


def test_settings_of_a_place_that_cannot_be_are_refused(tmp_path, chest):
    with pytest.raises(SettingError, match="choose RAS or LPS"):
        placement(chest, tmp_path, [0, 0, 0], convention="RSA")
    with pytest.raises(SettingError, match="three numbers in mm"):
        placement(chest, tmp_path, [0, 0])
    with pytest.raises(SettingError, match="choose benign or malignant"):
        placement(chest, tmp_path, [0, 0, 0], malignancy="both")


def test_an_mr_is_no_ct(tmp_path, nodule):
    array = np.random.default_rng(0).integers(0, 900, (20, 20, 20)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "mr.nii.gz")
    with pytest.raises(ValueError, match="not a CT of a chest in HU"):
        placement(tmp_path / "mr.nii.gz", tmp_path, [10, 10, 10], patch=nodule).run()


def test_a_generated_nodule_is_named_by_its_seed(tmp_path, chest, weights, monkeypatch):
    sampler = sampler_of(weights)
    rows, columns = (np.indices((16, 16)) - 7.5) * 0.6
    monkeypatch.setattr(sampler, "decode", lambda *_: np.where(np.hypot(rows, columns) < 3, 0, -850).astype(np.int16))
    NodulePlacement(lambda: sampler, chest, [60, 10, 4], tmp_path / "out", weights=weights, seed=5).run()
    facts = json.loads((tmp_path / "out" / "placed" / "nodule.json").read_text())
    assert facts["latent_seed"] == requested_samples(sampler, "malignant", 1, 5)[0].latent_seed
    assert facts["class"] == "malignant" and facts["truncation"] is None


def test_a_walk_is_of_the_size_that_the_weights_were_trained_with(tmp_path, weights):
    run = ["lung_nodule", "interpolate", "--weights", str(weights), "--num_stops", "2", "--steps", "2"]
    assert main([*run, "--output_dir", str(tmp_path / "out")]) in (0, None)
    assert len(rows_of(tmp_path / "out" / "walk.csv")) == 4


def test_a_placed_nodule_is_of_the_size_that_the_weights_were_trained_with(tmp_path, chest, weights, monkeypatch):
    def disc(sampler, *_):
        rows, columns = (np.indices((sampler.size, sampler.size)) - (sampler.size - 1) / 2) * 0.6
        return np.where(np.hypot(rows, columns) < 3, 0, -850).astype(np.int16)

    monkeypatch.setattr(NoduleSampler, "decode", disc)
    run = ["lung_nodule", "place", "--dataset_dir", str(chest), "--position", "[60,10,4]", "--weights", str(weights)]
    assert main([*run, "--output_dir", str(tmp_path / "out")]) in (0, None)
    assert read_patch(tmp_path / "out" / "placed" / "nodule.nii.gz")[0].shape[:2] == (16, 16)


def test_sizes_of_the_network_are_those_of_the_card_alone(tmp_path, weights, capsys):
    run = ["lung_nodule", "inference", "--weights", str(weights), "--width", "8"]
    assert main([*run, "--output_dir", str(tmp_path / "out")]) == 2
    assert "has no setting 'width'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

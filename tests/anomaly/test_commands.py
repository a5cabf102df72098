"""Promises of the two commands: training in two phases that resumes, scoring with everything a user needs."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from stage_components import component

from medical_gans.cli.command import main

SMALL = {"size": 16, "width": 2, "latent_size": 4, "critic_width": 2, "encoder_width": 2}
SHORT = {"critic_steps": 1, "batch_size": 4, "views_per_epoch": 8, "max_epochs": 2, "encoder_epochs": 2}


def command(stage, **settings):
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return main(["lung_nodule", stage, *words])


def train(archive, folder, **settings):
    return command("anomaly_train", **{"dataset_dir": archive, "output_dir": folder, **SMALL, **SHORT, **settings})


def score(archive, folder, weights, **settings):
    given = {"dataset_dir": archive, "output_dir": folder, "weights": weights, **settings}
    return command("anomaly", **given)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Noisy lung; nodules have a bright disc in the centre, each of its own texture."""
    rng = np.random.default_rng(0)
    image = rng.integers(20, 60, (90, 20, 20))
    rows, columns = np.mgrid[:20, :20] - 9.5
    texture = np.kron(rng.integers(60, 190, (30, 10, 10)), np.ones((2, 2), int))
    image[60:] += texture * (np.hypot(rows, columns) < 5)
    path = tmp_path_factory.mktemp("patches") / "patches.npz"
    np.savez(path, image=image.astype(np.uint8), is_nodule=np.repeat([0, 1], [60, 30]))
    return path


@pytest.fixture(scope="module")
def run(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train(archive, folder) == 0
    return folder


def weights_of(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def test_one_command_trains_both_phases(run):
    card = json.loads((run / "model.json").read_text())
    assert card["window"] == [-1000.0, 400.0]
    assert len(card["fingerprint"]["train"]) == 36
    assert set(card["fingerprint"]["normal_quantiles"]) >= {"blob", "izi_f"}
    prefixes = {name.split(".")[0] for name in weights_of(run)}
    assert prefixes == {"generator", "encoder", "critic", "hidden"}
    rows = {row["score"]: row for row in csv.DictReader((run / "validation.csv").open())}
    assert float(rows["blob"]["auc"]) > 0.9 and float(rows["fitted"]["auc"]) > 0.9
    assert set(card["fingerprint"]["fitted"]) == {"central_feature_residual", "query_blob", "query_brightness"}
    assert (run / "generator/losses.csv").exists() and (run / "encoder/losses.csv").exists()


@pytest.mark.parametrize("stopped", ["generator", "encoder"])
def test_a_run_stopped_in_either_phase_continues_exactly(archive, run, tmp_path, stopped):
    schedule = dict.fromkeys(("flat_epochs", "decay_epochs", "encoder_flat_epochs", "encoder_decay_epochs"), 1)
    epochs = {"generator": "max_epochs", "encoder": "encoder_epochs"}[stopped]
    assert train(archive, tmp_path / "run", **schedule, **{epochs: 1}) == 0
    if stopped == "generator":  # before the second phase began
        shutil.rmtree(tmp_path / "run/encoder")
    assert train(archive, tmp_path / "run", resume=True) == 0
    ours, theirs = weights_of(tmp_path / "run"), weights_of(run)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_is_not_overwritten(archive, run, capsys):
    before = weights_of(run)
    assert train(archive, run) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert all(torch.equal(value, before[name]) for name, value in weights_of(run).items())


def test_scoring_leaves_scores_maps_pictures_and_figures(archive, run, tmp_path):
    assert score(archive, tmp_path / "out", run / "model.pt") == 0
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert {row["side"] for row in rows} == {"unseen"}
    assert len(rows) == 18 + 24  # the test side of the split: nothing that was trained or chosen on
    figures = {row["score"]: float(row["auc"]) for row in csv.DictReader((out / "figures.csv").open())}
    assert figures["blob"] > 0.9 and figures["fitted"] > 0.9
    for name in ("patches.png", "scores.png", "report.html", "manifest.json"):
        assert (out / name).stat().st_size > 1000
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stage"] == "anomaly" and "left out" in manifest["warnings"][0]
    assert len(list((out / "maps").glob("*.nii.gz"))) == len(rows)


def test_a_map_is_patch_minus_reconstruction_in_hounsfield(archive, run, tmp_path):
    from medical_gans.data.lung_patches import read_patches
    from medical_gans.data.patches import images_of
    from medical_gans.weights import load_network

    assert score(archive, tmp_path / "out", run / "model.pt", include_seen=True) == 0
    patches = read_patches(archive, size=16)
    images = images_of(patches.hounsfield, component("lung_nodule_anomaly", "preprocessing"))
    with torch.no_grad():
        made = load_network(run / "model.pt")(images[:1])[0, 0].numpy()
    expected = patches.hounsfield[0] - (-1000 + (made + 1) / 2 * 1400)
    image = nib.load(tmp_path / "out/maps/patch_00000.nii.gz")
    np.testing.assert_allclose(np.asarray(image.dataobj)[:, :, 0].T, expected, atol=1.1)
    assert image.get_data_dtype() == np.int16


def test_the_search_needs_no_encoder_and_gives_the_same_files(archive, run, tmp_path):
    given = {"method": "anogan", "search_steps": 3, "max_patches": 10, "maps": False}
    assert score(archive, tmp_path / "out", run / "model.pt", **given) == 0
    assert len(list(csv.DictReader((tmp_path / "out/scores.csv").open()))) == 10
    assert not (tmp_path / "out/maps").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"method": "vae"}, "method is 'vae'"),
        ({"score": "best"}, "score is 'best'"),
        ({"window": [-1000.0, 200.0]}, "trained with [-1000.0, 400.0]"),
        ({"max_patches": 0}, "give 1 or more"),
        ({"width": 4}, "has no setting 'width'"),
        ({"size": 8}, "size is 8, but the weights were trained with 16"),
        ({"weights": "nothing.pt"}, "does not exist"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(archive, run, tmp_path, capsys, setting, sentence):
    assert score(archive, tmp_path / "out", **{"weights": run / "model.pt", **setting}) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fitted_score_is_not_asked_of_weights_that_have_none(archive, run, tmp_path, capsys):
    shutil.copy(run / "model.pt", tmp_path / "model.pt")
    card = json.loads((run / "model.json").read_text())
    del card["fingerprint"]["fitted"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    assert score(archive, tmp_path / "out", tmp_path / "model.pt") == 2
    assert "no nodules to fit it on" in capsys.readouterr().err
    assert score(archive, tmp_path / "out", tmp_path / "model.pt", score="blob", max_patches=5, maps=False) == 0
    assert "fitted" not in next(csv.reader((tmp_path / "out/scores.csv").open()))


def test_the_results_of_another_run_stay(archive, run, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text('{"stage": "evaluation"}')
    assert score(archive, tmp_path, run / "model.pt") == 2
    assert "another run" in capsys.readouterr().err

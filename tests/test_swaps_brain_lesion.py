"""Parts of brain_lesion that a few lines of an overlay replace: they train, and their weights alone are enough."""

import csv
import json

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.inferers import SimpleInferer

from medical_gans.cli.command import main
from medical_gans.cli.config_files import configs_dir, read_config
from medical_gans.io import save_volume
from medical_gans.transforms import RandPaintRegionsd
from medical_gans.weights import load_network

SHAPE = (36, 38, 34)
SMOKE = {"max_epochs": 1, "views_per_epoch": 4, "patch_size": [16, 16, 16], "spacing": [None] * 3, "batch_size": 2}
SMALL = {"network_def#channels": [2, 2, 4, 4], "discriminator_width": 2, "discriminator_crop": 0}


class Counted(SimpleInferer):
    """How patches and volumes go through a network, counted."""

    calls = 0

    def __call__(self, inputs, network, *args, **kwargs):
        type(self).calls += 1
        return super().__call__(inputs, network, *args, **kwargs)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Balls with a bright lesion, labelled in one look, without labels in another."""
    root = tmp_path_factory.mktemp("lesions")
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in SHAPE), indexing="ij"))
    for side, level in (("source", 60), ("target", -40)):
        for number in range(2):
            folder = root / side / f"case{number}"
            folder.mkdir(parents=True)
            lesion = (np.abs(place - 0.1 * number) < 0.25).all(0)
            image = np.where((place**2).sum(0) < 1, 100 + 10 * rng.standard_normal(SHAPE) + level * lesion, 0)
            save_volume(folder / "FLAIR.nii.gz", image.astype(np.float32), np.eye(4))
            if side == "source":
                save_volume(folder / "lesion.nii.gz", lesion.astype(np.uint8), np.eye(4))
    return root


def run(stage, folder, overlay="", **settings):
    """Run a stage with an overlay; what it built."""
    assert len(overlay.strip().splitlines()) <= 8
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(overlay or "{}")
    assert not overlay or read_config(file)
    workflow = ConfigWorkflow(
        config_file=[str(configs_dir() / f"brain_lesion_{stage}.yaml"), *([str(file)] if overlay else [])],
        meta_file=str(configs_dir() / "metadata.json"),
        logging_file=False,
        workflow_type="train" if stage == "train" else "infer",
        output_dir=str(folder),
        device="cpu",
        **settings,
    )
    workflow.initialize()
    workflow.run()
    return workflow.parser


def train(data, folder, overlay="", *, small=True, adapted=True, **settings):
    places = {"dataset_dir": str(data / "source"), **({"target_dir": str(data / "target")} if adapted else {})}
    given = {**SMOKE, **(SMALL if small else {}), "ramp_epochs": [0, 0], **places, **settings}
    return run("train", folder, overlay, **given)


def segment(data, weights, folder, overlay="", **settings):
    given = {"weights": str(weights), "dataset_dir": str(data / "target"), "channels": ["FLAIR"], **settings}
    return run("inference", folder, overlay, **given)


def losses_of(folder):
    with (folder / "losses.csv").open() as file:
        return {row["name"]: float(row["value"]) for row in csv.DictReader(file)}


def probability_of(folder, case="case0"):
    return np.asarray(nibabel.load(folder / case / "probability.nii.gz").dataobj)


@pytest.fixture(scope="module")
def shipped(data, tmp_path_factory):
    """A run without any swap."""
    folder = tmp_path_factory.mktemp("shipped") / "run"
    train(data, folder)
    return folder


@pytest.fixture(scope="module")
def usual(data, shipped, tmp_path_factory):
    """What its weights find, without any swap."""
    folder = tmp_path_factory.mktemp("usual") / "out"
    segment(data, shipped / "model.pt", folder, probabilities=True)
    return folder


@pytest.mark.parametrize(
    ("name", "network", "layers"),
    [
        ("BasicUNet", "features: [4, 4, 4, 4, 4, 4], norm: instance", "[upcat_2, upcat_1, final_conv]"),
        (
            "SegResNet",
            "init_filters: 4, blocks_down: [1, 1], blocks_up: [1], norm: INSTANCE",
            "[up_layers, conv_final]",
        ),
    ],
)
def test_another_network_is_trained_against_its_adversary_and_its_weights_alone_find_lesions(
    data, tmp_path, name, network, layers
):
    shape = 'spatial_dims: 3, in_channels: "$len(@channels)", out_channels: "@num_classes"'
    layers = layers.replace("up_layers", "up_layers.0.0")
    overlay = f"""
network_def: {{_target_: monai.networks.nets.{name}, {shape}, {network}}}
adversarial_layers: {layers}
patch_size: [32, 32, 32] # voxels
"""
    small = {"discriminator_width": 2, "discriminator_crop": 0, "views_per_epoch": 2}
    given = {key: value for key, value in SMOKE.items() if key not in ("patch_size", *small)}
    places = {"dataset_dir": str(data / "source"), "target_dir": str(data / "target")}
    parser = run("train", tmp_path / "run", overlay, **given, **small, **places, ramp_epochs=[0, 0])
    method = parser.get_parsed_content("train#method")
    assert type(method.shipped).__name__.casefold() == name.casefold()
    assert len(method.taps.layers) == len(method.discriminator["discriminator"].mix)
    weights = tmp_path / "run/model.pt"
    card = json.loads(weights.with_suffix(".json").read_text())["network_def"]
    assert card["_target_"] == f"monai.networks.nets.{name}" and card["in_channels"] == 1
    words = ["--weights", weights, "--dataset_dir", data / "target", "--channels", "[FLAIR]"]
    out = ["--output_dir", tmp_path / "out"]
    assert main(["brain_lesion", "inference", *map(str, [*words, *out])]) == 0
    assert nibabel.load(tmp_path / "out/case1/lesions.nii.gz").shape == SHAPE
    assert type(load_network(weights)).__name__.casefold() == name.casefold()


def test_a_layer_that_the_network_does_not_have_is_named_with_those_it_has(data, tmp_path):
    with pytest.raises(Exception) as raised:
        train(data, tmp_path / "run", "adversarial_layers: [upcat_1]")
    error = raised.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert "The network has no layer 'upcat_1'" in str(error) and "model.1.submodule" in str(error)


def test_another_optimiser_and_schedule_move_the_segmenter(data, tmp_path, shipped):
    overlay = """
train#segmenter#optimizer: {_target_: torch.optim.SGD, _mode_: callable, lr: "@learning_rate", momentum: 0.9}
train#segmenter#schedule: {_target_: torch.optim.lr_scheduler.ExponentialLR, _mode_: callable, gamma: 0.5}
"""
    player = train(data, tmp_path / "run", overlay).get_parsed_content("train#segmenter")
    assert type(player.optimizer) is torch.optim.SGD
    assert player.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)
    ours, theirs = (torch.load(folder / "model.pt", weights_only=True) for folder in (tmp_path / "run", shipped))
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_loss_gives_other_numbers(data, tmp_path, shipped):
    overlay = """
train#losses#segmentation: {_target_: monai.losses.TverskyLoss, to_onehot_y: true, softmax: true, alpha: 0.9}
train#losses#domain: {_target_: torch.nn.SoftMarginLoss}
"""
    method = train(data, tmp_path / "run", overlay).get_parsed_content("train#method")
    assert type(method.losses["segmentation"]).__name__ == "TverskyLoss"
    assert type(method.losses["domain"]) is torch.nn.SoftMarginLoss
    ours, theirs = losses_of(tmp_path / "run"), losses_of(shipped)
    assert abs(ours["segmentation"] - theirs["segmentation"]) > 0.01 and abs(ours["domain"] - theirs["domain"]) > 0.01


def test_a_transform_added_to_the_augmentation_changes_what_is_seen_and_repeats(data, tmp_path):
    overlay = """
+augmentation#transforms:
  - {_target_: RandCoarseDropoutd, keys: image, prob: 1.0, holes: 1, spatial_size: 6, fill_value: 9.0}
"""
    views = train(data, tmp_path / "run", overlay).get_parsed_content("train#dataset")
    assert type(views.augmentation.transforms[-1]).__name__ == "RandCoarseDropoutd"
    seen = views[2]
    assert (seen["source"] == 9).sum() == (seen["target"] == 9).sum() == 6**3
    assert all(torch.equal(seen[name], views[2][name]) for name in seen)  # by seed, epoch and number alone
    assert not torch.equal(seen["source"] == 9, views[3]["source"] == 9)


def test_a_transform_added_to_the_preprocessing_changes_what_is_found(data, shipped, usual, tmp_path):
    overlay = """
+preprocessing#transforms:
  - {_target_: GaussianSmoothd, keys: image, sigma: 2.0}
"""
    parser = segment(data, shipped / "model.pt", tmp_path / "out", overlay, probabilities=True)
    assert type(parser.get_parsed_content("preprocessing").transforms[-1]).__name__ == "GaussianSmoothd"
    assert np.abs(probability_of(tmp_path / "out") - probability_of(usual)).max() > 1e-3
    again = segment(data, shipped / "model.pt", tmp_path / "out", probabilities=True)  # a case is done again then
    assert type(again.get_parsed_content("preprocessing").transforms[-1]).__name__ == "CropForegroundd"
    assert np.array_equal(probability_of(tmp_path / "out"), probability_of(usual))


def test_a_transform_added_to_the_postprocessing_changes_the_labels(data, shipped, tmp_path):
    overlay = """
+postprocessing#transforms:
  - {_target_: MapLabelValued, keys: pred, orig_labels: [0, 1], target_labels: [1, 1]}
"""
    segment(data, shipped / "model.pt", tmp_path / "out", overlay)
    assert np.asarray(nibabel.load(tmp_path / "out/case0/lesions.nii.gz").dataobj).all()


def test_another_inferer_looks_at_whole_volumes(data, shipped, usual, tmp_path):
    overlay = """
inferer: {_target_: test_swaps_brain_lesion.Counted}
+preprocessing#transforms:
  - {_target_: DivisiblePadd, keys: [image, foreground], k: 8}
"""
    before = Counted.calls
    parser = segment(data, shipped / "model.pt", tmp_path / "out", overlay, probabilities=True)
    assert type(parser.get_parsed_content("segmentation").inferer).__name__ == "Counted"
    counted = type(parser.get_parsed_content("inferer"))
    assert counted.calls == (before if counted is Counted else 0) + 2
    ours, theirs = probability_of(tmp_path / "out"), probability_of(usual)
    assert ours.shape == theirs.shape and 1e-4 < np.abs(ours - theirs).max() < 1


def test_windows_as_they_are_asked_for(data, shipped, usual, tmp_path):
    overlay = """
inferer: {_target_: SlidingWindowInferer, roi_size: [24, 24, 24], overlap: 0.25, mode: constant}
"""
    parser = segment(data, shipped / "model.pt", tmp_path / "out", overlay, probabilities=True)
    assert parser.get_parsed_content("segmentation").inferer.roi_size == (24, 24, 24)
    assert np.abs(probability_of(tmp_path / "out") - probability_of(usual)).max() > 1e-4


def test_training_goes_through_its_inferer(data, tmp_path):
    overlay = "train#inferer: {_target_: test_swaps_brain_lesion.Counted}"
    method = train(data, tmp_path / "run", overlay).get_parsed_content("train#method")
    assert type(method.inferer).__name__ == "Counted" and type(method.inferer).calls >= 4  # two steps, two domains


def test_an_added_handler_is_called(data, tmp_path, caplog, capsys):
    overlay = """
+train#handlers:
  - _target_: monai.handlers.StatsHandler
    output_transform: "$monai.handlers.from_engine(['loss'], first=True)"
"""
    with caplog.at_level("INFO"):
        trainer = train(data, tmp_path / "run", overlay).get_parsed_content("train#trainer")
    assert "StatsHandler" in [type(handler).__name__ for handler in trainer.handlers]
    assert "Iter: 2/2 -- Loss" in caplog.text + capsys.readouterr().out


def test_another_discriminator_judges_the_domains(data, tmp_path):
    overlay = """
train#discriminator#networks#discriminator:
  _target_: medical_gans.networks.DomainDiscriminator
  feature_channels: "$networks.feature_channels(@network_def, @adversarial_layers, len(@channels), @patch_size)"
  width: 5 # channels
  crop: 0 # voxels
+imports: ["$import medical_gans.networks as networks"]
"""
    small = {"network_def#channels": [2, 2, 4, 4]}
    method = train(data, tmp_path / "run", overlay, small=False, **small).get_parsed_content("train#method")
    assert method.discriminator["discriminator"].mix[0].out_channels == 5


def test_predictions_of_a_swapped_network_are_judged_from_the_weights_alone(data, shipped, tmp_path):
    given = {"weights": str(shipped / "model.pt"), "dataset_dir": str(data / "source"), "channels": ["FLAIR"]}
    run(
        "evaluate",
        tmp_path / "out",
        "+preprocessing#transforms: [{_target_: GaussianSmoothd, keys: image, sigma: 1.0}]",
        **given,
    )
    figures = json.loads((tmp_path / "out/metrics.json").read_text())["summary"]["lesion"]["adapted"]
    assert 0 <= figures["dice"]["mean"] <= 1


def test_random_contrast_is_painted_on_the_source_alone_and_trains(data, tmp_path):
    overlay = (configs_dir() / "painted_contrast.yaml").read_text().partition("source_augmentation:")
    overlay = "source_augmentation:" + overlay[2].replace("[0.4, 0.3, 0.3]", "[0.0, 0.0, 1.0]")
    lines = [line for line in overlay.splitlines() if "detail" not in line and "label_key" not in line]
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "paint.yaml").write_text("\n".join(lines))
    words = ["--config_file", f"smoke_brain_lesion,{tmp_path / 'paint.yaml'}", "--output_dir", folder]
    words += ["--dataset_dir", data / "source", "--target_dir", data / "target", "--device", "cpu"]
    assert main(["brain_lesion", "train", *map(str, words)]) == 0
    assert (folder / "model.pt").is_file()
    parser = train(data, tmp_path / "plain")
    views = parser.get_parsed_content("train#dataset")
    plain = views[1]
    paint = RandPaintRegionsd("image")
    views.source_augmentation = paint
    painted = views[1]
    assert torch.equal(painted["label"], plain["label"]) or torch.equal(painted["label"].flip(1), plain["label"])
    assert not torch.allclose(painted["source"], plain["source"])

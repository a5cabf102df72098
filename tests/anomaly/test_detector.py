"""Promises of the detector, its scores, its encoder and the latent search."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.inference.anomaly.detector import LatentSearch, TrainedDetector
from medical_gans.inference.anomaly.scores import (
    EVIDENCE,
    SCORES,
    FittedScore,
    anomaly_scores,
    blob_response,
    central_brightness,
    fit_score,
    quantiles,
)
from medical_gans.methods.fanogan import Encoder
from medical_gans.metrics.roc import auc_with_interval
from medical_gans.networks.anomaly_detector import AnomalyDetector, PatchCritic, PatchEncoder
from medical_gans.training.player import Player
from medical_gans.training.schedules import FlatThenLinear

SIZE = 16


class Linear(nn.Module):
    """A generator of the plane of images spanned by its rows."""

    num_classes = 0

    def __init__(self, latent_size=3):
        super().__init__()
        self.size, self.latent_size = SIZE, latent_size
        basis = torch.randn(latent_size, SIZE * SIZE, generator=torch.Generator().manual_seed(0))
        self.basis = nn.Parameter(torch.linalg.qr(basis.T)[0].T)

    def forward(self, latent, label=None):
        return (latent @ self.basis).reshape(-1, 1, SIZE, SIZE)


def detector(hidden_radius=0.0):
    torch.manual_seed(0)
    return AnomalyDetector(Linear(), PatchEncoder(SIZE, 3, 4), PatchCritic(SIZE, 4), hidden_radius)


def encoder_method(one, learning_rate=5e-5, flat_epochs=100, decay_epochs=0):
    optimizer = partial(torch.optim.RMSprop, lr=learning_rate)
    schedule = partial(FlatThenLinear, flat_epochs=flat_epochs, decay_epochs=decay_epochs)
    player = Player({"encoder": one.encoder}, optimizer, schedule=schedule)
    return Encoder(player, one, {"image": nn.MSELoss(), "features": nn.MSELoss()})


def test_what_is_hidden_cannot_change_the_reconstruction():
    one = detector(hidden_radius=4.0).eval()
    image = torch.rand(2, 1, SIZE, SIZE)
    changed = image.clone()
    changed[:, :, 7:9, 7:9] += 1.0
    assert torch.equal(one(image), one(changed))
    changed[:, :, 0, 0] += 1.0
    assert not torch.equal(one(image), one(changed))
    assert not torch.equal(detector()(image), detector()(image + one.hidden))


def test_weights_bring_what_is_hidden_with_them(tmp_path):
    from medical_gans.weights import load_weights, save_weights

    save_weights(tmp_path / "w.pt", detector(hidden_radius=4.0))
    loaded = load_weights(detector(), tmp_path / "w.pt")
    assert torch.equal(loaded.hidden, detector(hidden_radius=4.0).hidden)


def test_the_search_finds_the_projection_onto_the_generators_images():
    """Where the image lies in the plane, the search must find it, whatever the critic says."""
    one = detector()
    latent = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])
    image = one.generator(latent).detach()
    made = LatentSearch(one, steps=600, optimizer=partial(torch.optim.Adam, lr=0.05))(image)
    assert (made - image).abs().max() < 0.03


def test_a_search_does_not_depend_on_what_else_is_searched():
    one = detector()
    image = torch.rand(3, 1, SIZE, SIZE)
    together = LatentSearch(one, steps=20)(image)
    alone = LatentSearch(one, steps=20)(image[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_a_search_ignores_what_is_hidden():
    one = detector(hidden_radius=4.0)
    image = torch.rand(1, 1, SIZE, SIZE)
    changed = torch.where(one.hidden, 5.0, image)
    search = LatentSearch(one, steps=20)
    assert torch.equal(search(image), search(changed))


def test_the_encoder_learns_and_nothing_else_moves():
    one = detector()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    step = encoder_method(one, learning_rate=3e-3, flat_epochs=10)
    latent = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    batch = {"image": one.generator(latent).detach()}
    first = step(batch)
    for _ in range(60):
        last = step(batch)
    assert last["image"] < 0.5 * first["image"]
    moved = {name for name, value in one.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("encoder.") for name in moved)


def test_a_resumed_encoder_continues_exactly():
    batch = {"image": torch.rand(4, 1, SIZE, SIZE)}
    straight, interrupted = (encoder_method(detector(), decay_epochs=3, flat_epochs=1) for _ in range(2))
    for step in (straight, interrupted):
        step(batch)
        step.end_epoch()
    resumed = encoder_method(detector(), decay_epochs=3, flat_epochs=1)
    resumed.load_state_dict(interrupted.state_dict())
    for step in (straight, resumed):
        step(batch)
        step.end_epoch()
        step(batch)
    for one, two in zip(straight.shipped.parameters(), resumed.shipped.parameters(), strict=True):
        assert torch.equal(one, two)


def test_an_encoder_resumed_with_a_longer_plan_learns_in_every_epoch():
    """A finished plan ends at rate 0; what continues it must not begin there."""
    batch = {"image": torch.rand(4, 1, SIZE, SIZE)}
    whole, finished = (encoder_method(detector(), 1e-3, flat_epochs=1, decay_epochs=n) for n in (4, 1))
    for step, epochs in ((whole, 2), (finished, 2)):
        for _ in range(epochs):
            step(batch)
            step.end_epoch()
    assert finished.players["encoder"].optimizer.param_groups[0]["lr"] == 0.0
    longer = encoder_method(detector(), 1e-3, flat_epochs=1, decay_epochs=4)
    longer.load_state_dict(finished.state_dict())
    rate = longer.players["encoder"].optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-3 * (1 - 2 / 5)) == whole.players["encoder"].optimizer.param_groups[0]["lr"]
    before = [parameter.clone() for parameter in longer.detector.encoder.parameters()]
    longer(batch)
    assert all(not torch.equal(p, q) for p, q in zip(before, longer.detector.encoder.parameters(), strict=True))


def test_scores_follow_their_equations():
    one = detector()
    image, made = torch.rand(3, 1, SIZE, SIZE), torch.rand(3, 1, SIZE, SIZE)
    scores = anomaly_scores(one, image, made, anogan_lambda=0.1, kappa=2.0)
    assert set(scores) == set(SCORES) - {"fitted"}
    with torch.no_grad():
        fx, fy = one.critic.features(image).numpy(), one.critic.features(made).numpy()
    residual = (image - made).abs().numpy().mean((1, 2, 3))
    features = np.abs(fx - fy).mean(1)
    np.testing.assert_allclose(scores["residual"], residual, rtol=1e-5)
    np.testing.assert_allclose(scores["anogan"], 0.9 * residual + 0.1 * features, rtol=1e-5)
    squared = (image - made).numpy() ** 2
    np.testing.assert_allclose(scores["izi_f"], squared.mean((1, 2, 3)) + 2 * ((fx - fy) ** 2).mean(1), rtol=1e-5)


def test_features_at_the_centre_are_the_middle_of_the_maps():
    one = AnomalyDetector(Linear(), PatchEncoder(SIZE, 3, 4), PatchCritic(48, 4))
    image, made = torch.rand(2, 1, 48, 48), torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        maps = (one.critic.features(image) - one.critic.features(made)).reshape(2, 16, 6, 6).abs()
        found = one.central_feature_residual(image, made)
    torch.testing.assert_close(
        found, (maps[..., 2, 2] + maps[..., 2, 3] + maps[..., 3, 2] + maps[..., 3, 3]).mean(1) / 4
    )


def test_equal_images_score_nothing():
    image = torch.rand(2, 1, SIZE, SIZE)
    scores = anomaly_scores(detector(), image, image)
    for name in set(SCORES) - {"query_blob", "query_brightness", "fitted"}:
        assert np.abs(scores[name]).max() < 1e-6, name


def test_the_blob_filter_answers_to_discs_and_not_to_lines_or_edges():
    rows, columns = np.mgrid[:48, :48] - 23.5
    disc = (np.hypot(rows, columns) < 4).astype(np.float32)
    line = (np.abs(rows) < 4).astype(np.float32) + 0 * columns.astype(np.float32)
    edge = (rows > 0).astype(np.float32)
    aside = np.roll(disc, 16, axis=1)
    answers = blob_response(np.stack([disc, line, edge, aside, -disc]))
    assert answers[0] > 0.3
    assert answers[1:].max() < 0.2 * answers[0]


def test_the_blob_filter_is_the_curvature_of_a_gaussian():
    """A Gaussian of width w, smoothed by s, has curvature w^2 / (w^2 + s^2)^2 at its top in 2D."""
    from medical_gans.inference.anomaly.scores import BLOB_SCALES

    rows, columns = np.mgrid[:49, :49] - 24.0
    width = 4.0
    top = np.exp(-(rows**2 + columns**2) / (2 * width**2))[None]
    expected = max(s**2 * width**2 / (width**2 + s**2) ** 2 for s in BLOB_SCALES)
    assert blob_response(top)[0] == pytest.approx(expected, rel=0.02)


def test_an_excess_is_signed():
    rows, columns = np.mgrid[:48, :48] - 23.5
    disc = 0.5 * (np.hypot(rows, columns) < 8)
    bright, dark = central_brightness(np.stack([disc, -disc]))
    assert bright == pytest.approx(0.5, abs=0.03)
    assert dark < -0.4


def test_an_auc_is_that_of_scikit_learn_and_within_its_interval():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = np.round(rng.normal(size=200) + labels, 1)  # with ties
    auc = auc_with_interval(labels, scores, resamples=200)
    assert auc.value == pytest.approx(roc_auc_score(labels, scores))
    assert auc.low < auc.value < auc.high


def test_a_fitted_score_is_the_log_odds_of_its_evidence_and_its_figure_is_held_out():
    """Two classes whose evidence is normal with deviation s and means m apart: the log odds have weights m / s^2."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 4000)
    apart, deviation = np.array([1.0, -0.5, 0.0]), np.array([1.0, 0.5, 3.0])
    values = rng.normal(size=(8000, 3)) * deviation + labels[:, None] * apart
    scores = dict(zip(EVIDENCE, values.T, strict=True))
    fitted, held_out = fit_score(scores, labels)
    np.testing.assert_allclose([fitted.weights[name] for name in EVIDENCE], apart / deviation**2, atol=0.12)
    assert np.corrcoef(fitted(scores), held_out)[0, 1] > 0.99
    assert np.abs(fitted(scores) - held_out).mean() < 0.1  # the same offset: percentiles of one hold for the other
    noise = {name: rng.normal(size=60) for name in EVIDENCE}
    fitted, held_out = fit_score(noise, np.tile([0, 1], 30))
    assert auc_with_interval(np.tile([0, 1], 30), held_out).low < 0.5


def test_scores_hold_the_fitted_one_where_it_is_known():
    image, made = torch.rand(3, 1, SIZE, SIZE), torch.rand(3, 1, SIZE, SIZE)
    with torch.no_grad():
        scores = anomaly_scores(detector(), image, made, fitted=FittedScore({"blob": 2.0, "excess": -1.0}))
    np.testing.assert_allclose(scores["fitted"], 2 * scores["blob"] - scores["excess"], rtol=1e-5)
    assert set(scores) == set(SCORES)


def test_percentiles_are_those_of_the_normal_patches(tmp_path):
    normal = np.arange(1001) / 1000.0
    trained = TrainedDetector(detector(), tmp_path, (-1000, 400), {}, quantiles({"blob": normal}))
    np.testing.assert_allclose(trained.percentile("blob", np.array([-1.0, 0.25, 2.0])), [0.0, 0.25, 1.0], atol=1e-3)
    assert np.isnan(trained.percentile("izi_f", np.array([0.1]))).all()


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(SettingError, match="multiple of 8"):
        PatchCritic(50)

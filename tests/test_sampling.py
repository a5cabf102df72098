"""A seed and a class stand for one nodule, whatever else is made."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.nodules.sampling import NoduleSampler, load_nodule_sampler, trained_with
from medical_gans.networks import nodule_generator
from medical_gans.weights import WeightsCard, build_network, load_network, save_weights

CLASSES = ("benign", "malignant", "indeterminate")
WINDOW = (-1000.0, 400.0)


def generator(**changes):
    torch.manual_seed(0)
    return nodule_generator(**{"size": 16, "latent_size": 8, "num_classes": 3, "width": 4} | changes)


@pytest.fixture
def sampler():
    return NoduleSampler(generator(), (0.6, 0.6), WINDOW, CLASSES)


def test_a_nodule_does_not_depend_on_what_else_is_made(sampler):
    together = sampler.generate([3, 5, 7], [0, 1, 2])
    assert together.dtype == np.int16 and together.shape == (3, 16, 16)
    for number, (seed, label) in enumerate([(3, 0), (5, 1), (7, 2)]):
        torch.manual_seed(number)
        assert np.array_equal(sampler.generate([seed], [label])[0], together[number])


def test_seed_class_and_truncation_each_matter(sampler):
    reference = sampler.generate([3], [0])
    for seed, label, truncation in [(4, 0, None), (3, 1, None), (3, 0, 0.5)]:
        assert not np.array_equal(sampler.generate([seed], [label], truncation), reference)


def test_hounsfield_stay_in_the_window(sampler):
    made = sampler.generate(range(20), [1] * 20)
    assert made.min() >= -1000 and made.max() <= 400


def test_latent_numbers_are_normal():
    sampler = NoduleSampler(generator(latent_size=4000), (0.6, 0.6), WINDOW, CLASSES)
    assert stats.kstest(sampler.latent(1).numpy().ravel(), "norm").pvalue > 0.01


def test_truncated_latent_numbers_are_truncated_normal_and_keep_their_order():
    sampler = NoduleSampler(generator(latent_size=4000), (0.6, 0.6), WINDOW, CLASSES)
    free, bounded = (sampler.latent(1, truncation).numpy().ravel() for truncation in (None, 1.5))
    assert np.abs(bounded).max() <= 1.5
    assert stats.kstest(bounded, stats.truncnorm(-1.5, 1.5).cdf).pvalue > 0.01
    assert np.array_equal(np.argsort(free), np.argsort(bounded))


def test_between_two_classes_lie_both_ends(sampler):
    latent = sampler.latent(3)
    benign, malignant = sampler.decode(latent, 0), sampler.decode(latent, 1)
    assert np.array_equal(sampler.decode(latent, 0, towards=1, share=0.0), benign)
    assert np.abs(sampler.decode(latent, 0, towards=1, share=1.0) - malignant).max() <= 1
    assert not np.array_equal(sampler.decode(latent, 0, towards=1, share=0.5), benign)
    assert np.array_equal(sampler.decode(latent, 0), benign)


def test_volumes_are_made_by_a_generator_of_volumes():
    sampler = NoduleSampler(generator(spatial_dims=3), (0.6, 0.6, 0.6), WINDOW, CLASSES)
    assert sampler.generate([1], [0]).shape == (1, 16, 16, 16)
    assert sampler.generate([], []).shape == (0, 16, 16, 16)


def test_a_generator_without_classes_needs_no_label():
    sampler = NoduleSampler(generator(num_classes=0), (0.6, 0.6), WINDOW)
    assert sampler.generate([1], [None]).shape == (1, 16, 16)
    with pytest.raises(SettingError, match="trained without classes"):
        sampler.label_of("benign")


@pytest.mark.parametrize("truncation", [0, -1.0, float("nan")])
def test_a_truncation_that_leaves_nothing_is_refused(sampler, truncation):
    with pytest.raises(SettingError, match="truncation"):
        sampler.latent(1, truncation)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(sampler, seed):
    with pytest.raises(SettingError, match="latent seed"):
        sampler.latent(seed)


def test_an_unknown_class_is_refused(sampler):
    with pytest.raises(SettingError, match="knows no class 'cystic'"):
        sampler.label_of("cystic")
    with pytest.raises(SettingError, match="0 to 2"):
        sampler.generate([1], [3])
    with pytest.raises(SettingError, match="0 to 2"):
        sampler.generate([1], [None])


def test_weights_and_their_card_make_a_sampler(tmp_path):
    network = generator()
    save_weights(tmp_path / "n.pt", network)
    with pytest.raises(InputError, match="no card"):
        load_nodule_sampler(generator(), tmp_path / "n.pt")
    WeightsCard([0.6, 0.6], classes=CLASSES, window=WINDOW).save(tmp_path / "n.pt")
    sampler = load_nodule_sampler(generator(), tmp_path / "n.pt")
    assert (sampler.spacing, sampler.window, sampler.classes, sampler.size) == ((0.6, 0.6), WINDOW, CLASSES, 16)
    with pytest.raises(SettingError, match="num_classes is 0, but the weights were trained on 3 classes"):
        NoduleSampler(generator(num_classes=0), (0.6, 0.6), WINDOW, CLASSES)
    WeightsCard([None, None], classes=CLASSES, window=WINDOW).save(tmp_path / "n.pt")
    with pytest.raises(InputError, match="unknown voxel size"):
        load_nodule_sampler(generator(), tmp_path / "n.pt")


def test_a_card_tells_what_its_network_was_trained_with(tmp_path):
    WeightsCard([0.7, 0.7], network_def={"size": 16, "_target_": "medical_gans.networks.NoduleGenerator"}).save(
        tmp_path / "n.pt"
    )
    assert trained_with(tmp_path / "n.pt", "size", 56) == 16
    assert trained_with(tmp_path / "n.pt", "width", 8) == 8
    assert trained_with(tmp_path / "n.pt", "spacing", 0.6) == 0.7
    assert trained_with(tmp_path / "nothing.pt", "size", 56) == 56


def test_a_network_that_knows_nothing_of_itself_samples_by_its_card(tmp_path):
    latent, edge = 8, 16
    network_def = {
        "_target_": "monai.networks.nets.Generator",
        "latent_shape": [latent],
        "start_shape": [4, 4, 4],
        "channels": [4, 1],
        "strides": [2, 2],
    }
    network = build_network(network_def)
    save_weights(tmp_path / "n.pt", network)
    WeightsCard([0.6, 0.6], network_def=network_def, window=WINDOW, latent_size=latent, patch_size=[edge, edge]).save(
        tmp_path / "n.pt"
    )
    sampler = load_nodule_sampler(partial(load_network, tmp_path / "n.pt"), tmp_path / "n.pt")
    made = sampler.generate([1, 2], [None, None])
    assert made.shape == (2, edge, edge) and made.dtype == np.int16
    with torch.no_grad():
        unit = network.eval()(sampler.latent(1))[0, 0].numpy()
    np.testing.assert_allclose(made[0], np.clip(unit, -1, 1) * 700 - 300, atol=0.51)


def test_an_inferer_takes_the_place_of_the_plain_call(sampler):
    def darker(latent, network, *label):
        return network(latent, *label) - 0.1

    other = NoduleSampler(generator(), (0.6, 0.6), WINDOW, CLASSES, inferer=darker)
    assert (sampler.generate([3], [0]) - other.generate([3], [0])).max() == pytest.approx(70, abs=1)

"""The classifier whose features judge generated nodules."""

import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.networks import NoduleClassifier


@pytest.mark.parametrize(("dimensions", "size"), [(2, 56), (2, 40), (3, 16)])
def test_any_patch_gives_features_and_outputs_of_one_length(dimensions, size):
    network = NoduleClassifier(dimensions, width=4, num_features=6, num_measures=3).eval()
    image = torch.randn(2, 1, *[size] * dimensions)
    assert network.features(image).shape == (2, 6)
    assert network(image).shape == (2, 4)


def test_features_of_a_training_batch_are_standardised():
    network = NoduleClassifier(width=4, num_features=6)
    found = network.features(torch.randn(64, 1, 24, 24))
    assert torch.allclose(found.mean(0), torch.zeros(6), atol=1e-5)
    assert torch.allclose(found.var(0, unbiased=False), torch.ones(6), atol=1e-3)


def test_the_outputs_follow_from_the_features():
    network = NoduleClassifier(width=4, num_measures=2).eval()
    image = torch.randn(3, 1, 24, 24)
    assert torch.allclose(network(image), network.outputs(network.features(image)))


def test_features_of_an_image_do_not_depend_on_its_batch():
    network = NoduleClassifier(width=4).eval()
    images = torch.randn(3, 1, 24, 24)
    assert torch.allclose(network.features(images)[1:2], network.features(images[1:2]), atol=1e-6)


def test_it_can_be_made_again_from_what_its_card_says():
    network = NoduleClassifier(width=4, num_features=5, num_measures=2)
    again = NoduleClassifier(**network.arguments)
    again.load_state_dict(network.state_dict())


def test_four_dimensions_are_refused():
    with pytest.raises(SettingError, match="spatial_dims"):
        NoduleClassifier(spatial_dims=4)

"""The two-pathway segmenter and the discriminator of domains."""

import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.networks import DomainDiscriminator, MultiScaleSegmenter


@pytest.mark.parametrize(("dims", "size"), [(3, (9, 10, 11)), (2, (12, 13))])
def test_the_output_has_the_size_of_the_input(dims, size):
    network = MultiScaleSegmenter(2, 3, spatial_dims=dims, channels=(3, 3, 4), joint_channels=(5,), residual=(3,))
    assert network(torch.randn(1, 2, *size)).shape == (1, 3, *size)


def test_the_papers_layer_plan():
    """Eight layers of 30, 30, 40, 40, 40, 40, 50, 50 kernels of 3^3 in each pathway, then 150, 150 and the classes."""
    network = MultiScaleSegmenter(4, 5)
    kernels = [m.weight.shape[0] for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
    assert kernels == [30, 30, 40, 40, 40, 40, 50, 50] * 2 + [150, 150, 5]


def test_the_low_pathway_sees_three_times_as_far():
    torch.manual_seed(0)
    network = MultiScaleSegmenter(1, 2, channels=(2, 2), joint_channels=(3,), residual=(), dropout=0.0).eval()
    image = torch.randn(1, 1, 27, 27, 27, requires_grad=True)
    coarse = torch.nn.functional.avg_pool3d(image, 3)
    reach = {}
    for name, pathway, middle in (("normal", network.normal(image), 13), ("low", network.low(coarse), 4)):
        (gradient,) = torch.autograd.grad(pathway[..., middle, middle, middle].sum(), image, retain_graph=True)
        reach[name] = len(gradient.abs().sum((0, 1, 3, 4)).nonzero())
    assert reach == {"normal": 5, "low": 15}


def test_a_residual_block_adds_its_input():
    torch.manual_seed(0)
    plain = MultiScaleSegmenter(1, 2, channels=(3, 3, 3), joint_channels=(3,), residual=(), dropout=0.0).eval()
    skipping = MultiScaleSegmenter(1, 2, channels=(3, 3, 3), joint_channels=(3,), residual=(3,), dropout=0.0).eval()
    skipping.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 6, 6, 6)
    first = plain.normal[0](image)
    torch.testing.assert_close(skipping.normal(image), plain.normal(image) + first)


def test_feature_maps_are_judged_on_the_finest_grid():
    judge = DomainDiscriminator([3, 5], width=4, layers=2, crop=1)
    logits = judge([torch.randn(2, 3, 12, 12, 12), torch.randn(2, 5, 6, 6, 6)])
    assert logits.shape == (2, 1, 5, 5, 5)  # 12 less a border of 1, halved


@pytest.mark.parametrize("crop", [0, 1, 2])
def test_mixing_before_resampling_is_concatenation_and_cropping_after_it(crop):
    judge = DomainDiscriminator([3, 5, 2], width=4, layers=1, crop=crop).eval()
    maps = [torch.randn(1, 3, 8, 9, 10), torch.randn(1, 5, 4, 5, 5), torch.randn(1, 2, 4, 5, 5)]
    resampled = [torch.nn.functional.interpolate(map_, size=(8, 9, 10), mode="trilinear") for map_ in maps]
    inside = torch.cat(resampled, 1)[..., crop : 8 - crop, crop : 9 - crop, crop : 10 - crop]
    weight = torch.cat([mix.weight for mix in judge.mix], 1)
    expected = judge.body(torch.nn.functional.conv3d(inside, weight))
    torch.testing.assert_close(judge(maps), expected, rtol=1e-4, atol=1e-5)


def test_bad_choices_are_refused_in_plain_words():
    with pytest.raises(SettingError, match=r"residual is \[9\]; give layers from 2 to 8"):
        MultiScaleSegmenter(1, 2, residual=(9,))
    with pytest.raises(SettingError, match="at least one feature map"):
        DomainDiscriminator([])

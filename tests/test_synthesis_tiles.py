"""Tiles equal the whole image, with any norm."""

import numpy as np
import pytest
import torch
from torch import nn

from medical_gans.errors import SettingError
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.inference.synthesis.tiles import TiledGenerator
from medical_gans.io import Volume
from medical_gans.networks import ResnetGenerator
from medical_gans.transforms import unit_to_hounsfield


def generator(dims: int, norm: str, upsampling: str = "resize") -> nn.Module:
    torch.manual_seed(0)
    options = {"width": 4, "blocks": 1} if dims == 2 else {"width": 4, "blocks": 0}
    made = ResnetGenerator(spatial_dims=dims, norm=norm, upsampling=upsampling, **options).eval()
    for name, tensor in made.state_dict().items():
        if tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor)
        elif name.endswith("running_mean"):
            tensor.uniform_(-0.5, 0.5)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return made


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("norm", "upsampling", "hounsfield"),
    [
        ("none", "resize", 1e-3),
        ("none", "transposed", 1e-2),
        ("batch", "resize", 1e-3),
        ("instance", "resize", 0.1),
        ("instance", "transposed", 0.1),
    ],
)
def test_tiles_equal_the_whole(dims, norm, upsampling, hounsfield):
    network = generator(dims, norm, upsampling)
    images = torch.randn(2, 1, *((76, 120) if dims == 2 else (16, 16, 72)))
    with torch.inference_mode():
        whole = unit_to_hounsfield(network(images))
        tiled = unit_to_hounsfield(TiledGenerator(network, 16)(images))
    assert whole.std() > 10
    assert (whole - tiled).abs().max() < hounsfield


def test_a_halo_narrower_than_the_network_sees_would_show():
    """The test above can fail."""
    network = generator(2, "none")
    network.receptive_radius = 8
    images = torch.randn(1, 1, 76, 120)
    with torch.inference_mode():
        assert (network(images) - TiledGenerator(network, 16)(images)).abs().max() > 1e-3


def test_a_tiled_volume_has_no_seam():
    rng = np.random.default_rng(0)
    mr = np.zeros((72, 64, 12), dtype=np.int16)
    mr[8:-8, 8:-8, 2:-2] = rng.integers(200, 900, (56, 48, 8))
    volume = Volume(mr, np.diag([1.0, 1.0, 2.0, 1.0]), "mr.nii.gz")
    whole = SliceSynthesis([generator(2, "none")])(volume).hounsfield
    tiled = SliceSynthesis([generator(2, "none")], tile=16)(volume).hounsfield
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_a_network_that_does_not_say_how_far_it_sees_is_refused():
    with pytest.raises(SettingError, match="receptive_radius"):
        TiledGenerator(nn.Conv2d(1, 1, 3, padding=1), 16)


def test_norms_over_the_image_other_than_instance_norm_are_refused():
    network = generator(2, "none")
    network.layers.append(nn.GroupNorm(1, 1))
    with pytest.raises(SettingError, match="GroupNorm"):
        TiledGenerator(network, 16)

"""Promises of the patch discriminator."""

import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.networks import patch_discriminator


def test_a_logit_of_the_default_sees_seventy_voxels():
    discriminator = patch_discriminator(norm="none", width=4)
    for parameter in discriminator.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 0.2)
    image = torch.rand(1, 1, 160, 160, requires_grad=True)
    logits = discriminator(image)[-1]
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1)).ravel()
    assert int(rows.max() - rows.min()) + 1 == 70


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_norm_judges_a_single_image(norm, spatial_dims):
    discriminator = patch_discriminator(spatial_dims, 2, width=4, layers=2, norm=norm).train()
    logits = discriminator(torch.randn(1, 2, *[32] * spatial_dims))[-1]
    assert logits.shape[:2] == (1, 1)


def test_spectral_norm_bounds_every_convolution_by_one():
    torch.manual_seed(0)
    discriminator = patch_discriminator(norm="none", width=8, spectral_norm=True)
    image = torch.randn(2, 1, 64, 64)
    for _ in range(30):
        discriminator(image)
    for module in discriminator.modules():
        if isinstance(module, torch.nn.Conv2d):
            largest = torch.linalg.matrix_norm(module.weight.detach().flatten(1), ord=2)
            assert largest == pytest.approx(1.0, abs=2e-2)


def test_unknown_norm_is_named():
    with pytest.raises(SettingError, match="layer"):
        patch_discriminator(norm="layer")


def test_without_norm_the_scale_of_the_features_survives_all_layers():
    torch.manual_seed(0)
    logits = patch_discriminator(norm="none", width=16)(torch.randn(4, 1, 96, 96))[-1]
    assert 0.3 < float(logits.std()) < 3

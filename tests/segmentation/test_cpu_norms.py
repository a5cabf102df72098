"""Instance norm as a layer norm: the same function, for inference on a CPU."""

import pytest
import torch
from torch import nn

from medical_gans.inference.lesions.cpu_norms import VoxelNorm, with_fast_norms


@pytest.mark.parametrize("size", [(20, 20, 20), (5, 7, 3)])
def test_fast_norms_are_instance_norms(size):
    features = 3 * torch.randn(2, 8, *size, dtype=torch.float64) + 1
    network = nn.Sequential(nn.InstanceNorm3d(8), nn.PReLU(), nn.InstanceNorm3d(8, affine=True))
    expected = network(features.float())
    with_fast_norms(network)
    assert isinstance(network[0], VoxelNorm) and isinstance(network[2], nn.InstanceNorm3d)
    by_hand = (features - features.mean((2, 3, 4), keepdim=True)) / (
        features.var((2, 3, 4), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    assert torch.allclose(network[0](features.float()).double(), by_hand, atol=1e-5)
    assert torch.allclose(network(features.float()), expected, atol=1e-5)

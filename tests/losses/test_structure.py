"""Structure losses: against loops in numpy, and for what they promise about contrast."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medical_gans.losses import gradient_correlation_loss, mind_descriptor, mind_loss

LOSSES = [mind_loss, gradient_correlation_loss]


def blobs(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth random anatomy in [-1, 1], `(1, 1, *shape)`."""
    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return torch.as_tensor(image / np.abs(image).max(), dtype=torch.float32)[None, None]


def disc(inside: float, ring: float, outside: float, shift: int = 0) -> torch.Tensor:
    """A limb with a bone cortex, 64 x 64."""
    y, x = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(y, x - shift)
    image = np.where(radius < 10, inside, np.where(radius < 14, ring, outside))
    image = np.where(np.hypot(y, x) < 27, image, -1.0)
    return torch.as_tensor(gaussian_filter(image, 0.7), dtype=torch.float32)[None, None]


MR = disc(inside=0.7, ring=-0.9, outside=0.2)
CT = disc(inside=0.1, ring=0.8, outside=0.15)
CT_SHIFTED = disc(inside=0.1, ring=0.8, outside=0.15, shift=4)


@pytest.mark.parametrize("shape", [(9, 8), (6, 5, 7)])
def test_mind_equals_its_definition_in_loops(shape):
    image = blobs(*shape)[0, 0].numpy().astype(np.float64)
    dimensions = image.ndim

    def value(position):
        return image[tuple(np.clip(position, 0, np.array(shape) - 1))]

    offsets = [sign * step for step in np.eye(dimensions, dtype=int) for sign in (-1, 1)]
    box = list(itertools.product((-1, 0, 1), repeat=dimensions))
    distance = np.zeros((len(offsets), *shape))
    for voxel in np.ndindex(shape):
        inside = [p for p in (np.add(voxel, b) for b in box) if (p >= 0).all() and (p < shape).all()]
        for number, offset in enumerate(offsets):
            distance[(number, *voxel)] = np.mean([(value(p) - value(p + offset)) ** 2 for p in inside])
    variance = distance.mean(0)
    variance = variance + 0.01 * variance.mean() + 1e-8
    expected = np.exp(-(distance - distance.min(0)) / variance)
    got = mind_descriptor(torch.as_tensor(image)[None, None])[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_gradient_correlation_equals_its_definition_in_loops():
    first, second = (blobs(9, 10, seed=seed)[0, 0].numpy().astype(np.float64) for seed in (1, 2))
    p, q = (np.stack(np.gradient(image))[:, 1:-1, 1:-1] for image in (first, second))
    boxes = {}
    for name, product in {"pp": p * p, "qq": q * q, "pq": p * q}.items():
        product = product.sum(0)
        boxes[name] = np.array(
            [
                [product[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3].mean() for j in range(product.shape[1])]
                for i in range(product.shape[0])
            ]
        )
    pp, qq, pq = boxes["pp"], boxes["qq"], boxes["pq"]
    correlation = pq**2 / ((pp + 0.01 * pp.mean()) * (qq + 0.01 * qq.mean()))
    weight = np.sqrt(pp) / np.sqrt(pp).mean() + np.sqrt(qq) / np.sqrt(qq).mean()
    expected = ((1 - correlation) * weight).sum() / weight.sum()
    got = gradient_correlation_loss(torch.as_tensor(first)[None, None], torch.as_tensor(second)[None, None])
    assert got.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", [(40, 36), (14, 12, 13)])
def test_identical_structure_costs_nothing(shape):
    image = blobs(*shape)
    assert mind_loss(image, image).item() == 0
    assert gradient_correlation_loss(image, image).item() < 0.03


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("scale", "shift"), [(-1, 0), (0.3, 0.5), (-0.4, -0.2)])
def test_scale_shift_and_inversion_of_intensity_change_nothing(loss, scale, shift):
    source, synthetic = blobs(40, 36), blobs(40, 36, seed=1)
    changed = loss(source, scale * synthetic + shift).item()
    assert changed == pytest.approx(loss(source, synthetic).item(), abs=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_gentle_monotone_map_costs_far_less_than_other_anatomy(loss):
    """Only affine maps are exactly free: others change the ratio of differences within a box."""
    image = blobs(48, 48)
    other = loss(image, blobs(48, 48, seed=1)).item()
    assert loss(image, torch.tanh(-2 * image)).item() < other / 4


@pytest.mark.parametrize("loss", LOSSES)
def test_dark_bone_on_mr_matches_bright_bone_on_ct_and_not_when_it_moved(loss):
    in_place, moved = loss(MR, CT).item(), loss(MR, CT_SHIFTED).item()
    assert moved > 1.5 * in_place


@pytest.mark.parametrize("loss", LOSSES)
def test_removed_and_invented_bone_cost(loss):
    without_bone = disc(inside=0.15, ring=0.15, outside=0.15)
    assert loss(MR, without_bone).item() > 1.2 * loss(MR, CT).item()
    assert loss(without_bone, CT).item() > 1.2 * loss(CT, CT).item() + 0.05


def test_gradient_descent_on_the_structure_moves_the_bone_back():
    """The gradient of both losses at a shifted bone points to the bone in its place."""
    for loss in LOSSES:
        shift = torch.linspace(0, 1, 5)
        costs = [loss(MR, torch.lerp(CT_SHIFTED, CT, share)).item() for share in shift]
        assert costs[-1] == min(costs)
        synthetic = CT_SHIFTED.clone().requires_grad_()
        loss(MR, synthetic).backward()
        assert (synthetic.grad * (CT - CT_SHIFTED)).sum() < 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_flat_images_give_finite_values_and_gradients(loss, dtype):
    flat = torch.full((2, 1, 16, 16), -1.0, dtype=dtype)
    for source, synthetic in ((flat, flat), (MR[..., :16, :16].to(dtype).expand(2, -1, -1, -1), flat)):
        synthetic = synthetic.clone().requires_grad_()
        cost = loss(source, synthetic)
        cost.backward()
        assert torch.isfinite(cost) and torch.isfinite(synthetic.grad).all()
    assert loss(flat, flat).item() == 0


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 5)])
def test_gradient_of_mind_equals_finite_differences(shape):
    source, synthetic = (blobs(*shape, seed=seed).double() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda image: mind_loss(source, image), synthetic.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
def test_images_of_two_shapes_are_refused(loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))

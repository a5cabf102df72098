"""What the discriminator sees is changed, what the generator learns is not."""

import pytest
import torch

from medical_gans.transforms.discriminator_augmentation import DifferentiableAugmentation


@pytest.fixture
def images():
    return torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_without_strength_nothing_changes(images):
    assert torch.equal(DifferentiableAugmentation(translation=0.0)(images), images)


def test_a_shift_moves_whole_images_and_repeats_the_border():
    ramp = torch.arange(16.0).expand(64, 1, 16, 16)
    torch.manual_seed(0)
    shifted = DifferentiableAugmentation(translation=0.25)(ramp)
    moved = {tuple(image[0, 0].tolist()) for image in shifted}
    possible = {tuple(float(min(max(c + s, 0), 15)) for c in range(16)) for s in range(-4, 5)}
    assert moved <= possible
    assert len(moved) > 4


def test_flip_mirrors_left_right_only():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).expand(40, 1, 4, 4)
    torch.manual_seed(0)
    flipped = DifferentiableAugmentation(translation=0.0, flip=True)(image)
    kinds = {tuple(one.flatten().tolist()) for one in flipped}
    assert kinds == {tuple(image[0].flatten().tolist()), tuple(image[0].flip(-1).flatten().tolist())}


def test_contrast_keeps_the_mean_and_level_keeps_the_contrast(images):
    torch.manual_seed(0)
    stretched = DifferentiableAugmentation(translation=0.0, contrast=0.5)(images)
    torch.testing.assert_close(stretched.mean((1, 2, 3)), images.mean((1, 2, 3)))
    raised = DifferentiableAugmentation(translation=0.0, level=0.5)(images)
    torch.testing.assert_close(raised.std((1, 2, 3)), images.std((1, 2, 3)))
    assert not torch.allclose(raised.mean((1, 2, 3)), images.mean((1, 2, 3)))


def test_cutout_blanks_about_its_share():
    torch.manual_seed(0)
    cut = DifferentiableAugmentation(translation=0.0, cutout=0.5)(torch.ones(400, 1, 16, 16))
    # a centre is anywhere, so a part of the square lies outside: per axis 1/2 - 1/16 is left on average
    assert (cut == 0).float().mean().item() == pytest.approx((0.5 - 0.0625) ** 2, abs=0.02)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 1, 8, 8, 8)])
def test_the_gradient_passes_in_two_and_three_dimensions(shape):
    torch.manual_seed(0)
    images = torch.randn(shape, requires_grad=True)
    augment = DifferentiableAugmentation(translation=0.125, cutout=0.25, level=0.1, contrast=0.1, flip=True)
    augmented = augment(images)
    assert augmented.shape == images.shape
    augmented.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0

"""Generator and discriminator of nodules."""

import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.networks import nodule_discriminator, nodule_generator


@pytest.mark.parametrize(("dims", "size"), [(2, 16), (3, 8)])
@pytest.mark.parametrize(("preset", "classes"), [("resnet", 3), ("resnet", 0), ("dcgan", 0)])
def test_a_latent_vector_becomes_a_patch_and_a_patch_a_logit(preset, classes, dims, size):
    torch.manual_seed(0)
    generator = nodule_generator(preset, dims, size, latent_size=6, num_classes=classes, width=2)
    judge = nodule_discriminator(preset, dims, size, num_classes=classes, width=2)
    label = torch.tensor([0, 1, 2]) if classes else None
    patch = generator(torch.randn(3, 6), label)
    assert patch.shape == (3, 1, *[size] * dims)
    assert patch.abs().max() <= 1
    assert judge(patch, label).shape == (3, 1)
    assert judge.features(patch).ndim == 2


def test_the_papers_sizes():
    """7 -> 14 -> 28 -> 56 in the generator, 56 -> 28 -> 14 -> dense in the discriminator."""
    shapes = []
    generator = nodule_generator("dcgan", num_classes=0, latent_size=100, width=64).eval()
    judge = nodule_discriminator("dcgan", num_classes=0, width=64).eval()
    for network in (generator, judge):
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _, given, made: shapes.append((given[0].shape[-1], made.shape[-1])))
    judge(generator(torch.randn(1, 100)))
    assert shapes == [(7, 14), (14, 28), (28, 56), (56, 28), (28, 14)]
    assert judge.judge.in_features == 128 * 14 * 14


def test_the_class_changes_the_patch_and_the_verdict():
    torch.manual_seed(0)
    generator = nodule_generator(size=16, width=2).eval()
    judge = nodule_discriminator(size=16, width=2).eval()
    latent = torch.randn(1, 128)
    benign, malignant = (generator(latent, torch.tensor([label])) for label in (0, 1))
    assert not torch.allclose(benign, malignant)
    assert judge(benign, torch.tensor([0])) != judge(benign, torch.tensor([1]))


def test_each_layer_of_the_discriminator_is_bounded():
    judge = nodule_discriminator(size=16, width=4)
    for _ in range(30):  # power iteration
        judge(torch.randn(2, 1, 16, 16), torch.tensor([0, 1]))
    judge.eval()
    for name, module in judge.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding):
            largest = torch.linalg.matrix_norm(module.weight.flatten(1), ord=2)
            assert largest.item() == pytest.approx(1.0, abs=0.05), name


def test_the_features_of_a_patch_do_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    judge = nodule_discriminator(size=16, width=2).eval()
    patches = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(judge.features(patches)[:1], judge.features(patches[:1]))
    alone, among = judge(patches[:1], torch.tensor([0])), judge(patches, torch.zeros(4, dtype=torch.int64))[:1]
    assert alone != among  # the logit does: it sees the spread of the batch


def test_bad_choices_are_refused_in_plain_words():
    with pytest.raises(SettingError, match="size is 50; give a multiple of 8"):
        nodule_generator(size=50)
    with pytest.raises(SettingError, match="size is 50; give a multiple of 8"):
        nodule_generator("dcgan", size=50, num_classes=0)
    with pytest.raises(SettingError, match="Set num_classes to 0"):
        nodule_generator("dcgan")
    with pytest.raises(SettingError, match="preset is 'unet'; choose resnet or dcgan"):
        nodule_discriminator("unet")
    with pytest.raises(ValueError, match="needs the class"):
        nodule_generator(size=8, width=2)(torch.randn(1, 128))


def test_the_grain_follows_from_the_latent_vector_and_is_as_good_as_white():
    from medical_gans.networks.nodule_generator import LatentNoise

    torch.manual_seed(0)
    grain = LatentNoise(2, 32, channels=1, latent_size=128, condition_size=4)
    torch.nn.init.ones_(grain.level.bias)
    empty, condition = torch.zeros(1, 1, 32, 32), torch.zeros(1, 4)
    latent = torch.randn(1, 128)
    first, again, other = (grain(empty, z, condition)[0, 0] for z in (latent, latent, torch.randn(1, 128)))
    assert torch.equal(first, again)
    assert first.mean().item() == pytest.approx(0, abs=0.1)
    assert first.var().item() == pytest.approx(1, abs=0.1)
    neighbours = (first[:, 1:] * first[:, :-1]).mean().item()
    assert neighbours == pytest.approx(0, abs=0.1)
    assert (first * other).mean().item() == pytest.approx(0, abs=0.1)


def test_the_condition_sets_the_level_of_the_grain():
    from medical_gans.networks.nodule_generator import LatentNoise

    grain = LatentNoise(3, 8, channels=2, latent_size=16, condition_size=1)
    torch.nn.init.ones_(grain.level.weight)
    torch.nn.init.zeros_(grain.level.bias)
    empty, latent = torch.zeros(2, 2, 8, 8, 8), torch.randn(1, 16).expand(2, -1)
    made = grain(empty, latent, torch.tensor([[0.0], [3.0]]))
    assert made[0].abs().max() == 0
    assert made[1].std().item() == pytest.approx(3, rel=0.1)


def test_one_tensor_drives_a_generator_with_classes_as_two_do():
    torch.manual_seed(0)
    generator = nodule_generator(size=16, latent_size=8, num_classes=3, width=2, noise=True).eval()
    latent, label = torch.randn(3, 8), torch.tensor([2, 0, 1])
    both = torch.cat([latent, torch.nn.functional.one_hot(label, 3)], 1)
    with torch.no_grad():
        expected = generator(latent, label)
        torch.testing.assert_close(generator(both), expected)
        torch.testing.assert_close(torch.jit.script(generator)(both), expected)
        torch.testing.assert_close(torch.jit.script(generator)(latent, label), expected)

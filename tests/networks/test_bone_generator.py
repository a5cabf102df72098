"""Promises of the generator with a branch for bone."""

import numpy as np
import pytest
import torch

from medical_gans.errors import SettingError
from medical_gans.networks import BoneGenerator
from medical_gans.networks.bone_generator import HOUNSFIELD_CURVE
from medical_gans.transforms import HOUNSFIELD_KNOTS, hounsfield_to_unit, unit_to_hounsfield


@pytest.mark.parametrize("size", [(16, 24), (13, 30), (3, 5)])
def test_output_has_the_size_of_any_input_and_lies_between_minus_one_and_one(size):
    generator = BoneGenerator(2, 3, 1, widths=(4, 8, 8), blocks=(1, 1, 2))
    made = generator(20 * torch.randn(2, 3, *size))
    assert made.shape == (2, 1, *size)
    assert made.abs().max() <= 1


def test_blocks_of_three_dimensions_are_translated():
    assert BoneGenerator(3, 1, 1, widths=(4, 8), blocks=(1, 1))(torch.randn(1, 1, 8, 6, 5)).shape == (1, 1, 8, 6, 5)


def test_soft_tissue_and_bone_are_mixed_in_hounsfield():
    generator = BoneGenerator(widths=(4, 8), blocks=(1, 1))
    assert HOUNSFIELD_CURVE == HOUNSFIELD_KNOTS
    soft, bone = (torch.from_numpy(hounsfield_to_unit([[[[hu]]]])) for hu in (-90.0, 1500.0))
    for p in (0.0, 0.25, 0.5, 1.0):
        made = unit_to_hounsfield(generator.mixture(torch.full((1, 1, 1, 1), p), soft, bone))
        assert float(made) == pytest.approx((1 - p) * -90 + p * 1500, abs=0.5)


def test_sharpness_and_threshold_change_the_mixture_and_not_the_branches():
    torch.manual_seed(0)
    plain = BoneGenerator(widths=(4, 8), blocks=(1, 1))
    sharp = BoneGenerator(widths=(4, 8), blocks=(1, 1), sharpness=50.0, threshold=-2.0)
    sharp.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        logit, soft, bone, _ = plain.branches(image)
        assert all(torch.equal(a, b) for a, b in zip((logit, soft, bone), sharp.branches(image)[:3], strict=True))
        expected = torch.where(logit > -2.0, bone, soft)
        clear = (logit + 2.0).abs() > 0.3
        assert torch.allclose(sharp(image)[clear], expected[clear], atol=1e-3)


def test_cortex_has_a_threshold_of_its_own_and_spongy_bone_keeps_its_own():
    torch.manual_seed(0)
    plain = BoneGenerator(widths=(4, 8), blocks=(1, 1))
    image = torch.randn(1, 1, 16, 16)
    for bone_hu, threshold in ((250.0, 0.0), (450.0, 1.0), (900.0, 2.0)):
        network = BoneGenerator(widths=(4, 8), blocks=(1, 1), cortex_threshold=2.0)
        network.load_state_dict(plain.state_dict())
        with torch.no_grad():
            network.head.weight[2] = 0.0
            network.head.bias[2] = float(np.arctanh(hounsfield_to_unit(np.float32(bone_hu))))
            logit, soft, bone, _ = network.branches(image)
            expected = network.mixture((logit - threshold).sigmoid(), soft, bone)
            assert torch.allclose(network(image), expected, atol=1e-4), bone_hu


def test_a_gain_raises_bone_above_300_and_nothing_else():
    torch.manual_seed(0)
    plain = BoneGenerator(widths=(4, 8), blocks=(1, 1), sharpness=50.0)
    gained = BoneGenerator(widths=(4, 8), blocks=(1, 1), sharpness=50.0, bone_gain=1.25)
    for bone_hu, expected in ((200.0, 200.0), (300.0, 300.0), (700.0, 800.0), (2300.0, 2400.0)):
        for network in (plain, gained):
            network.load_state_dict(plain.state_dict())
            with torch.no_grad():
                network.head.weight.zero_()
                network.head.bias[:] = torch.tensor(
                    [9.0, 0.0, float(np.arctanh(hounsfield_to_unit(np.float32(bone_hu))))]
                )
        image = torch.zeros(1, 1, 8, 8)
        assert float(unit_to_hounsfield(gained(image)).mean()) == pytest.approx(expected, abs=1.0)
        assert float(unit_to_hounsfield(plain(image)).mean()) == pytest.approx(bone_hu, abs=1.0)


def test_tissues_of_the_brain_are_classes_mixed_in_hounsfield():
    torch.manual_seed(0)
    network = BoneGenerator(2, 2, 2, widths=(4, 8), blocks=(1, 1), brain_hounsfield=(7.0, 39.0, 25.0))
    plain = BoneGenerator(2, 2, 2, widths=(4, 8), blocks=(1, 1))
    plain.load_state_dict({n: t for n, t in network.state_dict().items() if not n.startswith("brain.")})
    image = torch.randn(1, 2, 16, 12)
    with torch.no_grad():
        network.brain[-1].weight.normal_()
        _, soft, _, logits = network.branches(image)
        _, other, _, none = plain.branches(image)
    assert logits.shape == (1, 8, 16, 12) and none.shape[1] == 0
    shares = np.exp(logits.numpy().reshape(4, 2, 16, 12).astype(np.float64))
    shares /= shares.sum(0)
    expected = shares[0] * unit_to_hounsfield(other[0]).numpy() + shares[1] * 7 + shares[2] * 39 + shares[3] * 25
    np.testing.assert_allclose(unit_to_hounsfield(soft[0]).numpy(), expected, atol=0.05)


def test_sharp_tissues_are_the_likeliest_ones_and_change_no_branch():
    torch.manual_seed(0)
    plain = BoneGenerator(widths=(4, 8), blocks=(1, 1), brain_hounsfield=(7.0, 39.0))
    with torch.no_grad():
        plain.brain[-1].weight.normal_()
        plain.head.bias[0] = -99.0  # no bone
        plain.brain[-1].bias[0] = -999.0  # all is brain
    sharp = BoneGenerator(widths=(4, 8), blocks=(1, 1), brain_hounsfield=(7.0, 39.0), brain_sharpness=1000.0)
    sharp.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(plain.branches(image), sharp.branches(image), strict=True))
        likeliest, made = sharp.branches(image)[3].argmax(1), unit_to_hounsfield(sharp(image))[:, 0]
    for tissue, hounsfield in ((1, 7.0), (2, 39.0)):
        found = made[likeliest == tissue]
        assert len(found) > 9 and ((found - hounsfield).abs() < 0.5).float().mean() > 0.95


def test_a_network_without_tissues_keeps_the_weights_that_it_had():
    names = set(BoneGenerator(widths=(4, 8), blocks=(1, 1)).state_dict())
    assert not any(name.startswith("brain.") for name in names)


def test_the_brain_survives_torchscript():
    torch.manual_seed(0)
    network = BoneGenerator(widths=(4, 8), blocks=(1, 1), brain_hounsfield=(7.0, 39.0)).eval()
    image = torch.randn(1, 1, 9, 12)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize("brain", [(), (7.0, 39.0)])
def test_a_voxel_sees_no_farther_than_the_receptive_radius(brain):
    torch.manual_seed(0)
    generator = BoneGenerator(2, 1, 1, widths=(4, 4, 4), blocks=(1, 1, 2), brain_hounsfield=brain).double()
    radius = generator.receptive_radius
    size = 2 * radius + 41
    image = torch.randn(1, 1, size, 8, dtype=torch.float64)
    changed = image.clone()
    changed[:, :, : size // 2 - radius] += 1.0
    with torch.no_grad():
        difference = (generator(image) - generator(changed)).abs().amax((0, 1, 3))
    assert float(difference[size // 2 :].max()) == 0
    assert float(difference[: size // 2 - radius].max()) > 0


def test_it_learns_bone_from_its_branches():
    torch.manual_seed(0)
    generator = BoneGenerator(widths=(4, 8), blocks=(1, 1))
    optimiser = torch.optim.Adam(generator.parameters(), 1e-2)
    image = torch.zeros(1, 1, 16, 16)
    image[:, :, 4:12, 4:12] = 1.0
    truth = torch.where(image > 0, 0.6, 0.0)
    first = None
    for _ in range(60):
        loss = (generator(image) - truth).abs().mean()
        first = first or float(loss)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.3 * first


def test_mistakes_are_named():
    with pytest.raises(SettingError, match="spatial_dims is 4"):
        BoneGenerator(4)
    with pytest.raises(SettingError, match="as many of both"):
        BoneGenerator(widths=(4, 8), blocks=(1,))

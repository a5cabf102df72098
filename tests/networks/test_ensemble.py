"""Promises of an ensemble: it says the mean of its members, treats both sides alike, and its card rebuilds it."""

import pytest
import torch
from monai.networks.nets import UNet

from medical_gans.errors import SettingError
from medical_gans.networks import Ensemble
from medical_gans.weights import WeightsCard, build_network, load_network, save_weights

UNET = {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2}
UNET |= {"channels": [2, 4], "strides": [2], "norm": "batch"}
TARGET = "medical_gans.networks.Ensemble"


def unet(seed):
    torch.manual_seed(seed)
    return UNet(3, 1, 2, [2, 4], [2], norm="batch").eval()


IMAGES = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))


def test_logits_are_the_mean_of_the_members():
    members = [unet(seed) for seed in range(3)]
    with torch.inference_mode():
        expected = sum(member(IMAGES) for member in members) / 3
        assert torch.allclose(Ensemble(members)(IMAGES), expected, atol=1e-6)


def test_a_mirrored_ensemble_says_of_the_mirror_image_the_mirror_of_what_it_says():
    made = Ensemble([unet(0)], mirrored=True).eval()
    with torch.inference_mode():
        assert torch.allclose(made(IMAGES.flip(2)), made(IMAGES).flip(2), atol=1e-6)
        plain = unet(0)
        assert torch.allclose(made(IMAGES), (plain(IMAGES) + plain(IMAGES.flip(2)).flip(2)) / 2, atol=1e-6)
        assert not torch.allclose(made(IMAGES), plain(IMAGES), atol=1e-3)


def test_offsets_move_the_probability_from_which_a_class_is_believed():
    made = Ensemble([unet(0)], offsets=(0.0, -1.386294)).eval()  # the logit of 0.2
    with torch.inference_mode():
        plain = unet(0)(IMAGES).softmax(1)[:, 1]
        assert torch.equal(made(IMAGES).argmax(1) == 1, plain > 0.8)
        assert (plain > 0.5).any() and not torch.equal(plain > 0.8, plain > 0.5)
        assert torch.allclose(made.train()(IMAGES).softmax(1)[:, 1], unet(0).train()(IMAGES).softmax(1)[:, 1])


def test_in_training_the_mirror_image_is_not_asked():
    member = unet(0)
    seen = []
    member.register_forward_hook(lambda *_: seen.append(1))
    Ensemble([member], mirrored=True).train()(IMAGES)
    assert len(seen) == 1


def test_weights_and_card_rebuild_it_and_torchscript_equals_it(tmp_path):
    members = [unet(seed) for seed in range(2)]
    made = Ensemble(members, mirrored=True, offsets=(0, -1)).eval()
    save_weights(tmp_path / "model.pt", made)
    WeightsCard(
        [2.0] * 3, network_def={"_target_": TARGET, "members": [UNET, UNET], "mirrored": True, "offsets": [0, -1]}
    ).save(tmp_path / "model.pt")
    again = load_network(tmp_path / "model.pt")
    with torch.inference_mode():
        assert torch.equal(again(IMAGES), made(IMAGES))
        assert torch.allclose(torch.jit.script(again)(IMAGES), made(IMAGES), atol=1e-6)


def test_an_ensemble_of_nothing_is_refused():
    with pytest.raises(SettingError, match="needs at least one member"):
        build_network({"_target_": TARGET, "members": []})

"""Fast layers make what the trained ones make."""

import copy
import time

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from medical_gans.inference.synthesis.cpu_layers import (
    NarrowConvolution,
    PackedConvolution,
    with_fast_layers,
)
from medical_gans.inference.synthesis.generators import Generators
from medical_gans.networks import BoneGenerator, ResnetGenerator
from medical_gans.networks.layout import computes_in_bfloat16
from medical_gans.networks.resnet_generator import ResidualGenerator
from medical_gans.transforms import unit_to_hounsfield

NETWORKS = {
    "bone": lambda: BoneGenerator(2, 3, 3, widths=(8, 16, 24), blocks=(1, 2, 2)),
    "residual": lambda: ResnetGenerator(width=8, blocks=2),
    "change": lambda: ResidualGenerator(width=8, blocks=2),
    "instance norm": lambda: ResnetGenerator(width=8, blocks=1, norm="instance"),
    "transposed": lambda: ResnetGenerator(width=8, blocks=1, upsampling="transposed"),
    "of MONAI": lambda: UNet(2, 1, 1, channels=(8, 16), strides=(2,), num_res_units=1),
}


def _trained(name: str) -> nn.Module:
    """A network none of whose layers is nothing."""
    torch.manual_seed(3)
    network = NETWORKS[name]().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def _images(network: nn.Module) -> torch.Tensor:
    channels = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).in_channels
    return (torch.rand(2, channels, 44, 60) * 2 - 1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NETWORKS)
def test_fast_layers_make_what_the_trained_ones_make(name):
    network = _trained(name)
    images = _images(network)
    expected = network(images)
    fast = copy.deepcopy(network)
    assert with_fast_layers(fast)
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast(images), expected, rtol=1e-4, atol=1e-5)  # nothing that is kept was changed
        torch.testing.assert_close(
            fast(images[:1, :, :20, :24]), network(images[:1, :, :20, :24]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["bone", "residual", "change"])
def test_every_convolution_of_our_generators_is_a_fast_one(name):
    fast = _trained(name)
    with_fast_layers(fast)
    assert not any(isinstance(module, nn.Conv2d) for module in fast.modules())
    assert any(isinstance(module, PackedConvolution) for module in fast.modules())


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
@pytest.mark.parametrize("rectified", [False, True])
def test_packed_convolution_pads_and_strides_as_the_given_one(mode, rectified):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, (3, 5), stride=2, padding=(1, 2), padding_mode=mode).requires_grad_(False)
    images = torch.rand(2, 3, 14, 18)
    expected = convolution(images).relu() if rectified else convolution(images)
    packed = PackedConvolution(convolution, torch.float32, rectified)
    torch.testing.assert_close(packed(images), expected, rtol=1e-5, atol=1e-5)
    total = torch.rand_like(expected)
    if not rectified:
        torch.testing.assert_close(packed.added_to(total.clone(), images), total + expected, rtol=1e-5, atol=1e-5)


def _fastest(call) -> float:
    """Processor time on one thread, the best of five after one."""
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # several spend some on waiting
    for _ in range(6):
        begin = time.thread_time()
        call()
        times.append(time.thread_time() - begin)
    torch.set_num_threads(threads)
    return min(times[1:])


@pytest.mark.parametrize("size", [8, 12, 16, 20])
def test_features_of_no_size_wait_for_weights_laid_out_for_another(size):
    convolution = nn.Conv2d(128, 128, 3, padding=1).requires_grad_(False)
    packed = PackedConvolution(convolution, torch.float32)
    images = torch.rand(1, 128, size, size).contiguous(memory_format=torch.channels_last)
    convolution.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert _fastest(lambda: packed(images)) < 3 * _fastest(lambda: convolution(images))


def test_layouts_of_few_shapes_are_kept():
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    packed = PackedConvolution(convolution, torch.float32)
    for size in [*range(4, 40), *range(4, 8)]:
        images = torch.rand(1, 4, size, size)
        torch.testing.assert_close(packed(images), convolution(images), rtol=1e-5, atol=1e-5)
        assert 0 < len(packed.packed) <= 8


@pytest.mark.skipif(not computes_in_bfloat16(), reason="this CPU has no instructions for bfloat16")
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_on_a_cpu_stays_near_float32(name):
    network = _trained(name)
    images = _images(network)
    exact = Generators([network], torch.device("cpu"))
    mixed = Generators([network], torch.device("cpu"), amp=True)
    assert mixed.amp
    assert not exact.amp
    made, expected = (unit_to_hounsfield(one.translate(0, images)) for one in (mixed, exact))
    assert made.dtype == torch.float32
    assert 0 < (made - expected).abs().mean() < 0.02 * expected.std()


@pytest.mark.skipif(not computes_in_bfloat16(), reason="this CPU has no instructions for bfloat16")
def test_hounsfield_are_not_rounded_to_bfloat16():
    network = _trained("bone")
    made = Generators([network], torch.device("cpu"), amp=True).translate(0, _images(network))
    assert (made != made.bfloat16().float()).float().mean() > 0.5


def test_fast_layers_leave_the_given_network_as_it_is():
    network = _trained("bone")
    before = copy.deepcopy(network.state_dict())
    Generators([network], torch.device("cpu"), amp=True).translate(0, _images(network))
    assert not any(isinstance(module, PackedConvolution | NarrowConvolution) for module in network.modules())
    torch.testing.assert_close(dict(network.state_dict()), dict(before), rtol=0, atol=0)

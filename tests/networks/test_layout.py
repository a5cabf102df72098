"""Fast layers are those that they stand for, forwards and backwards."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from medical_gans.networks import ResnetGenerator, fast_layout, patch_discriminator
from medical_gans.networks.layout import LastChannelInstanceNorm, ResizeConvolution, RowConvolution


def _with_gradients(layer, features, *parameters):
    features = features.clone().requires_grad_()
    made = layer(features)
    weights = torch.linspace(-1, 1, made.numel()).view(made.shape)
    return [made.detach(), *torch.autograd.grad((made * weights).sum(), [features, *parameters])]


def _assert_same(ours, plain):
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(2, 3, 5, 8), (1, 4, 6, 6)])
def test_resizing_convolution_is_upsampling_and_a_convolution(sizes):
    torch.manual_seed(0)
    layer = ResizeConvolution(sizes[1], 5, 3, padding=1)

    def plain(x):
        return functional.conv2d(functional.interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)

    features = torch.randn(sizes)
    _assert_same(
        _with_gradients(layer, features, layer.weight, layer.bias),
        _with_gradients(plain, features, layer.weight, layer.bias),
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_row_convolution_is_the_convolution(mode):
    torch.manual_seed(0)
    layer = RowConvolution(6, 1, 7, padding=3, padding_mode=mode)
    plain = nn.Conv2d(6, 1, 7, padding=3, padding_mode=mode)
    plain.load_state_dict(layer.state_dict())
    features = torch.randn(2, 6, 12, 9).contiguous(memory_format=torch.channels_last)
    _assert_same(
        _with_gradients(layer, features, layer.weight, layer.bias),
        _with_gradients(plain, features, plain.weight, plain.bias),
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_instance_norm_in_channels_last_is_instance_norm(batch):
    torch.manual_seed(0)
    features = (3 + torch.randn(batch, 5, 9, 7)).contiguous(memory_format=torch.channels_last)
    for training in (True, False):
        layer = LastChannelInstanceNorm(5).train(training)
        _assert_same(_with_gradients(layer, features), _with_gradients(nn.InstanceNorm2d(5), features))
    assert layer(features[:1]).is_contiguous(memory_format=torch.channels_last)


def test_fast_layout_changes_neither_results_nor_names():
    torch.manual_seed(0)
    plain = nn.ModuleDict(
        {
            "generator": ResnetGenerator(width=4, blocks=1, norm="instance", upsampling="transposed"),
            "discriminator": patch_discriminator(width=4, layers=2, norm="instance"),
        }
    )
    fast = fast_layout(copy.deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert not any(type(module) is nn.InstanceNorm2d for module in fast.modules())
    images = torch.randn(1, 1, 32, 40)
    torch.testing.assert_close(fast["generator"](images), plain["generator"](images), rtol=1e-4, atol=1e-5)
    for one, other in zip(fast["discriminator"](images), plain["discriminator"](images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_norms_with_weights_of_their_own_are_left_alone():
    norm = nn.InstanceNorm2d(3, affine=True)
    assert fast_layout(nn.ModuleDict({"norm": norm}))["norm"] is norm


def test_a_generator_stored_before_is_the_same_network():
    torch.manual_seed(0)
    generator = ResnetGenerator(width=4, blocks=1).eval()
    layers = [
        nn.Sequential(nn.Upsample(scale_factor=2.0), _plain(layer)) if isinstance(layer, ResizeConvolution) else layer
        for layer in generator.layers
    ]
    before = nn.Sequential(*[_plain(layer) if isinstance(layer, RowConvolution) else layer for layer in layers])
    images = torch.randn(2, 1, 24, 16)
    torch.testing.assert_close(generator(images), before(images), rtol=1e-4, atol=1e-5)
    names = [name for name in generator.state_dict() if name.endswith("weight")]
    assert names == [f"layers.{n}.weight" for n in (0, 2, 4)] + [
        "layers.6.branch.0.weight",
        "layers.6.branch.2.weight",
        "layers.8.weight",
        "layers.11.weight",
        "layers.13.weight",
    ]


def _plain(convolution):
    plain = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        padding=convolution.padding,
        padding_mode=convolution.padding_mode,
    )
    plain.load_state_dict(convolution.state_dict())
    return plain


def test_a_generator_goes_to_onnx_for_any_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    generator = ResnetGenerator(width=4, blocks=1).eval()
    path = tmp_path / "generator.onnx"
    axes = {0: "batch", 2: "height", 3: "width"}
    example = torch.rand(1, 1, 16, 24)
    names = {"input_names": ["mr"], "output_names": ["ct"], "dynamic_axes": {"mr": axes, "ct": axes}}
    torch.onnx.export(generator, (example,), path, dynamo=False, opset_version=17, **names)
    images = torch.rand(2, 1, 32, 20)
    (made,) = onnxruntime.InferenceSession(path).run(None, {"mr": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(made), generator(images).detach(), rtol=1e-4, atol=1e-5)

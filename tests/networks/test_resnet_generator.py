"""Promises of the residual generator."""

import io

import numpy as np
import pytest
import torch
from scipy import signal

from medical_gans.errors import SettingError
from medical_gans.networks import ResidualGenerator, ResnetGenerator


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
@pytest.mark.parametrize("upsampling", ["resize", "transposed"])
def test_output_has_the_size_of_the_input_and_lies_between_minus_one_and_one(spatial_dims, norm, upsampling):
    generator = ResnetGenerator(spatial_dims, 3, 2, width=4, blocks=1, norm=norm, upsampling=upsampling)
    image = 20 * torch.randn(2, 3, *[16, 24, 8][:spatial_dims])
    made = generator(image)
    assert made.shape == (2, 2, *image.shape[2:])
    assert made.abs().max() <= 1


def test_smallest_generator_equals_scipy_convolutions():
    """Stem, two strided, two resized and the head, computed again with scipy."""
    torch.manual_seed(0)
    generator = ResnetGenerator(2, 1, 1, width=1, blocks=0, norm="none").double()
    image = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d)]

    def convolve(maps, layer):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return np.stack(
            [
                sum(signal.correlate2d(m, w, "valid") for m, w in zip(maps, row, strict=True)) + b
                for row, b in zip(weight, bias, strict=True)
            ]
        )

    def pad(maps, width, mode):
        return np.pad(maps, ((0, 0), (width, width), (width, width)), mode=mode)

    maps = np.maximum(convolve(pad(image[0].numpy(), 3, "reflect"), convolutions[0]), 0)
    for layer in convolutions[1:3]:
        maps = np.maximum(convolve(pad(maps, 1, "constant"), layer)[:, ::2, ::2], 0)
    for layer in convolutions[3:5]:
        maps = maps.repeat(2, axis=1).repeat(2, axis=2)
        maps = np.maximum(convolve(pad(maps, 1, "constant"), layer), 0)
    expected = np.tanh(convolve(pad(maps, 3, "reflect"), convolutions[5]))
    assert np.allclose(generator(image).detach().numpy()[0], expected, atol=1e-12)


def test_residual_branches_start_at_zero_without_norm():
    torch.manual_seed(0)
    generator = ResnetGenerator(width=4, blocks=5, norm="none")
    shared = [m for m in generator.layers if type(m).__name__ != "ResidualBlock"]
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(generator(image), torch.nn.Sequential(*shared)(image))
    assert len(shared) == len(generator.layers) - 5


def test_a_voxel_depends_on_nothing_beyond_the_receptive_radius():
    torch.manual_seed(0)
    generator = ResnetGenerator(width=2, blocks=2)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.3)
    for layer in generator.layers:
        if isinstance(layer, torch.nn.Tanh):
            generator.layers[-1] = torch.nn.Identity()
    image = torch.randn(1, 1, 160, 160, requires_grad=True)
    generator(image)[0, 0, 80, 80].backward()
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1)).ravel()
    reach = max(80 - int(rows.min()), int(rows.max()) - 80)
    assert reach <= generator.receptive_radius
    assert reach > generator.receptive_radius - 12


def test_resize_leaves_no_checkerboard_where_transposed_does():
    """Response to a constant image: period-two energy in the middle of the output."""

    def checkerboard(upsampling):
        torch.manual_seed(1)
        generator = ResnetGenerator(width=8, blocks=1, norm="none", upsampling=upsampling)
        generator.layers[-1] = torch.nn.Identity()
        middle = generator(torch.ones(1, 1, 64, 64)).detach()[0, 0, 24:40, 24:40]
        return float(middle.std() / middle.abs().mean())

    assert checkerboard("resize") < 1e-4
    assert checkerboard("transposed") > 1e-2


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_scripted_generator_gives_the_same_result(spatial_dims):
    generator = ResnetGenerator(spatial_dims, width=4, blocks=1).eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(generator), buffer)
    buffer.seek(0)
    image = torch.randn(1, 1, *[16] * spatial_dims)
    with torch.no_grad():
        assert torch.equal(torch.jit.load(buffer)(image), generator(image))


@pytest.mark.parametrize(
    "wrong", [{"spatial_dims": 1}, {"norm": "layer"}, {"upsampling": "bilinear"}, {"width": 0}, {"blocks": -1}]
)
def test_impossible_arguments_are_named(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(SettingError, match=f"{name}.*{value}"):
        ResnetGenerator(**wrong)


def test_a_residual_generator_begins_as_the_identity_and_learns_to_add():
    torch.manual_seed(0)
    generator = ResidualGenerator(channels=2, width=4, blocks=1)
    image = torch.rand(2, 2, 16, 16) - 0.5
    assert torch.equal(generator(image), image)
    optimiser = torch.optim.Adam(generator.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        loss = (generator(image) - (image + 0.3)).abs().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    assert generator(torch.ones(1, 2, 8, 8)).max() <= 1.0

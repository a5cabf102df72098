"""Synthesis puts every HU where its MR voxel was, whatever the file's axes, the planes and the spacing."""

import itertools
import tracemalloc

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy import ndimage
from torch import nn

from medical_gans.errors import InputError, SettingError
from medical_gans.inference.synthesis import SliceSynthesis
from medical_gans.inference.synthesis import generators as generators_module
from medical_gans.inference.synthesis.cpu_layers import NarrowConvolution
from medical_gans.inference.synthesis.generators import Generators
from medical_gans.inference.synthesis.neighbours import NeighbourMean, among_neighbours
from medical_gans.io import Volume
from medical_gans.networks import BoneGenerator, ResnetGenerator
from medical_gans.transforms import HOUNSFIELD_KNOTS, MR_CEILING

SHAPE = (44, 52, 36)
SPACING = (1.5, 1.0, 2.0)
HU, UNIT = np.transpose(HOUNSFIELD_KNOTS)


def volume(array: np.ndarray, affine: np.ndarray | None = None, spacing=SPACING) -> Volume:
    return Volume(array, np.diag([*spacing, 1.0]) if affine is None else affine, "mr.nii.gz")


def phantom(shape=SHAPE) -> np.ndarray:
    """A box of tissue with three lumps, none of which any flip or permutation maps to another."""
    mr = np.zeros(shape, dtype=np.int16)
    mr[8:36, 8:44, 6:30] = 400
    mr[12:18, 14:24, 9:13] = 800
    mr[28:32, 12:16, 20:26] = 600
    mr[14:18, 36:40, 22:24] = 100
    return mr


class Identity(nn.Module):
    """Gives back what it gets, so that HU are a known function of the MR voxel alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


class Constant(nn.Module):
    def __init__(self, hounsfield: float) -> None:
        super().__init__()
        self.unit = float(np.interp(hounsfield, HU, UNIT))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full_like(images, self.unit)


class Ramp(nn.Module):
    """HU that grow along the first axis of the image, whatever the image shows."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        unit = torch.linspace(-1, 1, images.shape[2])
        return unit[:, None].expand(images.shape).clone()


class Neighbour(nn.Module):
    """The first of the stacked slices, for the middle one; nothing is said of the others."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1].clone()


class BySize(nn.Module):
    """-500 HU on images as wide as they are in axial slices of `phantom`, else 300 or 1000 HU."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows, columns = images.shape[2:]
        hounsfield = {(44, 52): -500.0, (44, 36): 300.0, (52, 36): 1000.0}[rows, columns]
        return torch.full_like(images, float(np.interp(hounsfield, HU, UNIT)))


def random_generator(**options) -> nn.Module:
    torch.manual_seed(0)
    generator = ResnetGenerator(**{"width": 4, "blocks": 1, **options})
    for parameter in generator.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return generator


def hounsfield_of(mr: np.ndarray, reference: float) -> np.ndarray:
    """What `Identity` must give, by numpy alone."""
    unit = np.clip(mr * 2 / (MR_CEILING * reference) - 1, -1, 1)
    return np.rint(np.interp(unit, UNIT, HU))


def reference_intensity(mr: np.ndarray) -> float:
    return float(np.percentile(mr[8:36, 8:44, 6:30], 99))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_voxel_gets_the_hounsfield_of_its_own_intensity(plane):
    mr = phantom()
    made = SliceSynthesis([Identity()], planes=[plane])(volume(mr))
    inside = mr > 0
    np.testing.assert_array_equal(made.hounsfield[inside], hounsfield_of(mr, 800.0)[inside])
    assert made.hounsfield.dtype == np.int16
    assert made.standard_deviation is None


ORIENTATIONS = [
    np.array(list(zip(axes, flips, strict=True)))
    for axes in itertools.permutations(range(3))
    for flips in ((1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, -1))
]


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(nibabel.orientations.ornt2axcodes(o)))
def test_an_mr_stored_along_other_axes_gives_the_same_ct_along_those_axes(orientation, synthesised):
    synthesis, original = synthesised
    mr = phantom()
    stored = apply_orientation(mr, orientation)
    affine = np.diag([*SPACING, 1.0]) @ inv_ornt_aff(orientation, SHAPE)
    made = synthesis(volume(stored, affine))
    assert made.affine is affine
    np.testing.assert_array_equal(made.hounsfield, apply_orientation(original.hounsfield, orientation))
    np.testing.assert_array_equal(made.standard_deviation, apply_orientation(original.standard_deviation, orientation))


@pytest.fixture(scope="module")
def synthesised():
    synthesis = SliceSynthesis(
        [random_generator()], spacing=(2.0, 2.0, None), planes=["axial", "coronal", "sagittal"], flips=True
    )
    return synthesis, synthesis(volume(phantom()))


def test_an_oblique_mr_gives_its_ct_on_the_oblique_grid():
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(SPACING)
    affine[:3, 3] = (-31.4, 15.9, 26.5)
    mr = phantom()
    made = SliceSynthesis([Identity()])(volume(mr, affine))
    np.testing.assert_array_equal(made.affine, affine)
    np.testing.assert_array_equal(made.hounsfield[mr > 0], hounsfield_of(mr, 800.0)[mr > 0])


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.9), (1.9, 1.3, 2.7)])
def test_another_spacing_in_the_network_leaves_content_in_place(plane, spacing):
    """A smooth blob comes back with its centre within a tenth of a voxel."""
    grid = np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij")
    centre = (19.3, 28.6, 16.2)
    distance = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING, strict=True))
    mr = (100 + 900 * np.exp(-distance / (2 * 8.0**2))).astype(np.int16)
    kept = SliceSynthesis([Identity()], planes=[plane])(volume(mr)).hounsfield.astype(float)
    made = SliceSynthesis([Identity()], planes=[plane], spacing=spacing)(volume(mr)).hounsfield.astype(float)
    for other in (kept, made):
        weights = np.clip(other, -200, None) + 200
        found = [np.average(g, weights=weights) for g in grid]
        np.testing.assert_allclose(found, centre, atol=0.1)
    inner = (slice(12, -12),) * 3
    assert np.abs(made - kept)[inner].mean() < 40


def test_outside_the_body_is_air_and_everything_is_in_range():
    mr = phantom()
    made = SliceSynthesis([Constant(300)])(volume(mr)).hounsfield
    assert (made[mr > 0] == 300).all()
    far = np.ones(SHAPE, dtype=bool)
    far[8 - 8 : 36 + 8, 0:, 6 - 5 : 30 + 5] = False  # 8 mm around the body and the grid on which it is found
    assert far.any() and (made[far] == -1024).all()
    ramp = SliceSynthesis([Ramp()])(volume(mr)).hounsfield
    assert ramp.min() == -1024 and ramp.max() <= 3071


def test_several_weights_are_averaged_with_their_standard_deviation():
    mr, values = phantom(), [-100.0, 0.0, 340.0]
    made = SliceSynthesis([Constant(value) for value in values])(volume(mr))
    assert made.estimates == 3
    assert (made.hounsfield[mr > 0] == np.mean(values)).all()
    assert (made.standard_deviation[mr > 0] == round(np.std(values, ddof=1))).all()
    assert (made.standard_deviation[0, 0] == 0).all()


def test_of_three_planes_the_median_counts_and_the_deviation_is_kept():
    mr, values = phantom(), [-500.0, 300.0, 1000.0]
    made = SliceSynthesis([BySize()], planes="axial, coronal, sagittal", across=0)(volume(mr))
    assert (made.hounsfield[mr > 0] == np.median(values)).all()
    assert (made.standard_deviation[mr > 0] == round(np.std(values, ddof=1))).all()


def test_of_two_planes_the_mean_counts():
    mr = phantom()
    first, second = (SliceSynthesis([BySize()], planes=plane)(volume(mr)).hounsfield for plane in ("axial", "sagittal"))
    both = SliceSynthesis([BySize()], planes="axial, sagittal", across=0)(volume(mr)).hounsfield
    assert np.abs(both - (first.astype(float) + second) / 2)[mr > 0].max() <= 0.5


def test_each_plane_is_averaged_over_weights_and_mirror_images_before_their_median():
    mr, generators = volume(phantom()), [random_generator(), Ramp()]
    planes = [
        SliceSynthesis(generators, planes=plane, flips=True)(mr).hounsfield
        for plane in ("axial", "coronal", "sagittal")
    ]
    made = SliceSynthesis(generators, planes="axial, coronal, sagittal", flips=True, across=0)(mr)
    assert np.abs(made.hounsfield - np.median(planes, axis=0)).max() <= 1
    assert made.estimates == 10  # a sagittal slice is its own mirror image


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("distance", [0.7, 1.0, 2.0])
def test_slices_of_a_plane_are_averaged_with_those_beside_them(axis, distance):
    volume = np.random.default_rng(0).integers(-1024, 2000, (6, 7, 8)).astype(np.int16)
    share = np.exp(-(distance**2) / (2 * 0.8**2))
    kernel = np.array([share, 1, share]) / (1 + 2 * share)
    expected = ndimage.convolve1d(volume.astype(np.float64), kernel, axis=axis, mode="nearest")
    for index in (0, 3, 7):
        made = among_neighbours(volume, index, axis, distance, 0.8)
        np.testing.assert_allclose(made[..., 0], expected[..., index], rtol=1e-5, atol=1e-2)
        np.testing.assert_array_equal(among_neighbours(volume, index, axis, distance, 0.0)[..., 0], volume[..., index])


def test_each_plane_is_evened_out_along_its_own_slices_before_the_median():
    mr = phantom()
    names = ("axial", "coronal", "sagittal")
    made = SliceSynthesis([random_generator()], planes=names, across=1.5, uncertainty=False)(volume(mr)).hounsfield
    evened = []
    for name, axis in zip(names, (2, 1, 0), strict=True):
        alone = SliceSynthesis([random_generator()], planes=name, across=1.5)(volume(mr)).hounsfield
        share = np.exp(-(SPACING[axis] ** 2) / (2 * 1.5**2))
        kernel = np.array([share, 1, share]) / (1 + 2 * share)
        evened.append(ndimage.convolve1d(alone.astype(np.float64), kernel, axis=axis))
    inner = ndimage.binary_erosion(mr > 0, iterations=2)
    assert np.abs(made - np.median(evened, axis=0))[inner].max() <= 1
    plain = SliceSynthesis([random_generator()], planes=names, across=0, uncertainty=False)(volume(mr)).hounsfield
    assert np.abs(plain - made.astype(int))[inner].max() > 5


def test_flips_average_with_the_left_right_mirror_image():
    mr = phantom()
    one = SliceSynthesis([Ramp()])(volume(mr)).hounsfield.astype(float)
    both = SliceSynthesis([Ramp()], flips=True)(volume(mr)).hounsfield
    box = (slice(0, 44), slice(8, 44), slice(6, 30))  # widened by 16 mm the body fills the first axis
    np.testing.assert_allclose(both[box], (one[box] + one[::-1][box]) / 2, atol=1)


def test_an_uncertainty_that_is_not_wanted_is_not_kept():
    made = SliceSynthesis([Constant(0), Constant(9)], uncertainty=False)(volume(phantom()))
    assert made.standard_deviation is None


@pytest.mark.parametrize(
    ("target", "weights"),
    [(None, {-1: 1.0}), (4.0, {-2: 1.0}), (3.0, {-2: 0.5, -1: 0.5}), (0.5, {-1: 0.25, 0: 0.75})],
)
def test_adjacent_slices_lie_at_the_distance_of_training(target, weights):
    mr = phantom()
    made = SliceSynthesis([Neighbour()], adjacent=3, spacing=(None, None, target))(volume(mr)).hounsfield
    seen = sum(share * np.roll(mr.astype(float), -offset, axis=2) for offset, share in weights.items())
    inside = np.zeros(SHAPE, dtype=bool)
    inside[8:36, 8:44, 6:30] = True
    np.testing.assert_allclose(made[inside], hounsfield_of(seen, 800.0)[inside], atol=1)


class Mixed(nn.Module):
    """Each channel another mixture of all that are given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shares = torch.rand(channels, channels, generator=torch.Generator().manual_seed(0)) / channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("cj,bjhw->bchw", self.shares, images)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("plane", ["axial", "sagittal"])
@pytest.mark.parametrize(("adjacent", "batch"), [(3, 1), (3, 5), (3, 64), (5, 1), (5, 3)])
def test_a_slice_is_the_mean_of_all_that_is_said_of_it_as_middle_and_as_neighbour(adjacent, batch, plane, flips):
    mr, network, reach = phantom(), Mixed(adjacent), adjacent // 2
    settings = {"adjacent": adjacent, "slice_batch": batch, "planes": plane, "flips": flips}
    made = SliceSynthesis([network], **settings)(volume(mr)).hounsfield
    axis = {"axial": 2, "sagittal": 0}[plane]
    unit = np.moveaxis(2.0 * mr / (MR_CEILING * 800.0) - 1.0, axis, 0)
    shown = np.array([np.clip(np.arange(len(unit)) + offset, 0, len(unit) - 1) for offset in range(-reach, reach + 1)])
    shares, said = network.shares.numpy(), np.zeros(unit.shape)
    for mirror in (False, True) if flips and plane == "sagittal" else (False,):
        mixture = shares[::-1, ::-1] if mirror else shares
        images = np.einsum("cj,jshw->cshw", mixture, unit[shown])
        total, weight = np.zeros(unit.shape), np.zeros((len(unit), 1, 1))
        for number in range(len(unit)):
            for offset in range(-reach, reach + 1):
                if 0 <= number + offset < len(unit):
                    total[number + offset] += images[reach + offset, number] / (1 + abs(offset))
                    weight[number + offset] += 1 / (1 + abs(offset))
        said += np.interp(total / weight, UNIT, HU) / (2 if flips and plane == "sagittal" else 1)
    inside = (slice(14, 30), slice(10, 42), slice(9, 27))  # what no edge of the box of the body changes
    np.testing.assert_allclose(made[inside], np.moveaxis(said, 0, axis)[inside], atol=1)


def test_a_generator_with_a_branch_for_bone_is_averaged_before_it_mixes():
    torch.manual_seed(0)
    network = BoneGenerator(2, 3, 3, widths=(4, 8), blocks=(1, 1), sharpness=1.5, threshold=-0.5).eval()
    nn.init.normal_(network.head.weight, std=0.3)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    generators = Generators([network], torch.device("cpu"))
    made = generators.mixed(0, NeighbourMean(3, 4)(generators.parts(0, images)))
    with torch.no_grad():
        branches = [branch.numpy().astype(float) for branch in network.branches(images)[:3]]
    means = []
    for branch in branches:
        total, weight = np.zeros((4, 16, 16)), np.zeros((4, 1, 1))
        for number in range(4):
            for channel, share in enumerate((0.5, 1.0, 0.5)):
                if 0 <= number + channel - 1 < 4:
                    total[number + channel - 1] += share * branch[number, channel]
                    weight[number + channel - 1] += share
        means.append(total / weight)
    logit, soft, bone = means[0], np.interp(means[1], UNIT, HU), np.interp(means[2], UNIT, HU)
    probability = 1 / (1 + np.exp(-1.5 * (logit + 0.5)))
    expected = (1 - probability) * soft + probability * bone
    np.testing.assert_allclose(np.interp(made[:, 0].numpy(), UNIT, HU), expected, atol=0.5)
    assert np.ptp(expected) > 100


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_slices_per_pass_change_nothing(batch):
    mr, generator = volume(phantom()), random_generator()
    usual = SliceSynthesis([generator])(mr).hounsfield
    assert np.abs(SliceSynthesis([generator], slice_batch=batch)(mr).hounsfield - usual).max() <= 1


def test_generators_are_copied_so_that_training_goes_on_undisturbed():
    generator = random_generator().train()
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in generator.state_dict().items()}
    SliceSynthesis([generator])(volume(phantom()))
    assert generator.training and all(p.requires_grad for p in generator.parameters())
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name][0]) and tensor.stride() == before[name][1]


def test_a_3d_generator_sees_the_body_at_once_or_in_seamless_blocks(monkeypatch):
    generator = random_generator(spatial_dims=3, width=2, blocks=0)
    mr = volume(phantom())
    whole = SliceSynthesis([generator], flips=True)(mr)
    assert whole.estimates == 2 and whole.hounsfield[phantom() > 0].std() > 10
    monkeypatch.setattr(generators_module, "_CPU_BYTES", 1 << 18)
    assert np.abs(SliceSynthesis([generator], flips=True)(mr).hounsfield - whole.hounsfield).max() <= 1


def test_progress_counts_every_slice_of_every_estimate():
    told = []
    synthesis = SliceSynthesis([Identity(), Identity()], planes=["axial", "sagittal"], flips=True)
    synthesis(volume(phantom()), lambda done, total: told.append((done, total)))
    done, totals = zip(*told, strict=True)
    assert set(totals) == {done[-1]} and list(done) == sorted(done)
    assert done[-1] == 4 * 36 + 2 * 44  # a sagittal slice is its own mirror image


def test_memory_beyond_input_and_output_does_not_grow_to_float_volumes():
    """Peak of numpy's memory, of which input and output are 1 each: no float32 (2) or float64 (4) copy fits."""
    mr = np.asfortranarray(np.pad(phantom(), [(40, 40)] * 3).repeat(2, 2))
    synthesis = SliceSynthesis([Identity()], slice_batch=1)
    tracemalloc.start()
    synthesis(volume(mr, spacing=(1.0, 1.0, 1.0)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.2 * mr.nbytes


def test_an_mr_without_a_body_is_refused_by_name():
    with pytest.raises(InputError, match=r"mr\.nii\.gz shows no body"):
        SliceSynthesis([Identity()])(volume(np.full(SHAPE, -5, dtype=np.int16)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"across": -1.0}, "across is -1.0"),
        ({"spacing": (1.0, 1.0)}, "three positive numbers"),
        ({"spacing": (1.0, 0.0, None)}, "three positive numbers"),
        ({"spacing": "1.0"}, "three positive numbers"),
        ({"planes": ["axial", "oblique"]}, "axial, coronal and sagittal"),
        ({"planes": ["axial", "axial"]}, "at most once"),
        ({"planes": []}, "axial, coronal and sagittal"),
        ({"adjacent": 2}, "odd number"),
        ({"adjacent": 3}, "takes 1 channels"),
        ({"slice_batch": 0}, "at least 1"),
        ({"tile": 30}, "multiple of 4"),
        ({"device": "cuda"}, "no usable GPU"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match=message):
        SliceSynthesis([random_generator()], **options)


def test_no_generator_is_refused():
    with pytest.raises(SettingError, match="no generator"):
        SliceSynthesis([])


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("kernel", "bias"), [((7, 7), True), ((3, 5), False)])
def test_the_fast_form_of_the_last_convolution_equals_it(padding_mode, kernel, bias):
    padding = (kernel[0] // 2, kernel[1] // 2)
    convolution = nn.Conv2d(6, 1, kernel, padding=padding, padding_mode=padding_mode, bias=bias)
    features = torch.randn(2, 6, 20, 24)
    with torch.inference_mode():
        expected = convolution(features)
        torch.testing.assert_close(NarrowConvolution(convolution)(features), expected, rtol=1e-5, atol=1e-5)


def test_on_a_cpu_generators_use_the_fast_form_and_keep_their_output():
    generator = random_generator(norm="batch").eval()
    mine = Generators([generator], torch.device("cpu"))
    assert any(isinstance(module, NarrowConvolution) for module in mine.networks[0].modules())
    images = torch.randn(2, 1, 32, 44)
    with torch.inference_mode():
        torch.testing.assert_close(mine.translate(0, images), generator(images), rtol=1e-5, atol=1e-5)

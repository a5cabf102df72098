"""Volumes in a page are the volumes of the file: unpacked by other means they give the same numbers."""

import base64
import zlib

import numpy as np
import pytest

from medical_gans.report.voxels import PackedVolume, block_means, fewer_voxels, pack, pack_flags


def unpacked(packed: PackedVolume, shape: tuple[int, ...]) -> np.ndarray:
    """The stored numbers, by a plain reading of the format: slice by slice, low bytes, high bytes, x fastest."""
    content = zlib.decompress(base64.b64decode(packed.text))
    columns, rows, slices = shape
    volume = np.empty(shape, dtype=np.int16)
    for k in range(slices):
        begin = 2 * columns * rows * k
        low = np.frombuffer(content[begin : begin + columns * rows], dtype=np.uint8).astype(np.uint16)
        high = np.frombuffer(content[begin + columns * rows : begin + 2 * columns * rows], dtype=np.uint8)
        volume[:, :, k] = (low | (high.astype(np.uint16) << 8)).view(np.int16).reshape(rows, columns).T
    assert len(content) == 2 * volume.size
    return volume


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.int16, -32768, 32768), (np.uint16, 0, 65536), (np.int32, 20000, 80000), (np.float32, -500, 500)],
)
def test_whole_numbers_of_sixteen_bits_are_kept_exactly(dtype: type, low: int, high: int) -> None:
    volume = np.random.default_rng(0).integers(low, high, (5, 6, 7)).astype(dtype)
    packed = pack(volume)
    assert packed.slope == 1
    np.testing.assert_array_equal(unpacked(packed, volume.shape) * packed.slope + packed.intercept, volume)


def test_other_numbers_are_right_to_half_a_step_of_65535() -> None:
    volume = np.random.default_rng(0).normal(0, 3e4, (5, 6, 7)).astype(np.float32)
    packed = pack(volume)
    shown = unpacked(packed, volume.shape) * packed.slope + packed.intercept
    assert packed.slope == pytest.approx((volume.max() - volume.min()) / 65535)
    assert np.abs(shown - volume).max() <= packed.slope * 0.501


def test_what_is_no_number_is_shown_as_the_smallest() -> None:
    volume = np.array([[[np.nan, 0.25, np.inf, -np.inf, 7.5]]], dtype=np.float32)
    packed = pack(volume)
    shown = unpacked(packed, volume.shape) * packed.slope + packed.intercept
    np.testing.assert_allclose(shown[0, 0], [0.25, 0.25, 7.5, 0.25, 7.5], atol=1e-3)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_view_is_packed_like_its_copy(order: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16).transpose(order)[::-1]
    np.testing.assert_array_equal(unpacked(pack(volume), volume.shape), volume)


def test_blocks_hold_their_means_and_the_last_ones_fewer_voxels() -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (5, 7, 4)).astype(np.int16)
    means = block_means(volume, (2, 3, 2))
    expected = [
        [[volume[x : x + 2, y : y + 3, z : z + 2].mean() for z in (0, 2)] for y in (0, 3, 6)] for x in (0, 2, 4)
    ]
    np.testing.assert_allclose(means, expected)


def test_flags_of_a_block_are_those_of_the_voxel_in_its_middle() -> None:
    flags = np.random.default_rng(0).integers(0, 65536, (6, 6, 5)).astype(np.uint16)
    shown = unpacked(pack_flags(flags, (3, 2, 1)), (2, 3, 5)).view(np.uint16)
    np.testing.assert_array_equal(shown, flags[1::3, 0::2, :])


def test_the_shortest_edges_are_coarsened_first() -> None:
    assert fewer_voxels((1, 1, 1), (0.5, 0.5, 3.0), (100, 100, 100)) == (2, 1, 1)
    assert fewer_voxels((2, 1, 1), (0.5, 0.5, 3.0), (100, 100, 100)) == (2, 2, 1)
    assert fewer_voxels((2, 2, 1), (1.0, 1.0, 1.2), (100, 100, 100)) == (2, 2, 2)
    assert fewer_voxels((1, 1, 1), (1.0, 1.0, 1.0), (1, 100, 100)) == (1, 2, 1)

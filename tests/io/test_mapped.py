"""Large volumes in files without a name: what they hold, and what they leave."""

import numpy as np
import pytest

from medical_gans.io import mapped


@pytest.fixture
def small_ones_too(monkeypatch, tmp_path):
    monkeypatch.setattr(mapped, "_LEAST", 1)
    monkeypatch.setattr(mapped, "_SLAB", 1 << 12)
    with mapped.large_volumes_in(tmp_path):
        yield tmp_path


def test_a_large_volume_leaves_no_file(small_ones_too):
    volume = mapped.full((20, 30, 40), -1024, np.int16)
    assert mapped.is_mapped(volume) and mapped.is_mapped(volume.T[::-1, 3])
    assert (volume == -1024).all() and volume.flags.f_contiguous
    assert list(small_ones_too.iterdir()) == []
    assert not mapped.is_mapped(np.zeros(3))


def test_small_volumes_and_those_of_other_times_stay_in_memory(tmp_path):
    assert not mapped.is_mapped(mapped.empty((20, 30, 40), np.int16))
    with mapped.large_volumes_in(tmp_path):
        assert not mapped.is_mapped(mapped.empty((20, 30, 40), np.int16))


def test_pages_that_were_given_back_hold_what_was_written(small_ones_too):
    volume = mapped.empty((64, 64, 16), np.int16)
    expected = np.random.default_rng(0).integers(-1000, 1000, volume.shape, dtype=np.int16)
    volume[...] = expected
    mapped.give_back()
    assert np.array_equal(volume, expected)
    assert mapped.extremes(volume) == (expected.min(), expected.max())
    assert len(list(mapped.slabs(volume))) > 1
    assert np.array_equal(np.concatenate(list(mapped.slabs(volume)), axis=2), expected)
    for view in (np.s_[::2, ::3, ::-1], np.s_[5], np.s_[:, 7:9, ::4], np.s_[::-1, :, 3]):
        seen = mapped.looked_up(volume[view])
        assert np.array_equal(seen, expected[view]) and not mapped.is_mapped(seen)


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_a_conversion_keeps_voxels_and_the_order_of_storage(small_ones_too, turn):
    volume = mapped.empty((20, 30, 40), np.uint16)
    volume[...] = np.arange(volume.size).reshape(volume.shape) % 60000
    view = volume.transpose(turn)[::-1, :, ::-1]
    copy = mapped.converted(view, np.float32, 12.5)
    assert np.array_equal(copy, view.astype(np.float32) - np.float32(12.5))
    assert copy.dtype == np.float32 and mapped.is_mapped(copy) and min(copy.strides) > 0
    assert np.array_equal(np.argsort(copy.strides), np.argsort(np.abs(view.strides)))


def test_extremes_tell_of_nan():
    assert np.isnan(mapped.extremes(np.array([1.0, np.nan, 3.0]))).all()


def test_without_room_for_a_file_a_volume_is_in_memory(small_ones_too, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped, "_reserve", full)
    volume = mapped.full((20, 30, 40), 7, np.int16)
    assert not mapped.is_mapped(volume) and (volume == 7).all()
    assert list(small_ones_too.iterdir()) == []

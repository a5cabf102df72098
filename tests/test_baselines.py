import json

import numpy as np
import pytest

from medical_gans.errors import InputError
from medical_gans.evaluation.baselines import IntensityLookup, water


def pair(seed: int, shape: tuple[int, int, int] = (30, 20, 10)):
    """MR in [-1, 1] and a CT that depends on it, with skewed noise: the mean would lie 60 HU too high."""
    generator = np.random.default_rng(seed)
    mr = generator.uniform(-0.8, 1, size=shape).astype(np.float32)
    ct = 500 * mr**2 - 200 + generator.exponential(200, size=shape)
    return mr, ct.round().astype(np.int16), generator.random(shape) < 0.9


def test_water_fills_the_body_and_nothing_else():
    mask = np.zeros((4, 3, 2), dtype=np.uint8)
    mask[1:3] = 7
    hounsfield = water(mask)
    assert hounsfield.dtype == np.int16
    assert (hounsfield[1:3] == 0).all() and (hounsfield[0] == -1024).all() and (hounsfield[3] == -1024).all()


def test_each_interval_gets_the_median_of_all_pairs_inside_the_mask():
    pairs = [pair(0), pair(1, (25, 12, 11))]
    lookup = IntensityLookup.fit(iter(pairs))
    mr, ct = (np.concatenate([image[mask] for *images, mask in pairs for image in [images[k]]]) for k in (0, 1))
    interval = np.floor((mr.astype(np.float64) + 1) * 128).clip(0, 255)
    for number in np.unique(interval):
        median = np.percentile(ct[interval == number], 50, method="inverted_cdf")
        assert lookup.hounsfield[int(number)] == median


def test_no_other_value_of_an_interval_has_a_smaller_error():
    mr, ct, mask = pair(2)
    lookup = IntensityLookup.fit([(mr, ct, mask)])
    best = np.abs(lookup(mr) - ct)[mask].mean()
    for shift in (-20, 20):
        assert np.abs(lookup(mr) + shift - ct)[mask].mean() > best


def test_lookup_keeps_the_grid_and_takes_unseen_intensities_from_their_neighbours():
    mr = np.full((2, 3, 4), 0.5, dtype=np.float32)
    mr[0] = -0.5
    ct = np.where(mr < 0, -100, 100)
    lookup = IntensityLookup.fit([(mr, ct, np.ones_like(mr))])
    assert lookup(mr).shape == mr.shape and lookup(mr).dtype == np.float32
    assert (lookup(mr) == ct).all()
    np.testing.assert_allclose(lookup(np.array([-1.0, -0.5, 0.0, 0.5, 1.0])), [-100, -100, 0, 100, 100], atol=1)


def test_lookup_survives_a_checkpoint_exactly():
    lookup = IntensityLookup.fit([pair(0)])
    restored = IntensityLookup.from_state_dict(json.loads(json.dumps(lookup.state_dict())))
    np.testing.assert_array_equal(restored.hounsfield, lookup.hounsfield)


def test_unusable_pairs_and_states_are_refused():
    mr, ct, mask = pair(0)
    with pytest.raises(InputError, match="no voxel"):
        IntensityLookup.fit([])
    with pytest.raises(InputError, match="no voxel"):
        IntensityLookup.fit([(mr, ct, np.zeros_like(mask))])
    with pytest.raises(InputError, match="one shape"):
        IntensityLookup.fit([(mr, ct[1:], mask)])
    with pytest.raises(InputError, match="256"):
        IntensityLookup.from_state_dict({"hounsfield": [0.0]})

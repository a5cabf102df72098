"""Promises of all random training views: repeatable from three numbers."""

import numpy as np
import torch

from medical_gans.data.epoch_views import EpochViews


class Draws(EpochViews):
    def __getitem__(self, index):
        return torch.from_numpy(self.random(index).random(4))


def test_a_view_is_drawn_from_seed_epoch_and_index_alone():
    views = Draws(views_per_epoch=6, seed=3)
    views.set_epoch(2)
    views[0], views[5]  # what was drawn before does not matter
    assert len(views) == 6
    assert np.array_equal(views[4], np.random.default_rng((3, 2, 4)).random(4))  # keys of published figures


def test_several_generators_of_one_view_differ():
    views = Draws(views_per_epoch=6, seed=3)
    assert views.random(4, 1).random() == np.random.default_rng((3, 0, 4, 1)).random()
    assert len({views.random(4, *more).random() for more in ((0,), (1,), (2,))}) == 3

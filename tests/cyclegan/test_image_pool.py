"""Promises of the history of generated images."""

import torch

from medical_gans.methods.cyclegan import ImagePool


def _image(value: float) -> torch.Tensor:
    return torch.full((1, 1, 2, 2), float(value))


def test_until_it_is_full_the_pool_passes_images_on():
    pool = ImagePool(3)
    for value in range(3):
        assert torch.equal(pool(_image(value)), _image(value))
    assert [float(i.mean()) for i in pool.images] == [0, 1, 2]


def test_a_full_pool_shows_old_images_half_of_the_time():
    pool = ImagePool(50, seed=1)
    for value in range(50):
        pool(_image(value))
    old = sum(float(pool(_image(1000 + n)).mean()) != 1000 + n for n in range(2000))
    assert abs(old - 1000) < 4 * (2000 * 0.25) ** 0.5


def test_an_image_shown_again_is_replaced_by_the_new_one():
    pool = ImagePool(1, seed=0)
    pool(_image(0))
    for n in range(1, 30):
        before = float(pool.images[0].mean())
        shown = float(pool(_image(n)).mean())
        assert shown in (n, before)
        assert float(pool.images[0].mean()) == (n if shown == before else before)


def test_size_zero_remembers_nothing():
    assert torch.equal(ImagePool(0)(_image(3)), _image(3))


def test_a_restored_pool_makes_the_same_choices():
    first, second = ImagePool(4, seed=5), ImagePool(4, seed=9)
    for n in range(10):
        first(_image(n))
    second.load_state_dict(first.state_dict())
    for n in range(10, 40):
        assert torch.equal(first(_image(n)), second(_image(n)))

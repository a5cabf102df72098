"""The brain of a whole head is found, whatever way the image is stored, and a brain without a skull is left alone."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from medical_gans.transforms import FindBraind, WithinBraind, WithinForegroundd

SPACING = (3.0, 3.0, 3.0)


def head(brain=1.0, liquid=0.2, skin=2.6):
    """A head of ellipsoids with ventricles, eyes and a neck, voxels of 3 mm, and its brain."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.arange(n) * 3.0 for n in (64, 76, 76)], indexing="ij")

    def ellipsoid(middle, radii):
        return sum(((a - m) / r) ** 2 for a, m, r in zip((x, y, z), middle, radii, strict=True)) < 1

    centre = (96, 114, 140)
    outer, skull = ellipsoid(centre, (84, 102, 84)), ellipsoid(centre, (78, 96, 78))
    hull = ellipsoid(centre, (68, 86, 68))
    neck = ((x - 96) ** 2 + (y - 95) ** 2 < 50**2) & (z < 75)
    image = np.zeros(x.shape)
    image[neck | outer] = 0.9 * brain
    image[outer] = skin
    image[skull] = 0.05
    image[hull] = brain
    image[ellipsoid(centre, (20, 40, 18))] = liquid
    for side in (-30, 30):
        image[ellipsoid((96 + side, 205, 110), (13, 13, 13))] = brain
    image = np.abs(image + 0.02 * rng.standard_normal(image.shape)) * 100
    return image.astype(np.float32), hull


def head_with_a_piece(uneven):
    """A head in voxels of 2 mm whose brain has a piece below its front, by a bridge of 6 mm; and that piece.

    Args:
        uneven: deviation of the piece, relative to its signal: 0 for a lobe, more for muscle, fat and mucosa.
    """
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.arange(n) * 2.0 for n in (96, 132, 114)], indexing="ij")

    def ellipsoid(middle, radii):
        return sum(((a - m) / r) ** 2 for a, m, r in zip((x, y, z), middle, radii, strict=True)) < 1

    centre = (96, 114, 140)
    hull = ellipsoid(centre, (68, 86, 68))
    piece = ellipsoid((96, 200, 88), (36, 34, 20)) & (ndimage.distance_transform_edt(~hull, sampling=2.0) > 4)
    bridge = (np.abs(x - 96) < 3) & (np.abs(y - 190) < 3) & (z > 88) & (z < 120)
    image = np.zeros(x.shape)
    image[ellipsoid((96, 190, 90), (70, 70, 50))] = 0.3
    image[ellipsoid(centre, (84, 102, 84))] = 2.6
    image[ellipsoid(centre, (78, 96, 78))] = 0.05
    grain = ndimage.gaussian_filter(rng.standard_normal(x.shape), 1.5)
    image[piece] = np.clip(1 + uneven * grain / grain.std(), 0.65, 2.1)[piece]
    image[hull | bridge] = 1.0
    image = np.abs(image + 0.04 * rng.standard_normal(image.shape)) * 100
    return image.astype(np.float32), hull, piece


def found(image, affine):
    tensor = MetaTensor(torch.from_numpy(np.ascontiguousarray(image))[None], affine=torch.from_numpy(affine))
    return FindBraind("image")({"image": tensor, "notes": ()})


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("signals", [{}, {"brain": 0.6, "liquid": 1.0, "skin": 1.4}], ids=["FLAIR", "bright liquid"])
def test_the_brain_of_a_whole_head_is_found_with_its_ventricles(signals):
    image, hull = head(**signals)
    made = found(image, np.diag([*SPACING, 1.0]))
    brain = made["foreground"][0].numpy()
    assert brain.dtype == bool and dice(brain, hull) > 0.93 and made["notes"] == ()
    assert brain[32, 38, 47]  # in the ventricle


@pytest.mark.parametrize("uneven", [0.0, 0.5], ids=["lobe", "muscle"])
def test_what_hangs_on_the_brain_is_left_out_where_it_is_as_uneven_as_muscle(uneven):
    """On FLAIR muscles of the face are as bright as the brain, and hang on it by bridges that no erosion cuts alone."""
    image, hull, piece = head_with_a_piece(uneven)
    made = found(image, np.diag([2.0, 2.0, 2.0, 1.0]))
    brain = made["brain"]
    far = piece & (ndimage.distance_transform_edt(~hull, sampling=2.0) > 8)
    assert brain[hull].mean() > 0.93 and made["foreground"][0].numpy()[far].mean() > 0.6  # what a network sees
    assert brain[far].mean() < 0.05 if uneven else brain[far].mean() > 0.6  # the rest lies at the skin


def test_the_same_brain_is_found_in_whatever_order_the_voxels_are_stored():
    image, _ = head()
    affine = np.diag([*SPACING, 1.0])
    expected = found(image, affine)["foreground"][0].numpy()
    order = nib.orientations.axcodes2ornt(("P", "I", "R"))
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(("R", "A", "S")), order)
    stored = nib.orientations.apply_orientation(image, change)
    moved = affine @ nib.orientations.inv_ornt_aff(change, image.shape)
    brain = found(stored, moved)["foreground"][0].numpy()
    assert np.array_equal(brain, nib.orientations.apply_orientation(expected, change))


def test_a_brain_without_a_skull_is_taken_whole():
    image, hull = head()
    made = found(np.where(hull, image, 0).astype(np.float32), np.diag([*SPACING, 1.0]))
    assert np.array_equal(made["foreground"][0].numpy(), hull & (image > 0)) and made["notes"] == ()


def test_a_mask_that_was_read_stays():
    given = MetaTensor(torch.ones(1, 4, 4, 4))
    assert FindBraind("image")({"image": given, "foreground": given})["foreground"] is given


def test_where_no_brain_is_found_the_whole_head_is_taken_and_it_is_said():
    """A block of one signal, the size of a body: what is deep in it is far too much for a brain."""
    image = np.zeros((90, 90, 90), np.float32)
    image[5:85, 5:85, 5:85] = 100 + np.random.default_rng(0).standard_normal((80, 80, 80))
    made = found(image, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert "A brain was not found" in made["notes"][0]
    assert made["foreground"][0].numpy()[10:80, 10:80, 10:80].all()


def test_lesions_in_muscle_are_dropped():
    image, hull, piece = head_with_a_piece(0.5)
    made = found(image, np.diag([2.0, 2.0, 2.0, 1.0]))
    kept = WithinBraind("pred")({**made, "pred": torch.full((2, *image.shape), 0.5)})["pred"].numpy()
    far = piece & (ndimage.distance_transform_edt(~hull, sampling=2.0) > 8)
    assert (kept[1][hull] > 0).mean() > 0.93 and (kept[1][far] > 0).mean() < 0.05
    assert np.allclose(kept.sum(0), 1)


def test_lesions_outside_of_the_brain_are_dropped():
    image, hull = head()
    made = found(image, np.diag([*SPACING, 1.0]))
    everywhere = torch.full((2, *image.shape), 0.5)
    kept = WithinForegroundd("pred")({**made, "pred": everywhere})["pred"][1].numpy() > 0
    assert kept[hull].mean() > 0.93 and not kept[:, 69:].any()  # no eyes, no skin

"""Traces of the making that readers would see are told to who makes the study."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from turing_test.studies import write_study

from medical_gans.studies.turing_test.nodules import telling_artefacts


def images(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(40, 24, 24))
    smooth = gaussian_filter(noise, (0, 1.5, 1.5))
    return np.clip(110 + 200 * smooth, 1, 254).astype(np.uint8)


def with_grid(grey: np.ndarray) -> np.ndarray:
    grey = grey.astype(int)
    grey[:, :, ::2] += 12
    grey[:, ::2] += 12
    grey[:, :, 1::4] += 12
    return np.clip(grey, 0, 255).astype(np.uint8)


def with_frame(grey: np.ndarray) -> np.ndarray:
    framed = np.minimum(grey, 200)
    framed[:, [0, -1]] += 50
    framed[:, :, [0, -1]] += 50
    return framed


def with_noise(grey: np.ndarray) -> np.ndarray:
    return np.clip(grey + np.random.default_rng(9).normal(0, 12, grey.shape), 1, 254).astype(np.uint8)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (with_frame, "a frame along the edge"),
        (with_grid, "a grid of every second pixel"),
        (with_noise, "fine noise"),
        (lambda grey: np.where(grey < 60, 0, grey).astype(np.uint8), "black of the window"),
        (lambda grey: np.where(grey > 160, 255, grey).astype(np.uint8), "white of the window"),
    ],
)
def test_each_trace_is_found(spoil, name):
    found = telling_artefacts(images(1), spoil(images(2)))
    assert any(f"by {name} alone" in sentence for sentence in found), found


@pytest.mark.parametrize("seed", range(5))
def test_images_of_one_kind_show_none(seed):
    assert telling_artefacts(images(2 * seed), images(2 * seed + 1)) == []


def test_a_handful_of_images_proves_nothing():
    assert telling_artefacts(images(1)[:3], with_frame(images(2))[:3]) == []


def test_a_study_of_noise_against_noise_has_no_warning(tmp_path):
    write_study(tmp_path, number=20)
    assert '"warnings": []' in (tmp_path / "manifest.json").read_text()

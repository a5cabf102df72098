"""Nothing but the pixels tells real from generated, and nobody learns the order from the page."""

import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict
from turing_test.studies import nodules, write_study

from medical_gans.studies.turing_test.page import grey_values
from medical_gans.studies.turing_test.study import blinded

OPTIONS = {"windows": [[-1000, 400]], "ask_malignancy": False, "notice": ""}


def study(seed: int, number: int = 20, size: int = 6):
    return blinded(nodules(number, 1, size), nodules(number, 2, size), seed=seed, **OPTIONS)


@pytest.fixture(scope="module")
def many():
    """(page, key) of 100 studies."""
    return [study(seed) for seed in range(100)]


def is_real(key) -> np.ndarray:
    return np.array([image["truth"] == "real" for image in key["images"]])


def test_every_image_has_the_same_fields_and_the_same_lengths(many):
    for page, _ in many:
        assert {tuple(image) for image in page["images"]} == {("id", "pixels")}
        assert len({(len(image["id"]), len(image["pixels"])) for image in page["images"]}) == 1


def test_the_page_is_told_nothing_but_display_and_pixels(many):
    page, _ = many[0]
    assert set(page) == {"id", "size", "spacing", "encoded", "windows", "ask_malignancy", "notice", "images"}


def test_real_and_generated_take_the_same_way_to_the_page():
    real, generated = nodules(10, 1), nodules(10, 2)
    generated.hounsfield[:] = real.hounsfield
    page, key = blinded(real, generated, seed=0, **OPTIONS)
    pixels = np.array([image["pixels"] for image in page["images"]])
    assert sorted(pixels[is_real(key)]) == sorted(pixels[~is_real(key)])


def test_the_place_in_the_order_does_not_depend_on_the_truth(many):
    place = np.concatenate([np.arange(40)] * len(many))
    real = np.concatenate([is_real(key) for _, key in many])
    assert stats.mannwhitneyu(place[real], place[~real]).pvalue > 0.001


def test_neighbours_are_alike_as_often_as_by_chance(many):
    """In a random order of 20 + 20, two neighbours are alike with probability 19 / 39."""
    alike = np.concatenate([is_real(key)[1:] == is_real(key)[:-1] for _, key in many])
    assert stats.binomtest(int(alike.sum()), alike.size, 19 / 39).pvalue > 0.001


def test_a_classifier_learns_nothing_from_all_but_the_pixels(many):
    features = [
        [place, place % 2, len(image["id"]), len(image["pixels"]), *bytes.fromhex(image["id"])]
        for page, _ in many
        for place, image in enumerate(page["images"])
    ]
    truth = np.concatenate([is_real(key) for _, key in many])
    forest = RandomForestClassifier(15, max_depth=6, random_state=0)
    judged = cross_val_predict(forest, np.array(features), truth, cv=4, method="predict_proba")[:, 1]
    assert stats.mannwhitneyu(judged[truth], judged[~truth]).pvalue > 0.001


def test_equal_seeds_give_equal_files_and_other_seeds_another_order(tmp_path):
    for folder, seed in (("first", 7), ("second", 7), ("third", 8)):
        write_study(tmp_path / folder, seed=seed)
    for name in ("study.html", "key.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
        assert (tmp_path / "first" / name).read_bytes() != (tmp_path / "third" / name).read_bytes()


def test_the_seed_alone_does_not_tell_the_order():
    """Who tries all small seeds on the same number of images finds another order and other tokens."""
    first = blinded(nodules(20, 1), nodules(20, 2), seed=7, **OPTIONS)
    other = blinded(nodules(20, 3), nodules(20, 4), seed=7, **OPTIONS)
    assert (is_real(first[1]) != is_real(other[1])).any()
    assert not {image["id"] for image in first[0]["images"]} & {image["id"] for image in other[0]["images"]}


def test_neither_key_nor_source_nor_seed_is_in_the_page(tmp_path):
    key = write_study(tmp_path, seed=987654321, dataset_dir="the_hospital.npz")
    text = (tmp_path / "study.html").read_text()
    for secret in ("PATIENT", "truth", "source", "key.json", "987654321", "the_hospital"):
        assert secret not in text.replace("color-source", ""), secret
    assert not [image["source"] for image in key["images"] if image["source"].split()[-1] in text]


def test_the_page_asks_for_nothing_outside_itself(tmp_path):
    write_study(tmp_path)
    text = (tmp_path / "study.html").read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["']""", text)
    assert not re.findall(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)


def test_a_notice_cannot_break_out_of_the_page(tmp_path):
    notice = "</script><script>alert('1 < 2')</script>"
    write_study(tmp_path, notice=notice)
    text = (tmp_path / "study.html").read_text()
    assert "alert('1 < 2')</script>" not in text
    data = re.search(r'<script type="application/json" id="study">(.*?)</script>', text, re.DOTALL)
    assert data and json.loads(data.group(1))["notice"] == notice


def test_grey_is_linear_in_hu_and_saturates_at_the_edges():
    grey = grey_values(np.array([-2000, -1000, -300, 400, 3000]), -1000, 400)
    np.testing.assert_array_equal(grey, [0, 0, 128, 255, 255])

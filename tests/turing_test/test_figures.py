"""Figures of a reader study against independent references."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from medical_gans.studies.turing_test.figures import (
    agreements,
    auc,
    cohen_kappa,
    fleiss_kappa,
    image_replicates,
    reader_figures,
    roc_points,
)


def readings(readers: int, images: int = 60, seed: int = 0, skill: float = 1.0):
    """Ratings of readers who share what is hard about an image, and which images are real."""
    rng = np.random.default_rng(seed)
    is_real = np.arange(images) % 2 == 0
    hard = rng.normal(size=images)
    felt = np.where(is_real, skill, -skill) / 2 + 0.5 * hard + rng.normal(size=(readers, images))
    rating = np.sign(felt) * np.clip(np.ceil(2.5 * np.abs(felt)), 1, 5)
    return rating, is_real


def figures_of(rating, is_real, **others):
    return reader_figures(rating, is_real, np.full(rating.shape, 2.0), **others)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson (1927), equation of the score interval."""
    z = norm.ppf(0.975)
    centre = (hits + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    return centre - reach, centre + reach


def test_rates_are_counted_as_defined():
    rating = np.array([[5, 4, -1, -2, 3, -5, -4, 1.0]])
    is_real = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    found = figures_of(rating, is_real)
    assert found["trr"].value == 2 / 4 and found["trr"].n == 4
    assert found["frr"].value == 2 / 4
    assert found["accuracy"].value == 4 / 8 and found["accuracy"].n == 8
    assert found["seconds"].value == 2.0


@pytest.mark.parametrize("seed", range(5))
def test_one_readers_intervals_are_wilsons(seed):
    rating, is_real = readings(1, seed=seed)
    found = figures_of(rating, is_real)
    judged_real = rating[0] > 0
    for name, hits, n in (
        ("trr", judged_real[is_real].sum(), is_real.sum()),
        ("frr", judged_real[~is_real].sum(), (~is_real).sum()),
        ("accuracy", (judged_real == is_real).sum(), is_real.size),
    ):
        assert (found[name].low, found[name].high) == pytest.approx(wilson(int(hits), int(n)))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5])), min_size=4, max_size=40)
)
def test_auc_is_that_of_scikit_learn(pairs):
    is_real = np.array([real for real, _ in pairs])
    rating = np.array([[float(one) for _, one in pairs]])
    if is_real.all() or not is_real.any():
        assert math.isnan(auc(rating, is_real).value)
    else:
        assert auc(rating, is_real).value == pytest.approx(roc_auc_score(is_real, rating[0]))


def test_the_roc_curve_encloses_the_auc():
    rating, is_real = readings(1)
    false_rate, true_rate = roc_points(rating[0], is_real)
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(auc(rating, is_real).value)


def test_delongs_interval_is_near_that_of_a_bootstrap():
    rating, is_real = readings(1, images=300)
    found = auc(rating, is_real)
    rng = np.random.default_rng(1)
    real, generated = rating[0][is_real], rating[0][~is_real]
    drawn = mannwhitneyu(rng.choice(real, (2000, 150)), rng.choice(generated, (2000, 150)), axis=1).statistic / 150**2
    np.testing.assert_allclose((found.low, found.high), np.quantile(drawn, (0.025, 0.975)), atol=0.01)


def test_delongs_interval_covers_the_true_area():
    """Two normal distributions one apart have an area of Phi(1 / sqrt 2)."""
    truth, covered = norm.cdf(1 / math.sqrt(2)), 0
    is_real = np.arange(80) < 40
    for seed in range(400):
        found = auc(np.random.default_rng(seed).normal(size=(1, 80)) + is_real, is_real)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_over_readers_the_auc_is_the_mean_of_theirs_and_the_interval_respects_that_images_are_shared():
    one, is_real = readings(1)
    copies = np.repeat(one, 5, axis=0)
    alone, together = figures_of(one, is_real), figures_of(copies, is_real)
    rating, _ = readings(3)
    assert figures_of(rating, is_real)["auc"].value == pytest.approx(
        np.mean([roc_auc_score(is_real, row) for row in rating])
    )
    for name in ("auc", "accuracy", "frr", "trr"):
        assert together[name].value == pytest.approx(alone[name].value)
        width = together[name].high - together[name].low
        assert width == pytest.approx(alone[name].high - alone[name].low, rel=0.15), "five copies know no more than one"


def test_bootstrap_draws_as_many_real_and_generated_images_as_there_are():
    is_real = np.arange(30) < 12
    weights = image_replicates(is_real, seed=3)
    assert (weights[:, is_real].sum(axis=1) == 12).all() and (weights[:, ~is_real].sum(axis=1) == 18).all()
    np.testing.assert_array_equal(weights, image_replicates(is_real, seed=3))


def test_d_prime_and_bias_are_those_of_signal_detection():
    """300 real images of which 240 are judged real, 300 generated of which 60 are: z = +-0.84, symmetric."""
    is_real = np.arange(600) < 300
    rating = np.where(np.concatenate([np.arange(300) < 240, np.arange(300) < 60]), 3.0, -3.0)[None]
    found = figures_of(rating, is_real)
    assert found["d_prime"].value == pytest.approx(2 * norm.ppf(240.5 / 301))
    assert found["bias"].value == pytest.approx(0, abs=1e-12)


def test_who_calls_everything_real_has_a_high_frr_and_knows_nothing():
    is_real = np.arange(40) % 2 == 0
    found = figures_of(np.full((1, 40), 4.0), is_real)
    assert found["frr"].value == found["trr"].value == 1
    assert found["accuracy"].value == found["auc"].value == 0.5
    assert found["d_prime"].value == pytest.approx(0) and found["bias"].value < -1


def test_a_perfect_reader_has_no_interval_of_the_auc_but_an_honest_one_of_the_rates():
    is_real = np.arange(40) % 2 == 0
    for readers in (1, 3):
        found = figures_of(np.repeat(np.where(is_real, 5.0, -5.0)[None], readers, axis=0), is_real)
        assert found["auc"].value == 1 and math.isnan(found["auc"].low)
        assert (found["trr"].value, found["trr"].high) == (1, 1)
        assert found["trr"].low == pytest.approx(wilson(20, 20)[0]), "readers who agree know no more than one"


def test_images_without_an_answer_do_not_count():
    rating, is_real = readings(2, images=40)
    rating[0, :10] = np.nan
    found = figures_of(rating, is_real)
    assert found["accuracy"].n == 70
    known = rating[0, 10:]
    assert found["auc"].value == pytest.approx(
        (roc_auc_score(is_real[10:], known) + roc_auc_score(is_real, rating[1])) / 2
    )


def test_the_class_is_judged_apart_for_real_and_generated():
    rating, is_real = readings(1, images=8)
    right = np.array([[1, 1, 1, 0, 0, 0, 1, np.nan]])
    found = figures_of(rating, is_real, is_class_right=right)
    assert found["malignancy_real"].value == 3 / 4 and found["malignancy_generated"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_cohens_kappa_is_that_of_scikit_learn(seed):
    rating, _ = readings(2, seed=seed)
    first, second = (rating > 0).astype(float)
    assert cohen_kappa(first, second)[0] == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_is_not_defined_where_all_answers_are_the_same():
    assert math.isnan(cohen_kappa(np.ones(5), np.ones(5))[0])
    assert math.isnan(fleiss_kappa(np.zeros((3, 5)))[0])


def test_fleiss_kappa_is_the_published_definition():
    """Fleiss 1971: from the table of counts, image by image, written out."""
    answers = (readings(4, images=30)[0] > 0).astype(int)
    counts = np.stack([(answers == 0).sum(axis=0), (answers == 1).sum(axis=0)], axis=1)
    n, raters = counts.shape[0], 4
    per_image = [(row[0] ** 2 + row[1] ** 2 - raters) / (raters * (raters - 1)) for row in counts.tolist()]
    shares = counts.sum(axis=0) / (n * raters)
    expected = (shares**2).sum()
    assert fleiss_kappa(answers)[0] == pytest.approx((np.mean(per_image) - expected) / (1 - expected))


def test_weights_count_images_several_times():
    rating, _ = readings(3, images=6)
    answers = (rating > 0).astype(float)
    weights = np.array([[2.0, 0, 1, 3, 0, 0]])
    repeated = answers[:, [0, 0, 2, 3, 3, 3]]
    assert cohen_kappa(answers[0], answers[1], weights)[0] == pytest.approx(cohen_kappa(repeated[0], repeated[1])[0])
    assert fleiss_kappa(answers, weights)[0] == pytest.approx(fleiss_kappa(repeated)[0])


def test_agreement_is_told_of_each_pair_and_of_all():
    rating, is_real = readings(3)
    rating[2, :4] = np.nan
    found = agreements(["AB", "CD", "EF"], rating, is_real, seed=0)
    assert [(row.readers, row.method, row.kappa.n) for row in found] == [
        (["AB", "CD"], "Cohen", 60),
        (["AB", "EF"], "Cohen", 56),
        (["CD", "EF"], "Cohen", 56),
        (["AB", "CD", "EF"], "Fleiss", 56),
    ]
    for row in found:
        assert row.kappa.low < row.kappa.value < row.kappa.high
    assert agreements(["AB"], rating[:1], is_real, seed=0) == []

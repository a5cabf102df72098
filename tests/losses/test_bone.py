"""Promises of the losses with bone as a class of its own, against numpy."""

import numpy as np
import pytest
import torch

from medical_gans.losses import bone_terms, nearest_shift, tissue_cross_entropy, weighted_l1


def test_weighted_l1_is_the_mean_of_weighted_distances():
    rng = np.random.default_rng(0)
    made, truth, weight = rng.normal(size=(3, 2, 1, 5, 6))
    expected = np.mean(np.abs(made - truth) * np.abs(weight))
    found = weighted_l1(*(torch.from_numpy(a) for a in (made, truth, np.abs(weight))))
    assert float(found) == pytest.approx(expected)


def test_branches_are_judged_where_they_hold():
    truth = torch.tensor([[[[0.8, 0.0]]]])
    weight = torch.tensor([[[[3.0, 1.0]]]])
    logit = torch.tensor([[[[2.0, -1.0]]]])
    terms = bone_terms(logit, torch.tensor([[[[9.0, 0.5]]]]), torch.tensor([[[[0.6, 9.0]]]]), truth, weight, 0.3)
    assert float(terms["soft"]) == pytest.approx(0.5 / 2)
    assert float(terms["bone"]) == pytest.approx(3 * 0.2 / 2)
    doubt = [2 * np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))]
    assert float(terms["bone_probability"]) == pytest.approx(np.mean(doubt), rel=1e-5)


def test_what_is_not_trusted_teaches_nothing():
    logit = torch.zeros(1, 1, 4, 4, requires_grad=True)
    zero = torch.zeros(1, 1, 4, 4)
    terms = bone_terms(logit, zero, zero, zero + 1, zero, 0.3)
    assert float(sum(terms.values())) == 0


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-2, 2)])
def test_the_shift_that_fits_is_found_and_what_comes_from_outside_has_no_weight(shift):
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.normal(size=(1, 20, 24)).astype(np.float32))
    made = truth.roll(shift, (1, 2))
    moved, weight = nearest_shift(made, truth, torch.ones_like(truth), 2)
    known = weight > 0
    assert torch.equal(moved[known], made[known])
    assert int(known.sum()) == (20 - abs(shift[0])) * (24 - abs(shift[1]))


def test_a_view_without_trust_is_left_as_it_is():
    truth = torch.randn(1, 8, 8)
    moved, weight = nearest_shift(truth + 1, truth, torch.zeros_like(truth), 2)
    assert torch.equal(moved, truth)
    assert float(weight.sum()) == 0


def test_small_errors_count_by_their_square_and_large_ones_as_they_are():
    truth, weight = torch.zeros(1, 1, 1, 4), torch.tensor([[[[1.0, 2.0, 1.0, 0.0]]]])
    made = torch.tensor([[[[0.02, -0.02, 0.5, 9.0]]]])
    expected = (0.02**2 / 0.08 + 2 * 0.02**2 / 0.08 + 0.5 - 0.02) / 4
    assert float(weighted_l1(made, truth, weight, smooth=0.04)) == pytest.approx(expected)
    plain = (0.02 + 2 * 0.02 + 0.5) / 4
    assert float(weighted_l1(made, truth, weight)) == pytest.approx(plain)


def test_the_best_guess_of_a_smooth_loss_is_the_mean():
    truth = torch.tensor([-0.03, 0.01, 0.01]).reshape(1, 1, 1, 3)
    guess = torch.zeros(1, requires_grad=True)
    for _ in range(400):
        loss = weighted_l1(guess.expand(1, 1, 1, 3), truth, torch.ones(1, 1, 1, 3), smooth=0.1)
        (gradient,) = torch.autograd.grad(loss, guess)
        guess = (guess - 0.05 * gradient).detach().requires_grad_()
    assert float(guess) == pytest.approx(-0.01 / 3, abs=1e-3)


def test_tissues_are_learnt_by_the_cross_entropy_of_their_shares():
    rng = np.random.default_rng(0)
    logits, weight = rng.normal(size=(2, 4, 5)), np.array([0.0, 0.2, 1.0, 1.0, 4.0])
    shares = rng.dirichlet([1.0, 1.0, 1.0, 1.0], (2, 5)).transpose(0, 2, 1)[:, 1:]
    whole = np.concatenate([1 - shares.sum(1, keepdims=True), shares], 1)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(whole * np.log(chances)).sum(1) * weight.clip(max=1) * (1 + shares.sum(1))
    tensors = (torch.from_numpy(a)[..., None] for a in (logits, shares, np.broadcast_to(weight, (2, 1, 5)).copy()))
    assert float(tissue_cross_entropy(*tensors)) == pytest.approx(expected.mean(), rel=1e-6)


def test_tissues_of_several_slices_do_not_mix():
    logits = torch.zeros(1, 4, 1, 1)
    logits[0, 2:, 0, 0] = torch.tensor([9.0, -9.0])  # the tissue, first slice and second
    shares = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    assert float(tissue_cross_entropy(logits, shares, torch.ones(1, 2, 1, 1))) < 1e-3

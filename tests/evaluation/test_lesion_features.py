"""Domain classifiers and feature spaces on features whose truth is known."""

import numpy as np
import pytest
import torch
from torch import nn

from medical_gans.errors import InputError, SettingError
from medical_gans.evaluation.lesion_features import (
    SOURCE,
    TARGET,
    DomainAccuracy,
    DomainFeatures,
    LesionFeatureSpace,
    brain_patches,
    domain_accuracy,
    embed,
)
from medical_gans.evaluation.lesion_methods import LesionMethod, Member
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.io.volumes import save_volume
from medical_gans.networks import FeatureTaps
from medical_gans.transforms.sequence_volume import read_sequence_case


def features(shift: float, patients: int = 4, each: int = 40, of_patient: float = 0.0) -> DomainFeatures:
    """Normal features; the target's lie `shift` further, and each patient's around a place of its own."""
    rng = np.random.default_rng(0)
    values, domain, patient = [], [], []
    for side in (SOURCE, TARGET):
        for number in range(patients):
            own = of_patient * rng.standard_normal(6)
            values.append(rng.standard_normal((each, 6)) + own + shift * side)
            domain += [side] * each
            patient += [f"{side}_{number}"] * each
    return DomainFeatures(np.concatenate(values), np.array(domain), np.array(patient))


def test_domains_far_apart_are_always_told_apart():
    assert domain_accuracy(features(shift=10.0)) == DomainAccuracy(1.0, 1.0)


def test_equal_domains_are_told_apart_by_chance():
    accuracy = domain_accuracy(features(shift=0.0))
    assert accuracy.by_patient == pytest.approx(0.5, abs=0.08)
    assert accuracy.by_patch == pytest.approx(0.5, abs=0.08)


def test_folds_by_patient_do_not_take_patients_for_domains():
    """Every patient is far from every other: patches of known patients tell the domain, a new patient does not."""
    accuracy = domain_accuracy(features(shift=0.0, patients=6, of_patient=8.0))
    assert accuracy.by_patch > 0.95 and accuracy.by_patient < 0.8


def test_one_patient_cannot_be_held_out():
    accuracy = domain_accuracy(features(shift=10.0, patients=1))
    assert accuracy == DomainAccuracy(None, 1.0)


def test_a_patient_of_both_domains_is_held_out_from_both():
    from medical_gans.evaluation.lesion_features import _patient_folds

    patient = np.array(["ann", "bob", "ann", "bob", "cid"])
    folds = _patient_folds(DomainFeatures(np.zeros((5, 1)), np.array([0, 0, 1, 1, 1]), patient))
    assert folds["ann"] != folds["bob"] and set(folds) == {"ann", "bob", "cid"}


def test_unequal_numbers_of_patches_do_not_move_chance():
    both = features(shift=0.0)
    kept = (both.domain == SOURCE) | (np.arange(len(both.domain)) % 4 == 0)
    accuracy = domain_accuracy(DomainFeatures(both.values[kept], both.domain[kept], both.patient[kept]))
    assert accuracy.by_patient == pytest.approx(0.5, abs=0.1)


def test_the_main_axes_are_those_of_a_singular_value_decomposition():
    values = np.random.default_rng(1).standard_normal((50, 5)) @ np.diag([5.0, 3.0, 1.0, 1.0, 1.0])
    values[:, 1] += values[:, 0]
    points, axes = embed(values, "pca")
    scaled = (values - values.mean(0)) / values.std(0)
    _, singular, axis = np.linalg.svd(scaled, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(scaled @ axis[:2].T), atol=1e-9)
    assert axes[0] == f"first main axis, {100 * singular[0] ** 2 / (singular**2).sum():.0f} % of the variance"


def test_neighbour_embedding_keeps_two_clouds_apart():
    far = features(shift=20.0, patients=1, each=15)
    points, _ = embed(far.values, "tsne")
    source, target = (points[far.domain == side] for side in (SOURCE, TARGET))
    assert np.linalg.norm(source.mean(0) - target.mean(0)) > 2 * (source.std() + target.std()) / 2


class Contrast(nn.Module):
    """A layer that sees how grainy an image is, and one that sees nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sees, self.blind = nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 1)
        nn.init.zeros_(self.blind.weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.sees(image.diff(dim=-1).abs())[..., :1] + self.blind(image)


@pytest.fixture
def domains(tmp_path):
    """Three heads each; the second sequence of the target is smooth, that of the source is grainy."""
    rng = np.random.default_rng(0)
    places = np.indices((20, 22, 18)) - np.array([10, 11, 9])[:, None, None, None]
    head = (places**2).sum(0) < 64
    for side, grain in (("source", 1.0), ("target", 0.0)):
        for number in range(3):
            folder = tmp_path / side / f"{side}{number}"
            folder.mkdir(parents=True)
            for name in ("T1", "T2"):
                rough = rng.standard_normal(head.shape) if name == "T1" or grain else np.cbrt(places[0] + places[1])
                save_volume(folder / f"{name}.nii.gz", (head * (100 + 10 * rough)).astype(np.float32), np.eye(4))
    return tmp_path


def space(domains, layers, **settings) -> LesionFeatureSpace:
    return LesionFeatureSpace(
        lambda network: FeatureTaps(network, layers),
        domains / "source",
        ("T1", "T2"),
        patch_size=(8, 8, 8),
        patches=30,
        **settings,
    )


def test_a_layer_that_sees_the_contrast_tells_domains_apart_and_a_blind_one_does_not(domains):
    torch.manual_seed(0)
    method = LesionMethod("source_only", (), ("T1", "T2"))
    member = Member(domains, network=Contrast())
    target = find_sequence_cases(domains / "target", ("T1", "T2"))
    seeing = space(domains, ["sees"]).measure(method, member, target, read_sequence_case)
    blind = space(domains, ["blind"]).measure(method, member, target, read_sequence_case)
    assert seeing.accuracy.by_patient > 0.95 and blind.accuracy.by_patient == 0.5
    assert seeing.patients == (3, 3) and seeing.points.shape == (60, 2) and seeing.domain.sum() == 30


def test_a_sequence_that_a_method_misses_is_missed_in_both_domains(domains):
    method = LesionMethod("dropped", (), ("T1", "SWI"), missing=("SWI",))
    assert [case.channels[1] for case in space(domains, ["sees"]).source_cases(method)] == [None] * 3


def test_source_and_target_of_the_same_files_are_refused(domains):
    cases = find_sequence_cases(domains / "source", ("T1", "T2"))
    method, member = LesionMethod("source_only", (), ("T1", "T2")), Member(domains, network=Contrast())
    with pytest.raises(InputError, match="belongs to the source"):
        space(domains, ["sees"]).measure(method, member, cases, read_sequence_case)


def test_a_layer_that_does_not_exist_is_named_with_those_that_do(domains):
    method, member = LesionMethod("source_only", (), ("T1", "T2")), Member(domains, network=Contrast())
    target = find_sequence_cases(domains / "target", ("T1", "T2"))
    with pytest.raises(SettingError, match=r"no layer 'seas'.*sees, blind"):
        space(domains, ["seas"]).measure(method, member, target, read_sequence_case)


@pytest.mark.parametrize(
    ("settings", "message"), [({"embedding": "umap"}, "pca or tsne"), ({"patches": 1}, "at least 2")]
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        LesionFeatureSpace(lambda network: list, None, ("T1",), **settings)


def test_patches_lie_around_the_brain_and_reach_beyond_small_volumes(domains):
    case = find_sequence_cases(domains / "target", ("T1", "T2"))[0]
    volume = read_sequence_case(case, ("T1", "T2"))
    patches = brain_patches(volume, (8, 8, 32), 20, np.random.default_rng(0))
    assert patches.shape == (20, 2, 8, 8, 32)
    assert all(patch.any() for patch in patches)
    assert not patches[..., 18:].any()

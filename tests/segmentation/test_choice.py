"""Sequences and weights that nobody named are those that the data set holds and the weights are for."""

import nibabel as nib
import numpy as np
import pytest

from medical_gans.inference.lesions.choice import SHIPPED, channels_for, weights_for
from medical_gans.weights import WeightsCard


@pytest.fixture
def data(tmp_path):
    def folder(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / name)
        return tmp_path

    return folder


def test_flair_goes_before_t1_and_t1_alone_gets_its_own_weights(data, tmp_path):
    place = data("d/anna/FLAIR.nii.gz", "d/anna/T1.nii.gz", "d/bert/T1.nii.gz") / "d"
    assert channels_for(place) == channels_for(place / "anna") == ["FLAIR"]
    assert channels_for(place / "bert") == ["T1"]
    assert weights_for(None, ["FLAIR"], tmp_path) == str(tmp_path / "brain_lesion.pt")
    assert weights_for(None, ["t1"], tmp_path) == str(tmp_path / "brain_lesion_t1.pt")
    assert weights_for(None, ["T2"], tmp_path) == str(tmp_path / "brain_lesion.pt")
    assert weights_for("mine.pt", ["T1"], tmp_path) == "mine.pt"


def test_one_image_is_known_by_its_name(data, caplog):
    place = data("sub-01_T1.nii.gz", "scan.nii.gz")
    assert channels_for(place / "sub-01_T1.nii.gz") == ["T1"] and not caplog.records
    assert channels_for(place / "scan.nii.gz") == ["FLAIR"]
    assert "Nothing says which sequence scan.nii.gz is" in caplog.text


def test_weights_of_ones_own_are_asked_what_they_are_for(data, tmp_path):
    place = data("d/anna/T1c.nii.gz", "d/bert/FLAIR.nii.gz", "d/bert/T1c.nii.gz") / "d"
    WeightsCard([None] * 3, channels=["FLAIR"], target_channels=["T1c"]).save(tmp_path / "mine.pt")
    assert channels_for(place / "bert", tmp_path / "mine.pt") == ["T1c"]
    WeightsCard([None] * 3, channels=["T2"]).save(tmp_path / "other.pt")
    assert channels_for(place, tmp_path / "other.pt") == ["T2"]


def test_nothing_known_leaves_the_first_to_the_search_that_says_what_lacks(data):
    assert channels_for(data("d/anna/T2.nii.gz") / "d") == channels_for(None) == list(next(iter(SHIPPED)))

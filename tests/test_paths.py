"""Configs and weights are found in the repository and in an installed package."""

import pytest

from medical_gans.cli import config_files
from medical_gans.errors import InputError


@pytest.mark.parametrize("root", ["", "medical_gans"], ids=["repository", "installed"])
def test_the_bundle_root_is_found_in_either_layout(tmp_path, monkeypatch, root):
    package = tmp_path / "medical_gans"
    (tmp_path / root / "configs").mkdir(parents=True)
    (tmp_path / root / "configs" / "metadata.json").touch()
    monkeypatch.setattr(config_files, "PACKAGE", package)
    assert config_files.bundle_root() == tmp_path / root
    assert config_files.configs_dir() == tmp_path / root / "configs"
    assert config_files.models_dir() == tmp_path / root / "models"


def test_a_package_without_configs_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(config_files, "PACKAGE", tmp_path / "medical_gans")
    with pytest.raises(InputError, match="install the package again"):
        config_files.bundle_root()


def test_this_installation_has_its_configs():
    assert (config_files.configs_dir() / "logging.conf").is_file()
    assert config_files.models_dir().is_dir()

"""What stands in for packages of MONAI Label, and when it is no longer needed."""

import importlib.util
from importlib.metadata import version
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / "bundle" / "monai_label" / "install.py"


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("install", INSTALL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(install, monkeypatch) -> list[str]:
    """The commands that the script would run; every one succeeds."""
    run: list[str] = []

    def note(*words: str) -> int:
        run.append(" ".join(words))
        return 0

    monkeypatch.setattr(install, "python", note)
    return run


def test_torch_and_sam2_are_never_pulled_in_by_monai_label(install, commands):
    install.main()
    (label,) = [command for command in commands if "monailabel==" in command]
    assert "--no-deps" in label
    assert not any("sam2" in command for command in commands)


def test_stand_ins_are_installed_only_where_the_real_package_is_missing(install, commands, monkeypatch):
    monkeypatch.setattr(install, "can_be_imported", lambda name: name == "torchvision")
    install.main()
    chosen = [command for command in commands if "stand_ins" in command]
    assert len(chosen) == 1 and chosen[0].endswith("pydicom_seg")


def test_a_package_that_is_installed_but_broken_counts_as_missing(install, monkeypatch):
    monkeypatch.setattr(install, "python", lambda *words: 1)
    assert not install.can_be_imported("json")


def test_stand_ins_are_still_needed(install):
    """When this fails, upstream has moved: try without the stand-ins, and drop those that are not needed."""
    pytest.importorskip("monailabel", reason="MONAI Label is not installed: python bundle/monai_label/install.py")
    assert version("monailabel").startswith(install.MONAI_LABEL)
    assert version("pydicom-seg").startswith("0.4.1"), "a newer pydicom-seg may import with pydicom 3"
    assert int(version("pydicom").split(".")[0]) == 3


def test_the_stand_in_for_torchvision_is_no_torchvision():
    torchvision = pytest.importorskip("torchvision", reason="there is no torchvision at all")
    if not torchvision.__version__.endswith("stand.in"):
        pytest.skip("a real torchvision is installed")
    from monai.utils import optional_import
    from torchvision.utils import make_grid

    with pytest.raises(NotImplementedError, match="torchvision that fits"):
        make_grid([])
    assert not optional_import("torchvision", name="models")[1]

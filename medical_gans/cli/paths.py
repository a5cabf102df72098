"""Where the configs and the weights are: beside the package in the repository, inside it when installed."""

from __future__ import annotations

from pathlib import Path

from medical_gans.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]


def bundle_root() -> Path:
    """The folder that holds ``configs/`` and ``models/``: the root of the MONAI bundle.

    Raises:
        InputError: the package was installed or copied without its configs.
    """
    for folder in (PACKAGE, PACKAGE.parent):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    raise InputError(
        f"The folder configs of medical-gans is neither in {PACKAGE} nor in {PACKAGE.parent}: install the "
        "package again, or copy the whole repository."
    )


def configs_dir() -> Path:
    """The folder of ``<workflow>_<stage>.yaml``, the overlays, ``metadata.json`` and ``logging.conf``."""
    return bundle_root() / "configs"


def models_dir() -> Path:
    """The folder of the shipped weights, ``<workflow>_<site>.pt``."""
    return bundle_root() / "models"

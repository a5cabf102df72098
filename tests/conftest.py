"""What all tests share: one thread per process, no display, and the way to the real patients."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: xdist brings the processes
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real patients: MEDICAL_GANS_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("MEDICAL_GANS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real patients in {folder}; set MEDICAL_GANS_DATA")
    return folder

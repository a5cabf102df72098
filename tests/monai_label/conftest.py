"""An app and studies that the tests in one process share."""

from pathlib import Path

import pytest
from monai_label.label_server import copy_app, write_studies


@pytest.fixture(scope="session")
def label_app(tmp_path_factory) -> Path:
    return copy_app(tmp_path_factory.mktemp("label") / "app")


@pytest.fixture(scope="session")
def label_studies(tmp_path_factory) -> Path:
    return write_studies(tmp_path_factory.mktemp("label_data") / "studies")

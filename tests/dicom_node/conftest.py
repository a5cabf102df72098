"""A clinic for the tests of the node: the modules of its benchmark, an archive, and nodes that can be killed."""

import importlib
import sys

import pytest


@pytest.fixture(scope="session")
def clinic(repository):
    """Senders, archive and node as processes."""
    pytest.importorskip("pynetdicom")
    sys.path.insert(0, str(repository / "benchmarks"))
    yield importlib.import_module("dicom_clinic")
    sys.path.remove(str(repository / "benchmarks"))


@pytest.fixture(scope="session")
def campaign(clinic):
    """The games of the benchmark."""
    return importlib.import_module("dicom_node")


@pytest.fixture(scope="session")
def weights(clinic, tmp_path_factory):
    return clinic.write_weights(tmp_path_factory.mktemp("weights") / "small.pt")


@pytest.fixture(scope="session")
def installed(clinic):
    if missing := clinic.what_is_missing():
        pytest.skip(f"not installed: {missing}")


@pytest.fixture(scope="session")
def forks(installed, clinic):
    started = clinic.Forks()
    yield started
    started.stop()


@pytest.fixture
def archive(installed, clinic, tmp_path):
    server = clinic.Orthanc(tmp_path / "orthanc")
    try:
        server.start()
    except (RuntimeError, TimeoutError) as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def start_node(clinic, forks, weights, archive, tmp_path):
    """Start a node on a folder; settings of the command as arguments."""
    nodes = []

    def start(wait=True, folder=tmp_path / "node", **settings):
        nodes.append(clinic.Node(forks, folder, weights, f"{clinic.HOST}:{archive.port}", **settings))
        nodes[-1].start(wait)
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process:
            node.kill()

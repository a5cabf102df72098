"""Install what the MONAI Label app needs into the environment of the Python that runs this.

    python bundle/monai_label/install.py

It adds this repository with its extra ``label``, MONAI Label without its dependencies (they would replace torch and
build sam2), and stand-ins for two packages that MONAI Label imports but that cannot be imported here.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

MONAI_LABEL = "0.8.5"
APP = Path(__file__).resolve().parent
STAND_INS = APP / "stand_ins"


def main() -> int:
    """Install, then check that the server's modules can be imported."""
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        print("medical-gans runs on Python 3.11 and 3.12.", file=sys.stderr)
        return 2
    pip("install", "-e", f"{APP.parent.parent}[label]")
    pip("install", "--no-deps", f"monailabel=={MONAI_LABEL}")
    for name in ("pydicom_seg", "torchvision"):
        if not can_be_imported(name):
            pip("install", "--no-deps", str(STAND_INS / name))
    return python("-c", "import monailabel.app, monailabel.tasks.infer.bundle; print('MONAI Label is ready.')")


def can_be_imported(name: str) -> bool:
    """Whether a package is installed and works; asked of a fresh process, since a failure may leave traces."""
    return importlib.util.find_spec(name) is not None and python("-c", f"import {name}") == 0


def pip(*words: str) -> None:
    """Run pip; end with its exit code where it fails."""
    if code := python("-m", "pip", *words):
        raise SystemExit(code)


def python(*words: str) -> int:
    """Run this Python; returns its exit code."""
    return subprocess.run([sys.executable, *words], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())

"""Install OpenTPS into the environment of the Python that runs this, which should hold nothing else: its pins are old.

    python3.11 -m venv opentps && opentps/bin/python tests/planning_systems/install_opentps.py

Adds matplotlib, which OpenTPS imports and does not ask for, and makes MCsquare run: in the wheel its shell script has
the line ends of Windows, and nothing may be executed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

VERSIONS = {(3, 11): "2.0.0", (3, 12): "3.0.1"}  # each asks for this Python and no other


def main() -> int:
    """Install, repair, then read something."""
    if sys.version_info[:2] not in VERSIONS:
        print("OpenTPS runs on Python 3.11 and 3.12.", file=sys.stderr)
        return 2
    version = VERSIONS[sys.version_info[:2]]
    if code := run("-m", "pip", "install", f"opentps-core=={version}", "matplotlib"):
        return code
    found = importlib.util.find_spec("opentps")
    assert found is not None and found.submodule_search_locations
    for place in found.submodule_search_locations:
        for program in Path(place).rglob("MCsquare*"):
            if program.is_file() and program.suffix == "":
                program.chmod(0o755)
                if program.read_bytes()[:2] == b"#!":
                    program.write_bytes(program.read_bytes().replace(b"\r\n", b"\n"))
    return run("-c", "import opentps.core.io.dicomIO; print('OpenTPS is ready.')")


def run(*words: str) -> int:
    """Run this Python; its exit code."""
    return subprocess.run([sys.executable, *words], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())

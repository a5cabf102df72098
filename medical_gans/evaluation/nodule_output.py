"""Folders that a run may replace."""

from __future__ import annotations

import json
from pathlib import Path

from medical_gans.errors import OutputError
from medical_gans.io.writing import check_writable


def check_own_output(output_dir: Path, stage: str) -> None:
    """Prove that results can be written, and that nothing but an earlier run of the stage is in the way.

    Raises:
        OutputError: not writable, or other files are there.
    """
    check_writable(output_dir)
    manifest = output_dir / "manifest.json"
    if any(output_dir.iterdir()) and _origin(manifest) != ("lung_nodule", stage):
        raise OutputError(f"{output_dir} holds other files. Choose a new or empty output_dir.")


def _origin(manifest: Path) -> tuple[str, str] | None:
    """Workflow and stage that wrote a manifest."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return str(content["workflow"]), str(content["stage"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""Folders that a run may replace."""

from __future__ import annotations

from pathlib import Path

from medical_gans.errors import OutputError
from medical_gans.io.ownership import Origin, check_replaceable, read_record
from medical_gans.io.writing import check_writable, clear_leftovers


def check_own_output(output_dir: Path, origin: Origin) -> None:
    """Prove that results can be written, and that nothing but an earlier run of the same kind is in the way.

    Raises:
        OutputError: not writable, or other files are there.
    """
    check_writable(output_dir)
    clear_leftovers(output_dir.parent)
    record = read_record(output_dir)
    if any(output_dir.iterdir()) and (record is None or record["run"] != origin.run):
        raise OutputError(f"{output_dir} holds other files. Choose a new or empty output_dir.")
    check_replaceable(output_dir, origin)

"""MkDocs hook: an empty folder that the tutorials work in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

MARK = ".made_by_mkdocs"


def on_config(config: Any) -> None:
    """Make ``site_data`` anew beside ``mkdocs.yml``; only what an earlier build has made is replaced."""
    root = Path(config["config_file_path"]).parent
    folder = root / "site_data"
    if (folder / MARK).is_file():
        shutil.rmtree(folder)
    folder.mkdir()  # fails where somebody else has such a folder
    (folder / MARK).touch()
    for tutorial in ("plan", "recipe", "scanner"):
        (folder / tutorial).mkdir(parents=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])

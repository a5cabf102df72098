"""MkDocs hook: an empty folder that the tutorials work in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def on_config(config: Any) -> None:
    """Make ``site_data`` anew beside ``mkdocs.yml``; it is built, like the site, and belongs to nobody."""
    root = Path(config["config_file_path"]).parent
    folder = root / "site_data"
    shutil.rmtree(folder, ignore_errors=True)
    for tutorial in ("plan", "recipe", "scanner"):
        (folder / tutorial).mkdir(parents=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])

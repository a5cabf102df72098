"""What a run leaves behind names no person, no account and no machine: folders are cut from every path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

_HOME = re.compile(r"(?:[A-Za-z]:)?[/\\](?:home|Users)[/\\][^/\\\s'\"]+|/root\b|~[\w.-]+(?=[/\\])")
_FOLDERS = re.compile(r"(?<![\w.:/\\~<])(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s'\"]+[/\\])*(?=[^/\\\s'\"])")


def without_folders(text: str) -> str:
    """`text` with each absolute path cut to its last name, and home folders to ``~``.

    Relative paths stay: they are what the user typed, or lie inside the data set.
    """
    home = str(Path.home())
    text = text.replace(home, "~") if len(home) > 1 else text
    return _FOLDERS.sub("", _HOME.sub("~", text))


def publishable(value: Any) -> Any:
    """`value` as strict JSON holds it: paths cut, numbers that are not finite and None as null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {without_folders(str(key)): publishable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [publishable(entry) for entry in value]
    return without_folders(value.as_posix() if isinstance(value, PurePath) else str(value))

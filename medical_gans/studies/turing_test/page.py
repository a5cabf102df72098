"""The page that readers open: one HTML file that holds all it needs, and nothing that tells real from generated.

Every image takes the same way: HU clipped to one range, rounded to 8 bits, stored raw, row by row, in base64. So all
images have the same length and no header, and the page interpolates and windows them all alike.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from medical_gans.errors import SettingError
from medical_gans.io.writing import whole_file

_SCRIPTS = ("images.js", "answers.js", "reading.js", "start.js")
_DATA = re.compile(r'<script type="application/json" id="study">(.*?)</script>', re.DOTALL)


def encoded_range(windows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """HU of grey 0 and 255: the range that all windows together span.

    Args:
        windows: HU shown black and white, for each window that readers may choose.

    Raises:
        SettingError: there is no window, or one that is no pair of rising numbers.
    """
    is_pair = [isinstance(pair, Sequence) and len(pair) == 2 and pair[0] < pair[1] for pair in windows]
    if not is_pair or not all(is_pair):
        raise SettingError(
            f"windows is {list(windows)}; give pairs of HU shown black and white, as in [[-1000, 400], [-160, 240]]."
        )
    return min(float(low) for low, _ in windows), max(float(high) for _, high in windows)


def grey_values(hounsfield: np.ndarray, low: float, high: float) -> np.ndarray:
    """``(n, rows, columns)`` HU as uint8: `low` and below become 0, `high` and above 255."""
    scaled = (np.asarray(hounsfield, dtype=np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def page_content(
    grey: np.ndarray,
    tokens: Sequence[str],
    *,
    spacing: Sequence[float],
    windows: Sequence[Sequence[float]],
    ask_malignancy: bool,
    notice: str,
) -> dict[str, Any]:
    """What the page is told of the study, as JSON holds it.

    Args:
        grey: ``(n, rows, columns)`` uint8, in the order of reading.
        tokens: n names of the images.
        spacing: mm along rows and columns.
        windows: HU shown black and white; the first one is shown first.
        ask_malignancy: ask for benign or malignant as well.
        notice: text for the first page.

    Returns:
        The content; its ``id`` is a hash of the rest, so that another study has another one.
    """
    content: dict[str, Any] = {
        "size": list(grey.shape[1:]),
        "spacing": [float(edge) for edge in spacing],
        "encoded": list(encoded_range(windows)),
        "windows": [[float(edge) for edge in pair] for pair in windows],
        "ask_malignancy": ask_malignancy,
        "notice": notice,
        "images": [
            {"id": token, "pixels": base64.b64encode(image.tobytes()).decode()}
            for token, image in zip(tokens, grey, strict=True)
        ],
    }
    return {"id": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12], **content}


def write_page(path: Path, content: Mapping[str, Any]) -> Path:
    """Write the page of a study.

    Raises:
        OutputError: it cannot be written.
    """
    parts = files("medical_gans.studies.turing_test") / "template"
    text = Template((parts / "page.html").read_text(encoding="utf-8")).substitute(
        style=(parts / "page.css").read_text(encoding="utf-8"),
        script="\n".join((parts / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        study=json.dumps(content).replace("<", "\\u003c"),  # a notice must not end the element
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def images_of_page(path: Path, study: str) -> dict[str, np.ndarray]:
    """Grey values ``(rows, columns)`` by token, from the page of a study; empty where it is not that page."""
    try:
        found = _DATA.search(path.read_text(encoding="utf-8"))
        content = json.loads(found.group(1)) if found else {}
    except (OSError, ValueError):
        return {}
    if content.get("id") != study:
        return {}
    return {
        image["id"]: np.frombuffer(base64.b64decode(image["pixels"]), dtype=np.uint8).reshape(content["size"])
        for image in content["images"]
    }

"""How the tutorials show the files that their commands have written."""

from __future__ import annotations

import base64
import csv
import html
from pathlib import Path


def picture(path: str | Path, caption: str) -> None:
    """Print a PNG as a figure that the page carries in itself."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    text = html.escape(caption)
    print(f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>')


def table(path: str | Path, rows: int = 12) -> None:
    """Print the first rows of a CSV file as a table."""
    with open(path, newline="", encoding="utf-8") as file:
        head, *body = csv.reader(file)
    lines = ["<table><thead><tr>", *(f"<th>{html.escape(cell)}</th>" for cell in head), "</tr></thead><tbody>"]
    for row in body[:rows]:
        lines += ["<tr>", *(f"<td>{html.escape(cell)}</td>" for cell in row), "</tr>"]
    print("".join([*lines, "</tbody></table>"]))

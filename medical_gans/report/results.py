"""``report.html`` of a run that ends in tables and pictures of a whole data set."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medical_gans.report.page import html_sentences, html_settings, html_table, write_framed

_INTERVAL = re.compile(r"(.+?) \((.+ to .+)\)")


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns, and rows of text; an interval stands in brackets behind its value."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    strong: Collection[int] = ()  # rows that matter most

    def as_text(self) -> str:
        """Columns below each other."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        shown = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([self.heading, *shown])


def write_results_page(
    path: Path,
    title: str,
    *,
    sentences: Sequence[str],
    sections: Sequence[Table | tuple[str, str]],
    warnings: Sequence[str] = (),
    definitions: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    viewer: str | None = None,
) -> Path:
    """Write the page.

    Args:
        path: HTML file.
        title: heading.
        sentences: said first.
        sections: tables, and pictures as (file beside the page, caption), in their order.
        warnings: of the run, as sentences.
        definitions: of the figures.
        settings: of the run, shown at the end.
        viewer: page beside this one on which the volumes can be scrolled.

    Raises:
        OutputError: it cannot be written.
    """
    parts = [f"<p>{escape(sentence)}</p>" for sentence in sentences]
    if viewer is not None:
        parts.append(f'<p><a href="{quote(viewer)}">Scroll through the volumes</a></p>')
    parts.append(html_sentences(warnings))
    parts += [_table(one) if isinstance(one, Table) else _picture(*one) for one in sections]
    if definitions:
        entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}.</dd>" for name, text in definitions.items())
        parts.append(f"<h2>What the figures are</h2><dl>{entries}</dl>")
    return write_framed(path, title, [*parts, html_settings(settings or {})])


def _table(table: Table) -> str:
    rows = [[_cell(text, number in table.strong) for text in row] for number, row in enumerate(table.rows)]
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    shown = html_table(map(escape, table.columns), rows) if rows else ""
    return f"<h2>{escape(table.heading)}</h2>{shown}{note}"


def _cell(text: str, strong: bool) -> str:
    kind = ' class="failed"' if text == "NO" else ' class="strong"' if strong else ""
    found = _INTERVAL.fullmatch(text)
    shown = f"{escape(found[1])}<small>{escape(found[2])}</small>" if found else escape(text)
    return f"<td{kind}>{shown}</td>"


def _picture(file: str, caption: str) -> str:
    return (
        f'<figure><img src="{quote(file)}" alt="{escape(caption)}" loading="lazy">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )

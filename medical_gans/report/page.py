"""``report.html``: all cases of a run on one page that moves with its folder and needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from urllib.parse import quote

from medical_gans.report.cases import CASES_FOLDER, case_records
from medical_gans.report.frame import html_sentences, html_settings, html_table, write_framed
from medical_gans.report.sheet import spoken
from medical_gans.report.viewer import VIEWER

_WIDTH = 2140  # pixels: that of the pictures
_UNITS = {"mae": "HU", "mean_error": "HU", "psnr": "dB"}
_STATUS = {"done": "done", "warning": "look at warnings", "failed": "failed"}
_LIGHTS = {"green": "done", "amber": "warning", "red": "failed"}
_CAPTIONS = {
    "overview": "Three planes through the middle of the bone; the patient's right is on the left. R, L, A, "
    "P, S, I: right, left, anterior, posterior, superior, inferior. Positions in mm of the file's own space.",
    "contact_sheet": "Axial slices through the whole body.",
    "histogram": "Share of voxels by HU, logarithmic.",
}


def write_page(
    folder: str | Path,
    title: str,
    *,
    settings: Mapping[str, Any] | None = None,
    summary: Sequence[Mapping[str, str | float]] = (),
) -> Path:
    """Put the records of all cases under `folder` together as ``<folder>/report.html``.

    Args:
        folder: output folder of the run, as given to `write_case_report`.
        title: heading.
        settings: of the run, shown at the end.
        summary: rows of a table at the top, such as methods compared.

    Raises:
        OutputError: the page cannot be written.
    """
    records = case_records(folder)
    failed = sum(record["status"] == "failed" for record in records)
    sections = [_section(record, number) for number, record in enumerate(records)]
    return write_framed(
        Path(folder) / "report.html",
        title,
        [_plain_table(summary), _index(records), *sections, html_settings(settings or {})],
        note=f"{len(records)} case{'s' * (len(records) != 1)}, {failed} failed.",
        width=_WIDTH,
    )


def _index(records: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    heads = "".join(f'<th class="n">{_label(name)}</th>' for name in names)
    rows = []
    for number, record in enumerate(records):
        figures = "".join(f'<td class="n">{_figure(record["metrics"].get(name))}</td>' for name in names)
        picture = "" if record["status"] == "failed" else _picture(record, "thumbnail", number)
        total = sum(record["seconds"].values())
        rows.append(
            f'<tr><td>{picture}</td><td><a href="#case{number}">{escape(record["name"])}</a></td>'
            f'<td class="{record["status"]}">{_STATUS[record["status"]]}</td>{figures}'
            f'<td class="n">{f"{total:.1f}" if total else ""}</td></tr>'
        )
    means = ""
    if names and len(records) > 1:
        cells = "".join(f'<td class="n">{_mean([r["metrics"].get(name) for r in records])}</td>' for name in names)
        means = f"<tfoot><tr><td></td><td>mean &plusmn; SD</td><td></td>{cells}<td></td></tr></tfoot>"
    return (
        f'<div class="scroll"><table><thead><tr><th></th><th>case</th><th>status</th>{heads}'
        f'<th class="n">seconds</th></tr></thead><tbody>{"".join(rows)}</tbody>{means}</table></div>'
    )


def _section(record: Mapping[str, Any], number: int) -> str:
    parts = [f'<section id="case{number}"><h2>{escape(record["name"])}</h2>']
    if "shape" in record:
        shape, spacing = (" x ".join(f"{value:g}" for value in record[key]) for key in ("shape", "spacing"))
        parts.append(f'<p class="note">{shape} voxels of {spacing} mm</p>')
    if record.get("viewer"):
        parts.append(f'<p><a href="{_viewer(record)}">Scroll through the volumes</a>{_ways(record)}</p>')
    parts.append(html_sentences(record["warnings"], record["status"]))
    for title, rows in record.get("tables", {}).items():
        parts.append(f'<p class="note">{escape(title)}</p>{_plain_table(rows)}')
    if record["status"] != "failed":
        captions = {**record.get("pictures", _CAPTIONS), **record.get("more_pictures", {})}
        for kind, caption in captions.items():
            picture = _picture(record, kind, number, link=True)
            parts.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return "".join([*parts, "</section>"])


def _viewer(record: Mapping[str, Any], position: Sequence[float] | None = None) -> str:
    place = "" if position is None else "#mm=" + ",".join(f"{value:.1f}" for value in position)
    return quote(f"{CASES_FOLDER}/{record['name']}/{VIEWER}") + place


def _ways(record: Mapping[str, Any]) -> str:
    """Links to the places of a case."""
    links = [
        f'<a href="{_viewer(record, one["position"])}">{escape(one["label"])}</a>' for one in record.get("places", ())
    ]
    return f", or go to {', '.join(links)}" if links else ""


def _picture(record: Mapping[str, Any], kind: str, number: int, *, link: bool = False) -> str:
    source = quote(f"{CASES_FOLDER}/{record['name']}/{kind}.png")
    image = f'<img src="{source}" alt="{kind.replace("_", " ")} of {escape(record["name"])}" loading="lazy">'
    return f'<a href="{source if link else f"#case{number}"}">{image}</a>'


def _plain_table(rows: Sequence[Mapping[str, str | float]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return html_table(map(_label, names), ([_cell(name, row.get(name)) for name in names] for row in rows))


def _cell(name: str, value: str | float | None) -> str:
    """One cell; that of a column `light` is coloured."""
    colour = _LIGHTS.get(str(value), "") if name == "light" else ""
    return f'<td class="{colour}">{_figure(value)}</td>' if colour else f"<td>{_figure(value)}</td>"


def _label(name: str) -> str:
    unit = next((unit for start, unit in _UNITS.items() if name.startswith(start)), None)
    return escape(f"{spoken(name)} ({unit})" if unit else spoken(name))


def _figure(value: str | float | None) -> str:
    if value is None:
        return "&ndash;"
    return escape(value) if isinstance(value, str) else f"{value:.4g}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "&ndash;"
    return f"{fmean(known):.4g}" + (f" &plusmn; {stdev(known):.2g}" if len(known) > 1 else "")

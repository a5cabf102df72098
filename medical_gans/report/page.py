"""``report.html``: all cases of a run on one page that moves with its folder and needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from string import Template
from typing import Any
from urllib.parse import quote

from medical_gans.io.writing import whole_file
from medical_gans.report.cases import CASES_FOLDER, case_records
from medical_gans.report.redaction import publishable
from medical_gans.report.sheet import spoken

RESEARCH_USE = "For research use only. Not a medical device; not for diagnosis or treatment."
_UNITS = {"mae": "HU", "mean_error": "HU", "psnr": "dB"}
_STATUS = {"done": "done", "warning": "look at warnings", "failed": "failed"}
_LIGHTS = {"green": "done", "amber": "warning", "red": "failed"}
_CAPTIONS = {
    "overview": "Three planes through the middle of the bone; the patient's right is on the left. R, L, A, "
    "P, S, I: right, left, anterior, posterior, superior, inferior. Positions in mm of the file's own space.",
    "contact_sheet": "Axial slices through the whole body.",
    "histogram": "Share of voxels by HU, logarithmic.",
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #68707a; --paper: #fff; --line: #dfe2e6;
  --soft: #f5f6f8; --good: #1d7a3a; --warn: #a15c00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e7e4; --faint: #9aa1a9; --paper: #15171a;
  --line: #30343a; --soft: #1d2024; --good: #7bd694; --warn: #f2b25c; --bad: #ff8f85; } }
body { margin: 0 auto; max-width: 2140px; padding: 1.2rem 1.6rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: inherit; }
.note, figcaption { color: var(--faint); font-size: .87rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th { font-size: .82rem; color: var(--faint); white-space: nowrap; }
.n { text-align: right; }
tfoot td { font-weight: 600; background: var(--soft); }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
td img { height: 64px; width: auto; max-width: none; }
figure { margin: .8rem 0; }
td.done { color: var(--good); }
td.warning { color: var(--warn); }
td.failed { color: var(--bad); }
ul { margin: .4rem 0; padding: .6rem .6rem .6rem 1.8rem; background: var(--soft);
  border-left: 4px solid var(--warn); }
ul.failed { border-color: var(--bad); }
"""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
<p class="note">$research $count</p>
$summary
$index
$cases
$settings
</body>
</html>
""")


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
    path = Path(folder) / "report.html"
    with whole_file(path) as temporary:
        temporary.write_text(
            _PAGE.substitute(
                title=escape(title),
                style=_STYLE,
                research=RESEARCH_USE,
                count=f"{len(records)} case{'s' * (len(records) != 1)}, {failed} failed.",
                summary=_plain_table(summary),
                index=_index(records),
                cases="".join(_section(record, number) for number, record in enumerate(records)),
                settings=_settings(settings or {}),
            ),
            encoding="utf-8",
        )
    return path


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
    if record["warnings"]:
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in record["warnings"])
        parts.append(f'<ul class="{record["status"]}">{sentences}</ul>')
    for title, rows in record.get("tables", {}).items():
        parts.append(f'<p class="note">{escape(title)}</p>{_plain_table(rows)}')
    if record["status"] != "failed":
        captions = {**record.get("pictures", _CAPTIONS), **record.get("more_pictures", {})}
        for kind, caption in captions.items():
            picture = _picture(record, kind, number, link=True)
            parts.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return "".join([*parts, "</section>"])


def _picture(record: Mapping[str, Any], kind: str, number: int, *, link: bool = False) -> str:
    source = quote(f"{CASES_FOLDER}/{record['name']}/{kind}.png")
    image = f'<img src="{source}" alt="{kind.replace("_", " ")} of {escape(record["name"])}" loading="lazy">'
    return f'<a href="{source if link else f"#case{number}"}">{image}</a>'


def _settings(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    rows = [{"setting": name, "value": str(value)} for name, value in publishable(settings).items()]
    return f"<details><summary>Settings</summary>{_plain_table(rows)}</details>"


def _plain_table(rows: Sequence[Mapping[str, str | float]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    heads = "".join(f"<th>{_label(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(name, row.get(name)) for name in names) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


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

"""``report.html`` of a run that judges nodules or trains what judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from medical_gans.evaluation.nodule_tables import Table
from medical_gans.io.writing import whole_file
from medical_gans.report.page import RESEARCH_USE
from medical_gans.report.redaction import publishable

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #68707a; --paper: #fff; --line: #dfe2e6; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e7e4; --faint: #9aa1a9; --paper: #15171a; --line: #30343a;
  --bad: #ff8f85; } }
body { margin: 0 auto; max-width: 1500px; padding: 1.2rem 1.6rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
.note, figcaption { color: var(--faint); font-size: .87rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { font-size: .82rem; color: var(--faint); }
td small { display: block; color: var(--faint); }
td.no { color: var(--bad); font-weight: 600; }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
dt { font-weight: 600; }
dd { margin: 0 0 .4rem 1.2rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="note">$research</p>
$sentences
$body
</body>
</html>
""")


def write_nodule_page(
    path: Path,
    title: str,
    *,
    sentences: Sequence[str],
    sections: Sequence[Table | tuple[str, str]],
    definitions: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Path:
    """Write the page.

    Args:
        path: HTML file.
        title: heading.
        sentences: said first.
        sections: tables, and pictures as (file beside the page, caption), in their order.
        definitions: of the figures.
        settings: of the run, shown at the end.

    Raises:
        OutputError: it cannot be written.
    """
    parts = [_table(one) if isinstance(one, Table) else _picture(*one) for one in sections]
    if definitions:
        entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}.</dd>" for name, text in definitions.items())
        parts.append(f"<h2>What the figures are</h2><dl>{entries}</dl>")
    rows = [[name, str(value)] for name, value in publishable(settings).items()]
    parts.append(f"<details><summary>Settings</summary>{_table(Table('', ['setting', 'value'], rows))}</details>")
    text = _PAGE.substitute(
        title=escape(title),
        research=RESEARCH_USE,
        sentences="".join(f"<p>{escape(sentence)}</p>" for sentence in sentences),
        body="\n".join(parts),
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    heading = f"<h2>{escape(table.heading)}</h2>" if table.heading else ""
    return f'{heading}<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(text: str) -> str:
    value, bracket, interval = text.partition(" (")
    small = f"<small>{escape(interval.removesuffix(')'))}</small>" if bracket else ""
    return f"<td{' class=no' if text == 'NO' else ''}>{escape(value)}{small}</td>"


def _picture(file: str, caption: str) -> str:
    return (
        f'<figure><img src="{quote(file)}" alt="{escape(caption)}" loading="lazy">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )

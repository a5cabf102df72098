"""``report.html`` of a run that makes nodules: its pictures and what they show, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from medical_gans.io import whole_file
from medical_gans.report.page import RESEARCH_USE
from medical_gans.report.redaction import publishable

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #68707a; --paper: #fff; --line: #dfe2e6; --warn: #a15c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e7e4; --faint: #9aa1a9; --paper: #15171a; --line: #30343a;
  --warn: #f2b25c; } }
body { margin: 0 auto; max-width: 1240px; padding: 1.2rem 1.6rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; }
a { color: inherit; }
.note, figcaption { color: var(--faint); font-size: .87rem; }
.warning { border-left: 4px solid var(--warn); padding-left: .8rem; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); }
</style>
</head>
<body>
<h1>$title</h1>
<p class="note">$research</p>
<p>$text</p>
$warnings
$figures
<details><summary>Settings</summary>$settings</details>
</body>
</html>
""")


def write_page(
    path: Path,
    title: str,
    text: str,
    figures: Mapping[str, str],
    settings: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> Path:
    """Write the page.

    Args:
        path: HTML file.
        title: heading.
        text: what was made.
        figures: caption by the name of a picture beside the page.
        settings: of the run.
        warnings: sentences.

    Raises:
        OutputError: it cannot be written.
    """
    shown = "".join(
        f'<figure><img src="{quote(name)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for name, caption in figures.items()
    )
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in publishable(settings).items()
    )
    content = _PAGE.substitute(
        title=escape(title),
        research=RESEARCH_USE,
        text=escape(text),
        warnings="".join(f'<p class="warning">{escape(sentence)}</p>' for sentence in warnings),
        figures=shown,
        settings=f"<table>{rows}</table>",
    )
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path

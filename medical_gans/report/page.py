"""The frame of every page that a person reads after a run: one look, one notice, nothing from the network.

What a run leaves behind names no person, no account and no machine: folders are cut from every path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from html import escape
from numbers import Integral, Real
from pathlib import Path, PurePath
from string import Template
from typing import Any

from medical_gans.io.writing import whole_file

RESEARCH_USE = "For research use only. Not a medical device; not for diagnosis or treatment."
_HOME = re.compile(r"(?:[A-Za-z]:)?[/\\](?:home|Users)[/\\][^/\\\s'\"]+|/root\b|~[\w.-]+(?=[/\\])")
_FOLDERS = re.compile(r"(?<![\w.:/\\~<])(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s'\"]+[/\\])*(?=[^/\\\s'\"])")
PALETTE = """:root { color-scheme: light dark; --ink: #1c1f23; --faint: #68707a; --paper: #fff; --line: #dfe2e6;
  --soft: #f5f6f8; --good: #1d7a3a; --warn: #a15c00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e7e4; --faint: #9aa1a9; --paper: #15171a;
  --line: #30343a; --soft: #1d2024; --good: #7bd694; --warn: #f2b25c; --bad: #ff8f85; } }"""
"""Colours of every page, by day and by night."""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$palette
body { margin: 0 auto; max-width: ${width}px; padding: 1.2rem 1.6rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: inherit; }
.note, figcaption { color: var(--faint); font-size: .87rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th { font-size: .82rem; color: var(--faint); white-space: nowrap; }
td small { display: block; color: var(--faint); white-space: nowrap; }
.n { text-align: right; }
tfoot td { font-weight: 600; background: var(--soft); }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
td img { height: 64px; width: auto; max-width: none; }
figure { margin: .8rem 0; }
.strong { font-weight: 600; }
td.done { color: var(--good); }
td.warning { color: var(--warn); }
td.failed { color: var(--bad); }
ul { margin: .4rem 0; padding: .6rem .6rem .6rem 1.8rem; background: var(--soft);
  border-left: 4px solid var(--warn); }
ul.failed { border-color: var(--bad); }
dt { font-weight: 600; }
dd { margin: 0 0 .4rem 1.2rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="note">$notice</p>
$body
</body>
</html>
""")


def write_framed(path: Path, title: str, parts: Iterable[str], *, note: str = "", width: int = 1400) -> Path:
    """Write a page.

    Args:
        path: HTML file.
        title: heading.
        parts: HTML of the body.
        note: sentence beside the notice.
        width: largest, in pixels.

    Raises:
        OutputError: it cannot be written.
    """
    notice = f"{RESEARCH_USE} {escape(note)}".strip()
    body = "\n".join(filter(None, parts))
    text = _PAGE.substitute(title=escape(title), palette=PALETTE, width=width, notice=notice, body=body)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def html_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls; heads and cells are HTML, each cell with its ``<td>``."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def html_sentences(sentences: Iterable[str], kind: str = "warning") -> str:
    """A marked list of warnings, or nothing where there are none."""
    points = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{kind}">{points}</ul>' if points else ""


def html_settings(settings: Mapping[str, Any]) -> str:
    """The settings of a run, folded away, without what names a person or a machine."""
    if not settings:
        return ""
    cells = [(f"<td>{escape(name)}</td>", f"<td>{escape(str(v))}</td>") for name, v in publishable(settings).items()]
    return f"<details><summary>Settings</summary>{html_table(('setting', 'value'), cells)}</details>"


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

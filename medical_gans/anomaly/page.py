"""The page that a person reads after anomaly detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from medical_gans.anomaly.figures import Auc
from medical_gans.anomaly.scores import SCORES
from medical_gans.io.writing import whole_file
from medical_gans.report.page import RESEARCH_USE
from medical_gans.report.redaction import publishable

_METHODS = {
    "f_anogan": "f-AnoGAN: an encoder finds the normal patch at once (Schlegl et al. 2019)",
    "anogan": "AnoGAN: the normal patch is searched for (Schlegl et al. 2017)",
}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lung anomalies</title>
<style>
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #68707a; --paper: #fff; --line: #dfe2e6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e7e4; --faint: #9aa1a9; --paper: #15171a; --line: #30343a; } }
body { margin: 0 auto; max-width: 1340px; padding: 1.2rem 1.6rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
.note { color: var(--faint); font-size: .87rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
tr.chosen td { font-weight: 600; }
img { max-width: 100%; border-radius: 4px; }
</style>
</head>
<body>
<h1>Lung anomalies</h1>
<p class="note">$research</p>
<p>$method. Patches are ranked by <b>$score</b>: $meaning.</p>
<p>$count</p>
$warnings
<p><img src="scores.png" alt="scores by label, ROC curves"></p>
$figures
<h2>Patches</h2>
<p class="note">The difference is the patch minus what normal lung would be there: orange where the patch is denser.</p>
<p><img src="patches.png" alt="patches, their reconstructions as normal lung, and differences"></p>
<details><summary>Settings</summary>$settings</details>
</body>
</html>
""")


def write_anomaly_page(
    folder: Path,
    is_nodule: np.ndarray,
    *,
    method: str,
    score: str,
    figures: Mapping[str, Auc],
    warnings: Sequence[str],
    settings: Mapping[str, Any],
) -> Path:
    """Write ``report.html`` beside ``scores.png`` and ``patches.png``.

    Raises:
        OutputError: it cannot be written.
    """
    nodules, normal, unknown = (int((is_nodule == label).sum()) for label in (1, 0, -1))
    rows = [(name, str(auc), SCORES[name]) for name, auc in figures.items()]
    text = _PAGE.substitute(
        research=RESEARCH_USE,
        method=escape(_METHODS[method]),
        score=escape(score),
        meaning=escape(SCORES[score]),
        count=f"{len(is_nodule)} patches: {nodules} nodules, {normal} normal, {unknown} unlabelled.",
        warnings="".join(f"<p><strong>{escape(sentence)}</strong></p>" for sentence in warnings),
        figures=_figures(rows, score) if rows else "",
        settings=_table(("setting", "value"), [(name, str(value)) for name, value in publishable(settings).items()]),
    )
    path = folder / "report.html"
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _figures(rows: Sequence[tuple[str, ...]], chosen: str) -> str:
    note = (
        "AUC of nodule against normal with a 95 % bootstrap interval over patches; patches of one patient are not "
        "independent, so the interval is too narrow where patients gave several."
    )
    table = _table(("score", "AUC", "what it is"), rows, chosen)
    return f'<h2>Figures</h2>{table}<p class="note">{note}</p>'


def _table(heads: Sequence[str], rows: Sequence[tuple[str, ...]], chosen: str | None = None) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(
        f"<tr{' class=chosen' if row[0] == chosen else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

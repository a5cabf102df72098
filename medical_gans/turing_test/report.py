"""The page that tells what a reader study found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from medical_gans.io.writing import whole_file
from medical_gans.report.page import RESEARCH_USE
from medical_gans.turing_test.agreement import Agreement
from medical_gans.turing_test.figures import DEFINITIONS, Figure

HEADS = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "frr": "FRR",
    "trr": "TRR",
    "d_prime": "d\N{PRIME}",
    "bias": "bias",
    "malignancy_real": "class of real",
    "malignancy_generated": "class of generated",
    "seconds": "seconds per image",
}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Visual Turing Test</title>
<style>
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #68707a; --paper: #fff; --line: #dfe2e6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e7e4; --faint: #9aa1a9; --paper: #15171a; --line: #30343a; } }
body { margin: 0 auto; max-width: 1240px; padding: 1.2rem 1.6rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
.note, caption { color: var(--faint); font-size: .87rem; text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td small { color: var(--faint); }
tr.all td { font-weight: 600; }
img { max-width: 100%; border-radius: 4px; }
dt { font-weight: 600; }
dd { margin: 0 0 .4rem 1.2rem; }
</style>
</head>
<body>
<h1>Visual Turing Test</h1>
<p class="note">$research Study $study.</p>
<p>$summary</p>
<p>$advice</p>
$warnings
<p><img src="figures.png" alt="ROC curve of each reader; accuracy, AUC, FRR and TRR with intervals"></p>
<h2>Figures</h2>
<p class="note">Years of experience: $years.</p>
<div class="scroll">$figures</div>
<h2>Agreement between readers</h2>
$agreement
$images
<h2>What the figures are</h2>
<dl>$definitions</dl>
<p class="note">Intervals are 95 %. Of one reader: Wilson for shares, DeLong for the AUC. Over readers: percentile
bootstrap of images, so they hold for these readers reading other images, not for other readers.</p>
</body>
</html>
""")


def write_report(
    path: Path,
    study: str,
    figures: Mapping[tuple[str, str], Mapping[str, Figure]],
    agreement: Sequence[Agreement],
    *,
    years_of_experience: Mapping[str, int],
    counts: tuple[int, int],
    has_images: bool,
    warnings: Sequence[str] = (),
) -> Path:
    """Write the page.

    Args:
        path: HTML file to write; ``figures.png`` and ``images.png`` lie beside it.
        study: its name.
        figures: by (reader, class); the last reader stands for all where there are several.
        agreement: between readers.
        years_of_experience: by reader.
        counts: real and generated images.
        has_images: whether there is ``images.png``.
        warnings: sentences.

    Raises:
        OutputError: it cannot be written.
    """
    readers = list(years_of_experience)
    overall = [found for (_, malignancy), found in figures.items() if malignancy == "all"][-1]
    who = f"Reader {escape(readers[0])}" if len(readers) == 1 else f"{len(readers)} readers"
    summary = (
        f"{who} judged {counts[0]} real and {counts[1]} generated images, and {_percent(overall['accuracy'])} of the "
        f"judgements were right; the AUC is {_shown(overall['auc'], ', 95 % interval ')}. Of the judgements on "
        f"generated images {_percent(overall['frr'])} were real (FRR), of those on real images "
        f"{_percent(overall['trr'])} (TRR)."
    )
    advice = (
        "A reader who calls everything real has an FRR of 1 and has recognised nothing. Read the FRR beside the TRR, "
        "and judge by accuracy and AUC: images are hard to tell apart where both are near 0.5. An interval that "
        "includes 0.5 is no proof that they cannot be told apart; it must also be narrow."
    )
    rows = [_row(reader, malignancy, found, len(readers) > 1) for (reader, malignancy), found in figures.items()]
    heads = "".join(f"<th>{HEADS[name]}</th>" for name in overall)
    kappas = "".join(
        f"<tr><td>{escape(', '.join(row.readers))}</td><td>{row.method}</td><td>{_cell(row.kappa)}</td></tr>"
        for row in agreement
    )
    text = _PAGE.substitute(
        research=RESEARCH_USE,
        study=escape(study),
        summary=summary,
        advice=advice,
        years=escape(", ".join(f"{reader} {years}" for reader, years in years_of_experience.items())),
        warnings="".join(f"<p><strong>{escape(sentence)}</strong></p>" for sentence in warnings),
        figures=f"<table><thead><tr><th>reader</th><th>class</th><th>answers</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>",
        agreement=f"<table><thead><tr><th>readers</th><th>kappa</th><th></th></tr></thead><tbody>{kappas}</tbody></table>"
        "<p class='note'>On real or generated; 0 is what the readers' habits alone would give, 1 full agreement.</p>"
        if agreement
        else "<p class='note'>There is one reader only.</p>",
        images="<h2>Images</h2><p><img src='images.png' alt='generated images most and least often judged real, and "
        "real ones most often judged generated'></p>"
        if has_images
        else "",
        definitions="".join(
            f"<dt>{HEADS[name]}</dt><dd>{escape(meaning)}.</dd>"
            for name, meaning in DEFINITIONS.items()
            if name in overall
        ),
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _row(reader: str, malignancy: str, found: Mapping[str, Figure], has_several: bool) -> str:
    cells = "".join(f"<td>{_cell(figure, name)}</td>" for name, figure in found.items())
    kind = ' class="all"' if malignancy == "all" and has_several and reader == "all readers" else ""
    return f"<tr{kind}><td>{escape(reader)}</td><td>{malignancy}</td><td>{found['accuracy'].n}</td>{cells}</tr>"


def _cell(figure: Figure, name: str = "") -> str:
    if name == "seconds":
        return f"{figure.value:.1f}" if math.isfinite(figure.value) else "&ndash;"
    value, _, interval = _shown(figure, "|").partition("|")
    return f"{value} <small>{interval}</small>" if interval else value


def _shown(figure: Figure, before_interval: str) -> str:
    if not math.isfinite(figure.value):
        return "&ndash;"
    value, low, high = (
        f"{edge:z.2f}".replace("-", "\N{MINUS SIGN}") for edge in (figure.value, figure.low, figure.high)
    )
    return f"{value}{before_interval}{low} to {high}" if math.isfinite(figure.low) else value


def _percent(share: Figure) -> str:
    if not math.isfinite(share.value):
        return "none"
    return f"{100 * share.value:.0f} % (95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)"

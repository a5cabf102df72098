"""The page that a person reads after anomaly detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.inference.anomaly.figures import Auc
from medical_gans.inference.anomaly.scores import SCORES
from medical_gans.report import Table, write_results_page

_METHODS = {
    "f_anogan": "f-AnoGAN: an encoder finds the normal patch at once (Schlegl et al. 2019)",
    "anogan": "AnoGAN: the normal patch is searched for (Schlegl et al. 2017)",
}
_PATCHES = (
    "Patches, their reconstructions as normal lung, and the patch minus what normal lung would be there: orange where "
    "the patch is denser."
)
_NOTE = (
    "AUC of nodule against normal with a 95 % bootstrap interval over patches; patches of one patient are not "
    "independent, so the interval is too narrow where patients gave several."
)


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
    table = Table(
        "Figures", ("score", "AUC", "what it is"), rows, _NOTE, strong=[list(figures).index(score)] if rows else ()
    )
    return write_results_page(
        folder / "report.html",
        "Lung anomalies",
        sentences=[
            f"{_METHODS[method]}. Patches are ranked by {score}: {SCORES[score]}.",
            f"{len(is_nodule)} patches: {nodules} nodules, {normal} normal, {unknown} unlabelled.",
        ],
        sections=[
            ("scores.png", "Scores by label, and ROC curves." if rows else "Scores."),
            *([table] if rows else []),
            ("patches.png", _PATCHES),
        ],
        warnings=warnings,
        settings=settings,
    )

"""How good synthetic CTs are on patients whose true CT is known, beside the baselines that need no network."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medical_gans.baselines import water
from medical_gans.errors import InputError
from medical_gans.evaluation.figures import plain_figures, summarise, text_table, write_csv, write_json
from medical_gans.evaluation.methods import LookupBaseline
from medical_gans.io import Case, check_writable
from medical_gans.metrics import synthetic_ct_metrics
from medical_gans.pairs import Pair, read_pair
from medical_gans.report import (
    Manifest,
    case_records,
    input_hashes,
    write_case_report,
    write_failed_case,
    write_page,
)

logger = logging.getLogger(__name__)

Method = Callable[[Pair], np.ndarray]
"""HU of a pair, on its grid."""


class TranslationEvaluation:
    """Judges one method of synthesis, and the baselines, over a cohort of pairs.

    Written to `output_dir`: ``metrics.csv``, ``metrics.json``, ``report.html`` with pictures, ``manifest.json``, and
    ``lookup.json`` where a table was fitted.

    Args:
        cases: with MR and CT on one grid.
        synthetic_ct: what is judged.
        output_dir: folder for everything written.
        lookup_pairs: training pairs or stored table for the baseline by MR intensity; None leaves it out.
        manifest: of the run.
    """

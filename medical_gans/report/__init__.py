"""Pictures and the page that a person reads after a run, pictures of a training, and the manifest."""

from medical_gans.report.cases import (
    CASES_FOLDER,
    case_records,
    skip_case,
    write_case_report,
    write_failed_case,
    write_page,
    write_record,
)
from medical_gans.report.manifest import Manifest, input_hashes
from medical_gans.report.results import Table, write_results_page
from medical_gans.report.training import loss_curves, training_sheet
from medical_gans.report.viewer import Place, ViewedImage, write_viewer

__all__ = [
    "CASES_FOLDER",
    "Manifest",
    "Place",
    "Table",
    "ViewedImage",
    "case_records",
    "input_hashes",
    "loss_curves",
    "skip_case",
    "training_sheet",
    "write_case_report",
    "write_failed_case",
    "write_page",
    "write_record",
    "write_results_page",
    "write_viewer",
]

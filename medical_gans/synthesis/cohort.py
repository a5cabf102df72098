"""A cohort from MR to synthetic CT: every case done once, whole or not at all, and shown on one page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from ignite.engine import Engine
from monai.engines import Evaluator
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from medical_gans.errors import InputError, UserError
from medical_gans.fingerprint import Fingerprint
from medical_gans.io import Case, check_writable
from medical_gans.report import Manifest, write_failed_case, write_page
from medical_gans.report.manifest import sha256
from medical_gans.synthesis.dicom_output import DicomOutput
from medical_gans.synthesis.one_case import CaseSynthesis
from medical_gans.synthesis.volume import SliceSynthesis

_LONGEST_WAIT = timedelta(days=7)  # of a process that is done for the others
_NAMED_FAILURES = 5

logger = logging.getLogger(__name__)


class CaseEvaluator(Evaluator):
    """Runs whole-volume synthesis over the cases of a data set.

    Written to `output_dir`: for each case ``<case>/synthetic_ct.nii.gz`` (int16 HU on the grid of the MR)
    and, where several estimates were averaged, ``<case>/uncertainty.nii.gz`` (their standard deviation,
    int16 HU); for DICOM input ``<case>/dicom/`` with a CT series; pictures under ``report/<case>/``; at the end
    ``report.html`` and ``manifest.json``.

    A bad case is reported, skipped, and named in the error that ends the run; the error of an only case is
    raised as it is. Cases that lie finished in `output_dir`, made from the same inputs by the same weights
    and settings, are not done again. Under torchrun the cases are shared among the processes.

    Args:
        device: where the generators are.
        cases: with at least an MR; a CT on the same grid is shown beside the result.
        synthesis: from an MR to a synthetic CT.
        weights: files that the generators were loaded from.
        output_dir: folder for everything written.
        fingerprint: of the training images, to which each MR is compared.
        strict: refuse an MR that differs from the training images instead of warning.
        dataset_dir: data set that the cases were found in.
        dicom: how DICOM is read, written and sent.
        quality: checks of each result, see `one_case.CaseSynthesis`.
        seed: for the manifest.
    """

    def __init__(
        self,
        device: torch.device | str,
        cases: Sequence[Case],
        synthesis: SliceSynthesis,
        weights: Sequence[Path],
        output_dir: str | Path,
        *,
        fingerprint: Fingerprint | None = None,
        strict: bool = False,
        dataset_dir: str | Path | Sequence[str | Path] = ".",
        dicom: DicomOutput | None = None,
        quality: Callable[..., Any] | None = None,
        seed: int | None = None,
    ) -> None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        self.cases = list(cases)[rank::processes]
        super().__init__(device, self.cases, iteration_update=self._update)
        self.logger.setLevel(logging.CRITICAL)  # of epochs and of errors that are told below
        self.is_first = rank == 0
        self.is_only_case = len(cases) == 1
        self.output_dir = Path(output_dir)
        shown = dataset_dir if isinstance(dataset_dir, str | Path) else [str(place) for place in dataset_dir]
        self.dicom = dicom or DicomOutput()
        settings = {"dataset_dir": shown, "strict": strict, **synthesis.settings, **self.dicom.settings}
        self.manifest = Manifest("mr_to_ct", "inference", settings=settings, seed=seed, device=str(device))
        self.manifest.weights = {_name(file, weights): sha256(file) for file in weights}
        self.case_synthesis = CaseSynthesis(
            synthesis,
            self.output_dir,
            sorted(self.manifest.weights.values()),
            fingerprint,
            strict,
            shown if isinstance(shown, str | Path) else ".",
            self.dicom,
            quality,
        )
        self.failures: dict[str, str] = {}
        self._stopped_by: Exception | None = None
        self._bar: tqdm = tqdm(disable=True)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Translate all cases of this process, then write page and manifest.

        Raises:
            UserError: cases failed; the others are done.
            OutputError: results cannot be written.
        """
        check_writable(self.output_dir)
        together = distributed.is_initialized()
        group = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT) if together else None
        quiet = None if self.is_first else True
        logger.info("Cases to translate on %s: %d", self.state.device, len(self.cases))
        self._bar = tqdm(total=len(self.cases), desc="cases", unit="case", disable=quiet)
        with self.manifest.timed("cases"), logging_redirect_tqdm(), self._bar:
            if self.cases:
                super().run(global_epoch)
        if self._stopped_by is not None:
            raise self._stopped_by
        failures = _of_all_processes(self.failures, group)
        if self.is_first:
            write_page(self.output_dir, "Synthetic CT from MR", settings=self.manifest.settings)
            self.manifest.write(self.output_dir)
            logger.info("Results are in %s; begin with its report.html.", self.output_dir)
        if failures:
            raise UserError(_summary(failures))

    def _update(self, engine: Engine, case: Case) -> dict[str, str]:
        """One case. What goes wrong is kept until the engine has stopped, which would print it as well."""
        begin = time.perf_counter()
        self._bar.set_postfix_str(case.name)
        state = "done"
        try:
            if self.case_synthesis.is_finished(case):
                state = "was done before"
            else:
                self._translate(case)
        except Exception as error:
            state = "failed"
            self._fail(case, _out_of_memory(case, error) or error)
        else:
            state = self._deliver(case, state)
        logger.info("%s %s (%.1f s)", case.name, state, time.perf_counter() - begin)
        self._bar.update()
        return {"case": case.name, "state": state}

    def _translate(self, case: Case) -> None:
        with tqdm(desc=case.name, unit="slice", leave=False, disable=self._bar.disable, position=1) as slices:

            def show(done: int, total: int) -> None:
                slices.total = total
                slices.update(done - slices.n)

            for warning in self.case_synthesis.run(case, show):
                logger.warning("%s: %s", case.name, warning)

    def _deliver(self, case: Case, state: str) -> str:
        """Send what was written; a case that does not arrive counts as failed, but stays."""
        try:
            self.dicom.deliver(self.output_dir / case.name)
        except UserError as error:
            self.failures[case.name] = str(error)
            logger.error("%s is written but not sent: %s", case.name, error)
            return f"{state}, not sent"
        return state

    def _fail(self, case: Case, error: Exception) -> None:
        if self.is_only_case or (isinstance(error, UserError) and not isinstance(error, InputError)):
            self._stopped_by = error
            self.terminate()
            return
        reason = str(error)
        if not isinstance(error, UserError):
            reason = f"unexpected {type(error).__name__}: {error}"
            logger.error("%s failed unexpectedly", case.name, exc_info=error)
        self.failures[case.name] = reason
        logger.error("%s is skipped: %s", case.name, reason)
        write_failed_case(self.output_dir, case.name, reason)


def _name(file: Path, among: Sequence[Path]) -> str:
    """Name of a weights file, with its folder where several runs each wrote one of that name."""
    shared = sum(other.name == file.name for other in among) > 1
    return f"{file.absolute().parent.name}/{file.name}" if shared else file.name


def _out_of_memory(case: Case, error: Exception) -> InputError | None:
    """A sentence in place of what Python and torch raise when the memory does not suffice."""
    if not isinstance(error, MemoryError) and "allocate" not in str(error) * isinstance(error, RuntimeError):
        return None
    return InputError(f"{case.mr} does not fit into the memory. Set tile to 256, or use a larger machine.")


def _of_all_processes(failures: dict[str, str], group: Any) -> dict[str, str]:
    if group is None:
        return failures
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, failures, group=group)
    return {name: reason for some in gathered for name, reason in some.items()}


def _summary(failures: dict[str, str]) -> str:
    named = [f"{name} ({reason})" for name, reason in list(failures.items())[:_NAMED_FAILURES]]
    more = f" and {len(failures) - len(named)} more" if len(failures) > len(named) else ""
    count = "1 case" if len(failures) == 1 else f"{len(failures)} cases"
    return f"{count} failed and the others are done: {'; '.join(named)}{more}."

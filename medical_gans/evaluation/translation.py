"""How good synthetic CTs are on patients whose true CT is known, beside baselines that need no network."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as distributed
from scipy import ndimage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from medical_gans.data.pairs import read_pair
from medical_gans.errors import InputError, UserError
from medical_gans.evaluation.baselines import water
from medical_gans.evaluation.figures import (
    Figures,
    Rows,
    page_table,
    plain_figures,
    skull_table,
    summarise,
    text_table,
    write_csv,
    write_json,
)
from medical_gans.evaluation.lookup import LookupBaseline
from medical_gans.evaluation.skulls import skull_figures
from medical_gans.evaluation.sources import Examination, SyntheticCtSource
from medical_gans.io import Case, read_volume
from medical_gans.io.ownership import Origin, source
from medical_gans.io.writing import prepare_output
from medical_gans.metrics import synthetic_ct_metrics
from medical_gans.report import Manifest, Place, input_hashes, skip_case, write_case_report, write_page
from medical_gans.report.cases import CASES_FOLDER, forget_cases
from medical_gans.report.manifest import sha256
from medical_gans.report.viewer import in_mm
from medical_gans.transforms.reading import checked_mr

_STAGE = "evaluate"
_RUN = f"mr_to_ct {_STAGE}"
_LONGEST_WAIT = timedelta(days=7)  # of a process that is done for the others
_NAMED_FAILURES = 5
_NEIGHBOURS = 5  # voxels over which a difference is averaged, so that one of noise is not the worst

logger = logging.getLogger(__name__)


class TranslationEvaluation:
    """Judges synthetic CTs, and the baselines, over a cohort of pairs.

    Written to `output_dir`: ``metrics.csv`` and ``metrics.json``, ``report.html`` with pictures,
    ``manifest.json``, and ``lookup.json`` where a lookup table was fitted. A bad case is reported, skipped,
    and named in the error that ends the run; the error of an only case is raised as it is. Under torchrun
    the cases are shared among the processes.

    Args:
        cases: with MR and CT on one grid; where a mask is missing, the body on the CT is judged. Of a head without a CT
            its skull is judged, where `skull` is set.
        source: of the synthetic CTs that are judged.
        output_dir: folder for everything written; an earlier evaluation there is replaced.
        skull: also measure the skull (`skulls.skull_figures`): of synthetic CTs and, as ``true_ct``, of the CTs.
        lookup_pairs: training pairs, or a stored table, for the baseline by MR intensity; None leaves it out.
        dataset_dir: data set that the cases were found in.
        device: where the generators are, for the manifest.
        seed: of the bootstrap.
        viewer: write ``report/<case>/viewer.html`` too, the volumes as a page that can be scrolled.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        source: SyntheticCtSource,
        output_dir: str | Path,
        *,
        skull: bool = False,
        lookup_pairs: str | Path | None = None,
        dataset_dir: str | Path | Sequence[str | Path] = ".",
        device: Any = "cpu",
        seed: int = 0,
        viewer: bool = True,
    ) -> None:
        self.cases = list(cases)
        self.source = source
        self.output_dir = Path(output_dir)
        self.skull, self.lookup_pairs = skull, lookup_pairs
        self.root = dataset_dir if isinstance(dataset_dir, str | Path) else "."
        self.seed = seed
        self.viewer = viewer
        settings = {"dataset_dir": dataset_dir, "skull": skull, "lookup_pairs": lookup_pairs, **source.settings}
        self.manifest = Manifest("mr_to_ct", _STAGE, settings=settings, seed=seed, device=str(device))
        self.manifest.passed_over = getattr(cases, "passed_over", {})
        several = len(source.weights) > 1
        for file in map(Path, source.weights):
            name = f"{file.absolute().parent.name}/{file.name}" if several else file.name
            self.manifest.weights[name] = sha256(file)

    def run(self) -> dict[str, dict[str, Figures]]:
        """Judge all cases, write the results and print the table.

        Returns:
            Case -> method -> figure, as `metrics.synthetic_ct_metrics` names them.

        Raises:
            UserError: cases failed; the others are done.
            InputError: the only case failed, or the pairs for the lookup table are of no use.
            OutputError: `output_dir` cannot be written, or holds the results of another kind of run.
        """
        rank, processes, group = _place_in_group()
        self._prepare_output(first=rank == 0)
        lookup = LookupBaseline.from_source(self.lookup_pairs) if self.lookup_pairs else None
        rows: dict[str, dict[str, Figures]] = {}
        failures: dict[str, str] = {}
        mine = self.cases[rank::processes]
        with self.manifest.timed("cases"), logging_redirect_tqdm():
            for case in tqdm(mine, desc="cases", unit="case", disable=True if rank else None):
                try:
                    rows[case.name] = self._judge(case, lookup)
                except Exception as error:
                    failures[case.name] = self._fail(case, error)
        rows, failures = self._of_all(rows, group), self._of_all(failures, group)
        if rank == 0:
            self._write(rows, failures, lookup)
        if failures:
            raise UserError(_summary(failures, of=len(self.cases)))
        return rows

    def _prepare_output(self, first: bool) -> None:
        """Prove that results can be written, and clear what an earlier evaluation left."""
        names = ("report.html", "manifest.json", "metrics.csv", "metrics.json", "lookup.json", CASES_FOLDER)
        folders = [(f"{CASES_FOLDER}/{case.name}", self._origin(case)) for case in self.cases]
        inputs = [path for _, origin in folders for path in origin.protected()]
        inputs += [Path(path) for path in (self.lookup_pairs, *self.source.weights) if path is not None]
        prepare_output(self.output_dir, Origin(_RUN, inputs=inputs), names, folders, writes=first)
        if first:
            forget_cases(self.output_dir, _RUN, keep={case.name for case in self.cases})
            for table in ("metrics.csv", "metrics.json"):
                (self.output_dir / table).unlink(missing_ok=True)

    def _origin(self, case: Case) -> Origin:
        others = [path for path in (case.ct, case.mask, self.source.file(case.name)) if path is not None]
        return Origin(_RUN, [source(*(case.files or [case.mr]), detail=case.series_uid)], inputs=others)

    def _judge(self, case: Case, lookup: LookupBaseline | None) -> dict[str, Figures]:
        """Figures of every method on one case; pictures are drawn of the synthetic CT."""
        if case.ct is None:
            return self._judge_alone(case)
        begin = time.perf_counter()
        pair = read_pair(case)
        warnings = [*pair.notes, *self.source.warnings(pair)]
        read = time.perf_counter()
        synthetic_ct = self.source(pair)
        made = time.perf_counter()
        hounsfield = {"synthetic_ct": synthetic_ct, "water": water(pair.mask)}
        if lookup is not None:
            hounsfield["lookup"] = lookup(pair)
        figures: dict[str, Figures] = {
            method: synthetic_ct_metrics(array, pair.ct.array, pair.mask) for method, array in hounsfield.items()
        }
        skull = skull_figures(synthetic_ct, pair.mr, pair.ct.array) if self.skull else {}
        if skull:
            figures["synthetic_ct"] = {**figures["synthetic_ct"], **skull}
            figures["true_ct"] = skull_figures(pair.ct.array, pair.mr)
        judged = time.perf_counter()
        for warning in warnings:
            logger.warning("%s: %s", case.name, warning)
        files = (case.mr, case.ct, case.mask, self.source.file(case.name))
        known = plain_figures(figures["synthetic_ct"])
        write_case_report(
            self.output_dir,
            case.name,
            pair.mr.array,
            synthetic_ct,
            pair.mr.affine,
            reference=pair.ct.array,
            mask=pair.mask,
            metrics={name: value for name, value in known.items() if value is not None},
            warnings=warnings,
            inputs=input_hashes(*files, dataset_dir=self.root),
            seconds={"read": read - begin, "synthesis": made - read, "figures": judged - made},
            places=_worst_place(synthetic_ct, pair.ct.array, pair.mask, pair.mr.affine) if self.viewer else (),
            viewer=self.viewer,
            origin=self._origin(case),
        )
        return figures

    def _judge_alone(self, case: Case) -> dict[str, Figures]:
        """Figures of the skull of a head without a true CT."""
        if not self.skull:
            raise InputError(f"{case.name} has no CT: a pair needs both.")
        begin = time.perf_counter()
        assert case.mr is not None
        one = Examination(case.name, checked_mr(read_volume(case.mr_source or case.mr, modality="MR")))
        warnings = [*one.mr.notes, *self.source.warnings(one)]
        read = time.perf_counter()
        synthetic_ct = self.source(one)
        made = time.perf_counter()
        figures = skull_figures(synthetic_ct, one.mr)
        if not figures:
            warnings.append("The vault is not in the picture as a whole, and without a true CT nothing else is judged.")
        for warning in warnings:
            logger.warning("%s: %s", case.name, warning)
        write_case_report(
            self.output_dir,
            case.name,
            one.mr.array,
            synthetic_ct,
            one.mr.affine,
            metrics={name: value for name, value in plain_figures(figures).items() if value is not None},
            warnings=warnings,
            inputs=input_hashes(*(case.files or [case.mr]), self.source.file(case.name), dataset_dir=self.root),
            seconds={"read": read - begin, "synthesis": made - read, "figures": time.perf_counter() - made},
            origin=self._origin(case),
        )
        return {"synthetic_ct": figures}

    def _fail(self, case: Case, error: Exception) -> str:
        """Report a bad case; what no other case can escape is raised."""
        if len(self.cases) == 1 or (isinstance(error, UserError) and not isinstance(error, InputError)):
            raise error
        return skip_case(self.output_dir, case.name, error, Origin(_RUN))

    def _of_all(self, mine: dict[str, Any], group: Any) -> dict[str, Any]:
        """What all processes found, in the order of the cases."""
        shares: list[Any] = [mine]
        if group is not None:
            shares = [None] * distributed.get_world_size()
            distributed.all_gather_object(shares, mine, group=group)
        found = {name: value for share in shares for name, value in share.items()}
        return {case.name: found[case.name] for case in self.cases if case.name in found}

    def _write(self, rows: Rows, failures: Mapping[str, str], lookup: LookupBaseline | None) -> None:
        summary = summarise(rows, self.seed)
        if lookup is None:
            self.manifest.add_warning(
                "There is no row for the lookup table: set lookup_pairs to a folder of training pairs."
            )
        elif lookup.fitted:
            lookup.save(self.output_dir / "lookup.json")
        if rows:
            judged = [case for case in self.cases if case.name in rows]
            masks = {case.name: "given" if case.mask else "body of the CT" for case in judged if case.ct}
            write_csv(self.output_dir / "metrics.csv", rows)
            write_json(self.output_dir / "metrics.json", rows, summary, masks=masks, failures=dict(failures))
        settings = self.manifest.settings
        write_page(self.output_dir, "MR to CT: evaluation", settings=settings, summary=page_table(summary))
        self.manifest.write(self.output_dir)
        if rows:
            if masks:
                print(f"Mean over {_patients(len(masks))}, inside the mask", text_table(summary), sep="\n")
            if skulls := skull_table(summary):
                print(f"Skulls, mean over {_patients(len(rows))}", skulls, sep="\n")
            for warning in self.manifest.warnings:
                print(warning)
        logger.info("Results are in %s; begin with its report.html.", self.output_dir)


def _worst_place(synthetic_ct: np.ndarray, reference: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> list[Place]:
    """Where the synthetic CT is farthest off over a few voxels inside the mask."""
    inside = mask > 0
    if not inside.any():
        return []
    error = np.where(inside, np.abs(synthetic_ct.astype(np.float32) - reference), np.float32(0))
    error = ndimage.uniform_filter(error, _NEIGHBOURS)
    where = np.unravel_index(int(error.argmax()), error.shape)
    label = f"largest difference ({error[where]:.0f} HU over {_NEIGHBOURS} voxels each way)"
    return [Place(label, in_mm(affine, [float(index) for index in where]))]


def _place_in_group() -> tuple[int, int, Any]:
    """Number of this process, of all processes, and their group where there are several."""
    if not distributed.is_initialized():
        return 0, 1, None
    group = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
    return distributed.get_rank(), distributed.get_world_size(), group


def _patients(count: int) -> str:
    return f"{count} patient{'s' * (count != 1)}"


def _summary(failures: Mapping[str, str], of: int) -> str:
    named = [f"{name} ({reason})" for name, reason in list(failures.items())[:_NAMED_FAILURES]]
    more = f" and {len(failures) - len(named)} more" if len(failures) > len(named) else ""
    others = "and the others are done" if len(failures) < of else "and none could be evaluated"
    return f"{len(failures)} of {of} cases failed {others}: {'; '.join(named)}{more}."

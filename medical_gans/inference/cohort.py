"""A cohort done case by case: every case once, whole or not at all, and shown on one page.

What a result is made of, the objects of the config included, is kept in plain values: a case is done again when a
transform changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from ignite.engine import Engine
from monai.engines import Evaluator
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from medical_gans import __version__
from medical_gans.errors import InputError, UserError
from medical_gans.io.ownership import RECORD, Origin, Source, read_record
from medical_gans.io.writing import prepare_output
from medical_gans.report import CASES_FOLDER, Manifest, skip_case, write_page

_UNIMPORTANT = {"sw_batch_size", "sw_device", "device", "progress"}  # the result does not depend on them


def recipe(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Class and public attributes of an object, and of those that it holds, for JSON.

    What only says where and how fast to compute is left out.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return [list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, Path):
        return value.name
    if id(value) in seen:
        return "..."
    seen = (*seen, id(value))
    if isinstance(value, Mapping):
        return {str(key): recipe(entry, seen) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [recipe(entry, seen) for entry in value]
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return _name(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return _name(value)
    public = {name: one for name, one in vars(value).items() if not name.startswith("_") and name not in _UNIMPORTANT}
    return {"class": _name(type(value)), **{name: recipe(one, seen) for name, one in sorted(public.items())}}


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


Progress = Callable[[int, int], None]
"""Called with the parts done so far and the number of all parts."""

_LONGEST_WAIT = timedelta(days=7)  # of a process that is done for the others
_NAMED_FAILURES = 5

logger = logging.getLogger(__name__)


class CohortEvaluator(Evaluator, ABC):
    """Does the cases of a data set one after the other.

    Each case has a ``name``. A bad case is reported, skipped, and named in the error that ends the run; the error of
    an only case is raised as it is. Cases that lie finished in `output_dir` are not done again. Under torchrun the
    cases are shared among the processes. At the end ``report.html`` and ``manifest.json`` are written.

    Args:
        device: of the networks.
        cases: of all processes.
        output_dir: folder for everything written.
        manifest: of the run.
        title: of the page.
        verb: what is done to a case.
        part: what progress within a case is counted in.
        advice: what helps where a case does not fit into the memory, as a sentence.
    """

    def __init__(
        self,
        device: torch.device | str,
        cases: Sequence[Any],
        output_dir: str | Path,
        manifest: Manifest,
        *,
        title: str,
        verb: str,
        part: str,
        advice: str,
    ) -> None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        self.cases = list(cases)[rank::processes]
        super().__init__(device, self.cases, iteration_update=self._update)
        self.logger.setLevel(logging.CRITICAL)  # of epochs and of errors that are told below
        self.is_first = rank == 0
        self.is_only_case = len(cases) == 1
        self.output_dir = Path(output_dir)
        self.manifest = manifest
        self.manifest.passed_over = getattr(cases, "passed_over", {})
        self.title, self.verb, self.part, self.advice = title, verb, part, advice
        self.failures: dict[str, str] = {}
        self._stopped_by: Exception | None = None
        self._bar: tqdm = tqdm(disable=True)

    @abstractmethod
    def is_finished(self, case: Any) -> bool:
        """Whether the case lies whole in the output folder, made from the same by the same."""

    @abstractmethod
    def sources(self, case: Any) -> list[Source]:
        """The images that a case is made of."""

    @abstractmethod
    def do_case(self, case: Any, on_progress: Progress) -> list[str]:
        """Make all files of a case, or none of them; return warnings as sentences."""

    def deliver(self, case: Any) -> None:
        """Send what was written of a case somewhere else."""

    names: Sequence[str] = ("report.html", "manifest.json", CASES_FOLDER)
    """Of what is written about all cases."""

    def finish(self) -> None:
        """What the first process writes about all cases, before the page."""

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Do all cases of this process, then write page and manifest.

        Raises:
            UserError: cases failed; the others are done.
            OutputError: results cannot be written.
        """
        self._prepare()
        together = distributed.is_initialized()
        group = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT) if together else None
        quiet = None if self.is_first else True
        logger.info("Cases to %s on %s: %d", self.verb, self.state.device, len(self.cases))
        self._bar = tqdm(total=len(self.cases), desc="cases", unit="case", disable=quiet)
        with self.manifest.timed("cases"), logging_redirect_tqdm(), self._bar:
            if self.cases:
                super().run(global_epoch)
        if self._stopped_by is not None:
            raise self._stopped_by
        failures = _of_all_processes(self.failures, group)
        if self.is_first:
            self.finish()
            write_page(self.output_dir, self.title, settings=self.manifest.settings)
            self.manifest.write(self.output_dir)
            logger.info("Results are in %s; begin with its report.html.", self.output_dir)
        if failures:
            raise UserError(_summary(failures))

    def _prepare(self) -> None:
        """Refuse to replace what is not ours, before any work."""
        run = f"{self.manifest.workflow} {self.manifest.stage}"
        origins = {case.name: Origin(run, self.sources(case)) for case in self.cases}
        folders = [(f"{above}{name}", one) for name, one in origins.items() for above in ("", f"{CASES_FOLDER}/")]
        inputs = [path for one in origins.values() for path in one.protected()]
        prepare_output(self.output_dir, Origin(run, inputs=inputs), self.names, folders, writes=self.is_first)

    def _update(self, engine: Engine, case: Any) -> dict[str, str]:
        """One case. What goes wrong is kept until the engine has stopped, which would print it as well."""
        begin = time.perf_counter()
        self._bar.set_postfix_str(case.name)
        state = "done"
        try:
            if self.is_finished(case):
                state = "was done before"
            else:
                self._do(case)
        except Exception as error:
            state = "failed"
            self._fail(case, self._out_of_memory(case, error) or error)
        else:
            state = self._deliver(case, state)
        logger.info("%s %s (%.1f s)", case.name, state, time.perf_counter() - begin)
        self._bar.update()
        return {"case": case.name, "state": state}

    def _do(self, case: Any) -> None:
        with tqdm(desc=case.name, unit=self.part, leave=False, disable=self._bar.disable, position=1) as parts:

            def show(done: int, total: int) -> None:
                parts.total = total
                parts.update(done - parts.n)

            for warning in self.do_case(case, show):
                logger.warning("%s: %s", case.name, warning)

    def _deliver(self, case: Any, state: str) -> str:
        """Send what was written; a case that does not arrive counts as failed, but stays."""
        try:
            self.deliver(case)
        except UserError as error:
            self.failures[case.name] = str(error)
            logger.error("%s is written but not sent: %s", case.name, error)
            return f"{state}, not sent"
        return state

    def _fail(self, case: Any, error: Exception) -> None:
        if self.is_only_case or (isinstance(error, UserError) and not isinstance(error, InputError)):
            self._stopped_by = error
            self.terminate()
            return
        origin = Origin(f"{self.manifest.workflow} {self.manifest.stage}")
        self.failures[case.name] = skip_case(self.output_dir, case.name, error, origin)

    def _out_of_memory(self, case: Any, error: Exception) -> InputError | None:
        """A sentence in place of what Python and torch raise when the memory does not suffice."""
        if not isinstance(error, MemoryError) and "allocate" not in str(error) * isinstance(error, RuntimeError):
            return None
        return InputError(f"Case {case.name} does not fit into the memory. {self.advice}")


def made_from(weights: Sequence[str], settings: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """What the files of a case depend on, as plain values.

    Args:
        weights: SHA-256 of each weights file.
        settings: those that decide.
        inputs: SHA-256 of each input file by name.
    """
    facts = {"medical_gans": __version__, "weights": list(weights), "settings": settings, "inputs": dict(inputs)}
    return dict(json.loads(json.dumps(facts)))


def is_made_from(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the files of a case lie whole in a folder, and were made of what `made_from` gives."""
    record = read_record(folder)
    if record is None or any(record.get(name) != value for name, value in facts.items()):
        return False
    return all((folder / name).is_file() for name in (RECORD, *record["files"]))


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Keep the time spent inside as ``seconds[stage]``."""
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin


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
